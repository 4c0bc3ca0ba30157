//! Cutting an object into its members without reading them, for objects whose form depends on
//! another member: `type` may come after the message, `version` after the data.

use core::fmt;
use std::borrow::Cow;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

use crate::error::WireError;

/// A JSON string or object key, borrowed from the body unless it contains escapes.
#[derive(Debug, Clone)]
pub(crate) struct Text<'de>(Cow<'de, str>);

impl Text<'_> {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> serde::Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Str;

        impl<'de> Visitor<'de> for Str {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }

        input.deserialize_str(Str)
    }
}

/// Reads a string member that was cut out of a body.
pub(crate) fn read_text<'de>(raw: &'de RawValue, path: &str) -> Result<Text<'de>, WireError> {
    serde_json::from_str(raw.get()).map_err(|_| WireError::Malformed {
        path: path.to_owned(),
        expected: "a string".into(),
        found: None,
    })
}

/// Chosen members of an object, cut out but not read; all others are skipped.
pub(crate) struct Members<'de, const N: usize> {
    names: &'static [&'static str; N],
    places: [Place<'de>; N],
}

#[derive(Clone, Copy)]
enum Place<'de> {
    Empty,
    Once(&'de RawValue),
    Repeated,
}

impl<'de, const N: usize> Members<'de, N> {
    /// Cuts up a whole body.
    pub(crate) fn of_body(body: &'de [u8], names: &'static [&'static str; N]) -> Result<Self, WireError> {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Err(WireError::Empty);
        }
        let mut input = serde_json::Deserializer::from_slice(body);
        let members = input.deserialize_map(Cut(names)).and_then(|members| input.end().map(|()| members));
        members.map_err(|error| match error.classify() {
            // The parser's own words name a position and never repeat the input.
            Category::Syntax | Category::Eof => WireError::NotJson { problem: error.to_string() },
            Category::Data | Category::Io => WireError::NotJson { problem: "expected one JSON object".to_owned() },
        })
    }

    /// Cuts up a member of a body.
    pub(crate) fn of_member(
        raw: &'de RawValue,
        path: &str,
        names: &'static [&'static str; N],
    ) -> Result<Self, WireError> {
        let mut input = serde_json::Deserializer::from_str(raw.get());
        input.deserialize_map(Cut(names)).map_err(|_| WireError::Malformed {
            path: path.to_owned(),
            expected: "an object".into(),
            found: None,
        })
    }

    /// The member, `None` if it is absent or null.
    ///
    /// # Errors
    /// [`WireError::Repeated`] if it stands there more than once.
    pub(crate) fn get(&self, name: &'static str) -> Result<Option<&'de RawValue>, WireError> {
        let place = self.names.iter().zip(&self.places).find(|(known, _)| **known == name).map(|(_, place)| *place);
        match place {
            Some(Place::Once(raw)) if raw.get() != "null" => Ok(Some(raw)),
            Some(Place::Repeated) => Err(WireError::Repeated { path: name.to_owned() }),
            Some(Place::Once(_) | Place::Empty) | None => Ok(None),
        }
    }
}

struct Cut<const N: usize>(&'static [&'static str; N]);

impl<'de, const N: usize> Visitor<'de> for Cut<N> {
    type Value = Members<'de, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut places = [Place::Empty; N];
        while let Some(name) = map.next_key::<Text<'de>>()? {
            let known = self.0.iter().zip(&mut places).find(|(known, _)| **known == name.as_str());
            match known {
                Some((_, place)) => {
                    let raw = map.next_value::<&'de RawValue>()?;
                    *place = match place {
                        Place::Empty => Place::Once(raw),
                        Place::Once(_) | Place::Repeated => Place::Repeated,
                    };
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Members { names: self.0, places })
    }
}
