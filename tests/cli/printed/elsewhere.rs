//! Printed lines that are not typed here: which other test runs them, or why none can.

use std::collections::BTreeSet;
use std::path::PathBuf;

use holdfast_tests::harness::workspace;

/// How a printed line begins; the file of the test that runs it, there with names of its own; and words of that test.
/// `tests/booted/run` is started by hand.
pub(super) const BY_OTHER_TESTS: [(&str, &str, &str); 53] = [
    ("HOLDFAST_ENCLAVE_KEY=", "tests/providers/enclave.rs", "\"wrap\""),
    ("cargo run --release -- quickstart", "tests/cli/quickstart.rs", "\"quickstart\""),
    ("cargo run --release -p holdfast-tests --bin bench", "tests/bench_smoke/main.rs", "bench"),
    ("cargo test -p holdfast-tests --test sim", "tests/sim/main.rs", "no_fault"),
    ("deploy/helm/stage", "tests/cli/deploy/mod.rs", "helm"),
    ("holdfast --admin-server https://signer.example:9002", "tests/access/admin.rs", "--admin-server"),
    ("holdfast --beacon http://127.0.0.1:5052 exits", "tests/ceremony/exits.rs", "--beacon"),
    ("holdfast --network hoodi keys generate --count 4", "tests/ceremony/terminal.rs", "\"generate\""),
    ("holdfast approvals show ID", "tests/ceremony/served.rs", "\"show\""),
    ("holdfast audit consistency OLD NEW", "tests/cli/journeys.rs", "audit consistency"),
    (
        "holdfast audit verify journal.jsonl --checkpoint-key checkpoint-key --anchor",
        "tests/audit/anchors.rs",
        "--anchor",
    ),
    ("holdfast backup check", "tests/ceremony/backup.rs", "\"check\""),
    ("holdfast backup create --to backup-1", "tests/ceremony/backup.rs", "docs/runbooks/backup.md"),
    ("holdfast backup drill --from backup-1", "tests/ceremony/backup.rs", "docs/runbooks/backup.md"),
    ("holdfast backup restore --from backup-1", "tests/ceremony/backup.rs", "docs/runbooks/backup.md"),
    ("holdfast backup verify --from backup-1", "tests/ceremony/backup.rs", "docs/runbooks/backup.md"),
    ("holdfast callers add vc-1", "tests/fleet/two_machines.rs", "holdfast callers add"),
    ("holdfast enclave build", "tests/cli/enclave.rs", "\"build\""),
    ("holdfast enclave describe", "tests/cli/enclave.rs", "\"describe\""),
    ("holdfast enclave generate", "tests/enclave/generated.rs", "generate"),
    ("holdfast enclave import", "tests/enclave/imported.rs", "import"),
    ("holdfast enclave kms-policy", "tests/cli/enclave.rs", "kms-policy"),
    ("holdfast enclave run", "tests/cli/enclave.rs", "\"run\""),
    ("holdfast enclave verify", "tests/cli/enclave.rs", "\"verify\""),
    ("holdfast enclave wrap", "tests/providers/enclave.rs", "\"wrap\""),
    ("holdfast kek init --threshold 2", "tests/providers/shares.rs", "--threshold"),
    ("holdfast kek unseal", "tests/providers/shares.rs", "unseal"),
    ("holdfast keys delete PUBKEY", "tests/cli/journeys.rs", "holdfast keys delete"),
    ("holdfast keys export PUBKEY", "tests/cli/journeys.rs", "holdfast keys export PUBKEY"),
    ("holdfast keys import --from out", "tests/cli/journeys.rs", "holdfast keys import --from out"),
    ("holdfast migrate lighthouse", "tests/interchange/migrate_clients.rs", "\"lighthouse\""),
    ("holdfast migrate lodestar", "tests/interchange/migrate_clients.rs", "\"lodestar\""),
    ("holdfast migrate nimbus", "tests/interchange/migrate_clients.rs", "\"nimbus\""),
    ("holdfast migrate prysm", "tests/interchange/migrate_clients.rs", "\"prysm\""),
    ("holdfast migrate teku", "tests/interchange/migrate_clients.rs", "\"teku\""),
    ("holdfast migrate web3signer", "tests/interchange/migrate.rs", "\"web3signer\""),
    ("holdfast slashing import --from-web3signer", "tests/interchange/web3signer.rs", "--from-web3signer"),
    ("holdfast top --metrics https://signer.example:9001", "tests/access/commands.rs", "--metrics"),
    ("holdfast unwrap-helper", "tests/providers/start.rs", "unwrap-helper"),
    ("psql \"host=HOST user=holdfast_admin", "tests/cli/deploy/database.rs", "signer-role.sql"),
    ("sha256sum --check --ignore-missing SHA256SUMS", "tests/cli/deploy/packages.rs", "--ignore-missing"),
    (
        "sudo -u holdfast holdfast --config /etc/holdfast/holdfast.toml keys import",
        "tests/cli/deploy/packages.rs",
        "Debian package",
    ),
    ("sudo -u holdfast /opt/holdfast-new/holdfast", "tests/cli/upgrade.rs", "/opt/holdfast-new/holdfast"),
    ("sudo HOLDFAST_KEYS_PASSPHRASE_FILE=", "tests/booted/run", "The service"),
    ("sudo apt install ./holdfast", "tests/cli/deploy/packages.rs", "Debian package"),
    ("sudo install -D -m 644 /usr/share", "tests/booted/run", "The service"),
    ("sudo install -D -o holdfast -m 600", "tests/cli/deploy/packages.rs", "Debian package"),
    ("sudo install -m 600 passphrase.txt", "tests/booted/run", "The service"),
    ("sudo mkdir /opt", "tests/cli/upgrade.rs", "sudo mkdir /opt"),
    ("sudo rm -r /opt", "tests/cli/upgrade.rs", "sudo rm -r /opt"),
    ("sudo sh install.sh", "tests/cli/deploy/packages.rs", "Script, also without a network"),
    ("sudo systemctl", "tests/booted/run", "systemctl"),
    ("sudo tar -xzf", "tests/cli/upgrade.rs", "sudo tar -xzf"),
];

