//! What is released: archive, Debian package, bill of materials; the installer and the package at work, and removed again.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use holdfast_tests::harness::{binary, workspace};
use holdfast_tests::keys::TestKey;
use tempfile::TempDir;

use super::{succeed, text, tool};

/// The version that is packaged.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A release made of the binary under test, once for all tests.
pub(crate) fn release() -> &'static Path {
    static RELEASE: OnceLock<TempDir> = OnceLock::new();
    RELEASE
        .get_or_init(|| {
            let folder = tempfile::tempdir().expect("a directory");
            package(folder.path());
            folder
        })
        .path()
}

fn package(out: &Path) {
    let sbom = out.join("sbom.json");
    let made = succeed(Command::new(workspace().join("deploy/sbom")).env("SOURCE_DATE_EPOCH", "1700000000"));
    std::fs::write(&sbom, made.stdout).expect("a file");
    succeed(
        Command::new(workspace().join("deploy/package"))
            .env("SOURCE_DATE_EPOCH", "1700000000")
            .args(["--binary".as_ref(), binary().as_os_str(), "--sbom".as_ref(), sbom.as_os_str()])
            .args(["--out".as_ref(), out.as_os_str()]),
    );
}

fn file_ending(suffix: &str) -> PathBuf {
    std::fs::read_dir(release())
        .expect("the release")
        .map(|entry| entry.expect("an entry").path())
        .find(|path| path.display().to_string().ends_with(suffix))
        .unwrap_or_else(|| panic!("nothing ends with {suffix} in {}", release().display()))
}

fn install(root: &Path, arguments: &[&str]) -> (bool, String) {
    let output = Command::new("sh")
        .arg(release().join("install.sh"))
        .arg("--root")
        .arg(root)
        .args(arguments)
        .output()
        .expect("sh starts");
    (output.status.success(), text(&output))
}

/// An empty root directory of another system.
fn empty_root() -> TempDir {
    let root = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(root.path().join("etc")).expect("a directory");
    root
}

#[test]
fn a_release_is_the_same_each_time_and_checks() {
    let again = tempfile::tempdir().expect("a directory");
    package(again.path());
    let sums = |folder: &Path| std::fs::read_to_string(folder.join("SHA256SUMS")).expect("checksums");
    assert_eq!(sums(release()), sums(again.path()), "the same binary became two different releases");
    assert_eq!(sums(release()).lines().count(), 5);
    succeed(Command::new("sha256sum").current_dir(release()).args(["--check", "--strict", "SHA256SUMS"]));
    // Who downloaded one file types what is printed, and is told if it is damaged.
    let alone = again.path().join("alone");
    std::fs::create_dir(&alone).expect("a folder");
    let script = alone.join("install.sh");
    for name in ["install.sh", "SHA256SUMS"] {
        std::fs::copy(release().join(name), alone.join(name)).expect("a copy");
    }
    let mut typed = Command::new("sha256sum");
    typed.current_dir(&alone).args(["--check", "--ignore-missing", "SHA256SUMS"]);
    assert_eq!(text(&succeed(&mut typed)).trim(), "install.sh: OK");
    std::fs::write(&script, "echo another\n").expect("a file");
    assert!(!typed.output().expect("sha256sum starts").status.success(), "a damaged file passed");
}

#[test]
fn the_bill_of_materials_names_what_is_linked() {
    let file = std::fs::File::open(file_ending(".cdx.json")).expect("a file");
    let bill: serde_json::Value = serde_json::from_reader(file).expect("JSON");
    assert_eq!((&bill["bomFormat"], &bill["specVersion"]), (&"CycloneDX".into(), &"1.5".into()));
    assert_eq!(bill["metadata"]["component"]["version"], VERSION);
    let components = bill["components"].as_array().expect("components");
    let lock = std::fs::read_to_string(workspace().join("Cargo.lock")).expect("the lock file");
    for name in ["blst", "rusqlite", "aws-lc-sys", "rustls", "tokio"] {
        let found = components.iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("{name} is missing"));
        let hash = found["hashes"][0]["content"].as_str().expect("a hash");
        assert!(lock.contains(&format!("checksum = \"{hash}\"")), "{name}: another hash than the lock file's");
        assert!(found["licenses"][0]["expression"].is_string(), "{name} has no licence");
    }
    assert!(components.iter().all(|one| one["name"] != "proptest"), "something of tests alone is listed");
    let listed: std::collections::BTreeSet<_> =
        components.iter().map(|one| &one["bom-ref"]).map(|r| r.as_str()).collect();
    for edge in bill["dependencies"].as_array().expect("edges") {
        for to in edge["dependsOn"].as_array().expect("a list") {
            assert!(listed.contains(&to.as_str()), "{to} is not listed");
        }
    }
}

