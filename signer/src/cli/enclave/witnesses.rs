//! Witnesses in an enclave image: without their grants the vault in it signs no block and no attestation.
//!
//! Guarantees: they are a file of the image, so PCR0 and PCR2 say which they are, and a host can neither leave them out nor
//! name others.

use holdfast_enclave::vault::enclave::measured_witnesses;
use holdfast_nitro::eif::{Image, Ramdisk};
use holdfast_witness::Pins;
use serde_json::{Value, json};

use super::super::args::MeasuredWitnessArgs;
use super::super::{Exit, Failure};

/// Puts the witnesses that were named into an image; `None` if none were.
pub(super) fn add(args: &MeasuredWitnessArgs, image: &mut Image) -> Result<Option<Pins>, Failure> {
    let Some(group) = &args.group else { return Ok(None) };
    let keys: Vec<_> = args.witness.iter().map(|key| key.0).collect();
    let majority = keys.len().div_euclid(2).saturating_add(1);
    let pins = Pins::new(group.clone(), keys, args.quorum.unwrap_or(majority))
        .map_err(|error| Failure::new(Exit::Usage, anyhow::Error::new(error).context("--witness and --quorum")))?;
    // Behind the vault's own, which stays what it is.
    let file = Ramdisk::new().program("witnesses", measured_witnesses(&pins)).to_bytes();
    image.ramdisks.push(file.map_err(|error| Failure::new(Exit::Usage, error))?);
    Ok(Some(pins))
}

/// For people: a line to add.
pub(super) fn text(pins: &Pins) -> String {
    let (quorum, count, group) = (pins.quorum(), pins.witnesses().len(), pins.group().as_str());
    format!("\nwitnesses: {quorum} of {count} have to grant a lease for blocks and attestations, group {group}")
}

/// For programs.
pub(super) fn described(pins: &Pins) -> Value {
    let keys: Vec<_> = pins.witnesses().iter().map(ToString::to_string).collect();
    json!({ "group": pins.group().as_str(), "keys": keys, "quorum": pins.quorum() })
}
