//! Documents: good ones are accepted, and each way of being wrong has its own error. The same suite for an authority of our
//! own, whose documents are of now, and for documents that AWS signed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that finds something else than it wants should panic"
)]

#[path = "support/authority.rs"]
mod authority;
mod support;

use authority::{Authority, Draft, NONCE, encode, now};
use ciborium::Value;
use holdfast_nitro::Pcr;
use holdfast_nitro::attestation::{
    AttestationError, MAX_AGE, MAX_SKEW, PcrIndex, PcrPolicy, ShapeError, Timestamp, Verifier,
};

const HOUR: u64 = 3_600_000;

struct Stage {
    authority: Authority,
    verifier: Verifier,
}

impl Stage {
    fn new() -> Self {
        let authority = Authority::of_now();
        let verifier = Verifier::with_root(authority.bundle[0].clone()).unwrap();
        Self { authority, verifier }
    }

    fn verify(&self, document: &[u8]) -> Result<(), AttestationError> {
        self.verifier.verify(document, NONCE, &PcrPolicy::any(), Timestamp::from_millis(now())).map(|_| ())
    }

    /// What is said of a draft that was changed so.
    fn refused(&self, change: impl FnOnce(Draft) -> Draft) -> AttestationError {
        self.verify(&self.authority.sign(&change(self.authority.draft()))).unwrap_err()
    }

    fn misshapen(&self, change: impl FnOnce(Draft) -> Draft) -> ShapeError {
        match self.refused(change) {
            AttestationError::Shape(error) => error,
            other => panic!("refused for another reason: {other:?}"),
        }
    }
}

fn pcr(byte: u8) -> Pcr {
    Pcr::try_from([byte; 48].as_slice()).unwrap()
}

#[test]
fn a_good_document_is_accepted_with_what_it_says() {
    let stage = Stage::new();
    let document = stage.authority.sign(&stage.authority.draft());
    let policy =
        PcrPolicy::any().allow(PcrIndex::IMAGE, pcr(99)).allow(PcrIndex::IMAGE, pcr(1)).allow(PcrIndex::SIGNER, pcr(9));
    let attested = stage.verifier.verify(&document, NONCE, &policy, Timestamp::from_millis(now())).unwrap();
    assert_eq!(attested.module(), "i-0123456789abcdef0-enc0123456789abcdef0");
    assert_eq!(attested.public_key(), Some(b"a public key".as_slice()));
    assert_eq!(attested.user_data(), None);
    assert_eq!(attested.pcrs().len(), 16);
    assert_eq!(attested.pcrs()[&PcrIndex::ROLE], pcr(4));
    assert!(now() - attested.timestamp().as_millis() < HOUR);
    // Optional fields may be absent too, and registers above 15 present.
    let draft = stage.authority.draft().without("user_data").without("public_key").with_pcr(31, Some(vec![7; 48]));
    stage.verify(&stage.authority.sign(&draft)).unwrap();
}

#[test]
fn it_must_answer_our_nonce() {
    let stage = Stage::new();
    let document = stage.authority.sign(&stage.authority.draft());
    let ask = |nonce: &[u8]| {
        stage.verifier.verify(&document, nonce, &PcrPolicy::any(), Timestamp::from_millis(now())).unwrap_err()
    };
    assert!(matches!(ask(b"another"), AttestationError::Nonce));
    assert!(matches!(ask(b""), AttestationError::Nonce));
    assert!(matches!(ask(&NONCE[..31]), AttestationError::Nonce));
    assert!(matches!(stage.refused(|draft| draft.with("nonce", Value::Null)), AttestationError::Nonce));
    assert!(matches!(stage.refused(|draft| draft.without("nonce")), AttestationError::Nonce));
    let empty = stage.authority.sign(&stage.authority.draft().with("nonce", Value::Bytes(Vec::new())));
    let asked = stage.verifier.verify(&empty, b"", &PcrPolicy::any(), Timestamp::from_millis(now()));
    assert!(matches!(asked, Err(AttestationError::Nonce)), "an empty nonce is none");
}

