//! An attacker who has the signer's end of the socket, and says whatever he likes.

use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use holdfast_domain::{Message, ObservedRoot, PublicKey};
use holdfast_enclave::{DataKey, SecretKey, generate, seal};
use holdfast_vault_proto::frame::FrameReader;
use holdfast_vault_proto::{
    Answer, DataKeyBytes, KeyOutcome, Operation, Reason, Request, SealedKeyBytes, SignItem, VERSION,
};

use crate::support::{NETWORK, attestation_of, block_of, intent};
use crate::{network, next_slot, slot, vault_program, wait_until};

/// A vault and the attacker's end of its socket.
struct Line {
    stream: UnixStream,
    reader: FrameReader<UnixStream>,
    child: Child,
    number: u64,
}

impl Line {
    fn new() -> Self {
        let (stream, theirs) = UnixStream::pair().unwrap();
        let vault = vault_program("vault", &[]);
        let child = Command::new(vault.program)
            .args(vault.arguments)
            .arg(std::process::id().to_string())
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()
            .unwrap();
        let reader = FrameReader::new(stream.try_clone().unwrap());
        let mut line = Self { stream, reader, child, number: 0 };
        let hello = Request::Hello { version: VERSION, program: "attacker".to_owned() };
        assert!(matches!(line.ask(&hello), Answer::Welcome { pinned: false, .. }));
        assert_eq!(line.ask(&Request::Pin(Box::new(network()))), Answer::Done(Operation::Pin));
        line
    }

    fn ask(&mut self, request: &Request) -> Answer {
        self.number += 1;
        request.frame(self.number).unwrap().write(&mut self.stream).unwrap();
        let (header, body) = self.reader.read().unwrap();
        assert_eq!(header.number, self.number);
        Answer::read(header.operation, body).unwrap()
    }

    fn provision(&mut self, data_key: &KnownDataKey, secret: &SecretKey) -> KeyOutcome {
        let request = Request::Provision {
            data_key: DataKeyBytes::new(&data_key.plain),
            keys: vec![SealedKeyBytes {
                public_key: *secret.public_key(),
                sealed: seal::seal(&data_key.key, NETWORK, secret).unwrap().as_bytes().to_vec(),
            }],
        };
        let Answer::Provisioned(outcomes) = self.ask(&request) else { panic!("no outcomes") };
        outcomes[0]
    }

    fn sign(&mut self, items: Vec<SignItem>) -> Vec<Result<[u8; 96], Reason>> {
        let Answer::Signed(outcomes) = self.ask(&Request::Sign(items)) else { panic!("no outcomes") };
        outcomes.into_iter().map(|outcome| outcome.map_err(|refusal| refusal.reason)).collect()
    }

