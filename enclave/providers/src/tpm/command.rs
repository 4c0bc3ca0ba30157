//! The ten commands of a TPM 2.0 that sealing needs (TPM 2.0 Library, Part 3), and what its errors mean.

use std::path::Path;
use std::time::Duration;

use holdfast_enclave::provider::{ServiceError, ServiceFailure};
use zeroize::Zeroizing;

use super::device::{Device, HEADER};
use super::wire::{In, Out};

/// Bytes of a register in the SHA-256 bank.
pub(super) const PCR_LEN: usize = 32;
/// Bytes of the bitmap that selects registers.
const BITMAP: usize = 3;

const NO_SESSIONS: u16 = 0x8001;
const SESSIONS: u16 = 0x8002;
/// Password authorization.
const PASSWORD: u32 = 0x4000_0009;
const OWNER: u32 = 0x4000_0001;
const NULL_HANDLE: u32 = 0x4000_0007;
const SHA256: u16 = 0x000b;
const NULL: u16 = 0x0010;
const AES: u16 = 0x0006;
const CFB: u16 = 0x0043;
const ECC: u16 = 0x0023;
const KEYED_HASH: u16 = 0x0008;
const NIST_P256: u16 = 0x0003;

const CREATE_PRIMARY: u32 = 0x0131;
const CREATE: u32 = 0x0153;
const LOAD: u32 = 0x0157;
const UNSEAL: u32 = 0x015e;
const FLUSH_CONTEXT: u32 = 0x0165;
const START_AUTH_SESSION: u32 = 0x0176;
const PCR_READ: u32 = 0x017e;
const POLICY_PCR: u32 = 0x017f;
const POLICY_GET_DIGEST: u32 = 0x0189;
const POLICY_PASSWORD: u32 = 0x018c;

// Attributes of objects.
const FIXED_TPM: u32 = 1 << 1;
const FIXED_PARENT: u32 = 1 << 4;
const SENSITIVE_DATA_ORIGIN: u32 = 1 << 5;
const USER_WITH_AUTH: u32 = 1 << 6;
const NO_DICTIONARY_ATTACK: u32 = 1 << 10;
const RESTRICTED: u32 = 1 << 16;
const DECRYPT: u32 = 1 << 17;

const POLICY_SESSION: u8 = 1;
const TRIAL_SESSION: u8 = 3;

/// A choice of platform configuration registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pcrs(u32);

impl Pcrs {
    /// # Errors
    /// [`ServiceFailure::Unusable`] for a register above 23.
    pub(super) fn new(indices: &[u8]) -> Result<Self, ServiceError> {
        match indices.iter().find(|index| **index > 23) {
            Some(index) => {
                let text = format!("there is no PCR {index}; tpm.pcrs takes 0 to 23");
                Err(ServiceError::new(ServiceFailure::Unusable, text))
            }
            None => Ok(Self(indices.iter().fold(0, |bits, index| bits | (1 << index)))),
        }
    }

    pub(super) const fn from_bitmap([low, middle, high]: [u8; BITMAP]) -> Self {
        Self(u32::from_le_bytes([low, middle, high, 0]))
    }

    pub(super) const fn bitmap(self) -> [u8; BITMAP] {
        let [low, middle, high, _] = self.0.to_le_bytes();
        [low, middle, high]
    }

    pub(super) fn indices(self) -> Vec<u8> {
        (0..24).filter(|index| self.0 & (1 << index) != 0).collect()
    }

    pub(super) const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// An object or session in the chip.
#[derive(Debug, Clone, Copy)]
pub(super) struct Loaded(u32);

/// A chip, one command at a time.
pub(super) struct Chip(Device);

impl Chip {
    pub(super) fn open(path: &Path, limit: Duration) -> Result<Self, ServiceError> {
        Device::open(path, limit).map(Self)
    }

