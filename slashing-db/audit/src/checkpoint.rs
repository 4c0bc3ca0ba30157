//! Checkpoints: the end of a chain, signed.
//!
//! A checkpoint is a *signed note* (the C2SP `signed-note` format, with Ed25519 signatures): plain text, an empty
//! line, and a line with the signer's name, the first four bytes of the key's hash, and the signature. The text is
//!
//! ```text
//! holdfast/<instance>        the chain: 32 hexadecimal digits
//! <number>                   number of the last batch
//! <hash>                     its hash, base64
//! time <milliseconds>        when it was signed, Unix time
//! ```
//!
//! in the lines and order of the C2SP `tlog-checkpoint` format. Its hash is that of a chain, not of a tree: each batch
//! hash covers all batches before it.
//!
//! Guarantees: what [`VerifyingKey::verify`] accepts was signed by whoever has the key, for that chain, number and
//! hash; a note is read only if it is written exactly as here.

use core::fmt;
use core::str::FromStr;

use aws_lc_rs::encoding::AsBigEndian as _;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use holdfast_domain::UnixMillis;
use holdfast_domain::root::parse_hex;
use holdfast_slashing_db::CallerId;
use holdfast_slashing_db::journal::{Event, EventKind, Hash, Head, InstanceId};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::line::CHECKPOINT_KIND;

/// How every name of a chain begins.
const ORIGIN: &str = "holdfast/";
/// Byte of the signed-note format for Ed25519.
const ED25519_NOTE: u8 = 1;
/// What begins the line of a signature: an em dash and a space.
const SIGNATURE: &str = "\u{2014} ";

/// What a message of a log collector with a checkpoint holds.
const LOG_MARK: &str = "holdfast-checkpoint ";
/// What comes before the note in it.
const LOG_NOTE: &str = " note=";

/// What is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// Whose chain.
    pub instance: InstanceId,
    /// The last batch.
    pub head: Head,
    /// When it was signed.
    pub time: UnixMillis,
}

impl Checkpoint {
    /// The text that is signed.
    fn text(&self) -> String {
        let hash = BASE64.encode(self.head.hash.0);
        format!("{ORIGIN}{}\n{}\n{hash}\ntime {}\n", self.instance, self.head.seq, self.time.0)
    }

    /// Reads the text back.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.split('\n');
        let instance = InstanceId(parse_hex(lines.next()?.strip_prefix(ORIGIN)?)?);
        let seq = lines.next()?.parse().ok()?;
        let hash = Hash(BASE64.decode(lines.next()?).ok()?.try_into().ok()?);
        let time = UnixMillis(lines.next()?.strip_prefix("time ")?.parse().ok()?);
        let read = Self { instance, head: Head { seq, hash }, time };
        (read.text() == text).then_some(read)
    }
}

/// A checkpoint and its signature, which has not been verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    /// What is signed.
    pub checkpoint: Checkpoint,
    key: KeyHash,
    signature: [u8; 64],
}

/// The first four bytes of the hash of a key and its name.
type KeyHash = [u8; 4];

/// Why a text is not a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not a checkpoint: it must be a signed note as `holdfast audit checkpoint` prints it")]
pub struct NotACheckpoint;

impl SignedCheckpoint {
    /// The note, with the line break at its end.
    pub fn to_note(&self) -> String {
        let signed = BASE64.encode([self.key.as_slice(), &self.signature].concat());
        let text = self.checkpoint.text();
        format!("{text}\n{SIGNATURE}{ORIGIN}{} {signed}\n", self.checkpoint.instance)
    }

    /// Reads a note.
    ///
    /// # Errors
    /// [`NotACheckpoint`] unless it is written as [`Self::to_note`] writes it.
    pub fn from_note(note: &str) -> Result<Self, NotACheckpoint> {
        Self::parse(note).filter(|read| read.to_note() == note).ok_or(NotACheckpoint)
    }

