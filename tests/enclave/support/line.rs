//! A conversation with a vault, by whoever has its host: any request, and any bytes.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use holdfast_domain::{Message, PublicKey};
use holdfast_vault_proto::frame::FrameReader;
use holdfast_vault_proto::{
    Answer, Failure, HealthReport, KeyOutcome, Operation, Protections, Reason, Request, SealedKeyBytes, VERSION,
};

use super::chain::{item, network, slot_at};
use super::machine::Machine;
use super::{LIMIT, wait_until};

/// How long a machine that boots may take to answer before it is asked again.
const ATTEMPT: Duration = Duration::from_secs(2);

/// What a vault said when it was greeted.
pub(crate) struct Greeting {
    pub(crate) pinned: bool,
    pub(crate) protections: Protections,
    pub(crate) boot_key: Vec<u8>,
}

/// A conversation.
pub(crate) struct Line {
    stream: UnixStream,
    reader: FrameReader<UnixStream>,
    number: u64,
}

/// A connection to the vault's port, once the machine has booted.
fn connected(socket: &Path) -> Option<UnixStream> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(ATTEMPT)).ok()?;
    stream.write_all(b"CONNECT 9002\n").ok()?;
    let mut answer = Vec::new();
    while answer.last() != Some(&b'\n') {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        answer.push(byte[0]);
    }
    assert!(answer.starts_with(b"OK "), "the vsock device says {answer:?}");
    stream.set_read_timeout(Some(LIMIT)).ok()?;
    Some(stream)
}

impl Line {
    /// Connects, and does not introduce itself.
    pub(crate) fn silent(machine: &mut Machine) -> Self {
        // The vsock device may get stuck on whoever asks before its machine is there.
        machine.waits_until_it_listens();
        let socket = machine.vsock();
        let mut stream = None;
        wait_until("a connection to the vault", || {
            assert!(machine.runs(), "the machine ended");
            stream = connected(&socket);
            stream.is_some()
        });
        let stream = stream.unwrap();
        Self { reader: FrameReader::new(stream.try_clone().unwrap()), stream, number: 0 }
    }

    /// Connects and introduces itself.
    pub(crate) fn greeted(machine: &mut Machine) -> (Self, Greeting) {
        let mut line = Self::silent(machine);
        let hello = Request::Hello { version: VERSION, program: "host".to_owned() };
        let Answer::Welcome { pinned, protections, boot_key, version: VERSION, program: _ } = line.ask(&hello) else {
            panic!("no welcome")
        };
        (line, Greeting { pinned, protections, boot_key })
    }

    /// The same, with the chain of these tests.
    pub(crate) fn pinned(machine: &mut Machine) -> (Self, Greeting) {
        let (mut line, greeting) = Self::greeted(machine);
        assert_eq!(line.ask(&Request::Pin(Box::new(network()))), Answer::Done(Operation::Pin));
        (line, greeting)
    }

    pub(crate) fn ask(&mut self, request: &Request) -> Answer {
        self.number += 1;
        request.frame(self.number).unwrap().write(&mut self.stream).unwrap();
        let (header, body) = self.reader.read().unwrap();
        assert_eq!(header.number, self.number);
        Answer::read(header.operation, body).unwrap()
    }

    /// Provisions keys. The outcomes, or why not.
    pub(crate) fn provision(&mut self, cms: Vec<u8>, keys: Vec<SealedKeyBytes>) -> Result<Vec<KeyOutcome>, Failure> {
        match self.ask(&Request::ProvisionAttested { cms, keys }) {
            Answer::ProvisionedAttested(outcomes) => Ok(outcomes),
            Answer::Failed(failure) => Err(failure),
            other => panic!("{other:?}"),
        }
    }

    /// Asks for signatures of one key; each comes back checked.
    pub(crate) fn sign(&mut self, key: PublicKey, messages: &[Message]) -> Vec<Result<[u8; 96], Reason>> {
        let items = messages.iter().map(|message| item(key, message)).collect();
        let Answer::Signed(outcomes) = self.ask(&Request::Sign(items)) else { panic!("no outcomes") };
        let checked = |(outcome, message): (Result<[u8; 96], holdfast_vault_proto::Refusal>, &Message)| {
            let signature = outcome.map_err(|refusal| refusal.reason)?;
            let root = super::chain::intent(key, message).root();
            let good = holdfast_enclave_sys::verify(key.as_bytes(), root.as_bytes(), &signature);
            assert!(good, "a signature that does not verify");
            Ok(signature)
        };
        outcomes.into_iter().zip(messages).map(checked).collect()
    }

    /// Why each was refused; `None` where it was signed.
    pub(crate) fn reasons(&mut self, key: PublicKey, messages: &[Message]) -> Vec<Option<Reason>> {
        self.sign(key, messages).into_iter().map(Result::err).collect()
    }

    pub(crate) fn health(&mut self) -> HealthReport {
        let Answer::Health(report) = self.ask(&Request::Health) else { panic!("no report") };
        report
    }

    /// The present slot by the vault's clock.
    pub(crate) fn slot(&mut self) -> u64 {
        slot_at(self.health().clock_millis)
    }

    /// The number of a slot (and epoch) that may be signed now, behind every fence set before.
    pub(crate) fn next_slot(&mut self) -> u64 {
        let behind = self.slot() + 4;
        wait_until("a slot behind the fence", || self.slot() >= behind);
        behind
    }

    /// Sends bytes, and expects the vault to hang up without a word.
    pub(crate) fn hangs_up_on(mut self, bytes: &[u8]) {
        // It may hang up before it has read everything.
        let _ = self.stream.write_all(bytes);
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
        let mut said = Vec::new();
        let _ = self.stream.read_to_end(&mut said);
        assert!(said.is_empty(), "{said:?}");
    }
}