#[test]
fn the_package_holds_what_it_should() {
    let package = file_ending(".deb");
    let listed = text(&succeed(Command::new("dpkg-deb").arg("--contents").arg(&package)));
    for (mode, path) in [
        ("-rwxr-xr-x root/root", " ./usr/bin/holdfast"),
        ("-rw-r--r-- root/root", " ./lib/systemd/system/holdfast.service"),
        ("-rw-r--r-- root/root", " ./lib/systemd/system/holdfast-switcher.service"),
        ("-rw-r--r-- root/root", " ./lib/systemd/system/holdfast-vault.service"),
        ("-rw-r--r-- root/root", " ./usr/lib/sysusers.d/holdfast.conf"),
        ("-rw-r--r-- root/root", " ./usr/lib/tmpfiles.d/holdfast.conf"),
        ("-rw-r--r-- root/root", " ./etc/holdfast/holdfast.toml"),
        ("-rw-r--r-- root/root", " ./usr/share/doc/holdfast/copyright"),
        ("-rw-r--r-- root/root", " ./usr/share/doc/holdfast/docs/runbooks/restore.md"),
        ("-rw-r--r-- root/root", " ./usr/share/man/man1/holdfast.1.gz"),
        ("-rw-r--r-- root/root", " ./usr/share/man/man1/holdfast-keys-import.1.gz"),
        ("-rw-r--r-- root/root", " ./usr/share/bash-completion/completions/holdfast"),
        ("-rw-r--r-- root/root", " ./usr/share/zsh/vendor-completions/_holdfast"),
        ("-rw-r--r-- root/root", " ./usr/share/fish/vendor_completions.d/holdfast.fish"),
    ] {
        let line = listed.lines().find(|line| line.ends_with(path)).unwrap_or_else(|| panic!("no {path} in {listed}"));
        assert!(line.starts_with(mode), "{line}");
    }
    for place in
        ["deploy/grafana/holdfast.json", "deploy/prometheus/holdfast.rules.yml", "deploy/helm/holdfast/Chart.yaml"]
    {
        assert!(
            listed.contains(&format!(" ./usr/share/doc/holdfast/{place}\n")),
            "no {place}: documents say to use it"
        );
    }
    assert!(!listed.contains("unwrap-helper"), "a page about what nobody types");
    assert!(!listed.contains("/var/"), "the package owns data: dpkg would delete it");
    let fields = text(&succeed(Command::new("dpkg-deb").arg("--field").arg(&package)));
    assert!(fields.contains(&format!("Version: {VERSION}\n")) && fields.contains("Depends: libc6"), "{fields}");
    let conffiles = text(&succeed(Command::new("dpkg-deb").arg("--info").arg(&package).arg("conffiles")));
    assert_eq!(conffiles.trim(), "/etc/holdfast/holdfast.toml");
}

#[test]
fn the_package_installs_upgrades_and_goes_and_leaves_keys() {
    // On a copy of this system that is thrown away: dpkg, its database and its helpers as they are.
    let mut command = if rustix::process::geteuid().is_root() { Command::new("unshare") } else { Command::new("sudo") };
    if !rustix::process::geteuid().is_root() {
        command.args(["-n", "unshare"]);
    }
    command.args(["--mount", "sh"]).arg(workspace().join("tests/cli/deploy/in_overlay.sh")).arg(file_ending(".deb"));
    let said = text(&succeed(&mut command));
    for line in [
        "installed: 0",
        "runs: holdfast ",
        "owner of the data directory: holdfast 700",
        "enabled",
        "upgraded: 0",
        "configuration of the operator stays",
        "removed: 0",
        // Neither masked nor forgotten.
        "again: /etc/systemd/system/holdfast.service /lib/systemd/system/holdfast.service",
        "keys and the slashing protection database stay in",
        "purged: 0",
        "data stays",
        "disabled",
        "no link is left",
    ] {
        assert!(said.contains(line), "no {line:?} in:\n{said}");
    }
}