    fn parse(note: &str) -> Option<Self> {
        let (text, signature) = note.split_once("\n\n")?;
        let checkpoint = Checkpoint::parse(&format!("{text}\n"))?;
        let (_, signed) = signature.strip_suffix('\n')?.rsplit_once(' ')?;
        let signed = BASE64.decode(signed).ok()?;
        let (key, signature) = signed.split_first_chunk()?;
        Some(Self { checkpoint, key: *key, signature: signature.try_into().ok()? })
    }

    /// Reads the notes of a file: one or more, one after the other.
    ///
    /// # Errors
    /// [`NotACheckpoint`] if anything else is in it, or nothing.
    pub fn all_from(text: &str) -> Result<Vec<Self>, NotACheckpoint> {
        let mut lines = text.lines().filter(|line| !line.is_empty()).peekable();
        let mut notes = Vec::new();
        while lines.peek().is_some() {
            let mut note = String::new();
            for place in 0..5 {
                let line = lines.next().ok_or(NotACheckpoint)?;
                note.push_str(if place == 4 { "\n" } else { "" });
                note.push_str(line);
                note.push('\n');
            }
            notes.push(Self::from_note(&note)?);
        }
        if notes.is_empty() { Err(NotACheckpoint) } else { Ok(notes) }
    }

    /// Reads the notes that a log collector wrote down: of each line with `holdfast-checkpoint`, what follows `note=`
    /// in base64. Other lines are left alone.
    ///
    /// # Errors
    /// [`NotACheckpoint`] if such a line holds none, or there is no such line.
    pub fn all_from_log(text: &str) -> Result<Vec<Self>, NotACheckpoint> {
        let mut notes = Vec::new();
        for line in text.lines().filter(|line| line.contains(LOG_MARK)) {
            let (_, note) = line.split_once(LOG_NOTE).ok_or(NotACheckpoint)?;
            // Whatever a collector puts around a message ends the base64: a space, or a quote of JSON.
            let digit = |letter: char| letter.is_ascii_alphanumeric() || "+/=".contains(letter);
            let end = note.find(|letter| !digit(letter)).unwrap_or(note.len());
            let note = BASE64.decode(note.split_at(end).0).map_err(|_| NotACheckpoint)?;
            notes.push(Self::from_note(core::str::from_utf8(&note).map_err(|_| NotACheckpoint)?)?);
        }
        if notes.is_empty() { Err(NotACheckpoint) } else { Ok(notes) }
    }

    /// The event that puts it into the chain.
    pub fn to_event(&self, by: &CallerId) -> Event {
        let head = self.checkpoint.head.seq;
        Event::new(self.checkpoint.time, by, EventKind::new(CHECKPOINT_KIND))
            .about(&format!("batch/{head}"))
            .detail(&BASE64.encode(self.to_note()))
    }

    /// The checkpoint that an event holds; `None` if it is another event.
    ///
    /// # Errors
    /// [`NotACheckpoint`] if it should hold one and does not.
    pub fn of_event(event: &Event) -> Option<Result<Self, NotACheckpoint>> {
        (event.kind().as_str() == CHECKPOINT_KIND).then(|| {
            let note = BASE64.decode(event.why()).map_err(|_| NotACheckpoint)?;
            Self::from_note(core::str::from_utf8(&note).map_err(|_| NotACheckpoint)?)
        })
    }

    /// Whether this key may have signed it, by the hash in the note.
    pub fn names(&self, key: &VerifyingKey) -> bool {
        self.key == key.hash()
    }
}

/// The secret key that signs checkpoints of one chain.
pub struct CheckpointKey {
    pair: Ed25519KeyPair,
    instance: InstanceId,
}

impl fmt::Debug for CheckpointKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CheckpointKey").field(&self.instance).finish()
    }
}

/// The seed is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the seed of the checkpoint key is not usable")]
pub struct BadSeed;

