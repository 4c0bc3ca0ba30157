//! Shamir's secret sharing of 32 bytes over GF(2^8): any `threshold` of the shares give the secret back, and fewer say
//! nothing about it, whatever is computed.
//!
//! Why our own: it is a hundred lines, provable by trying everything, while the crates for it either look products up in
//! tables by secret bytes, which a neighbour on the same processor can observe, or bring elliptic curves along. The field
//! is AES's (x^8 + x^4 + x^3 + x + 1), each byte of the secret has a polynomial of its own, and shares are its values at 1,
//! 2, 3 …
//!
//! Guarantees: no branch and no address depends on a secret byte; coefficients are fresh from the operating system; shares
//! and secrets live in locked memory and are wiped. Points are not secret. Whether shares belong together is for the caller
//! to find out: any that are combined give some 32 bytes.

use holdfast_enclave_sys::LockedBytes;
use zeroize::{Zeroize as _, Zeroizing};

use crate::aead::SECRET_LEN;
use crate::error::SecretError;

/// Most shares of a secret.
pub(crate) const MAX_SHARES: u8 = 16;

/// How many shares there are, and how many are needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Split {
    threshold: u8,
    shares: u8,
}

impl Split {
    /// `None` unless 2 ≤ threshold ≤ shares ≤ [`MAX_SHARES`]. One share that is enough is no split.
    pub(crate) const fn new(threshold: u8, shares: u8) -> Option<Self> {
        if threshold >= 2 && threshold <= shares && shares <= MAX_SHARES {
            Some(Self { threshold, shares })
        } else {
            None
        }
    }
}

/// One share: the value of each byte's polynomial at a point.
pub(crate) struct Share {
    /// 1 to [`MAX_SHARES`].
    pub(crate) point: u8,
    pub(crate) value: LockedBytes,
}

/// Splits a secret.
///
/// # Errors
///
/// [`SecretError`] without randomness or memory.
pub(crate) fn split(secret: &LockedBytes, split: Split) -> Result<Vec<Share>, SecretError> {
    // The coefficients of x, x², … for every byte. That of x^0 is the secret.
    let mut coefficients = Vec::new();
    for _ in 1..split.threshold {
        let mut random = LockedBytes::zeroed(SECRET_LEN).map_err(SecretError::Memory)?;
        random.expose_mut(getrandom::fill).map_err(SecretError::Random)?;
        coefficients.push(random);
    }
    (1..=split.shares)
        .map(|point| {
            // Horner, from the highest power down.
            let mut value = Zeroizing::new([0; SECRET_LEN]);
            for coefficient in coefficients.iter().rev().chain([secret]) {
                coefficient.expose(|coefficient| {
                    for (value, byte) in value.iter_mut().zip(coefficient) {
                        *value = multiply(*value, point) ^ byte;
                    }
                });
            }
            Ok(Share { point, value: LockedBytes::take(value.as_mut_slice()).map_err(SecretError::Memory)? })
        })
        .collect()
}

/// What these shares give: the secret, if they are enough of one split and unchanged. `None` if two are of one point, or
/// one is of none.
///
/// # Errors
///
/// [`SecretError`] without memory.
pub(crate) fn combine(shares: &[Share]) -> Result<Option<LockedBytes>, SecretError> {
    let mut secret = Zeroizing::new([0; SECRET_LEN]);
    for (place, share) in shares.iter().enumerate() {
        // The Lagrange polynomial of this point, at 0.
        let mut weight = 1;
        for (other, point) in shares.iter().map(|share| share.point).enumerate() {
            if other == place {
                continue;
            }
            let distance = point ^ share.point;
            if point == 0 || distance == 0 {
                return Ok(None);
            }
            weight = multiply(weight, multiply(point, inverse(distance)));
        }
        share.value.expose(|value| {
            for (secret, byte) in secret.iter_mut().zip(value) {
                *secret ^= multiply(*byte, weight);
            }
        });
        weight.zeroize();
    }
    LockedBytes::take(secret.as_mut_slice()).map(Some).map_err(SecretError::Memory)
}

/// The product in GF(2^8), in the same steps for all factors.
const fn multiply(a: u8, b: u8) -> u8 {
    let (mut a, mut product, mut bit) = (a, 0, 0);
    while bit < 8 {
        // All ones if the bit is set, else zero.
        let take = ((b >> bit) & 1).wrapping_neg();
        product ^= a & take;
        let carry = (a >> 7).wrapping_neg();
        a = (a << 1) ^ (0x1b & carry);
        bit += 1;
    }
    product
}

