//! The address of a server: read once, and checked so that the protection it asks for is the protection it gets.
//!
//! The driver ignores parameters it does not know, connects without TLS for `sslmode=allow`, and ignores a root
//! certificate in a mode that checks none. Here all of that is refused with what to write instead.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

/// Parameters that the driver acts on.
const PARAMETERS: [&str; 18] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

/// What an address asks for, or why it cannot be had. The problem never quotes a value that may be secret.
pub(super) fn read(url: &str) -> Result<PgConnectOptions, String> {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    for parameter in query.split(['&', '#']).filter(|parameter| !parameter.is_empty()) {
        let name = parameter.split_once('=').map_or(parameter, |(name, _)| name);
        if !PARAMETERS.contains(&name) && !name.starts_with("options[") {
            // What looks like a parameter is then a part of the password, most probably.
            if query.contains('@') {
                return Err("a ? stands before the @; in a user name or a password write %3F for ?, %2F for /, %23 \
                            for # and %40 for @, or put the password into database.password_file"
                    .to_owned());
            }
            return Err(format!(
                "there is no parameter {name:?}; TLS is set by sslmode, sslrootcert, sslcert and sslkey, and time-outs \
                 by database.connect_timeout_ms and database.statement_timeout_ms"
            ));
        }
    }
    let parsed: sqlx::Result<PgConnectOptions> = url.parse();
    let options = parsed.map_err(|error| match error.to_string() {
        text if text.contains("ssl_mode") => {
            "sslmode must be disable, prefer, require, verify-ca or verify-full".to_owned()
        }
        text => text,
    })?;
    check_tls(&options)?;
    Ok(options)
}

fn check_tls(options: &PgConnectOptions) -> Result<(), String> {
    let full = options.to_url_lossy();
    // The driver writes a file's name behind a word of its own.
    let file = |wanted: &str| {
        let found = full.query_pairs().find(|(name, _)| name == wanted);
        found.map(|(_, path)| path.strip_prefix("file: ").unwrap_or(&path).to_owned())
    };
    let (root, certificate, key) = (file("sslrootcert"), file("sslcert"), file("sslkey"));
    match (options.get_ssl_mode(), &root) {
        (PgSslMode::Allow, _) => {
            return Err("sslmode=allow would never use TLS here; write sslmode=verify-full&sslrootcert=FILE, or \
                        sslmode=disable if the connection needs none"
                .to_owned());
        }
        (PgSslMode::VerifyCa | PgSslMode::VerifyFull, None) => {
            return Err("sslmode=verify-ca and verify-full need sslrootcert=FILE, the certificate of the authority \
                        that signed the server's"
                .to_owned());
        }
        (PgSslMode::Disable | PgSslMode::Prefer | PgSslMode::Require, Some(_)) => {
            return Err("sslrootcert is checked only with sslmode=verify-full (or verify-ca); add that".to_owned());
        }
        (PgSslMode::VerifyCa | PgSslMode::VerifyFull, Some(root)) => check_file("sslrootcert", root)?,
        (PgSslMode::Disable | PgSslMode::Prefer | PgSslMode::Require, None) => {}
    }
    match (certificate, key) {
        (None, None) => Ok(()),
        (Some(certificate), Some(key)) => {
            check_file("sslcert", &certificate)?;
            check_file("sslkey", &key)?;
            check_private(&key)
        }
        (Some(_), None) | (None, Some(_)) => Err("sslcert and sslkey must be given together".to_owned()),
    }
}

fn check_file(parameter: &str, path: &str) -> Result<(), String> {
    if path.starts_with("-----BEGIN ") {
        return Err(format!("{parameter} must be the name of a file, not its content"));
    }
    let content = std::fs::read(path).map_err(|error| format!("{parameter}: {path} cannot be read: {error}"))?;
    if content.windows(11).any(|window| window == b"-----BEGIN ") {
        Ok(())
    } else {
        Err(format!("{parameter}: {path} is no PEM file; convert it with `openssl x509` or `openssl pkey`"))
    }
}

fn check_private(path: &str) -> Result<(), String> {
    let mode = std::fs::metadata(path).map_err(|error| format!("sslkey: {path} cannot be read: {error}"))?.mode();
    if mode.trailing_zeros() >= 6 {
        Ok(())
    } else {
        Err(format!("sslkey: others may use {path}; run: chmod 600 {path}"))
    }
}

