//! What is typed, page by page, each on a machine with what the page takes for granted.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use super::machine::Machine;

/// What everything that serves says when it is ready.
const READY: &str = "ready";

/// Rules that nothing on these pages is refused by.
const RULES: &str = "[[policy]]\neffect = \"allow\"\noperations = [\"duties\", \"list\", \"admin.*\"]\n";

/// Types everything, and returns the lines that were typed, as they are printed.
pub(super) fn play() -> BTreeSet<String> {
    let scenes: [fn() -> BTreeSet<String>; 6] = [signer, callers, providers, nodes, approvals, witness_and_vault];
    // Each has a machine of its own.
    std::thread::scope(|scope| {
        let running: Vec<_> = scenes.into_iter().map(|scene| scope.spawn(scene)).collect();
        running.into_iter().flat_map(|scene| scene.join().expect("a scene")).collect()
    })
}

/// README, monitoring, policy, audit and most runbooks: a signer with three keys.
fn signer() -> BTreeSet<String> {
    let mut machine = Machine::new();
    machine.write("holdfast.toml", RULES);
    machine.types("README.md", "holdfast --network hoodi keys import");
    machine.serves("README.md", "holdfast --network hoodi serve", READY);
    machine.types("README.md", "holdfast connect lighthouse");
    let served = machine.types("docs/clients.md", "curl --silent");
    assert!(served.contains(&machine.keys[0].public), "{served}");
    requests(&machine);

    machine.types("docs/monitoring.md", "holdfast status");
    machine.watches("docs/monitoring.md", "holdfast top", "signatures");
    machine.types("docs/monitoring.md", "holdfast top --once");
    machine.watches("docs/monitoring.md", "holdfast --json top", "{");
    machine.types_all("docs/clients.md", &["holdfast audit tail --lines 20", "holdfast top --once"]);
    machine.types("docs/monitoring.md", "holdfast audit tail");
    machine.puts("--batch 1", "--batch 7341");
    machine.types_all("docs/monitoring.md", &["holdfast audit prove --batch", "holdfast --json audit tail -n 500"]);
    machine.types("docs/install.md", "holdfast status --ready");
    looks(&mut machine);
    rules(&mut machine);
    evidence(&mut machine);

    // All of it through the running server.
    machine.types_all(
        "docs/runbooks/incident.md",
        &[
            "holdfast keys disable PUBKEY",
            "holdfast slashing status --verify",
            "holdfast slashing fence --key PUBKEY",
            "holdfast keys enable PUBKEY",
            "holdfast kek rotate --data-key",
        ],
    );
    machine.types("docs/kek.md", "holdfast kek rotate");
    machine.puts("--to operator-backup", "--to DIRECTORY");
    machine.puts("--from operator-backup", "--from DIRECTORY");
    machine.puts("--from operator-backup", "--from BACKUP");
    machine.puts("operator.jsonl", "FILE");
    machine.puts("checkpoint-key", "KEYFILE");
    machine.types_all(
        "docs/operators/operator.md",
        &[
            "holdfast backup create --to DIRECTORY",
            "holdfast backup drill --from DIRECTORY",
            "holdfast backup drill --from BACKUP",
            "holdfast audit export --format jsonl --to FILE",
            "holdfast audit verify FILE --checkpoint-key KEYFILE",
        ],
    );
    machine.stops();
    stopped(&mut machine);
    machine.typed()
}

/// Something for the journal, so that there is something to look at: a signature, and a request that is refused.
fn requests(machine: &Machine) {
    let root = "0x212f13fc4df078b6cb7db228f1c8307566dcecf900867401a92023d7ba99cb5f";
    let body = |root: &str| {
        format!(
            "{{\"type\":\"RANDAO_REVEAL\",\"fork_info\":{{\"fork\":{{\"previous_version\":\"0x50000910\",\"current_version\":\
             \"0x60000910\",\"epoch\":\"2048\"}},\"genesis_validators_root\":\"{root}\"}},\"randao_reveal\":{{\"epoch\":\"3000\"}}}}"
        )
    };
    machine.write("body.json", &body(root));
    machine.write("other-chain.json", &body(&root.replace("212f", "2120")));
    for (file, status) in [("body.json", "200"), ("other-chain.json", "412")] {
        let url = format!("http://$HOLDFAST_HTTP_LISTEN/api/v1/eth2/sign/{}", machine.keys[0].public);
        let json = "-H 'Content-Type: application/json'";
        let told = machine.own(&format!("curl -s -w ' %{{http_code}}' {json} --data @{file} {url}"));
        assert!(told.ends_with(status), "{file}: {told}");
    }
}