#[test]
fn it_must_be_the_expected_enclave_and_not_in_debug_mode() {
    let stage = Stage::new();
    let document = stage.authority.sign(&stage.authority.draft());
    let ask = |policy: &PcrPolicy| {
        stage.verifier.verify(&document, NONCE, policy, Timestamp::from_millis(now())).map(|_| ()).unwrap_err()
    };
    let other = ask(&PcrPolicy::any().allow(PcrIndex::IMAGE, pcr(1)).allow(PcrIndex::ROLE, pcr(5)));
    assert!(matches!(other, AttestationError::OtherPcr { index: PcrIndex::ROLE, found } if found == pcr(4)), "{other}");
    let missing = ask(&PcrPolicy::any().allow(PcrIndex::new(20).unwrap(), pcr(1)));
    assert!(matches!(missing, AttestationError::MissingPcr(_)), "{missing}");
    assert!(matches!(stage.refused(|draft| draft.with_pcr(0, Some(vec![0; 48]))), AttestationError::DebugMode));
    // Whoever expects zeros gets no debug enclave either.
    let debug = stage.authority.sign(&stage.authority.draft().with_pcr(0, Some(vec![0; 48])));
    let policy = PcrPolicy::any().allow(PcrIndex::IMAGE, Pcr::ZERO);
    let asked = stage.verifier.verify(&debug, NONCE, &policy, Timestamp::from_millis(now()));
    assert!(matches!(asked, Err(AttestationError::DebugMode)));
}

#[test]
fn it_must_be_of_now() {
    let stage = Stage::new();
    let document = stage.authority.sign(&stage.authority.draft());
    let made = now();
    let (age, skew): (u64, u64) = (MAX_AGE.as_millis().try_into().unwrap(), MAX_SKEW.as_millis().try_into().unwrap());
    let at = |time: u64| {
        stage.verifier.verify(&document, NONCE, &PcrPolicy::any(), Timestamp::from_millis(time)).map(|_| ())
    };
    at(made + age - 1000).unwrap();
    at(made - skew + 1000).unwrap();
    assert!(matches!(at(made + age + 1000), Err(AttestationError::Stale(_))));
    assert!(matches!(at(made - skew - 2000), Err(AttestationError::FromTheFuture(_))));
    assert!(matches!(at(made + 4 * HOUR), Err(AttestationError::Expired)));
    assert!(matches!(at(made - 4 * HOUR), Err(AttestationError::NotYetValid)));
    assert!(matches!(at(0), Err(AttestationError::NotYetValid)));
    // A certificate that is valid only from a moment ahead, within what clocks differ.
    let fresh = Authority::valid(made + 5000, made + HOUR);
    let document = fresh.sign(&fresh.draft().with("timestamp", made + 6000));
    let verifier = Verifier::with_root(fresh.bundle[0].clone()).unwrap();
    verifier.verify(&document, NONCE, &PcrPolicy::any(), Timestamp::from_millis(made)).unwrap();
}

#[test]
fn its_certificates_must_lead_to_the_root() {
    let stage = Stage::new();
    let draft = stage.authority.draft();
    let other = Authority::of_now();
    let bundle = |list: &[&Vec<u8>]| Value::Array(list.iter().map(|der| Value::Bytes((*der).clone())).collect());
    let ours = &stage.authority.bundle;
    // Signed by a real chain of another root.
    assert!(matches!(stage.verify(&other.sign(&other.draft())), Err(AttestationError::OtherRoot)));
    assert!(matches!(
        Verifier::aws().verify(&stage.authority.sign(&draft), NONCE, &PcrPolicy::any(), Timestamp::from_millis(now())),
        Err(AttestationError::OtherRoot)
    ));
    // The right root in front of another chain, and the other way round.
    let posed = other.sign(
        &other.draft().with("cabundle", bundle(&[&ours[0], &other.bundle[1], &other.bundle[2], &other.bundle[3]])),
    );
    assert!(matches!(stage.verify(&posed), Err(AttestationError::Chain(_))));
    let grafted = other.sign(&other.draft().with("cabundle", bundle(&ours.iter().collect::<Vec<_>>())));
    assert!(matches!(stage.verify(&grafted), Err(AttestationError::Chain(_))));
    // A link is missing; root not in front; nothing but the root.
    for list in [bundle(&[&ours[0], &ours[1], &ours[3]]), bundle(&[&ours[0]])] {
        assert!(matches!(stage.refused(|draft| draft.with("cabundle", list)), AttestationError::Chain(_)));
    }
    let turned = bundle(&[&ours[3], &ours[2], &ours[1], &ours[0]]);
    assert!(matches!(stage.refused(|draft| draft.with("cabundle", turned)), AttestationError::OtherRoot));
    // Signed with another key than the certificate's.
    let foreign = other.sign(&stage.authority.draft());
    assert!(matches!(stage.verify(&foreign), Err(AttestationError::Signature)));
    // A certificate that is none.
    let refused = stage.refused(|draft| draft.with("certificate", Value::Bytes(vec![0x30, 0])));
    assert!(matches!(refused, AttestationError::Chain(_)));
}