    /// A command of handles, at most one authorization and parameters; what follows the code in the answer.
    fn run(
        &mut self,
        code: u32,
        handles: &[u32],
        auth: Option<(u32, &str)>,
        parameters: &Out,
    ) -> Result<Zeroizing<Vec<u8>>, ServiceError> {
        let mut body = handles.iter().fold(Out::new(), |out, handle| out.u32(*handle));
        if let Some((session, password)) = auth {
            // No nonce, no attributes: the session ends with the command.
            let auth = Out::new().u32(session).sized(&[]).u8(0).sized(password.as_bytes());
            body = body.u32(auth.len()).bytes(auth.as_slice());
        }
        let body = body.bytes(parameters.as_slice());
        let tag = if auth.is_some() { SESSIONS } else { NO_SESSIONS };
        let size = body.len().saturating_add(10);
        let answer = self.0.exchange(Out::new().u16(tag).u32(size).u32(code).bytes(body.as_slice()).as_slice())?;
        let (_, code) = answer.split_at_checked(HEADER - 4).unwrap_or_default();
        match In(code).u32()? {
            0 => Ok(answer),
            code => Err(refused(code)),
        }
    }

    /// The storage key of the owner hierarchy, made again from the chip's seed, and its name.
    pub(super) fn primary(&mut self, owner: &str) -> Result<(Loaded, Vec<u8>), ServiceError> {
        let attributes = FIXED_TPM
            | FIXED_PARENT
            | SENSITIVE_DATA_ORIGIN
            | USER_WITH_AUTH
            | NO_DICTIONARY_ATTACK
            | RESTRICTED
            | DECRYPT;
        // Part of the format: another template is another key.
        let public = Out::new().u16(ECC).u16(SHA256).u32(attributes).sized(&[]);
        let public = public.u16(AES).u16(128).u16(CFB).u16(NULL).u16(NIST_P256).u16(NULL).sized(&[]).sized(&[]);
        let nothing = Out::new().sized(&[]).sized(&[]);
        let parameters = Out::new().sized(nothing.as_slice()).sized(public.as_slice()).sized(&[]).u32(0);
        let answer = self.run(CREATE_PRIMARY, &[OWNER], Some((PASSWORD, owner)), &parameters).map_err(of_the_owner)?;
        let mut read = after_header(&answer)?;
        let handle = read.u32()?;
        let _size = read.u32()?;
        let named = (|| {
            let (_public, _data, _hash) = (read.sized()?, read.sized()?, read.sized()?);
            let (_tag, _hierarchy, _ticket) = (read.u16()?, read.u32()?, read.sized()?);
            read.sized()
        })();
        match named {
            Ok(name) => Ok((Loaded(handle), name.to_vec())),
            Err(error) => {
                self.flush(Loaded(handle));
                Err(error)
            }
        }
    }

    /// Seals bytes under a key; the private and the public part of the object.
    pub(super) fn seal(
        &mut self,
        parent: Loaded,
        secret: &[u8],
        pin: &str,
        policy: &[u8],
    ) -> Result<(Vec<u8>, Vec<u8>), ServiceError> {
        // With a policy, the PIN alone must not unseal.
        let by_auth = if policy.is_empty() { USER_WITH_AUTH } else { 0 };
        // Wrong PINs count; what has none cannot be tried.
        let counted = if pin.is_empty() { NO_DICTIONARY_ATTACK } else { 0 };
        let attributes = FIXED_TPM | FIXED_PARENT | by_auth | counted;
        let public = Out::new().u16(KEYED_HASH).u16(SHA256).u32(attributes).sized(policy).u16(NULL).sized(&[]);
        let sensitive = Out::new().sized(pin.as_bytes()).sized(secret);
        let parameters = Out::new().sized(sensitive.as_slice()).sized(public.as_slice()).sized(&[]).u32(0);
        let answer = self.run(CREATE, &[parent.0], Some((PASSWORD, "")), &parameters)?;
        let mut read = after_header(&answer)?;
        let _size = read.u32()?;
        Ok((read.sized()?.to_vec(), read.sized()?.to_vec()))
    }

