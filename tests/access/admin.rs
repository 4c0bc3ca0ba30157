//! The admin API over TCP: certificates on both sides, named administrators, and the same answers as over the socket.

use std::io::{BufRead as _, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use holdfast_tests::finished::{Finished, run};
use holdfast_tests::harness::{Builder, Server, command};

use crate::stage::{Stage, wait_for};

pub fn server(stage: &Stage) -> Builder {
    let settings = [
        ("LISTEN", "127.0.0.1:0".to_owned()),
        ("ADMINISTRATORS", "alice".to_owned()),
        ("TLS_CERTIFICATE", stage.file("tls.pem")),
        ("TLS_KEY", stage.file("tls.key")),
        ("TLS_CLIENT_CA", stage.file("clients-ca.pem")),
        ("TLS_CRL", stage.file("clients-crl.pem")),
    ];
    settings
        .into_iter()
        .fold(stage.world.server(), |builder, (name, value)| builder.env(format!("HOLDFAST_ADMIN_{name}"), value))
}

/// The address that was really taken, from the log.
pub fn address(server: &Server) -> SocketAddr {
    wait_for("the admin API over TCP", || server.log().contains("admin API over TCP"));
    let log = server.log();
    let line = log.lines().find(|line| line.contains("admin API over TCP")).expect("the line");
    let found = line.split(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':'));
    found.filter_map(|word| word.parse().ok()).find(|at: &SocketAddr| at.port() != 0).expect("an address in the line")
}

/// What a command on a machine without the data directory is called with, by whoever has this certificate.
fn elsewhere(stage: &Stage, at: SocketAddr, who: &str, rest: &[&str]) -> Vec<String> {
    let folder = stage.files.join("elsewhere").display().to_string();
    let url = format!("https://localhost:{}", at.port());
    let (ca, certificate, key) =
        (stage.file("ca.pem"), stage.file(&format!("{who}.pem")), stage.file(&format!("{who}.key")));
    let own = ["--data-dir", &folder, "--admin-server", &url, "--admin-ca", &ca, "--admin-certificate", &certificate];
    [&own[..], &["--admin-key", &key], rest].concat().into_iter().map(str::to_owned).collect()
}

/// Such a command, run to its end.
pub fn from_elsewhere(stage: &Stage, at: SocketAddr, who: &str, rest: &[&str]) -> Finished {
    run(&elsewhere(stage, at, who, rest))
}

/// A command that goes on until its connection ends.
struct Following(Child);

impl Following {
    /// Begins, and waits for the first record.
    fn start(stage: &Stage, at: SocketAddr, who: &str) -> Self {
        let mut child = command()
            .args(elsewhere(stage, at, who, &["audit", "tail", "--follow"]))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut first = String::new();
        let stdout = child.stdout.as_mut().expect("a pipe");
        std::io::BufReader::new(stdout).read_line(&mut first).expect("a record");
        assert!(!first.is_empty(), "it has begun");
        Self(child)
    }