#[test]
fn its_envelope_has_one_shape() {
    let stage = Stage::new();
    let header = |bytes: &[u8]| {
        let bytes = bytes.to_vec();
        stage.misshapen(|draft| Draft { protected: bytes, ..draft })
    };
    assert_eq!(header(&[0xa1, 0x01, 0x26]), ShapeError::Algorithm, "ES256");
    assert_eq!(header(&[0xa1, 0x01, 0x20]), ShapeError::Algorithm, "no algorithm at all, as QEMU writes");
    assert_eq!(header(&[]), ShapeError::Algorithm);
    assert_eq!(header(&[0xa0]), ShapeError::Algorithm);
    assert_eq!(header(&[0xa2, 0x01, 0x38, 0x22, 0x04, 0x41, 0x01]), ShapeError::ProtectedHeader, "a key identifier");
    assert_eq!(header(&[0xa1, 0x01, 0x39, 0x00, 0x22]), ShapeError::NotCanonical, "a longer form of the same");
    assert_eq!(header(&[0xbf, 0x01, 0x38, 0x22, 0xff]), ShapeError::NotCanonical);
    let unprotected = Value::Map(vec![(Value::from(4), Value::Bytes(vec![1]))]);
    assert_eq!(stage.misshapen(|draft| Draft { unprotected, ..draft }), ShapeError::UnprotectedHeader);
    assert_eq!(stage.misshapen(|draft| Draft { after: vec![0], ..draft }), ShapeError::NotCose);
    assert_eq!(stage.misshapen(|draft| Draft { after: vec![0; 20_000], ..draft }), ShapeError::TooLong);
    assert_eq!(stage.misshapen(|draft| Draft { head: 0x83, ..draft }), ShapeError::NotCose);
    let open_ended = |draft: Draft| Draft { head: 0x9f, after: vec![0xff], ..draft };
    assert_eq!(stage.misshapen(open_ended), ShapeError::NotCanonical);

    let good = stage.authority.sign(&stage.authority.draft());
    let tagged = [&[0xd2], good.as_slice()].concat();
    assert!(matches!(stage.verify(&tagged), Err(AttestationError::Shape(ShapeError::NotCose))));
    for length in [0, 64, 95, 97] {
        let short = stage.authority.draft().around(vec![0xa0], vec![0; length]);
        assert!(matches!(stage.verify(&short), Err(AttestationError::Shape(ShapeError::SignatureLength))));
    }
    // As QEMU's device writes them: no algorithm, 64 zero bytes for a signature.
    let draft = Draft { protected: vec![0xa1, 0x01, 0x20], ..stage.authority.draft() };
    let emulated = draft.around(encode(&Value::Map(draft.fields.clone())), vec![0; 64]);
    assert!(matches!(stage.verify(&emulated), Err(AttestationError::Shape(ShapeError::Algorithm))));
}

