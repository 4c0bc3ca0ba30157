//! The address of Web3Signer's database, from JDBC's form to PostgreSQL's own.
//!
//! Guarantees: the password never stands in the address; a parameter that is not understood is refused rather than
//! dropped, because some of them decide whether the server is verified.

use holdfast_secret::SecretText;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// An address that `slashing import --from-web3signer` takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseAddress {
    /// `postgres://user@host:port/database?…`, without a password.
    pub url: String,
    /// The password, if one was given.
    pub password: Option<SecretText>,
}

/// Why an address is not understood. The address is not shown: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not JDBC's form for PostgreSQL.
    #[error("the address of the database is not of the form jdbc:postgresql://host:port/database; correct it")]
    Form,
    /// Several hosts, of which the primary is not known.
    #[error("the address of the database names several hosts; name the primary alone")]
    SeveralHosts,
    /// A parameter that has no counterpart.
    #[error("the address of the database has a parameter that is not known here; leave it out if it is not about TLS")]
    Parameter,
    /// The server was not verified because of a class of JDBC's.
    #[error("the address of the database sets sslfactory; use sslmode=verify-full and sslrootcert instead")]
    Factory,
}

/// Turns `jdbc:postgresql://…`, with the user and the password given beside it, into an address of PostgreSQL's own
/// form. What stands beside it wins over what stands in it, as in Web3Signer.
///
/// # Errors
/// [`AddressError`].
pub fn database_address(
    jdbc: &SecretText,
    user: Option<&str>,
    password: Option<&SecretText>,
) -> Result<DatabaseAddress, AddressError> {
    let rest = jdbc.expose().strip_prefix("jdbc:postgresql://").ok_or(AddressError::Form)?;
    let (place, parameters) = rest.split_once('?').map_or((rest, None), |(place, rest)| (place, Some(rest)));
    let (host, database) = place.split_once('/').unwrap_or((place, ""));
    if host.contains(',') {
        return Err(AddressError::SeveralHosts);
    }
    // JDBC has no user in front of the host; a host has none of these.
    if host.is_empty() || database.contains('/') || host.contains(['@', '#', ' ', '%']) || database.contains(['#', ' '])
    {
        return Err(AddressError::Form);
    }
    let mut user = user.map(encoded);
    let mut password = password.cloned();
    let mut kept = Vec::new();
    for parameter in parameters.into_iter().flat_map(|text| text.split('&')).filter(|text| !text.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match name {
            "user" => {
                let inside = decoded(value).ok_or(AddressError::Form)?;
                user = user.or_else(|| Some(encoded(inside.expose())));
            }
            "password" => {
                if password.is_none() {
                    password = Some(decoded(value).ok_or(AddressError::Form)?);
                }
            }
            _ if value.contains(['#', '?', ' ']) => return Err(AddressError::Form),
            "sslmode" | "sslrootcert" | "sslcert" => kept.push(format!("{name}={value}")),
            "ssl" if matches!(value, "" | "true") => kept.push("sslmode=verify-full".to_owned()),
            "ssl" if value == "false" => kept.push("sslmode=prefer".to_owned()),
            "sslfactory" => return Err(AddressError::Factory),
            // How long to wait, and what programs call themselves: settings of this side's own.
            "socketTimeout"
            | "connectTimeout"
            | "loginTimeout"
            | "tcpKeepAlive"
            | "ApplicationName"
            | "prepareThreshold"
            | "reWriteBatchedInserts" => {}
            _ => return Err(AddressError::Parameter),
        }
    }
    // Which of two modes holds is not guessed.
    if kept.iter().filter(|text| text.starts_with("sslmode=")).count() > 1 {
        return Err(AddressError::Parameter);
    }
    let user = user.map(|user| format!("{user}@")).unwrap_or_default();
    let query = if kept.is_empty() { String::new() } else { format!("?{}", kept.join("&")) };
    Ok(DatabaseAddress { url: format!("postgres://{user}{host}/{database}{query}"), password })
}