impl CheckpointKey {
    /// The key of a chain from its seed of 32 bytes.
    ///
    /// # Errors
    /// [`BadSeed`] if it is another number of bytes.
    pub fn from_seed(seed: &[u8], instance: InstanceId) -> Result<Self, BadSeed> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| BadSeed)?;
        Ok(Self { pair, instance })
    }

    /// The seed it came from, to be sealed again; wiped when dropped.
    ///
    /// # Errors
    /// [`BadSeed`] if the library does not give it out.
    pub fn seed(&self) -> Result<Zeroizing<[u8; 32]>, BadSeed> {
        let seed = self.pair.seed().and_then(|seed| seed.as_be_bytes()).map_err(|_| BadSeed)?;
        let mut bytes = Zeroizing::new([0; 32]);
        for (to, from) in bytes.iter_mut().zip(seed.as_ref()) {
            *to = *from;
        }
        Ok(bytes)
    }

    /// The public half.
    pub fn verifying_key(&self) -> VerifyingKey {
        let mut bytes = [0; 32];
        for (to, from) in bytes.iter_mut().zip(self.pair.public_key().as_ref()) {
            *to = *from;
        }
        VerifyingKey { instance: self.instance, bytes }
    }

    /// Signs the end of the chain.
    pub fn sign(&self, head: Head, time: UnixMillis) -> SignedCheckpoint {
        let checkpoint = Checkpoint { instance: self.instance, head, time };
        let mut signature = [0; 64];
        for (to, from) in signature.iter_mut().zip(self.pair.sign(checkpoint.text().as_bytes()).as_ref()) {
            *to = *from;
        }
        SignedCheckpoint { checkpoint, key: self.verifying_key().hash(), signature }
    }
}

/// The public key of a chain's checkpoints, written `holdfast/<instance>+<hash>+<key>` as a signed-note verifier key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifyingKey {
    instance: InstanceId,
    bytes: [u8; 32],
}

/// Why a text is not a checkpoint key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is not the public key of checkpoints: it must look like holdfast/<instance>+<hash>+<key>, as `holdfast audit key` prints it"
)]
pub struct NotAVerifyingKey;

impl VerifyingKey {
    /// Whose chain it signs.
    pub fn instance(&self) -> InstanceId {
        self.instance
    }

    fn hash(&self) -> KeyHash {
        let mut hash = Sha256::new();
        hash.update(format!("{ORIGIN}{}\n", self.instance));
        hash.update([ED25519_NOTE]);
        hash.update(self.bytes);
        let digest: [u8; 32] = hash.finalize().into();
        digest.first_chunk().copied().unwrap_or_default()
    }

    /// Whether this key signed that checkpoint, of its own chain.
    pub fn verify(&self, signed: &SignedCheckpoint) -> bool {
        let text = signed.checkpoint.text();
        signed.names(self)
            && signed.checkpoint.instance == self.instance
            && UnparsedPublicKey::new(&ED25519, self.bytes).verify(text.as_bytes(), &signed.signature).is_ok()
    }
}

impl fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = BASE64.encode([&[ED25519_NOTE], self.bytes.as_slice()].concat());
        write!(f, "{ORIGIN}{}+{}+{key}", self.instance, hex::encode(self.hash()))
    }
}