#[test]
fn its_payload_has_known_fields_of_known_sizes() {
    let stage = Stage::new();
    let field = |name: &'static str, value: Value| stage.misshapen(|draft| draft.with(name, value));
    let bytes = |length: usize| Value::Bytes(vec![1; length]);
    for name in ["module_id", "digest", "timestamp", "pcrs", "certificate", "cabundle"] {
        assert_eq!(stage.misshapen(|draft| draft.without(name)), ShapeError::Missing(name));
        assert_eq!(field(name, Value::Null), ShapeError::Field(name));
    }
    for (name, longest) in [("nonce", 512), ("user_data", 512), ("public_key", 1024), ("certificate", 1024)] {
        assert_eq!(field(name, bytes(longest + 1)), ShapeError::Field(name));
        assert_eq!(field(name, Value::from("text")), ShapeError::Field(name));
    }
    assert_eq!(field("digest", Value::from("SHA256")), ShapeError::Digest);
    assert_eq!(field("timestamp", Value::from(-1)), ShapeError::Field("timestamp"));
    assert_eq!(field("module_id", Value::from("")), ShapeError::Field("module_id"));
    assert_eq!(field("cabundle", Value::Array(Vec::new())), ShapeError::Field("cabundle"));
    assert_eq!(field("cabundle", Value::Array(vec![bytes(1); 9])), ShapeError::Field("cabundle"));
    assert_eq!(stage.misshapen(|draft| draft.and("extra", 1)), ShapeError::UnknownField);
    assert_eq!(stage.misshapen(|draft| draft.and(7, 1)), ShapeError::Payload);
    assert_eq!(stage.misshapen(|draft| draft.and("nonce", Value::Bytes(NONCE.to_vec()))), ShapeError::Twice("nonce"));

    let register = |index: Value, value: Option<Vec<u8>>| stage.misshapen(|draft| draft.with_pcr(index, value));
    assert_eq!(register(Value::from(1), Some(vec![1; 32])), ShapeError::Field("pcrs"), "SHA-256");
    assert_eq!(register(Value::from(1), Some(vec![1; 64])), ShapeError::Field("pcrs"), "SHA-512");
    assert_eq!(register(Value::from(32), Some(vec![1; 48])), ShapeError::Field("pcrs"));
    assert_eq!(register(Value::from(-1), Some(vec![1; 48])), ShapeError::Field("pcrs"));
    assert_eq!(register(Value::from("0"), Some(vec![1; 48])), ShapeError::Field("pcrs"));
    assert_eq!(register(Value::from(0), None), ShapeError::Field("pcrs"), "no PCR0");
    let mut twice = stage.authority.draft();
    let (_, pcrs) = twice.fields.iter_mut().find(|(name, _)| *name == Value::from("pcrs")).unwrap();
    pcrs.as_map_mut().unwrap().push((Value::from(0), bytes(48)));
    let twice = stage.verify(&stage.authority.sign(&twice));
    assert!(matches!(twice, Err(AttestationError::Shape(ShapeError::Field("pcrs")))));

    for payload in [Vec::new(), vec![0xf6], vec![0xa0, 0x00], vec![0xff], encode(&Value::from("text"))] {
        let document = stage.authority.sign_payload(&stage.authority.draft(), payload);
        assert!(matches!(stage.verify(&document), Err(AttestationError::Shape(ShapeError::Payload))));
    }
}

/// Counts how many changes of a document are refused; accepts none.
fn mutate(document: &[u8], other: &[u8], accepted: impl Fn(&[u8]) -> bool) -> usize {
    assert!(accepted(document), "a document that is good, so that what follows shows something");
    let mut count = 0;
    let mut refuse = |changed: &[u8], what: &str, place: usize| {
        assert!(!accepted(changed), "accepted: {what} at {place}");
        count += 1;
    };
    for place in 0..document.len() {
        let mut changed = document.to_vec();
        changed[place] ^= 1 << (place % 8);
        refuse(&changed, "a bit", place);
        refuse(&document[..place], "cut off", place);
    }
    // A piece of another good document, of the same length and place; where both are the same nothing is changed.
    for place in (0..document.len().min(other.len()).saturating_sub(96)).step_by(31) {
        for length in [1, 16, 48, 96] {
            let mut changed = document.to_vec();
            changed[place..place + length].copy_from_slice(&other[place..place + length]);
            if changed != document && changed != other {
                refuse(&changed, "a piece of another document", place);
            }
        }
        let mut changed = document.to_vec();
        changed.insert(place, 0);
        refuse(&changed, "a byte more", place);
        let mut changed = document.to_vec();
        let removed = changed.remove(place);
        if changed.get(place) != Some(&removed) {
            refuse(&changed, "a byte less", place);
        }
    }
    count
}