    /// Brings a sealed object back into the chip.
    pub(super) fn load(&mut self, parent: Loaded, private: &[u8], public: &[u8]) -> Result<Loaded, ServiceError> {
        let parameters = Out::new().sized(private).sized(public);
        let answer = self.run(LOAD, &[parent.0], Some((PASSWORD, "")), &parameters).map_err(of_the_object)?;
        Ok(Loaded(after_header(&answer)?.u32()?))
    }

    /// Unseals an object that asks for no more than a PIN, or nothing.
    pub(super) fn unseal(&mut self, object: Loaded, pin: &str) -> Result<Zeroizing<Vec<u8>>, ServiceError> {
        self.unseal_with(object, PASSWORD, pin)
    }

    /// Unseals an object that is bound to registers.
    pub(super) fn unseal_measured(
        &mut self,
        object: Loaded,
        pcrs: Pcrs,
        pin: &str,
        asks_pin: bool,
    ) -> Result<Zeroizing<Vec<u8>>, ServiceError> {
        let session = self.session(POLICY_SESSION)?;
        let plain = self.policy(session, pcrs, asks_pin).and_then(|()| self.unseal_with(object, session.0, pin));
        if plain.is_err() {
            self.flush(session);
        }
        plain
    }

    fn unseal_with(&mut self, object: Loaded, auth: u32, pin: &str) -> Result<Zeroizing<Vec<u8>>, ServiceError> {
        let answer = self.run(UNSEAL, &[object.0], Some((auth, pin)), &Out::new())?;
        let mut read = after_header(&answer)?;
        let _size = read.u32()?;
        Ok(Zeroizing::new(read.sized()?.to_vec()))
    }

    /// The digest of a policy: these registers as they are now, and a PIN if one is asked.
    pub(super) fn policy_digest(&mut self, pcrs: Pcrs, asks_pin: bool) -> Result<Vec<u8>, ServiceError> {
        let session = self.session(TRIAL_SESSION)?;
        let digest = self.policy(session, pcrs, asks_pin).and_then(|()| {
            let answer = self.run(POLICY_GET_DIGEST, &[session.0], None, &Out::new())?;
            Ok(after_header(&answer)?.sized()?.to_vec())
        });
        self.flush(session);
        digest
    }

    fn policy(&mut self, session: Loaded, pcrs: Pcrs, asks_pin: bool) -> Result<(), ServiceError> {
        let parameters = selection(Out::new().sized(&[]), pcrs);
        self.run(POLICY_PCR, &[session.0], None, &parameters)?;
        if asks_pin {
            self.run(POLICY_PASSWORD, &[session.0], None, &Out::new())?;
        }
        Ok(())
    }

    fn session(&mut self, kind: u8) -> Result<Loaded, ServiceError> {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(|error| ServiceError::new(ServiceFailure::Unusable, error))?;
        let parameters = Out::new().sized(&nonce).sized(&[]).u8(kind).u16(NULL).u16(SHA256);
        let answer = self.run(START_AUTH_SESSION, &[NULL_HANDLE, NULL_HANDLE], None, &parameters)?;
        Ok(Loaded(after_header(&answer)?.u32()?))
    }

    /// The registers, one at a time: an answer holds at most eight.
    pub(super) fn read_pcrs(&mut self, pcrs: Pcrs) -> Result<Vec<[u8; PCR_LEN]>, ServiceError> {
        let read_one = |chip: &mut Self, index: u8| {
            let answer = chip.run(PCR_READ, &[], None, &selection(Out::new(), Pcrs::new(&[index])?))?;
            let mut read = after_header(&answer)?;
            let (_counter, banks) = (read.u32()?, read.u32()?);
            for _ in 0..banks {
                let (_hash, bytes) = (read.u16()?, read.u8()?);
                read.bytes(usize::from(bytes))?;
            }
            if read.u32()? == 0 {
                let text = format!("the TPM has no PCR {index} in a SHA-256 bank; switch that bank on in the firmware");
                return Err(ServiceError::new(ServiceFailure::Unusable, text));
            }
            let wrong = |_| ServiceError::new(ServiceFailure::Protocol, "a PCR that is not 32 bytes");
            read.sized()?.try_into().map_err(wrong)
        };
        pcrs.indices().into_iter().map(|index| read_one(self, index)).collect()
    }