/// Whether somebody on the way could answer in the server's place, or listen.
pub(super) fn is_exposed(options: &PgConnectOptions) -> bool {
    let local = options.get_socket().is_some()
        || options.get_host() == "localhost"
        || options.get_host().starts_with('/')
        || options.get_host().trim_matches(['[', ']']).parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    !local && !matches!(options.get_ssl_mode(), PgSslMode::VerifyCa | PgSslMode::VerifyFull)
}

/// The address without credentials and parameters.
pub(super) fn plain(options: &PgConnectOptions) -> String {
    let place = match options.get_socket() {
        Some(socket) => Path::display(socket).to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    };
    format!("postgres://{place}/{}", options.get_database().unwrap_or_default())
}

/// What to do about a connection that could not be made.
pub(super) fn advice(error: &sqlx::Error) -> &'static str {
    let text = error.to_string();
    let code = match error {
        sqlx::Error::Database(error) => error.code().map(std::borrow::Cow::into_owned),
        _ => None,
    };
    match code.as_deref() {
        Some("28P01") => "the user or the password is wrong; check both, and database.password_file",
        Some("28000") => {
            "the server does not let this user in from here; check its pg_hba.conf: `hostssl` rules need \
             sslmode=verify-full, and `clientcert` or `cert` rules need sslcert and sslkey"
        }
        Some("3D000") => "there is no such database; make it with CREATE DATABASE",
        Some("42501") => {
            "the role lacks rights; make it the owner of the database, or of the schema holdfast in it with CREATE on the database"
        }
        Some("53300") => "all connections of the server are taken; raise its max_connections",
        Some("57P03") => "the server is starting or stopping; wait for it",
        _ if text.contains("saslprep") => {
            "the password holds a character that no password can hold, such as a line break; check database.password_file"
        }
        _ if text.contains("does not support TLS") => {
            "the server does not offer TLS; set ssl = on in its postgresql.conf, or use another sslmode"
        }
        // Another authority; the second if it has the same name.
        _ if text.contains("UnknownIssuer") || text.contains("BadSignature") => {
            "its certificate was not signed by the authority in sslrootcert; name the certificate of the one that did"
        }
        _ if text.contains("not valid for name") => {
            "its certificate is for another name; connect by a name in the certificate, or have one made for this name"
        }
        _ if text.contains("invalid peer certificate") => "its certificate is not valid; have a new one made",
        _ => "check that the server runs and is reached there, and the user, password and TLS settings",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_promise_more_than_they_hold_are_refused() {
        let refused = [
            ("postgres://u@h/db?sslmode=allow", "never use TLS"),
            ("postgres://u@h/db?sslmode=verify-full", "need sslrootcert"),
            ("postgres://u@h/db?sslmode=require&sslrootcert=/etc/hosts", "only with sslmode=verify-full"),
            ("postgres://u@h/db?sslrootcert=/etc/hosts", "only with sslmode=verify-full"),
            ("postgres://u@h/db?sslmode=verify-full&sslrootcert=/etc/hosts", "no PEM file"),
            (
                "postgres://u@h/db?sslmode=verify-full&sslrootcert=/nowhere/ca%20x.crt",
                "/nowhere/ca x.crt cannot be read",
            ),
            ("postgres://u@h/db?sslcert=/etc/hosts", "together"),
            ("postgres://u@h/db?sslmode=full", "sslmode must be"),
            ("postgres://u:hunter2@h/db?passwort=hunter2", "no parameter \"passwort\""),
            ("postgres://u:x?hunter2@h/db", "%3F for ?"),
            ("postgres://u:hunter2@h/db?connect_timeout=5", "database.connect_timeout_ms"),
        ];
        for (url, part) in refused {
            let problem = read(url).unwrap_err();
            assert!(problem.contains(part) && !problem.contains("hunter2"), "{url}: {problem}");
        }
        for url in ["postgres://u@h/db", "postgres://u@h/db?sslmode=require", "postgres://u@h/db?options[a]=b&port=1"] {
            assert!(read(url).is_ok(), "{url}");
        }
    }

    #[test]
    fn a_server_elsewhere_without_a_checked_certificate_is_exposed() {
        for (url, exposed) in [
            ("postgres://u@db.example/db", true),
            ("postgres://u@db.example/db?sslmode=require", true),
            ("postgres://u@192.0.2.1/db?sslmode=disable", true),
            ("postgres://u@127.0.0.1/db", false),
            ("postgres://u@[::1]/db", false),
            ("postgres://u@localhost/db?sslmode=disable", false),
            ("postgres://u@%2Frun%2Fpostgresql/db", false),
        ] {
            assert_eq!(is_exposed(&url.parse().unwrap()), exposed, "{url}");
        }
    }
}
