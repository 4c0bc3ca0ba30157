//! `holdfast enclave` and its options.

use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use holdfast_nitro::Pcr;

/// `holdfast enclave`
#[derive(Debug, Subcommand)]
pub(crate) enum EnclaveCommand {
    /// Build an enclave image from a kernel and the vault's program; the same inputs are the same image
    Build(BuildArgs),
    /// Check an enclave image and print what a key policy has to name of it
    Describe(DescribeArgs),
    /// Print a policy for a key of AWS KMS that only an enclave with this image can decrypt with
    KmsPolicy(KmsPolicyArgs),
    /// Check an attestation document
    Verify(VerifyArgs),
    /// Have the data key encrypted for enclaves by the AWS KMS key enclave.key; for signing.backend = "enclave"
    #[cfg(feature = "backend-enclave")]
    Wrap(WrapArgs),
    /// Import keystores into the vault of an enclave, which seals them: its document is checked, and each key is encrypted for that boot of it. The signer must not run
    #[cfg(feature = "backend-enclave")]
    Import(EnclaveImportArgs),
    /// Make keys inside the vault of an enclave, which seals them, and deposit data for them; its documents are checked. The signer must not run
    #[cfg(feature = "backend-enclave")]
    Generate(EnclaveGenerateArgs),
    /// Start an enclave on this instance, or under QEMU for testing, and wait for its end
    Run(RunArgs),
}

/// `holdfast enclave build`
#[derive(Debug, Clone, Args)]
pub(crate) struct BuildArgs {
    /// Linux kernel for x86-64 (bzImage), with NSM, vsock and virtio-mmio built in
    #[arg(long, value_name = "FILE")]
    pub(crate) kernel: PathBuf,
    /// The vault's program, linked statically; runs as /init
    #[arg(long, value_name = "FILE")]
    pub(crate) guest: PathBuf,
    /// Command line of the kernel; measured like the kernel
    #[arg(long, value_name = "TEXT", default_value = super::super::enclave::COMMAND_LINE)]
    pub(crate) cmdline: String,
    /// Witnesses that are to be in the image.
    #[cfg(feature = "backend-process")]
    #[command(flatten)]
    pub(crate) witnesses: MeasuredWitnessArgs,
    /// Where to write the image
    #[arg(long, value_name = "FILE")]
    pub(crate) to: PathBuf,
}

/// Whose leases the vault in an image signs by.
#[cfg(feature = "backend-process")]
#[derive(Debug, Clone, Args)]
pub(crate) struct MeasuredWitnessArgs {
    /// Public key of a witness, as `holdfast witness init` prints it, alone or as http://HOST:PORT#KEY: the vault in this image signs blocks and attestations by leases of its witnesses only, whatever its host says; may be given several times
    #[arg(long, value_name = "KEY", requires = "group")]
    pub(crate) witness: Vec<WitnessKey>,
    /// With --witness: name of the group of vaults that hold the same keys
    #[arg(long, value_name = "NAME", requires = "witness")]
    pub(crate) group: Option<holdfast_witness::Group>,
    /// With --witness: how many have to grant a lease [default: more than half]
    #[arg(long, value_name = "N", requires = "witness")]
    pub(crate) quorum: Option<usize>,
}

/// The public key of a witness on the command line.
#[cfg(feature = "backend-process")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct WitnessKey(pub(crate) holdfast_witness::VerifyingKey);

#[cfg(feature = "backend-process")]
impl std::str::FromStr for WitnessKey {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let key = text.rsplit_once('#').map_or(text, |(_, key)| key);
        key.parse()
            .map(Self)
            .map_err(|_| "no public key of a witness: 0x and 64 digits, as `holdfast witness init` prints it")
    }
}

/// `holdfast enclave describe`
#[derive(Debug, Clone, Args)]
pub(crate) struct DescribeArgs {
    /// The image
    #[arg(value_name = "FILE")]
    pub(crate) eif: PathBuf,
}

/// Which images are meant: several during a roll-out.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ImageArgs {
    /// Enclave image whose PCR0 is meant; may be given several times, for a roll-out
    #[arg(long, value_name = "FILE")]
    pub(crate) eif: Vec<PathBuf>,
    /// PCR0 of an image that is meant; may be given several times
    #[arg(long, value_name = "HEX")]
    pub(crate) pcr0: Vec<Pcr>,
}

