//! Approvals: a quorum opens the gate once; whatever is wrong is named, journaled and opens nothing.

use std::path::{Path, PathBuf};
use std::process::Command;

use holdfast_approvals::{Approval, Payload, Request, RequestId, Scope, SigningKey};
use holdfast_domain::UnixMillis;
use holdfast_tests::finished::{Finished, run};
use holdfast_tests::harness::command;
use holdfast_tests::http::once;
use holdfast_tests::journal;
use holdfast_tests::world::World;

use crate::generate::private;

const PASSWORD: &str = "a long password";
const FLAG: &str = "--i-understand-that-exported-keys-can-be-slashed-elsewhere";

/// A key made by OpenSSH itself, without a passphrase, and the line of its public half.
pub(crate) fn ssh_key(folder: &Path, name: &str) -> (PathBuf, String) {
    let path = folder.join(name);
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]).arg(&path).status();
    assert!(made.expect("ssh-keygen: install openssh-client").success());
    let line = std::fs::read_to_string(path.with_extension("pub")).expect("the public half");
    let line: Vec<&str> = line.split(' ').take(2).collect();
    (path, line.join(" "))
}

/// A world with approvers. Alice and Bob have keys of OpenSSH, Carol one of our own making; two of three must agree.
pub(crate) struct Desk {
    pub(crate) world: World,
    pub(crate) config: String,
    pub(crate) keys: tempfile::TempDir,
    pub(crate) alice: PathBuf,
    pub(crate) bob: PathBuf,
}

impl Desk {
    pub(crate) fn new(keys: u64, more: &str) -> Self {
        let world = World::new(keys);
        let place = tempfile::tempdir().expect("a folder of the approvers");
        let (alice, first) = ssh_key(place.path(), "alice");
        let (bob, second) = ssh_key(place.path(), "bob");
        let carol = place.path().join("carol");
        let made = run(&["approvals", "keygen", "--to", &carol.display().to_string()]).expect(0, &["ssh-ed25519 "]);
        let third = made.stdout.trim();
        let text = format!(
            "[approvals]\napprovers = [\"alice {first}\", \"bob {second}\", \"carol {third}\"]\nthreshold = 2\n{more}"
        );
        let config = world.path().join("holdfast.toml");
        std::fs::write(&config, text).expect("the configuration");
        Self { config: config.display().to_string(), world, keys: place, alice, bob }
    }

    pub(crate) fn text(&self) -> String {
        std::fs::read_to_string(&self.config).expect("the configuration")
    }

