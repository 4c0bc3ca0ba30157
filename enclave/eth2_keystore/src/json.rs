//! The shape of a keystore file: EIP-2335's JSON, read member by member.
//!
//! Guarantees: an error names the member that is wrong and never quotes a value, because the file may not be
//! a keystore at all but something secret. Members are read in an order that makes the first error the most
//! telling one: version, functions, costs, values.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::error::{Flaw, KeystoreError, Quoted};
use crate::kdf::{Kdf, KdfChoice, KdfLimits};
use crate::keystore::{Fields, MAX_FILE_BYTES};
use crate::wallet::MAX_WALLET_BYTES;

type Object = Map<String, Value>;

/// Bytes of the derived key that EIP-2335 uses: 16 for the cipher, 16 for the checksum.
const LEAST_DKLEN: u64 = 32;

/// What kind of file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// EIP-2335's own.
    Keystore,
    /// With many keys, and without members that are about one.
    Wallet,
}

/// Reads a keystore file.
pub(crate) fn read(file: &[u8], limits: &KdfLimits) -> Result<Fields, KeystoreError> {
    read_as(file, limits, Shape::Keystore)
}

/// Reads a file of this shape.
pub(crate) fn read_as(file: &[u8], limits: &KdfLimits, shape: Shape) -> Result<Fields, KeystoreError> {
    let limit = match shape {
        Shape::Keystore => MAX_FILE_BYTES,
        Shape::Wallet => MAX_WALLET_BYTES,
    };
    if file.len() > limit {
        return Err(KeystoreError::TooLarge { bytes: file.len(), limit });
    }
    let value: Value = serde_json::from_slice(file)
        .map_err(|error| KeystoreError::NotJson { line: error.line(), column: error.column() })?;
    let file = as_object(&value, "keystore")?;
    match number(file, "version", "version")? {
        4 => {}
        found => return Err(KeystoreError::UnsupportedVersion { found }),
    }
    let crypto = object(file, "crypto", "crypto")?;
    let kdf = object(crypto, "kdf", "crypto.kdf")?;
    let checksum = object(crypto, "checksum", "crypto.checksum")?;
    let cipher = object(crypto, "cipher", "crypto.cipher")?;
    let choice = read_kdf(kdf)?;
    match text(checksum, "function", "crypto.checksum.function")? {
        "sha256" => {}
        other => return Err(KeystoreError::UnsupportedChecksum { function: Quoted::new(other) }),
    }
    match text(cipher, "function", "crypto.cipher.function")? {
        "aes-128-ctr" => {}
        other => return Err(KeystoreError::UnsupportedCipher { function: Quoted::new(other) }),
    }

    let kdf_params = object(kdf, "params", "crypto.kdf.params")?;
    let salt = hex_bytes(kdf_params, "salt", "crypto.kdf.params.salt")?;
    let cipher_params = object(cipher, "params", "crypto.cipher.params")?;
    let ciphertext = hex_bytes(cipher, "message", "crypto.cipher.message")?;
    Ok(Fields {
        kdf: Kdf::new(choice, salt, limits)?,
        checksum: hex_array(checksum, "message", "crypto.checksum.message")?,
        iv: hex_array(cipher_params, "iv", "crypto.cipher.params.iv")?,
        ciphertext,
        description: optional_text(file, "description", "description")?.map(str::to_owned),
        pubkey: optional_text(file, "pubkey", "pubkey")?
            .map(|text| text.parse().map_err(|flaw| malformed("pubkey", flaw)))
            .transpose()?,
        path: match shape {
            Shape::Keystore => text(file, "path", "path")?.to_owned(),
            Shape::Wallet => String::new(),
        },
        uuid: Uuid::parse_str(text(file, "uuid", "uuid")?).map_err(|_| malformed("uuid", Flaw::NotUuid))?,
    })
}

