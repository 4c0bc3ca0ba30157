//! What a validator's deposit says: where withdrawals go, how much, and the entry of a deposit data file.
//!
//! Guarantees: an [`ExecutionAddress`] that exists was written with its checksum (EIP-55), so that one mistyped digit
//! is noticed before money depends on it; an amount is one that the chain takes. The file has the members of the
//! deposit tool's own, which launchpads and batch deposit contracts read.

use std::fmt;
use std::str::FromStr;

use holdfast_domain::body::DepositData;
use holdfast_domain::merkle::TreeRoot as _;
use holdfast_domain::message::Deposit;
use holdfast_domain::root::parse_hex;
use holdfast_domain::{IntentError, Message, Network, PublicKey, Unslashable};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use sha3::Keccak256;

/// The version of the deposit tool whose format this is; launchpads refuse files without one.
const DEPOSIT_CLI_VERSION: &str = "2.7.0";
/// Gwei in one ether.
const GWEI: u64 = 1_000_000_000;
/// MIN_DEPOSIT_AMOUNT and MIN_ACTIVATION_BALANCE of the consensus specification, and MAX_EFFECTIVE_BALANCE_ELECTRA.
const MIN_DEPOSIT: Amount = Amount(GWEI);
/// What a validator is activated with.
pub(crate) const ACTIVATION: Amount = Amount(32 * GWEI);
const MAX_COMPOUNDING: Amount = Amount(2_048 * GWEI);

/// An address of the execution layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ExecutionAddress([u8; 20]);

/// Why a text is not an address that money should go to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AddressError {
    /// It is something else.
    #[error("not an address: expected 0x and 40 hexadecimal digits")]
    Form,
    /// Its letters do not carry the checksum.
    #[error(
        "the address carries no checksum (EIP-55), so a wrong digit would go unnoticed; if {with_checksum} is what your \
         wallet shows, letter by letter, give it in that spelling"
    )]
    NoChecksum {
        /// The spelling that does.
        with_checksum: String,
    },
    /// The checksum is of another address.
    #[error("the checksum of the address (EIP-55) does not match: a digit or letter is wrong; copy it again")]
    Checksum,
    /// Nobody has the key of it.
    #[error("this is the zero address: what is sent there is lost")]
    Zero,
}

impl FromStr for ExecutionAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let digits = text.strip_prefix("0x").ok_or(AddressError::Form)?;
        let address = Self(parse_hex::<20>(digits).filter(|_| digits.len() == 40).ok_or(AddressError::Form)?);
        if address.0 == [0; 20] {
            return Err(AddressError::Zero);
        }
        let (small, large) =
            (digits.bytes().any(|c| c.is_ascii_lowercase()), digits.bytes().any(|c| c.is_ascii_uppercase()));
        let with_checksum = address.to_string();
        match (with_checksum == text, small && large) {
            (true, _) => Ok(address),
            (false, true) => Err(AddressError::Checksum),
            (false, false) => Err(AddressError::NoChecksum { with_checksum }),
        }
    }
}

impl fmt::Display for ExecutionAddress {
    /// With its checksum: a letter is large where the hash of the digits has a digit above 7 (EIP-55).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = hex::encode(self.0);
        let hash = hex::encode(Keccak256::digest(digits.as_bytes()));
        f.write_str("0x")?;
        digits.chars().zip(hash.chars()).try_for_each(|(digit, hash)| {
            let large = hash.to_digit(16).is_some_and(|hash| hash > 7);
            write!(f, "{}", if large { digit.to_ascii_uppercase() } else { digit })
        })
    }
}

/// How much is deposited, in Gwei.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Amount(u64);

/// Why a text is not an amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AmountError {
    /// It is no number of ether.
    #[error("not an amount: give ether, with at most nine decimals, such as 32 or 33.5")]
    Form,
    /// The deposit contract would refuse it.
    #[error("the deposit contract takes no less than 1 ether")]
    TooSmall,
    /// More than a validator of this kind ever earns on.
    #[error(
        "more than {limit} ether earns nothing with these withdrawal credentials; use several validators, or --compounding"
    )]
    TooLarge {
        /// The largest sensible amount, in ether.
        limit: u64,
    },
}

