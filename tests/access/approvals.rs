//! Approvals from another machine: an administrator with a certificate asks the server over TCP, two people sign what they
//! were sent, and the same command acts; neither the asker nor the approvers ever see the server's files.

use holdfast_tests::finished::run;
use holdfast_tests::keys::TestKey;
use holdfast_tests::world::CHAIN;

use crate::admin::{address, from_elsewhere, server};
use crate::stage::Stage;

/// A configuration in which Ann and Ben approve together; their keys are made.
pub fn configured(stage: &Stage) -> String {
    let people = ["ann", "ben"].map(|name| {
        let made = run(&["approvals", "keygen", "--to", &stage.file(&format!("{name}.ed"))]);
        format!("{name} {}", made.expect(0, &["ssh-ed25519 "]).stdout.trim())
    });
    let text = format!("[approvals]\napprovers = [\"{}\", \"{}\"]\nthreshold = 2\n", people[0], people[1]);
    std::fs::write(stage.file("holdfast.toml"), text).expect("a configuration");
    stage.file("holdfast.toml")
}

/// Has one of them sign a request, which says these words.
pub fn approve(stage: &Stage, request: &str, name: &str, words: &[&str]) {
    let key = stage.file(&format!("{name}.ed"));
    run(&["approve", request, "--key", &key, "--yes", "--append"]).expect(0, words);
}

/// What says here on which chain a server elsewhere signs.
pub fn chain(stage: &Stage) -> [String; 6] {
    let root = format!("0x{}", hex::encode(holdfast_tests::world::GENESIS_VALIDATORS_ROOT));
    let network = stage.world.path().join("config.yaml").display().to_string();
    ["--network", &network, "--genesis-validators-root", &root, "--genesis-time", "1600000000"].map(str::to_owned)
}

#[test]
fn several_approve_over_tcp_while_the_server_signs() {
    let stage = Stage::new(1);
    stage.documented("revocations");
    stage.documented_in("docs/admin.md", "administrator");
    let config = configured(&stage);
    let server = server(&stage).global("--config").global(&config).start();
    server.wait_ready();
    let at = address(&server);
    let own = stage.world.keys[0].public.clone();
    let signs = |slot: u64| assert_eq!(server.sign(&own, &CHAIN.block(slot, 1).0).status, 200, "slot {slot}");

    let key = TestKey::interop(60);
    let folder = stage.files.join("fresh");
    std::fs::create_dir(&folder).expect("a folder");
    key.write_keystore(&folder, "correct horse");
    std::fs::write(stage.file("password"), "correct horse").expect("a password");
    let (from, password, request) = (stage.file("fresh"), stage.file("password"), stage.file("request.txt"));
    let chain = chain(&stage);
    let chain = chain.each_ref().map(String::as_str);
    let never = ["keys", "import", "--from", &from, "--password-file", &password, "--watermark", "never-signed"];
    let import = |who: &str, more: &[&str]| from_elsewhere(&stage, at, who, &[&chain[..], &never, more].concat());

    import("vc-1", &["--request-to", &request]).expect(1, &["no administrator"]);
    import("alice", &["--request-to", &request]).expect(1, &["2 of ann, ben", &request]);
    signs(10);
    from_elsewhere(&stage, at, "alice", &["approvals", "list"]).expect(0, &["pending", "alice (certificate)"]);
    from_elsewhere(&stage, at, "alice", &["approvals", "status"]).expect(0, &["In force"]);
    let approve = |name: &str| approve(&stage, &request, name, &["lower_protection", "signed nothing, anywhere"]);
    approve("ann");
    import("alice", &["--approval", &request]).expect(1, &["1 of 2 approvals", "ben"]);
    approve("ben");
    import("vc-1", &["--approval", &request]).expect(1, &["no administrator"]);
    import("alice", &["--approval", &request]).expect(0, &["1 imported"]);
    assert_eq!(server.sign(&key.public, &CHAIN.block(1, 1).0).status, 200, "it is here, as one that signed nothing");
    signs(11);
    // Used up, and for another key it never was good.
    let other = TestKey::interop(61);
    other.write_keystore(&folder, "correct horse");
    import("alice", &["--approval", &request]).expect(1, &["something else"]);
    from_elsewhere(&stage, at, "alice", &["approvals", "list", "--all"]).expect(0, &["used", "ann SHA256:"]);
    from_elsewhere(&stage, at, "alice", &["keys", "show", &other.public]).expect(1, &["not held here"]);
    assert!(server.stop().0.success());
}