/// What runbooks have people look at, beside a server.
fn looks(machine: &mut Machine) {
    const ALERTS: &str = "docs/runbooks/alerts.md";
    // It finds what it finds on this machine.
    machine.ends(ALERTS, "holdfast doctor", &[0, 1]);
    let refused = machine.types(ALERTS, "holdfast audit tail --result refused");
    assert!(refused.contains("wrong_genesis_validators_root"), "{refused}");
    machine.types_all(
        ALERTS,
        &["holdfast slashing status", "holdfast status", "holdfast keys list", "holdfast kek status"],
    );
    machine.types_all("docs/admin.md", &["holdfast reload --dry-run", "holdfast reload"]);
}

fn rules(machine: &mut Machine) {
    const PAGE: &str = "docs/policy.md";
    machine.types(PAGE, "holdfast policy check --configuration");
    machine.types(PAGE, "holdfast keys label 0x8f… 0x7e… --add frozen");
    std::fs::create_dir(machine.at("keys")).expect("a folder");
    for key in &machine.keys {
        let path = key.write_keystore(&machine.at("keys"), "correct horse");
        std::fs::write(path.with_extension("txt"), "correct horse").expect("a password");
    }
    machine.types_all(PAGE, &["holdfast keys import --from keys/ --label region=eu", "holdfast keys list --label"]);
    machine.types(PAGE, "holdfast policy show > rules.toml");
    machine.write("rules.toml", &RULES.replace("[[policy]]", "[[policy]]\nname = \"given\""));
    machine.types_all(PAGE, &["holdfast policy apply rules.toml --dry-run", "holdfast policy apply rules.toml"]);
    machine.types(PAGE, "holdfast policy check rules.toml");
    machine.types(PAGE, "holdfast policy check");
    // The rules allow duties and no exits.
    machine.ends(PAGE, "holdfast policy explain --caller vc-a --key 0x8f… --op exit", &[1]);
    machine.types(PAGE, "holdfast policy explain --caller vc-a --key 0x8f… --request body.json");
    machine.types("docs/audit.md", "holdfast audit export --to journal.jsonl");
    machine.ends(PAGE, "holdfast policy explain --request journal.jsonl", &[0, 1]);
    machine.types(PAGE, "holdfast policy reset");
}

fn evidence(machine: &mut Machine) {
    const INCIDENT: &str = "docs/runbooks/incident.md";
    machine.types("docs/audit.md", "holdfast audit key > checkpoint-key");
    machine.types("docs/audit.md", "holdfast audit verify journal.jsonl --checkpoint-key checkpoint-key");
    machine.types("docs/runbooks/uninstall.md", "holdfast audit key");
    machine.types_all(
        INCIDENT,
        &["holdfast audit tail --lines 200", "holdfast audit export --format jsonl --to evidence"],
    );
    machine.own("cp checkpoint-key checkpoint.pub");
    machine.types(INCIDENT, "holdfast audit verify evidence.jsonl --checkpoint-key checkpoint.pub");
}

/// What works on the database itself: no server runs.
fn stopped(machine: &mut Machine) {
    machine.own("holdfast audit checkpoint > checkpoint.txt");
    machine.own("rm evidence.jsonl && holdfast audit export --format jsonl --to evidence.jsonl");
    machine.puts("--checkpoint checkpoint.txt", "--checkpoint FILE");
    machine.types(
        "docs/runbooks/incident.md",
        "holdfast audit verify evidence.jsonl --checkpoint-key checkpoint.pub --checkpoint",
    );
    machine.types("docs/runbooks/failed-commit.md", "holdfast slashing status --verify");
    machine.own("holdfast policy apply rules.toml");
    machine.types("docs/policy.md", "holdfast policy reset --force");

    let list = machine.keys.iter().zip(700_000..).fold(String::new(), |mut text, (key, index)| {
        writeln!(text, "{index},{}", key.public).expect("to a string");
        text
    });
    machine.write("validators.txt", &list);
    machine.own("holdfast exits sign --from validators.txt --out exits --encrypt --password-file pw");
    machine.types("docs/exits.md", "holdfast exits verify exits --from validators.txt --password-file pw");

    machine.puts("holdfast --config holdfast.toml", "sudo -u holdfast holdfast --config /etc/holdfast/holdfast.toml");
    machine.types("docs/runbooks/frozen-by-rollback.md", "sudo -u holdfast holdfast --config");
    machine.types_all("docs/runbooks/restore.md", &["holdfast slashing fence", "holdfast slashing status"]);
    // Here nobody is asked for a password.
    machine.puts("--to out --password-file password.txt --kdf pbkdf2 --i-", "--to out --i-");
    machine.types("docs/ceremony.md", "holdfast keys export --all --to out");
    machine.types("docs/runbooks/lost-kms.md", "holdfast slashing export --to history.json --disable");
    machine.own("rm history.json");
    machine.types("docs/runbooks/move-a-key.md", "holdfast slashing export --to history.json --key PUBKEY");
    machine.own("rm history.json");
    machine.types("docs/runbooks/web3signer.md", "holdfast slashing export --to history.json");
}