/// Links of the documents in a folder that lead nowhere there.
fn broken_links(folder: &Path) -> Vec<String> {
    let (mut broken, mut folders, mut seen) = (Vec::new(), vec![folder.to_owned()], 0);
    while let Some(here) = folders.pop() {
        for entry in std::fs::read_dir(&here).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            if path.extension().is_none_or(|extension| extension != "md") {
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("a document");
            for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                let file = target.split('#').next().unwrap_or_default();
                let is_file = !file.is_empty() && !file.contains("://") && !file.contains(char::is_whitespace);
                seen += usize::from(is_file);
                if is_file && !here.join(file).exists() {
                    broken.push(format!("{}: {target}", path.display()));
                }
            }
        }
    }
    assert!(seen > 300, "{seen} links were seen in {}", folder.display());
    broken
}

#[test]
fn links_of_what_is_released_lead_somewhere() {
    let folder = tempfile::tempdir().expect("a directory");
    succeed(Command::new("dpkg-deb").arg("--extract").arg(file_ending(".deb")).arg(folder.path().join("deb")));
    succeed(Command::new("tar").arg("-xzf").arg(file_ending(".tar.gz")).arg("-C").arg(folder.path()));
    let archive = folder.path().join(format!("holdfast-{VERSION}-linux-{}", std::env::consts::ARCH));
    for place in [folder.path().join("deb/usr/share/doc/holdfast"), archive] {
        let broken = broken_links(&place);
        assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
        // The chart is staged of what is there, as the guide says.
        let chart = folder.path().join("chart");
        succeed(Command::new(place.join("deploy/helm/stage")).arg(&chart));
        assert!(chart.join("files/holdfast.rules.yml").is_file() && chart.join("files/holdfast.json").is_file());
        std::fs::remove_dir_all(&chart).expect("it is there");
    }
}

/// Lines of the shell block in a section of docs/install.md, without comments.
fn printed_in(section: &str) -> Vec<String> {
    let text = std::fs::read_to_string(workspace().join("docs/install.md")).expect("the document");
    let rest = text.split_once(&format!("\n## {section}\n")).expect("the section").1;
    let block = rest.split_once("```sh\n").expect("a block").1.split_once("```").expect("its end").0;
    block.lines().map(|line| line.split("  #").next().unwrap_or_default().trim().to_owned()).collect()
}

/// Runs lines on a machine of their own, up to a signer that can sign, and looks at it.
fn on_a_machine(lines: &[String]) {
    let folder = tempfile::tempdir().expect("a directory");
    let downloads = folder.path().join("downloads");
    std::fs::create_dir_all(downloads.join("validator_keys")).expect("a directory");
    for suffix in [".tar.gz", ".deb", "install.sh", "SHA256SUMS"] {
        let file = file_ending(suffix);
        std::fs::copy(&file, downloads.join(file.file_name().expect("a name"))).expect("a copy");
    }
    let keys: Vec<TestKey> = (0..2).map(TestKey::interop).collect();
    for key in &keys {
        key.write_keystore(&downloads.join("validator_keys"), "correct horse");
    }
    std::fs::write(downloads.join("password.txt"), "correct horse").expect("a password");
    let file = folder.path().join("lines");
    std::fs::write(&file, lines.join("\n") + "\n").expect("the lines");
    let mut command = if rustix::process::geteuid().is_root() { Command::new("unshare") } else { Command::new("sudo") };
    if !rustix::process::geteuid().is_root() {
        command.args(["-n", "unshare"]);
    }
    command.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "bash"]);
    command.arg(workspace().join("tests/cli/deploy/in_machine.sh")).arg(&downloads).arg(&file);
    let said = text(&succeed(&mut command));
    println!("{said}");
    let version = format!("holdfast {VERSION}");
    for line in [
        // Before the import it names what is missing, and how to get it.
        "the first import makes it: holdfast keys import --from PATH",
        "doctor before: 0",
        version.as_str(),
        "upcheck: OK",
        "\"status\":\"UP\"",
        "\nready\n",
        "as the service: configuration   /etc/holdfast/holdfast.toml",
        "as another: 2 error: cannot use the data directory /var/lib/holdfast: /var/lib/holdfast belongs to user",
        "duplicate",
        // Who is on the port, most probably, and the option that takes another one.
        "port 9000 is in use",
        "a consensus client, which takes 9000 and 9001",
        "--http-listen",
        "port in use: 3",
    ] {
        assert!(said.contains(line), "no {line:?} in:\n{said}");
    }
    for key in keys {
        assert!(said.contains(&format!("\"{}\"", key.public)), "{} is not served:\n{said}", key.public);
    }
}