/// `holdfast enclave kms-policy`
#[derive(Debug, Clone, Args)]
pub(crate) struct KmsPolicyArgs {
    /// Which images may decrypt.
    #[command(flatten)]
    pub(crate) images: ImageArgs,
    /// ARN of the role of the instance that runs the enclave
    #[arg(long, value_name = "ARN")]
    pub(crate) role: String,
    /// Account that administers the key [default: the account of the role]
    #[arg(long, value_name = "ID")]
    pub(crate) account: Option<String>,
}

/// `holdfast enclave verify`
#[derive(Debug, Clone, Args)]
pub(crate) struct VerifyArgs {
    /// The document
    #[arg(long, value_name = "FILE")]
    pub(crate) document: PathBuf,
    /// What the document has to answer: the nonce it was asked for with
    #[arg(long, value_name = "HEX")]
    pub(crate) nonce: String,
    /// Which images are accepted.
    #[command(flatten)]
    pub(crate) images: ImageArgs,
    /// PCR8 that is accepted: of the certificate that signed the image; may be given several times
    #[arg(long, value_name = "HEX")]
    pub(crate) pcr8: Vec<Pcr>,
    /// ARN of the instance's role that PCR3 has to show
    #[arg(long, value_name = "ARN")]
    pub(crate) role: Option<String>,
}

/// `holdfast enclave wrap`
#[cfg(feature = "backend-enclave")]
#[derive(Debug, Clone, Args)]
pub(crate) struct WrapArgs {
    /// Where to write it: enclave.data_key_file of the signer. It holds no secret
    #[arg(long, value_name = "FILE")]
    pub(crate) to: PathBuf,
}

/// `holdfast enclave import`
#[cfg(feature = "backend-enclave")]
#[derive(Debug, Clone, Args)]
pub(crate) struct EnclaveImportArgs {
    /// Which data key the enclave has to seal them under: the 64 digits that `holdfast enclave wrap` printed. A host that brought another one gets nothing
    #[arg(long, value_name = "HEX")]
    pub(crate) data_key: NamedDataKey,
    /// What is imported.
    #[command(flatten)]
    pub(crate) keys: super::ImportArgs,
}

/// `holdfast enclave generate`
#[cfg(feature = "backend-enclave")]
#[derive(Debug, Clone, Args)]
pub(crate) struct EnclaveGenerateArgs {
    /// Which data key the enclave has to seal them under: the 64 digits that `holdfast enclave wrap` printed. A host that brought another one gets nothing
    #[arg(long, value_name = "HEX")]
    pub(crate) data_key: NamedDataKey,
    /// What is made.
    #[command(flatten)]
    pub(crate) keys: super::GenerateArgs,
}

/// A data key by its commitment.
#[cfg(feature = "backend-enclave")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct NamedDataKey(pub(crate) holdfast_enclave::DataKeyCommitment);

#[cfg(feature = "backend-enclave")]
impl std::str::FromStr for NamedDataKey {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text.strip_prefix("0x").unwrap_or(text), &mut bytes)
            .map_err(|_| "not the 64 digits that `holdfast enclave wrap` printed")?;
        Ok(Self(holdfast_enclave::DataKeyCommitment(bytes)))
    }
}

/// `holdfast enclave run`
#[derive(Debug, Clone, Args)]
pub(crate) struct RunArgs {
    /// The image
    #[arg(long, value_name = "FILE")]
    pub(crate) eif: PathBuf,
    /// Processors of the enclave
    #[arg(long, value_name = "N", default_value = "2")]
    pub(crate) cpus: NonZeroU32,
    /// Memory of the enclave in MiB
    #[arg(long, value_name = "MIB", default_value = "256")]
    pub(crate) memory: NonZeroU32,
    /// vsock address of the enclave
    #[arg(long, value_name = "N", default_value = "16", value_parser = clap::value_parser!(u32).range(4..))]
    pub(crate) cid: u32,
    /// For testing: a QEMU with the nitro-enclave machine, instead of this instance's hypervisor. Its attestation documents are not signed
    #[arg(long, value_name = "FILE")]
    pub(crate) qemu: Option<PathBuf>,
    /// With --qemu: the program vhost-device-vsock
    #[arg(long, value_name = "FILE", default_value = "vhost-device-vsock", requires = "qemu")]
    pub(crate) vsock_device: PathBuf,
    /// With --qemu: directory for its sockets; the enclave is reached through vault.vsock in it [default: beside the image]
    #[arg(long, value_name = "DIR", requires = "qemu")]
    pub(crate) sockets: Option<PathBuf>,
    /// With --qemu: directory with its firmware
    #[arg(long, value_name = "DIR", requires = "qemu")]
    pub(crate) firmware: Option<PathBuf>,
}
