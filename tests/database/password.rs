//! The password of the database: from a file that only its owner may read, and never anywhere else.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use holdfast_tests::finished::Finished;
use holdfast_tests::harness::{Server, command};
use holdfast_tests::postgres::Cluster;
use holdfast_tests::world::{CHAIN, World};

/// For anything that is waited for.
const LIMIT: Duration = Duration::from_secs(30);

fn write(path: &Path, content: &[u8], mode: u32) {
    fs::write(path, content).expect("the folder is writable");
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("chmod");
}

/// What services do that rotate passwords: the role gets a new one, the file follows, connections end some time later.
#[test]
fn a_password_that_changes_is_read_again() {
    let cluster = Cluster::start();
    let world = World::with_database(&cluster.url(), 1);
    let (full, old) = (cluster.url(), cluster.password());
    let bare = full.replacen(&format!(":{old}@"), "@", 1);
    let file = world.path().join("database-password");
    write(&file, old.as_bytes(), 0o600);
    let given = world.arguments().into_iter().map(|one| if one == full { bare.clone() } else { one });
    let builder = given.fold(Server::builder(), holdfast_tests::harness::Builder::global);
    let server = builder.env("HOLDFAST_DATABASE_PASSWORD_FILE", &file).start();
    server.wait_ready();
    let sign = |slot: u64| server.sign(&world.keys[0].public, &CHAIN.block(slot, 0).0).status;
    assert_eq!(sign(10), 200);

    // Until the file has the new one, nothing can be recorded, so nothing is signed.
    let (role, _) = full.trim_start_matches("postgres://").split_once(':').expect("a role and its password");
    cluster.psql(&format!("ALTER ROLE {role} PASSWORD 'rotated'"));
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE application_name LIKE 'holdfast%' AND pid <> pg_backend_pid()";
    cluster.psql(cut);
    let end = Instant::now() + LIMIT;
    while sign(11) != 503 {
        assert!(Instant::now() < end, "a block was signed with a password that is not good any more");
    }
    write(&file, b"rotated\n", 0o600);
    while sign(12) != 200 {
        assert!(Instant::now() < end, "the new password was never used");
        std::thread::sleep(Duration::from_millis(50));
    }
    // And while the file is away for a moment, the last one that was read at the start is tried; what is open stays open.
    fs::remove_file(&file).expect("it is there");
    assert_eq!(sign(13), 200);
    let (ended, log) = server.stop();
    assert!(ended.success() && !log.contains("rotated"), "{log}");
}

#[test]
fn a_password_comes_from_a_private_file_and_shows_nowhere() {
    let cluster = Cluster::start();
    let password = cluster.password();
    let bare = cluster.url().replacen(&format!(":{password}@"), "@", 1);
    // The keys get in with the password in the address; from then on it is in the file.
    let world = World::with_database(&cluster.url(), 1);
    let file = world.path().join("database-password");
    let arguments = |rest: &[&str]| -> Vec<String> {
        let full = cluster.url();
        let given = world.arguments().into_iter().map(|one| if one == full { bare.clone() } else { one });
        given.chain(rest.iter().map(|&one| one.to_owned())).collect()
    };
    let run = |rest: &[&str]| -> Finished {
        let mut command = command();
        command.env("HOLDFAST_DATABASE_PASSWORD_FILE", &file).env("HOLDFAST_TELEMETRY_LOG", "debug");
        command.args(arguments(rest)).output().expect("the binary starts").into()
    };
    let status = ["slashing", "status"];

    for ending in ["", "\n", "\r\n"] {
        write(&file, format!("{password}{ending}").as_bytes(), 0o600);
        let finished = run(&status).expect(0, &["journal head"]);
        assert!(!finished.text().contains(password), "the password shows:\n{}", finished.text());
    }
    run(&["config", "validate"]).expect(0, &["database-password"]);

    let mut builder = arguments(&[]).into_iter().fold(Server::builder(), holdfast_tests::harness::Builder::global);
    builder = builder.env("HOLDFAST_DATABASE_PASSWORD_FILE", &file).env("HOLDFAST_TELEMETRY_LOG", "trace");
    let server = builder.start();
    server.wait_ready();
    assert_eq!(server.sign(&world.keys[0].public, &CHAIN.randao(1).0).status, 200);
    let shown = [server.get_metrics("/metrics").text(), server.get("/healthcheck").text()].concat();
    let (status_of_stop, log) = server.stop();
    assert!(status_of_stop.success(), "{log}");
    assert!(!shown.contains(password) && !log.contains(password), "the password shows:\n{shown}\n{log}");

    let wrong = "the user or the password is wrong";
    for (ending, told) in [(" ", wrong), ("x", wrong), ("\n\n", "such as a line break")] {
        write(&file, format!("{password}{ending}").as_bytes(), 0o600);
        let finished = run(&status).expect(3, &[told]);
        assert!(!finished.text().contains(password), "the password shows:\n{}", finished.text());
    }
    write(&file, password.as_bytes(), 0o644);
    run(&status).expect(2, &["database-password", "chmod 600"]);
    write(&file, b"\n", 0o600);
    run(&status).expect(2, &["the file is empty"]);
    write(&file, &[0xff, 0xfe], 0o600);
    run(&status).expect(2, &["database-password", "UTF-8"]);
    fs::remove_file(&file).expect("it is there");
    run(&status).expect(2, &["database-password", "No such file"]);
}
