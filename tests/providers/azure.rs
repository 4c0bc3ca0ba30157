//! Azure Key Vault, against a fake written from its API reference.

use std::os::unix::fs::PermissionsExt as _;

use holdfast_tests::elsewhere::azure::{APPLICATION, Azure, FEDERATED};
use holdfast_tests::elsewhere::server::Mood;

use crate::stage::Stage;
use crate::suite;

const KEY: &str = "holdfast";

fn stage(azure: &Azure) -> Stage {
    Stage::new(&[
        ("HOLDFAST_KEYS_PROVIDER", "azure-key-vault"),
        ("HOLDFAST_AZURE_KEY", &azure.key(KEY)),
        ("HOLDFAST_AZURE_LOGIN_ADDRESS", &azure.url()),
    ])
}

#[test]
fn the_suite() {
    let azure = Azure::start(KEY);
    suite::round_trip(&stage(&azure), "azure-key-vault");
    // RSA binds nothing to a context: the seal around the data key refuses.
    suite::wrong_context_and_tampering(&stage(&azure), &["is damaged"]);
    let (disable, enable) = (|| azure.set_enabled(false), || azure.set_enabled(true));
    suite::disabled_key(&stage(&azure), disable, enable, "is disabled or about to be deleted");
    suite::outage(&stage(&azure), || azure.set_mood(Mood::Away), || azure.set_mood(Mood::Works));
    suite::rotation(&mut stage(&azure), "azure-key-vault");
    let mut slow = stage(&azure);
    slow.set("HOLDFAST_AZURE_TIMEOUT_MS", "1500");
    suite::slow(&slow, || azure.set_mood(Mood::Hangs), || azure.set_mood(Mood::Works));
}

#[test]
fn a_new_version_of_the_key_does_not_lock_out() {
    let azure = Azure::start(KEY);
    let stage = stage(&azure);
    stage.make_keys(1);
    azure.rotate();
    stage.serves(1);
    stage.run(&["kek", "rotate"]).expect(0, &[]);
    stage.serves(1);
}

#[test]
fn applications_log_in_and_errors_are_told() {
    let azure = Azure::start(KEY);
    let mut stage = stage(&azure);
    let secret = |stage: &mut Stage, text: &str| {
        let path = stage.world.path().join("secret");
        std::fs::write(&path, format!("{text}\n")).expect("a secret file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("chmod");
        stage.set("HOLDFAST_AZURE_SECRET_FILE", &path.display().to_string());
    };
    stage.set("HOLDFAST_AZURE_AUTH", "client-secret");
    stage.run(&["kek", "init"]).expect(3, &["azure.tenant is not given"]);
    stage.set("HOLDFAST_AZURE_TENANT", APPLICATION.0);
    stage.set("HOLDFAST_AZURE_CLIENT", APPLICATION.1);
    stage.run(&["kek", "init"]).expect(3, &["azure.secret_file is not given"]);
    secret(&mut stage, APPLICATION.2);
    stage.make_keys(1);
    secret(&mut stage, "wrong");
    stage.status().expect(3, &["no valid credentials", "AADSTS7000215"]);
    secret(&mut stage, FEDERATED);
    stage.set("HOLDFAST_AZURE_AUTH", "workload-identity");
    stage.serves(1);
    azure.set_permitted(false);
    stage.status().expect(3, &["may not be used with these credentials", "ForbiddenByPolicy"]);
    azure.set_permitted(true);
    stage.set("HOLDFAST_AZURE_KEY", &azure.key("other"));
    stage.status().expect(3, &["is another key than the one"]);
}