#[test]
fn the_printed_lines_of_the_package_lead_to_a_signer_that_signs() {
    on_a_machine(&printed_in("Debian package"));
}

#[test]
fn the_printed_line_of_the_script_and_its_own_advice_lead_to_a_signer_that_signs() {
    tool("systemd-sysusers", "systemd");
    let mut lines = printed_in("Script, also without a network");
    // A second time it keeps what is there, and says the same.
    lines.extend([lines.concat(), "# here".to_owned()]);
    on_a_machine(&lines);
}

#[test]
fn the_installer_installs_upgrades_and_removes() {
    tool("systemd-sysusers", "systemd");
    let root = empty_root();
    let archive = file_ending(".tar.gz").display().to_string();
    let at = |path: &str| root.path().join(path);
    let (done, said) = install(root.path(), &["--from", &archive]);
    assert!(done, "{said}");
    let version = succeed(Command::new(at("usr/local/bin/holdfast")).arg("--version"));
    assert!(text(&version).contains(VERSION));
    let pages = at("usr/local/share/man/man1");
    let page = succeed(Command::new("gzip").arg("-dc").arg(pages.join("holdfast-keys-import.1.gz")));
    let page = text(&page);
    // Dashes are written so that a reader can copy them.
    let is_ours = page.contains(r"\-\-password\-file") && page.contains(&format!("Holdfast {VERSION}"));
    assert!(is_ours, "{page}");
    let script = at("usr/local/share/bash-completion/completions/holdfast");
    succeed(Command::new("bash").arg("-euc").arg(". \"$1\" && complete -p holdfast").arg("bash").arg(&script));
    let unit = std::fs::read_to_string(at("etc/systemd/system/holdfast.service")).expect("the unit");
    assert!(unit.contains("ExecStart=/usr/local/bin/holdfast "), "the unit starts another binary");
    assert!(std::fs::read_to_string(at("etc/passwd")).expect("users").contains("holdfast:"), "no user");

    let config = at("etc/holdfast/holdfast.toml");
    std::fs::write(&config, "# of the operator\n").expect("a file");
    std::fs::write(at("var/lib/holdfast/holdfast.db"), "precious").expect("a file");
    let (done, said) = install(root.path(), &["--from", &archive]);
    assert!(done && said.contains("kept"), "{said}");
    assert_eq!(std::fs::read_to_string(&config).expect("the configuration"), "# of the operator\n");

    // What the documents name is there, and they are.
    let example = at("usr/local/share/doc/holdfast/examples/passphrase.conf");
    assert!(std::fs::read_to_string(&example).expect("the drop-in").contains("LoadCredential=passphrase:"));
    let pointed = unit.lines().find_map(|line| line.strip_prefix("Documentation=file:///")).expect("where to read");
    assert!(at(pointed).is_file(), "the unit points to {pointed}, which is not there");
    assert!(broken_links(&at("usr/local/share/doc/holdfast")).is_empty());

    std::fs::write(at("etc/holdfast/passphrase"), "correct horse").expect("a file");
    let (done, said) = install(root.path(), &["--uninstall"]);
    assert!(done && said.contains("var/lib/holdfast: keys and the record"), "{said}");
    assert!(
        said.contains("kept") && said.contains("/etc/holdfast/passphrase\n"),
        "a secret that stays is not named: {said}"
    );
    assert!(at("etc/holdfast/passphrase").exists() && !example.exists());
    let left = std::fs::read_dir(&pages).expect("the pages").count();
    assert!(left == 0 && !script.exists(), "{left} pages of the manual stay");
    assert!(!at("usr/local/bin/holdfast").exists() && !at("etc/systemd/system/holdfast.service").exists());
    assert_eq!(std::fs::read_to_string(at("var/lib/holdfast/holdfast.db")).expect("the data"), "precious");
    assert!(config.exists(), "the configuration went");
    let (done, said) = install(root.path(), &["--uninstall"]);
    assert!(done && said.contains("there is no"), "a second time: {said}");
}

