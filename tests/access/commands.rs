//! Commands that ask a running server whose listeners speak TLS and ask who comes: `status`, `top`, `connect` and
//! `doctor`, and what each says where certificate, name or token are wrong.

use holdfast_tests::finished::{Finished, run};
use serde_json::Value;

use crate::stage::{Stage, wait_for};

/// A configuration with TLS on both listeners, in whose certificate this machine is not named.
fn config(stage: &Stage, client_auth: &str, more: &str) -> String {
    let tls = |section: &str| {
        format!(
            "[{section}.tls]\ncertificate = {:?}\nkey = {:?}\nclient_ca = {:?}\nclient_auth = {client_auth:?}\n",
            stage.file("own.pem"),
            stage.file("own.key"),
            stage.file("clients-ca.pem")
        )
    };
    format!(
        "[http]\nallowed_hosts = [\"signer.example\", \"localhost\"]\n\n{}\n{}\n{more}",
        tls("http"),
        tls("metrics")
    )
}

/// A stage with a certificate for `signer.example` alone, and the file of the configuration.
struct Configured {
    stage: Stage,
    path: String,
}

impl Configured {
    fn new() -> Self {
        let stage = Stage::new(1);
        stage.shell(
            "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -subj /CN=signer.example -keyout own.key -out own.csr
             printf 'subjectAltName=DNS:signer.example\\n' > own.ext
             openssl x509 -req -in own.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile own.ext -out own.pem",
        );
        let path = stage.world.path().join("holdfast.toml").display().to_string();
        Self { stage, path }
    }

    fn write(&self, text: &str) {
        std::fs::write(&self.path, text).expect("the configuration");
    }

    /// A command beside the server.
    fn command(&self, rest: &[&str]) -> Finished {
        run(&self.stage.world.with(&[&["--config", &self.path], rest].concat()))
    }

    fn server(&self) -> holdfast_tests::harness::Server {
        self.stage.world.server().global("--config").global(&self.path).start()
    }
}

#[test]
fn commands_find_a_server_with_tls_by_its_own_certificate_and_prove_who_they_are() {
    let configured = Configured::new();
    let stage = &configured.stage;
    configured.write(&config(stage, "optional", ""));
    let server = configured.server();
    let key = &stage.world.keys[0].public;
    let http = server.http_addr().to_string();
    let environment = format!("[http]\nlisten = \"{http}\"\n");
    let of_server = config(stage, "optional", "").replace("[http]\n", &environment);
    configured.write(&of_server);

    // Without any setting: it is found, spoken to with TLS, and believed, as it has the key of the certificate that is
    // configured. What is for callers alone is said to be.
    configured.command(&["status"]).expect(0, &["ready; process", "https://", "ask.token_file"]);
    configured.command(&["status", "--ready"]).expect(0, &[]);
    configured.command(&["top", "--once"]).expect(3, &["asks who comes", "--ask-token-file"]);
    configured.command(&["connect", "lighthouse"]).expect(3, &["asks who comes", "--ask-certificate"]);
    let doctor = |how: &[&str]| configured.command(&[&["doctor"], how].concat()).text();
    let found = doctor(&[]);
    assert!(found.contains("gives no numbers") && found.contains("--ask-token-file"), "{found}");

    // By certificate, and by the token of a caller, of either kind.
    let (certificate, private) = (stage.file("vc-1.pem"), stage.file("vc-1.key"));
    let by_certificate = ["--ask-certificate", &certificate, "--ask-key", &private];
    let made = run(&stage.world.with(&["--json", "callers", "add", "operator", "--basic", "--bearer"])).expect(0, &[]);
    let made: Value = serde_json::from_str(&made.stdout).expect("JSON");
    let token = |name: &str, text: &str| {
        std::fs::write(stage.files.join(name), format!("{text}\n")).expect("a token");
        stage.file(name)
    };
    let basic = token("basic", &format!("operator:{}", made["basic_token"].as_str().expect("a token")));
    let bearer = token("bearer", made["bearer_token"].as_str().expect("a token"));
    let wrong = token("wrong", "operator:wrong");
    let empty = token("empty", "");
    let asked = |command: &[&str], how: &[&str]| configured.command(&[command, how].concat());
    wait_for("the new caller", || asked(&["top", "--once"], &["--ask-token-file", &basic]).code == 0);
    for how in [&by_certificate[..], &["--ask-token-file", &basic], &["--ask-token-file", &bearer]] {
        asked(&["top", "--once"], how).expect(0, &[]);
        asked(&["connect", "lighthouse"], how).expect(0, &[key]);
        let status = asked(&["--json", "status"], how).expect(0, &[]);
        let status: Value = serde_json::from_str(&status.stdout).expect("JSON");
        assert_eq!((&status["server"]["keys"]["loaded"], &status["server"]["http"]), (&1.into(), &http.clone().into()));
        let found = doctor(how);
        assert!(found.contains("answers at") && found.contains("with TLS"), "{found}");
    }
    asked(&["top", "--once"], &["--ask-token-file", &wrong]).expect(3, &["it is nobody's there"]);
    asked(&["top", "--once"], &["--ask-token-file", &empty]).expect(2, &["neither one bearer token nor NAME:TOKEN"]);
    asked(&["top", "--once"], &["--ask-token-file", "/nonexistent/token"]).expect(2, &["/nonexistent/token"]);
    asked(&["top", "--once"], &["--ask-key", &private]).expect(2, &["without ask.certificate"]);

    // By an authority, for a name: the right one, another authority, another name.
    let (ca, other) = (stage.file("ca.pem"), stage.file("clients-ca.pem"));
    let with = |ca: &str, more: &[&str]| asked(&["top", "--once", "--ask-ca", ca, "--ask-token-file", &basic], more);
    with(&ca, &[]).expect(0, &[]);
    with(&other, &[]).expect(3, &["nobody that is trusted vouches", "--ask-ca"]);
    with(&ca, &["--ask-name", "other.example"]).expect(3, &["is for another name", "signer.example", "--ask-name"]);
    with("/nonexistent/ca.pem", &[]).expect(2, &["/nonexistent/ca.pem"]);

    // From elsewhere: without data directory and configuration.
    let url = format!("https://localhost:{}", server.metrics_addr().port());
    let elsewhere = |more: &[&str]| {
        let folder = stage.files.join("elsewhere").display().to_string();
        run(&[&["--data-dir", &folder, "top", "--once", "--metrics", &url], more].concat())
    };
    let right = ["--ask-ca", &ca, "--ask-name", "signer.example", "--ask-token-file", &bearer];
    elsewhere(&right).expect(0, &[]);
    elsewhere(&["--ask-token-file", &bearer]).expect(3, &["nobody that is trusted vouches"]);
    elsewhere(&["--ask-ca", &ca]).expect(3, &["is for another name"]);
    elsewhere(&["--ask-ca", &ca, "--ask-name", "signer.example"]).expect(3, &["asks who comes"]);
    assert!(!stage.files.join("elsewhere").exists(), "nothing is made");
    let plain = format!("http://localhost:{}", server.metrics_addr().port());
    run(&["top", "--once", "--metrics", &plain]).expect(3, &["no HTTP server"]);
    run(&["top", "--once", "--metrics", "http://signer.example:1", "--ask-token-file", &bearer])
        .expect(2, &["https://"]);

    // The files have changed to another certificate than the server's.
    configured.write(&of_server.replace("own.pem", "tls.pem").replace("own.key", "tls.key"));
    asked(&["top", "--once"], &["--ask-token-file", &basic])
        .expect(3, &["another certificate than the one configured"]);
    assert!(server.stop().0.success());
}

