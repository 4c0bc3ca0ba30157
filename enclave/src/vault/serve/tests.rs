//! Proved here: the order of a conversation, and that every departure from it ends the vault without a signature.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may stop at the first surprise")]

use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;

use holdfast_domain::UnixMillis;
use holdfast_vault_proto::Frame;

use super::*;
use crate::support::network;

struct Noon;

impl Clock for Noon {
    fn now(&self) -> UnixMillis {
        UnixMillis(12_000_000)
    }
}

/// A vault on a thread, and a hand-written other side.
struct Line {
    stream: UnixStream,
    vault: JoinHandle<Result<(), FrameError>>,
    number: u64,
}

impl Line {
    fn new() -> Self {
        let (stream, other) = UnixStream::pair().unwrap();
        let to = other.try_clone().unwrap();
        let options =
            Options { threads: NonZeroUsize::MIN, program: "test".to_owned(), protections: Protections::default() };
        let vault = std::thread::spawn(move || serve(other, to, Arc::new(Noon), options));
        Self { stream, vault, number: 0 }
    }

    fn frame(&mut self, request: &Request) -> Frame {
        self.number += 1;
        request.frame(self.number).unwrap()
    }

    fn ask(&mut self, request: &Request) -> Answer {
        let frame = self.frame(request);
        frame.write(&mut self.stream).unwrap();
        let mut reader = FrameReader::new(&self.stream);
        let (header, body) = reader.read().unwrap();
        assert_eq!(header.number, self.number);
        Answer::read(header.operation, body).unwrap()
    }

    fn introduced() -> Self {
        let mut line = Self::new();
        let welcome = line.ask(&Request::Hello { version: VERSION, program: "test".to_owned() });
        assert!(matches!(welcome, Answer::Welcome { pinned: false, .. }));
        line
    }

    /// Sends raw bytes and says how the vault ended, and that it said nothing.
    fn ends_on(mut self, bytes: &[u8]) -> FrameError {
        // It may hang up before it has read everything.
        let _ = self.stream.write_all(bytes);
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
        let error = self.vault.join().unwrap().unwrap_err();
        let mut said = Vec::new();
        let _ = self.stream.read_to_end(&mut said);
        assert!(said.is_empty(), "{said:?}");
        error
    }
}

#[test]
fn nothing_without_an_introduction_and_a_chain() {
    let mut line = Line::new();
    assert_eq!(line.ask(&Request::Health), Answer::Failed(Failure::NotIntroduced));
    let hello = |version| Request::Hello { version, program: String::new() };
    assert_eq!(line.ask(&hello(VERSION + 1)), Answer::Failed(Failure::OtherVersion));
    assert_eq!(line.ask(&Request::Pin(Box::new(network()))), Answer::Failed(Failure::NotIntroduced));
    assert!(matches!(line.ask(&hello(VERSION)), Answer::Welcome { version: VERSION, pinned: false, .. }));
    assert_eq!(line.ask(&Request::Sign(Vec::new())), Answer::Failed(Failure::NotPinned));
    let provision =
        Request::Provision { data_key: holdfast_vault_proto::DataKeyBytes::new(&[1; 32]), keys: Vec::new() };
    assert_eq!(line.ask(&provision), Answer::Failed(Failure::NotPinned));
    assert_eq!(line.ask(&Request::Pin(Box::new(network()))), Answer::Done(Operation::Pin));
    assert_eq!(line.ask(&Request::Sign(Vec::new())), Answer::Signed(Vec::new()));
    assert_eq!(line.ask(&provision), Answer::Provisioned(Vec::new()));
    assert!(matches!(line.ask(&Request::Health), Answer::Health(report) if report.clock_millis == 12_000_000));
    assert_eq!(line.ask(&Request::Shutdown), Answer::Done(Operation::Shutdown));
    line.vault.join().unwrap().unwrap();
}

#[test]
fn a_closed_connection_ends_it_in_good_order() {
    let line = Line::introduced();
    drop(line.stream);
    line.vault.join().unwrap().unwrap();
}

#[test]
fn lost_repeated_and_reordered_frames_end_it() {
    for number in [1_u64, 3, 0, u64::MAX] {
        let line = Line::introduced();
        let frame = Request::Health.frame(number).unwrap();
        let error = line.ends_on(frame.as_bytes());
        assert!(matches!(error, FrameError::OutOfOrder { expected: 2, found } if found == number), "{error}");
    }
}

#[test]
fn garbage_ends_it() {
    let mut too_long = u32::MAX.to_be_bytes().to_vec();
    too_long.extend([0; 64]);
    let error = Line::introduced().ends_on(&too_long);
    assert!(matches!(error, FrameError::Length { .. }), "{error}");

    let error = Line::introduced().ends_on(b"GET / HTTP/1.1\r\n\r\n");
    assert!(matches!(error, FrameError::Length { .. }), "{error}");

    let mut unknown = Request::Health.frame(2).unwrap().as_bytes().to_vec();
    unknown[4] = 99;
    let error = Line::introduced().ends_on(&unknown);
    assert!(matches!(error, FrameError::Operation { code: 99 }), "{error}");

    let mut malformed = Request::Pin(Box::new(network())).frame(2).unwrap().as_bytes().to_vec();
    malformed[20] ^= 0xff;
    let error = Line::introduced().ends_on(&malformed);
    assert!(matches!(error, FrameError::Malformed(_)), "{error}");

    let whole = Request::Pin(Box::new(network())).frame(2).unwrap();
    let error = Line::introduced().ends_on(&whole.as_bytes()[..30]);
    assert!(matches!(error, FrameError::Io(_)), "{error}");
}
