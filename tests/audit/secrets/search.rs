//! Looks for secrets in whatever a program leaves behind, in every form in which they may stand there.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// A secret that was planted.
pub(super) struct Secret {
    name: &'static str,
    forms: Vec<(&'static str, Vec<u8>)>,
}

impl Secret {
    /// A secret of these bytes: as they are, in hex of either case, and in base64 wherever it begins.
    pub(super) fn new(name: &'static str, bytes: &[u8]) -> Self {
        assert!(bytes.len() >= 12, "{name} is too short to be looked for");
        let hex = hex::encode(bytes);
        let mut forms =
            vec![("raw", bytes.to_vec()), ("hex", hex.clone().into_bytes()), ("HEX", hex.to_uppercase().into_bytes())];
        // What stands before it in the same text shifts its base64; digits that depend on neighbours are left out.
        for before in 0..3 {
            let encoded = BASE64.encode([vec![0; before], bytes.to_vec()].concat());
            let begin = (before * 8).div_ceil(6);
            let end = (before + bytes.len()) * 8 / 6;
            forms.push(("base64", encoded.as_bytes()[begin..end].to_vec()));
        }
        Self { name, forms }
    }
}

/// What is found of the secrets in these bytes.
pub(super) fn found(secrets: &[Secret], bytes: &[u8]) -> Vec<String> {
    secrets
        .iter()
        .flat_map(|secret| secret.forms.iter().map(move |(kind, form)| (secret.name, *kind, form)))
        .filter(|(_, _, form)| holds(bytes, form))
        .map(|(name, kind, _)| format!("{name} ({kind})"))
        .collect()
}

/// Whether the bytes hold the form: the first byte decides most.
fn holds(bytes: &[u8], form: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some(place) = rest.iter().position(|byte| *byte == form[0]) {
        if rest[place..].starts_with(form) {
            return true;
        }
        rest = &rest[place + 1..];
    }
    false
}

/// Everything that was looked at, and what was found there.
#[derive(Default)]
pub(super) struct Findings {
    /// Places that were looked at.
    pub(super) places: usize,
    /// Bytes that were looked at.
    pub(super) bytes: usize,
    /// What was found, with the place.
    pub(super) leaks: Vec<String>,
}

impl Findings {
    /// Looks at some bytes.
    pub(super) fn look(&mut self, place: &str, secrets: &[Secret], bytes: &[u8]) {
        self.places += 1;
        self.bytes += bytes.len();
        self.leaks.extend(found(secrets, bytes).into_iter().map(|leak| format!("{place}: {leak}")));
    }

    /// Looks at every file below a folder, but for those whose path ends like one of `known`.
    pub(super) fn look_below(&mut self, folder: &Path, known: &[&str], secrets: &[Secret]) {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.display().to_string();
            if path.is_symlink() || known.iter().any(|known| name.ends_with(known)) {
                continue;
            }
            if path.is_dir() {
                self.look_below(&path, known, secrets);
            } else if path.is_file() {
                self.look(&name, secrets, &std::fs::read(&path).expect("a file"));
            }
        }
    }
}
