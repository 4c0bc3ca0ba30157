//! Enclave image files (EIF, version 4): writing, reading, and what is measured of them.
//!
//! Why it exists: the measurements of an image are what a key policy names. So the image must be the same, byte for
//! byte, for everybody who builds it from the same kernel and the same program, with no container tool in between; and
//! anybody must be able to compute the measurements of a file again without starting it.
//!
//! Guarantees: [`Image::parse`] accepts what [`Image::to_bytes`] writes and gives it back unchanged; a file with
//! another check sum, with gaps or with unknown sections is refused.
//!
//! The format is that of AWS's own builder; the first ramdisk is the platform (measured by PCR1), the others are the
//! program (PCR2), everything is PCR0.

mod cpio;
mod inputs;
mod read;
mod write;

use aws_lc_rs::digest::{Context, SHA384};
pub use cpio::Ramdisk;

use crate::Pcr;

/// What every file begins with.
const MAGIC: &[u8; 4] = b".eif";
/// Version of the format that is written, and the only one that is read.
const VERSION: u16 = 4;
/// Most sections a file may have: the header has that many places.
const MAX_SECTIONS: usize = 32;
/// Length of the header in bytes, with the check sum at its end.
const HEADER: usize = 548;
/// Length of the header without the check sum.
const CHECKED_HEADER: usize = HEADER - 4;
/// Length of what stands before a section's content.
const SECTION_HEADER: usize = 12;

mod section {
    //! Kinds of section.
    pub(super) const KERNEL: u16 = 1;
    pub(super) const COMMAND_LINE: u16 = 2;
    pub(super) const RAMDISK: u16 = 3;
    pub(super) const SIGNATURE: u16 = 4;
    pub(super) const METADATA: u16 = 5;
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum EifError {
    /// The compressor failed, which it does in memory only for lack of it.
    #[error("cannot compress a ramdisk")]
    Compress(#[source] std::io::Error),
    /// More than the format can describe.
    #[error("the image is larger than its format can describe")]
    TooLarge,
    /// More sections than the header has places for.
    #[error("the image has more than 32 sections")]
    TooManySections,
    /// An image that could not start.
    #[error("an image needs a kernel, a command line and at least one ramdisk, none of them empty")]
    Incomplete,
    /// Something else than a kernel.
    #[error("this is no Linux kernel for x86-64: a bzImage is needed (arch/x86/boot/bzImage, /boot/vmlinuz-…)")]
    NotAKernel,
    /// Something else than a program.
    #[error("this is no program for x86-64 (ELF)")]
    NotAProgram,
    /// A program that needs a dynamic linker, which an enclave has not.
    #[error("the program is linked dynamically and would not start: build it with -C target-feature=+crt-static")]
    DynamicProgram,
    /// Not a text without control characters.
    #[error("the command line of the kernel must be printable ASCII")]
    CommandLine,
    /// Something else.
    #[error("this is no enclave image: it does not begin with \".eif\"")]
    NotAnImage,
    /// Written by another generation of tools.
    #[error("the image has version {0} of the format; only version 4 can be read")]
    Version(u16),
    /// For no processor that is known.
    #[error("the image is for an architecture that is not known (flags {0:#06x})")]
    Architecture(u16),
    /// The file ends early.
    #[error("the image is cut off: was the file copied completely?")]
    Truncated,
    /// The file was changed or damaged.
    #[error("the check sum of the image is {found:08x} and should be {expected:08x}: the file was changed or damaged")]
    CheckSum {
        /// What the header says.
        expected: u32,
        /// What the bytes say.
        found: u32,
    },
    /// Header and sections contradict each other.
    #[error("the header of the image does not describe its sections")]
    Layout,
    /// A section nobody knows, or one too many of its kind.
    #[error("the image has a section of kind {0} where none can be")]
    Section(u16),
}

/// What an image runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Architecture {
    /// x86-64.
    #[default]
    X86_64,
    /// 64-bit ARM (Graviton).
    Aarch64,
}

impl Architecture {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }
}