    /// Waits for its end, and returns its exit code and what it said of it.
    fn end(mut self) -> (Option<i32>, String) {
        let mut status = None;
        wait_for("the end of the command", || {
            status = self.0.try_wait().expect("it can be waited for");
            status.is_some()
        });
        let mut said = String::new();
        self.0.stderr.take().expect("a pipe").read_to_string(&mut said).expect("text");
        (status.and_then(|status| status.code()), said)
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A connection with a certificate that stays and says no more than a greeting.
struct Held(Child);

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn hold(stage: &Stage, at: SocketAddr, who: &str) -> Held {
    let mut child = Command::new("openssl")
        .args(["s_client", "-quiet", "-alpn", "h2", "-connect", &at.to_string()])
        .args(["-cert", &stage.file(&format!("{who}.pem")), "-key", &stage.file(&format!("{who}.key"))])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl starts");
    let greeting = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    // Refused ones may have gone already.
    let _ = child.stdin.as_mut().expect("a pipe").write_all(greeting);
    Held(child)
}

#[test]
fn administrators_work_from_another_machine_and_nobody_else_does() {
    let stage = Stage::new(2);
    stage.documented("revocations");
    stage.documented_in("docs/admin.md", "administrator");
    let server = server(&stage).start();
    server.wait_ready();
    let at = address(&server);
    let key = stage.world.keys[0].public.clone();

    // The same answers as over the socket.
    let far = from_elsewhere(&stage, at, "alice", &["--json", "keys", "list"]).expect(0, &[&key, "\"server\""]);
    let near = run(&stage.world.with(&["--json", "keys", "list"])).expect(0, &[&key]);
    assert_eq!(far.stdout, near.stdout);
    from_elsewhere(&stage, at, "alice", &["status"]).expect(0, &[]);
    from_elsewhere(&stage, at, "alice", &["keys", "disable", &key]).expect(0, &[]);
    run(&stage.world.with(&["keys", "show", &key])).expect(0, &["disabled"]);
    let journal = run(&stage.world.with(&["audit", "tail"])).expect(0, &[]).text();
    assert!(journal.contains("alice (certificate)"), "{journal}");

    // Rules from here, which clients are held to there.
    let rules = stage.files.join("rules.toml");
    let deny = "[[policy]]\neffect = \"allow\"\noperations = [\"duties\"]\n[[policy]]\neffect = \"deny\"\noperations = [\"exit\"]\n";
    std::fs::write(&rules, deny).expect("rules");
    let apply = ["policy", "apply", &rules.display().to_string()];
    from_elsewhere(&stage, at, "alice", &apply).expect(0, &["In force now: 2 rules", "by alice (certificate)"]);
    from_elsewhere(&stage, at, "vc-1", &apply).expect(1, &["no administrator"]);
    run(&stage.world.with(&["policy", "show"])).expect(0, &["by alice (certificate)", "\"duties\""]);
    from_elsewhere(&stage, at, "alice", &["policy", "explain", "--caller", "vc-1", "--op", "exit"])
        .expect(1, &["rule \"rule 2\" denies it"]);
    from_elsewhere(&stage, at, "alice", &["policy", "reset", "--force"]).expect(0, &["In force now: 0 rules"]);

    // A certificate of the same authority that is no administrator's, none that is accepted, and none at all.
    from_elsewhere(&stage, at, "vc-1", &["keys", "enable", &key]).expect(1, &["vc-1", "no administrator"]);
    from_elsewhere(&stage, at, "vc-1", &["status"]).expect(1, &["no administrator"]);
    stage.shell("openssl req -x509 -newkey rsa:2048 -noenc -days 30 -subj /CN=alice -keyout false.key -out false.pem");
    from_elsewhere(&stage, at, "false", &["keys", "list"]).expect(3, &["admin.tls.client_ca", "--admin-certificate"]);
    let url = format!("https://localhost:{}", at.port());
    run(&["--admin-server", &url, "keys", "list"]).expect(2, &["--admin-certificate"]);
    run(&stage.world.with(&["keys", "show", &key])).expect(0, &["disabled"]);
    // The server's name is checked, too.
    let wrong = [
        "--admin-server",
        &url,
        "--admin-ca",
        &stage.file("clients-ca.pem"),
        "--admin-certificate",
        &stage.file("alice.pem"),
        "--admin-key",
        &stage.file("alice.key"),
        "keys",
        "list",
    ];
    run(&wrong).expect(3, &["certificates"]);

    // Those who say nothing are no obstacle.
    let silent: Vec<_> = (0..400).map(|_| TcpStream::connect(at).expect("a connection")).collect();
    from_elsewhere(&stage, at, "alice", &["keys", "enable", &key]).expect(0, &[]);
    drop(silent);

    // What works on a data directory is not mistaken for work on the server's, and makes nothing here.
    for local in [&["keys", "generate", "--count", "1"][..], &["callers", "add", "x"], &["kek", "rotate"], &["serve"]] {
        from_elsewhere(&stage, at, "alice", local).expect(2, &["--admin-server"]);
    }
    assert!(!stage.files.join("elsewhere").exists(), "nothing was made on this machine");

    // Others with a certificate of the same authority hold no places of administrators.
    let held: Vec<_> = (0..100).map(|_| hold(&stage, at, "vc-1")).collect();
    wait_for("refusals", || server.log().contains("all the connections it takes"));
    from_elsewhere(&stage, at, "alice", &["keys", "list"]).expect(0, &[&key]);
    drop(held);

    // Revoked while the server runs, and while a connection is open.
    let following = Following::start(&stage, at, "alice");
    stage.shell(
        "openssl ca -config ca.cnf -cert clients-ca.pem -keyfile clients-ca.key -revoke alice.pem
         openssl ca -config ca.cnf -cert clients-ca.pem -keyfile clients-ca.key -gencrl -out clients-crl.pem",
    );
    wait_for("the revocation", || from_elsewhere(&stage, at, "alice", &["keys", "list"]).code == 3);
    let (code, said) = following.end();
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("broke"), "{said}");
    assert!(server.stop().0.success());
    from_elsewhere(&stage, at, "alice", &["keys", "list"]).expect(3, &["no server answers"]);
}

#[test]
fn without_certificates_on_both_sides_nothing_starts() {
    let stage = Stage::new(1);
    let start = |settings: &[(&str, &str)]| {
        let builder = stage.world.server().env("HOLDFAST_ADMIN_LISTEN", "127.0.0.1:0");
        let builder = settings
            .iter()
            .fold(builder, |builder, (name, value)| builder.env(format!("HOLDFAST_ADMIN_{name}"), (*value).to_owned()));
        builder.try_start().map(|_| ()).expect_err("it must not start")
    };
    let (certificate, key, ca) = (stage.file("tls.pem"), stage.file("tls.key"), stage.file("clients-ca.pem"));
    let error = start(&[]);
    assert!(error.contains("certificates on both sides"), "{error}");
    let error = start(&[("TLS_CERTIFICATE", &certificate), ("TLS_KEY", &key), ("ADMINISTRATORS", "alice")]);
    assert!(error.contains("certificates on both sides"), "{error}");
    let error = start(&[("TLS_CERTIFICATE", &certificate), ("TLS_KEY", &key), ("TLS_CLIENT_CA", &ca)]);
    assert!(error.contains("names nobody"), "{error}");
}
