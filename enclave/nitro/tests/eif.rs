//! Image files: what is written reads back, the same inputs are the same bytes, damage is found, and the measurements
//! are the ones the format's definition gives.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that finds something else than it wants should panic"
)]

use holdfast_nitro::eif::{Architecture, EifError, Image, fingerprint};
use proptest::prelude::*;

fn kernel() -> Vec<u8> {
    let mut kernel: Vec<u8> = (0..20_000_u32).flat_map(u32::to_be_bytes).collect();
    kernel[0x202..0x206].copy_from_slice(b"HdrS");
    kernel
}

/// A program without headers, which is a static one.
fn program() -> Vec<u8> {
    let mut program = [b"\x7fELF\x02\x01".as_slice(), &[0; 58], &b"a program".repeat(1000)].concat();
    program[18] = 62;
    program
}

fn vault() -> Image {
    Image::of_vault(kernel(), "console=ttyS0 reboot=k panic=1", program()).unwrap()
}

/// An image whose parts are small enough to compute its measurements by hand.
fn plain() -> Image {
    Image {
        architecture: Architecture::X86_64,
        default_memory: 64 << 20,
        default_processors: 1,
        kernel: b"a kernel".to_vec(),
        command_line: "quiet".to_owned(),
        metadata: Some(b"{}".to_vec()),
        ramdisks: vec![b"platform".to_vec(), b"program".to_vec()],
        signature: None,
    }
}

#[test]
fn measurements_are_those_of_the_definition() {
    let measured = plain().measurements();
    // Computed with Python's hashlib: sha384(48 zero bytes + sha384(parts).digest()).
    assert_eq!(
        measured.pcr0.to_string(),
        "d8ccaf46c77157405fa06e51057b9bbf5d0803bad256e4d3328b6ab342070b553630d5e49d7c3d267f9f3548592ef831"
    );
    assert_eq!(
        measured.pcr1.to_string(),
        "322fdc23d2b55ec9a1cbee8932fc884c4434d49926699c2002982477790ead5c8d30d15a38a40e57cbe9580e0ab1d35f"
    );
    assert_eq!(
        measured.pcr2.to_string(),
        "06180fbed2480874eccfb1cf69cb275f0346fef0b2bbe6ff38620e1613e57093f0a6ffa44731530ce8bb9d1abdfd92e7"
    );
    let signed = Image { signature: Some(vec![1]), metadata: None, ..plain() };
    assert_eq!(signed.measurements(), measured, "metadata and signature are not measured");
}

#[test]
fn the_same_inputs_are_the_same_bytes() {
    let bytes = vault().to_bytes().unwrap();
    assert_eq!(bytes, vault().to_bytes().unwrap());
    let other = Image { command_line: "console=ttyS0 reboot=k panic=0".to_owned(), ..vault() };
    assert_ne!(other.measurements().pcr0, vault().measurements().pcr0);
    assert_eq!(other.measurements().pcr2, vault().measurements().pcr2, "the program is the same");
    // A change of the compressor changes what operators have written into key policies: it must not pass unseen.
    assert_eq!(
        vault().measurements().pcr2.to_string(),
        "ab587091ac0a00c2c057e0be4b92c59a8ebae3dbe20fa8d9f7220b46b5b29ed75383cf442f7bb726e86ac30ec11c7b38"
    );
    assert_eq!(fingerprint(b"abc").len(), 96);
}

#[test]
fn every_damaged_byte_is_found() {
    let bytes = plain().to_bytes().unwrap();
    assert_eq!(Image::parse(&bytes).unwrap(), plain());
    for place in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[place] ^= 1 << bit;
            assert!(Image::parse(&damaged).is_err(), "bit {bit} of byte {place}");
        }
        assert!(Image::parse(&bytes[..place]).is_err(), "cut at {place}");
    }
    assert!(Image::parse(&[bytes.as_slice(), &[0]].concat()).is_err(), "one byte more");
}

#[test]
fn errors_name_what_is_wrong() {
    let bytes = plain().to_bytes().unwrap();
    let with = |place: usize, byte: u8| {
        let mut changed = bytes.clone();
        changed[place] = byte;
        Image::parse(&changed).unwrap_err()
    };
    assert!(matches!(with(0, b'x'), EifError::NotAnImage));
    assert!(matches!(with(5, 3), EifError::Version(3)));
    assert!(matches!(with(7, 9), EifError::Architecture(9)));
    assert!(matches!(with(27, 40), EifError::TooManySections));
    assert!(matches!(with(bytes.len() - 1, 0), EifError::CheckSum { .. }));
    assert!(matches!(with(549, 7), EifError::Section(7)));
    assert!(matches!(Image::parse(b"MZ"), Err(EifError::NotAnImage)));
    assert!(matches!(Image::parse(&bytes[..600]), Err(EifError::Truncated)));
    assert!(matches!(Image { kernel: Vec::new(), ..plain() }.to_bytes(), Err(EifError::Incomplete)));
    assert!(matches!(Image { command_line: "a\nb".to_owned(), ..plain() }.to_bytes(), Err(EifError::CommandLine)));
    assert!(matches!(Image { ramdisks: vec![vec![1]; 40], ..plain() }.to_bytes(), Err(EifError::TooManySections)));
    assert!(matches!(Image::of_vault(kernel(), "quiet", Vec::new()), Err(EifError::NotAProgram)));
    assert!(matches!(Image::of_vault(program(), "quiet", program()), Err(EifError::NotAKernel)));
    assert!(matches!(Image::of_vault(kernel(), "", program()), Err(EifError::Incomplete)));
}

prop_compose! {
    fn images()(
        arm in any::<bool>(),
        default_memory in any::<u64>(),
        default_processors in any::<u64>(),
        kernel in proptest::collection::vec(any::<u8>(), 1..200),
        command_line in "[ -~]{1,40}",
        metadata in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..50)),
        ramdisks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..100), 1..10),
        signature in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..50)),
    ) -> Image {
        let architecture = if arm { Architecture::Aarch64 } else { Architecture::X86_64 };
        Image { architecture, default_memory, default_processors, kernel, command_line, metadata, ramdisks, signature }
    }
}

proptest! {
    #[test]
    fn what_is_written_reads_back(image in images()) {
        prop_assert_eq!(Image::parse(&image.to_bytes().unwrap()).unwrap(), image);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000), magic in any::<bool>()) {
        let mut bytes = bytes;
        if magic && bytes.len() >= 8 {
            bytes[..8].copy_from_slice(b".eif\0\x04\0\0");
        }
        prop_assert!(Image::parse(&bytes).is_err());
    }
}