/// An enclave image.
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    /// What it runs on.
    pub architecture: Architecture,
    /// Memory in bytes, if whoever starts it names none.
    pub default_memory: u64,
    /// Processors, if whoever starts it names none.
    pub default_processors: u64,
    /// The kernel.
    pub kernel: Vec<u8>,
    /// The kernel's command line.
    pub command_line: String,
    /// Description in JSON. **Not measured**: nothing may be decided from it.
    pub metadata: Option<Vec<u8>>,
    /// Compressed archives, unpacked over each other. The first is the platform, the others are the program.
    pub ramdisks: Vec<Vec<u8>>,
    /// Signature over PCR0 with its certificate, kept as it is.
    pub signature: Option<Vec<u8>>,
}

impl std::fmt::Debug for Image {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Image")
            .field("architecture", &self.architecture)
            .field("kernel", &self.kernel.len())
            .field("command_line", &self.command_line)
            .field("ramdisks", &self.ramdisks.iter().map(Vec::len).collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// What the hypervisor measures of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measurements {
    /// Everything that runs: kernel, command line, all ramdisks.
    pub pcr0: Pcr,
    /// The platform: kernel, command line, first ramdisk.
    pub pcr1: Pcr,
    /// The program: the other ramdisks.
    pub pcr2: Pcr,
}

/// Memory of a vault, in bytes: what it was measured to need, twice.
const DEFAULT_MEMORY: u64 = 128 * 1024 * 1024;

impl Image {
    /// The image of a vault: `guest` is its one program, a static binary, and runs as `/init`.
    ///
    /// # Errors
    /// If one of them is something else than that, or too large, or the command line is no printable ASCII.
    pub fn of_vault(kernel: Vec<u8>, command_line: &str, guest: Vec<u8>) -> Result<Self, EifError> {
        inputs::check_kernel(&kernel)?;
        inputs::check_program(&guest)?;
        let platform =
            ["dev", "proc", "run", "sys", "tmp"].iter().fold(Ramdisk::new(), |disk, path| disk.directory(path));
        let image = Self {
            architecture: Architecture::X86_64,
            default_memory: DEFAULT_MEMORY,
            default_processors: 2,
            kernel,
            command_line: command_line.to_owned(),
            metadata: Some(write::metadata()),
            ramdisks: vec![platform.to_bytes()?, Ramdisk::new().program("init", guest).to_bytes()?],
            signature: None,
        };
        image.check()?;
        Ok(image)
    }

    /// What the hypervisor will measure.
    pub fn measurements(&self) -> Measurements {
        let platform = || [self.kernel.as_slice(), self.command_line.as_bytes()].into_iter();
        let (first, others) = self.ramdisks.split_at(self.ramdisks.len().min(1));
        Measurements {
            pcr0: Pcr::measure(platform().chain(self.ramdisks.iter().map(Vec::as_slice))),
            pcr1: Pcr::measure(platform().chain(first.iter().map(Vec::as_slice))),
            pcr2: Pcr::measure(others.iter().map(Vec::as_slice)),
        }
    }

    /// Whether it could start at all, and can be written.
    fn check(&self) -> Result<(), EifError> {
        if self.kernel.is_empty() || self.ramdisks.is_empty() || self.ramdisks.iter().any(Vec::is_empty) {
            return Err(EifError::Incomplete);
        }
        if self.command_line.is_empty() {
            return Err(EifError::Incomplete);
        }
        if !self.command_line.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
            return Err(EifError::CommandLine);
        }
        Ok(())
    }
}

/// SHA-384 of bytes, in hexadecimal: to name the kernel and the program an image was made from.
pub fn fingerprint(bytes: &[u8]) -> String {
    let mut hash = Context::new(&SHA384);
    hash.update(bytes);
    hex::encode(hash.finish())
}
