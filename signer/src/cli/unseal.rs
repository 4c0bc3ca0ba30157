//! `holdfast kek unseal`: brings one person's share of the data key's guard to a server that waits for it.
//!
//! The private key and the share stay in this short process and are wiped; the server is sent one line.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::path::Path;

use holdfast_enclave::provider::shares::{BroughtShare, Identity};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::args::KekUnsealArgs;
use super::{Context, Exit, Failure};
use crate::custody::{CustodyError, read_identities};
use crate::unseal;

/// Longest file of a share.
const MAX_SHARE: u64 = 64 * 1024;

/// Brings shares, or says what is waited for.
pub(super) fn run(args: &KekUnsealArgs, context: &Context) -> Result<Exit, Failure> {
    let identities = read_identities(&args.identity).map_err(CustodyError::from)?;
    let state = ask(context, b"shares")?;
    let lines = match &args.share {
        Some(path) => vec![given(path, &identities)?],
        None if args.identity.is_empty() => {
            context.output.result(waits_for(&state), &without_shares(state))?;
            context
                .output
                .note("Bring a share with --identity FILE, or decrypt yours with `age` and give it with --share -.");
            return Ok(Exit::Done);
        }
        None => own(&state, &identities)?,
    };
    let mut exit = Exit::Done;
    for line in lines {
        let answer = ask(context, &line)?;
        let accepted = field(&answer, "state") == "accepted";
        let text = if accepted {
            let enough = field(&answer, "have").as_u64() >= field(&answer, "need").as_u64();
            let then = if enough { "; the server opens the data key" } else { "" };
            format!("The share is in: {} brought, {} needed{then}.", field(&answer, "have"), field(&answer, "need"))
        } else {
            exit = Exit::Refused;
            format!("The share was refused: {}", field(&answer, "error").as_str().unwrap_or("no reason was given"))
        };
        context.output.result(text, &answer)?;
    }
    Ok(exit)
}

fn ask(context: &Context, line: &[u8]) -> Result<Value, Failure> {
    let dir = context.config.data_dir();
    unseal::ask(dir, line).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => Failure::message(
            Exit::Unreachable,
            format!(
                "no server waits for shares at {}: it is not running, or open already (`holdfast status` tells), or works in \
                 another --data-dir",
                unseal::socket_path(dir).display()
            ),
        ),
        _ => Failure::new(Exit::Unreachable, anyhow::Error::new(error).context("the server did not answer")),
    })
}

/// A member of an answer; null if there is none.
fn field<'a>(answer: &'a Value, name: &str) -> &'a Value {
    answer.get(name).unwrap_or(&Value::Null)
}

fn waits_for(state: &Value) -> String {
    let holders = field(state, "holders").as_array().into_iter().flatten().filter_map(Value::as_str);
    let holders: Vec<_> = holders.map(|holder| format!("  {holder}")).collect();
    format!(
        "Sealed: {} shares were brought, {} are needed. Holders:\n{}",
        field(state, "have"),
        field(state, "need"),
        holders.join("\n")
    )
}

fn without_shares(mut state: Value) -> Value {
    if let Some(state) = state.as_object_mut() {
        state.remove("shares");
    }
    state
}

/// The share in a file, or on standard input for "-": decrypted already, or encrypted to one of the identities.
fn given(path: &Path, identities: &[Box<dyn Identity>]) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let unreadable = |error: io::Error| {
        let error = anyhow::Error::new(error).context(format!("cannot read the share {}", path.display()));
        Failure::new(Exit::Usage, error)
    };
    let mut bytes = Zeroizing::new(Vec::with_capacity(1024));
    if path == Path::new("-") {
        io::stdin().lock().take(MAX_SHARE).read_to_end(&mut bytes).map_err(unreadable)?;
    } else {
        File::open(path).map_err(unreadable)?.take(MAX_SHARE).read_to_end(&mut bytes).map_err(unreadable)?;
    }
    if BroughtShare::parse(&bytes).is_some() {
        return Ok(bytes);
    }
    if identities.is_empty() {
        let text =
            format!("{} is no decrypted share; name the private key that opens it with --identity", path.display());
        return Err(Failure::message(Exit::Usage, text));
    }
    for identity in identities {
        if let Some(line) = identity.decrypt(&bytes).map_err(CustodyError::from)? {
            return Ok(line);
        }
    }
    let text = format!("{} is encrypted to somebody else than the given identity", path.display());
    Err(Failure::message(Exit::Refused, text))
}

/// The shares that the server has for these identities.
fn own(state: &Value, identities: &[Box<dyn Identity>]) -> Result<Vec<Zeroizing<Vec<u8>>>, Failure> {
    let mut found = Vec::new();
    for share in field(state, "shares").as_array().into_iter().flatten() {
        let sealed = field(share, "sealed").as_str().and_then(|text| hex::decode(text).ok()).unwrap_or_default();
        for identity in identities {
            if let Some(line) = identity.decrypt(&sealed).map_err(CustodyError::from)? {
                found.push(line);
            }
        }
    }
    if found.is_empty() {
        let text = format!("none of the shares is for the given identity. {}", waits_for(state));
        return Err(Failure::message(Exit::Refused, text));
    }
    Ok(found)
}

/// Writes the encrypted shares of people into a folder, one file each.
pub(super) fn hand_out(
    people: &[holdfast_enclave::provider::shares::PersonShare],
    folder: &Path,
    context: &Context,
) -> Result<(), Failure> {
    use holdfast_enclave::durable;
    let failed = |error| Failure::new(Exit::Usage, CustodyError::DataDir { path: folder.to_owned(), source: error });
    durable::create_private_dir(folder).map_err(failed)?;
    for share in people {
        let path = folder.join(format!("share-{}.age", share.number));
        durable::write_private_file(&path, &share.sealed, durable::Existing::Replace).map_err(failed)?;
        let text = format!("{} is for {}", path.display(), share.label);
        context.output.result(
            text,
            &json!({ "share": share.number, "holder": share.label, "file": path.display().to_string() }),
        )?;
    }
    Ok(())
}
