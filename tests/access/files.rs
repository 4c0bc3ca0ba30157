//! Files of TLS as operators have them: those of the documentation, Web3Signer's, and wrong ones.

use base64::Engine as _;
use holdfast_tests::finished::run;
use holdfast_tests::world::CHAIN;

use crate::stage::{Stage, metric, sign_path, wait_for};

const MUTUAL: [(&str, &str); 3] = [("certificate", "tls.pem"), ("key", "tls.key"), ("client_ca", "clients-ca.pem")];
const VC_1: [&str; 4] = ["--cert", "vc-1.pem", "--key", "vc-1.key"];

#[test]
fn documented_commands_make_a_signer_that_knows_its_clients() {
    let stage = Stage::new(1);
    stage.documented("revocations");
    let mut settings = MUTUAL.to_vec();
    settings.push(("crl", "clients-crl.pem"));
    let server = stage.server(&settings).start();
    server.wait_ready();
    let list = "/api/v1/eth2/publicKeys";
    let with_certificate = || stage.curl(&server, &[&VC_1[..], &[list]].concat());
    let listed = with_certificate();
    assert_eq!(listed.status, 200, "{listed:?}\n{}", server.log());
    assert!(listed.body.contains(&stage.world.keys[0].public));
    let p12 = stage.curl(&server, &["--cert-type", "P12", "--cert", "vc-1.p12:correct horse", list]);
    assert_eq!(p12.status, 200, "{p12:?}");
    assert_eq!(stage.curl(&server, &[list]).status, 0, "no certificate, no connection");
    assert_eq!(stage.curl(&server, &[&["--tls-max", "1.1"], &VC_1[..], &[list]].concat()).status, 0);
    let key = &stage.world.keys[0].public;
    let (block, _) = CHAIN.block(100, 1);
    let signed = stage.curl(
        &server,
        &[&VC_1[..], &["-H", "Content-Type: application/json", "--data", &block.to_string(), &sign_path(key)]].concat(),
    );
    assert_eq!(signed.status, 200, "{signed:?}");
    assert!(metric(&server, "holdfast_tls_certificate_expiry_timestamp_seconds{listener=\"http\"}") > 1.8e9);
    assert!(metric(&server, "holdfast_tls_crl_next_update_timestamp_seconds{listener=\"http\"}") > 1.7e9);

    // Revoked while the server runs: new connections of it are refused within seconds.
    stage.documented("revoke");
    wait_for("the revocation", || with_certificate().status == 0);
    assert!(metric(&server, "holdfast_tls_handshake_failures_total{listener=\"http\",reason=\"certificate\"}") >= 1.0);
    assert!(server.stop().0.success());
    let to = stage.file("journal.jsonl");
    run(&stage.world.with(&["audit", "export", "--format", "jsonl", "--to", &to])).expect(0, &[]);
    let export = std::fs::read_to_string(&to).expect("the export");
    assert!(export.contains("vc-1 (certificate)"), "{export}");
}

#[test]
fn files_of_web3signer_are_taken_as_they_are() {
    let stage = Stage::new(1);
    stage.shell(
        "printf 'wrong horse' > wrong.password
         openssl pkcs12 -export -in tls.pem -inkey tls.key -passout file:vc-1.password -out new.p12
         openssl pkcs12 -export -legacy -in tls.pem -inkey tls.key -passout file:vc-1.password -out old.p12
         for name in known stranger; do
           openssl req -x509 -newkey rsa:2048 -noenc -days 30 -subj /CN=$name -keyout $name.key -out $name.pem
         done
         echo '# clients' > known-clients.txt
         echo known $(openssl x509 -in known.pem -noout -fingerprint -sha256 | cut -d= -f2) >> known-clients.txt",
    );
    for p12 in ["new.p12", "old.p12"] {
        let settings =
            [("pkcs12", p12), ("pkcs12_password_file", "vc-1.password"), ("known_clients", "known-clients.txt")];
        let server = stage.server(&settings).start();
        server.wait_ready();
        let list = |name: &str| {
            let (certificate, key) = (format!("{name}.pem"), format!("{name}.key"));
            stage.curl(&server, &["--cert", &certificate, "--key", &key, "/api/v1/eth2/publicKeys"]).status
        };
        assert_eq!((list("known"), list("stranger")), (200, 0), "{p12}: {}", server.log());
        let wrong = [("pkcs12", p12), ("pkcs12_password_file", "wrong.password")];
        let error = stage.server(&wrong).try_start().err().expect("the password is wrong");
        assert!(error.contains("wrong.password does not open"), "{error}");
    }
}

#[test]
fn wrong_files_stop_the_start_and_say_which() {
    let stage = Stage::new(0);
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let ended = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
    let ended = base64::engine::general_purpose::STANDARD.encode(ended.der());
    let pem = format!("-----BEGIN CERTIFICATE-----\n{ended}\n-----END CERTIFICATE-----\n");
    std::fs::write(stage.files.join("ended.pem"), pem).unwrap();
    stage.shell(
        "head -c 200 tls.pem > cut.pem
         cat tls.key tls.pem > mixed.pem
         openssl pkey -in tls.key -aes256 -passout pass:x -out locked.key
         echo 'vc-1 12:34' > bad-clients.txt",
    );
    let certificate = ("certificate", "tls.pem");
    let table: [(&[(&str, &str)], &str); 8] = [
        (&[("certificate", "cut.pem"), ("key", "tls.key")], "cut.pem"),
        (&[("certificate", "mixed.pem"), ("key", "vc-1.key")], "does not belong to the first certificate"),
        (&[certificate], "tls.pem has no private key"),
        (&[certificate, ("key", "locked.key")], "locked.key is encrypted"),
        (&[certificate, ("key", "missing.key")], "cannot read missing.key"),
        (&[certificate, ("key", "tls.key"), ("client_ca", "ended.pem")], "ended on 2020-01-01"),
        (&[certificate, ("key", "tls.key"), ("known_clients", "bad-clients.txt")], "bad-clients.txt:1"),
        (&[("key", "tls.key")], "http.tls has settings but no certificate"),
    ];
    for (settings, part) in table {
        let error = stage.server(settings).try_start().err().unwrap_or_else(|| panic!("{settings:?} is accepted"));
        assert!(error.contains("exit status: 2") && error.contains(part), "{settings:?}: {error}");
    }
    let server = stage.server(&[("certificate", "mixed.pem")]).start();
    server.wait_ready();
    assert_eq!(stage.curl(&server, &["/upcheck"]).status, 200, "key and certificate in one file are well");
}