#[test]
fn a_server_that_lets_in_certificates_alone_says_which_is_missing() {
    let configured = Configured::new();
    let stage = &configured.stage;
    configured.write(&config(stage, "required", ""));
    let server = configured.server();
    let ports =
        format!("[metrics]\nlisten = \"{}\"\n\n[http]\nlisten = \"{}\"\n", server.metrics_addr(), server.http_addr());
    let of_server = config(stage, "required", "").replace("[http]\n", &ports);
    configured.write(&of_server);
    let (certificate, private) = (stage.file("vc-1.pem"), stage.file("vc-1.key"));
    let good = ["--ask-certificate", &certificate, "--ask-key", &private];
    let asked = |command: &[&str], how: &[&str]| configured.command(&[command, how].concat());
    for command in [&["top", "--once"][..], &["connect", "lighthouse"], &["doctor"]] {
        let said = asked(command, &[]).text();
        assert!(said.contains("asks for a client certificate") && said.contains("--ask-certificate"), "{said}");
    }
    asked(&["status"], &[]).expect(3, &["asks for a client certificate"]);
    asked(&["top", "--once"], &good).expect(0, &[]);
    asked(&["connect", "lighthouse"], &good).expect(0, &[&stage.world.keys[0].public]);
    asked(&["status"], &good).expect(0, &["ready; process", "keys loaded 1"]);
    // Settings in the file do the same as flags.
    configured.write(&format!("{of_server}\n[ask]\ncertificate = {certificate:?}\nkey = {private:?}\n"));
    asked(&["top", "--once"], &[]).expect(0, &[]);
    configured.write(&of_server);
    stage.shell("openssl req -x509 -newkey rsa:2048 -noenc -days 30 -subj /CN=vc-1 -keyout false.key -out false.pem");
    let (certificate, private) = (stage.file("false.pem"), stage.file("false.key"));
    let bad = ["--ask-certificate", &certificate, "--ask-key", &private];
    asked(&["top", "--once"], &bad).expect(3, &["does not accept the certificate"]);
    let mixed = ["--ask-certificate", &certificate, "--ask-key", &stage.file("vc-1.key")];
    asked(&["top", "--once"], &mixed).expect(2, &["cannot be used together"]);
    assert!(server.stop().0.success());
}
