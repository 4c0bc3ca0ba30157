//! The image of an enclave under QEMU's Nitro machine, whose security module measures it, and a key service that opens
//! only for what was measured. QEMU signs its documents with zeros, so the service is one of the tests (mock-kms) and the
//! product's own verifier refuses them, which is shown as well.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use holdfast_nitro::eif::{Image, Measurements};
use holdfast_tests::elsewhere::kms::Kms;
use holdfast_tests::elsewhere::recipient::{Document, RecipientPolicy};
use holdfast_tests::http::once;
use holdfast_vault_proto::{
    Answer, Bound, DataKeyBytes, Failure, KeyOutcome, Operation, Protections, Reason, Request, VERSION,
};
use serde_json::{Value, json};

use crate::hostile::{conflicts, nothing_conflicting};
use crate::support::chain::{GENESIS, block, network, wound_back};
use crate::support::image;
use crate::support::keys::{KnownDataKey, secret};
use crate::support::line::{Greeting, Line};
use crate::support::machine::Machine;

/// Alias of the key that wraps the data key.
const KEY: &str = "enclave";

/// The image of these tests.
fn image() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(|| image::nitro(b"ours"))
}

fn boot(image: &Image) -> Machine {
    Machine::nitro(&image.to_bytes().unwrap())
}

fn attest(line: &mut Line, nonce: &[u8]) -> Vec<u8> {
    match line.ask(&Request::Attest { nonce: nonce.to_vec() }) {
        Answer::Attested(document) => document,
        other => panic!("{other:?}"),
    }
}

/// A key service with one data key, wrapped by a key that only this image may use.
pub(crate) struct Service {
    kms: Kms,
    wrapped: String,
}

impl Service {
    pub(crate) fn new(data_key: &KnownDataKey, allowed: &Measurements) -> Self {
        let kms = Kms::start(&[KEY]);
        let mut service = Self { kms, wrapped: String::new() };
        let plaintext = BASE64.encode(data_key.plain);
        let wrapped = service.call("Encrypt", &json!({ "KeyId": KEY, "Plaintext": plaintext })).unwrap();
        wrapped["CiphertextBlob"].as_str().unwrap().clone_into(&mut service.wrapped);
        let policy = RecipientPolicy::default().allow(0, allowed.pcr0).allow(1, allowed.pcr1).allow(2, allowed.pcr2);
        service.kms.only_for(policy);
        service
    }

    /// A call as the host makes it. The answer, or the code of an error.
    fn call(&self, operation: &str, body: &Value) -> Result<Value, String> {
        let address: SocketAddr = self.kms.url().strip_prefix("http://").unwrap().parse().unwrap();
        let target = format!("TrentService.{operation}");
        let headers = [
            ("Content-Type", "application/x-amz-json-1.1"),
            ("X-Amz-Target", target.as_str()),
            ("Authorization", "AWS4-HMAC-SHA256 Credential=AKIATEST/20260101/eu-west-1/kms/aws4_request"),
        ];
        let response = once(address, "POST", "/", &headers, body.to_string().as_bytes()).unwrap();
        let body = response.json();
        if response.status == 200 { Ok(body) } else { Err(body["__type"].as_str().unwrap().to_owned()) }
    }

    /// The data key, encrypted to the enclave of a document.
    pub(crate) fn envelope_for(&self, document: &[u8]) -> Result<Vec<u8>, String> {
        let recipient = json!({
            "KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256",
            "AttestationDocument": BASE64.encode(document),
        });
        let body = json!({ "KeyId": KEY, "CiphertextBlob": self.wrapped, "Recipient": recipient });
        let answer = self.call("Decrypt", &body)?;
        assert!(answer["Plaintext"].is_null(), "the data key in the clear");
        Ok(BASE64.decode(answer["CiphertextForRecipient"].as_str().unwrap()).unwrap())
    }
}

