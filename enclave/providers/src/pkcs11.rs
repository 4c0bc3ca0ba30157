//! An AES key in a hardware module, reached through the vendor's PKCS#11 library.
//!
//! Guarantees: the key never leaves the token, only guards pass through it; the library is loaded for one call and
//! finalized after it; a login is not tried when a further wrong PIN would lock the token. The vendor's code runs in
//! the process that calls, so a server calls from a helper process.
//!
//! AES-GCM binds the ciphertext to network and data key. AES-KWP cannot; what a guard seals is bound all the same.
//! Tokens answer a failed decryption with whatever code they like, so any error there means that it was refused.

use std::path::PathBuf;
use std::time::Duration;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11 as Library};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism as Ck;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use holdfast_enclave::provider::{
    GuardKey, KeyService, ProviderKind, Remote, ServiceError, ServiceFailure, WrapContext,
};
use zeroize::Zeroizing;

use crate::secret_file::{self, Privacy};

/// Bytes of a GCM nonce.
const NONCE_LEN: usize = 12;
/// Bits of a GCM tag.
const TAG_BITS: u64 = 128;

/// How the token encrypts a guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// AES in Galois/Counter mode, on data.
    AesGcm,
    /// AES key wrap with padding, on a session object: for tokens that only wrap keys.
    AesKwp,
}

/// Which key, and how to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pkcs11Options {
    /// The vendor's library.
    pub module: PathBuf,
    /// Label of the token.
    pub token: String,
    /// Label of the AES key.
    pub key: String,
    /// File with the user PIN; without one, no login.
    pub pin_file: Option<PathBuf>,
    /// How the token encrypts.
    pub mechanism: Mechanism,
    /// How long one call may take.
    pub timeout: Duration,
}

/// A key in a hardware module.
pub struct Pkcs11 {
    options: Pkcs11Options,
}

impl Pkcs11 {
    /// The provider of this key.
    pub fn provider(options: Pkcs11Options) -> Remote<Self> {
        let limit = options.timeout;
        Remote::new(Self { options }, limit)
    }

    /// Loads the library, logs in, finds the key, and does something with it.
    fn with_key<R>(
        &self,
        f: impl FnOnce(&Session, ObjectHandle) -> Result<R, ServiceError>,
    ) -> Result<R, ServiceError> {
        let module = &self.options.module;
        let loaded = Library::new(module).map_err(|error| {
            ServiceError::new(ServiceFailure::Unusable, format!("cannot load {}: {error}", module.display()))
        })?;
        match loaded.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
            Err(error) => return Err(failed(&error)),
        }
        let done = self.slot(&loaded).and_then(|slot| {
            let session = self.session(&loaded, slot)?;
            let key = self.find(&session)?;
            let done = f(&session, key);
            // Closing the last session logs out as well.
            drop(session);
            done
        });
        // A library that cannot be finalized is as good as gone with the process.
        let _ = loaded.finalize();
        done
    }

    fn slot(&self, library: &Library) -> Result<Slot, ServiceError> {
        let wanted = self.options.token.as_str();
        let mut others = Vec::new();
        for slot in library.get_slots_with_token().map_err(|error| failed(&error))? {
            let info = library.get_token_info(slot).map_err(|error| failed(&error))?;
            let label = info.label().trim_end().to_owned();
            if label == wanted {
                if self.options.pin_file.is_some() && (info.user_pin_final_try() || info.user_pin_locked()) {
                    let text =
                        "its PIN is locked, or would be after one more wrong one; log in with the vendor's tool first";
                    return Err(ServiceError::new(ServiceFailure::Denied, text));
                }
                return Ok(slot);
            }
            others.push(label);
        }
        let text = format!("there is no token {wanted:?}; there are {others:?}");
        Err(ServiceError::new(ServiceFailure::KeyMissing, text))
    }

    fn session(&self, library: &Library, slot: Slot) -> Result<Session, ServiceError> {
        let session = library.open_ro_session(slot).map_err(|error| failed(&error))?;
        if let Some(path) = &self.options.pin_file {
            let pin = secret_file::read(path, Privacy::Required)?;
            match session.login(UserType::User, Some(&AuthPin::new(pin.expose().into()))) {
                Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {}
                Err(error) => return Err(failed(&error)),
            }
        }
        Ok(session)
    }

    fn find(&self, session: &Session) -> Result<ObjectHandle, ServiceError> {
        let label = self.options.key.as_bytes().to_vec();
        let wanted =
            [Attribute::Class(ObjectClass::SECRET_KEY), Attribute::KeyType(KeyType::AES), Attribute::Label(label)];
        let found = session.find_objects(&wanted).map_err(|error| failed(&error))?;
        match found.as_slice() {
            [key] => Ok(*key),
            [] => Err(ServiceError::new(ServiceFailure::KeyMissing, "the token has no AES key with this label")),
            several => {
                let text =
                    format!("the token has {} AES keys with this label; give one of them another", several.len());
                Err(ServiceError::new(ServiceFailure::Unusable, text))
            }
        }
    }
}