impl FromStr for Amount {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(part) || part.len() > 9 {
            return Err(AmountError::Form);
        }
        let gwei = || whole.parse::<u64>().ok()?.checked_mul(GWEI)?.checked_add(format!("{part:0<9}").parse().ok()?);
        let amount = Self(gwei().ok_or(AmountError::Form)?);
        if amount < MIN_DEPOSIT { Err(AmountError::TooSmall) } else { Ok(amount) }
    }
}

/// Where withdrawals go, by kind of credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Withdrawal {
    /// 0x01: to an address; what exceeds 32 ether is paid out.
    Address(ExecutionAddress),
    /// 0x02: to an address; the balance compounds up to 2048 ether (EIP-7251).
    Compounding(ExecutionAddress),
    /// 0x00: nowhere yet; a key of the mnemonic names an address later.
    Bls,
}

/// The 32 bytes of a deposit that say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Credentials([u8; 32]);

impl Withdrawal {
    /// Refuses what is more than such a validator earns on.
    ///
    /// # Errors
    /// [`AmountError::TooLarge`].
    pub(crate) fn check(self, amount: Amount) -> Result<(), AmountError> {
        let limit = match self {
            Self::Address(_) | Self::Bls => ACTIVATION,
            Self::Compounding(_) => MAX_COMPOUNDING,
        };
        if amount > limit { Err(AmountError::TooLarge { limit: limit.0 / GWEI }) } else { Ok(()) }
    }
}

impl Credentials {
    /// Credentials of an address: prefix, eleven zeros, address.
    pub(crate) fn of_address(withdrawal: Withdrawal) -> Option<Self> {
        let (prefix, address) = match withdrawal {
            Withdrawal::Address(address) => (1, address),
            Withdrawal::Compounding(address) => (2, address),
            Withdrawal::Bls => return None,
        };
        let mut bytes = [0; 32];
        let (head, tail) = bytes.split_at_mut(12);
        head.iter_mut().take(1).for_each(|byte| *byte = prefix);
        tail.copy_from_slice(&address.0);
        Some(Self(bytes))
    }

    /// Credentials of a BLS key: its hash with 0x00 in the place of the first byte.
    pub(crate) fn of_bls_key(key: &PublicKey) -> Self {
        let mut bytes: [u8; 32] = Sha256::digest(key.as_bytes()).into();
        bytes.iter_mut().take(1).for_each(|byte| *byte = 0);
        Self(bytes)
    }
}

/// The message a deposit's signature is over.
pub(crate) fn message(key: PublicKey, credentials: Credentials, amount: Amount, network: &Network) -> Message {
    Message::Unslashable(Unslashable::Deposit(Deposit {
        pubkey: key,
        withdrawal_credentials: credentials.0,
        amount: amount.0,
        genesis_fork_version: network.genesis_fork_version(),
    }))
}

/// One entry of a deposit data file, with the members of the deposit tool's in its order; hex without prefix.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Entry {
    pubkey: String,
    withdrawal_credentials: String,
    amount: u64,
    signature: String,
    deposit_message_root: String,
    deposit_data_root: String,
    fork_version: String,
    network_name: String,
    deposit_cli_version: &'static str,
}

impl Entry {
    /// The entry of a signed deposit.
    ///
    /// # Errors
    /// [`IntentError`], in practice never: a deposit has no parts of variable size.
    pub(crate) fn new(
        key: PublicKey,
        credentials: Credentials,
        amount: Amount,
        network: &Network,
        signature: &[u8; 96],
    ) -> Result<Self, IntentError> {
        let root = message(key, credentials, amount, network).object_root(&network.preset)?;
        let data =
            DepositData { pubkey: key, withdrawal_credentials: credentials.0, amount: amount.0, signature: *signature };
        Ok(Self {
            pubkey: hex::encode(key.as_bytes()),
            withdrawal_credentials: hex::encode(credentials.0),
            amount: amount.0,
            signature: hex::encode(signature),
            deposit_message_root: hex::encode(root.as_bytes()),
            deposit_data_root: hex::encode(data.tree_root()),
            fork_version: hex::encode(network.genesis_fork_version().0),
            network_name: network.name.clone(),
            deposit_cli_version: DEPOSIT_CLI_VERSION,
        })
    }
}

