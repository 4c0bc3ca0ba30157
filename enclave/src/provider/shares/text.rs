//! A share as a person sees it once decrypted: one line of text, which fits a terminal, a pipe and a printed page.
//!
//! ```text
//! holdfast-share-1:SET:NUMBER:VALUE        set and value in hex, the number in decimal
//! ```

use holdfast_enclave_sys::LockedBytes;
use zeroize::Zeroizing;

use crate::aead::{Fingerprint, SECRET_LEN};
use crate::shamir::Share;

const PREFIX: &str = "holdfast-share-1";

/// A share somebody brought. It may be of any set.
pub struct BroughtShare {
    pub(super) set: Fingerprint,
    pub(super) point: u8,
    pub(super) value: LockedBytes,
}

impl BroughtShare {
    /// Reads the line of a share; `None` if it is none.
    pub fn parse(line: &[u8]) -> Option<Self> {
        read(line)
    }
}

/// The line of a share.
pub(super) fn write(set: Fingerprint, share: &Share) -> Zeroizing<Vec<u8>> {
    // Room for all of it, so that nothing is left behind by growing.
    let mut text = Zeroizing::new(Vec::with_capacity(160));
    text.extend_from_slice(PREFIX.as_bytes());
    text.push(b':');
    push_hex(&mut text, &set);
    text.extend_from_slice(format!(":{}:", share.point).as_bytes());
    share.value.expose(|value| push_hex(&mut text, value));
    text.push(b'\n');
    text
}

pub(super) fn read(line: &[u8]) -> Option<BroughtShare> {
    let mut parts = line.trim_ascii().split(|byte| *byte == b':');
    if parts.next()? != PREFIX.as_bytes() {
        return None;
    }
    let set: [u8; 8] = hex(parts.next()?)?;
    let point = core::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
    let mut value: Zeroizing<[u8; SECRET_LEN]> = Zeroizing::new(hex(parts.next()?)?);
    if parts.next().is_some() {
        return None;
    }
    Some(BroughtShare { set, point, value: LockedBytes::take(value.as_mut_slice()).ok()? })
}

fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        for nibble in [byte >> 4, byte & 15] {
            // Without a table, and without a branch that depends on it: 'a' is 39 further than '9' + 1.
            let letter = (9_u8.wrapping_sub(nibble) >> 7).wrapping_mul(39);
            out.push(nibble.wrapping_add(b'0').wrapping_add(letter));
        }
    }
}

fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut out = [0; N];
    if text.len() != N.checked_mul(2)? {
        return None;
    }
    for (to, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *to = (nibble(*high)? << 4) | nibble(*low)?;
    }
    Some(out)
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit.wrapping_sub(b'0')),
        b'a'..=b'f' => Some(digit.wrapping_sub(b'a').wrapping_add(10)),
        b'A'..=b'F' => Some(digit.wrapping_sub(b'A').wrapping_add(10)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_written_and_read_and_nothing_else_is_a_share() {
        let mut all = Vec::new();
        let bytes: Vec<u8> = (0..=255).collect();
        push_hex(&mut all, &bytes);
        for (byte, pair) in bytes.iter().zip(all.chunks_exact(2)) {
            assert_eq!(pair, format!("{byte:02x}").as_bytes());
        }
        assert_eq!(hex::<256>(&all).unwrap().as_slice(), bytes);
        for line in ["", "holdfast-share-1:00:1:00", "holdfast-share-2:0011223344556677:1:00", "x:y"] {
            assert!(read(line.as_bytes()).is_none(), "{line}");
        }
        let value = "5a".repeat(32);
        let line = format!(" holdfast-share-1:0011223344556677:3:{value}\r\n");
        let read_back = read(line.as_bytes()).unwrap();
        assert_eq!((read_back.point, read_back.set[1]), (3, 0x11));
        read_back.value.expose(|value| assert_eq!(value, [0x5a; 32]));
        assert!(read(format!("holdfast-share-1:0011223344556677:3:{value}:").as_bytes()).is_none());
        assert!(read(format!("holdfast-share-1:0011223344556677:300:{value}").as_bytes()).is_none());
        assert!(read(format!("holdfast-share-1:0011223344556677:3:{}", &value[2..]).as_bytes()).is_none());
    }
}
