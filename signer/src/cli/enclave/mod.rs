//! `holdfast enclave`: images, key policies and attestation documents of AWS Nitro enclaves.
//!
//! Guarantees: nothing here needs a configuration, a data directory or the network; every number that is printed was
//! computed from the file it is printed for; a document is good only by the one verifier, which knows only AWS's root.

mod policy;
mod run;
mod verify;
#[cfg(feature = "backend-process")]
mod witnesses;
#[cfg(feature = "backend-enclave")]
pub(super) mod wrap;

use std::path::Path;

use holdfast_enclave::durable::{Existing, write_private_file};
use holdfast_nitro::Pcr;
use holdfast_nitro::eif::{Image, fingerprint};
use serde_json::{Value, json};

use super::args::{BuildArgs, DescribeArgs, EnclaveCommand, ImageArgs};
use super::{Exit, Failure, Output};

/// Command line of a vault's kernel: a console, no waiting after a panic, and randomness from the processor too.
pub(super) const COMMAND_LINE: &str = "reboot=k panic=1 pci=off nomodules console=ttyS0 random.trust_cpu=on";

/// Runs one of the commands.
pub(super) fn run(command: &EnclaveCommand, output: Output) -> Result<Exit, Failure> {
    match command {
        EnclaveCommand::Build(args) => build(args, output),
        EnclaveCommand::Describe(args) => describe(args, output),
        EnclaveCommand::KmsPolicy(args) => policy::run(args),
        EnclaveCommand::Verify(args) => verify::run(args, output),
        // Needs the configuration and custody: the command line runs it once it has both.
        #[cfg(feature = "backend-enclave")]
        EnclaveCommand::Wrap(_) | EnclaveCommand::Import(_) | EnclaveCommand::Generate(_) => Ok(Exit::Done),
        EnclaveCommand::Run(args) => super::block_on(run::run(args, output)),
    }
}

fn build(args: &BuildArgs, output: Output) -> Result<Exit, Failure> {
    let (kernel, guest) = (read(&args.kernel, "--kernel")?, read(&args.guest, "--guest")?);
    let (kernel_hash, guest_hash) = (fingerprint(&kernel), fingerprint(&guest));
    #[cfg_attr(not(feature = "backend-process"), expect(unused_mut, reason = "only a vault's image has witnesses"))]
    let mut image = Image::of_vault(kernel, &args.cmdline, guest).map_err(|error| {
        use holdfast_nitro::eif::EifError;
        let what = match error {
            EifError::NotAKernel => format!("--kernel {}", args.kernel.display()),
            EifError::NotAProgram | EifError::DynamicProgram => format!("--guest {}", args.guest.display()),
            EifError::CommandLine => "--cmdline".to_owned(),
            _ => "the image".to_owned(),
        };
        Failure::new(Exit::Usage, anyhow::Error::new(error).context(what))
    })?;
    #[cfg(feature = "backend-process")]
    let witnesses = witnesses::add(&args.witnesses, &mut image)?;
    let file = image.to_bytes().map_err(|error| Failure::new(Exit::Usage, error))?;
    write_private_file(&args.to, &file, Existing::Replace).map_err(|error| Failure::new(Exit::Refused, error))?;
    let mut value = described(&image, &args.to, file.len());
    if let Some(fields) = value.as_object_mut() {
        fields.insert("kernel_sha384".to_owned(), kernel_hash.into());
        fields.insert("guest_sha384".to_owned(), guest_hash.into());
        #[cfg(feature = "backend-process")]
        fields.extend(witnesses.as_ref().map(|pins| ("witnesses".to_owned(), witnesses::described(pins))));
    }
    #[cfg_attr(not(feature = "backend-process"), expect(unused_mut, reason = "only a vault's image has witnesses"))]
    let mut said = text(&image, &args.to, file.len());
    #[cfg(feature = "backend-process")]
    said.extend(witnesses.as_ref().map(witnesses::text));
    output.result(said, &value)?;
    output.note("A key policy names PCR0: `holdfast enclave kms-policy`. Anybody gets the same values from the same kernel, guest and command line.");
    Ok(Exit::Done)
}

fn describe(args: &DescribeArgs, output: Output) -> Result<Exit, Failure> {
    let file = read(&args.eif, "the image")?;
    let image = parse(&args.eif, &file)?;
    output.result(text(&image, &args.eif, file.len()), &described(&image, &args.eif, file.len()))?;
    Ok(Exit::Done)
}

fn parse(path: &Path, file: &[u8]) -> Result<Image, Failure> {
    Image::parse(file)
        .map_err(|error| Failure::new(Exit::Refused, anyhow::Error::new(error).context(path.display().to_string())))
}

fn text(image: &Image, path: &Path, size: usize) -> String {
    let measured = image.measurements();
    let ramdisks: Vec<_> = image.ramdisks.iter().map(|disk| disk.len().to_string()).collect();
    format!(
        "{}: {size} bytes, {}, kernel {} bytes, ramdisks {} bytes{}\ncommand line: {}\nPCR0 {}\nPCR1 {}\nPCR2 {}",
        path.display(),
        image.architecture.as_str(),
        image.kernel.len(),
        ramdisks.join(" + "),
        if image.signature.is_some() { ", signed" } else { "" },
        image.command_line,
        measured.pcr0,
        measured.pcr1,
        measured.pcr2
    )
}

fn described(image: &Image, path: &Path, size: usize) -> Value {
    let measured = image.measurements();
    json!({
        "image": path.display().to_string(),
        "bytes": size,
        "architecture": image.architecture.as_str(),
        "command_line": image.command_line,
        "kernel_bytes": image.kernel.len(),
        "ramdisk_bytes": image.ramdisks.iter().map(Vec::len).collect::<Vec<_>>(),
        "signed": image.signature.is_some(),
        "pcr0": measured.pcr0.to_string(),
        "pcr1": measured.pcr1.to_string(),
        "pcr2": measured.pcr2.to_string(),
    })
}

/// PCR0 of all images that are meant, computed from files where files are given.
fn images(args: &ImageArgs) -> Result<Vec<Pcr>, Failure> {
    let mut all = args.pcr0.clone();
    for path in &args.eif {
        all.push(parse(path, &read(path, "--eif")?)?.measurements().pcr0);
    }
    if all.contains(&Pcr::ZERO) {
        return Err(Failure::message(
            Exit::Usage,
            "a PCR0 of zeros is that of every enclave in debug mode, whatever runs in it: give the one that `holdfast enclave describe` prints",
        ));
    }
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

/// A file that a user named.
fn read(path: &Path, option: &str) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| {
        let text = format!("{option}: cannot read {}: {error}; check the path and its permissions", path.display());
        Failure::message(Exit::Usage, text)
    })
}
