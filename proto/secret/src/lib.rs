//! Texts that must not be shown: passwords, tokens, headers, and addresses with credentials in them.
//!
//! Why it exists: a secret leaks where nobody thinks of it: a `{:?}` in an error, a configuration that is printed, a
//! status that is serialised. One type for all of them makes each of these show something else.
//!
//! What it guarantees: `Debug`, `Display` and `Serialize` of a [`Redacted`] never show the secret, nor does the error
//! of a value that is no text; it is erased when dropped; two are compared in constant time. Only [`Redacted::expose`]
//! gives it out, so a search for that word finds every place that uses a secret.
//!
//! Keys of validators and passphrases of keystores are not texts of this kind: they are in locked memory
//! (`holdfast_enclave`), and cannot be printed at all.

use core::fmt;
use core::marker::PhantomData;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// What stands where a secret is.
const HIDDEN: &str = "***";
/// A part of a path this long may be the key of an account: nobody types one.
const LONG_SEGMENT: usize = 16;

/// What of a secret may be shown.
pub trait Shown {
    /// Writes it.
    ///
    /// # Errors
    /// Those of the writer.
    fn show(secret: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result;
}

/// Nothing may be shown: a password, a token, the value of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nothing {}

/// An address: scheme, host, port, and what of the path cannot be the key of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Address {}

/// An address whose path is a secret, as that of a webhook: scheme, host and port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {}

/// A password, a token, the value of a header.
pub type SecretText = Redacted<Nothing>;
/// The address of a server, with or without credentials in it.
pub type SecretUrl = Redacted<Address>;
/// The address of a webhook: who knows its path may use it.
pub type SecretLink = Redacted<Host>;

/// A text with a secret in it.
pub struct Redacted<S = Nothing> {
    text: Zeroizing<String>,
    shown: PhantomData<fn() -> S>,
}

impl<S> Redacted<S> {
    /// Takes the text.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: Zeroizing::new(text.into()), shown: PhantomData }
    }

    /// What a file holds, without one line break at its end.
    pub fn of_file(text: String) -> Self {
        let text = Zeroizing::new(text);
        let line = text.strip_suffix('\n').unwrap_or(&text);
        Self::new(line.strip_suffix('\r').unwrap_or(line))
    }

    /// The secret: for using it, never for showing it.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.text.len()
    }
}

impl<S> Default for Redacted<S> {
    fn default() -> Self {
        Self::new(String::new())
    }
}

impl<S> Clone for Redacted<S> {
    fn clone(&self) -> Self {
        Self::new(self.expose())
    }
}

impl<S> PartialEq for Redacted<S> {
    /// Takes as long whatever the bytes are; a different length shows.
    fn eq(&self, other: &Self) -> bool {
        self.text.as_bytes().ct_eq(other.text.as_bytes()).into()
    }
}

impl<S> Eq for Redacted<S> {}

impl<S: Shown> fmt::Display for Redacted<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        S::show(&self.text, f)
    }
}

impl<S: Shown> fmt::Debug for Redacted<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        S::show(&self.text, f)
    }
}

impl<S: Shown> Serialize for Redacted<S> {
    fn serialize<T: Serializer>(&self, serializer: T) -> Result<T::Ok, T::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, S> Deserialize<'de> for Redacted<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // What a parser says about a wrong value quotes it.
        let text = String::deserialize(deserializer);
        text.map(Self::new).map_err(|_| serde::de::Error::custom("expected a text (what is there is not shown)"))
    }
}