fn read_kdf(kdf: &Object) -> Result<KdfChoice, KeystoreError> {
    let function = text(kdf, "function", "crypto.kdf.function")?;
    let params = object(kdf, "params", "crypto.kdf.params")?;
    let choice = match function {
        "scrypt" => KdfChoice::Scrypt {
            n: number(params, "n", "crypto.kdf.params.n")?,
            r: small_number(params, "r", "crypto.kdf.params.r")?,
            p: small_number(params, "p", "crypto.kdf.params.p")?,
        },
        "pbkdf2" => {
            match text(params, "prf", "crypto.kdf.params.prf")? {
                "hmac-sha256" => {}
                other => return Err(KeystoreError::UnsupportedPrf { function: Quoted::new(other) }),
            }
            KdfChoice::Pbkdf2 { c: small_number(params, "c", "crypto.kdf.params.c")? }
        }
        other => return Err(KeystoreError::UnsupportedKdf { function: Quoted::new(other) }),
    };
    let dklen = number(params, "dklen", "crypto.kdf.params.dklen")?;
    if dklen < LEAST_DKLEN {
        let flaw = Flaw::TooSmall { min: LEAST_DKLEN, found: dklen };
        return Err(malformed("crypto.kdf.params.dklen", flaw));
    }
    Ok(choice)
}

/// Writes a keystore file, indented.
pub(crate) fn write(fields: &Fields) -> String {
    let salt = hex::encode(fields.kdf.salt());
    let (function, params) = match fields.kdf.choice() {
        KdfChoice::Scrypt { n, r, p } => {
            ("scrypt", json!({"dklen": LEAST_DKLEN, "n": n, "r": r, "p": p, "salt": salt}))
        }
        KdfChoice::Pbkdf2 { c } => {
            ("pbkdf2", json!({"dklen": LEAST_DKLEN, "c": c, "prf": "hmac-sha256", "salt": salt}))
        }
    };
    let mut file = json!({
        "crypto": {
            "kdf": {"function": function, "params": params, "message": ""},
            "checksum": {"function": "sha256", "params": {}, "message": hex::encode(fields.checksum)},
            "cipher": {
                "function": "aes-128-ctr",
                "params": {"iv": hex::encode(fields.iv)},
                "message": hex::encode(&fields.ciphertext),
            },
        },
        "path": fields.path,
        "uuid": fields.uuid.to_string(),
        "version": 4,
    });
    if let Some(members) = file.as_object_mut() {
        if let Some(description) = &fields.description {
            members.insert("description".to_owned(), json!(description));
        }
        if let Some(pubkey) = fields.pubkey {
            members.insert("pubkey".to_owned(), json!(pubkey.to_bare_hex()));
        }
    }
    format!("{file:#}\n")
}

fn malformed(field: &'static str, flaw: Flaw) -> KeystoreError {
    KeystoreError::Malformed { field, flaw }
}

fn wrong_type(field: &'static str, expected: &'static str) -> KeystoreError {
    malformed(field, Flaw::WrongType { expected })
}

fn required<'a>(object: &'a Object, name: &str, field: &'static str) -> Result<&'a Value, KeystoreError> {
    object.get(name).ok_or(malformed(field, Flaw::Missing))
}

fn as_object<'a>(value: &'a Value, field: &'static str) -> Result<&'a Object, KeystoreError> {
    value.as_object().ok_or(wrong_type(field, "an object"))
}

fn object<'a>(object: &'a Object, name: &str, field: &'static str) -> Result<&'a Object, KeystoreError> {
    as_object(required(object, name, field)?, field)
}

fn text<'a>(object: &'a Object, name: &str, field: &'static str) -> Result<&'a str, KeystoreError> {
    required(object, name, field)?.as_str().ok_or(wrong_type(field, "a string"))
}

/// Absent and null are the same.
fn optional_text<'a>(object: &'a Object, name: &str, field: &'static str) -> Result<Option<&'a str>, KeystoreError> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_str().map(Some).ok_or(wrong_type(field, "a string")),
    }
}

fn number(object: &Object, name: &str, field: &'static str) -> Result<u64, KeystoreError> {
    required(object, name, field)?.as_u64().ok_or(wrong_type(field, "a non-negative integer"))
}

fn small_number(object: &Object, name: &str, field: &'static str) -> Result<u32, KeystoreError> {
    let found = number(object, name, field)?;
    u32::try_from(found).map_err(|_| malformed(field, Flaw::TooLarge { max: u32::MAX.into(), found }))
}

fn hex_bytes(object: &Object, name: &str, field: &'static str) -> Result<Vec<u8>, KeystoreError> {
    hex::decode(text(object, name, field)?).map_err(|_| malformed(field, Flaw::NotHex))
}

fn hex_array<const N: usize>(object: &Object, name: &str, field: &'static str) -> Result<[u8; N], KeystoreError> {
    let bytes = hex_bytes(object, name, field)?;
    let found = bytes.len();
    bytes.try_into().map_err(|_| malformed(field, Flaw::Length { expected: N, found }))
}
