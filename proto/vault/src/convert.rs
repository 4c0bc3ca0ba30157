//! From the bodies of frames to requests and answers, and back: the one place that knows the protocol buffers.
//!
//! Guarantees: lists are counted before they are decoded, so a frame never makes more of them than
//! [`crate::limits`] allows; what is encoded here decodes to the same value; a body that does not fit is an error.

use prost::Message as _;
use prost::encoding::{DecodeContext, WireType, decode_key, skip_field};

use crate::error::Malformed;
use crate::frame::{Frame, Header, Operation};
use crate::limits::{MAX_BOOT_KEY, MAX_DOCUMENT, MAX_FORKS, MAX_GENERATED, MAX_ITEMS, MAX_KEYS, MAX_NAME, MAX_SEALED};
use crate::message::{
    Answer, DataKeyBytes, Failure, HealthReport, KeyOutcome, KeyState, Protections, Reason, Refusal, Request,
    SealedKeyBytes, Watermarks,
};
use crate::v1;

mod attested;
mod generate;
mod lease;
mod network;
mod sign;

use holdfast_domain::{Epoch, PublicKey, Slot};

/// Where lists are in their messages (vault.proto).
const PIN_FORKS: u32 = 9;
const ONLY_LIST: u32 = 1;

impl Request {
    /// Its operation.
    pub const fn operation(&self) -> Operation {
        match self {
            Self::Hello { .. } => Operation::Hello,
            Self::Pin(_) => Operation::Pin,
            Self::Provision { .. } => Operation::Provision,
            Self::Forget(_) => Operation::Forget,
            Self::Sign(_) => Operation::Sign,
            Self::List { .. } => Operation::List,
            Self::Health => Operation::Health,
            Self::Shutdown => Operation::Shutdown,
            Self::Attest { .. } => Operation::Attest,
            Self::ProvisionAttested { .. } => Operation::ProvisionAttested,
            Self::ImportAttested(_) => Operation::ImportAttested,
            Self::Generate { .. } => Operation::Generate,
            Self::GenerateAttested(_) => Operation::GenerateAttested,
            Self::Witnesses { .. } => Operation::Witnesses,
            Self::AskLease { .. } => Operation::AskLease,
            Self::TakeLease(_) => Operation::TakeLease,
            Self::ReleaseLease { .. } => Operation::ReleaseLease,
            Self::FetchPage(_) => Operation::FetchPage,
            Self::OfferPage(_) => Operation::OfferPage,
        }
    }

    /// The frame of this request. `None` if it exceeds [`crate::limits`]: then nothing may be sent.
    pub fn frame(&self, number: u64) -> Option<Frame> {
        let header = Header { operation: self.operation(), number };
        match self {
            Self::Hello { version, program } => {
                pack(header, &v1::Hello { version: *version, program: program.clone() })
            }
            Self::Pin(network) => pack(header, &network::pack(network)?),
            Self::Provision { data_key, keys } => {
                let body = v1::Provision { keys: pack_sealed_keys(keys)? };
                Frame::new(header, body.encoded_len().checked_add(data_key.as_bytes().len())?, |out| {
                    out.extend_from_slice(data_key.as_bytes());
                    body.encode_raw(out);
                })
            }
            Self::Forget(keys) => {
                let public_keys = keys.iter().map(|key| key.as_bytes().to_vec()).collect();
                (keys.len() <= MAX_KEYS).then(|| pack(header, &v1::Forget { public_keys })).flatten()
            }
            Self::Sign(items) => {
                let body = || v1::Sign { items: items.iter().map(sign::pack_item).collect() };
                (items.len() <= MAX_ITEMS).then(|| pack(header, &body())).flatten()
            }
            Self::List { after, limit } => {
                let after = after.map(|key| key.as_bytes().to_vec()).unwrap_or_default();
                let limit = u32::try_from(*limit).ok()?;
                pack(header, &v1::List { after, limit })
            }
            Self::Health => pack(header, &v1::Health {}),
            Self::Shutdown => pack(header, &v1::Shutdown {}),
            Self::Attest { nonce } => pack(header, &attested::pack_attest(nonce)?),
            Self::ProvisionAttested { cms, keys } => {
                pack(header, &attested::pack_provision(cms, pack_sealed_keys(keys)?)?)
            }
            Self::ImportAttested(key) => pack(header, &attested::pack_import(key)?),
            Self::Generate { data_key, origin, count } => generate::frame(header, data_key, origin, *count),
            Self::GenerateAttested(order) => pack(header, &generate::pack_order(order)?),
            Self::Witnesses { group, witnesses, quorum } => {
                pack(header, &lease::pack_witnesses(group, witnesses, *quorum)?)
            }
            Self::AskLease { until, versions } => {
                pack(header, &v1::AskLease { until: until.0, versions: lease::versions(versions)? })
            }
            Self::TakeLease(grants) => pack(header, &v1::TakeLease { grants: lease::messages(grants)? }),
            Self::ReleaseLease { versions } => pack(header, &v1::ReleaseLease { versions: lease::versions(versions)? }),
            Self::FetchPage(index) => pack(header, &v1::FetchPage { index: *index }),
            Self::OfferPage(sealed) => pack(header, &lease::pack_page(sealed)?),
        }
    }

