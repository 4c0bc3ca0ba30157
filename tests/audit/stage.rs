//! A signer with a history and two checkpoints, and the Python verifier.

use std::path::{Path, PathBuf};
use std::process::Command;

use holdfast_tests::finished::{Finished, run};
use holdfast_tests::harness::workspace;
use holdfast_tests::world::{CHAIN, World};

/// A world whose server ran twice, signed, refused, and stopped in good order.
pub fn history() -> World {
    let world = World::new(3);
    for run in 0..2_u64 {
        let server = world.server().start();
        server.wait_ready();
        for step in 0..6 {
            let number = run * 6 + step;
            let key = &world.keys[usize::try_from(number % 3).unwrap()].public;
            let (vote, _) = CHAIN.attestation(8 * (number + 2), number, number + 1, 0);
            assert_eq!(server.sign(key, &vote).status, 200);
            let (double, _) = CHAIN.attestation(8 * (number + 2), number, number + 1, 1);
            assert_eq!(server.sign(key, &double).status, 412);
            let (randao, _) = CHAIN.randao(number);
            assert_eq!(server.sign(key, &randao).status, 200);
        }
        assert!(server.stop().0.success());
    }
    world
}

/// A file in a world's folder, as text.
pub fn file(world: &World, name: &str) -> String {
    world.path().join(name).display().to_string()
}

/// Writes the public key of a world's checkpoints to a file, and says where.
pub fn public_key(world: &World) -> String {
    let path = file(world, "checkpoint-key");
    let key = run(&world.with(&["audit", "key"])).expect(0, &["holdfast/"]).stdout;
    std::fs::write(&path, key).expect("a file for the key");
    path
}

/// What the Python verifier says. It runs with the interpreter that `./test` made, which can check signatures.
pub fn python(export: &Path, key: &str) -> Finished {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache"));
    let python = cache.join("holdfast-moto-5.2.5/bin/python");
    assert!(python.is_file(), "{} is missing: ./test makes it", python.display());
    let output = Command::new(python).arg(workspace().join("tests/audit/verify.py")).arg(export).arg(key).output();
    Finished::from(output.expect("Python starts"))
}
