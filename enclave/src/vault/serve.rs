//! The conversation of a vault: frames in, decisions, frames out.
//!
//! Guarantees: requests are taken in the order of their numbers, without a gap, after a `Hello` of this version;
//! anything else ends the conversation; what was approved is signed and answered before it ends in good order.

use std::io::{Read, Write};
use std::num::NonZeroUsize;
use std::sync::Arc;

use holdfast_domain::Clock;
use holdfast_vault_proto::frame::FrameReader;
use holdfast_vault_proto::{Answer, Failure, FrameError, Operation, Protections, Request, VERSION};

use super::core::Vault;
use super::crew::Crew;

/// How a vault serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Threads that sign.
    pub threads: NonZeroUsize,
    /// Who answers, for logs: name and version of the program.
    pub program: String,
    /// How the process protects itself, to be told to whoever asks.
    pub protections: Protections,
}

/// Serves one conversation with a vault that holds nothing yet. Returns when the other side is done.
///
/// # Errors
/// [`FrameError`] if the other side said something that cannot be understood, or the connection broke.
pub fn serve(
    from: impl Read,
    to: impl Write + Send + 'static,
    clock: Arc<dyn Clock>,
    options: Options,
) -> Result<(), FrameError> {
    let crew = Crew::start(options.threads, Box::new(to)).map_err(FrameError::Io)?;
    converse(from, crew, &mut Vault::new(clock), options.program, |_| options.protections).map(|_| ())
}

/// How a conversation ended in good order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The other side closed the connection.
    Closed,
    /// It asked the vault to end.
    Shutdown,
}

/// The same with threads that run already. `settle` is called once, before the first frame is read.
pub(super) fn converse(
    from: impl Read,
    mut crew: Crew,
    vault: &mut Vault,
    program: String,
    settle: impl FnOnce(&Crew) -> Protections,
) -> Result<Ended, FrameError> {
    let protections = settle(&crew);
    let mut conversation = Conversation { vault, program, protections, introduced: false };
    let mut reader = FrameReader::new(from);
    let mut expected = 1_u64;
    let ended = loop {
        let (header, body) = match reader.read() {
            Ok(frame) => frame,
            Err(FrameError::Closed) => break Ok(Ended::Closed),
            Err(error) => break Err(error),
        };
        if header.number != expected {
            break Err(FrameError::OutOfOrder { expected, found: header.number });
        }
        expected = expected.saturating_add(1);
        let request = match Request::read(header.operation, body) {
            Ok(request) => request,
            Err(error) => break Err(error.into()),
        };
        // A data key does not outlive its request in the buffer.
        reader.wipe();
        let last = matches!(request, Request::Shutdown);
        if last {
            // Everything approved is answered before the end is.
            crew.finish();
        }
        if let Err(error) = conversation.carry_out(&crew, header.number, request) {
            break Err(error);
        }
        if last {
            break Ok(Ended::Shutdown);
        }
    };
    crew.finish();
    ended
}

struct Conversation<'a> {
    vault: &'a mut Vault,
    program: String,
    protections: Protections,
    introduced: bool,
}

impl Conversation<'_> {
    fn carry_out(&mut self, crew: &Crew, number: u64, request: Request) -> Result<(), FrameError> {
        let answer = match request {
            Request::Hello { version, program: _ } => self.greet(version),
            _ if !self.introduced => Answer::Failed(Failure::NotIntroduced),
            Request::Pin(network) => match self.vault.pin(*network) {
                Ok(()) => Answer::Done(Operation::Pin),
                Err(failure) => Answer::Failed(failure),
            },
            Request::Provision { mut data_key, keys } => {
                let provisioned = self.vault.provision(&mut data_key, keys);
                scrub_stack();
                match provisioned {
                    Ok(outcomes) => Answer::Provisioned(outcomes),
                    Err(failure) => Answer::Failed(failure),
                }
            }
            Request::Forget(keys) => {
                self.vault.forget(&keys);
                Answer::Done(Operation::Forget)
            }
            Request::Sign(_) if !self.vault.is_pinned() => Answer::Failed(Failure::NotPinned),
            Request::Sign(items) => {
                let judged = items.iter().map(|item| self.vault.approve(item)).collect();
                return crew.sign(number, judged);
            }
            Request::List { after, limit } => Answer::Listed(self.vault.list(after, limit)),
            Request::Health => Answer::Health(self.vault.health()),
            Request::Shutdown => Answer::Done(Operation::Shutdown),
            Request::Attest { nonce } => self.vault.attest(&nonce).map_or_else(Answer::Failed, Answer::Attested),
            Request::ProvisionAttested { cms, keys } => {
                let provisioned = self.vault.provision_attested(&cms, keys);
                scrub_stack();
                provisioned.map_or_else(Answer::Failed, Answer::ProvisionedAttested)
            }
            Request::ImportAttested(key) => {
                let imported = self.vault.import(&key);
                scrub_stack();
                imported.map_or_else(Answer::Failed, Answer::Imported)
            }
            Request::Generate { mut data_key, origin, count } => {
                let generated = self.vault.generate(&mut data_key, &origin, count);
                drop((data_key, origin));
                scrub_stack();
                generated.map_or_else(Answer::Failed, Answer::Generated)
            }
            Request::GenerateAttested(order) => {
                let generated = self.vault.generate_attested(&order);
                scrub_stack();
                let answer = |(keys, document)| Answer::GeneratedAttested { keys, document };
                generated.map_or_else(Answer::Failed, answer)
            }
            request @ (Request::Witnesses { .. }
            | Request::AskLease { .. }
            | Request::TakeLease(_)
            | Request::ReleaseLease { .. }
            | Request::FetchPage(_)
            | Request::OfferPage(_)) => super::lease::carry_out(self.vault, request).unwrap_or_else(Answer::Failed),
        };
        crew.answer(number, &answer)
    }

    fn greet(&mut self, version: u32) -> Answer {
        if version != VERSION {
            return Answer::Failed(Failure::OtherVersion);
        }
        self.introduced = true;
        Answer::Welcome {
            version: VERSION,
            program: self.program.clone(),
            pinned: self.vault.is_pinned(),
            protections: self.protections,
            boot_key: self.vault.boot_key().to_vec(),
        }
    }
}

/// Overwrites the part of the stack below, where opening keys may have left copies of them.
#[inline(never)]
#[expect(clippy::large_stack_arrays, reason = "the point is to cover much of the stack")]
fn scrub_stack() {
    let mut pad = [0_u8; 64 * 1024];
    zeroize::Zeroize::zeroize(&mut pad);
    std::hint::black_box(&pad);
}

#[cfg(test)]
mod tests;