    /// Sends bytes and waits for the vault to end; says whether it ended in good order and what it said.
    fn ends(mut self, bytes: &[u8]) -> (bool, Vec<u8>) {
        // It may hang up before it has read everything.
        let _ = self.stream.write_all(bytes);
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
        let mut status = None;
        wait_until("the end of the vault", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        let mut said = Vec::new();
        let _ = self.stream.read_to_end(&mut said);
        (status.unwrap().success(), said)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A data key known to the attacker.
pub(crate) struct KnownDataKey {
    pub(crate) plain: [u8; 32],
    pub(crate) key: DataKey,
}

impl KnownDataKey {
    pub(crate) fn new(byte: u8) -> Self {
        let plain = std::array::from_fn(|index| byte.wrapping_add(u8::try_from(index).unwrap().wrapping_mul(37)));
        Self { plain, key: DataKey::take(&mut plain.clone()).unwrap() }
    }
}

fn item(key: PublicKey, message: &Message) -> SignItem {
    let intent = intent(&key, message);
    SignItem { public_key: key, root: intent.root().into(), commit_seq: 0, statement: **intent.statement() }
}

pub(crate) fn nothing_slashable() {
    let mut line = Line::new();
    let data_key = KnownDataKey::new(1);
    let secret = generate::secret_key().unwrap();
    let key = *secret.public_key();
    assert_eq!(line.provision(&data_key, &secret), KeyOutcome::Opened);
    let cold = slot();
    assert_eq!(line.sign(vec![item(key, &block_of(cold, 1))]), [Err(Reason::BlockSlotBelowWatermark)]);
    let number = next_slot();
    // One frame with every kind of conflict in it: the first is signed, nothing that conflicts with it.
    let vote = attestation_of(number - 1, number, 1);
    let outcomes = line.sign(vec![
        item(key, &block_of(number, 1)),
        item(key, &block_of(number, 2)),
        item(key, &block_of(number, 1)),
        item(key, &block_of(number - 1, 1)),
        item(key, &vote),
        item(key, &attestation_of(number - 1, number, 2)),
        item(key, &attestation_of(number - 2, number, 1)),
        item(key, &vote),
        SignItem { root: ObservedRoot::new([7; 32]), ..item(key, &vote) },
        item(key, &block_of(number + 1_000, 1)),
        item(key, &attestation_of(number, number + 1_000, 1)),
        item(PublicKey::from_bytes([1; 48]), &vote),
    ]);
    let reasons: Vec<Option<Reason>> = outcomes.iter().map(|outcome| outcome.err()).collect();
    assert_eq!(
        reasons,
        [
            None,
            Some(Reason::DoubleBlock),
            None,
            Some(Reason::BlockSlotBelowWatermark),
            None,
            Some(Reason::DoubleVote),
            Some(Reason::DoubleVote),
            None,
            Some(Reason::RootMismatch),
            Some(Reason::SlotInFuture),
            Some(Reason::TargetInFuture),
            Some(Reason::UnknownKey),
        ]
    );
    assert_eq!((&outcomes[0], &outcomes[4]), (&outcomes[2], &outcomes[7]), "the same again is the same signature");
    let root = intent(&key, &vote).root();
    assert!(holdfast_enclave_sys::verify(key.as_bytes(), root.as_bytes(), &outcomes[4].unwrap()));

    // Bringing the key in again, or in a new vault, gains nothing.
    assert_eq!(line.provision(&data_key, &secret), KeyOutcome::AlreadyOpen);
    assert_eq!(line.ask(&Request::Forget(vec![key])), Answer::Done(Operation::Forget));
    assert_eq!(line.provision(&data_key, &secret), KeyOutcome::Opened);
    assert_ne!(line.sign(vec![item(key, &block_of(number, 2))]), [Ok([0; 96])]);
    assert!(line.sign(vec![item(key, &block_of(number, 2))])[0].is_err());
    drop(line);
    let mut line = Line::new();
    assert_eq!(line.provision(&data_key, &secret), KeyOutcome::Opened);
    assert_eq!(line.sign(vec![item(key, &block_of(number, 2))]), [Err(Reason::BlockSlotBelowWatermark)]);
    let surrounding = attestation_of(number - 2, number + 1, 1);
    assert!(line.sign(vec![item(key, &surrounding)])[0].is_err());
    assert_eq!(line.ask(&Request::Shutdown), Answer::Done(Operation::Shutdown));
    assert!(line.ends(&[]).0, "it ends in good order when it is told to");
}

pub(crate) fn garbage_ends_the_vault() {
    let replayed = Request::Health.frame(1).unwrap().as_bytes().to_vec();
    let skipped = Request::Health.frame(9).unwrap().as_bytes().to_vec();
    let huge = [u32::MAX.to_be_bytes().as_slice(), &[0; 100]].concat();
    let cut = Request::Health.frame(3).unwrap().as_bytes()[..10].to_vec();
    let mut unknown = Request::Health.frame(3).unwrap().as_bytes().to_vec();
    unknown[4] = 42;
    let noise: Vec<u8> = (0..5_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    for garbage in [replayed, skipped, huge, cut, unknown, noise, b"GET / HTTP/1.1\r\n\r\n".to_vec()] {
        let (good, said) = Line::new().ends(&garbage);
        assert!(!good && said.is_empty(), "{good} {said:?}");
    }
    let (good, said) = Line::new().ends(&[]);
    assert!(good && said.is_empty(), "a closed connection is a good end");
}