/// Who may ask.
fn callers() -> BTreeSet<String> {
    const PAGE: &str = "docs/tls.md";
    let mut machine = Machine::new();
    machine.own("holdfast keys import --from validator_keys --password-file password.txt");
    machine.types(PAGE, "holdfast callers add vc-2");
    machine.types_all(PAGE, &["holdfast callers rotate vc-2", "holdfast callers rotate vc-2 --expire-old"]);
    machine.types_all("docs/clients.md", &["holdfast connect teku --url", "holdfast connect prysm --url"]);
    machine.types("docs/clients.md", "holdfast callers add vc-lodestar --bearer");
    machine.puts("vero", "CLIENT");
    machine.types("docs/clients.md", "holdfast connect CLIENT");
    machine.puts("vc-2", "NAME");
    machine.types("docs/runbooks/incident.md", "holdfast callers remove NAME");
    machine.types_all(
        "docs/install.md",
        &[
            "printf '%s\\n' CHECKPOINT_SYNC_URL=",
            "install -d -m 700 secrets",
            "openssl rand -hex 32",
            "openssl rand -hex 24",
            "install -m 400 secrets/database-password",
        ],
    );
    machine.types("docs/operators/kubernetes.md", "(umask 077; openssl rand -hex 32 >password)");
    let chosen = machine.read(".env");
    assert!(
        chosen.contains("CHECKPOINT_SYNC_URL=https://…\nFEE_RECIPIENT=0x…\n"),
        "no file that Compose reads: {chosen}"
    );
    machine.typed()
}

/// A data directory before the first key, and what guards its data key.
fn providers() -> BTreeSet<String> {
    let mut machine = Machine::new();
    let page = "docs/configuration.md";
    machine.types_all(page, &["holdfast config example", "holdfast config reference", "holdfast config schema"]);
    machine.types(page, "holdfast config validate");
    machine.types_all("docs/kek.md", &["holdfast kek init", "holdfast kek status", "holdfast kek rotate"]);
    machine.types("docs/runbooks/lost-kms.md", "holdfast kek rotate --provider file --passphrase-file");
    machine.types("docs/comparison.md", "holdfast slashing migrate --dry-run");
    machine.types("docs/operators/operator.md", "holdfast slashing migrate");
    machine.own("mkdir passwords && for key in validator_keys/*.json; do cp password.txt passwords/$(basename $key .json).txt; done");
    machine.puts("validator_keys", "KEYSTORES");
    machine.puts("passwords", "PASSWORDS");
    machine.types("docs/operators/operator.md", "holdfast keys import --from KEYSTORES --passwords-dir PASSWORDS");
    machine.puts("password.txt", "FILE");
    machine.types("docs/runbooks/web3signer.md", "holdfast keys import --from KEYSTORES --password-file FILE");
    machine.typed()
}

/// A switcher, and one beside a signer.
fn nodes() -> BTreeSet<String> {
    const PAGE: &str = "docs/switcher.md";
    let mut machine = Machine::new();
    machine.serves(PAGE, "holdfast serve --switcher-listen", READY);
    machine.types("docs/runbooks/alerts.md", "holdfast switcher status");
    machine.puts("http://127.0.0.1:7", "URL");
    machine.puts("127.0.0.1:7", "NAME");
    machine.types_all("docs/runbooks/alerts.md", &["holdfast switcher add URL", "holdfast switcher prefer NAME"]);
    machine.write(
        "holdfast.toml",
        "[network]\nbeacon = [\"http://a:5052\", \"http://b:5052\"]\n[switcher]\nenabled = true\n[execution]\n\
         enabled = true\nlisten = \"127.0.0.1:0\"\n[[execution.upstream]]\nurl = \"http://127.0.0.1:7\"\n",
    );
    machine.puts("--no-signer --switcher-listen 127.0.0.1:5052", "--no-signer");
    machine.serves(PAGE, "holdfast serve --no-signer", READY);
    let names = "-keyout own-ca.key -out own-ca.pem 2> /dev/null";
    machine.own(&format!("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -subj /CN=own {names}"));
    machine.types_all(
        PAGE,
        &[
            "holdfast switcher status",
            "holdfast switcher add http://c:5052",
            "holdfast switcher drain a",
            "holdfast switcher prefer b",
            "holdfast switcher remove a",
            "holdfast switcher add --execution",
            "holdfast switcher drain --execution x",
        ],
    );
    machine.typed()
}

