//! The role that signers have on a database of RDS: made by the printed SQL, it suffices, and the administrator's password may
//! change behind it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use holdfast_tests::harness::workspace;
use holdfast_tests::postgres::Cluster;

use super::{succeed, text, tool};

/// As RDS makes it: no superuser, and may make roles and databases.
const ADMINISTRATOR: &str = "CREATE ROLE holdfast_admin LOGIN CREATEROLE CREATEDB PASSWORD 'of the administrator'";

/// `psql` as the administrator, with the SQL of the module, in a folder with the password of the role.
fn make_role(cluster: &Cluster, folder: &Path) -> Command {
    let mut command = tool("psql", "postgresql-client");
    command
        .current_dir(folder)
        .env("PGPASSWORD", "of the administrator")
        .args(["--no-psqlrc", "--host=127.0.0.1", "--username=holdfast_admin", "--dbname=holdfast"])
        .arg(format!("--port={}", cluster.addr().port()))
        .arg("--file")
        .arg(workspace().join("deploy/terraform/aws/signer-role.sql"));
    command
}

#[test]
fn the_printed_sql_makes_a_role_that_outlives_the_administrators_password() {
    let cluster = Cluster::start();
    let mut superuser = cluster.session_on(&cluster.admin_url().replace("/holdfast?", "/postgres?"));
    let mut run = |sql: &str| superuser.run(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    run("ALTER DATABASE holdfast RENAME TO former");
    run("ALTER ROLE holdfast RENAME TO former");
    run(ADMINISTRATOR);
    run("CREATE DATABASE holdfast OWNER holdfast_admin");

    let folder = tempfile::tempdir().expect("a folder");
    let refused = make_role(&cluster, folder.path()).output().expect("psql starts");
    assert!(!refused.status.success() && text(&refused).contains("openssl rand -hex 32 >password"), "{refused:?}");
    let private = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).expect("a file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("chmod");
        path
    };
    let password = private("password", &format!("{}\n", "0f".repeat(32)));
    let passphrase = private("passphrase", "correct horse battery staple\n");
    succeed(&mut make_role(&cluster, folder.path()));

    let signer = |arguments: &[&str]| {
        let mut command = holdfast_tests::harness::command();
        command
            .args(["--network", "hoodi", "--data-dir"])
            .arg(folder.path().join("data"))
            .args(["--database", &format!("postgres://holdfast@{}/holdfast?sslmode=disable", cluster.addr())])
            .args(arguments)
            .env("HOLDFAST_DATABASE_PASSWORD_FILE", &password)
            .env("HOLDFAST_KEYS_PROVIDER", "passphrase")
            .env("HOLDFAST_KEYS_PASSPHRASE_FILE", &passphrase);
        command
    };
    // Nothing that the SQL gives is too much.
    run("REVOKE CREATE ON DATABASE holdfast FROM holdfast");
    let refused = signer(&["kek", "init"]).output().expect("it starts");
    assert!(
        !refused.status.success() && text(&refused).contains("permission denied for database holdfast"),
        "{refused:?}"
    );
    run("GRANT CREATE ON DATABASE holdfast TO holdfast");
    // The first brings the schema in.
    succeed(&mut signer(&["kek", "init"]));
    run("ALTER ROLE holdfast_admin PASSWORD 'another, seven days later'");
    assert!(text(&succeed(&mut signer(&["kek", "status"]))).contains("It opens"));
    // And it may do no more than it needs.
    let rights = run("SELECT rolsuper OR rolcreaterole OR rolcreatedb, (SELECT count(*) FROM pg_auth_members m \
                      WHERE m.roleid = r.oid AND m.member::regrole::text = 'holdfast_admin' AND NOT m.admin_option) \
                      FROM pg_roles r WHERE rolname = 'holdfast'");
    assert_eq!(format!("{rights:?}"), r#"[["f", "0"]]"#);
}
