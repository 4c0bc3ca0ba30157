//! Several providers at once: any one opens the data key, and an operator sees which no longer would.

use holdfast_tests::elsewhere::kms::{KeyState, Kms};
use holdfast_tests::elsewhere::server::Mood;

use crate::aws;
use crate::stage::wait_for;

const ONE: &str = "alias/one";
const TWO: &str = "alias/two";

#[test]
fn a_cloud_that_is_away_locks_nobody_out() {
    let kms = Kms::start(&[ONE]);
    let mut stage = aws::stage(&kms.url(), ONE);
    stage.set("HOLDFAST_KEYS_PROVIDER", "aws-kms,file");
    stage.set("HOLDFAST_KEYS_CHECK_MINUTES", "60");
    stage.make_keys(2);
    stage.status().expect(0, &["\"provider\":\"aws-kms,file\""]);

    kms.set_mood(Mood::Away);
    let server = stage.serves(2);
    let rows = |text: &str| -> Vec<String> {
        text.lines().filter(|line| line.starts_with("holdfast_provider_usable{")).map(str::to_owned).collect()
    };
    wait_for("the first check", || rows(&server.get_metrics("/metrics").text()).len() == 2);
    let text = server.get_metrics("/metrics").text();
    for line in [
        r#"holdfast_provider_usable{provider="aws-kms",place="0"} 0"#,
        r#"holdfast_provider_usable{provider="file",place="1"} 1"#,
        r#"holdfast_provider_checks_total{provider="aws-kms",result="unreachable"} 1"#,
    ] {
        assert!(text.contains(line), "no {line} in {:?}", rows(&text));
    }
    let (_, log) = server.stop();
    assert!(log.contains("a provider of the data key fails"), "{log}");
    let status = stage.status().expect(1, &["cannot be reached"]);
    let members = status.lines()[0]["providers"].clone();
    assert_eq!((&members[0]["failure"], &members[1]["opens"]), (&"unreachable".into(), &true.into()), "{members}");
    stage.run(&["--json", "doctor"]).expect(1, &["does not open the data key"]);

    // The other way round: the file is lost, and the cloud is there.
    kms.set_mood(Mood::Works);
    let key_file = stage.world.data_dir().join("kek/file.key");
    let kept = std::fs::read(&key_file).expect("the key file");
    std::fs::remove_file(&key_file).expect("the key file is lost");
    stage.serves(2);

    // Both gone: each says why, and nothing is lost by it.
    kms.set_state(ONE, KeyState::Disabled);
    stage.status().expect(3, &["is disabled", "there is no key file"]);
    std::fs::write(&key_file, kept).expect("the key file");
    std::fs::set_permissions(&key_file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("chmod");
    stage.serves(2);
}

#[test]
fn two_keys_of_one_service_open_by_themselves() {
    let kms = Kms::start(&[ONE, TWO]);
    let stage = aws::stage(&kms.url(), &format!("{ONE},{TWO}"));
    stage.make_keys(1);
    for (gone, left) in [(ONE, TWO), (TWO, ONE)] {
        kms.set_state(gone, KeyState::Disabled);
        let status = stage.status().expect(1, &[]);
        assert_eq!(status.lines()[0]["protected_by"], format!("aws-kms key {left}"));
        stage.serves(1);
        kms.set_state(gone, KeyState::Enabled);
    }
}

#[test]
fn a_provider_is_added_and_removed_by_rotation() {
    let kms = Kms::start(&[ONE, TWO]);
    let mut stage = aws::stage(&kms.url(), ONE);
    stage.make_keys(1);
    let sealed = stage.sealed();
    stage.set("HOLDFAST_AWS_KEYS", &format!("{ONE},{TWO}"));
    stage.run(&["kek", "rotate"]).expect(0, &["alias/one; aws-kms key alias/two"]);
    kms.set_state(ONE, KeyState::Disabled);
    // What no longer works is left out, and what is left opens.
    stage.run(&["kek", "rotate"]).expect(3, &["is disabled"]);
    stage.set("HOLDFAST_AWS_KEYS", TWO);
    stage.run(&["kek", "rotate", "--provider", "aws-kms,file"]).expect(0, &["alias/two; key file"]);
    stage.status().expect(0, &["\"provider\":\"aws-kms,file\""]);
    assert_eq!(stage.sealed(), sealed);
    stage.run(&["kek", "rotate", "--provider", "file"]).expect(0, &["No longer needed: aws-kms"]);
    kms.set_state(TWO, KeyState::Disabled);
    stage.serves(1);
    stage.run(&["kek", "rotate", "--provider", "nobody"]).expect(2, &["nobody", "aws-kms"]);
}

#[test]
fn a_rotation_that_fails_changes_nothing() {
    let kms = Kms::start(&[ONE]);
    let stage = aws::stage(&kms.url(), ONE);
    stage.make_keys(1);
    let before = stage.wrapped();
    kms.break_with(Some("AccessDeniedException"));
    stage.run(&["kek", "rotate", "--provider", "file"]).expect(3, &["may not be used"]);
    assert_eq!(stage.wrapped(), before);
    assert!(!stage.world.data_dir().join("kek").exists(), "no key file is made for a data key that does not open");
    kms.break_with(None);
    stage.serves(1);
}

#[test]
fn a_passphrase_is_changed_by_rotation() {
    let stage = &mut crate::stage::Stage::new(&[("HOLDFAST_KEYS_PROVIDER", "passphrase")]);
    let file = |name: &str, text: &str| {
        let path = stage.world.path().join(name);
        std::fs::write(&path, text).expect("a file");
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("chmod");
        path.display().to_string()
    };
    let (old, new) = (file("old", "correct horse"), file("new", "battery staple"));
    stage.set("HOLDFAST_KEYS_PASSPHRASE_FILE", &old);
    stage.make_keys(1);
    stage.run(&["kek", "rotate", "--new-passphrase-file", &new]).expect(0, &["passphrase"]);
    stage.status().expect(3, &["wrong passphrase"]);
    stage.set("HOLDFAST_KEYS_PASSPHRASE_FILE", &new);
    stage.serves(1);
}
