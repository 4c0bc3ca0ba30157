//! Mnemonics (BIP-39, English): made, checked, and what looks wrong in one that does not check.
//!
//! Guarantees: a [`Mnemonic`] has a right number of words, all of them from the list, and its checksum matches; it is
//! zeroed on drop and never printed. An error says *which* words, by their position, and repeats none of them: a
//! mnemonic is worth everything its keys are worth.

use std::fmt;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::error::KeystoreError;
use crate::seed::Seed;

/// The 2048 words of BIP-39, in order. Its SHA-256 is checked in a test.
const ENGLISH: &str = include_str!("english.txt");
/// Bits that a word stands for.
const WORD_BITS: usize = 11;
/// The first letters that tell every word of the list from the others (BIP-39, "Wordlist").
const TELLING_LETTERS: usize = 4;
/// Room for the longest: 24 words of 11 bits.
const BUFFER_BYTES: usize = 33;

/// How many words a new mnemonic has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WordCount {
    /// 128 bits of randomness.
    Twelve,
    /// 256 bits of randomness, as the deposit tools of Ethereum make them.
    TwentyFour,
}

impl WordCount {
    const fn entropy_bytes(self) -> usize {
        match self {
            Self::Twelve => 16,
            Self::TwentyFour => 32,
        }
    }
}

/// A mnemonic whose words and checksum are right.
///
/// ```compile_fail,E0277
/// # let mnemonic = eth2_keystore::Mnemonic::generate(eth2_keystore::WordCount::Twelve).ok().unwrap();
/// println!("{mnemonic:?}"); // secrets are never printed
/// ```
pub struct Mnemonic(Indices);

/// Positions of words in the list.
type Indices = Zeroizing<Vec<u16>>;

impl Mnemonic {
    /// A new one from the operating system's randomness.
    ///
    /// # Errors
    ///
    /// [`KeystoreError::Random`].
    pub fn generate(count: WordCount) -> Result<Self, KeystoreError> {
        let mut entropy = Zeroizing::new(vec![0; count.entropy_bytes()]);
        getrandom::fill(&mut entropy).map_err(KeystoreError::Random)?;
        Ok(Self(indices(&entropy)))
    }

    /// Reads one. Case and white space do not matter; the first four letters of a word are enough.
    ///
    /// # Errors
    ///
    /// [`MnemonicError`], with the positions of the words that look wrong.
    pub fn parse(text: &str) -> Result<Self, MnemonicError> {
        let found: Zeroizing<Vec<Option<u16>>> = Zeroizing::new(text.split_whitespace().map(index_of).collect());
        if !matches!(found.len(), 12 | 15 | 18 | 21 | 24) {
            return Err(MnemonicError::Length { words: found.len() });
        }
        let unknown = (1..).zip(found.iter()).filter(|(_, index)| index.is_none()).map(|(position, _)| position);
        let unknown = Positions(unknown.collect());
        if !unknown.0.is_empty() {
            return Err(MnemonicError::UnknownWords { positions: unknown });
        }
        let indices = Zeroizing::new(found.iter().copied().flatten().collect::<Vec<u16>>());
        if checks(&indices) { Ok(Self(indices)) } else { Err(MnemonicError::Checksum { suspects: suspects(&indices) }) }
    }

    /// Its words, in order.
    pub fn words(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.0.iter().map(|index| word(*index))
    }

    /// Its words with a space between, wiped when dropped.
    pub fn phrase(&self) -> Zeroizing<String> {
        let length = self.words().map(|word| word.len().saturating_add(1)).sum();
        let mut phrase = Zeroizing::new(String::with_capacity(length));
        for word in self.words() {
            if !phrase.is_empty() {
                phrase.push(' ');
            }
            phrase.push_str(word);
        }
        phrase
    }

    /// The seed of its key tree. The passphrase may be empty; another one is another tree.
    ///
    /// # Errors
    ///
    /// None in practice: the number of words is right.
    pub fn seed(&self, passphrase: &str) -> Result<Seed, KeystoreError> {
        Seed::from_mnemonic(&self.phrase(), passphrase)
    }
}

/// The words for random bytes, with their checksum.
fn indices(entropy: &[u8]) -> Indices {
    let mut bits = Zeroizing::new([0; BUFFER_BYTES]);
    let digest = Zeroizing::new(<[u8; 32]>::from(Sha256::digest(entropy)));
    for (to, from) in bits.iter_mut().zip(entropy.iter().chain(digest.iter().take(1))) {
        *to = *from;
    }
    // 32 bits and their bit of checksum are three words.
    let words = entropy.len().saturating_mul(3) / 4;
    let bit = |at: usize| bits.get(at / 8).map_or(0, |byte| u16::from(byte >> (7 - at % 8) & 1));
    let index = |word: usize| (0..WORD_BITS).fold(0, |index, at| index << 1 | bit(word * WORD_BITS + at));
    Zeroizing::new((0..words).map(index).collect())
}

