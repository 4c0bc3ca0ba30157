//! Objects and lists: every required member exactly once, no other ones, elements one at a time.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::error::Problem;
use super::path::Trail;

/// The members of one kind of object, as EIP-3076 defines it.
pub(super) struct Schema {
    /// What the object is, for messages.
    pub(super) what: &'static str,
    /// Members that must be there.
    pub(super) required: &'static [&'static str],
    /// A member that may be there.
    pub(super) optional: Option<&'static str>,
}

impl Schema {
    /// All members, each with a bit of its own.
    fn members(&self) -> impl Iterator<Item = (u32, &'static str)> {
        self.required.iter().copied().chain(self.optional).enumerate().map(|(index, name)| (1 << index, name))
    }
}

/// An object under construction.
pub(super) trait Build<'de>: Sized {
    /// What comes out.
    type Output;
    /// Its members.
    const SCHEMA: Schema;

    /// Reads the value of the member `name`, one of the schema's.
    fn member<A: MapAccess<'de>>(&mut self, name: &'static str, map: &mut A) -> Result<(), A::Error>;

    /// All required members are there.
    fn finish<E: Error>(self) -> Result<Self::Output, E>;
}

/// Reads an object into `build`.
pub(super) struct Object<'a, B> {
    pub(super) trail: &'a Trail,
    pub(super) build: B,
}

impl<'de, B: Build<'de>> DeserializeSeed<'de> for Object<'_, B> {
    type Value = B::Output;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<B::Output, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, B: Build<'de>> Visitor<'de> for Object<'_, B> {
    type Value = B::Output;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(B::SCHEMA.what)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<B::Output, A::Error> {
        let Self { trail, mut build } = self;
        let mut seen = 0_u32;
        while let Some((bit, name)) = map.next_key_seed(Name { trail, schema: &B::SCHEMA })? {
            if seen & bit != 0 {
                return Err(trail.fail(Problem::Twice(name)));
            }
            seen |= bit;
            trail.member(name, || build.member(name, &mut map))?;
        }
        match B::SCHEMA.members().take(B::SCHEMA.required.len()).find(|(bit, _)| seen & bit == 0) {
            Some((_, name)) => Err(trail.fail(Problem::Missing(name))),
            None => build.finish(),
        }
    }
}

/// Reads a member's name, and gives its bit with it.
struct Name<'a> {
    trail: &'a Trail,
    schema: &'a Schema,
}

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = (u32, &'static str);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = (u32, &'static str);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a member")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        let unknown = || self.trail.fail(Problem::Unknown { name: name.to_owned(), object: self.schema.what });
        self.schema.members().find(|(_, known)| *known == name).ok_or_else(unknown)
    }
}

/// Reads a list, handing each element to `each`, which must consume exactly one.
pub(super) struct List<'a, F> {
    pub(super) trail: &'a Trail,
    pub(super) expecting: &'static str,
    pub(super) each: F,
}

/// Reads one element of a list, if there is another one.
pub(super) trait Each<'de> {
    /// `false` at the end of the list.
    fn next<A: SeqAccess<'de>>(&mut self, list: &mut A) -> Result<bool, A::Error>;
}

impl<'de, F: Each<'de>> DeserializeSeed<'de> for List<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, F: Each<'de>> Visitor<'de> for List<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Self { trail, expecting: _, mut each } = self;
        let mut index = 0_u64;
        while trail.element(index, || each.next(&mut list))? {
            index = index.saturating_add(1);
        }
        Ok(())
    }
}