/// A booted enclave that took the chain, and what it said.
pub(crate) fn enclave() -> (Machine, Line, Greeting) {
    let mut machine = boot(image());
    let (line, greeting) = Line::pinned(&mut machine);
    (machine, line, greeting)
}

pub(crate) fn measured() {
    let mut machine = boot(image());
    let (mut line, greeting) = Line::greeted(&mut machine);
    let full = [
        Protections::SECRET_MEMORY,
        Protections::LOCKED_MEMORY,
        Protections::UNDUMPABLE,
        Protections::NO_NEW_PRIVILEGES,
        Protections::LANDLOCK,
    ];
    assert!(full.iter().all(|one| greeting.protections.has(*one)), "{:?}", greeting.protections);
    let before = Document::read(&attest(&mut line, b"first")).unwrap();
    assert_eq!(Bound::decode(&before.user_data).unwrap(), Bound { version: VERSION, chain: None });
    for slots in [1, 5_000] {
        let wound = line.ask(&Request::Pin(Box::new(wound_back(slots))));
        assert_eq!(wound, Answer::Failed(Failure::UnknownChain));
    }
    assert_eq!(line.ask(&Request::Pin(Box::new(network()))), Answer::Done(Operation::Pin));

    let bytes = attest(&mut line, b"second");
    let document = Document::read(&bytes).unwrap();
    let expected = image().measurements();
    println!("PCR0 {}\nPCR1 {}\nPCR2 {}", expected.pcr0, expected.pcr1, expected.pcr2);
    for (index, value) in [(0, expected.pcr0), (1, expected.pcr1), (2, expected.pcr2)] {
        assert_eq!(document.pcrs[&index], value, "PCR{index} is what the image file says");
    }
    assert_eq!((document.nonce.as_slice(), document.public_key), (b"second".as_slice(), greeting.boot_key));
    assert_eq!(Bound::decode(&document.user_data).unwrap(), Bound { version: VERSION, chain: Some(GENESIS) });
    let now = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
    assert!(document.timestamp.abs_diff(now) < 60_000, "{} at {now}", document.timestamp);
    // The vault's clock is the module's.
    let clock = line.health().clock_millis;
    assert!(clock.abs_diff(now) < 2_000, "{clock} at {now}");

    assert_eq!(line.ask(&Request::Shutdown), Answer::Done(Operation::Shutdown));
    assert!(machine.ends(), "it switches itself off when it is told to");
}

pub(crate) fn key_service() {
    let (data_key, forged, secret) = (KnownDataKey::new(11), KnownDataKey::new(12), secret());
    let sealed = || vec![data_key.seal(&secret)];
    let service = Service::new(&data_key, &image().measurements());
    let (_machine, mut line, greeting) = enclave();
    let document = attest(&mut line, b"");

    // Whoever is no enclave, or one that can be debugged, or another image, gets nothing.
    let plain = service.call("Decrypt", &json!({ "KeyId": KEY, "CiphertextBlob": service.wrapped }));
    assert_eq!(plain.unwrap_err(), "AccessDeniedException");
    let place = document.windows(48).position(|window| window == image().measurements().pcr0.as_bytes()).unwrap();
    let mut debugged = document.clone();
    debugged[place..place + 48].fill(0);
    assert_eq!(service.envelope_for(&debugged).unwrap_err(), "AccessDeniedException");
    let other_image = image::nitro(b"another");
    assert_eq!(other_image.measurements().pcr1, image().measurements().pcr1, "the platform is the same");
    let mut other = boot(&other_image);
    let (mut other_line, _) = Line::pinned(&mut other);
    let other_document = attest(&mut other_line, b"");
    assert_eq!(service.envelope_for(&other_document).unwrap_err(), "AccessDeniedException");

    // What the service encrypts opens in this boot, and nothing else does in any.
    let envelope = service.envelope_for(&document).unwrap();
    assert_eq!(other_line.provision(envelope.clone(), sealed()), Err(Failure::NotForThisBoot));
    assert_eq!(other_line.health().keys, 0);
    let plain = Request::Provision { data_key: DataKeyBytes::new(&data_key.plain), keys: sealed() };
    assert_eq!(line.ask(&plain), Answer::Failed(Failure::PlainDataKey));
    assert_eq!(line.provision(forged.envelope(&greeting.boot_key), sealed()), Ok(vec![KeyOutcome::OtherDataKey]));
    assert_eq!(line.provision(envelope[..400].to_vec(), sealed()), Err(Failure::NotForThisBoot));
    assert_eq!(line.health().keys, 0);
    assert_eq!(line.provision(envelope, sealed()), Ok(vec![KeyOutcome::Opened]));
}