#[cfg(test)]
mod tests {
    //! Proved here: checksums by the examples of EIP-55, credentials of the three kinds, amounts and their limits.

    use super::*;

    const ADDRESS: &str = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";

    #[test]
    fn addresses_carry_the_checksum_of_eip_55() {
        for text in [
            ADDRESS,
            "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
            "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
            "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
            "0x52908400098527886E0F7030069857D2E4169EE7",
            "0xde709f2102306220921060314715629080e2fb77",
        ] {
            assert_eq!(text.parse::<ExecutionAddress>().map(|address| address.to_string()).as_deref(), Ok(text));
        }
        let parse = str::parse::<ExecutionAddress>;
        assert_eq!(parse(&ADDRESS.replace("6053", "6054")), Err(AddressError::Checksum));
        assert_eq!(parse(&ADDRESS.replace("aAeb", "AAeb")), Err(AddressError::Checksum));
        let plain = ADDRESS.to_lowercase();
        assert_eq!(parse(&plain), Err(AddressError::NoChecksum { with_checksum: ADDRESS.to_owned() }));
        assert_eq!(parse(&format!("0x{}", "0".repeat(40))), Err(AddressError::Zero));
        for text in [
            "",
            "0x",
            &ADDRESS[2..],
            &ADDRESS[..41],
            &format!("{ADDRESS}0"),
            "0x0x",
            &format!("0x0x{}", "a".repeat(38)),
        ] {
            assert_eq!(parse(text), Err(AddressError::Form), "{text}");
        }
    }

    #[test]
    fn credentials_of_each_kind() {
        let address = ADDRESS.parse().unwrap();
        let of = |withdrawal| hex::encode(Credentials::of_address(withdrawal).unwrap().0);
        let tail = format!("{}{}", "00".repeat(11), ADDRESS[2..].to_lowercase());
        assert_eq!(of(Withdrawal::Address(address)), format!("01{tail}"));
        assert_eq!(of(Withdrawal::Compounding(address)), format!("02{tail}"));
        assert_eq!(Credentials::of_address(Withdrawal::Bls), None);
        let key = PublicKey::from_bytes([7; 48]);
        let hash = hex::encode(Sha256::digest(key.as_bytes()));
        assert_eq!(hex::encode(Credentials::of_bls_key(&key).0), format!("00{}", &hash[2..]));
    }

    #[test]
    fn amounts_are_ether_within_limits() {
        let parse = str::parse::<Amount>;
        assert_eq!(parse("32"), Ok(ACTIVATION));
        assert_eq!(parse("1.000000001"), Ok(Amount(1_000_000_001)));
        assert_eq!(parse("33.5"), Ok(Amount(33_500_000_000)));
        for text in ["", ".", "1.", ".5", "+1", "-1", "1e3", "1.0000000001", "99999999999999999999", "1,5", "0x1"] {
            assert_eq!(parse(text), Err(AmountError::Form), "{text}");
        }
        assert_eq!(parse("0.999999999"), Err(AmountError::TooSmall));
        let address = ADDRESS.parse().unwrap();
        assert_eq!(Withdrawal::Address(address).check(ACTIVATION), Ok(()));
        assert_eq!(Withdrawal::Bls.check(Amount(ACTIVATION.0 + 1)), Err(AmountError::TooLarge { limit: 32 }));
        assert_eq!(Withdrawal::Compounding(address).check(MAX_COMPOUNDING), Ok(()));
        let over = Withdrawal::Compounding(address).check(Amount(MAX_COMPOUNDING.0 + 1));
        assert_eq!(over, Err(AmountError::TooLarge { limit: 2_048 }));
    }
}