    pub(crate) fn write(&self, text: &str) {
        std::fs::write(&self.config, text).expect("the configuration");
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Finished {
        run(&self.world.with(&[&["--config", &self.config], arguments].concat()))
    }

    fn export(&self, to: &str, more: &[&str]) -> Finished {
        let (to, password) = (self.at(to), private(&self.world, "export-password.txt", PASSWORD));
        let fixed = ["keys", "export", "--all", "--to", &to, "--password-file", &password, "--kdf", "pbkdf2"];
        self.run(&[&fixed, more].concat())
    }

    pub(crate) fn at(&self, name: &str) -> String {
        self.world.path().join(name).display().to_string()
    }

    fn key(path: &Path) -> SigningKey {
        SigningKey::from_file(&std::fs::read_to_string(path).expect("a key")).expect("a key")
    }

    /// What these people sign, in a file.
    pub(crate) fn signed(&self, name: &str, request: &Request, by: &[&Path]) -> String {
        let mut text = request.to_text();
        for key in by {
            text.push_str(&Approval::sign(request.to_text().as_bytes(), &Self::key(key)).to_text());
        }
        std::fs::write(self.at(name), text).expect("a file");
        self.at(name)
    }

    /// The request that the last command wrote, approved by two.
    pub(crate) fn approve(&self, request: &str) -> String {
        let text = std::fs::read_to_string(request).expect("the request");
        let request = Request::from_text(&text).expect("a request");
        self.signed("approved.txt", &request, &[&self.alice, &self.bob])
    }

    /// Kind and detail of the journal's events about approvals, and of exports.
    pub(crate) fn events(&self) -> Vec<(String, String)> {
        let events = journal::read(&self.world.data_dir()).events;
        let kept = events.iter().filter(|event| {
            event.kind().as_str().starts_with("approvals.") || event.kind().as_str() == "keys.exported"
        });
        kept.map(|event| (event.kind().as_str().to_owned(), event.why().to_owned())).collect()
    }
}

/// Runs the binary with nothing of its environment, in an empty folder.
pub(crate) fn elsewhere(folder: &Path, arguments: &[&str]) -> Finished {
    let output = command().env_clear().current_dir(folder).args(arguments).output().expect("the binary starts");
    output.into()
}

#[test]
fn a_quorum_opens_the_gate_once() {
    let desk = Desk::new(2, "");
    let request = desk.at("request.txt");
    desk.export("out", &["--request-to", &request])
        .expect(1, &["2 of alice, bob, carol", "holdfast approve", &request]);
    assert!(!Path::new(&desk.at("out")).exists(), "nothing was done");
    // On other machines, with the request and a key, and nothing else. Alice uses OpenSSH, Carol our own command.
    let (first, second) = (tempfile::tempdir().expect("a machine"), tempfile::tempdir().expect("a machine"));
    for machine in [&first, &second] {
        std::fs::copy(&request, machine.path().join("request.txt")).expect("carried over");
    }
    let signed = Command::new("ssh-keygen")
        .args(["-q", "-Y", "sign", "-n", "holdfast-approval", "-f"])
        .arg(&desk.alice)
        .arg(first.path().join("request.txt"))
        .status();
    assert!(signed.expect("ssh-keygen: install openssh-client").success());
    let carol = desk.keys.path().join("carol").display().to_string();
    elsewhere(second.path(), &["approve", "request.txt", "--key", &carol])
        .expect(1, &["act       export", "not approved"]);
    elsewhere(second.path(), &["approve", "request.txt", "--key", &carol, "--yes", "--to", "carol.sig"])
        .expect(0, &[&desk.world.keys[0].public, "Whoever has the files", "approved by SHA256:"]);
    elsewhere(second.path(), &["approve", "request.txt", "--key", &carol, "--yes", "--to", "carol.sig"])
        .expect(1, &["exists"]);
    let (alice, carol) = (first.path().join("request.txt.sig"), second.path().join("carol.sig"));
    let (alice, carol) = (alice.display().to_string(), carol.display().to_string());
    // A second verifier: OpenSSH's, on what our command signed.
    let line = std::fs::read_to_string(&desk.config).expect("the configuration");
    let line = line.split('"').find(|part| part.starts_with("carol ")).expect("Carol's line").to_owned();
    std::fs::write(second.path().join("allowed"), line).expect("allowed signers");
    let verified = Command::new("ssh-keygen")
        .args(["-Y", "verify", "-f", "allowed", "-I", "carol", "-n", "holdfast-approval", "-s", "carol.sig"])
        .current_dir(second.path())
        .stdin(std::fs::File::open(&request).expect("the request"))
        .output()
        .expect("ssh-keygen: install openssh-client");
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));

    desk.export("out", &["--approval", &request, &alice]).expect(1, &["1 of 2 approvals", "bob, carol"]);
    desk.run(&["approvals", "verify", &request, &alice]).expect(1, &["alice: holds", "not enough"]);
    desk.run(&["approvals", "verify", &request, &alice, &carol]).expect(0, &["carol: holds", "enough approvals"]);
    desk.export("out", &["--approval", &request, &alice, &carol]).expect(0, &["2 keys, 2 switched off"]);
    // Once: the same command again, to the same place.
    std::fs::remove_dir_all(desk.at("out")).expect("taken away");
    desk.export("out", &["--approval", &request, &alice, &carol]).expect(1, &["used before"]);
    assert!(!Path::new(&desk.at("out")).exists(), "nothing was done");

    let events = desk.events();
    let kinds: Vec<&str> = events.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(
        kinds,
        [
            "approvals.pinned",
            "approvals.requested",
            "approvals.refused",
            "approvals.given",
            "approvals.given",
            "approvals.used",
            "keys.exported",
            "keys.exported",
            "approvals.refused",
        ]
    );
    assert!(events[3].1.starts_with("alice SHA256:") && events[4].1.starts_with("carol SHA256:"), "{events:?}");
    assert!(events[2].1.starts_with("too_few") && events[8].1.starts_with("used"), "{events:?}");
}

