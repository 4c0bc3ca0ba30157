//! Google Cloud KMS, against a fake written from its API reference.

use std::os::unix::fs::PermissionsExt as _;

use holdfast_tests::elsewhere::gcp::{Gcp, Version};
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