/// How a printed line begins that no test runs, and why.
const BY_NOBODY: [(&str, &str); 24] = [
    ("./test", "is what runs this test"),
    ("age --decrypt", "goes to another machine by ssh; what it sends is tested in tests/providers/shares.rs"),
    ("aws kms", "needs an account of AWS"),
    ("cargo build --release", "is what builds the program for these tests"),
    ("cargo run --release -p holdfast-tests --bin soak", "takes an hour"),
    ("cd deploy/terraform", "goes to where an account of AWS is needed"),
    ("curl --fail --output ca.crt", "fetches the authorities of RDS"),
    ("deploy/build-release --target", "is a build for another machine"),
    ("docker ", "needs a container engine"),
    ("grep ", "looks for an id of the reader's own in a log"),
    ("grpcurl ", "is not in Debian; tests/admin asks the same with a client made from the same files"),
    ("helm ", "needs a cluster; what it renders is validated in tests/cli/deploy"),
    ("kubectl ", "needs a cluster"),
    ("pg_dump ", "is PostgreSQL's own; tests/ceremony/on_postgres.rs restores copies of a server"),
    ("rustup target add", "is for a build for another machine"),
    ("sudo apt install gcc", "is for a build for another machine"),
    ("sudo chown", "changes users of this machine"),
    ("sudo install -D -o 65532", "is for containers"),
    ("sudo rm -r /run/import", "takes away what tests/bare_root/run made"),
    ("sudoedit", "opens an editor"),
    ("terraform ", "needs an account of AWS; deploy/check reads the module and renders the values that it gives"),
    ("tests/mutants/run", "builds the program six times"),
    ("tests/sim/long", "takes hours"),
    ("vault ", "needs HashiCorp Vault; tests/providers/transit.rs speaks to a fake of its API"),
];

/// The entry for a line.
pub(super) fn find(line: &str) -> Option<&'static str> {
    entries().filter(|begins| line.starts_with(begins)).max_by_key(|begins| begins.len())
}

/// All entries.
pub(super) fn names() -> BTreeSet<&'static str> {
    entries().collect()
}

fn entries() -> impl Iterator<Item = &'static str> {
    let tested = BY_OTHER_TESTS.iter().map(|(begins, ..)| *begins);
    tested.chain(BY_NOBODY.iter().map(|(begins, _)| *begins))
}

/// Whether some test has these words in its source.
pub(super) fn a_test_contains(words: &str) -> bool {
    let mut folders = vec![workspace().join("tests")];
    let mut files: Vec<PathBuf> = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.iter().any(|path| std::fs::read_to_string(path).is_ok_and(|text| text.contains(words)))
}
