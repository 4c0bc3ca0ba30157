//! What a validator client proves its name with: a certificate of an authority in the data directory, as PEM and as
//! PKCS#12, or a token in its URL.
//!
//! Guarantees: keys and passwords are in files that only this user can read, and on no terminal; a bundle that is there
//! is not overwritten; the caller is known to the server before its certificate is handed out.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use holdfast_domain::{Clock as _, UnixMillis};
use holdfast_enclave::durable::{self, Existing, write_private_file};
use holdfast_secret::SecretText;
use p12_keystore::{Certificate, KeyStore, KeyStoreEntry, PrivateKey, PrivateKeyChain};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use zeroize::Zeroizing;

use super::args::ProofArgs;
use super::callers::{extend, read, write};
use super::{Context, Exit, Failure};
use crate::clock::SystemClock;
use crate::config::{CallerEntry, Fingerprint};

/// Years for which the authority of the data directory is valid.
const AUTHORITY_YEARS: i32 = 20;
/// Years for which a client's certificate is.
const CLIENT_YEARS: i32 = 2;

/// Files of a client.
pub(super) struct Bundle {
    /// Where they are.
    pub(super) dir: PathBuf,
}

impl Bundle {
    /// Certificate and key as PKCS#12.
    pub(super) fn pkcs12(&self) -> PathBuf {
        self.dir.join("client.p12")
    }

    /// The file with its password.
    pub(super) fn password(&self) -> PathBuf {
        self.dir.join("client.password")
    }
}

/// Gives a caller a further token for its URL; makes the caller if it is none yet.
pub(super) fn token(name: &str, context: &Context) -> Result<SecretText, Failure> {
    let mut file = read(context)?;
    let caller = entry(&mut file.callers, name, context)?;
    let made = extend(caller, &ProofArgs { basic: true, ..ProofArgs::default() })?;
    write(&file, context)?;
    made.basic.ok_or_else(|| Failure::message(Exit::Bug, "no token was made"))
}

/// Makes a certificate for a caller, and the caller if it is none yet.
pub(super) fn make(name: &str, dir: &Path, context: &Context) -> Result<Bundle, Failure> {
    let bundle = Bundle { dir: dir.to_owned() };
    if bundle.pkcs12().exists() {
        let problem = format!("{} is there; choose another folder with --bundle", bundle.pkcs12().display());
        return Err(Failure::message(Exit::Refused, problem));
    }
    let mut file = read(context)?;
    let caller = entry(&mut file.callers, name, context)?;
    let (issuer, authority) = authority(context)?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    lasting(&mut params, CLIENT_YEARS);
    let key = KeyPair::generate().map_err(unmade)?;
    let certificate = params.signed_by(&key, &issuer).map_err(unmade)?;
    let private = Zeroizing::new(key.serialize_der());
    let password = password()?;
    let pkcs12 = pkcs12(name, &private, certificate.der(), password.expose())?;

    durable::create_private_dir(dir).map_err(|error| Failure::new(Exit::Usage, error))?;
    let put = |file: PathBuf, content: &[u8]| {
        write_private_file(&file, content, Existing::Refuse).map_err(|error| Failure::new(Exit::Refused, error))
    };
    put(bundle.dir.join("client.key"), pem("PRIVATE KEY", &private).expose().as_bytes())?;
    let chain = format!("{}{authority}", pem("CERTIFICATE", certificate.der()).expose());
    put(bundle.dir.join("client.pem"), chain.as_bytes())?;
    put(bundle.password(), password.expose().as_bytes())?;
    put(bundle.pkcs12(), &pkcs12)?;
    caller.certificate_fingerprints.push(Fingerprint::of(certificate.der()));
    write(&file, context)?;
    Ok(bundle)
}

/// The caller in the file, a new one if need be.
fn entry<'a>(callers: &'a mut Vec<CallerEntry>, name: &str, context: &Context) -> Result<&'a mut CallerEntry, Failure> {
    if context.config.callers.iter().any(|caller| caller.name == name) {
        let problem = format!("{name} stands in the configuration file; add its proof there, or choose another name");
        return Err(Failure::message(Exit::Refused, problem));
    }
    let place = callers.iter().position(|caller| caller.name == name).unwrap_or(callers.len());
    if place == callers.len() {
        let caller = CallerEntry { name: name.to_owned(), ..CallerEntry::default() };
        caller.caller_name().map_err(|problem| Failure::message(Exit::Usage, problem))?;
        callers.push(caller);
    }
    callers.get_mut(place).ok_or_else(|| Failure::message(Exit::Bug, "the caller is lost"))
}

