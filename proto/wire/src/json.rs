//! Reading JSON objects straight into domain structs, with a path for every error.
//!
//! [`Wire`] is what `serde::Deserialize` would be for domain types (which know nothing of serde),
//! plus a [`Trail`] on which a failure leaves its path while it unwinds; the success path does not
//! touch the trail.
//!
//! Depth: unknown members are skipped without recursion, and no shape read here nests more than a
//! dozen levels (`serde_json` would stop at 128).

use core::fmt;
use core::marker::PhantomData;
use std::borrow::Cow;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::{Excerpt, WireError};

/// What an error says was expected.
pub(crate) type Expected = Cow<'static, str>;

/// A type with a JSON form in the API.
pub(crate) trait Wire: Sized {
    /// What the API wants here, for error messages.
    fn expected() -> Expected;

    /// The value of an absent member, if it may be absent.
    fn absent() -> Option<Self> {
        None
    }

    /// Reads the value; on failure may leave a more exact fault on the trail.
    fn read<'de, D: Deserializer<'de>>(input: D, trail: &mut Trail) -> Result<Self, D::Error>;
}

/// Where and why reading failed; stays empty while it succeeds.
#[derive(Default)]
pub(crate) struct Trail {
    /// Innermost first.
    steps: Vec<Step>,
    fault: Option<Fault>,
}

enum Step {
    Member(&'static str),
    Index(usize),
}

enum Fault {
    Malformed { expected: Expected, found: Option<Excerpt> },
    Missing { expected: Expected },
    Repeated,
}

impl Trail {
    /// Fails with what was expected and the start of what was found.
    pub(crate) fn reject<E: serde::de::Error>(&mut self, expected: Expected, found: Option<Excerpt>) -> E {
        self.fail(Fault::Malformed { expected, found })
    }

    fn fail<E: serde::de::Error>(&mut self, fault: Fault) -> E {
        self.fault.get_or_insert(fault);
        E::custom("see the trail")
    }

    /// The error, with `root` as the name of the outermost value.
    fn into_error(self, root: &str) -> WireError {
        let mut path = root.to_owned();
        for step in self.steps.iter().rev() {
            match step {
                Step::Member(name) => path.extend([".", name]),
                Step::Index(index) => path.extend(["[", &index.to_string(), "]"]),
            }
        }
        match self.fault {
            Some(Fault::Malformed { expected, found }) => WireError::Malformed { path, expected, found },
            Some(Fault::Missing { expected }) => WireError::Missing { path, expected },
            Some(Fault::Repeated) => WireError::Repeated { path },
            None => WireError::Malformed { path, expected: "a value of the remote signing API".into(), found: None },
        }
    }
}

/// Reads a `T` where serde asks for a seed.
pub(crate) struct Seed<'t, T> {
    trail: &'t mut Trail,
    value: PhantomData<T>,
}

impl<'t, T> Seed<'t, T> {
    pub(crate) fn new(trail: &'t mut Trail) -> Self {
        Self { trail, value: PhantomData }
    }
}

impl<'de, T: Wire> DeserializeSeed<'de> for Seed<'_, T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<T, D::Error> {
        let trail = self.trail;
        T::read(input, trail).inspect_err(|_| {
            trail.fault.get_or_insert_with(|| Fault::Malformed { expected: T::expected(), found: None });
        })
    }
}

/// Reads a value that was cut out of a body.
pub(crate) fn read<T: Wire>(raw: &RawValue, path: &str) -> Result<T, WireError> {
    let mut trail = Trail::default();
    let mut input = serde_json::Deserializer::from_str(raw.get());
    match Seed::<T>::new(&mut trail).deserialize(&mut input) {
        Ok(value) => Ok(value),
        Err(_) => Err(trail.into_error(path)),
    }
}

/// Reads the value of a member named `name` into `place`.
pub(crate) fn read_member<'de, A: MapAccess<'de>, T: Wire>(
    map: &mut A,
    place: &mut Option<T>,
    name: &'static str,
    trail: &mut Trail,
) -> Result<(), A::Error> {
    let outcome =
        if place.is_some() { Err(trail.fail(Fault::Repeated)) } else { map.next_value_seed(Seed::new(trail)) };
    match outcome {
        Ok(value) => {
            *place = Some(value);
            Ok(())
        }
        Err(error) => {
            trail.steps.push(Step::Member(name));
            Err(error)
        }
    }
}

