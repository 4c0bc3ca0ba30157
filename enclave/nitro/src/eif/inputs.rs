//! What an image is made from, looked at before it is built in: an enclave with the wrong kernel or program starts and says
//! nothing, which takes an afternoon to find.

use super::EifError;

/// Where a Linux kernel for x86-64 says what it is (Documentation/arch/x86/boot.rst).
const KERNEL_MARK: (usize, &[u8]) = (0x202, b"HdrS");
/// ELF, 64 bits, little-endian.
const ELF: &[u8] = b"\x7fELF\x02\x01";
/// Machine of x86-64.
const X86_64: u16 = 62;
/// A program header that names an interpreter: the dynamic linker.
const INTERPRETER: u32 = 3;

/// Whether this is a kernel that the x86 boot protocol can start.
pub(super) fn check_kernel(kernel: &[u8]) -> Result<(), EifError> {
    let (place, mark) = KERNEL_MARK;
    let found = kernel.get(place..).is_some_and(|rest| rest.starts_with(mark));
    if found { Ok(()) } else { Err(EifError::NotAKernel) }
}

/// Whether this is a program that runs where there is nothing but itself.
pub(super) fn check_program(program: &[u8]) -> Result<(), EifError> {
    let u16_at = |place: usize| program.get(place..)?.first_chunk().copied().map(u16::from_le_bytes);
    let u32_at = |place: usize| program.get(place..)?.first_chunk().copied().map(u32::from_le_bytes);
    let u64_at = |place: usize| program.get(place..)?.first_chunk().copied().map(u64::from_le_bytes);
    if !program.starts_with(ELF) || u16_at(18) != Some(X86_64) {
        return Err(EifError::NotAProgram);
    }
    let table = u64_at(32).and_then(|place| usize::try_from(place).ok());
    let (Some(table), Some(size), Some(count)) = (table, u16_at(54), u16_at(56)) else {
        return Err(EifError::NotAProgram);
    };
    for index in 0..count {
        let place = usize::from(index).checked_mul(size.into()).and_then(|offset| table.checked_add(offset));
        match place.and_then(u32_at) {
            Some(INTERPRETER) => return Err(EifError::DynamicProgram),
            Some(_) => {}
            None => return Err(EifError::NotAProgram),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(kinds: &[u32]) -> Vec<u8> {
        let mut bytes = [ELF, &[0; 58]].concat();
        bytes[18] = 62;
        bytes[32] = 64;
        bytes[54] = 56;
        bytes[56] = u8::try_from(kinds.len()).unwrap();
        for kind in kinds {
            bytes.extend_from_slice(&kind.to_le_bytes());
            bytes.extend_from_slice(&[0; 52]);
        }
        bytes
    }

    #[test]
    fn programs_must_stand_alone() {
        assert!(check_program(&program(&[6, 1])).is_ok());
        assert!(matches!(check_program(&program(&[6, 3, 1])), Err(EifError::DynamicProgram)));
        assert!(matches!(check_program(&program(&[6, 1])[..100]), Err(EifError::NotAProgram)), "cut off");
        assert!(matches!(check_program(b"#!/bin/sh"), Err(EifError::NotAProgram)));
        let mut arm = program(&[]);
        arm[18] = 183;
        assert!(matches!(check_program(&arm), Err(EifError::NotAProgram)));
        assert!(matches!(check_program(ELF), Err(EifError::NotAProgram)));
    }

    #[test]
    fn kernels_carry_their_mark() {
        let kernel = [vec![0; 0x202], b"HdrS".to_vec()].concat();
        assert!(check_kernel(&kernel).is_ok());
        assert!(matches!(check_kernel(&kernel[1..]), Err(EifError::NotAKernel)));
        assert!(matches!(check_kernel(b""), Err(EifError::NotAKernel)));
    }
}
