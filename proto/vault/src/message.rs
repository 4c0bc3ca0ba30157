//! Requests and answers, in types of the domain. [`crate::convert`] makes them from frames and back.

use core::fmt;

use holdfast_domain::{Epoch, Network, ObservedRoot, PublicKey, Slot, Statement};
use zeroize::Zeroizing;

use crate::frame::Operation;
use crate::limits::{ENCRYPTED_KEY, SEED};

/// What the signer asks of the vault.
pub enum Request {
    /// Who is there. Has to come first.
    Hello {
        /// Version of the protocol.
        version: u32,
        /// Who asks, for the log.
        program: String,
    },
    /// The chain, complete: genesis validators root and time are known.
    Pin(Box<Network>),
    /// Sealed keys, and the data key that opens them.
    Provision {
        /// Opens them.
        data_key: DataKeyBytes,
        /// The keys.
        keys: Vec<SealedKeyBytes>,
    },
    /// Keys whose secrets are to be wiped.
    Forget(Vec<PublicKey>),
    /// Signatures.
    Sign(Vec<SignItem>),
    /// Keys in byte order.
    List {
        /// After this one.
        after: Option<PublicKey>,
        /// At most so many.
        limit: usize,
    },
    /// How it is.
    Health,
    /// Finish what was begun, wipe everything and end.
    Shutdown,
    /// An attestation document, in an enclave.
    Attest {
        /// Whoever asks finds it in the document.
        nonce: Vec<u8>,
    },
    /// Sealed keys, and the data key that opens them, encrypted to the boot key. Without keys it is held for imports.
    ProvisionAttested {
        /// The data key in CMS EnvelopedData, as a key service answers it.
        cms: Vec<u8>,
        /// The keys.
        keys: Vec<SealedKeyBytes>,
    },
    /// A private key to be sealed under a data key that the vault holds.
    ImportAttested(Box<EncryptedKey>),
    /// New keys, sealed under this data key.
    Generate {
        /// Seals them.
        data_key: DataKeyBytes,
        /// What they are made of.
        origin: Origin,
        /// How many.
        count: usize,
    },
    /// New keys, sealed under a data key that the vault holds, and attested.
    GenerateAttested(Box<AttestedOrder>),
    /// Whose leases it signs by.
    Witnesses {
        /// The group.
        group: String,
        /// The witnesses' public keys.
        witnesses: Vec<[u8; 32]>,
        /// How many have to grant.
        quorum: usize,
    },
    /// Requests for a lease, for the witnesses.
    AskLease {
        /// The last epoch wanted.
        until: Epoch,
        /// Versions of the witnesses' records, as far as known.
        versions: Vec<u64>,
    },
    /// What witnesses granted.
    TakeLease(Vec<Vec<u8>>),
    /// Give the lease back, for good.
    ReleaseLease {
        /// Versions of the witnesses' records, as far as known.
        versions: Vec<u64>,
    },
    /// A page of the checkpoint made by [`Self::ReleaseLease`].
    FetchPage(u32),
    /// A page of an earlier vault's checkpoint, in order.
    OfferPage(Vec<u8>),
}

/// A private key encrypted to the boot key of an enclave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncryptedKey {
    /// The key.
    pub public_key: PublicKey,
    /// The commitment of the data key to seal it under.
    pub data_key: DataKeyCommitment,
    /// A fresh AES-256 key, encrypted to the boot key (RSAES-OAEP, SHA-256).
    pub wrapped_key: Vec<u8>,
    /// The private key under that AES key: nonce, ciphertext, tag.
    pub ciphertext: [u8; ENCRYPTED_KEY],
}

/// 32 bytes that tell one data key from every other, and say nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataKeyCommitment(pub [u8; 32]);

/// What new keys are made of.
pub enum Origin {
    /// Randomness of the vault.
    Random,
    /// The tree of a seed (EIP-2333).
    Tree {
        /// The seed (BIP-39).
        seed: SeedBytes,
        /// The place of the first key (EIP-2334).
        first: u32,
    },
}

