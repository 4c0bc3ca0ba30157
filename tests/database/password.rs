//! The password of the database: from a file that only its owner may read, and never anywhere else.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use holdfast_tests::finished::Finished;
use holdfast_tests::harness::{Server, command};
use holdfast_tests::postgres::Cluster;
use holdfast_tests::world::{CHAIN, World};

fn write(path: &Path, content: &[u8], mode: u32) {
    fs::write(path, content).expect("the folder is writable");
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("chmod");
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