#[test]
fn no_change_of_our_documents_is_accepted() {
    let stage = Stage::new();
    let document = stage.authority.sign(&stage.authority.draft());
    let other = stage
        .authority
        .sign(&stage.authority.draft().with("nonce", Value::Bytes(vec![7; 32])).with_pcr(0, Some(vec![8; 48])));
    let count = mutate(&document, &other, |bytes| stage.verify(bytes).is_ok());
    assert!(count >= 5000, "{count}");
    // Whole fields of another good document of the same enclave, under the first one's signature.
    let payload = |bytes: &[u8]| -> (Vec<(Value, Value)>, Vec<u8>) {
        let Value::Array(parts) = ciborium::from_reader(bytes).unwrap() else { panic!("an array") };
        let Value::Map(fields) = ciborium::from_reader(parts[2].as_bytes().unwrap().as_slice()).unwrap() else {
            panic!("a map")
        };
        (fields, parts[3].as_bytes().unwrap().clone())
    };
    let ((fields, signature), (others, other_signature)) = (payload(&document), payload(&other));
    for (place, field) in others.iter().enumerate().filter(|(place, field)| fields[*place] != **field) {
        let mut mixed = fields.clone();
        mixed[place] = field.clone();
        for signature in [&signature, &other_signature] {
            let document = stage.authority.draft().around(encode(&Value::Map(mixed.clone())), signature.clone());
            assert!(stage.verify(&document).is_err(), "{field:?}");
        }
    }
}

/// The time a document says it is of, read without any check.
fn own_time(document: &[u8]) -> Timestamp {
    let (at, key) = ([0x1b].as_slice(), b"timestamp");
    let place = document.windows(key.len()).position(|window| window == key).unwrap() + key.len();
    assert_eq!(&document[place..=place], at);
    Timestamp::from_millis(u64::from_be_bytes(document[place + 1..place + 9].try_into().unwrap()))
}

fn own_nonce(document: &[u8]) -> Option<Vec<u8>> {
    let Value::Array(parts) = ciborium::from_reader(document).unwrap() else { panic!("an array") };
    let Value::Map(fields) = ciborium::from_reader(parts[2].as_bytes().unwrap().as_slice()).unwrap() else {
        panic!("a map")
    };
    fields.into_iter().find(|(name, _)| *name == Value::from("nonce"))?.1.into_bytes().ok()
}

#[test]
fn real_documents_are_accepted_at_their_time_only() {
    let Some(read) = support::vectors() else { return };
    let verifier = Verifier::aws();
    let document = read("evervault-2022-pcr8.bin");
    let nonce = own_nonce(&document);
    let at = |time: Timestamp, policy: &PcrPolicy| {
        verifier.verify(&document, nonce.as_deref().unwrap_or(b"x"), policy, time)
    };
    let then = own_time(&document);
    let attested = at(then, &PcrPolicy::any()).unwrap();
    let policy = [PcrIndex::IMAGE, PcrIndex::SIGNER]
        .iter()
        .fold(PcrPolicy::any(), |policy, index| policy.allow(*index, attested.pcrs()[index]));
    at(then, &policy).unwrap();
    assert_ne!(attested.pcrs()[&PcrIndex::SIGNER], Pcr::ZERO);
    assert!(matches!(at(Timestamp::from_millis(now()), &policy), Err(AttestationError::Expired)));
    let later = Timestamp::from_millis(then.as_millis() + 301_000);
    assert!(matches!(at(later, &policy), Err(AttestationError::Stale(_))));
    for name in ["evervault-ga.bin", "evervault-debug-mode.bin"] {
        let document = read(name);
        let nonce = own_nonce(&document).unwrap_or_default();
        let asked = verifier.verify(&document, &nonce, &PcrPolicy::any(), own_time(&document));
        assert!(matches!(asked, Err(AttestationError::DebugMode)), "{name}: {asked:?}");
        let today = verifier.verify(&document, &nonce, &PcrPolicy::any(), Timestamp::from_millis(now()));
        assert!(matches!(today, Err(AttestationError::Expired)), "{name}");
    }
}

#[test]
fn no_change_of_a_real_document_is_accepted() {
    let Some(read) = support::vectors() else { return };
    let verifier = Verifier::aws();
    let (document, other) = (read("evervault-2022-pcr8.bin"), read("evervault-ga.bin"));
    let (nonce, then) = (own_nonce(&document).unwrap(), own_time(&document));
    let count = mutate(&document, &other, |bytes| verifier.verify(bytes, &nonce, &PcrPolicy::any(), then).is_ok());
    assert!(count >= 5000, "{count}");
}
