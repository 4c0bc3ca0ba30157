//! An Ed25519 public key as one of X25519: the same point on the other form of the curve (RFC 7748, section 4.1). Public keys
//! only, so nothing here needs to take the same time for all.

/// A number modulo 2^255 - 19: sixteen digits of 16 bits, the lowest first, not always below 2^16.
type Number = [u64; 16];

const ONE: Number = [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// Four times the modulus, with every digit above 2^16: added before a subtraction.
const FOUR_TIMES: Number = {
    let mut digits = [0x1_fffe; 16];
    digits[0] = 0x1_ffb4;
    digits
};

/// `u = (1 + y) / (1 - y)`.
pub(super) fn from_edwards(key: &[u8; 32]) -> [u8; 32] {
    let mut bytes = *key;
    // The highest bit is the sign of x, which u does not depend on.
    if let Some(last) = bytes.last_mut() {
        *last &= 0x7f;
    }
    let y = unpack(&bytes);
    pack(multiply(&add(&ONE, &y), &inverse(&subtract(&ONE, &y))))
}

fn unpack(bytes: &[u8; 32]) -> Number {
    let mut number = [0; 16];
    for (digit, pair) in number.iter_mut().zip(bytes.chunks_exact(2)) {
        *digit = pair.iter().rev().fold(0, |digit, byte| digit << 8 | u64::from(*byte));
    }
    number
}

fn pack(number: Number) -> [u8; 32] {
    let mut number = carry(carry(carry(number)));
    // Below 2^256 now: at most twice the modulus too much.
    for _ in 0..2 {
        if let Some(less) = without_modulus(&number) {
            number = less;
        }
    }
    let mut bytes = [0; 32];
    for (pair, digit) in bytes.chunks_exact_mut(2).zip(number) {
        let [low, high, ..] = digit.to_le_bytes();
        pair.copy_from_slice(&[low, high]);
    }
    bytes
}

/// The number less the modulus, unless that is negative.
fn without_modulus(number: &Number) -> Option<Number> {
    let mut modulus = [0xffff_u64; 16];
    modulus[0] = 0xffed;
    modulus[15] = 0x7fff;
    let mut borrow = 0;
    let mut less = [0; 16];
    for ((digit, from), take) in less.iter_mut().zip(number).zip(modulus) {
        let wide = (from | 1 << 16).wrapping_sub(take).wrapping_sub(borrow);
        *digit = wide & 0xffff;
        borrow = 1 - (wide >> 16);
    }
    (borrow == 0).then_some(less)
}

fn carry(mut number: Number) -> Number {
    let mut over = 0;
    for digit in &mut number {
        let sum = digit.wrapping_add(over);
        *digit = sum & 0xffff;
        over = sum >> 16;
    }
    // 2^256 is 38 modulo 2^255 - 19.
    number[0] = number[0].wrapping_add(over.wrapping_mul(38));
    number
}

fn add(a: &Number, b: &Number) -> Number {
    let mut sum = [0; 16];
    for ((sum, a), b) in sum.iter_mut().zip(a).zip(b) {
        *sum = a.wrapping_add(*b);
    }
    carry(sum)
}

fn subtract(a: &Number, b: &Number) -> Number {
    let mut difference = [0; 16];
    for (((difference, a), b), more) in difference.iter_mut().zip(a).zip(b).zip(FOUR_TIMES) {
        *difference = a.wrapping_add(more).wrapping_sub(*b);
    }
    carry(difference)
}

fn multiply(a: &Number, b: &Number) -> Number {
    let mut wide = [0_u64; 32];
    for (i, a) in a.iter().enumerate() {
        for (sum, b) in wide.iter_mut().skip(i).zip(b) {
            *sum = sum.wrapping_add(a.wrapping_mul(*b));
        }
    }
    let (low, high) = wide.split_at(16);
    let mut product = [0; 16];
    for ((product, low), high) in product.iter_mut().zip(low).zip(high) {
        *product = low.wrapping_add(high.wrapping_mul(38));
    }
    carry(carry(product))
}

/// The power of modulus - 2. That of zero is zero.
fn inverse(number: &Number) -> Number {
    let mut power = *number;
    for bit in (0..254).rev() {
        power = multiply(&power, &power);
        // 2^255 - 21 has ones everywhere but there.
        if bit != 2 && bit != 4 {
            power = multiply(&power, number);
        }
    }
    power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_point_and_small_numbers_go_where_they_belong() {
        // RFC 8032 and RFC 7748: y = 4/5 is u = 9.
        let mut base = [0x66; 32];
        base[0] = 0x58;
        let mut nine = [0; 32];
        nine[0] = 9;
        assert_eq!(from_edwards(&base), nine);
        base[31] |= 0x80;
        assert_eq!(from_edwards(&base), nine, "the sign of x makes no difference");
        // y = 0 is u = 1; y = 1, the neutral point, has no u and gives none that agrees with anybody.
        let mut one = [0; 32];
        one[0] = 1;
        assert_eq!(from_edwards(&[0; 32]), one);
        assert_eq!(from_edwards(&one), [0; 32]);
    }

    #[test]
    fn a_number_times_its_inverse_is_one() {
        for seed in 1..=50_u8 {
            let mut bytes: [u8; 32] =
                core::array::from_fn(|place| seed.wrapping_mul(31).wrapping_add(u8::try_from(place).unwrap() * 7));
            bytes[31] &= 0x7f;
            let number = unpack(&bytes);
            let mut one = [0; 32];
            one[0] = 1;
            assert_eq!(pack(multiply(&number, &inverse(&number))), one);
            assert_eq!(pack(subtract(&number, &number)), [0; 32]);
            assert_eq!(pack(number), bytes);
        }
        // The modulus itself is zero.
        let mut modulus = [0xff; 32];
        modulus[0] = 0xed;
        modulus[31] = 0x7f;
        assert_eq!(pack(unpack(&modulus)), [0; 32]);
    }
}