#[test]
fn whatever_is_wrong_is_named_and_uses_nothing_up() {
    let desk = Desk::new(1, "lifetime_hours = 1\n");
    let place = desk.at("request.txt");
    desk.export("out", &["--request-to", &place]).expect(1, &[]);
    let text = std::fs::read_to_string(&place).expect("the request");
    let asked = Request::from_text(&text).expect("a request");
    let (alice, bob) = (desk.alice.as_path(), desk.bob.as_path());
    let (eve, _) = ssh_key(desk.keys.path(), "eve");
    let hour = 3_600_000;
    let moved = |by: i64| {
        let shift = |time: UnixMillis| UnixMillis(time.0.checked_add_signed(by).expect("a time"));
        Request { made: shift(asked.made), expires: shift(asked.expires), ..asked.clone() }
    };
    let other = Payload::new(asked.payload.lines().iter().skip(1));
    let elsewhere = Scope { instance: [1; 16], ..asked.scope.clone() };
    let cases: [(&str, Request, &[&Path], &str); 11] = [
        ("expired", moved(-2 * hour), &[alice, bob], "expired at"),
        ("not_yet_valid", moved(hour), &[alice, bob], "lies in the future"),
        ("lives_too_long", Request { expires: moved(hour).expires, ..asked.clone() }, &[alice, bob], "lives longer"),
        ("wrong_instance", Request { scope: elsewhere, ..asked.clone() }, &[alice, bob], "another place"),
        (
            "wrong_act",
            Request { act: holdfast_approvals::Act::BulkExit, ..asked.clone() },
            &[alice, bob],
            "is for the act",
        ),
        ("changed_payload", Request { payload: other, ..asked.clone() }, &[alice, bob], "something else"),
        (
            "changed_approvers",
            Request { policy: holdfast_approvals::PolicyDigest([1; 32]), ..asked.clone() },
            &[alice, bob],
            "other approvers",
        ),
        ("wrong_approver", asked.clone(), &[alice, &eve], "nobody who may approve"),
        ("wrong_approver", asked.clone(), &[alice, bob, &eve], "nobody who may approve"),
        ("duplicate_approver", asked.clone(), &[alice, alice], "approved twice"),
        ("too_few", asked.clone(), &[], "0 of 2"),
    ];
    let mut wanted = Vec::new();
    for (reason, request, by, words) in cases {
        let file = desk.signed("case.txt", &request, by);
        desk.export("out", &["--approval", &file]).expect(1, &[words]);
        wanted.push(reason);
    }
    // An approval of another request under this one.
    let foreign = Request { id: RequestId([1; 16]), ..asked.clone() };
    let signature = Approval::sign(foreign.to_text().as_bytes(), &Desk::key(alice)).to_text();
    std::fs::write(desk.at("case.txt"), format!("{text}{signature}")).expect("a file");
    desk.export("out", &["--approval", &desk.at("case.txt")])
        .expect(1, &["does not count", "not a signature over this request"]);
    wanted.push("bad_signature");
    let refused: Vec<String> = desk
        .events()
        .into_iter()
        .filter(|(kind, _)| kind == "approvals.refused")
        .map(|(_, why)| why.split(':').next().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(refused, wanted);

    // Changed on the way: one character of the text, after both signed.
    let good = desk.signed("good.txt", &asked, &[alice, bob]);
    let changed = std::fs::read_to_string(&good).expect("the file").replace("Export 1 keys", "Export 2 keys");
    std::fs::write(desk.at("case.txt"), changed).expect("a file");
    desk.export("out", &["--approval", &desk.at("case.txt")]).expect(1, &["something else"]);
    for (file, words) in
        [("", "request itself is missing"), ("hello", "malformed"), (&text.replace("act  ", "akt  "), "malformed")]
    {
        std::fs::write(desk.at("case.txt"), file).expect("a file");
        let signature = desk.at("signature");
        std::fs::write(&signature, Approval::sign(text.as_bytes(), &Desk::key(alice)).to_text()).expect("a file");
        let files: &[&str] = if file.is_empty() { &[&signature] } else { &[&desk.at("case.txt")] };
        desk.export("out", &[&["--approval"], files].concat()).expect(2, &[words]);
    }
    desk.run(&["approve", &place, "--yes", "--key", &desk.at("config.yaml")]).expect(2, &[]);
    // Nothing of all this used the request up.
    assert!(!Path::new(&desk.at("out")).exists(), "nothing was done");
    desk.export("out", &["--approval", &good]).expect(0, &["1 keys, 1 switched off"]);
}

#[test]
fn editing_the_configuration_changes_nobody() {
    let desk = Desk::new(1, "");
    desk.run(&["approvals", "adopt"]).expect(0, &["in force now"]);
    desk.run(&["approvals", "status"]).expect(0, &["In force", "threshold 2"]);
    let (eve, line) = ssh_key(desk.keys.path(), "eve");
    let before = desk.text();
    let taken = format!("[approvals]\napprovers = [\"eve {line}\"]\nthreshold = 1\n");
    for text in ["", "[approvals]\nacts = []\n", &taken, &before.replace("threshold = 2", "threshold = 1")] {
        desk.write(text);
        desk.export("out", &[FLAG]).expect(1, &["not the one in force", "approvals adopt"]);
    }
    desk.run(&["approvals", "status"]).expect(1, &["NOT in force"]);
    desk.write(&before.replace("threshold = 2", "threshold = 4"));
    desk.run(&["config", "validate"]).expect(2, &["approvals.threshold"]);
    desk.write(&taken);
    let place = desk.at("adopt.txt");
    desk.run(&["approvals", "adopt", "--request-to", &place]).expect(1, &["2 of alice, bob, carol"]);
    let asked = Request::from_text(&std::fs::read_to_string(&place).expect("the request")).expect("a request");
    assert!(asked.payload.lines().iter().any(|one| one.contains("approver eve")), "{asked:?}");
    let alone = desk.signed("eve.txt", &asked, &[&eve]);
    desk.run(&["approvals", "adopt", "--approval", &alone]).expect(1, &["nobody who may approve"]);
    let both = desk.approve(&place);
    desk.run(&["approvals", "adopt", "--approval", &both]).expect(0, &["in force now"]);
    // Eve alone decides now, and the others do not.
    let place = desk.at("export.txt");
    desk.export("out", &["--request-to", &place]).expect(1, &["1 of eve"]);
    let asked = Request::from_text(&std::fs::read_to_string(&place).expect("the request")).expect("a request");
    desk.export("out", &["--approval", &desk.approve(&place)]).expect(1, &["nobody who may approve"]);
    desk.export("out", &["--approval", &desk.signed("eve.txt", &asked, &[&eve])]).expect(0, &[]);
    let adopted = desk.events().into_iter().filter(|(kind, _)| kind == "approvals.adopted").count();
    assert_eq!(adopted, 2);
}

#[test]
fn deleted_keys_come_back_and_protection_is_lowered_only_by_several() {
    let desk = Desk::new(2, "");
    let key = desk.world.keys[0].public.clone();
    desk.run(&["keys", "delete", "--yes", &key]).expect(0, &[]);
    let (keys, password) = (desk.at("keys"), desk.at("password.txt"));
    let fixed = ["keys", "import", "--from", &keys, "--password-file", &password];
    let import = |more: &[&str]| desk.run(&[&fixed, more].concat());
    import(&[]).expect(1, &["was deleted here"]);
    let place = desk.at("request.txt");
    import(&["--replace-tombstone", "--request-to", &place]).expect(1, &["2 of alice, bob, carol"]);
    // Through the other door, too.
    let server = desk.world.server().global("--config").global(&desk.config).start();
    server.wait_ready();
    let token = std::fs::read_to_string(desk.world.data_dir().join("keymanager-token")).expect("the token");
    let keystore = desk.world.keys[0].keystore("pw");
    let body = serde_json::json!({ "keystores": [keystore], "passwords": ["pw"] }).to_string();
    let bearer = format!("Bearer {}", token.trim());
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    let answer =
        once(server.http_addr(), "POST", "/eth/v1/keystores?replace_tombstone=true", &headers, body.as_bytes());
    let answer = answer.expect("the server answers");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.text().contains("only with approvals"), "{}", answer.text());
    // Nor does a history that comes along lower protection below the present there.
    let brought = holdfast_tests::keys::TestKey::interop(41);
    let genesis = format!("0x{}", hex::encode(holdfast_tests::world::GENESIS_VALIDATORS_ROOT));
    let history = serde_json::json!({
        "metadata": { "interchange_format_version": "5", "genesis_validators_root": genesis },
        "data": [{
            "pubkey": brought.public, "signed_blocks": [],
            "signed_attestations": [{ "source_epoch": "4", "target_epoch": "5" }],
        }],
    });
    let keystores = [brought.keystore("pw")];
    let body = serde_json::json!({
        "keystores": keystores, "passwords": ["pw"], "slashing_protection": history.to_string(),
    });
    let answer = once(server.http_addr(), "POST", "/eth/v1/keystores", &headers, body.to_string().as_bytes());
    let answer = answer.expect("the server answers");
    assert!(answer.status == 200 && answer.text().contains("imported"), "{}", answer.text());
    // A command that works through the server asks the same people.
    let fresh = holdfast_tests::keys::TestKey::interop(40);
    let folder = desk.world.path().join("fresh");
    std::fs::create_dir(&folder).expect("a folder");
    fresh.write_keystore(&folder, "correct horse");
    let from = folder.display().to_string();
    let never = ["keys", "import", "--from", &from, "--password-file", &password, "--watermark", "never-signed"];
    let served = desk.at("served.txt");
    desk.run(&[&never[..], &["--request-to", &served]].concat()).expect(1, &["2 of alice, bob, carol"]);
    let mut damaged = history.clone();
    damaged["data"][0]["signed_blocks"] = serde_json::json!([{ "slot": "-1" }]);
    let part = desk.at("part.json");
    std::fs::write(&part, damaged.to_string()).expect("a file");
    let partial = ["slashing", "import", "--from", &part, "--allow-partial"];
    let asked = desk.at("partial.txt");
    desk.run(&[&partial[..], &["--request-to", &asked]].concat()).expect(1, &["2 of alice, bob, carol"]);
    let text = std::fs::read_to_string(&asked).expect("the request");
    assert!(text.contains("Whoever asks says: data[0] left out"), "{text}");
    server.stop();
    // What was asked through the server is good without it as well, for the very same act.
    desk.run(&[&partial[..], &["--approval", &desk.approve(&served)]].concat()).expect(1, &["something else"]);
    desk.run(&[&partial[..], &["--approval", &desk.approve(&asked)]].concat()).expect(1, &["left out"]);
    let shown = desk.run(&["--json", "keys", "show", &brought.public]).expect(0, &[]).lines()[0].clone();
    assert!(shown["target_epoch"].as_u64().is_some_and(|epoch| epoch > 1_000_000), "{shown}");
    // Approved for the default watermark, and not for another one.
    let approved = desk.approve(&place);
    import(&["--replace-tombstone", "--watermark", "never-signed", "--approval", &approved])
        .expect(1, &["something else"]);
    import(&["--replace-tombstone", "--approval", &approved]).expect(0, &["1 imported"]);
    let shown = desk.run(&["--json", "keys", "show", &key]).expect(0, &[]).lines()[0].clone();
    assert_eq!(shown["state"], "enabled");

    // A key that is said to have signed nothing.
    desk.run(&[&never[..], &["--approval", &desk.approve(&served)]].concat()).expect(0, &["1 imported"]);
}