/// Two people who approve.
fn approvals() -> BTreeSet<String> {
    const PAGE: &str = "docs/approvals.md";
    let mut machine = Machine::new();
    machine.own("holdfast keys import --from validator_keys --password-file password.txt");
    let public = |text: &str| text.lines().find(|line| line.starts_with("ssh-ed25519")).expect("a key").to_owned();
    let alice = machine.types(PAGE, "holdfast approvals keygen --to alice.key");
    machine.own("ssh-keygen -q -t ed25519 -N '' -C bob -f ~/.ssh/id_ed25519");
    let bob = machine.read(".ssh/id_ed25519.pub").replace(" bob", "");
    let section =
        format!("[approvals]\napprovers = [\"alice {}\", \"bob {}\"]\nthreshold = 2\n", public(&alice), bob.trim());
    machine.write("holdfast.toml", &section);
    machine.types_all(PAGE, &["holdfast approvals adopt", "holdfast approvals status"]);
    // What takes a second a key otherwise, each time the same.
    machine.puts("--password-file pw --kdf pbkdf2", "--password-file pw");
    machine.ends(PAGE, "holdfast keys export --all --to out --password-file pw", &[1]);
    let request = file(&machine, ".", "approval-export-");
    machine.puts(&request, "approval-export-1a2b3c4d.txt");
    machine.puts("holdfast approve --yes", "holdfast approve");
    machine.types_all(PAGE, &["holdfast approvals list", "holdfast approve approval-export", "ssh-keygen -Y sign"]);
    machine.own(&format!("holdfast approvals verify {request}*"));

    // The same people, about rules of a running server. The export comes last: it switches the keys off.
    machine.serves("docs/admin.md", "holdfast serve", READY);
    machine.write("holdfast.toml", &(section + RULES));
    machine.ends(PAGE, "holdfast reload", &[1]);
    let request = format!("holdfast-data/approvals/{}", file(&machine, "holdfast-data/approvals", "approval-policy-"));
    machine.own(&format!("holdfast approve --yes {request} --key alice.key"));
    machine.own(&format!("ssh-keygen -Y sign -n holdfast-approval -f ~/.ssh/id_ed25519 {request}"));
    machine.puts(&request, "holdfast-data/approvals/approval-policy-1a2b3c4d.txt");
    machine.types_all(PAGE, &["holdfast approvals bring", "holdfast reload"]);
    machine.stops();
    machine.types(PAGE, "holdfast keys export --all --to out --password-file pw --approval");
    machine.typed()
}

/// The one file in a folder whose name begins so and ends with `.txt`.
fn file(machine: &Machine, folder: &str, begins: &str) -> String {
    let entries = std::fs::read_dir(machine.at(folder)).expect("a folder");
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"));
    let is_text = |name: &String| Path::new(name).extension().is_some_and(|extension| extension == "txt");
    let mut found: Vec<String> = names.filter(|name| name.starts_with(begins) && is_text(name)).collect();
    assert_eq!(found.len(), 1, "{begins}: {found:?}");
    found.swap_remove(0)
}

/// What runs beside signers.
fn witness_and_vault() -> BTreeSet<String> {
    let mut machine = Machine::new();
    machine.puts("127.0.0.1:0", "10.0.0.7:9005");
    let made = machine.types("docs/witness.md", "holdfast --data-dir witness witness init");
    let key: String =
        made.split("public key ").nth(1).expect("a key").chars().take_while(char::is_ascii_alphanumeric).collect();
    machine.puts("hoodi", "mainnet");
    machine.puts(&key, "0x5d1c…");
    machine.types("docs/witness.md", "holdfast --data-dir witness witness enroll --group");
    machine.serves("docs/witness.md", "holdfast --data-dir witness --network mainnet witness serve", READY);
    machine.stops();
    machine.puts("holdfast --data-dir witness witness", "holdfast witness");
    machine.types("docs/witness.md", "holdfast witness status");
    machine.puts("holdfast --data-dir other witness init", "holdfast witness init");
    machine.types("docs/configuration.md", "holdfast witness init");
    machine.puts("holdfast --data-dir witness witness serve --listen 127.0.0.1:0", "holdfast witness serve");
    machine.serves("SECURITY.md", "holdfast witness serve", READY);
    machine.stops();

    std::fs::create_dir(machine.at("run")).expect("a folder");
    machine.puts("run", "/run/holdfast-vault");
    machine.puts("--client 0", "--client 1001");
    for begins in [
        "holdfast vault --listen /run/holdfast-vault/vault.sock",
        "holdfast vault --listen /run/holdfast-vault/vault.sock --client",
    ] {
        machine.begins("docs/vault.md", begins, "listens");
    }
    machine.puts("run/vault.sock", "PATH");
    machine.begins("docs/configuration.md", "holdfast vault --listen PATH", "listens");
    machine.typed()
}
