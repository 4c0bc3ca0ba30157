//! A hardware module by PKCS#11: SoftHSM, with both ways to encrypt.

use holdfast_tests::elsewhere::softhsm::{KEY, PIN, SoftHsm, TOKEN, crowded_module, module};
use holdfast_tests::postgres::as_root;

use crate::stage::Stage;
use crate::suite;

fn stage(hsm: &SoftHsm, mechanism: &str) -> Stage {
    Stage::new(&[
        ("HOLDFAST_KEYS_PROVIDER", "pkcs11"),
        ("HOLDFAST_PKCS11_MODULE", &module().display().to_string()),
        ("HOLDFAST_PKCS11_TOKEN", TOKEN),
        ("HOLDFAST_PKCS11_KEY", KEY),
        ("HOLDFAST_PKCS11_PIN_FILE", &hsm.pin_file().display().to_string()),
        ("HOLDFAST_PKCS11_MECHANISM", mechanism),
        ("SOFTHSM2_CONF", &hsm.configuration().display().to_string()),
    ])
}

#[test]
fn round_trip() {
    for mechanism in ["aes-gcm", "aes-kwp"] {
        suite::round_trip(&stage(&SoftHsm::new(), mechanism), "pkcs11");
    }
}

#[test]
fn wrong_context_and_tampering_are_refused() {
    // Key wrap binds nothing to a context: there the seal around the data key refuses.
    for (mechanism, said) in [("aes-gcm", "refuses the wrapped data key"), ("aes-kwp", "is damaged")] {
        suite::wrong_context_and_tampering(&stage(&SoftHsm::new(), mechanism), &[said]);
    }
}

#[test]
fn rotation_keeps_the_keys() {
    suite::rotation(&mut stage(&SoftHsm::new(), "aes-gcm"), "pkcs11");
}

#[test]
fn a_token_that_is_gone_is_named_and_back_again_opens() {
    let hsm = SoftHsm::new();
    let gone = hsm.tokens().with_extension("gone");
    let leave = || {
        std::fs::rename(hsm.tokens(), &gone).expect("the tokens are moved away");
        std::fs::create_dir(hsm.tokens()).expect("an empty folder");
    };
    let come_back = || {
        std::fs::remove_dir_all(hsm.tokens()).expect("the empty folder goes");
        std::fs::rename(&gone, hsm.tokens()).expect("the tokens are back");
    };
    suite::disabled_key(&stage(&hsm, "aes-gcm"), leave, come_back, "there is no token");
}

#[test]
fn a_module_without_a_session_left_is_waited_for() {
    let hsm = SoftHsm::new();
    let mut stage = stage(&hsm, "aes-gcm");
    let full = stage.world.path().join("full");
    stage.set("HOLDFAST_PKCS11_MODULE", &crowded_module(stage.world.path()).display().to_string());
    stage.set("CROWDED_MODULE", &module().display().to_string());
    stage.set("CROWDED_FILE", &full.display().to_string());
    let fill = || std::fs::write(&full, "").expect("the file is made");
    let empty = || std::fs::remove_file(&full).expect("the file goes");
    suite::outage(&stage, fill, empty);
    fill();
    stage.status().expect(3, &["is overloaded or has a fault of its own", "C_OpenSession"]);
}

#[test]
fn what_is_wrong_is_told_with_what_to_do() {
    let hsm = SoftHsm::new();
    let mut stage = stage(&hsm, "aes-gcm");
    stage.make_keys(1);
    hsm.write_pin("654321");
    stage.status().expect(3, &["may not be used with these credentials"]);
    hsm.write_pin(PIN);
    stage.set("HOLDFAST_PKCS11_KEY", "other");
    stage.status().expect(3, &["the token has no AES key with this label"]);
    hsm.import_key("other", &[0x77; 32], "02");
    stage.status().expect(3, &["refuses the wrapped data key"]);
    stage.set("HOLDFAST_PKCS11_KEY", KEY);
    stage.status().expect(0, &["\"opens\":true"]);
    stage.set("HOLDFAST_PKCS11_MODULE", "/nonexistent/module.so");
    stage.status().expect(3, &["cannot load /nonexistent/module.so"]);
    stage.set("HOLDFAST_PKCS11_MODULE", "");
    stage.status().expect(2, &["pkcs11.module"]);
}

#[test]
fn a_server_does_not_try_a_wrong_pin_again_and_again() {
    let hsm = SoftHsm::new();
    let stage = stage(&hsm, "aes-gcm");
    stage.make_keys(1);
    hsm.write_pin("654321");
    let failed = stage.server().try_start().map(|_| ()).expect_err("it must not start");
    assert!(failed.contains("may not be used with these credentials"), "{failed}");
    hsm.write_pin(PIN);
    let server = stage.serves(1);
    // The vendor's code is loaded by the helper alone.
    let maps = as_root("cat").arg(format!("/proc/{}/maps", server.pid())).output().expect("cat starts");
    let maps = String::from_utf8_lossy(&maps.stdout);
    assert!(maps.contains("holdfast") && !maps.contains("softhsm"), "the module is loaded in the server:\n{maps}");
}
