//! Just enough of BER to read an envelope of KMS: definite and indefinite lengths, no more bytes than there are, and
//! nothing left over where a value ends.

use super::CmsError;

/// A reader over bytes that somebody else wrote.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

/// How long a value is.
enum Length {
    Definite(usize),
    /// Until two zero bytes where a value would begin.
    Indefinite,
}

/// Ends a value of indefinite length.
const END_OF_CONTENTS: [u8; 2] = [0, 0];
/// Bit of a tag: the value is made of values.
const CONSTRUCTED: u8 = 0x20;

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether nothing is left here: neither bytes nor, in a value of indefinite length, values.
    pub(super) fn is_at_end(&self) -> bool {
        self.rest.is_empty() || self.rest.starts_with(&END_OF_CONTENTS)
    }

    /// Nothing may follow.
    pub(super) fn finish(self) -> Result<(), CmsError> {
        if self.rest.is_empty() { Ok(()) } else { Err(CmsError::TrailingBytes) }
    }

    /// The tag that comes next, if there is any.
    pub(super) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// A value made of values, read by `read` to its end.
    pub(super) fn inside<T>(
        &mut self,
        tag: u8,
        read: impl FnOnce(&mut Self) -> Result<T, CmsError>,
    ) -> Result<T, CmsError> {
        debug_assert!(tag & CONSTRUCTED != 0, "a primitive value contains none");
        self.tag(tag)?;
        match self.length()? {
            Length::Definite(length) => {
                let mut inner = Self::new(self.take(length)?);
                let value = read(&mut inner)?;
                inner.finish()?;
                Ok(value)
            }
            Length::Indefinite => {
                let value = read(self)?;
                if self.take(END_OF_CONTENTS.len())? == END_OF_CONTENTS {
                    Ok(value)
                } else {
                    Err(CmsError::TrailingBytes)
                }
            }
        }
    }

    /// The bytes of a primitive value.
    pub(super) fn primitive(&mut self, tag: u8) -> Result<&'a [u8], CmsError> {
        self.tag(tag)?;
        match self.length()? {
            Length::Definite(length) => self.take(length),
            // X.690, 8.1.3.2: only for values made of values.
            Length::Indefinite => Err(CmsError::BadLength),
        }
    }

    /// A primitive value that can only be this.
    pub(super) fn exactly(&mut self, tag: u8, content: &[u8]) -> Result<(), CmsError> {
        if self.primitive(tag)? == content { Ok(()) } else { Err(CmsError::OtherAlgorithm) }
    }

    fn tag(&mut self, expected: u8) -> Result<(), CmsError> {
        match self.take(1)? {
            [found] if *found == expected => Ok(()),
            _ => Err(CmsError::OtherShape),
        }
    }

    fn length(&mut self) -> Result<Length, CmsError> {
        let first = self.byte()?;
        match first {
            0x00..=0x7f => Ok(Length::Definite(usize::from(first))),
            0x80 => Ok(Length::Indefinite),
            // One or two more bytes are 64 KiB, more than any envelope; and in the shortest form, as KMS writes them.
            0x81 => match self.byte()? {
                length @ 0x80.. => Ok(Length::Definite(usize::from(length))),
                _ => Err(CmsError::BadLength),
            },
            0x82 => match u16::from_be_bytes([self.byte()?, self.byte()?]) {
                length @ 0x100.. => Ok(Length::Definite(usize::from(length))),
                _ => Err(CmsError::BadLength),
            },
            _ => Err(CmsError::BadLength),
        }
    }

    fn byte(&mut self) -> Result<u8, CmsError> {
        match self.take(1)? {
            [byte] => Ok(*byte),
            _ => Err(CmsError::Truncated),
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], CmsError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(CmsError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_one_form() {
        let read = |bytes: &[u8]| Reader::new(bytes).primitive(0x04).map(<[u8]>::len);
        assert_eq!(read(&[0x04, 0x01, 0xaa]), Ok(1));
        assert_eq!(read(&[&[0x04, 0x81, 0x80][..], &[0; 128]].concat()), Ok(128));
        assert_eq!(read(&[&[0x04, 0x82, 0x01, 0x00][..], &[0; 256]].concat()), Ok(256));
        let long = [&[0x04, 0x81, 0x7f][..], &[0; 127]].concat();
        assert_eq!(read(&long), Err(CmsError::BadLength), "a longer form than needed");
        assert_eq!(read(&[&[0x04, 0x82, 0x00, 0xff][..], &[0; 255]].concat()), Err(CmsError::BadLength));
        assert_eq!(read(&[0x04, 0x83, 0, 0, 1, 0]), Err(CmsError::BadLength));
        assert_eq!(read(&[0x04, 0x80, 0, 0]), Err(CmsError::BadLength), "a primitive value has an end of its own");
        assert_eq!(read(&[0x04, 0x02, 0]), Err(CmsError::Truncated));
        assert_eq!(read(&[0x05, 0x00]), Err(CmsError::OtherShape));
        assert_eq!(read(&[]), Err(CmsError::Truncated));
    }

    #[test]
    fn values_end_where_they_say() {
        let one = |reader: &mut Reader<'_>| reader.primitive(0x04).map(<[u8]>::to_vec);
        assert_eq!(Reader::new(&[0x30, 3, 4, 1, 7]).inside(0x30, one), Ok(vec![7]));
        assert_eq!(Reader::new(&[0x30, 4, 4, 1, 7, 0]).inside(0x30, one), Err(CmsError::TrailingBytes));
        assert_eq!(Reader::new(&[0x30, 0x80, 4, 1, 7, 0, 0]).inside(0x30, one), Ok(vec![7]));
        assert_eq!(Reader::new(&[0x30, 0x80, 4, 1, 7, 0]).inside(0x30, one), Err(CmsError::Truncated));
        assert_eq!(Reader::new(&[0x30, 0x80, 4, 1, 7, 4, 0]).inside(0x30, one), Err(CmsError::TrailingBytes));
    }
}
