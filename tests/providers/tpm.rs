//! The TPM of the machine: swtpm in its place, with and without registers and a PIN.

use std::os::unix::fs::PermissionsExt as _;

use holdfast_tests::elsewhere::swtpm::SwTpm;

use crate::stage::Stage;
use crate::suite;

fn stage(tpm: &SwTpm) -> Stage {
    Stage::new(&[
        ("HOLDFAST_KEYS_PROVIDER", "tpm"),
        ("HOLDFAST_TPM_DEVICE", &tpm.socket().display().to_string()),
        ("HOLDFAST_TPM_TIMEOUT_MS", "5000"),
    ])
}

/// Writes a secret and names its file in a setting.
fn secret(stage: &mut Stage, setting: &str, text: &str) {
    let path = stage.world.path().join(setting);
    std::fs::write(&path, format!("{text}\n")).expect("the secret file");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    stage.set(setting, &path.display().to_string());
}

#[test]
fn round_trip_leaves_nothing_in_the_chip() {
    let tpm = SwTpm::start();
    for (pcrs, pin) in [("", None), ("7", None), ("", Some("2718")), ("0,7,14", Some("2718"))] {
        let mut stage = stage(&tpm);
        stage.set("HOLDFAST_TPM_PCRS", pcrs);
        if let Some(pin) = pin {
            secret(&mut stage, "HOLDFAST_TPM_PIN_FILE", pin);
        }
        suite::round_trip(&stage, "tpm");
        assert_eq!(tpm.left_behind(), 0, "pcrs {pcrs:?}, pin {pin:?}");
    }
}

#[test]
fn wrong_context_and_tampering_are_refused() {
    let tpm = SwTpm::start();
    // A TPM binds nothing to a context: the seal around the data key refuses.
    suite::wrong_context_and_tampering(&stage(&tpm), &["is damaged"]);
    assert_eq!(tpm.left_behind(), 0);
}

#[test]
fn an_outage_is_waited_for_at_start_and_harmless_later() {
    let tpm = SwTpm::start();
    suite::outage(&stage(&tpm), || tpm.switch_off(), || tpm.switch_on());
}

#[test]
fn rotation_keeps_the_keys() {
    let tpm = SwTpm::start();
    suite::rotation(&mut stage(&tpm), "tpm");
}

#[test]
fn a_chip_that_does_not_answer_is_an_error_in_time() {
    let tpm = SwTpm::start();
    let mut stage = stage(&tpm);
    stage.set("HOLDFAST_TPM_TIMEOUT_MS", "2000");
    // What a caller gave up on is still in the chip. The kernel's resource manager would clear it away; here a restart does.
    let come_back = || {
        tpm.hang(false);
        tpm.switch_off();
        tpm.switch_on();
    };
    suite::slow(&stage, || tpm.hang(true), come_back);
}

#[test]
fn a_changed_register_is_named_with_the_way_out() {
    let tpm = SwTpm::start();
    let mut stage = stage(&tpm);
    stage.set("HOLDFAST_KEYS_PROVIDER", "tpm,file");
    stage.set("HOLDFAST_TPM_PCRS", "7,14");
    stage.make_keys(2);
    tpm.extend(3);
    stage.status().expect(0, &["\"opens\":true"]);
    tpm.extend(14);
    let key_file = stage.world.data_dir().join("kek/file.key");
    let away = stage.world.path().join("file.key");
    std::fs::rename(&key_file, &away).expect("the key file is moved away");
    stage.status().expect(3, &["changed since the data key was wrapped: PCR 14;", "`holdfast kek rotate`"]);
    let failed = stage.server().try_start().map(|_| ()).expect_err("it must not start");
    assert!(failed.contains("PCR 14") && !failed.contains("PCR 7,"), "{failed}");
    assert_eq!(tpm.left_behind(), 0);
    // The machine is started again as it was.
    tpm.switch_off();
    tpm.switch_on();
    stage.status().expect(1, &["\"opens\":true"]);
    // Or the new state is accepted, with the other provider.
    tpm.extend(14);
    std::fs::rename(&away, &key_file).expect("the key file is back");
    stage.run(&["--json", "kek", "rotate"]).expect(0, &["rotated"]);
    std::fs::rename(&key_file, &away).expect("the key file is moved away");
    stage.serves(2);
}

#[test]
fn a_wrong_pin_is_tried_once_and_the_right_one_opens() {
    let tpm = SwTpm::start();
    for pcrs in ["", "7"] {
        let mut stage = stage(&tpm);
        stage.set("HOLDFAST_TPM_PCRS", pcrs);
        secret(&mut stage, "HOLDFAST_TPM_PIN_FILE", "2718");
        stage.make_keys(1);
        secret(&mut stage, "HOLDFAST_TPM_PIN_FILE", "3141");
        let failed = stage.server().try_start().map(|_| ()).expect_err("it must not start");
        assert!(failed.contains("the PIN or password is wrong"), "{failed}");
        secret(&mut stage, "HOLDFAST_TPM_PIN_FILE", &"9".repeat(33));
        stage.status().expect(3, &["at most 32"]);
        stage.set("HOLDFAST_TPM_PIN_FILE", "");
        stage.status().expect(3, &["tpm.pin_file is not given"]);
        secret(&mut stage, "HOLDFAST_TPM_PIN_FILE", "2718");
        stage.serves(1);
    }
    assert_eq!(tpm.left_behind(), 0);
}

#[test]
fn an_owner_password_is_asked_for_by_name() {
    let tpm = SwTpm::start();
    tpm.set_owner_password("owner");
    let mut stage = stage(&tpm);
    stage.run(&["--json", "kek", "init"]).expect(3, &["tpm.owner_password_file"]);
    secret(&mut stage, "HOLDFAST_TPM_OWNER_PASSWORD_FILE", "owner");
    stage.make_keys(1);
    stage.serves(1);
}

#[test]
fn a_cleared_chip_is_told_from_a_damaged_record() {
    let tpm = SwTpm::start();
    let mut stage = stage(&tpm);
    stage.set("HOLDFAST_KEYS_PROVIDER", "tpm,file");
    stage.make_keys(2);
    tpm.clear();
    let status = stage.status().expect(1, &["was cleared since", "`holdfast kek rotate`"]);
    assert!(status.text().contains("\"opens\":true"), "the other provider opens it: {}", status.text());
    stage.serves(2);
    stage.run(&["--json", "kek", "rotate"]).expect(0, &["rotated"]);
    stage.status().expect(0, &["\"opens\":true"]);
}

#[test]
fn what_is_wrong_is_told_with_what_to_do() {
    let tpm = SwTpm::start();
    let mut stage = stage(&tpm);
    stage.make_keys(1);
    stage.set("HOLDFAST_TPM_DEVICE", "/nonexistent/tpmrm0");
    stage.status().expect(3, &["there is no TPM"]);
    stage.set("HOLDFAST_TPM_DEVICE", "/etc/hostname");
    stage.status().expect(3, &["neither the device of a TPM nor a socket"]);
    stage.set("HOLDFAST_TPM_DEVICE", "/dev/null");
    stage.status().expect(3, &["gave an answer that makes no sense"]);
    stage.set("HOLDFAST_TPM_PCRS", "24");
    stage.status().expect(2, &["tpm.pcrs"]);
    stage.set("HOLDFAST_TPM_PCRS", "seven");
    stage.status().expect(2, &["HOLDFAST_TPM_PCRS"]);
}
