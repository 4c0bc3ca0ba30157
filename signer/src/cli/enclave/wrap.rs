//! `holdfast enclave wrap`: the data key for a vault in an enclave.
//!
//! Why it exists: the stored keys are sealed under a data key, which some provider opens for this machine today. The
//! enclave needs it encrypted by a key of AWS KMS that decrypts for the enclave only.

use std::sync::Arc;

use holdfast_enclave::durable::{Existing, write_private_file};
use serde_json::json;

use super::super::args::WrapArgs;
use super::super::{Context, Exit, Failure};
use crate::clock::SystemClock;
use crate::custody;

/// Makes the file.
pub(in crate::cli) async fn run(args: &WrapArgs, context: &Context) -> Result<Exit, Failure> {
    custody::require_existing(&context.config)?;
    let mut custody = custody::open_sealed(&context.config, Arc::new(SystemClock)).await?;
    let wrapped = custody.wrap_for_enclave(&context.config).await;
    custody.guard.shutdown().await;
    let Some((wrapped, named)) = wrapped? else {
        return Err(Failure::message(Exit::Refused, "there is no data key yet: `holdfast kek init` makes one"));
    };
    write_private_file(&args.to, &wrapped, Existing::Replace).map_err(|error| Failure::new(Exit::Refused, error))?;
    let key = context.config.enclave.key.as_deref().unwrap_or_default();
    context.output.result(
        format!(
            "Wrote {}: the data key, encrypted by {key} for enclaves. `holdfast enclave import` names it by {}.",
            args.to.display(),
            hex::encode(named.0)
        ),
        &json!({
            "status": "wrapped",
            "file": args.to.display().to_string(),
            "key": key,
            "data_key": hex::encode(named.0),
        }),
    )?;
    context.output.note(
        "The providers that `holdfast kek status` shows still open the data key too. Where only the enclave is to have it, take their keys off this machine and keep them where you keep the mnemonic.",
    );
    Ok(Exit::Done)
}
