//! From `exec` to the first signature with many keys, by what guards the data key: the same database, wrapped anew by each
//! provider in turn. The file is the baseline; what is away is a fake on this machine, so the network is not in it.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Instant;

use holdfast_tests::elsewhere::azure::Azure;
use holdfast_tests::elsewhere::gcp::Gcp;
use holdfast_tests::elsewhere::kms::Kms;
use holdfast_tests::elsewhere::softhsm::{KEY, SoftHsm, TOKEN, module};
use holdfast_tests::elsewhere::swtpm::SwTpm;
use holdfast_tests::elsewhere::transit::{TOKEN as VAULT_TOKEN, Transit};
use holdfast_tests::finished::Finished;
use holdfast_tests::harness::{command, holdfast_ok};
use holdfast_tests::world::World;

use super::start::first_signature;

/// Starts with each provider.
const ROUNDS: usize = 3;

type Settings = Vec<(&'static str, String)>;

/// Generates keys, then times starts with each provider.
pub(crate) fn measure(keys: u64) {
    let world = World::new(0);
    holdfast_ok(&world.with(&["--quiet", "keys", "generate", "--count", &keys.to_string()]));
    let (kms, gcp_key) = (Kms::start(&["alias/holdfast"]), "projects/p/locations/l/keyRings/r/cryptoKeys/holdfast");
    let (gcp, azure, transit) = (Gcp::start(&[gcp_key]), Azure::start(KEY), Transit::start(&[KEY]));
    let (hsm, tpm) = (SoftHsm::new(), SwTpm::start());
    let secret = |name: &str, text: &str| {
        let path = world.path().join(name);
        std::fs::write(&path, text).expect("a secret file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("chmod");
        path.display().to_string()
    };
    let passphrase = secret("passphrase", "correct horse battery staple");
    let token = secret("token", VAULT_TOKEN);
    let providers: [(&str, Settings); 9] = [
        ("file", vec![]),
        ("passphrase", vec![("HOLDFAST_KEYS_PASSPHRASE_FILE", passphrase.clone())]),
        (
            "aws-kms",
            vec![
                ("HOLDFAST_AWS_KEYS", "alias/holdfast".to_owned()),
                ("HOLDFAST_AWS_REGION", "eu-west-1".to_owned()),
                ("HOLDFAST_AWS_ENDPOINT", kms.url()),
                ("AWS_ACCESS_KEY_ID", "TEST".to_owned()),
                ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
                ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
            ],
        ),
        (
            "gcp-kms",
            vec![
                ("HOLDFAST_GCP_KEY", gcp_key.to_owned()),
                ("HOLDFAST_GCP_ENDPOINT", gcp.url()),
                ("HOLDFAST_GCP_METADATA", gcp.url()),
            ],
        ),
        (
            "azure-key-vault",
            vec![("HOLDFAST_AZURE_KEY", azure.key(KEY)), ("HOLDFAST_AZURE_LOGIN_ADDRESS", azure.url())],
        ),
        (
            "vault-transit",
            vec![
                ("HOLDFAST_TRANSIT_ADDRESS", transit.url()),
                ("HOLDFAST_TRANSIT_KEY", KEY.to_owned()),
                ("HOLDFAST_TRANSIT_SECRET_FILE", token),
            ],
        ),
        (
            "pkcs11",
            vec![
                ("HOLDFAST_PKCS11_MODULE", module().display().to_string()),
                ("HOLDFAST_PKCS11_TOKEN", TOKEN.to_owned()),
                ("HOLDFAST_PKCS11_KEY", KEY.to_owned()),
                ("HOLDFAST_PKCS11_PIN_FILE", hsm.pin_file().display().to_string()),
                ("SOFTHSM2_CONF", hsm.configuration().display().to_string()),
            ],
        ),
        ("tpm", vec![("HOLDFAST_TPM_DEVICE", tpm.socket().display().to_string())]),
        (
            "shares",
            vec![
                ("HOLDFAST_SHARES_PROVIDERS", "file,tpm,passphrase".to_owned()),
                ("HOLDFAST_TPM_DEVICE", tpm.socket().display().to_string()),
                ("HOLDFAST_KEYS_PASSPHRASE_FILE", passphrase),
            ],
        ),
    ];
    let mut baseline = None;
    let mut before: Settings = Vec::new();
    for (provider, settings) in providers {
        // The old provider opens it, the new one wraps it.
        let both = [before.as_slice(), settings.as_slice()].concat();
        rotate(&world, provider, &both);
        let seconds = starts(&world, &settings, keys);
        let base = *baseline.get_or_insert(seconds);
        println!(
            "start with {keys} keys, guarded by {provider:<16} {seconds:>6.2} s from exec to the first signature, {:+.2} s to the file (median of {ROUNDS})",
            seconds - base
        );
        before = settings;
    }
}

fn rotate(world: &World, provider: &str, settings: &Settings) {
    let mut command = command();
    command.args(world.with(&["--json", "kek", "rotate", "--provider", provider]));
    command.envs(settings.iter().map(|(name, value)| (*name, value)));
    let begun = Instant::now();
    Finished::from(command.output().expect("the binary starts")).expect(0, &["rotated"]);
    println!("rewrapped by {provider:<16} {:>6.2} s for all keys at once", begun.elapsed().as_secs_f64());
}

fn starts(world: &World, settings: &Settings, keys: u64) -> f64 {
    let mut seconds = Vec::new();
    for _ in 0..ROUNDS {
        let server = settings.iter().fold(world.server(), |server, (name, value)| server.env(*name, value));
        let (server, taken, list) = first_signature(&server);
        assert_eq!(list.len() as u64, keys, "every key is served");
        seconds.push(taken);
        server.kill9();
    }
    seconds.sort_by(f64::total_cmp);
    seconds[ROUNDS / 2]
}