/// New keys wanted of an enclave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttestedOrder {
    /// Whoever asks finds it in the document.
    pub nonce: Vec<u8>,
    /// The commitment of the data key to seal them under.
    pub data_key: DataKeyCommitment,
    /// How many.
    pub count: usize,
    /// What they are derived from; randomness without it.
    pub seed: Option<EncryptedSeed>,
}

/// A seed encrypted to the boot key of an enclave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncryptedSeed {
    /// The place of the first key (EIP-2334).
    pub first: u32,
    /// The seed, the data key's commitment and the genesis validators root, encrypted to the boot key (RSAES-OAEP, SHA-256).
    pub wrapped: Vec<u8>,
}

/// A key that the vault made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GeneratedKey {
    /// The key, and its secret as it is to be stored.
    pub key: SealedKeyBytes,
    /// In a tree, the public key of BLS withdrawal credentials at the same place.
    pub withdrawal_key: Option<PublicKey>,
}

/// A data key on its way.
pub type DataKeyBytes = SecretBytes<32>;
/// A seed on its way.
pub type SeedBytes = SecretBytes<SEED>;

/// A secret on its way. Wiped when dropped, and moved without leaving a copy behind.
pub struct SecretBytes<const N: usize>(Zeroizing<Vec<u8>>);

impl<const N: usize> SecretBytes<N> {
    /// Copies the bytes, which stay the caller's to wipe.
    pub fn new(bytes: &[u8; N]) -> Self {
        Self(Zeroizing::new(bytes.to_vec()))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, to be taken over and wiped.
    pub fn as_bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// Without the data key.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hello { version, program } => write!(f, "Hello {{ version: {version}, program: {program:?} }}"),
            Self::Pin(network) => write!(f, "Pin({})", network.name),
            Self::Provision { data_key: _, keys } => write!(f, "Provision({} keys)", keys.len()),
            Self::Forget(keys) => write!(f, "Forget({} keys)", keys.len()),
            Self::Sign(items) => f.debug_tuple("Sign").field(items).finish(),
            Self::List { after, limit } => write!(f, "List {{ after: {after:?}, limit: {limit} }}"),
            Self::Health => f.write_str("Health"),
            Self::Shutdown => f.write_str("Shutdown"),
            Self::Attest { nonce } => write!(f, "Attest {{ nonce: {nonce:02x?} }}"),
            Self::ProvisionAttested { cms: _, keys } => write!(f, "ProvisionAttested({} keys)", keys.len()),
            Self::ImportAttested(key) => write!(f, "ImportAttested({})", key.public_key),
            Self::Generate { data_key: _, origin: Origin::Random, count } => write!(f, "Generate({count} random)"),
            Self::Generate { data_key: _, origin: Origin::Tree { seed: _, first }, count } => {
                write!(f, "Generate({count} from {first})")
            }
            Self::GenerateAttested(order) => write!(f, "GenerateAttested({})", order.count),
            Self::Witnesses { group, witnesses, quorum } => {
                write!(f, "Witnesses({group}, {quorum} of {})", witnesses.len())
            }
            Self::AskLease { until, versions: _ } => write!(f, "AskLease(until {})", until.0),
            Self::TakeLease(grants) => write!(f, "TakeLease({} grants)", grants.len()),
            Self::ReleaseLease { versions: _ } => f.write_str("ReleaseLease"),
            Self::FetchPage(index) => write!(f, "FetchPage({index})"),
            Self::OfferPage(page) => write!(f, "OfferPage({} bytes)", page.len()),
        }
    }
}