impl Shown for Nothing {
    fn show(_: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl Shown for Address {
    fn show(secret: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = Parts::of(secret);
        parts.show_host(f)?;
        if parts.scheme == "sqlite" {
            return f.write_str(parts.path);
        }
        for (place, segment) in parts.path.split('/').enumerate() {
            let shown = if segment.len() < LONG_SEGMENT { segment } else { HIDDEN };
            write!(f, "{}{shown}", if place == 0 { "" } else { "/" })?;
        }
        if parts.more { write!(f, "?{HIDDEN}") } else { Ok(()) }
    }
}

impl Shown for Host {
    fn show(secret: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = Parts::of(secret);
        parts.show_host(f)?;
        if parts.path.len() > 1 || parts.more { write!(f, "/{HIDDEN}") } else { Ok(()) }
    }
}

/// An address in parts. Lenient: whatever could be a user or a password is taken for one.
struct Parts<'a> {
    scheme: &'a str,
    /// Between the scheme and the rest.
    separator: &'static str,
    credentials: bool,
    host: &'a str,
    /// With the slash at its beginning.
    path: &'a str,
    /// A query or a fragment.
    more: bool,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Self {
        let (scheme, separator, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (scheme, "://", rest),
            None => match text.strip_prefix("sqlite:") {
                Some(path) => ("sqlite", ":", path),
                None => ("", "", text),
            },
        };
        if scheme == "sqlite" {
            return Self { scheme, separator, credentials: false, host: "", path: rest, more: false };
        }
        // A password may hold any of / ? # by mistake, so all before the last @ is hidden.
        let (credentials, rest) = rest.rsplit_once('@').map_or((false, rest), |(_, rest)| (true, rest));
        let (rest, more) = rest.find(['?', '#']).map_or((rest, false), |end| (rest.split_at(end).0, true));
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        Self { scheme, separator, credentials, host, path, more }
    }

    fn show_host(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let credentials = if self.credentials { "***@" } else { "" };
        write!(f, "{}{}{credentials}{}", self.scheme, self.separator, self.host)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All the ways in which it can be shown.
    fn shown<S: Shown>(secret: &Redacted<S>) -> String {
        format!("{secret} {secret:?} {secret:#?} {} {:?}", serde_json::to_string(secret).unwrap(), Some(secret))
    }

    #[test]
    fn nothing_of_a_password_is_shown() {
        let secret = SecretText::new("hunter2");
        assert!(!shown(&secret).contains("hunter2"), "{}", shown(&secret));
        assert_eq!((secret.to_string().as_str(), secret.expose(), secret.len()), ("***", "hunter2", 7));
        assert!(secret == SecretText::new("hunter2") && secret != SecretText::new("hunter3"));
        assert!(secret != SecretText::new("hunter") && !secret.is_empty() && SecretText::default().is_empty());
        assert_eq!(SecretText::of_file("s.abc\r\n".to_owned()).expose(), "s.abc");
        assert_eq!(SecretText::of_file("s.abc\n\n".to_owned()).expose(), "s.abc\n");
    }

    #[test]
    fn of_an_address_only_what_is_no_secret() {
        for (url, wanted) in [
            ("http://node:5052/x", "http://node:5052/x"),
            ("http://user:hunter2@node:5052/x?token=abc", "http://***@node:5052/x?***"),
            ("http://u:p@ss@host/", "http://***@host/"),
            ("postgres://u:p/hunter2?x@host/db", "postgres://***@host/db"),
            ("https://host/v3/0123456789abcdef0123", "https://host/v3/***"),
            ("https://host/a#frag", "https://host/a?***"),
            ("sqlite:/var/lib/a-very-long-name-of-a-file.db", "sqlite:/var/lib/a-very-long-name-of-a-file.db"),
            ("u:hunter2@host", "***@host"),
        ] {
            assert_eq!(SecretUrl::new(url).to_string(), wanted);
        }
        for (url, wanted) in [
            ("https://hooks.example/services/T0/B0/short", "https://hooks.example/***"),
            ("https://u:p@hooks.example:8443", "https://***@hooks.example:8443"),
            ("https://hooks.example?key=1", "https://hooks.example/***"),
        ] {
            assert_eq!(SecretLink::new(url).to_string(), wanted);
        }
    }

    #[test]
    fn a_value_that_is_no_text_is_not_quoted() {
        let error = serde_json::from_str::<SecretText>("918273645").unwrap_err().to_string();
        assert!(!error.contains("918273645"), "{error}");
        assert_eq!(serde_json::from_str::<SecretText>("\"a\"").unwrap().expose(), "a");
    }

    proptest! {
        #[test]
        fn no_password_in_an_address_is_shown(
            password in "[!-~]{8,24}", host in "[a-z]{1,8}", path in "(/[a-z]{0,8}){0,3}",
        ) {
            // What is a part of host or path by chance would be shown there.
            prop_assume!(!format!("postgres://***@{host}{path}?***").contains(&password));
            for url in [format!("postgres://u:{password}@{host}{path}"), format!("http://{host}{path}?key={password}")] {
                // A second @ in the query begins a host for whoever is lenient; it ends in one here.
                prop_assume!(!url.contains("?key=") || !password.contains('@'));
                prop_assert!(!shown(&SecretUrl::new(url.as_str())).contains(&password), "{}", SecretUrl::new(url));
            }
        }
    }
}
