//! What one signer changes among the keys, the others on the same database take over without being told, and without
//! a signature being late for it.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use holdfast_tests::harness::{Server, holdfast_ok};
use holdfast_tests::keys::TestKey;
use holdfast_tests::postgres::Cluster;
use holdfast_tests::world::{CHAIN, World};

/// How long a change may take to be noticed: far more than the few seconds it does.
const LIMIT: Duration = Duration::from_secs(30);

fn listed(server: &Server, key: &TestKey) -> bool {
    server.get("/api/v1/eth2/publicKeys").text().contains(&key.public)
}

fn sign(server: &Server, key: &TestKey) -> u16 {
    server.sign(&key.public, &CHAIN.randao(7).0).status
}

/// Waits until all servers list the key, or none does. Says how long that took.
fn until_listed(servers: &[&Server], key: &TestKey, wanted: bool) -> Duration {
    let begin = Instant::now();
    while !servers.iter().all(|server| listed(server, key) == wanted) {
        assert!(begin.elapsed() < LIMIT, "not noticed within {LIMIT:?}:\n{}", servers[servers.len() - 1].log());
        std::thread::sleep(Duration::from_millis(20));
    }
    begin.elapsed()
}

#[test]
fn keys_changed_by_one_signer_are_followed_by_the_others() {
    let cluster = Cluster::start();
    let world = World::with_database(&cluster.url(), 2);
    let first = world.server().start();
    let second = world.server_in(&world.second_data_dir("second")).start();
    let servers = [&first, &second];
    for server in servers {
        server.wait_ready();
    }
    // A third machine, from which an operator works.
    let third = world.second_data_dir("third");
    let operate = |rest: &[&str]| {
        let mut arguments = world.arguments_in(&third);
        arguments.extend(rest.iter().map(|&argument| argument.to_owned()));
        holdfast_ok(&arguments)
    };
    let new = TestKey::interop(77);
    let folder = world.path().join("more");
    std::fs::create_dir(&folder).expect("a folder");
    new.write_keystore(&folder, "correct horse");
    let import = |extra: &[&str]| {
        let password = world.path().join("password.txt");
        let text = |path: &Path| path.display().to_string();
        let (folder, password) = (text(&folder), text(&password));
        let mut command = vec!["keys", "import", "--from", &folder, "--password-file", &password];
        command.extend(extra);
        operate(&command);
    };

    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let undisturbed = servers.map(|server| {
            let (stop, key) = (&stop, &world.keys[0]);
            scope.spawn(move || {
                let mut signed = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(sign(server, key), 200, "a key that nobody changed:\n{}", server.log());
                    signed += 1;
                }
                signed
            })
        });
        assert!(servers.iter().all(|server| sign(server, &new) == 404));
        import(&["--watermark", "never-signed"]);
        let opened = until_listed(&servers, &new, true);
        assert!(servers.iter().all(|server| sign(server, &new) == 200));

        operate(&["keys", "disable", &new.public]);
        assert!(servers.iter().all(|server| sign(server, &new) == 412), "a key is stopped at once");
        operate(&["keys", "enable", &new.public]);
        assert!(servers.iter().all(|server| sign(server, &new) == 200), "and let go at once");

        operate(&["keys", "delete", "--yes", &new.public]);
        assert!(servers.iter().all(|server| [404, 412].contains(&sign(server, &new))), "deleted at once");
        let dropped = until_listed(&servers, &new, false);
        assert!(servers.iter().all(|server| sign(server, &new) == 404));

        import(&["--watermark", "now", "--replace-tombstone"]);
        until_listed(&servers, &new, true);
        assert!(servers.iter().all(|server| sign(server, &new) == 200));
        stop.store(true, Ordering::Relaxed);
        let signed: u64 = undisturbed.into_iter().map(|client| client.join().expect("all were signed")).sum();
        println!(
            "fleet: a key imported elsewhere signs after {opened:?}, one deleted is dropped after {dropped:?}; {signed} signatures meanwhile"
        );
    });
    for server in [first, second] {
        let (status, log) = server.stop();
        assert!(status.success(), "{log}");
    }
}
