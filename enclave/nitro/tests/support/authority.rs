//! An authority of our own that does what AWS's does: root, region, zone, instance and enclave, all on P-384, and documents
//! signed by the last; each part can be made wrong.

use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair};
use ciborium::Value;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P384_SHA384, date_time_ymd,
};

/// Milliseconds since 1970, now.
pub(crate) fn now() -> u64 {
    #[allow(clippy::disallowed_methods, reason = "these documents are of now")]
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis().try_into().unwrap()
}

/// Certificates and the key of an enclave.
pub(crate) struct Authority {
    /// From the root down to the instance.
    pub(crate) bundle: Vec<Vec<u8>>,
    /// Of the enclave.
    pub(crate) leaf: Vec<u8>,
    key: EcdsaKeyPair,
}

fn parameters(name: &str, is_ca: bool) -> CertificateParams {
    let mut parameters = CertificateParams::new(Vec::<String>::new()).unwrap();
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.is_ca = if is_ca { IsCa::Ca(BasicConstraints::Unconstrained) } else { IsCa::ExplicitNoCa };
    parameters.key_usages =
        if is_ca { vec![KeyUsagePurpose::KeyCertSign] } else { vec![KeyUsagePurpose::DigitalSignature] };
    parameters
}

impl Authority {
    /// One whose enclave's certificate is valid from `before` until `after`, in milliseconds since 1970.
    pub(crate) fn valid(before: u64, after: u64) -> Self {
        let key = || KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        let (root, root_key) = (parameters("a test's root", true), key());
        let mut bundle = vec![root.self_signed(&root_key).unwrap().der().to_vec()];
        let mut issuer = Issuer::new(root, root_key);
        for name in ["region", "zone", "instance"] {
            let (parameters, key) = (parameters(name, true), key());
            bundle.push(parameters.signed_by(&key, &issuer).unwrap().der().to_vec());
            issuer = Issuer::new(parameters, key);
        }
        let mut enclave = parameters("enclave", false);
        let at = |millis: u64| date_time_ymd(1970, 1, 1) + Duration::from_secs(millis / 1000);
        (enclave.not_before, enclave.not_after) = (at(before), at(after));
        let key = key();
        let leaf = enclave.signed_by(&key, &issuer).unwrap().der().to_vec();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, key.serialized_der()).unwrap();
        Self { bundle, leaf, key }
    }

    /// One of now, valid for three hours as those of AWS are.
    pub(crate) fn of_now() -> Self {
        Self::valid(now() - 60_000, now() + 3 * 3_600_000)
    }

    /// A good document, to be made wrong.
    pub(crate) fn draft(&self) -> Draft {
        let bytes = |bytes: &[u8]| Value::Bytes(bytes.to_vec());
        let pcrs = (0..16).map(|index: u8| (Value::from(index), bytes(&[index + 1; 48]))).collect();
        Draft {
            head: 0x84,
            protected: vec![0xa1, 0x01, 0x38, 0x22],
            unprotected: Value::Map(Vec::new()),
            fields: vec![
                ("module_id", Value::from("i-0123456789abcdef0-enc0123456789abcdef0")),
                ("digest", Value::from("SHA384")),
                ("timestamp", Value::from(now())),
                ("pcrs", Value::Map(pcrs)),
                ("certificate", bytes(&self.leaf)),
                ("cabundle", Value::Array(self.bundle.iter().map(|der| bytes(der)).collect())),
                ("public_key", bytes(b"a public key")),
                ("user_data", Value::Null),
                ("nonce", bytes(NONCE)),
            ]
            .into_iter()
            .map(|(name, value)| (Value::from(name), value))
            .collect(),
            after: Vec::new(),
        }
    }

    /// Signs a draft.
    pub(crate) fn sign(&self, draft: &Draft) -> Vec<u8> {
        let payload = encode(&Value::Map(draft.fields.clone()));
        self.sign_payload(draft, payload)
    }

    /// Signs any bytes as the payload.
    pub(crate) fn sign_payload(&self, draft: &Draft, payload: Vec<u8>) -> Vec<u8> {
        // RFC 9052, section 4.4.
        let signed = encode(&Value::Array(vec![
            Value::from("Signature1"),
            Value::Bytes(draft.protected.clone()),
            Value::Bytes(Vec::new()),
            Value::Bytes(payload.clone()),
        ]));
        let signature = self.key.sign(&SystemRandom::new(), &signed).unwrap().as_ref().to_vec();
        draft.around(payload, signature)
    }
}

/// What every good document answers.
pub(crate) const NONCE: &[u8] = b"asked just now, with 32 bytes...";

/// A document before it is signed.
#[derive(Clone)]
pub(crate) struct Draft {
    /// First byte: an array of four.
    pub(crate) head: u8,
    /// Signed header, encoded.
    pub(crate) protected: Vec<u8>,
    /// The other header.
    pub(crate) unprotected: Value,
    /// Payload.
    pub(crate) fields: Vec<(Value, Value)>,
    /// Bytes behind the document.
    pub(crate) after: Vec<u8>,
}

impl Draft {
    /// With another value of a field.
    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.fields.iter_mut().find(|(field, _)| *field == Value::from(name)).unwrap().1 = value.into();
        self
    }

    /// Without a field.
    #[must_use]
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.fields.retain(|(field, _)| *field != Value::from(name));
        self
    }

    /// With one more field.
    #[must_use]
    pub(crate) fn and(mut self, name: impl Into<Value>, value: impl Into<Value>) -> Self {
        self.fields.push((name.into(), value.into()));
        self
    }

    /// With another value of one register, or another kind of entry among them.
    #[must_use]
    pub(crate) fn with_pcr(mut self, index: impl Into<Value>, value: Option<Vec<u8>>) -> Self {
        let (_, pcrs) = self.fields.iter_mut().find(|(field, _)| *field == Value::from("pcrs")).unwrap();
        let (pcrs, index) = (pcrs.as_map_mut().unwrap(), index.into());
        pcrs.retain(|(number, _)| *number != index);
        pcrs.extend(value.map(|value| (index, Value::Bytes(value))));
        self
    }

    /// The document with this payload and this signature.
    pub(crate) fn around(&self, payload: Vec<u8>, signature: Vec<u8>) -> Vec<u8> {
        let mut document = vec![self.head];
        document.extend(encode(&Value::Bytes(self.protected.clone())));
        document.extend(encode(&self.unprotected));
        document.extend(encode(&Value::Bytes(payload)));
        document.extend(encode(&Value::Bytes(signature)));
        document.extend(&self.after);
        document
    }
}

/// CBOR.
pub(crate) fn encode(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).unwrap();
    bytes
}