pub(crate) fn nothing_slashable() {
    let (data_key, secret) = (KnownDataKey::new(13), secret());
    let key = *secret.public_key();
    let service = Service::new(&data_key, &image().measurements());
    let (mut machine, mut line, _) = enclave();
    let envelope = service.envelope_for(&attest(&mut line, b"")).unwrap();
    assert_eq!(line.provision(envelope, vec![data_key.seal(&secret)]), Ok(vec![KeyOutcome::Opened]));
    let number = conflicts(&mut line, key);
    drop(line);
    for garbage in [b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec![0xff; 70_000], vec![0, 0, 0, 9, 5]] {
        Line::greeted(&mut machine).0.hangs_up_on(&garbage);
    }
    let (mut line, greeting) = Line::pinned(&mut machine);
    assert!(greeting.pinned);
    let reasons = line.reasons(key, &[block(number, 1), block(number, 2)]);
    assert_eq!(reasons, [None, Some(Reason::DoubleBlock)]);
}

pub(crate) fn rollback() {
    let (data_key, secret) = (KnownDataKey::new(14), secret());
    let (key, sealed) = (*secret.public_key(), vec![data_key.seal(&secret)]);
    let service = Service::new(&data_key, &image().measurements());
    let (machine, mut line, _) = enclave();
    let document = attest(&mut line, b"");
    let old = service.envelope_for(&document).unwrap();
    assert_eq!(line.provision(old.clone(), sealed.clone()), Ok(vec![KeyOutcome::Opened]));
    let number = conflicts(&mut line, key);
    drop(machine);

    let (_machine, mut line, _) = enclave();
    assert_eq!(line.provision(old, sealed.clone()), Err(Failure::NotForThisBoot));
    // The document of the killed boot is still good at the service, and what it gets for it opens nowhere any more.
    let late = service.envelope_for(&document).unwrap();
    assert_eq!(line.provision(late, sealed.clone()), Err(Failure::NotForThisBoot));
    let envelope = service.envelope_for(&attest(&mut line, b"")).unwrap();
    assert_eq!(line.provision(envelope, sealed), Ok(vec![KeyOutcome::Opened]));
    nothing_conflicting(&mut line, key, number);
    conflicts(&mut line, key);
}

/// Both pass the same policy. What the fence covers is everything signed before the second got its keys; what two signed
/// at the same time is for the lease.
pub(crate) fn clones() {
    let (data_key, secret) = (KnownDataKey::new(15), secret());
    let (key, sealed) = (*secret.public_key(), vec![data_key.seal(&secret)]);
    let service = Service::new(&data_key, &image().measurements());
    let (_one, mut first, one) = enclave();
    let (_two, mut second, two) = enclave();
    assert_ne!(one.boot_key, two.boot_key);
    let envelope = service.envelope_for(&attest(&mut first, b"")).unwrap();
    assert_eq!(second.provision(envelope.clone(), sealed.clone()), Err(Failure::NotForThisBoot));
    assert_eq!(first.provision(envelope, sealed.clone()), Ok(vec![KeyOutcome::Opened]));
    let number = conflicts(&mut first, key);
    let envelope = service.envelope_for(&attest(&mut second, b"")).unwrap();
    assert_eq!(second.provision(envelope, sealed), Ok(vec![KeyOutcome::Opened]));
    nothing_conflicting(&mut second, key, number);
}