impl KeyService for Pkcs11 {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Pkcs11
    }

    fn key(&self) -> &str {
        &self.options.key
    }

    fn encrypt(&self, guard: &GuardKey, context: &WrapContext) -> Result<Vec<u8>, ServiceError> {
        let aad = context.line();
        self.with_key(|session, key| match self.options.mechanism {
            Mechanism::AesGcm => {
                let mut nonce = [0; NONCE_LEN];
                getrandom::fill(&mut nonce).map_err(|error| ServiceError::new(ServiceFailure::Unusable, error))?;
                let ciphertext = {
                    let parameters = gcm(&mut nonce, aad.as_bytes())?;
                    guard.expose(|guard| session.encrypt(&Ck::AesGcm(parameters), key, guard))
                };
                // Some tokens choose the nonce themselves and write it back.
                ciphertext.map(|ciphertext| [nonce.as_slice(), &ciphertext].concat()).map_err(|error| failed(&error))
            }
            Mechanism::AesKwp => {
                let template = |value| {
                    let mut template = session_secret();
                    template.push(Attribute::Value(value));
                    template
                };
                let made = guard.expose(|guard| session.create_object(&template(guard.to_vec())));
                let made = made.map_err(|error| failed(&error))?;
                let wrapped = session.wrap_key(&Ck::AesKeyWrapPad, key, made);
                let destroyed = session.destroy_object(made);
                let wrapped = wrapped.map_err(|error| failed(&error))?;
                destroyed.map_err(|error| failed(&error))?;
                Ok(wrapped)
            }
        })
    }

    fn decrypt(&self, ciphertext: &[u8], context: &WrapContext) -> Result<GuardKey, ServiceError> {
        let aad = context.line();
        self.with_key(|session, key| match self.options.mechanism {
            Mechanism::AesGcm => {
                let short = || ServiceError::new(ServiceFailure::Rejected, "the ciphertext is too short");
                let (nonce, rest) = ciphertext.split_first_chunk::<NONCE_LEN>().ok_or_else(short)?;
                let mut nonce = *nonce;
                let parameters = gcm(&mut nonce, aad.as_bytes())?;
                let plain = session.decrypt(&Ck::AesGcm(parameters), key, rest);
                GuardKey::take(&mut plain.map_err(|error| refused(&error))?)
            }
            Mechanism::AesKwp => {
                let template = session_secret();
                let made = session.unwrap_key(&Ck::AesKeyWrapPad, key, ciphertext, &template);
                let made = made.map_err(|error| refused(&error))?;
                let read = session.get_attributes(made, &[AttributeType::Value]);
                let destroyed = session.destroy_object(made);
                let read = read.map_err(|error| failed(&error))?;
                destroyed.map_err(|error| failed(&error))?;
                match read.into_iter().next() {
                    Some(Attribute::Value(value)) => GuardKey::take(&mut Zeroizing::new(value)),
                    _ => Err(ServiceError::new(ServiceFailure::Unusable, "the token does not give out unwrapped keys")),
                }
            }
        })
    }
}

fn gcm<'a>(nonce: &'a mut [u8], aad: &'a [u8]) -> Result<GcmParams<'a>, ServiceError> {
    GcmParams::new(nonce, aad, TAG_BITS.into()).map_err(|error| failed(&error))
}

/// A secret of this session that may leave the token again.
fn session_secret() -> Vec<Attribute> {
    vec![
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::GENERIC_SECRET),
        Attribute::Token(false),
        Attribute::Private(true),
        Attribute::Sensitive(false),
        Attribute::Extractable(true),
    ]
}

/// A decryption that failed: tokens do not agree on how to say so.
fn refused(error: &Error) -> ServiceError {
    match error {
        Error::Pkcs11(
            RvError::KeyFunctionNotPermitted
            | RvError::MechanismInvalid
            | RvError::DeviceRemoved
            | RvError::DeviceError
            | RvError::TokenNotPresent
            | RvError::DeviceMemory
            | RvError::HostMemory
            | RvError::SessionCount
            | RvError::UserNotLoggedIn
            | RvError::KeyTypeInconsistent,
            _,
        ) => failed(error),
        error => ServiceError::new(ServiceFailure::Rejected, error.to_string()),
    }
}

/// What went wrong, sorted by what to do about it.
fn failed(error: &Error) -> ServiceError {
    let failure = match error {
        Error::Pkcs11(code, _) => match code {
            // Not "credentials", which are tried again later: each further wrong PIN brings the lock nearer.
            RvError::PinIncorrect
            | RvError::PinInvalid
            | RvError::PinLenRange
            | RvError::PinExpired
            | RvError::PinLocked
            | RvError::UserNotLoggedIn
            | RvError::UserPinNotInitialized => ServiceFailure::Denied,
            RvError::KeyFunctionNotPermitted => ServiceFailure::KeyDisabled,
            RvError::TokenNotPresent | RvError::DeviceRemoved | RvError::DeviceError | RvError::SlotIdInvalid => {
                ServiceFailure::Unreachable
            }
            RvError::SessionCount | RvError::HostMemory | RvError::DeviceMemory => ServiceFailure::Busy,
            _ => ServiceFailure::Unusable,
        },
        _ => ServiceFailure::Unusable,
    };
    ServiceError::new(failure, error.to_string())
}
