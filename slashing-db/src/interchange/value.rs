//! Single values: numbers, public keys and roots, checked as they are read.

use std::fmt;

use holdfast_domain::root::parse_hex;
use holdfast_domain::{GenesisValidatorsRoot, PublicKey};
use serde::de::{DeserializeSeed, Deserializer, Error, Visitor};

use super::FORMAT_VERSION;
use super::error::Problem;
use super::path::Trail;

/// Largest integer that every JSON program keeps exactly: 2^53 - 1.
const MAX_EXACT_BARE: u64 = (1 << 53) - 1;

/// A slot or epoch: decimal text, as EIP-3076 says. A bare number is taken too, as long as no program on
/// the way can have rounded it.
#[derive(Clone, Copy)]
pub(super) struct Number<'a>(pub(super) &'a Trail);

impl<'de> DeserializeSeed<'de> for Number<'_> {
    type Value = u64;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u64, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Number<'_> {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number as text, such as \"123\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(self.0.fail(Problem::NotDecimal(text.to_owned())));
        }
        // Only digits are left, so the one thing that can fail is the size.
        text.parse().map_err(|_| self.0.fail(Problem::TooLarge(text.to_owned())))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<u64, E> {
        if number > MAX_EXACT_BARE { Err(self.0.fail(Problem::MaybeRounded(number))) } else { Ok(number) }
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<u64, E> {
        match u64::try_from(number) {
            Ok(number) => self.visit_u64(number),
            Err(_) => Err(self.0.fail(Problem::Negative(number))),
        }
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<u64, E> {
        Err(self.0.fail(Problem::NotWhole))
    }
}

/// A text that is turned into a value by a function.
#[derive(Clone, Copy)]
pub(super) struct Text<'a, T> {
    trail: &'a Trail,
    expecting: &'static str,
    parse: fn(&str) -> Result<T, Problem>,
}

impl<'de, T> DeserializeSeed<'de> for Text<'_, T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<T> Visitor<'_> for Text<'_, T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).map_err(|problem| self.trail.fail(problem))
    }
}

fn root(text: &str) -> Result<[u8; 32], Problem> {
    parse_hex::<32>(text).ok_or_else(|| Problem::Root(text.to_owned()))
}

/// A public key in any letter case, with or without `0x`.
pub(super) fn public_key(trail: &Trail) -> Text<'_, PublicKey> {
    let parse = |text: &str| text.parse().map_err(|_| Problem::PublicKey(text.to_owned()));
    Text { trail, expecting: "a public key as text", parse }
}

/// The genesis validators root.
pub(super) fn chain(trail: &Trail) -> Text<'_, GenesisValidatorsRoot> {
    Text { trail, expecting: "a root as text", parse: |text| root(text).map(GenesisValidatorsRoot) }
}

/// The format version, which can only be one.
pub(super) fn version(trail: &Trail) -> Text<'_, ()> {
    let parse = |text: &str| if text == FORMAT_VERSION { Ok(()) } else { Err(Problem::WrongVersion(text.to_owned())) };
    Text { trail, expecting: "the text \"5\"", parse }
}

/// A signing root or `null`. It is checked, because a damaged one means a damaged file, and then dropped:
/// a root that was not signed here never allows signing again.
#[derive(Clone, Copy)]
pub(super) struct OptionalRoot<'a>(pub(super) &'a Trail);

impl<'de> DeserializeSeed<'de> for OptionalRoot<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for OptionalRoot<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a root as text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        root(text).map(drop).map_err(|problem| self.0.fail(problem))
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
}
