//! Proves what can be shown of `deploy/` without a cluster, an engine, a cloud and a booted system: scripts are sound, the
//! unit is hardened and its filter of system calls suffices, packages hold and leave behind what they should, the
//! installer refuses what it must, and the chart renders by Helm itself.

mod database;
pub(crate) mod packages;
mod unit;

use std::path::PathBuf;
use std::process::{Command, Output};

use holdfast_tests::harness::{binary, workspace};

/// Folder of the Python packages that `./test` installs for this, and their generation.
const TOOLS: &str = "holdfast-deploy-tools-1";

/// Runs to the end and wants success.
#[track_caller]
fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    assert!(output.status.success(), "{command:?} ended with {}\n{}", output.status, text(&output));
    output
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A program that comes with a Debian package.
#[track_caller]
fn tool(name: &str, package: &str) -> Command {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(name).is_file()));
    assert!(found, "{name} is missing: apt-get install {package} (./test does)");
    Command::new(name)
}

fn python() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").expect("HOME is set"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(|| home().join(".cache"), PathBuf::from);
    let path =
        std::env::var_os("HOLDFAST_DEPLOY_PYTHON").map_or_else(|| cache.join(TOOLS).join("bin/python"), PathBuf::from);
    assert!(path.is_file(), "{} is missing: ./test installs it", path.display());
    path
}

#[test]
fn scripts_are_sound() {
    let scripts = [
        "test",
        "deploy/build-release",
        "deploy/package",
        "deploy/install.sh",
        "deploy/helm/stage",
        "deploy/debian/postinst",
        "deploy/debian/prerm",
        "deploy/debian/postrm",
        "tests/bare_root/run",
        "tests/bare_root/stand_ins",
        "tests/cli/deploy/in_machine.sh",
        "tests/booted/run",
        "tests/booted/checks",
    ];
    succeed(tool("shellcheck", "shellcheck").current_dir(workspace()).args(scripts));
}

#[test]
fn chart_composition_image_and_terraform_are_in_order() {
    let output = succeed(Command::new(python()).arg(workspace().join("deploy/check")).arg(binary()));
    for part in ["chart:", "compose:", "Dockerfile:", "build context:", "terraform:"] {
        assert!(text(&output).contains(part), "{part} was not checked:\n{}", text(&output));
    }
}

#[test]
fn one_version_everywhere() {
    let version = env!("CARGO_PKG_VERSION");
    for (file, line) in [
        ("deploy/compose/compose.yaml", format!("image: holdfast:{version}")),
        ("deploy/docker/Dockerfile", format!("--tag holdfast:{version} ")),
        ("deploy/install.sh", format!("holdfast-{version}-linux-x86_64.tar.gz")),
        ("docs/install.md", format!("holdfast_{version}_amd64.deb")),
        ("docs/operators/kubernetes.md", format!("push registry.example/holdfast:{version}")),
        ("docs/runbooks/upgrade.md", format!("holdfast-{version}-linux-x86_64.tar.gz")),
    ] {
        let text = std::fs::read_to_string(workspace().join(file)).expect("the file is readable");
        assert!(text.contains(&line), "{file} does not say {line}");
    }
}