/// Whether the checksum of words is right: made again from their bits, they are the same words.
fn checks(words: &[u16]) -> bool {
    let mut bits = Zeroizing::new([0_u8; BUFFER_BYTES]);
    for (number, word) in words.iter().enumerate() {
        for at in (0..WORD_BITS).filter(|at| word >> (WORD_BITS - 1 - at) & 1 == 1) {
            let place = number * WORD_BITS + at;
            if let Some(byte) = bits.get_mut(place / 8) {
                *byte |= 1 << (7 - place % 8);
            }
        }
    }
    let entropy = bits.get(..words.len().saturating_mul(4) / 3).unwrap_or_default();
    indices(entropy).as_slice() == words
}

fn word(index: u16) -> &'static str {
    ENGLISH.lines().nth(index.into()).unwrap_or_default()
}

fn index_of(text: &str) -> Option<u16> {
    let text = Zeroizing::new(text.to_lowercase());
    let short = text.len() == TELLING_LETTERS;
    let exact = ENGLISH.lines().position(|word| word == *text);
    let found = exact.or_else(|| ENGLISH.lines().position(|word| short && word.starts_with(text.as_str())));
    found.and_then(|index| u16::try_from(index).ok())
}

/// The words of which one, replaced by one that is spelt almost alike or exchanged with the next, makes the
/// checksum right.
fn suspects(words: &[u16]) -> Positions {
    let mut found = Vec::new();
    let mut tried = Zeroizing::new(words.to_vec());
    for (at, original) in words.iter().enumerate() {
        let alike = (0..=u16::MAX)
            .zip(ENGLISH.lines())
            .filter(|(index, other)| index != original && close(word(*original), other));
        let replaced = alike.map(|(index, _)| index).any(|index| {
            tried.iter_mut().skip(at).take(1).for_each(|place| *place = index);
            checks(&tried)
        });
        tried.copy_from_slice(words);
        let next = at.saturating_add(1);
        let exchanged = next < words.len() && {
            tried.swap(at, next);
            checks(&tried)
        };
        tried.copy_from_slice(words);
        if replaced || exchanged {
            found.push(next);
        }
    }
    Positions(found)
}

/// Whether one letter more, less or other makes one word of another.
fn close(a: &str, b: &str) -> bool {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let same = |a: &mut dyn Iterator<Item = (u8, u8)>| a.take_while(|(a, b)| a == b).count();
    let start = same(&mut short.bytes().zip(long.bytes()));
    let end = same(&mut short.bytes().rev().zip(long.bytes().rev()));
    long.len().saturating_sub(short.len()) <= 1
        && start.saturating_add(end) >= short.len().saturating_sub(usize::from(short.len() == long.len()))
}

/// Places of words in a mnemonic, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Positions(Vec<usize>);

impl Positions {
    /// The places, ascending.
    pub fn as_slice(&self) -> &[usize] {
        &self.0
    }
}

impl fmt::Display for Positions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        match texts.split_last() {
            None => f.write_str("none"),
            Some((only, [])) => f.write_str(only),
            Some((last, others)) => write!(f, "{} and {last}", others.join(", ")),
        }
    }
}

/// Why a text is not a mnemonic. Never holds a word of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MnemonicError {
    /// Too few or too many words.
    #[error("the mnemonic has {words} words, BIP-39 allows 12, 15, 18, 21 or 24: check for missing or doubled words")]
    Length {
        /// Words found.
        words: usize,
    },
    /// Words that are not in the list.
    #[error("not a word of BIP-39's English list, by position: {positions}; check the spelling there")]
    UnknownWords {
        /// Which ones.
        positions: Positions,
    },
    /// All are words, but not together.
    #[error(
        "all words are in BIP-39's English list, but they do not belong together (the checksum differs); {}",
        guess(suspects)
    )]
    Checksum {
        /// Those of which one, mended, would make it right.
        suspects: Positions,
    },
}

fn guess(suspects: &Positions) -> String {
    match suspects.as_slice() {
        [] => "no single misspelt word explains it: compare every word, and their order, with what was written down"
            .to_owned(),
        [_] => format!("word {suspects} looks wrong: compare it, and its neighbour, with what was written down"),
        _ => format!("one of the words {suspects} looks wrong: compare them with what was written down"),
    }
}

#[cfg(test)]
mod tests {
    //! Proved here: the list is BIP-39's, words and entropy are the vectors of BIP-39, every single mistake is found
    //! or admitted, and no error repeats a word.

    use proptest::prelude::*;

    use super::*;