/// Percent-encodes a user's name.
fn encoded(text: &str) -> String {
    /// All but the unreserved characters of RFC 3986.
    const RESERVED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    utf8_percent_encode(text, &RESERVED).to_string()
}

/// Undoes the encoding of a parameter, as Java does: `%xx`, and `+` for a space. `None` if it is none, or no text: a library
/// would take half an encoding as it is, and a password would be another one.
fn decoded(text: &str) -> Option<SecretText> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                let (high, low) = (digit()?, digit()?);
                (high << 4) | low
            }
            b'+' => b' ',
            other => other,
        });
    }
    String::from_utf8(bytes).ok().map(SecretText::new)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(jdbc: &str, user: Option<&str>) -> Result<DatabaseAddress, AddressError> {
        database_address(&SecretText::new(jdbc), user, None)
    }

    #[test]
    fn jdbc_becomes_postgresql() {
        let url = |jdbc, user| address(jdbc, user).unwrap().url;
        assert_eq!(url("jdbc:postgresql://h:5433/w", Some("a@b")), "postgres://a%40b@h:5433/w");
        assert_eq!(url("jdbc:postgresql://h/w?user=a@evil+b", None), "postgres://a%40evil%20b@h/w");
        assert_eq!(url("jdbc:postgresql://h/w?user=x&socketTimeout=5", None), "postgres://x@h/w");
        assert_eq!(url("jdbc:postgresql://h/w?user=x&ssl=true", Some("y")), "postgres://y@h/w?sslmode=verify-full");
        assert_eq!(
            url("jdbc:postgresql://[::1]:1/w?sslmode=verify-full&sslrootcert=ca.pem", None),
            "postgres://[::1]:1/w?sslmode=verify-full&sslrootcert=ca.pem"
        );
    }

    #[test]
    fn the_password_is_taken_out_and_the_one_beside_wins() {
        let jdbc = SecretText::new("jdbc:postgresql://h/w?user=x&password=p%26%C3%A4");
        let inside = database_address(&jdbc, None, None).unwrap();
        assert_eq!(inside.url, "postgres://x@h/w");
        assert_eq!(inside.password, Some(SecretText::new("p&ä")));
        let beside = database_address(&jdbc, None, Some(&SecretText::new("other"))).unwrap();
        assert_eq!(beside.password, Some(SecretText::new("other")));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (jdbc, error) in [
            ("postgres://h/w", AddressError::Form),
            ("jdbc:mysql://h/w", AddressError::Form),
            ("jdbc:postgresql:///w", AddressError::Form),
            ("jdbc:postgresql://u:hunter2@h/w", AddressError::Form),
            ("jdbc:postgresql://h/w?password=%zz", AddressError::Form),
            ("jdbc:postgresql://h/w?sslmode=disable#x", AddressError::Form),
            ("jdbc:postgresql://a,b/w", AddressError::SeveralHosts),
            ("jdbc:postgresql://h/w?currentSchema=x", AddressError::Parameter),
            ("jdbc:postgresql://h/w?ssl=true&sslmode=disable", AddressError::Parameter),
            ("jdbc:postgresql://h/w?sslfactory=org.postgresql.ssl.NonValidatingFactory", AddressError::Factory),
        ] {
            assert_eq!(address(jdbc, None), Err(error), "{jdbc}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(jdbc:postgresql://)?\\PC{0,40}") {
            let _ = address(&text, None);
        }

        #[test]
        fn passwords_survive_and_users_cannot_break_out(password in "\\PC{1,20}", user in "\\PC{1,20}") {
            let jdbc = SecretText::new(format!("jdbc:postgresql://h/w?password={}", encoded(&password)));
            let read = database_address(&jdbc, Some(&user), None).unwrap();
            prop_assert_eq!(read.password, Some(SecretText::new(password)));
            let inner = read.url.strip_prefix("postgres://").and_then(|rest| rest.strip_suffix("@h/w")).unwrap();
            prop_assert_eq!(decoded(inner), Some(SecretText::new(user)));
        }
    }
}
