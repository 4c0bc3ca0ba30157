//! The mutants the suite must catch still fit the tree; `tests/mutants/run` builds and runs them.

use std::process::Command;

use holdfast_tests::harness::workspace;

#[test]
fn every_mutant_still_applies() {
    let folder = workspace().join("tests/mutants");
    let patches: Vec<_> = std::fs::read_dir(&folder)
        .expect("the mutants are there")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "patch"))
        .collect();
    assert!(patches.len() >= 3, "the fence, the lock and the durable commit each have a mutant: {patches:?}");
    for patch in patches {
        let output = Command::new("git")
            .arg("-C")
            .arg(workspace())
            .args(["apply", "--check"])
            .arg(&patch)
            .output()
            .expect("git is installed");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{} no longer applies; bring it up to date:\n{said}", patch.display());
    }
}