/// What the vault answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To [`Request::Hello`].
    Welcome {
        /// Version of the protocol.
        version: u32,
        /// Who answers, for the log.
        program: String,
        /// Whether a chain was given before.
        pinned: bool,
        /// How it protects itself.
        protections: Protections,
        /// In an enclave, the RSA key of this boot (SubjectPublicKeyInfo, DER); empty elsewhere.
        boot_key: Vec<u8>,
    },
    /// To [`Request::Pin`], [`Request::Forget`], [`Request::Shutdown`], [`Request::Witnesses`] and
    /// [`Request::OfferPage`]; the operation is that of the request.
    Done(Operation),
    /// To [`Request::Provision`]: one for each key, in order.
    Provisioned(Vec<KeyOutcome>),
    /// To [`Request::ProvisionAttested`]: one for each key, in order.
    ProvisionedAttested(Vec<KeyOutcome>),
    /// To [`Request::Sign`]: one for each item, in order.
    Signed(Vec<Result<[u8; 96], Refusal>>),
    /// To [`Request::List`].
    Listed(Vec<KeyState>),
    /// To [`Request::Health`].
    Health(HealthReport),
    /// To [`Request::Attest`]: the document, not understood here.
    Attested(Vec<u8>),
    /// To [`Request::ImportAttested`]: the sealed key, to be stored.
    Imported(Vec<u8>),
    /// To [`Request::Generate`]: as many as asked for, in the order of their places.
    Generated(Vec<GeneratedKey>),
    /// To [`Request::GenerateAttested`].
    GeneratedAttested {
        /// As many as asked for, in the order of their places.
        keys: Vec<GeneratedKey>,
        /// Says so, to whoever verifies it.
        document: Vec<u8>,
    },
    /// To [`Request::AskLease`] and [`Request::ReleaseLease`], as the operation says.
    Requests {
        /// The operation of the request.
        operation: Operation,
        /// One for each witness, in order.
        requests: Vec<Vec<u8>>,
        /// Pages of the checkpoint.
        pages: u32,
    },
    /// To [`Request::TakeLease`].
    Lease(LeaseReport),
    /// To [`Request::FetchPage`].
    Page(Vec<u8>),
    /// To any request: it was not carried out.
    Failed(Failure),
}

/// What came of grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseReport {
    /// What is held: the epochs after the first up to the second.
    pub held: Option<(Epoch, Epoch)>,
    /// What is new about it.
    pub news: LeaseNews,
    /// Grants that were good.
    pub good: u32,
    /// Keys whose marks came from a checkpoint.
    pub resumed: u64,
}

/// A sealed key as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedKeyBytes {
    /// The key it belongs to.
    pub public_key: PublicKey,
    /// The sealed secret.
    pub sealed: Vec<u8>,
}

/// One signature asked for: what a permit says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignItem {
    /// The key that is to sign.
    pub public_key: PublicKey,
    /// The signing root permitted.
    pub root: ObservedRoot,
    /// The journal batch that recorded the permit.
    pub commit_seq: u64,
    /// What is to be signed.
    pub statement: Statement,
}

/// How a vault process protects itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Protections(u32);

impl Protections {
    /// Secrets lie in memory that nobody else can read, not even the kernel's own file system.
    pub const SECRET_MEMORY: Self = Self(1);
    /// Secrets lie in locked memory.
    pub const LOCKED_MEMORY: Self = Self(1 << 1);
    /// No core dumps, no debuggers of the same user.
    pub const UNDUMPABLE: Self = Self(1 << 2);
    /// It ends with its parent.
    pub const PARENT_DEATH: Self = Self(1 << 3);
    /// No new privileges.
    pub const NO_NEW_PRIVILEGES: Self = Self(1 << 4);
    /// Landlock: no files, no network.
    pub const LANDLOCK: Self = Self(1 << 5);
    /// Seccomp: a list of allowed system calls.
    pub const SECCOMP: Self = Self(1 << 6);

