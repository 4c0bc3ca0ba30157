//! A host that says whatever it likes, over a real vsock, to a vault in a real machine. Without a security module: the key
//! service is played by the test, which encrypts to the boot key that the vault names.

use holdfast_domain::PublicKey;
use holdfast_vault_proto::{Answer, DataKeyBytes, Failure, KeyOutcome, Operation, Protections, Reason, Request};

use crate::support::chain::{block, item, network, vote, wound_back};
use crate::support::keys::{KnownDataKey, secret};
use crate::support::line::Line;
use crate::support::machine::Machine;

/// Every conflict in one frame: of each, the first is signed and nothing that conflicts with it.
pub(crate) fn conflicts(line: &mut Line, key: PublicKey) -> u64 {
    let number = line.next_slot();
    let messages = [
        block(number, 1),
        block(number, 2),
        block(number, 1),
        block(number - 1, 1),
        vote(number - 1, number, 1),
        vote(number - 1, number, 2),
        vote(number - 2, number, 1),
        vote(number - 1, number, 1),
        block(number + 1_000, 1),
        vote(number, number + 1_000, 1),
    ];
    let outcomes = line.sign(key, &messages);
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
            Some(Reason::SlotInFuture),
            Some(Reason::TargetInFuture),
        ]
    );
    assert_eq!((outcomes[0], outcomes[4]), (outcomes[2], outcomes[7]), "the same again is the same signature");
    // A root is compared and never signed.
    let other = holdfast_vault_proto::SignItem {
        root: item(key, &block(number, 9)).root,
        ..item(key, &vote(number - 1, number, 1))
    };
    let Answer::Signed(outcomes) = line.ask(&Request::Sign(vec![other])) else { panic!("no outcomes") };
    assert!(matches!(outcomes[0], Err(refusal) if refusal.reason == Reason::RootMismatch));
    number
}

/// Nothing that conflicts with what was signed at `number`, a slot and an epoch.
pub(crate) fn nothing_conflicting(line: &mut Line, key: PublicKey, number: u64) {
    let messages = [
        block(number, 2),
        block(number, 1),
        block(number + 1, 2),
        vote(number - 1, number, 2),
        vote(number - 1, number + 1, 2),
        vote(number - 2, number + 1, 1),
        vote(number - 2, number + 2, 1),
    ];
    for (place, outcome) in line.sign(key, &messages).into_iter().enumerate() {
        assert!(outcome.is_err(), "message {place} was signed by a vault that began after it");
    }
}

pub(crate) fn nothing_slashable() {
    let mut machine = Machine::stock();
    let (mut line, greeting) = Line::greeted(&mut machine);
    assert!(!greeting.pinned);
    for protection in [Protections::SECRET_MEMORY, Protections::UNDUMPABLE, Protections::NO_NEW_PRIVILEGES] {
        assert!(greeting.protections.has(protection), "{:?}", greeting.protections);
    }
    // A host that could name the times of the chain would sign the past again.
    for slots in [1, 5_000] {
        let wound = line.ask(&Request::Pin(Box::new(wound_back(slots))));
        assert_eq!(wound, Answer::Failed(Failure::UnknownChain));
    }
    assert_eq!(line.ask(&Request::Pin(Box::new(network()))), Answer::Done(Operation::Pin));
    let attested = line.ask(&Request::Attest { nonce: vec![1; 32] });
    assert_eq!(attested, Answer::Failed(Failure::NoSecurityModule));

    let (data_key, other, secret) = (KnownDataKey::new(1), KnownDataKey::new(2), secret());
    let (key, sealed) = (*secret.public_key(), vec![data_key.seal(&secret)]);
    let plain = Request::Provision { data_key: DataKeyBytes::new(&data_key.plain), keys: sealed.clone() };
    assert_eq!(line.ask(&plain), Answer::Failed(Failure::PlainDataKey));
    let envelope = data_key.envelope(&greeting.boot_key);
    let mut damaged = envelope.clone();
    damaged[200] ^= 1;
    for bad in [Vec::new(), b"no envelope".to_vec(), damaged] {
        assert_eq!(line.provision(bad, sealed.clone()), Err(Failure::NotForThisBoot));
    }
    let wrong = line.provision(other.envelope(&greeting.boot_key), sealed.clone());
    assert_eq!(wrong, Ok(vec![KeyOutcome::OtherDataKey]), "a forged data key opens nothing");
    let mut changed = sealed.clone();
    changed[0].sealed[60] ^= 1;
    assert_eq!(line.provision(envelope.clone(), changed), Ok(vec![KeyOutcome::Damaged]));
    assert_eq!(line.health().keys, 0);
    assert_eq!(line.provision(envelope, sealed), Ok(vec![KeyOutcome::Opened]));

    let cold = line.slot();
    assert_eq!(line.reasons(key, &[block(cold, 1)]), [Some(Reason::BlockSlotBelowWatermark)]);
    assert_eq!(line.reasons(key, &[vote(cold - 1, cold, 1)]), [Some(Reason::SourceBelowWatermark)]);
    let number = conflicts(&mut line, key);

    // Forgotten and brought in again, it has its fence again.
    assert_eq!(line.ask(&Request::Forget(vec![key])), Answer::Done(Operation::Forget));
    let again = line.provision(data_key.envelope(&greeting.boot_key), vec![data_key.seal(&secret)]);
    assert_eq!(again, Ok(vec![KeyOutcome::Opened]));
    nothing_conflicting(&mut line, key, number);

    assert_eq!(line.ask(&Request::Shutdown), Answer::Done(Operation::Shutdown));
    assert!(machine.ends(), "it switches itself off when it is told to");
}

