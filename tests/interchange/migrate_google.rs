//! `holdfast migrate web3signer` where keys are in a fake of Google Secret Manager, and who logs in there: a service account
//! by its signature, a person, or the machine.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use holdfast_tests::elsewhere::gcp::{key_file, rsa_key};
use holdfast_tests::elsewhere::google_secrets::{GoogleSecrets, PERSON, PROJECT, Version};
use holdfast_tests::finished::Finished;
use holdfast_tests::world::CHAIN;
use serde_json::{Value, json};

use crate::migrate_stores::Stage;
use crate::web3signer::served;

/// Where the libraries of Google look for a file of credentials.
const NAMED: &str = "GOOGLE_APPLICATION_CREDENTIALS";
const OF_GCLOUD: &str = "CLOUDSDK_CONFIG";
const FILE: &str = "application_default_credentials.json";

fn write(path: &Path, text: &str, mode: u32) {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder is made");
    std::fs::write(path, text).expect("the file is written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("chmod");
}

/// The command with these variables, before and behind `--`, as text that shows nothing of what logs in.
fn migrate(stage: &Stage, environment: &[(&str, &str)], before: &[&str], behind: &[&str]) -> Finished {
    let project = format!("--gcp-project-id={}", PROJECT.0);
    let settings = ["--", "eth2", "--gcp-secrets-enabled", &project];
    let finished = stage.migrate_in(environment, &[before, &settings[..], behind].concat());
    for secret in ["hunter2", "ya29.", "PRIVATE KEY", "Bearer"] {
        assert!(!finished.text().contains(secret), "{secret} in:\n{}", finished.text());
    }
    finished
}

#[test]
fn from_google_secret_manager_all_that_a_filter_lets_through() {
    let (stage, google) = (Stage::new(), GoogleSecrets::start());
    let hoodi = [("net", "hoodi")];
    let both = format!("{}\r\n\n0x{}\n", stage.secret(1), stage.secret(2));
    google.set_secret("one", stage.secret(0).as_bytes(), &hoodi, Version::Enabled);
    google.set_secret("elsewhere", b"hunter2", &[("net", "mainnet")], Version::Enabled);
    google.set_secret("many_2", both.as_bytes(), &hoodi, Version::Enabled);
    google.set_secret("off", b"hunter2", &hoodi, Version::Disabled);
    google.set_secret("damaged", b"hunter2", &hoodi, Version::Damaged);
    google.set_secret("binary", &[0xff, 0xfe], &hoodi, Version::Enabled);
    let folder = stage.world.path().join("account");
    std::fs::create_dir_all(&folder).expect("the folder is made");
    let ((private, public), url) = (rsa_key(&folder, "key"), google.url());
    google.set_account(Some(public.clone()));
    let path = folder.join("account.json");
    write(&path, &key_file(&private, &url).to_string(), 0o600);
    let path = path.display().to_string();
    let environment = [(NAMED, path.as_str())];
    let filter = ["--gcp-secrets-filter=labels.net=hoodi"];
    let plan = |filter: &[&str]| migrate(&stage, &environment, &["--gcp-address", &url, "--plan"], filter);

    let command = "gcloud secrets versions access projects/417000/secrets/off/versions/latest";
    let found = plan(&filter).expect(1, &["has it switched off", command, "does not fit its checksum", "is binary"]);
    assert_eq!(google.take_counts(), (1, 3), "one token, three pages");
    let lines = found.lines();
    assert_eq!(Stage::totals(&lines), (3, 3));
    for (key, name) in stage.keys.iter().zip(["one", "many_2", "many_2"]) {
        let place = format!("Google Secret Manager: projects/417000/secrets/{name}");
        assert_eq!(Stage::plan(&lines, key), ("comes".to_owned(), place));
    }
    for option in ["gcp-secrets-enabled", "gcp-project-id", "gcp-secrets-filter"] {
        assert!(lines.iter().any(|line| line["option"] == option && line["becomes"] == "migration"), "{option}");
    }

    // What the service refuses is told, with the command that lists what is there.
    let list = "gcloud secrets list --project keys-of-hoodi";
    let refused = |words: &[&str], filter: &[&str]| {
        let told = plan(filter).expect(1, &["--gcp-secrets-enabled", "of the project keys-of-hoodi", list]);
        assert_eq!(Stage::totals(&told.expect(1, words).lines()), (0, 1));
    };
    refused(&["cannot be used as it is set up there", "Invalid filter"], &["--gcp-secrets-filter=net is hoodi"]);
    google.set_permitted(false);
    refused(&["does not let these credentials read it", "PERMISSION_DENIED"], &filter);
    google.set_permitted(true);
    google.set_account(Some(rsa_key(&folder, "another").1));
    refused(&["takes no such credentials", "Invalid JWT Signature"], &filter);
    google.set_account(Some(public));
    let lost = ["--gcp-address", "http://127.0.0.1:1", "--plan"];
    migrate(&stage, &environment, &lost, &filter).expect(1, &["cannot be reached from here", list]);
    assert!(!stage.world.data_dir().exists(), "nothing was changed");

    let confirm = ["--watermark", "interchange", "--confirm", "old-signer-stopped,keys-removed"];
    let moved = [&["--gcp-address", url.as_str(), "--move", "3"][..], &confirm].concat();
    migrate(&stage, &environment, &moved, &filter).expect(1, &["enabled"]);
    let server = served(&stage.world);
    for key in &stage.keys {
        assert_eq!(server.sign(&key.public, &CHAIN.block(30_000_000, 1).0).status, 200);
        assert_eq!(server.sign(&key.public, &CHAIN.block(3, 1).0).status, 412);
    }
}

#[test]
fn a_project_without_a_name_or_with_a_filter_that_is_none_is_refused() {
    let stage = Stage::new();
    let start = ["--plan", "--", "eth2", "--gcp-secrets-enabled"];
    let of = |arguments: &[&str]| stage.migrate_in(&[], &[&start[..], arguments].concat());
    of(&[]).expect(2, &["gcp-project-id needs a value"]);
    of(&["--gcp-project-id=a/b"]).expect(2, &["gcp-project-id is not the identifier or number of a project"]);
}

#[test]
fn a_person_and_a_machine_log_in_and_nobody_is_told_how_to() {
    let (stage, google) = (Stage::new(), GoogleSecrets::start());
    let all: Vec<String> = (0..3).map(|index| stage.secret(index)).collect();
    google.set_secret("all", all.join("\n").as_bytes(), &[], Version::Enabled);
    let (url, home) = (google.url(), stage.world.path().join("home"));
    let gcloud = home.join(".config/gcloud");
    let file: PathBuf = gcloud.join(FILE);
    let person = |changed: Value, mode: u32| {
        let mut fields = json!({
            "type": "authorized_user", "client_id": PERSON.0, "client_secret": PERSON.1, "refresh_token": PERSON.2,
            "quota_project_id": PERSON.3, "token_uri": format!("{url}/token"),
        });
        let changed = changed.as_object().expect("fields").clone();
        fields.as_object_mut().expect("fields").extend(changed);
        write(&file, &fields.to_string(), mode);
    };
    let (gcloud, home) = (gcloud.display().to_string(), home.display().to_string());
    let set = [(NAMED, ""), (OF_GCLOUD, gcloud.as_str())];
    let plan = |environment: &[(&str, &str)], code: i32, words: &[&str]| {
        let planned = migrate(&stage, environment, &["--gcp-address", &url, "--plan"], &[]);
        Stage::totals(&planned.expect(code, words).lines())
    };

    person(json!({}), 0o600);
    assert_eq!(plan(&set, 0, &[]), (3, 0));
    assert_eq!(google.take_counts(), (1, 1), "one token, one page");
    assert_eq!(plan(&[(NAMED, ""), (OF_GCLOUD, ""), ("HOME", home.as_str())], 0, &[]), (3, 0));
    person(json!({ "refresh_token": "1//hunter2-old" }), 0o600);
    assert_eq!(plan(&set, 1, &["takes no such credentials", "Token has been expired or revoked"]), (0, 1));
    person(json!({ "type": "external_account" }), 0o600);
    assert_eq!(plan(&set, 1, &["is external_account, which is not read here", "gcloud auth"]), (0, 1));
    person(json!({}), 0o644);
    assert_eq!(plan(&set, 1, &["chmod 600"]), (0, 1));
    // A file that is named counts even if it is not there.
    person(json!({}), 0o600);
    assert_eq!(plan(&[(NAMED, "/nowhere/account.json"), set[1]], 1, &["/nowhere/account.json"]), (0, 1));

    std::fs::remove_file(&file).expect("the file is there");
    let config = stage.world.path().join("holdfast.toml");
    let machine = |metadata: &str, code: i32, words: &[&str]| {
        std::fs::write(&config, format!("[gcp]\nmetadata = \"{metadata}\"\n")).expect("the configuration");
        let config = config.display().to_string();
        let before = ["--config", &config, "--gcp-address", &url, "--plan"];
        Stage::totals(&migrate(&stage, &set, &before, &[]).expect(code, words).lines())
    };
    google.set_machine(true);
    assert_eq!(machine(&url, 0, &[]), (3, 0));
    google.set_machine(false);
    assert_eq!(machine(&url, 1, &["takes no such credentials", "status 404"]), (0, 1));
    let none =
        ["there are none", "GOOGLE_APPLICATION_CREDENTIALS names no file", "gcloud auth application-default login"];
    assert_eq!(machine("http://127.0.0.1:1", 1, &none), (0, 1));
}