impl FromStr for VerifyingKey {
    type Err = NotAVerifyingKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let mut parts = text.splitn(3, '+');
            let instance = InstanceId(parse_hex(parts.next()?.strip_prefix(ORIGIN)?)?);
            let hash = parts.next()?;
            let key = BASE64.decode(parts.next()?).ok()?;
            let bytes = key.strip_prefix(&[ED25519_NOTE])?.try_into().ok()?;
            let read = Self { instance, bytes };
            (hash == hex::encode(read.hash())).then_some(read)
        };
        parse().ok_or(NotAVerifyingKey)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(seed: u8) -> CheckpointKey {
        CheckpointKey::from_seed(&[seed; 32], InstanceId([0xab; 16])).unwrap()
    }

    #[test]
    fn a_note_is_signed_and_read_back() {
        let head = Head { seq: 42, hash: Hash([7; 32]) };
        let signed = key(1).sign(head, UnixMillis(1_700_000_000_123));
        let note = signed.to_note();
        let lines: Vec<&str> = note.lines().collect();
        assert_eq!(lines[0], "holdfast/abababababababababababababababab");
        assert_eq!(lines[1..5], ["42", "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=", "time 1700000000123", ""]);
        assert!(lines[5].starts_with("— holdfast/abababababababababababababababab "));
        assert_eq!(SignedCheckpoint::from_note(&note), Ok(signed.clone()));
        assert!(key(1).verifying_key().verify(&signed));
        assert!(!key(2).verifying_key().verify(&signed));
        let event = signed.to_event(&CallerId::new("holdfast"));
        assert_eq!(SignedCheckpoint::of_event(&event), Some(Ok(signed.clone())));
        let two = format!("{note}\n{note}");
        assert_eq!(SignedCheckpoint::all_from(&two), Ok(vec![signed.clone(), signed]));
        for text in ["", "x", &note[1..], &note[..note.len() - 9]] {
            assert_eq!(SignedCheckpoint::all_from(text), Err(NotACheckpoint), "{text:?}");
        }
    }

    #[test]
    fn notes_are_found_in_a_log() {
        let signed = key(1).sign(Head { seq: 42, hash: Hash([7; 32]) }, UnixMillis(5));
        let note = BASE64.encode(signed.to_note());
        let message = format!("holdfast-checkpoint instance=ab batch=42 note={note}");
        let log =
            format!("Jul  1 host sshd: hello note=x\nJul  1 host holdfast {message}\n{{\"msg\":\"{message}\"}}\n");
        assert_eq!(SignedCheckpoint::all_from_log(&log), Ok(vec![signed.clone(), signed]));
        let changed = log.replace("note=", "note=A");
        for text in ["", "nothing", changed.as_str(), "holdfast-checkpoint batch=1"] {
            assert_eq!(SignedCheckpoint::all_from_log(text), Err(NotACheckpoint), "{text:?}");
        }
    }

    #[test]
    fn a_known_signature() {
        // RFC 8032, section 7.1, test 1: seed, public key. Other implementations must read our keys.
        let seed = hex::decode("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60").unwrap();
        let key = CheckpointKey::from_seed(&seed, InstanceId([0; 16])).unwrap().verifying_key();
        assert_eq!(hex::encode(key.bytes), "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
        assert_eq!(key.to_string().parse(), Ok(key));
    }

    #[test]
    fn a_public_key_in_another_form_is_refused() {
        let text = key(1).verifying_key().to_string();
        for wrong in ["", "holdfast/00+00+00", &text[..text.len() - 4], &text.replace("holdfast", "other")] {
            assert_eq!(wrong.parse::<VerifyingKey>(), Err(NotAVerifyingKey), "{wrong:?}");
        }
        assert_eq!(*key(7).seed().unwrap(), [7; 32]);
        assert!(CheckpointKey::from_seed(&[0; 31], InstanceId([0; 16])).is_err());
    }

    proptest! {
        #[test]
        fn no_changed_note_verifies(seq in any::<u64>(), hash in any::<[u8; 32]>(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
            let signed = key(1).sign(Head { seq, hash: Hash(hash) }, UnixMillis(5));
            let mut note = signed.to_note().into_bytes();
            let at = at.index(note.len());
            if note[at] != to {
                note[at] = to;
                let accepted = core::str::from_utf8(&note)
                    .ok()
                    .and_then(|note| SignedCheckpoint::from_note(note).ok())
                    .is_some_and(|read| key(1).verifying_key().verify(&read));
                prop_assert!(!accepted);
            }
        }
    }
}