pub(crate) fn garbage() {
    let mut machine = Machine::stock();
    let (mut line, greeting) = Line::pinned(&mut machine);
    let (data_key, secret) = (KnownDataKey::new(3), secret());
    let key = *secret.public_key();
    let envelope = data_key.envelope(&greeting.boot_key);
    assert_eq!(line.provision(envelope.clone(), vec![data_key.seal(&secret)]), Ok(vec![KeyOutcome::Opened]));
    let number = conflicts(&mut line, key);
    drop(line);

    let frame = |number| Request::Health.frame(number).unwrap().as_bytes().to_vec();
    let mut unknown = frame(2);
    unknown[4] = 42;
    let huge = [u32::MAX.to_be_bytes().as_slice(), &[0; 100]].concat();
    let noise: Vec<u8> = (0..5_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let many = [0x12, 0x00].repeat(30_000);
    let length = u32::try_from(many.len() + 9).unwrap().to_be_bytes();
    let crowd = [length.as_slice(), &[10], &2_u64.to_be_bytes(), &many].concat();
    for garbage in [frame(1), frame(9), huge, frame(2)[..10].to_vec(), unknown, noise, crowd, Vec::new()] {
        let (line, greeting) = Line::greeted(&mut machine);
        assert!(greeting.pinned, "the chain outlives a conversation");
        line.hangs_up_on(&garbage);
    }
    // Nobody is served before he introduced himself.
    Line::silent(&mut machine).hangs_up_on(b"GET / HTTP/1.1\r\n\r\n");
    let mut silent = Line::silent(&mut machine);
    assert_eq!(silent.ask(&Request::Health), Answer::Failed(Failure::NotIntroduced));
    drop(silent);

    // Keys and marks are what they were.
    let (mut line, _) = Line::pinned(&mut machine);
    assert_eq!(line.health().keys, 1);
    assert_eq!(line.provision(envelope, vec![data_key.seal(&secret)]), Ok(vec![KeyOutcome::AlreadyOpen]));
    let reasons = line.reasons(key, &[block(number, 1), block(number, 2), vote(number - 1, number, 2)]);
    assert_eq!(reasons, [None, Some(Reason::DoubleBlock), Some(Reason::DoubleVote)]);
    assert!(machine.runs());
}

pub(crate) fn rollback() {
    let mut machine = Machine::stock();
    let (mut line, first) = Line::pinned(&mut machine);
    let (data_key, secret) = (KnownDataKey::new(6), secret());
    let (key, sealed) = (*secret.public_key(), vec![data_key.seal(&secret)]);
    let old = data_key.envelope(&first.boot_key);
    assert_eq!(line.provision(old.clone(), sealed.clone()), Ok(vec![KeyOutcome::Opened]));
    let number = conflicts(&mut line, key);
    // Killed in the middle of everything; all that its host has is what it had before.
    drop(machine);

    let mut machine = Machine::stock();
    let (mut line, second) = Line::pinned(&mut machine);
    assert_ne!(second.boot_key, first.boot_key);
    assert_eq!(line.provision(old, sealed.clone()), Err(Failure::NotForThisBoot));
    assert_eq!(line.reasons(key, &[block(number, 2)]), [Some(Reason::UnknownKey)]);
    assert_eq!(line.provision(data_key.envelope(&second.boot_key), sealed), Ok(vec![KeyOutcome::Opened]));
    nothing_conflicting(&mut line, key, number);
    conflicts(&mut line, key);
}
