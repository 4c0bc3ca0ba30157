//! A guard sealed by the TPM 2.0 chip of this machine.
//!
//! Why it exists: a machine without a cloud or a hardware module around it has a TPM. What it sealed opens on this machine
//! alone, and if PCRs are named, only while the machine is in the state they measure.
//!
//! Guarantees: the guard passes from here to the chip in one command and back in one answer, over a device file or socket;
//! it is in no argument, file or environment, and no other program is started. Nothing is stored in the chip: the sealed
//! object is part of the wrapped data key, under a primary key that the chip makes again from its owner seed. Objects
//! and sessions are flushed also after failures. A wrong PIN is sent once, and counts for the chip's own lockout.
//!
//! Not guarded against: somebody with probes on the bus of a discrete chip, who sees the guard pass; sessions are not
//! encrypted. A TPM binds nothing to a context, so the seal that the guard opens does.

use std::path::PathBuf;
use std::time::Duration;

use holdfast_enclave::provider::{
    GuardKey, KeyService, ProviderKind, Remote, ServiceError, ServiceFailure, WrapContext,
};
use holdfast_secret::SecretText;

use crate::secret_file::{self, Privacy};

mod blob;
mod command;
mod device;
mod wire;

use blob::Blob;
use command::{Chip, Loaded, Pcrs};

/// Longest PIN: the length of the digest that names the sealed object (TPM 2.0 Part 1, 27.2.2).
const MAX_PIN: usize = 32;

/// Which chip, and what it asks before it unseals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TpmOptions {
    /// The kernel's device with a resource manager, `/dev/tpmrm0`, or the Unix socket of a TPM in software.
    pub device: PathBuf,
    /// Platform configuration registers of the SHA-256 bank, 0 to 23, that new wrappings are bound to as they are then.
    pub pcrs: Vec<u8>,
    /// File with a PIN that the chip asks for; stored wrappings say whether they need it.
    pub pin_file: Option<PathBuf>,
    /// File with the password of the owner hierarchy, where one is set.
    pub owner_password_file: Option<PathBuf>,
    /// How long one call may take.
    pub timeout: Duration,
}

/// The TPM of this machine.
pub struct Tpm {
    options: TpmOptions,
    name: String,
}

impl Tpm {
    /// The provider of this chip.
    pub fn provider(options: TpmOptions) -> Remote<Self> {
        let (limit, name) = (options.timeout, options.device.display().to_string());
        Remote::new(Self { options, name }, limit)
    }

    fn secret(path: Option<&PathBuf>) -> Result<SecretText, ServiceError> {
        path.map_or_else(|| Ok(SecretText::default()), |path| secret_file::read(path, Privacy::Required))
    }

    fn pin(&self) -> Result<SecretText, ServiceError> {
        let pin = Self::secret(self.options.pin_file.as_ref())?;
        if pin.len() > MAX_PIN {
            let text = format!("the PIN has {} bytes, and a TPM takes at most {MAX_PIN}", pin.len());
            return Err(ServiceError::new(ServiceFailure::Unusable, text));
        }
        Ok(pin)
    }

    /// The chip with its primary key.
    fn open(&self) -> Result<(Chip, Loaded, Vec<u8>), ServiceError> {
        let mut chip = Chip::open(&self.options.device, self.options.timeout)?;
        let owner = Self::secret(self.options.owner_password_file.as_ref())?;
        let (primary, name) = chip.primary(owner.expose())?;
        Ok((chip, primary, name))
    }
}

impl KeyService for Tpm {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Tpm
    }

    fn key(&self) -> &str {
        &self.name
    }

    fn encrypt(&self, guard: &GuardKey, _: &WrapContext) -> Result<Vec<u8>, ServiceError> {
        let pcrs = Pcrs::new(&self.options.pcrs)?;
        let pin = self.pin()?;
        let (mut chip, primary, name) = self.open()?;
        let sealed = chip.read_pcrs(pcrs).and_then(|values| {
            let policy = if pcrs.is_empty() { Vec::new() } else { chip.policy_digest(pcrs, !pin.is_empty())? };
            let (private, public) = guard.expose(|guard| chip.seal(primary, guard, pin.expose(), &policy))?;
            Ok(Blob { primary: name, pcrs, pin: !pin.is_empty(), values, private, public })
        });
        chip.flush(primary);
        sealed?.encode()
    }

    fn decrypt(&self, ciphertext: &[u8], _: &WrapContext) -> Result<GuardKey, ServiceError> {
        let blob = Blob::decode(ciphertext)?;
        let pin = if blob.pin { self.pin()? } else { SecretText::default() };
        if blob.pin && pin.is_empty() {
            let text = "it was sealed with a PIN, and tpm.pin_file is not given";
            return Err(ServiceError::new(ServiceFailure::Denied, text));
        }
        let (mut chip, primary, name) = self.open()?;
        let guard =
            if name == blob.primary { unseal(&mut chip, primary, &blob, pin.expose()) } else { Err(other_chip()) };
        chip.flush(primary);
        guard
    }
}

fn other_chip() -> ServiceError {
    let text = "this TPM is not the one that sealed it, or was cleared since, which destroys what it had sealed for good; \
                open the data key with another provider, then run `holdfast kek rotate`";
    ServiceError::new(ServiceFailure::WrongKey, text)
}

fn unseal(chip: &mut Chip, primary: Loaded, blob: &Blob, pin: &str) -> Result<GuardKey, ServiceError> {
    let object = chip.load(primary, &blob.private, &blob.public)?;
    let opened = if blob.pcrs.is_empty() {
        chip.unseal(object, pin)
    } else {
        chip.unseal_measured(object, blob.pcrs, pin, blob.pin)
    };
    chip.flush(object);
    let mut plain = match opened {
        Err(error) if error.failure == ServiceFailure::Measurement => return Err(which_changed(chip, blob, error)),
        opened => opened?,
    };
    GuardKey::take(&mut plain)
}

/// Says which registers are not what they were, as far as the chip tells.
fn which_changed(chip: &mut Chip, blob: &Blob, refused: ServiceError) -> ServiceError {
    let Ok(now) = chip.read_pcrs(blob.pcrs) else { return refused };
    let changed: Vec<_> = blob
        .pcrs
        .indices()
        .into_iter()
        .zip(blob.values.iter().zip(&now))
        .filter(|(_, (then, now))| then != now)
        .map(|(index, _)| format!("PCR {index}"))
        .collect();
    let changed = if changed.is_empty() { "none of its PCRs".to_owned() } else { changed.join(", ") };
    let text = format!("changed since the data key was wrapped: {changed}; the TPM says: {}", refused.source);
    ServiceError::new(ServiceFailure::Measurement, text)
}