    /// Every protection and its word for logs and metrics.
    pub const NAMED: [(Self, &'static str); 7] = [
        (Self::SECRET_MEMORY, "secret_memory"),
        (Self::LOCKED_MEMORY, "locked_memory"),
        (Self::UNDUMPABLE, "undumpable"),
        (Self::PARENT_DEATH, "parent_death"),
        (Self::NO_NEW_PRIVILEGES, "no_new_privileges"),
        (Self::LANDLOCK, "landlock"),
        (Self::SECCOMP, "seccomp"),
    ];

    /// As a number.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// From a number; bits without a meaning here are dropped.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits & 0x7f)
    }

    /// Both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` are among these.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The words of those that are on.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        Self::NAMED.into_iter().filter(move |(one, _)| self.has(*one)).map(|(_, word)| word)
    }

    /// The words of those that are off.
    pub fn missing(self) -> impl Iterator<Item = &'static str> {
        Self::NAMED.into_iter().filter(move |(one, _)| !self.has(*one)).map(|(_, word)| word)
    }
}

/// Declares an enum whose variants have stable codes and words.
macro_rules! coded {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $code:literal, $word:literal;)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$doc])* $variant,)+
        }

        impl $name {
            /// Every one.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its code in a frame. Never reuse or change one.
            pub const fn code(self) -> u32 {
                match self { $(Self::$variant => $code),+ }
            }

            /// A stable word for logs, metrics and clients.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// The one with this code.
            pub fn from_code(code: u32) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.code() == code)
            }
        }
    };
}

coded! {
    /// What became of a sealed key.
    KeyOutcome {
        /// It is open and may sign, from a fence at the present on.
        Opened = 1, "opened";
        /// It was open already; nothing changed.
        AlreadyOpen = 2, "already_open";
        /// It was sealed for another network than the one pinned.
        OtherNetwork = 3, "other_network";
        /// It was sealed for another public key.
        OtherKey = 4, "other_key";
        /// It was sealed under another data key.
        OtherDataKey = 5, "other_data_key";
        /// Its format is unknown.
        UnknownFormat = 6, "unknown_format";
        /// It is damaged, or not a key.
        Damaged = 7, "damaged";
        /// There was no memory for it, or too many keys.
        NoRoom = 8, "no_room";
    }
}

coded! {
    /// Why the vault does not sign.
    Reason {
        /// It does not hold the key.
        UnknownKey = 1, "unknown_key";
        /// The message is for another chain than the one pinned.
        WrongChain = 2, "wrong_chain";
        /// The root computed is not the one permitted.
        RootMismatch = 3, "root_mismatch";
        /// There is no root: `fork_info` is missing, or the network lacks a fork.
        Unsignable = 4, "unsignable";
        /// The block lies beyond the vault's clock.
        SlotInFuture = 5, "slot_in_future";
        /// The target lies beyond the vault's clock.
        TargetInFuture = 6, "target_in_future";
        /// Slot not above the highest signed slot, or the fence.
        BlockSlotBelowWatermark = 7, "block_slot_below_watermark";
        /// Another block was signed at this slot.
        DoubleBlock = 8, "double_block";
        /// Source after target.
        SourceAfterTarget = 9, "source_after_target";
        /// Source and target are both the last epoch that may be signed.
        SourceNotBeforeTarget = 10, "source_not_before_target";
        /// Source below the highest signed source, or the fence.
        SourceBelowWatermark = 11, "source_below_watermark";
        /// Target not above the highest signed target, or the fence.
        TargetBelowWatermark = 12, "target_below_watermark";
        /// Another vote was signed for this target.
        DoubleVote = 13, "double_vote";
        /// The epoch is not among those leased from the witnesses.
        NoLease = 30, "no_lease";
    }
}