    /// Takes an object or session out of the chip. One that is gone already is as good.
    pub(super) fn flush(&mut self, loaded: Loaded) {
        let _ = self.run(FLUSH_CONTEXT, &[], None, &Out::new().u32(loaded.0));
    }
}

fn selection(out: Out, pcrs: Pcrs) -> Out {
    out.u32(1).u16(SHA256).u8(3).bytes(&pcrs.bitmap())
}

fn after_header(answer: &[u8]) -> Result<In<'_>, ServiceError> {
    let mut read = In(answer);
    read.bytes(HEADER)?;
    Ok(read)
}

/// What an error of the chip means (Part 2, 6.6), by its number alone: further bits say which part of the command it is about.
fn refused(code: u32) -> ServiceError {
    /// Errors about a handle, a session or a parameter.
    const FORMAT_ONE: u32 = 0x80;
    let number = if code & FORMAT_ONE == 0 { code } else { code & 0xbf };
    let (failure, said) = match number {
        0x08e | 0x0a2 => (ServiceFailure::Denied, "the PIN or password is wrong"),
        0x921 => (
            ServiceFailure::Denied,
            "it is locked after wrong PINs: wait until it allows the next try, or reset the lockout with the owner's tools",
        ),
        0x09d => (ServiceFailure::Measurement, "its policy is not fulfilled"),
        0x09f => (ServiceFailure::Rejected, "the object was changed, or sealed by another chip"),
        0x128 | 0x902..=0x908 | 0x90a | 0x920 | 0x922 => (ServiceFailure::Busy, "it has no room or no time now"),
        0x100 | 0x101 => (ServiceFailure::Unreachable, "it is not started or has failed: restart the machine"),
        _ => (ServiceFailure::Unusable, "it refuses the command"),
    };
    ServiceError::new(failure, format!("{said} (TPM error {code:#05x})"))
}

/// A refusal of the owner hierarchy, where a wrong password is not the PIN's.
fn of_the_owner(error: ServiceError) -> ServiceError {
    if error.failure == ServiceFailure::Denied {
        let text =
            format!("the owner hierarchy has another password; tpm.owner_password_file names it: {}", error.source);
        return ServiceError::new(ServiceFailure::Denied, text);
    }
    error
}

/// A refusal to load: whatever does not parse in there was changed.
fn of_the_object(error: ServiceError) -> ServiceError {
    if error.failure == ServiceFailure::Unusable {
        return ServiceError::new(ServiceFailure::Rejected, error.source);
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_and_bitmaps_agree() {
        for indices in [&[][..], &[0], &[7], &[0, 8, 16], &[23], &[1, 2, 7, 23]] {
            let pcrs = Pcrs::new(indices).unwrap();
            assert_eq!(pcrs.indices(), indices);
            assert_eq!(Pcrs::from_bitmap(pcrs.bitmap()), pcrs);
            assert_eq!(pcrs.is_empty(), indices.is_empty());
        }
        assert_eq!(Pcrs::new(&[7, 7]).unwrap().bitmap(), [0x80, 0, 0]);
        assert_eq!(Pcrs::new(&[24]).unwrap_err().failure, ServiceFailure::Unusable);
    }

    #[test]
    fn errors_are_told_apart_wherever_they_point() {
        for (code, failure) in [
            (0x98e, ServiceFailure::Denied),
            (0x9a2, ServiceFailure::Denied),
            (0x921, ServiceFailure::Denied),
            (0x99d, ServiceFailure::Measurement),
            (0x09d, ServiceFailure::Measurement),
            (0x1df, ServiceFailure::Rejected),
            (0x922, ServiceFailure::Busy),
            (0x903, ServiceFailure::Busy),
            (0x101, ServiceFailure::Unreachable),
            (0x143, ServiceFailure::Unusable),
        ] {
            assert_eq!(refused(code).failure, failure, "{code:#x}");
        }
    }
}