    /// Entropy and words: from the vectors of BIP-39.
    const VECTORS: [(&str, &str); 5] = [
        (
            "00000000000000000000000000000000",
            "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about",
        ),
        (
            "7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f",
            "legal winner thank year wave sausage worth useful legal winner thank yellow",
        ),
        (
            "808080808080808080808080808080808080808080808080",
            "letter advice cage absurd amount doctor acoustic avoid letter advice cage absurd amount doctor acoustic avoid letter always",
        ),
        (
            "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
            "zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo vote",
        ),
        (
            "68a79eaca2324873eacc50cb9c6eca8cc68ea5d936f98787c60c7ebc74e6ce7c",
            "hamster diagram private dutch cause delay private meat slide toddler razor book happy fancy gospel tennis maple dilemma loan word shrug inflict delay length",
        ),
    ];

    #[test]
    fn the_list_is_the_one_of_bip_39() {
        let digest = hex::encode(Sha256::digest(ENGLISH.as_bytes()));
        assert_eq!(digest, "2f5eed53a4727b4bf8880d8f3f199efc90e58503646d9ff8eff3a2ed3b24dbda");
        assert_eq!(ENGLISH.lines().count(), 2048);
    }

    #[test]
    fn vectors_go_both_ways() {
        for (entropy, phrase) in VECTORS {
            let made = Mnemonic(indices(&hex::decode(entropy).unwrap()));
            assert_eq!(made.phrase().as_str(), phrase);
            let read = Mnemonic::parse(phrase).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(read.phrase().as_str(), phrase);
            let short = phrase.split(' ').map(|word| word[..word.len().min(4)].to_uppercase()).collect::<Vec<_>>();
            let read = Mnemonic::parse(&format!("\n {}\t", short.join("\n"))).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(read.phrase().as_str(), phrase);
        }
    }

    fn error(text: &str) -> MnemonicError {
        Mnemonic::parse(text).err().expect("refused")
    }

    #[test]
    fn what_looks_wrong_is_named_by_position_and_never_repeated() {
        let (_, good) = VECTORS[4];
        assert_eq!(error(&good[..good.len() - 7]), MnemonicError::Length { words: 23 });
        let unknown = error(&good.replacen("hamster", "hamstre", 1).replacen("shrug", "shrugs", 1));
        assert_eq!(unknown, MnemonicError::UnknownWords { positions: Positions(vec![1, 21]) });
        // "word" for "world", two neighbours exchanged, and something that nothing explains.
        let alike = error(&good.replacen("word", "world", 1));
        let MnemonicError::Checksum { suspects } = &alike else { panic!("{alike}") };
        assert!(suspects.as_slice().contains(&20), "{alike}");
        let exchanged = error(&good.replacen("hamster diagram", "diagram hamster", 1));
        let MnemonicError::Checksum { suspects } = &exchanged else { panic!("{exchanged}") };
        assert!(suspects.as_slice().contains(&1), "{exchanged}");
        for error in [unknown, alike, exchanged] {
            let text = error.to_string();
            assert!(good.split(' ').filter(|word| word.len() > 5).all(|word| !text.contains(word)), "{text}");
        }
        let other = error(&format!("{} zoo", &good[..good.len() - 7]));
        assert!(matches!(other, MnemonicError::Checksum { .. }), "{other}");
    }

    #[test]
    fn new_ones_differ_and_check() {
        for (count, words) in [(WordCount::Twelve, 12), (WordCount::TwentyFour, 24)] {
            let (a, b) = (Mnemonic::generate(count).unwrap(), Mnemonic::generate(count).unwrap());
            assert_ne!(a.phrase(), b.phrase());
            assert_eq!(Mnemonic::parse(&a.phrase()).ok().map(|read| read.words().count()), Some(words));
        }
    }

    #[test]
    fn words_that_are_spelt_almost_alike() {
        for (a, b) in [("word", "world"), ("cable", "table"), ("able", "cable"), ("art", "arm")] {
            assert!(close(a, b) && close(b, a), "{a} {b}");
        }
        for (a, b) in [("word", "wood "), ("abandon", "zoo"), ("hamster", "hammer"), ("word", "drow")] {
            assert!(!close(a, b) && !close(b, a), "{a} {b}");
        }
    }

    proptest! {
        #[test]
        fn any_entropy_survives(entropy in prop_oneof![
            proptest::collection::vec(any::<u8>(), 16), proptest::collection::vec(any::<u8>(), 20),
            proptest::collection::vec(any::<u8>(), 28), proptest::collection::vec(any::<u8>(), 32),
        ]) {
            let made = Mnemonic(indices(&entropy));
            let read = Mnemonic::parse(&made.phrase());
            prop_assert_eq!(read.ok().map(|read| read.phrase()), Some(made.phrase()));
        }

        #[test]
        fn no_text_panics(text in "([a-z]{3,8} ){0,26}|.{0,60}") {
            let _ = Mnemonic::parse(&text);
        }
    }
}
