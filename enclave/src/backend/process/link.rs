//! One conversation with one vault.
//!
//! Guarantees: requests leave in the order of their numbers; every request that left is answered, or its waiter is
//! given up when the conversation ends; after the end nothing more is sent.

use std::collections::BTreeMap;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use holdfast_vault_proto::frame::FrameReader;
use holdfast_vault_proto::{Answer, FrameError, Operation, Request};

use super::Job;
use crate::error::SignError;

/// How long a request other than for signatures may take.
const ASK_LIMIT: Duration = Duration::from_mins(1);

/// The signer's end of a conversation.
pub(super) struct Link {
    stream: UnixStream,
    writer: Mutex<Writer>,
    waiting: Mutex<Table>,
}

struct Writer {
    stream: UnixStream,
    number: u64,
}

/// Who waits for which answer.
struct Table {
    open: bool,
    waiting: BTreeMap<u64, Waiting>,
}

/// Somebody who waits.
pub(super) enum Waiting {
    /// For signatures.
    Signatures {
        /// Since when.
        sent: Instant,
        /// Which.
        jobs: Vec<Job>,
    },
    /// For anything else.
    Answer(mpsc::SyncSender<Answer>),
}

/// An answer that belongs to no request, or to another kind of request.
#[derive(Debug, thiserror::Error)]
#[error("the vault answered {operation:?} to request {number}, which does not fit")]
pub(super) struct Unexpected {
    operation: Operation,
    number: u64,
}

/// Why a conversation ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    /// The connection.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The vault said something unexpected.
    #[error(transparent)]
    Unexpected(#[from] Unexpected),
}

impl Link {
    /// A conversation over this stream, in which `number` requests were made already.
    pub(super) fn new(stream: &UnixStream, number: u64) -> std::io::Result<Self> {
        Ok(Self {
            stream: stream.try_clone()?,
            writer: Mutex::new(Writer { stream: stream.try_clone()?, number }),
            waiting: Mutex::new(Table { open: true, waiting: BTreeMap::new() }),
        })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing panics while it holds this lock, so a poisoned one is still consistent.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request. The waiter comes back if it could not be sent and nobody else will tell him.
    pub(super) fn send(&self, request: &Request, waiter: Waiting) -> Result<(), Waiting> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let number = writer.number.saturating_add(1);
        let Some(frame) = request.frame(number) else { return Err(waiter) };
        {
            let mut table = self.table();
            if !table.open {
                return Err(waiter);
            }
            table.waiting.insert(number, waiter);
        }
        writer.number = number;
        if frame.write(&mut writer.stream).is_err() {
            // Perhaps in the middle of a frame: the conversation is over, and whoever reads it tells all waiters.
            self.close();
        }
        Ok(())
    }

    /// Sends a request and waits for its answer.
    pub(super) fn ask(&self, request: &Request) -> Result<Answer, SignError> {
        let (answer, answered) = mpsc::sync_channel(1);
        self.send(request, Waiting::Answer(answer)).map_err(|_| SignError::VaultDown)?;
        answered.recv_timeout(ASK_LIMIT).map_err(|_| SignError::VaultDown)
    }

    /// Reads answers until the end, and hands out those that are signatures.
    pub(super) fn read(
        &self,
        reader: &mut FrameReader<UnixStream>,
        mut signed: impl FnMut(Instant, Vec<Job>, Vec<Result<[u8; 96], holdfast_vault_proto::Refusal>>),
    ) -> Ended {
        loop {
            let (header, answer) = match reader.read() {
                Ok((header, body)) => match Answer::read(header.operation, body) {
                    Ok(answer) => (header, answer),
                    Err(error) => return FrameError::from(error).into(),
                },
                Err(error) => return error.into(),
            };
            let unexpected = Unexpected { operation: header.operation, number: header.number };
            let waiter = self.table().waiting.remove(&header.number);
            match (waiter, answer) {
                (Some(Waiting::Signatures { sent, jobs }), Answer::Signed(outcomes))
                    if jobs.len() == outcomes.len() =>
                {
                    signed(sent, jobs, outcomes);
                }
                // Whoever asked may have stopped waiting.
                (Some(Waiting::Answer(to)), answer) => drop(to.try_send(answer)),
                (Some(Waiting::Signatures { jobs, .. }), _) => {
                    for job in jobs {
                        job.reply.send(Err(SignError::VaultDown));
                    }
                    return unexpected.into();
                }
                (None, _) => return unexpected.into(),
            }
        }
    }

    /// Ends the conversation, and tells whoever waits.
    pub(super) fn end(&self) {
        self.close();
        let waiting = {
            let mut table = self.table();
            table.open = false;
            std::mem::take(&mut table.waiting)
        };
        for waiter in waiting.into_values() {
            match waiter {
                Waiting::Signatures { jobs, .. } => {
                    for job in jobs {
                        job.reply.send(Err(SignError::VaultDown));
                    }
                }
                // Dropping it tells.
                Waiting::Answer(_) => {}
            }
        }
    }

    /// Whether anybody has waited for signatures for longer than this.
    pub(super) fn waits_longer_than(&self, limit: Duration) -> bool {
        self.table().waiting.values().any(|waiter| match waiter {
            Waiting::Signatures { sent, .. } => sent.elapsed() > limit,
            Waiting::Answer(_) => false,
        })
    }

    /// Breaks the connection; whoever reads it sees the end.
    pub(super) fn close(&self) {
        // It is broken already, then.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Says that there will be no more requests; the vault then ends in good order.
    pub(super) fn hang_up(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }
}