#[test]
fn the_installer_takes_away_what_it_put_elsewhere() {
    tool("systemd-sysusers", "systemd");
    let root = empty_root();
    let archive = file_ending(".tar.gz").display().to_string();
    let at = |path: &str| root.path().join(path);
    let (done, said) = install(root.path(), &["--from", &archive, "--prefix", "/opt/signer"]);
    assert!(done && at("opt/signer/bin/holdfast").exists(), "{said}");
    for user in ["holdfast:", "holdfast-vault:"] {
        let users = std::fs::read_to_string(at("etc/passwd")).expect("users");
        assert!(users.lines().any(|line| line.starts_with(user)), "no user {user} in {users}");
    }
    // An upgrade goes where it is.
    let (done, said) = install(root.path(), &["--from", &archive]);
    assert!(done && said.contains("/opt/signer/bin/holdfast (holdfast"), "{said}");
    assert!(!at("usr/local/bin/holdfast").exists(), "there are two now");
    // With another prefix it would take the units and leave the program.
    let (done, said) = install(root.path(), &["--uninstall", "--prefix", "/usr/local"]);
    assert!(!done && said.contains("--prefix /opt/signer"), "{said}");
    assert!(at("opt/signer/bin/holdfast").exists() && at("etc/systemd/system/holdfast.service").exists());
    let (done, said) = install(root.path(), &["--uninstall"]);
    assert!(done && said.contains("/opt/signer/bin/holdfast"), "{said}");
    assert!(!at("opt/signer/bin/holdfast").exists() && !at("etc/systemd/system/holdfast.service").exists());
    assert!(!at("opt/signer/share/doc/holdfast").exists(), "its documents stay");
}

#[test]
fn the_installer_refuses_what_it_must_and_changes_nothing() {
    let root = empty_root();
    let archive = file_ending(".tar.gz").display().to_string();
    let folder = tempfile::tempdir().expect("a directory");
    let alone = folder.path().join(file_ending(".tar.gz").file_name().expect("a name"));
    std::fs::copy(&archive, &alone).expect("a copy");
    let alone = alone.display().to_string();
    let nothing = folder.path().join("nothing.tar.gz").display().to_string();
    let wrong = "0".repeat(64);
    for (arguments, why) in [
        (vec!["--from", &archive, "--sha256", &wrong], "checksum of"),
        (vec!["--from", &archive, "--sha256", "123"], "64 digits"),
        (vec!["--from", &alone], "no SHA256SUMS beside"),
        (vec!["--from", &nothing], "no file"),
        (vec!["--from", "http://example.org/x.tar.gz"], "not over http://"),
        (vec![], "--from is needed"),
        (vec!["--frm", &archive], "unknown option --frm"),
    ] {
        let (done, said) = install(root.path(), &arguments);
        assert!(!done && said.contains(why), "{arguments:?}: {said}");
    }
    // One bit of the archive is another.
    let mut bytes = std::fs::read(&alone).expect("the archive");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&alone, bytes).expect("a file");
    std::fs::copy(release().join("SHA256SUMS"), folder.path().join("SHA256SUMS")).expect("a copy");
    let (done, said) = install(root.path(), &["--from", &alone]);
    assert!(!done && said.contains("is wrong, nothing was installed"), "{said}");
    let left: Vec<_> = std::fs::read_dir(root.path()).expect("the root").collect();
    assert_eq!(left.len(), 1, "something was installed: {left:?}");
}