coded! {
    /// Why a whole request was not carried out.
    Failure {
        /// No `Hello` of this version came first.
        NotIntroduced = 1, "not_introduced";
        /// The version of the protocol is another.
        OtherVersion = 2, "other_version";
        /// No chain was given yet.
        NotPinned = 3, "not_pinned";
        /// Another chain was given before.
        OtherChain = 4, "other_chain";
        /// The vault is ending.
        Ending = 5, "ending";
        /// A defect of the vault; its log says more.
        Internal = 6, "internal";
        /// This vault is no enclave: it has no boot key and nobody to attest it.
        NoEnclave = 7, "no_enclave";
        /// The Nitro security module is not there or refused.
        NoSecurityModule = 8, "no_security_module";
        /// An enclave takes a data key only encrypted to its boot key.
        PlainDataKey = 9, "plain_data_key";
        /// What was encrypted does not open with the key of this boot, or too much did not: then only a new boot helps.
        NotForThisBoot = 10, "not_for_this_boot";
        /// The data key to seal under is not one that the vault holds.
        OtherDataKey = 11, "other_data_key";
        /// What was encrypted is not the private key of that public key.
        OtherKey = 12, "other_key";
        /// The times of this chain are neither built in nor measured with the enclave.
        UnknownChain = 13, "unknown_chain";
        /// There are no witnesses.
        NoWitnesses = 30, "no_witnesses";
        /// Other witnesses were given before, or keys.
        OtherWitnesses = 31, "other_witnesses";
        /// The witnesses do not hold together, or are none.
        UnfitWitnesses = 32, "unfit_witnesses";
        /// No key was provisioned yet, so there is nothing to show membership with.
        NoKeys = 33, "no_keys";
        /// It is no page of a checkpoint, not the next one, or of another group or data key.
        NoCheckpoint = 34, "no_checkpoint";
        /// Nothing is leased that could be given back.
        NoLease = 35, "no_lease";
    }
}

coded! {
    /// What is new about a lease.
    LeaseNews {
        /// Nothing.
        Nothing = 1, "nothing";
        /// It was extended.
        Extended = 2, "extended";
        /// It began, behind a fence at the last epoch that others may have signed in.
        Begun = 3, "begun";
        /// It goes on where another vault stopped, with the marks of that one.
        Resumed = 4, "resumed";
    }
}

/// Why one signature was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// The watermarks in the way.
    pub marks: Watermarks,
}

/// Watermarks as shown to operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Watermarks {
    /// Highest block.
    pub block: Option<Slot>,
    /// Highest source.
    pub source: Option<Epoch>,
    /// Highest target.
    pub target: Option<Epoch>,
}

/// A key the vault knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyState {
    /// The key.
    pub public_key: PublicKey,
    /// Whether its secret is there.
    pub open: bool,
    /// What it signed, or its fence.
    pub marks: Watermarks,
}

/// How the vault is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HealthReport {
    /// Keys that can sign.
    pub keys: u64,
    /// Signatures made.
    pub signatures: u64,
    /// Signatures refused.
    pub refusals: u64,
    /// What it holds for the present, in milliseconds since the Unix epoch.
    pub clock_millis: u64,
}

#[cfg(test)]
mod tests {
    //! Proved here: codes are distinct and come back, and every protection has a bit of its own.

    use super::*;

    #[test]
    fn codes_come_back() {
        for outcome in KeyOutcome::ALL {
            assert_eq!(KeyOutcome::from_code(outcome.code()), Some(*outcome));
        }
        for reason in Reason::ALL {
            assert_eq!(Reason::from_code(reason.code()), Some(*reason));
        }
        for failure in Failure::ALL {
            assert_eq!(Failure::from_code(failure.code()), Some(*failure));
        }
        for news in LeaseNews::ALL {
            assert_eq!(LeaseNews::from_code(news.code()), Some(*news));
        }
        assert_eq!(Reason::from_code(0), None, "a missing code stands for nothing");
    }

    #[test]
    fn protections_are_bits() {
        let all = Protections::NAMED.into_iter().fold(Protections::default(), |all, (one, word)| {
            assert!(!all.has(one), "{word} shares a bit");
            all.with(one)
        });
        assert_eq!(Protections::from_bits(u32::MAX), all);
        assert_eq!((all.words().count(), all.missing().count()), (7, 0));
        assert_eq!(Protections::default().missing().count(), 7);
    }
}
