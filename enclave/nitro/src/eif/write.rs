//! Writing an image: header, sections in the order of AWS's builder, check sum.

use flate2::Crc;
use serde_json::json;

use super::{
    Architecture, CHECKED_HEADER, EifError, HEADER, Image, MAGIC, MAX_SECTIONS, SECTION_HEADER, VERSION, section,
};

/// Description of an image, which AWS's tools expect. It says nothing about the machine or the time of the build.
pub(super) fn metadata() -> Vec<u8> {
    json!({
        "ImageName": "holdfast-vault",
        "ImageVersion": env!("CARGO_PKG_VERSION"),
        "BuildMetadata": {
            "BuildTime": "1970-01-01T00:00:00+00:00",
            "BuildTool": "holdfast enclave build",
            "BuildToolVersion": env!("CARGO_PKG_VERSION"),
            "OperatingSystem": "Linux",
            "KernelVersion": "not recorded",
        },
        "DockerInfo": {},
    })
    .to_string()
    .into_bytes()
}

impl Image {
    /// The file.
    ///
    /// # Errors
    /// If the image lacks a part, or has more or larger ones than the format can describe.
    pub fn to_bytes(&self) -> Result<Vec<u8>, EifError> {
        self.check()?;
        let sections = self.sections();
        if sections.len() > MAX_SECTIONS {
            return Err(EifError::TooManySections);
        }
        let mut places = Vec::with_capacity(MAX_SECTIONS);
        let mut sizes = Vec::with_capacity(MAX_SECTIONS);
        let mut body = Vec::new();
        for (kind, content) in &sections {
            let place = HEADER.checked_add(body.len()).ok_or(EifError::TooLarge)?;
            places.push(u64::try_from(place).map_err(|_| EifError::TooLarge)?);
            let size = u64::try_from(content.len()).map_err(|_| EifError::TooLarge)?;
            sizes.push(size);
            body.reserve(SECTION_HEADER.saturating_add(content.len()));
            body.extend_from_slice(&kind.to_be_bytes());
            body.extend_from_slice(&[0; 2]);
            body.extend_from_slice(&size.to_be_bytes());
            body.extend_from_slice(content);
        }
        let mut file = self.header(sections.len(), &places, &sizes)?;
        file.extend_from_slice(&check_sum(&file, &body).to_be_bytes());
        file.append(&mut body);
        Ok(file)
    }

    fn sections(&self) -> Vec<(u16, &[u8])> {
        let mut sections =
            vec![(section::KERNEL, self.kernel.as_slice()), (section::COMMAND_LINE, self.command_line.as_bytes())];
        sections.extend(self.metadata.as_deref().map(|content| (section::METADATA, content)));
        sections.extend(self.ramdisks.iter().map(|content| (section::RAMDISK, content.as_slice())));
        sections.extend(self.signature.as_deref().map(|content| (section::SIGNATURE, content)));
        sections
    }

    /// The header up to its check sum.
    fn header(&self, sections: usize, places: &[u64], sizes: &[u64]) -> Result<Vec<u8>, EifError> {
        let flags: u16 = match self.architecture {
            Architecture::X86_64 => 0,
            Architecture::Aarch64 => 1,
        };
        let mut header = Vec::with_capacity(HEADER);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&VERSION.to_be_bytes());
        header.extend_from_slice(&flags.to_be_bytes());
        header.extend_from_slice(&self.default_memory.to_be_bytes());
        header.extend_from_slice(&self.default_processors.to_be_bytes());
        header.extend_from_slice(&[0; 2]);
        header.extend_from_slice(&u16::try_from(sections).map_err(|_| EifError::TooManySections)?.to_be_bytes());
        for table in [places, sizes] {
            for number in table.iter().chain(std::iter::repeat(&0)).take(MAX_SECTIONS) {
                header.extend_from_slice(&number.to_be_bytes());
            }
        }
        header.extend_from_slice(&[0; 4]);
        debug_assert_eq!(header.len(), CHECKED_HEADER, "the format's header");
        Ok(header)
    }
}

/// CRC-32 of the header without its check sum, and of everything after it.
pub(super) fn check_sum(header: &[u8], body: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(header);
    crc.update(body);
    crc.sum()
}
