//! Google Cloud KMS, against a fake written from its API reference.

use std::os::unix::fs::PermissionsExt as _;

use holdfast_tests::elsewhere::gcp::{Gcp, Version, key_file, rsa_key};
use holdfast_tests::elsewhere::server::Mood;

use crate::stage::Stage;
use crate::suite;

const KEY: &str = "projects/p/locations/europe-west1/keyRings/signers/cryptoKeys/holdfast";
const OTHER: &str = "projects/p/locations/europe-west1/keyRings/signers/cryptoKeys/other";

fn stage(gcp: &Gcp) -> Stage {
    Stage::new(&[
        ("HOLDFAST_KEYS_PROVIDER", "gcp-kms"),
        ("HOLDFAST_GCP_KEY", KEY),
        ("HOLDFAST_GCP_ENDPOINT", &gcp.url()),
        ("HOLDFAST_GCP_METADATA", &gcp.url()),
    ])
}

#[test]
fn the_suite() {
    let gcp = Gcp::start(&[KEY]);
    suite::round_trip(&stage(&gcp), "gcp-kms");
    suite::wrong_context_and_tampering(&stage(&gcp), &["refuses the wrapped data key"]);
    let (disable, enable) = (|| gcp.set_version(KEY, Version::Disabled), || gcp.set_version(KEY, Version::Enabled));
    suite::disabled_key(&stage(&gcp), disable, enable, "is disabled or about to be deleted");
    suite::outage(&stage(&gcp), || gcp.set_mood(Mood::Away), || gcp.set_mood(Mood::Works));
    suite::rotation(&mut stage(&gcp), "gcp-kms");
    let mut slow = stage(&gcp);
    slow.set("HOLDFAST_GCP_TIMEOUT_MS", "1500");
    suite::slow(&slow, || gcp.set_mood(Mood::Hangs), || gcp.set_mood(Mood::Works));
}

#[test]
fn what_the_service_says_is_told_with_what_to_do() {
    let gcp = Gcp::start(&[KEY, OTHER]);
    let mut stage = stage(&gcp);
    stage.make_keys(1);
    gcp.set_permitted(false);
    stage.status().expect(3, &["may not be used with these credentials", "PERMISSION_DENIED"]);
    gcp.set_permitted(true);
    stage.set("HOLDFAST_GCP_KEY", OTHER);
    stage.status().expect(3, &["refuses the wrapped data key"]);
    stage.set("HOLDFAST_GCP_KEY", "projects/p/locations/l/keyRings/r/cryptoKeys/none");
    stage.status().expect(3, &["does not exist there"]);
    stage.set("HOLDFAST_GCP_KEY", KEY);
    gcp.revoke_tokens();
    stage.status().expect(3, &["no valid credentials"]);
    let path = stage.world.path().join("token");
    std::fs::write(&path, "ya29.other\n").expect("a token file");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    stage.set("HOLDFAST_GCP_TOKEN_FILE", &path.display().to_string());
    stage.serves(1);
}

#[test]
fn a_service_account_logs_in_with_its_key_file() {
    let gcp = Gcp::start(&[KEY]);
    let mut stage = stage(&gcp);
    let folder = stage.world.path().to_owned();
    let (private, public) = rsa_key(&folder, "account");
    let path = folder.join("account.json");
    let write = |private: &str, mode: u32| {
        std::fs::write(&path, key_file(private, &gcp.url()).to_string()).expect("the key file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("chmod");
    };
    write(&private, 0o600);
    stage.set("HOLDFAST_GCP_KEY_FILE", &path.display().to_string());
    // No metadata server is asked.
    stage.set("HOLDFAST_GCP_METADATA", "http://127.0.0.1:1");
    gcp.set_account(Some(public));
    suite::round_trip(&stage, "gcp-kms");
    gcp.set_account(None);
    stage.status().expect(3, &["no valid credentials", "Invalid JWT Signature"]);
    let (another, public) = rsa_key(&folder, "another");
    gcp.set_account(Some(public));
    stage.status().expect(3, &["Invalid JWT Signature"]);
    write(&another, 0o600);
    stage.status().expect(0, &["\"opens\":true"]);
    write(&another, 0o644);
    stage.status().expect(3, &["chmod 600"]);
    write("nonsense", 0o600);
    let said = stage.status().expect(3, &["its private_key is no PKCS #8 key"]);
    assert!(!said.text().contains("nonsense"), "{}", said.text());
}
