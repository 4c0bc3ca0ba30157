//! Reading an image back, with everything checked that can be.

use super::write::check_sum;
use super::{Architecture, CHECKED_HEADER, EifError, HEADER, Image, MAGIC, MAX_SECTIONS, VERSION, section};

/// Takes big-endian numbers off the front.
struct Numbers<'a>(&'a [u8]);

impl<'a> Numbers<'a> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], EifError> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(EifError::Truncated)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u16(&mut self) -> Result<u16, EifError> {
        self.bytes().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, EifError> {
        self.bytes().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, EifError> {
        self.bytes().map(u64::from_be_bytes)
    }

    fn slice(&mut self, length: u64) -> Result<&'a [u8], EifError> {
        let length = usize::try_from(length).map_err(|_| EifError::Truncated)?;
        let (taken, rest) = self.0.split_at_checked(length).ok_or(EifError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }
}

/// What the header says.
struct Header {
    architecture: Architecture,
    default_memory: u64,
    default_processors: u64,
    /// Place and size of each section.
    sections: Vec<(u64, u64)>,
}

impl Image {
    /// Reads a file, and checks its check sum and layout.
    ///
    /// # Errors
    /// Anything that is not exactly an image, with what is wrong.
    pub fn parse(file: &[u8]) -> Result<Self, EifError> {
        let (header, body) = file
            .split_at_checked(HEADER)
            .ok_or_else(|| if file.starts_with(MAGIC) { EifError::Truncated } else { EifError::NotAnImage })?;
        let (checked, sum) = header.split_at_checked(CHECKED_HEADER).ok_or(EifError::Truncated)?;
        let described = read_header(checked)?;
        let mut sections = Numbers(body);
        let mut image = Self {
            architecture: described.architecture,
            default_memory: described.default_memory,
            default_processors: described.default_processors,
            kernel: Vec::new(),
            command_line: String::new(),
            metadata: None,
            ramdisks: Vec::new(),
            signature: None,
        };
        for (place, size) in described.sections {
            let at = file.len().saturating_sub(sections.0.len());
            if u64::try_from(at) != Ok(place) {
                return Err(EifError::Layout);
            }
            let (kind, flags, length) = (sections.u16()?, sections.u16()?, sections.u64()?);
            if length != size || flags != 0 {
                return Err(EifError::Layout);
            }
            image.take(kind, sections.slice(length)?)?;
        }
        if !sections.0.is_empty() {
            return Err(EifError::Layout);
        }
        let (expected, found) = (Numbers(sum).u32()?, check_sum(checked, body));
        if expected != found {
            return Err(EifError::CheckSum { expected, found });
        }
        image.check()?;
        Ok(image)
    }

    fn take(&mut self, kind: u16, content: &[u8]) -> Result<(), EifError> {
        let content = content.to_vec();
        let fresh = match kind {
            section::KERNEL => std::mem::replace(&mut self.kernel, content).is_empty(),
            section::COMMAND_LINE => {
                let text = String::from_utf8(content).map_err(|_| EifError::CommandLine)?;
                std::mem::replace(&mut self.command_line, text).is_empty()
            }
            section::METADATA => self.metadata.replace(content).is_none(),
            section::SIGNATURE => self.signature.replace(content).is_none(),
            section::RAMDISK => {
                self.ramdisks.push(content);
                true
            }
            other => return Err(EifError::Section(other)),
        };
        if fresh { Ok(()) } else { Err(EifError::Section(kind)) }
    }
}

fn read_header(bytes: &[u8]) -> Result<Header, EifError> {
    let mut numbers = Numbers(bytes);
    if numbers.bytes::<4>()? != *MAGIC {
        return Err(EifError::NotAnImage);
    }
    match numbers.u16()? {
        VERSION => {}
        other => return Err(EifError::Version(other)),
    }
    let architecture = match numbers.u16()? {
        0 => Architecture::X86_64,
        1 => Architecture::Aarch64,
        other => return Err(EifError::Architecture(other)),
    };
    let (default_memory, default_processors) = (numbers.u64()?, numbers.u64()?);
    let (reserved, count) = (numbers.u16()?, usize::from(numbers.u16()?));
    if count > MAX_SECTIONS {
        return Err(EifError::TooManySections);
    }
    let mut table = || (0..MAX_SECTIONS).map(|_| numbers.u64()).collect::<Result<Vec<_>, _>>();
    let (places, sizes) = (table()?, table()?);
    let unused = places.iter().skip(count).chain(sizes.iter().skip(count));
    if reserved != 0 || numbers.u32()? != 0 || unused.into_iter().any(|number| *number != 0) {
        return Err(EifError::Layout);
    }
    let sections = places.into_iter().zip(sizes).take(count).collect();
    Ok(Header { architecture, default_memory, default_processors, sections })
}
