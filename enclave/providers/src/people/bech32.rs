//! Bech32 (BIP 173) of 32 bytes, as age writes its keys.

use zeroize::Zeroizing;

const ALPHABET: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
/// Letters of the checksum.
const CHECKSUM: usize = 6;

/// The bytes behind `prefix` (in lower case) and "1", or nothing if there is any slip. All letters have one case.
pub(super) fn decode(prefix: &str, text: &str) -> Option<[u8; 32]> {
    if text.bytes().any(|letter| letter.is_ascii_lowercase()) && text.bytes().any(|letter| letter.is_ascii_uppercase())
    {
        return None;
    }
    let lower = Zeroizing::new(text.to_ascii_lowercase());
    let data = lower.strip_prefix(prefix)?.strip_prefix('1')?;
    let place = |letter: u8| ALPHABET.iter().position(|known| *known == letter).and_then(|at| u8::try_from(at).ok());
    let digits = Zeroizing::new(data.bytes().map(place).collect::<Option<Vec<u8>>>()?);
    let letters = prefix.bytes();
    let spread = letters.clone().map(|letter| letter >> 5).chain([0]).chain(letters.map(|letter| letter & 31));
    if spread.chain(digits.iter().copied()).fold(1, step) != 1 {
        return None;
    }
    let (digits, _) = digits.split_at_checked(digits.len().checked_sub(CHECKSUM)?)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(32));
    let (mut bits, mut have) = (0_u32, 0_u32);
    for digit in digits {
        bits = (bits << 5 | u32::from(*digit)) & 0xfff;
        have = have.saturating_add(5);
        if have >= 8 {
            have = have.saturating_sub(8);
            bytes.push(u8::try_from((bits >> have) & 0xff).ok()?);
        }
    }
    // What is left over must be less than a digit, and zero.
    if have >= 5 || bits & ((1 << have) - 1) != 0 { None } else { bytes.as_slice().try_into().ok() }
}

fn step(sum: u32, digit: u8) -> u32 {
    let top = sum >> 25;
    let next = (sum & 0x01ff_ffff) << 5 ^ u32::from(digit);
    GENERATOR.iter().enumerate().fold(next, |next, (bit, word)| if top >> bit & 1 == 1 { next ^ word } else { next })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pair made by age-keygen 1.1.1.
    const RECIPIENT: &str = "age1xntmh8u0wwrxspxecaz7tay2ca75cad27p3wfqna0lcvjpfyqq9q3ld4lf";

    #[test]
    fn a_key_is_read_and_no_slip_is() {
        let Some(key) = decode("age", RECIPIENT) else { panic!("the recipient is not read") };
        assert_eq!(decode("age", &RECIPIENT.to_ascii_uppercase()), Some(key));
        for place in 0..RECIPIENT.len() {
            for letter in ["q", "x", "7", "b", " "] {
                let mut changed = RECIPIENT.to_owned();
                changed.replace_range(place..=place, letter);
                assert!(changed == RECIPIENT || decode("age", &changed).is_none(), "{changed}");
            }
            assert!(decode("age", &RECIPIENT[..place]).is_none());
        }
        assert!(decode("age", &format!("{RECIPIENT}q")).is_none());
        assert!(decode("age-secret-key-", RECIPIENT).is_none());
        assert!(decode("age", &RECIPIENT.replacen('p', "P", 1)).is_none());
    }
}