#[test]
fn labels_that_rules_name_change_only_by_several() {
    let rule = "[[policy]]\neffect = \"deny\"\nlabels = [\"frozen\"]\noperations = [\"signing\"]\n";
    let desk = Desk::new(2, rule);
    let key = desk.world.keys[0].public.clone();
    let request = desk.at("request.txt");
    let label = |key: &str, more: &[&str]| desk.run(&[&["keys", "label", key], more].concat());
    // No rule names it.
    label(&key, &["--add", "note"]).expect(0, &["labelled"]);
    label(&key, &["--add", "frozen", "--dry-run"]).expect(0, &["would be labelled"]);
    let asked = label(&key, &["--add", "frozen", "--request-to", &request]);
    asked.expect(1, &["2 of alice, bob, carol", "holdfast approve", &request]);
    let approved = desk.approve(&request);
    label(&desk.world.keys[1].public, &["--add", "frozen", "--approval", &approved]).expect(1, &[]);
    label(&key, &["--add", "frozen", "--remove", "note", "--approval", &approved]).expect(1, &[]);
    let shown = desk.run(&["--json", "keys", "show", &key]).expect(0, &[]).lines();
    assert_eq!(shown[0]["labels"], serde_json::json!(["note"]), "nothing else was approved");
    label(&key, &["--add", "frozen", "--approval", &approved]).expect(0, &["frozen,note"]);
    label(&key, &["--remove", "frozen", "--approval", &approved]).expect(1, &[]);
    // Through a running server.
    let server = desk.world.server().global("--config").global(&desk.config).start();
    server.wait_ready();
    let request = desk.at("another.txt");
    label(&key, &["--remove", "frozen", "--request-to", &request]).expect(1, &["2 of alice, bob, carol"]);
    let approved = desk.approve(&request);
    label(&key, &["--remove", "frozen", "--approval", &approved]).expect(0, &["note (before: frozen,note)"]);
    label(&key, &["--add", "frozen", "--approval", &approved]).expect(1, &[]);
    assert!(server.stop().0.success());
}
