//! Web3Signer's file of known clients: `<common name> <SHA-256 fingerprint>` on each line; empty lines and those that
//! begin with `#` say nothing.

use std::collections::HashSet;
use std::path::Path;

use super::TlsError;
use crate::config::Fingerprint;

/// The clients of the file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct KnownClients(HashSet<(String, Fingerprint)>);

impl KnownClients {
    /// Reads the text; `path` is for messages.
    ///
    /// # Errors
    /// [`TlsError::KnownClient`] with the line.
    pub(super) fn parse(text: &str, path: &Path) -> Result<Self, TlsError> {
        let mut clients = HashSet::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = || TlsError::KnownClient {
                path: path.to_owned(),
                line: index.saturating_add(1),
                found: line.chars().take(80).collect(),
            };
            let (name, fingerprint) = line.rsplit_once(char::is_whitespace).ok_or_else(wrong)?;
            clients.insert((name.trim_end().to_owned(), fingerprint.parse().map_err(|_| wrong())?));
        }
        Ok(Self(clients))
    }

    /// Whether a certificate with this name and fingerprint is known.
    pub(super) fn has(&self, common_name: Option<&str>, fingerprint: Fingerprint) -> bool {
        common_name.is_some_and(|name| self.0.contains(&(name.to_owned(), fingerprint)))
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    //! Proves: lines as Web3Signer's documentation has them, and which are refused.
    use super::*;

    #[test]
    fn lines() {
        let fingerprint = Fingerprint::of(b"x");
        let text =
            format!("# clients\n\nlighthouse {fingerprint}\n  teku vc\t{}\r\n", fingerprint.to_string().to_lowercase());
        let known = KnownClients::parse(&text, Path::new("k")).unwrap();
        assert!(known.has(Some("lighthouse"), fingerprint) && known.has(Some("teku vc"), fingerprint));
        assert!(!known.has(Some("prysm"), fingerprint) && !known.has(None, fingerprint));
        assert!(!known.has(Some("lighthouse"), Fingerprint::of(b"y")));
        for bad in ["lighthouse", &fingerprint.to_string(), "lighthouse AB:CD"] {
            let error = KnownClients::parse(&format!("\n{bad}\n"), Path::new("k")).unwrap_err();
            assert!(error.to_string().starts_with("k:2: expected"), "{error}");
        }
    }
}