/// The value of a member after the whole object was read.
pub(crate) fn require<T: Wire, E: serde::de::Error>(
    place: Option<T>,
    name: &'static str,
    trail: &mut Trail,
) -> Result<T, E> {
    place.or_else(T::absent).ok_or_else(|| {
        let error = trail.fail(Fault::Missing { expected: T::expected() });
        trail.steps.push(Step::Member(name));
        error
    })
}

/// Implements [`Wire`] for a struct whose fields are named like the members of its JSON object.
macro_rules! wire_object {
    ($($name:ident { $($field:ident),+ $(,)? })+) => {$(
        impl $crate::json::Wire for $name {
            fn expected() -> $crate::json::Expected {
                concat!("an object (", stringify!($name), ")").into()
            }

            fn read<'de, D: serde::Deserializer<'de>>(
                input: D,
                trail: &mut $crate::json::Trail,
            ) -> Result<Self, D::Error> {
                struct Object<'t>(&'t mut $crate::json::Trail);

                impl<'de> serde::de::Visitor<'de> for Object<'_> {
                    type Value = $name;

                    fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                        f.write_str("an object")
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<$name, A::Error> {
                        $(let mut $field = None;)+
                        while let Some(name) = map.next_key::<$crate::members::Text<'de>>()? {
                            match name.as_str() {
                                $(stringify!($field) => {
                                    $crate::json::read_member(&mut map, &mut $field, stringify!($field), self.0)?;
                                })+
                                _ => {
                                    map.next_value::<serde::de::IgnoredAny>()?;
                                }
                            }
                        }
                        Ok($name {
                            $($field: $crate::json::require($field, stringify!($field), self.0)?,)+
                        })
                    }
                }

                input.deserialize_map(Object(trail))
            }
        }
    )+};
}
pub(crate) use wire_object;

impl<T: Wire> Wire for Box<T> {
    fn expected() -> Expected {
        T::expected()
    }

    fn read<'de, D: Deserializer<'de>>(input: D, trail: &mut Trail) -> Result<Self, D::Error> {
        T::read(input, trail).map(Self::new)
    }
}

/// A member that may be absent or null.
impl<T: Wire> Wire for Option<T> {
    fn expected() -> Expected {
        T::expected()
    }

    fn absent() -> Option<Self> {
        Some(None)
    }

    fn read<'de, D: Deserializer<'de>>(input: D, trail: &mut Trail) -> Result<Self, D::Error> {
        struct Maybe<'t, T>(&'t mut Trail, PhantomData<T>);

        impl<'de, T: Wire> Visitor<'de> for Maybe<'_, T> {
            type Value = Option<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value or null")
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(None)
            }

            fn visit_none<E>(self) -> Result<Self::Value, E> {
                Ok(None)
            }

            fn visit_some<D: Deserializer<'de>>(self, input: D) -> Result<Self::Value, D::Error> {
                T::read(input, self.0).map(Some)
            }
        }

        input.deserialize_option(Maybe(trail, PhantomData))
    }
}

/// A list. Its length is bounded by the body: an element takes at least two bytes of it.
impl<T: Wire> Wire for Vec<T> {
    fn expected() -> Expected {
        format!("a list, each element {}", T::expected()).into()
    }

    fn read<'de, D: Deserializer<'de>>(input: D, trail: &mut Trail) -> Result<Self, D::Error> {
        read_list(input, trail, usize::MAX)
    }
}

/// Reads a list of at most `limit` elements.
pub(crate) fn read_list<'de, D: Deserializer<'de>, T: Wire>(
    input: D,
    trail: &mut Trail,
    limit: usize,
) -> Result<Vec<T>, D::Error> {
    struct List<'t, T> {
        trail: &'t mut Trail,
        limit: usize,
        element: PhantomData<T>,
    }

    impl<'de, T: Wire> Visitor<'de> for List<'_, T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
            let mut elements = Vec::new();
            loop {
                match list.next_element_seed(Seed::<T>::new(self.trail)) {
                    Ok(Some(_)) if elements.len() >= self.limit => {
                        return Err(A::Error::custom("the list is too long"));
                    }
                    Ok(Some(element)) => elements.push(element),
                    Ok(None) => return Ok(elements),
                    Err(error) => {
                        self.trail.steps.push(Step::Index(elements.len()));
                        return Err(error);
                    }
                }
            }
        }
    }

    input.deserialize_seq(List { trail, limit, element: PhantomData })
}
