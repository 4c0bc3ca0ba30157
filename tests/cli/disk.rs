//! Disks that fill up and file systems that cannot be trusted, with real mounts.
//!
//! Mounting needs root; without it the tests use a user namespace of their own.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use holdfast_tests::http::once;
use holdfast_tests::world::{CHAIN, World};

use holdfast_tests::finished::{SERVE, run};

fn mount(arguments: &[&str]) {
    let output = Command::new(arguments[0]).args(&arguments[1..]).output().expect("the mount tool is installed");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Unmounts when dropped.
struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0).status();
    }
}

#[test]
fn a_full_disk_refuses_and_recovers_without_losing_anything() {
    let world = World::new(0);
    let data = world.data_dir();
    std::fs::create_dir(&data).expect("data directory");
    let path = data.display().to_string();
    mount(&["mount", "-t", "tmpfs", "-o", "size=4m,mode=0700", "tmpfs", &path]);
    let _mounted = Mounted(&data);
    run(&world.with(&["keys", "generate", "--count", "4"])).expect(0, &[]);
    let server = world.server().start();
    server.wait_ready();
    let keys = server.get("/api/v1/eth2/publicKeys").json();
    let key = keys[0].as_str().expect("a key").to_owned();
    let (before, _) = CHAIN.attestation(800, 99, 100, 1);
    let signature = server.sign(&key, &before);
    assert_eq!(signature.status, 200, "{}", signature.text());

    let filler = data.join("filler");
    let mut size = 0;
    while std::fs::write(&filler, vec![7; size + 4096]).is_ok() {
        size += 4096;
        assert!(size < 64 << 20, "the disk never fills");
    }
    let mut refused = 0;
    let mut released = 101;
    for target in 101..400 {
        let response = server.sign(&key, &CHAIN.attestation(target * 8, target - 1, target, 1).0);
        match response.status {
            200 => released = target,
            503 => {
                assert_eq!(response.reason(), "database_unavailable", "{}", response.text());
                assert!(response.header("retry-after").is_some(), "503 without Retry-After");
                refused += 1;
            }
            other => panic!("{other}: {}", response.text()),
        }
    }
    assert!(refused > 0, "a full disk refused nothing");
    std::fs::remove_file(&filler).expect("room is made");
    let response = server.sign(&key, &CHAIN.attestation(4_000, 499, 500, 1).0);
    assert_eq!(response.status, 200, "not served again after room was made: {}\n{}", response.text(), server.log());
    let response = server.sign(&key, &CHAIN.attestation(released * 8, released - 1, released, 2).0);
    assert_eq!(response.status, 412, "a record was lost: {}", response.text());
    let (status, log) = server.stop();
    assert!(status.success(), "{status}\n{log}");
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o700)).expect("chmod");
    let server = world.server().start();
    server.wait_ready();
    let response = server.sign(&key, &CHAIN.attestation(4_000, 499, 500, 2).0);
    assert_eq!(response.status, 412, "a record was lost by the restart: {}", response.text());
    assert_eq!(once(server.http_addr(), "GET", "/upcheck", &[], b"").expect("an answer").status, 200);
}

#[test]
fn a_network_file_system_under_sqlite_is_refused() {
    let world = World::new(0);
    let behind = world.path().join("behind");
    std::fs::create_dir(&behind).expect("a folder");
    std::fs::set_permissions(&behind, std::fs::Permissions::from_mode(0o700)).expect("chmod");
    let data = world.data_dir();
    std::fs::create_dir(&data).expect("data directory");
    mount(&["bindfs", &behind.display().to_string(), &data.display().to_string()]);
    let _mounted = Mounted(&data);
    run(&world.with(&["keys", "generate"])).expect(2, &["network filesystem", "local disk"]);
    run(&world.with(&SERVE)).expect(2, &["network filesystem"]);
    assert!(!data.join("holdfast.db").exists(), "a database was created all the same");
}
