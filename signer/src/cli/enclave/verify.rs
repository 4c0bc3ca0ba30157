//! `holdfast enclave verify`: what an attestation document proves, and whether that is what was expected.
//!
//! Guarantees: exit code 0 means that an enclave outside debug mode, with one of the images that were named, made this
//! document for this nonce within the last minutes. A good document of *some* enclave is 1, as a refused one is.

use std::fmt::Write as _;

use holdfast_domain::{Clock as _, UnixMillis};
use holdfast_nitro::Pcr;
use holdfast_nitro::attestation::{Attested, PcrIndex, PcrPolicy, Timestamp, Verifier};
use serde_json::{Value, json};

use super::super::args::VerifyArgs;
use super::super::{Exit, Failure, Output};
use super::{images, read};
use crate::clock::{SystemClock, rfc3339};

/// Longest nonce that a document can have, in bytes.
const MAX_NONCE: usize = 512;

pub(super) fn run(args: &VerifyArgs, output: Output) -> Result<Exit, Failure> {
    let nonce = hex::decode(args.nonce.strip_prefix("0x").unwrap_or(&args.nonce))
        .ok()
        .filter(|nonce| (1..=MAX_NONCE).contains(&nonce.len()))
        .ok_or_else(|| {
            Failure::message(
                Exit::Usage,
                "--nonce: give the 1 to 512 bytes that were asked with, as hexadecimal digits",
            )
        })?;
    let policy = policy(args)?;
    let document = read(&args.document, "--document")?;
    let now = Timestamp::from_millis(SystemClock.now().0);
    let attested = Verifier::aws()
        .verify(&document, &nonce, &policy, now)
        .map_err(|error| Failure::new(Exit::Refused, anyhow::Error::new(error).context("not accepted")))?;
    let named = policy.names_an_image();
    output.result(text(&attested), &value(&attested, named))?;
    if named {
        Ok(Exit::Done)
    } else {
        output.note("The document is genuine, but was compared with no image: any enclave of anybody has one. Give --eif, --pcr0 or --pcr8.");
        Ok(Exit::Refused)
    }
}

fn policy(args: &VerifyArgs) -> Result<PcrPolicy, Failure> {
    let all = |policy: PcrPolicy, index: PcrIndex, values: &[Pcr]| {
        values.iter().fold(policy, |policy, value| policy.allow(index, *value))
    };
    let policy = all(PcrPolicy::any(), PcrIndex::IMAGE, &images(&args.images)?);
    let policy = all(policy, PcrIndex::SIGNER, &args.pcr8);
    Ok(match &args.role {
        Some(arn) => policy.allow(PcrIndex::ROLE, Pcr::of_role(arn)),
        None => policy,
    })
}

fn text(attested: &Attested) -> String {
    let made = rfc3339(UnixMillis(attested.timestamp().as_millis()));
    let mut text = format!("Genuine: enclave {}, document of {made}", attested.module());
    for (index, pcr) in attested.pcrs().iter().filter(|(_, pcr)| **pcr != Pcr::ZERO) {
        // Writing to a string does not fail.
        let _ = write!(text, "\nPCR{index} {pcr}");
    }
    for (name, bytes) in [("public key", attested.public_key()), ("user data", attested.user_data())] {
        if let Some(bytes) = bytes {
            let _ = write!(text, "\n{name} {}", hex::encode(bytes));
        }
    }
    text
}

fn value(attested: &Attested, named: bool) -> Value {
    let pcrs: serde_json::Map<_, _> =
        attested.pcrs().iter().map(|(index, pcr)| (index.to_string(), pcr.to_string().into())).collect();
    json!({
        "status": if named { "verified" } else { "genuine" },
        "module_id": attested.module(),
        "timestamp": rfc3339(UnixMillis(attested.timestamp().as_millis())),
        "pcrs": pcrs,
        "public_key": attested.public_key().map(hex::encode),
        "user_data": attested.user_data().map(hex::encode),
    })
}
