//! The helper process of a server: reads one request, unwraps one data key, writes it to the pipe it was given, ends.
//!
//! Guarantees: nothing is printed but the answer; the process can neither be dumped nor debugged; it reads no
//! configuration file and opens no database.

use std::io::{stdin, stdout};

use holdfast_enclave::provider::helper::{Request, answer};

use super::{Exit, Failure};
use crate::custody;
use crate::outcome::chain;

/// Answers the one request on standard input.
pub(super) fn run() -> Result<Exit, Failure> {
    // Some sandboxes forbid it and are safe without; the server has said so already.
    let _ = holdfast_enclave::harden_process();
    let unwrapped = Request::read(stdin().lock()).and_then(|request| custody::help(&request));
    let answered = match &unwrapped {
        Ok(key) => answer(Ok(key), stdout()),
        Err(error) => answer(Err((error, what_was_said(error))), stdout()),
    };
    answered.map_err(|error| Failure::new(Exit::Unreachable, error))?;
    Ok(if unwrapped.is_ok() { Exit::Done } else { Exit::Refused })
}

/// What caused an error of a service, which says the rest again where it is read; all of any other error.
fn what_was_said(error: &holdfast_enclave::ProviderError) -> String {
    use holdfast_enclave::ProviderError::Service;
    match error {
        Service { source, .. } => chain(source.as_ref()),
        error => chain(error),
    }
}
