//! Labels that one signer changes hold at the others on the same database within seconds, and from its first moment for a key
//! that comes in; changes by several at once lose none.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use holdfast_tests::finished::run;
use holdfast_tests::harness::{Server, holdfast_ok};
use holdfast_tests::keys::TestKey;
use holdfast_tests::postgres::Cluster;
use holdfast_tests::world::{CHAIN, World};

/// How long a change may take to hold elsewhere: docs/policy.md says two seconds; this machine may be busy.
const LIMIT: Duration = Duration::from_secs(10);

const RULES: &str = "[[policy]]\neffect = \"allow\"\noperations = [\"*\"]\n\
     [[policy]]\neffect = \"deny\"\ncallers = [\"http\"]\nlabels = [\"frozen\"]\noperations = [\"signing\"]\n";

fn sign(server: &Server, key: &str) -> u16 {
    server.sign(key, &CHAIN.randao(7).0).status
}

/// Waits until a key is answered so; says how long that took.
fn until(server: &Server, key: &str, status: u16) -> Duration {
    let begin = Instant::now();
    while sign(server, key) != status {
        assert!(begin.elapsed() < LIMIT, "not {status} within {LIMIT:?}:\n{}", server.log());
        std::thread::sleep(Duration::from_millis(10));
    }
    begin.elapsed()
}

#[test]
fn labels_hold_at_every_signer_of_the_database() {
    let cluster = Cluster::start();
    let world = World::with_database(&cluster.url(), 2);
    let config = world.path().join("holdfast.toml").display().to_string();
    std::fs::write(&config, RULES).expect("a configuration");
    let second_dir = world.second_data_dir("second");
    let [first, second] =
        [&world.data_dir(), &second_dir].map(|dir| world.server_in(dir).global("--config").global(&config).start());
    for server in [&first, &second] {
        server.wait_ready();
    }
    let at = |dir: &std::path::Path, rest: &[&str]| {
        let mut arguments = world.arguments_in(dir);
        arguments.extend(["--config", &config].iter().chain(rest).map(|&argument| argument.to_owned()));
        arguments
    };
    let through_first = |rest: &[&str]| holdfast_ok(&at(&world.data_dir(), rest));
    let key = world.keys[0].public.clone();
    assert_eq!((sign(&first, &key), sign(&second, &key)), (200, 200));
    through_first(&["keys", "label", &key, "--add", "frozen"]);
    assert_eq!(sign(&first, &key), 403, "at once where it was changed");
    let denied = until(&second, &key, 403);
    through_first(&["keys", "label", &key, "--remove", "frozen"]);
    let allowed = until(&second, &key, 200);

    // A key that comes in with the label is denied from its first moment on, at both.
    let new = TestKey::interop(77);
    let folder = world.path().join("more");
    std::fs::create_dir(&folder).expect("a folder");
    new.write_keystore(&folder, "correct horse");
    let (folder, password) = (folder.display().to_string(), world.path().join("password.txt").display().to_string());
    let (stop, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for server in [&first, &second] {
            let (stop, asked, key) = (&stop, &asked, &new.public);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let status = sign(server, key);
                    assert!(matches!(status, 403 | 404), "{status}:\n{}", server.log());
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let import = ["keys", "import", "--from", &folder, "--password-file", &password, "--label", "frozen"];
        through_first(&[&import[..], &["--watermark", "never-signed"]].concat());
        assert_eq!(sign(&first, &new.public), 403);
        until(&second, &new.public, 403);
        let listed = |server: &Server| server.get("/api/v1/eth2/publicKeys").text().contains(&new.public);
        let begin = Instant::now();
        while !listed(&second) {
            assert!(begin.elapsed() < LIMIT, "not opened within {LIMIT:?}:\n{}", second.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(sign(&second, &new.public), 403);
        stop.store(true, Ordering::Relaxed);
    });

    // Both at once, the same key.
    std::thread::scope(|scope| {
        for (dir, name) in [(world.data_dir(), "a"), (second_dir.clone(), "b")] {
            let (at, key) = (&at, &world.keys[1].public);
            scope.spawn(move || {
                for number in 0..10 {
                    run(&at(&dir, &["keys", "label", key, "--add", &format!("{name}{number}")]))
                        .expect(0, &["labelled"]);
                }
            });
        }
    });
    let listed = run(&at(&second_dir, &["--json", "keys", "show", &world.keys[1].public])).expect(0, &[]).lines();
    assert_eq!(listed[0]["labels"].as_array().map(Vec::len), Some(20), "{listed:?}");
    println!(
        "fleet: a label holds elsewhere after {denied:?}, and no longer after {allowed:?}; a new key was asked for {} times and never signed",
        asked.load(Ordering::Relaxed)
    );
    for server in [first, second] {
        let (status, log) = server.stop();
        assert!(status.success(), "{log}");
    }
}