/// The inverse in GF(2^8): the 254th power. That of zero is zero.
const fn inverse(a: u8) -> u8 {
    let (mut power, mut result, mut bit) = (a, 1, 0);
    // 254 is 0b1111_1110.
    while bit < 7 {
        power = multiply(power, power);
        result = multiply(result, power);
        bit += 1;
    }
    result
}

#[cfg(test)]
mod tests {
    //! Proved here: the field by trying every pair against a slow definition, and its laws; every subset of every split up
    //! to 6 shares, as many as the threshold or more, gives the secret; one share fewer leaves every secret possible.

    use super::*;

    /// The product by the book: as polynomials, then the remainder by 0x11b.
    fn by_the_book(a: u8, b: u8) -> u8 {
        let mut product: u32 = (0..8).filter(|bit| b & (1 << bit) != 0).fold(0, |sum, bit| sum ^ (u32::from(a) << bit));
        for bit in (8..16).rev() {
            if product & (1 << bit) != 0 {
                product ^= 0x11b << (bit - 8);
            }
        }
        u8::try_from(product).unwrap()
    }

    #[test]
    fn every_product_and_every_inverse_is_right() {
        for a in 0..=255 {
            for b in 0..=255 {
                assert_eq!(multiply(a, b), by_the_book(a, b), "{a} {b}");
            }
            assert_eq!(multiply(a, inverse(a)), u8::from(a != 0), "{a}");
        }
        // The example of FIPS 197, section 4.2.
        assert_eq!(multiply(0x57, 0x83), 0xc1);
    }

    fn secret(seed: u8) -> LockedBytes {
        let mut bytes: Vec<u8> = (0..32).map(|place: u8| place.wrapping_mul(37) ^ seed).collect();
        LockedBytes::take(&mut bytes).unwrap()
    }

    fn bytes(secret: &LockedBytes) -> Vec<u8> {
        secret.expose(<[u8]>::to_vec)
    }

    fn some(shares: &[Share], mask: u32) -> Vec<Share> {
        let copy =
            |share: &Share| Share { point: share.point, value: LockedBytes::take(&mut bytes(&share.value)).unwrap() };
        shares.iter().enumerate().filter(|(place, _)| mask & (1 << place) != 0).map(|(_, share)| copy(share)).collect()
    }

    #[test]
    fn every_subset_that_is_large_enough_gives_the_secret_and_no_smaller_one() {
        for count in 2..=6_u8 {
            for threshold in 2..=count {
                let secret = secret(count * 16 + threshold);
                let shares = split(&secret, Split::new(threshold, count).unwrap()).unwrap();
                for mask in 1..(1_u32 << count) {
                    let combined = combine(&some(&shares, mask)).unwrap().unwrap();
                    let enough = mask.count_ones() >= u32::from(threshold);
                    assert_eq!(bytes(&combined) == bytes(&secret), enough, "{threshold} of {count}, {mask:b}");
                }
            }
        }
    }

    /// With one share fewer than needed, each value that a further share can have gives another secret, and so all 256 of a
    /// byte: none is more likely than another.
    #[test]
    fn one_share_fewer_leaves_every_secret_possible() {
        let shares = split(&secret(9), Split::new(3, 3).unwrap()).unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for byte in 0..=255 {
            let mut tried = some(&shares, 0b011);
            tried.push(Share { point: 3, value: LockedBytes::take(&mut [byte; 32]).unwrap() });
            seen.insert(bytes(&combine(&tried).unwrap().unwrap())[7]);
        }
        assert_eq!(seen.len(), 256);
    }

    #[test]
    fn shares_differ_each_time_and_none_is_the_secret() {
        let secret = secret(1);
        let (a, b) =
            (split(&secret, Split::new(2, 3).unwrap()).unwrap(), split(&secret, Split::new(2, 3).unwrap()).unwrap());
        for share in a.iter().chain(&b) {
            assert_ne!(bytes(&share.value), bytes(&secret));
        }
        assert!(a.iter().zip(&b).all(|(a, b)| bytes(&a.value) != bytes(&b.value)));
    }

    #[test]
    fn what_is_no_split_is_refused() {
        for (threshold, shares) in [(0, 3), (1, 3), (4, 3), (2, 17), (0, 0), (17, 17)] {
            assert!(Split::new(threshold, shares).is_none(), "{threshold} of {shares}");
        }
        let shares = split(&secret(1), Split::new(2, 2).unwrap()).unwrap();
        let twice = [some(&shares, 0b01), some(&shares, 0b01)].into_iter().flatten().collect::<Vec<_>>();
        assert!(combine(&twice).unwrap().is_none());
        let mut nowhere = some(&shares, 0b11);
        nowhere[0].point = 0;
        assert!(combine(&nowhere).unwrap().is_none());
    }
}