    /// Reads a request.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn read(operation: Operation, body: &[u8]) -> Result<Self, Malformed> {
        Ok(match operation {
            Operation::Hello => {
                let v1::Hello { version, program } = unpack(body)?;
                Self::Hello { version, program: name("program", program)? }
            }
            Operation::Pin => {
                at_most("forks", MAX_FORKS, PIN_FORKS, body)?;
                Self::Pin(Box::new(network::unpack(unpack(body)?)?))
            }
            Operation::Provision => {
                let (data_key, body) =
                    body.split_first_chunk().ok_or(Malformed::Length { field: "data_key", len: body.len() })?;
                let data_key = DataKeyBytes::new(data_key);
                at_most("keys", MAX_KEYS, ONLY_LIST, body)?;
                let v1::Provision { keys } = unpack(body)?;
                let keys = keys.into_iter().map(sealed_key).collect::<Result<_, _>>()?;
                Self::Provision { data_key, keys }
            }
            Operation::Forget => {
                at_most("public_keys", MAX_KEYS, ONLY_LIST, body)?;
                let v1::Forget { public_keys } = unpack(body)?;
                Self::Forget(public_keys.iter().map(|key| public_key(key)).collect::<Result<_, _>>()?)
            }
            Operation::Sign => {
                at_most("items", MAX_ITEMS, ONLY_LIST, body)?;
                let v1::Sign { items } = unpack(body)?;
                Self::Sign(items.into_iter().map(sign::unpack_item).collect::<Result<_, _>>()?)
            }
            Operation::List => {
                let v1::List { after, limit } = unpack(body)?;
                let after = if after.is_empty() { None } else { Some(public_key(&after)?) };
                Self::List { after, limit: usize::try_from(limit).unwrap_or(usize::MAX).min(MAX_KEYS) }
            }
            Operation::Health => {
                let v1::Health {} = unpack(body)?;
                Self::Health
            }
            Operation::Shutdown => {
                let v1::Shutdown {} = unpack(body)?;
                Self::Shutdown
            }
            Operation::Attest => Self::Attest { nonce: attested::unpack_attest(unpack(body)?)? },
            Operation::ProvisionAttested => {
                at_most("keys", MAX_KEYS, attested::KEYS, body)?;
                let (cms, keys) = attested::unpack_provision(unpack(body)?)?;
                Self::ProvisionAttested { cms, keys: keys.into_iter().map(sealed_key).collect::<Result<_, _>>()? }
            }
            Operation::ImportAttested => Self::ImportAttested(Box::new(attested::unpack_import(unpack(body)?)?)),
            Operation::Generate => generate::read(body)?,
            Operation::GenerateAttested => Self::GenerateAttested(Box::new(generate::unpack_order(unpack(body)?)?)),
            Operation::Witnesses
            | Operation::AskLease
            | Operation::TakeLease
            | Operation::ReleaseLease
            | Operation::FetchPage
            | Operation::OfferPage => lease::read_request(operation, body)?,
            Operation::Failed => {
                return Err(Malformed::Value { field: "operation", value: Operation::Failed.code().into() });
            }
        })
    }
}

impl Answer {
    /// The operation of the request it answers, or [`Operation::Failed`].
    pub const fn operation(&self) -> Operation {
        match self {
            Self::Welcome { .. } => Operation::Hello,
            Self::Done(operation) | Self::Requests { operation, .. } => *operation,
            Self::Provisioned(_) => Operation::Provision,
            Self::ProvisionedAttested(_) => Operation::ProvisionAttested,
            Self::Attested(_) => Operation::Attest,
            Self::Imported(_) => Operation::ImportAttested,
            Self::Generated(_) => Operation::Generate,
            Self::GeneratedAttested { .. } => Operation::GenerateAttested,
            Self::Signed(_) => Operation::Sign,
            Self::Listed(_) => Operation::List,
            Self::Health(_) => Operation::Health,
            Self::Lease(_) => Operation::TakeLease,
            Self::Page(_) => Operation::FetchPage,
            Self::Failed(_) => Operation::Failed,
        }
    }