/// The authority of the data directory, made if it is not there, and its certificate as PEM.
fn authority(context: &Context) -> Result<(Issuer<'static, KeyPair>, String), Failure> {
    let dir = context.config.data_dir();
    durable::create_private_dir(dir).map_err(|error| Failure::new(Exit::Usage, error))?;
    let (key_file, file) = (dir.join("client-ca.key"), dir.join("client-ca.pem"));
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Holdfast clients");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    lasting(&mut params, AUTHORITY_YEARS);
    if key_file.exists() {
        let unread = |what: &Path, why: String| {
            Failure::message(
                Exit::Usage,
                format!("the authority for clients in {} cannot be used: {why}", what.display()),
            )
        };
        let key =
            PrivatePkcs8KeyDer::from_pem_file(&key_file).map_err(|error| unread(&key_file, format!("{error:?}")))?;
        let key = KeyPair::try_from(&key).map_err(|error| unread(&key_file, error.to_string()))?;
        let certificate = std::fs::read_to_string(&file).map_err(|error| unread(&file, error.to_string()))?;
        return Ok((Issuer::new(params, key), certificate));
    }
    let key = KeyPair::generate().map_err(unmade)?;
    let certificate = pem("CERTIFICATE", params.self_signed(&key).map_err(unmade)?.der());
    let put = |file: &Path, content: &[u8]| {
        write_private_file(file, content, Existing::Refuse).map_err(|error| Failure::new(Exit::Refused, error))
    };
    // The key last: while it is missing, the whole is made again.
    write_private_file(&file, certificate.expose().as_bytes(), Existing::Replace)
        .map_err(|error| Failure::new(Exit::Refused, error))?;
    put(&key_file, pem("PRIVATE KEY", key.serialized_der()).expose().as_bytes())?;
    Ok((Issuer::new(params, key), certificate.expose().to_owned()))
}

/// Valid from yesterday, as clocks differ, for whole years.
fn lasting(params: &mut CertificateParams, years: i32) {
    let today = SystemClock.now().0;
    let yesterday = UnixMillis(today.saturating_sub(86_400_000)).rfc3339();
    let mut parts = yesterday.split(['-', 'T']).map(|part| part.parse::<i32>().unwrap_or(1));
    let (year, month, day) = (parts.next().unwrap_or(2_026), parts.next().unwrap_or(1), parts.next().unwrap_or(1));
    let small = |number: i32| u8::try_from(number).unwrap_or(1);
    // Every month has 28 days.
    let date = |year| rcgen::date_time_ymd(year, small(month), small(day.min(28)));
    params.not_before = date(year);
    params.not_after = date(year.saturating_add(years));
}

fn password() -> Result<SecretText, Failure> {
    let mut bytes = Zeroizing::new([0; 24]);
    getrandom::fill(bytes.as_mut_slice())
        .map_err(|error| Failure::message(Exit::Unreachable, format!("the system gave no random bytes: {error}")))?;
    Ok(SecretText::new(URL_SAFE_NO_PAD.encode(bytes.as_slice())))
}

fn pkcs12(name: &str, private: &[u8], certificate: &[u8], password: &str) -> Result<Vec<u8>, Failure> {
    let make = || {
        let key = PrivateKey::from_der(private)?;
        let chain = PrivateKeyChain::new(name, key, [Certificate::from_der(certificate)?]);
        let mut store = KeyStore::new();
        store.add_entry(name, KeyStoreEntry::PrivateKeyChain(chain));
        store.writer(password).write()
    };
    make().map_err(|error: p12_keystore::error::Error| Failure::new(Exit::Bug, error))
}

/// A PEM section (RFC 7468).
fn pem(label: &str, der: &[u8]) -> SecretText {
    let digits = Zeroizing::new(STANDARD.encode(der));
    let mut text = Zeroizing::new(format!("-----BEGIN {label}-----\n"));
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && index % 64 == 0 {
            text.push('\n');
        }
        text.push(digit);
    }
    text.extend(["\n-----END ", label, "-----\n"]);
    SecretText::new(text.as_str())
}

fn unmade(error: rcgen::Error) -> Failure {
    Failure::new(Exit::Bug, anyhow::Error::new(error).context("a certificate could not be made"))
}
