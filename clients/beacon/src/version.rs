//! Which consensus client a node runs, from `node/version`.
//!
//! Why it exists: agreement of two different implementations is worth more than that of two copies of
//! one, because a fault of one client does not show in another.

use std::fmt;
use std::sync::Arc;

/// Longest version text kept.
const MAX_TEXT: usize = 128;

/// A consensus client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are the definition")]
pub enum Vendor {
    Lighthouse,
    Teku,
    Prysm,
    Lodestar,
    Nimbus,
    Grandine,
    Caplin,
    /// Not recognised. All such nodes count as one implementation.
    Other,
}

impl Vendor {
    /// Every vendor.
    pub const ALL: [Self; 8] = [
        Self::Lighthouse,
        Self::Teku,
        Self::Prysm,
        Self::Lodestar,
        Self::Nimbus,
        Self::Grandine,
        Self::Caplin,
        Self::Other,
    ];

    /// Name for labels and status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lighthouse => "lighthouse",
            Self::Teku => "teku",
            Self::Prysm => "prysm",
            Self::Lodestar => "lodestar",
            Self::Nimbus => "nimbus",
            Self::Grandine => "grandine",
            Self::Caplin => "caplin",
            Self::Other => "other",
        }
    }
}

/// A node's version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeVersion {
    /// Which client.
    pub vendor: Vendor,
    /// As the node says it, shortened, without control characters.
    pub text: Arc<str>,
}

impl NodeVersion {
    /// Reads the text of `node/version`, such as `Lighthouse/v8.0.1-abcdef/x86_64-linux`.
    pub fn parse(text: &str) -> Self {
        let clean: String = text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect();
        let product = clean.split(['/', ' ']).next().unwrap_or_default().to_ascii_lowercase();
        let vendor = Vendor::ALL
            .into_iter()
            .find(|vendor| *vendor != Vendor::Other && product.contains(vendor.as_str()))
            .unwrap_or(Vendor::Other);
        Self { vendor, text: clean.into() }
    }
}

impl fmt::Display for NodeVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_apart() {
        for (text, vendor) in [
            ("Lighthouse/v8.0.1-abc/x86_64-linux", Vendor::Lighthouse),
            ("teku/v25.12.0/linux-x86_64/-eclipseadoptium-openjdk64bitservervm-java-21", Vendor::Teku),
            ("Prysm/v7.1.0 (linux amd64)", Vendor::Prysm),
            ("Lodestar/v1.38.0/abc", Vendor::Lodestar),
            ("Nimbus/v25.11.0-abc-stateofus", Vendor::Nimbus),
            ("Grandine/2.0.0", Vendor::Grandine),
            ("erigon-caplin/3.2", Vendor::Caplin),
            ("NewClient/1 (like Teku)", Vendor::Other),
            ("", Vendor::Other),
        ] {
            assert_eq!(NodeVersion::parse(text).vendor, vendor, "{text}");
        }
        let hostile = NodeVersion::parse(&format!("a\u{1b}[31m\n{}", "x".repeat(1000)));
        assert!(!hostile.text.contains('\u{1b}') && hostile.text.len() <= MAX_TEXT);
    }
}