    /// The frame of this answer. `None` if it exceeds [`crate::limits`].
    pub fn frame(&self, number: u64) -> Option<Frame> {
        let header = Header { operation: self.operation(), number };
        match self {
            Self::Welcome { version, program, pinned, protections, boot_key } => {
                let (program, protections, boot_key) = (program.clone(), protections.bits(), boot_key.clone());
                let body = v1::Welcome { version: *version, program, pinned: *pinned, protections, boot_key };
                (body.boot_key.len() <= MAX_BOOT_KEY).then(|| pack(header, &body)).flatten()
            }
            Self::Done(_) => pack(header, &v1::Done {}),
            Self::Attested(document) => pack(header, &attested::pack_document(document)?),
            Self::Imported(sealed) => pack(header, &attested::pack_imported(sealed)?),
            Self::Generated(keys) => pack(header, &v1::Generated { keys: generate::pack_keys(keys)? }),
            Self::GeneratedAttested { keys, document } => pack(header, &generate::pack_attested(keys, document)?),
            Self::Provisioned(outcomes) | Self::ProvisionedAttested(outcomes) => {
                let outcomes = outcomes.iter().map(|outcome| outcome.code()).collect();
                pack(header, &v1::Provisioned { outcomes })
            }
            Self::Signed(outcomes) => pack(header, &sign::pack_outcomes(outcomes)),
            Self::Listed(keys) => {
                let keys = keys.iter().map(|key| v1::KeyState {
                    public_key: key.public_key.as_bytes().to_vec(),
                    open: key.open,
                    marks: Some(pack_marks(&key.marks)),
                });
                pack(header, &v1::Listed { keys: keys.collect() })
            }
            Self::Health(HealthReport { keys, signatures, refusals, clock_millis }) => pack(
                header,
                &v1::HealthReport {
                    keys: *keys,
                    signatures: *signatures,
                    refusals: *refusals,
                    clock_millis: *clock_millis,
                },
            ),
            Self::Requests { operation: _, requests, pages } => {
                pack(header, &v1::Requests { requests: lease::messages(requests)?, pages: *pages })
            }
            Self::Lease(report) => pack(header, &lease::pack_report(*report)),
            Self::Page(sealed) => pack(header, &lease::pack_page(sealed)?),
            Self::Failed(failure) => pack(header, &v1::Failed { reason: failure.code() }),
        }
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn read(operation: Operation, body: &[u8]) -> Result<Self, Malformed> {
        Ok(match operation {
            Operation::Hello => {
                let v1::Welcome { version, program, pinned, protections, boot_key } = unpack(body)?;
                let (program, boot_key) = (name("program", program)?, bounded("boot_key", MAX_BOOT_KEY, boot_key)?);
                Self::Welcome { version, program, pinned, protections: Protections::from_bits(protections), boot_key }
            }
            Operation::Pin | Operation::Forget | Operation::Shutdown | Operation::Witnesses | Operation::OfferPage => {
                let v1::Done {} = unpack(body)?;
                Self::Done(operation)
            }
            Operation::Provision => Self::Provisioned(unpack_outcomes(body)?),
            Operation::ProvisionAttested => Self::ProvisionedAttested(unpack_outcomes(body)?),
            Operation::Attest => Self::Attested(attested::unpack_document(unpack(body)?)?),
            Operation::ImportAttested => Self::Imported(attested::unpack_imported(unpack(body)?)?),
            Operation::Generate => {
                at_most("keys", MAX_GENERATED, ONLY_LIST, body)?;
                let v1::Generated { keys } = unpack(body)?;
                Self::Generated(generate::unpack_keys(keys)?)
            }
            Operation::GenerateAttested => {
                at_most("keys", MAX_GENERATED, ONLY_LIST, body)?;
                let v1::GeneratedAttested { keys, document } = unpack(body)?;
                let document = bounded("document", MAX_DOCUMENT, document)?;
                Self::GeneratedAttested { keys: generate::unpack_keys(keys)?, document }
            }
            Operation::Sign => {
                at_most("outcomes", MAX_ITEMS, ONLY_LIST, body)?;
                Self::Signed(sign::unpack_outcomes(unpack(body)?)?)
            }
            Operation::List => {
                at_most("keys", MAX_KEYS, ONLY_LIST, body)?;
                let v1::Listed { keys } = unpack(body)?;
                let key = |key: v1::KeyState| {
                    let marks = unpack_marks(key.marks.unwrap_or_default());
                    Ok(KeyState { public_key: public_key(&key.public_key)?, open: key.open, marks })
                };
                Self::Listed(keys.into_iter().map(key).collect::<Result<_, Malformed>>()?)
            }
            Operation::Health => {
                let v1::HealthReport { keys, signatures, refusals, clock_millis } = unpack(body)?;
                Self::Health(HealthReport { keys, signatures, refusals, clock_millis })
            }
            Operation::AskLease | Operation::ReleaseLease | Operation::TakeLease | Operation::FetchPage => {
                lease::read_answer(operation, body)?
            }
            Operation::Failed => {
                let v1::Failed { reason } = unpack(body)?;
                let unknown = Malformed::Value { field: "reason", value: reason.into() };
                Self::Failed(Failure::from_code(reason).ok_or(unknown)?)
            }
        })
    }
}

fn pack(header: Header, body: &impl prost::Message) -> Option<Frame> {
    Frame::new(header, body.encoded_len(), |out| body.encode_raw(out))
}

fn unpack<M: prost::Message + Default>(body: &[u8]) -> Result<M, Malformed> {
    M::decode(body).map_err(Malformed::Encoding)
}

/// Counts the elements of the list with this tag, without making any of them.
fn at_most(field: &'static str, max: usize, list: u32, mut body: &[u8]) -> Result<(), Malformed> {
    let mut found = 0_usize;
    while !body.is_empty() {
        let (tag, wire_type) = decode_key(&mut body).map_err(Malformed::Encoding)?;
        // Groups nest; nothing here is one.
        if matches!(wire_type, WireType::StartGroup | WireType::EndGroup) {
            return Err(Malformed::Value { field, value: u64::from(tag) });
        }
        skip_field(wire_type, tag, &mut body, DecodeContext::default()).map_err(Malformed::Encoding)?;
        found = found.saturating_add(usize::from(tag == list));
        if found > max {
            return Err(Malformed::TooMany { field, max });
        }
    }
    Ok(())
}

fn unpack_outcomes(body: &[u8]) -> Result<Vec<KeyOutcome>, Malformed> {
    // Packed: one byte is one outcome, or each has a tag of its own. The body's length bounds both.
    if body.len() > MAX_KEYS.saturating_mul(4) {
        return Err(Malformed::TooMany { field: "outcomes", max: MAX_KEYS });
    }
    let v1::Provisioned { outcomes } = unpack(body)?;
    let known =
        |code: u32| KeyOutcome::from_code(code).ok_or(Malformed::Value { field: "outcome", value: code.into() });
    outcomes.into_iter().map(known).collect()
}

/// `None` if there are too many, or one is too long.
fn pack_sealed_keys(keys: &[SealedKeyBytes]) -> Option<Vec<v1::SealedKey>> {
    let within = keys.len() <= MAX_KEYS && keys.iter().all(|key| key.sealed.len() <= MAX_SEALED);
    let pack = |key: &SealedKeyBytes| v1::SealedKey {
        public_key: key.public_key.as_bytes().to_vec(),
        sealed: key.sealed.clone(),
    };
    within.then(|| keys.iter().map(pack).collect())
}

fn sealed_key(key: v1::SealedKey) -> Result<SealedKeyBytes, Malformed> {
    if key.sealed.len() > MAX_SEALED {
        return Err(Malformed::Length { field: "sealed", len: key.sealed.len() });
    }
    Ok(SealedKeyBytes { public_key: public_key(&key.public_key)?, sealed: key.sealed })
}

fn public_key(bytes: &[u8]) -> Result<PublicKey, Malformed> {
    Ok(PublicKey::from_bytes(array("public_key", bytes)?))
}

/// Exactly so many bytes.
fn array<const N: usize>(field: &'static str, bytes: &[u8]) -> Result<[u8; N], Malformed> {
    bytes.try_into().map_err(|_| Malformed::Length { field, len: bytes.len() })
}

/// At most so many bytes.
fn bounded(field: &'static str, max: usize, bytes: Vec<u8>) -> Result<Vec<u8>, Malformed> {
    if bytes.len() > max { Err(Malformed::Length { field, len: bytes.len() }) } else { Ok(bytes) }
}

fn name(field: &'static str, text: String) -> Result<String, Malformed> {
    if text.len() > MAX_NAME { Err(Malformed::Length { field, len: text.len() }) } else { Ok(text) }
}

fn pack_marks(marks: &Watermarks) -> v1::Marks {
    v1::Marks {
        block_slot: marks.block.map(|slot| slot.0),
        source_epoch: marks.source.map(|epoch| epoch.0),
        target_epoch: marks.target.map(|epoch| epoch.0),
    }
}

fn unpack_marks(marks: v1::Marks) -> Watermarks {
    Watermarks {
        block: marks.block_slot.map(Slot),
        source: marks.source_epoch.map(Epoch),
        target: marks.target_epoch.map(Epoch),
    }
}

fn refusal(refused: v1::Refused) -> Result<Refusal, Malformed> {
    let unknown = Malformed::Value { field: "reason", value: refused.reason.into() };
    let reason = Reason::from_code(refused.reason).ok_or(unknown)?;
    Ok(Refusal { reason, marks: unpack_marks(refused.marks.unwrap_or_default()) })
}
