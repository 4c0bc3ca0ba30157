//! The connection to the database: it is as safe as `database.url` says, or it is not made.

use holdfast_tests::postgres::{Cluster, Tls};

use crate::look;

/// The same address with another value of a parameter.
fn with(url: &str, from: &str, to: &str) -> String {
    assert!(url.contains(from), "{url} has no {from}");
    url.replacen(from, to, 1)
}

#[test]
fn each_mode_keeps_its_promise() {
    let cluster = Cluster::builder().tls(Tls::Required).start();
    let stranger = Cluster::builder().tls(Tls::Offered).start();
    let plain = Cluster::start();
    let (url, full) = (cluster.url(), "sslmode=verify-full");
    let authority = |cluster: &Cluster| cluster.ca_file().expect("TLS is on").display().to_string();
    let without_root = with(&url, &format!("&sslrootcert={}", authority(&cluster)), "");
    assert!(url.contains(full), "{url}");

    for address in [
        url.clone(),
        with(&url, "127.0.0.1", "localhost"),
        with(&url, full, "sslmode=verify-ca"),
        with(&without_root, full, "sslmode=require"),
        with(&without_root, full, "sslmode=prefer"),
        with(&without_root, &format!("?{full}"), ""),
        plain.url(),
        with(&plain.url(), "sslmode=disable", "sslmode=prefer"),
    ] {
        look(&address).expect(0, &["would apply schema version 1"]);
    }

    let wrong_authority = with(&url, &authority(&cluster), &authority(&stranger));
    // The other authority has the same name and another key; a leaf has another name.
    let leaf = with(&url, &authority(&cluster), &authority(&stranger).replace("ca.crt", "server.crt"));
    let refused: [(String, i32, &[&str]); 10] = [
        (wrong_authority.clone(), 3, &["not signed by the authority in sslrootcert", "BadSignature"]),
        (leaf, 3, &["not signed by the authority in sslrootcert", "UnknownIssuer"]),
        (with(&wrong_authority, full, "sslmode=verify-ca"), 3, &["not signed by the authority in sslrootcert"]),
        (with(&without_root, full, "sslmode=disable"), 3, &["hostssl", "no encryption"]),
        (with(&plain.url(), "sslmode=disable", "sslmode=require"), 3, &["does not offer TLS", "ssl = on"]),
        (
            with(&plain.url(), "sslmode=disable", &format!("{full}&sslrootcert={}", authority(&stranger))),
            3,
            &["does not offer TLS"],
        ),
        (without_root.clone(), 2, &["need sslrootcert=FILE"]),
        (with(&url, full, "sslmode=require"), 2, &["only with sslmode=verify-full"]),
        (with(&url, full, "sslmode=allow"), 2, &["never use TLS"]),
        (format!("{url}&sslrotcert=x"), 2, &["no parameter \"sslrotcert\""]),
    ];
    for (address, code, phrases) in refused {
        let finished = look(&address).expect(code, phrases);
        assert!(!finished.text().contains(cluster.password()), "the password shows:\n{}", finished.text());
    }
    cluster.show_certificate_for("database.example");
    look(&url).expect(3, &["is for another name", "not valid for name"]);
    look(&with(&url, full, "sslmode=verify-ca")).expect(0, &["would apply"]);
}

#[test]
fn a_client_certificate_is_presented_where_it_is_demanded() {
    let cluster = Cluster::builder().tls(Tls::Required).start();
    let client = cluster.demand_client_certificates();
    let url = cluster.url();
    look(&url).expect(3, &["sslcert and sslkey", "client certificate"]);
    let (certificate, key) = (client.certificate.display(), client.key.display());
    look(&format!("{url}&sslcert={certificate}&sslkey={key}")).expect(0, &["would apply"]);
    look(&format!("{url}&sslcert={certificate}")).expect(2, &["together"]);
    std::process::Command::new("chmod").arg("644").arg(&client.key).status().expect("chmod runs");
    look(&format!("{url}&sslcert={certificate}&sslkey={key}")).expect(2, &["chmod 600"]);
}
