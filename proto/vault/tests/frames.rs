//! Proves: requests and answers come back as they were sent; and whatever bytes arrive, nothing panics, nothing is
//! accepted beyond the limits, and what is accepted is sent on as the same bytes' meaning.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use holdfast_domain::message::{AttestationData, BeaconBlockHeader, Checkpoint, VoluntaryExit};
use holdfast_domain::{
    Epoch, Fork, ForkInfo, ForkVersion, GenesisValidatorsRoot, Hashed, MessageKind, Network, ObservedRoot, PublicKey,
    Slot, Stated, Statement, ValidatorIndex,
};
use holdfast_vault_proto::frame::FrameReader;
use holdfast_vault_proto::limits::{
    MAX_BOOT_KEY, MAX_CMS, MAX_DOCUMENT, MAX_FRAME, MAX_GENERATED, MAX_ITEMS, MAX_KEYS, MAX_NONCE, MAX_PAGE,
    MAX_SEALED, MAX_WITNESS_MESSAGE, MAX_WITNESSES, MAX_WRAPPED_KEY,
};
use holdfast_vault_proto::{
    Answer, AttestedOrder, DataKeyBytes, DataKeyCommitment, EncryptedKey, EncryptedSeed, Failure, FrameError,
    GeneratedKey, HealthReport, KeyOutcome, KeyState, LeaseNews, LeaseReport, Malformed, Operation, Origin,
    Protections, Reason, Refusal, Request, SealedKeyBytes, SeedBytes, SignItem, Watermarks,
};
use proptest::prelude::*;

/// What a request says, in a form that can be compared.
fn shown(request: &Request) -> String {
    match request {
        Request::Hello { version, program } => format!("hello {version} {program}"),
        Request::Pin(network) => format!("pin {network:?}"),
        Request::Provision { data_key, keys } => format!("provision {:?} {keys:?}", data_key.as_bytes()),
        Request::Forget(keys) => format!("forget {keys:?}"),
        Request::Sign(items) => format!("sign {items:?}"),
        Request::List { after, limit } => format!("list {after:?} {limit}"),
        Request::Health => "health".to_owned(),
        Request::Shutdown => "shutdown".to_owned(),
        Request::Attest { nonce } => format!("attest {nonce:?}"),
        Request::ProvisionAttested { cms, keys } => format!("provision attested {cms:?} {keys:?}"),
        Request::ImportAttested(key) => format!("import {key:?}"),
        Request::Generate { data_key, origin, count } => {
            let origin = match origin {
                Origin::Random => "random".to_owned(),
                Origin::Tree { seed, first } => format!("{:?} from {first}", seed.as_bytes()),
            };
            format!("generate {:?} {origin} {count}", data_key.as_bytes())
        }
        Request::GenerateAttested(order) => format!("generate attested {order:?}"),
        Request::Witnesses { group, witnesses, quorum } => format!("witnesses {group} {witnesses:?} {quorum}"),
        Request::AskLease { until, versions } => format!("ask {until:?} {versions:?}"),
        Request::TakeLease(grants) => format!("take {grants:?}"),
        Request::ReleaseLease { versions } => format!("release {versions:?}"),
        Request::FetchPage(index) => format!("fetch {index}"),
        Request::OfferPage(page) => format!("offer {page:?}"),
    }
}

/// Through a frame and back.
fn returned(request: &Request, number: u64) -> Request {
    let frame = request.frame(number).unwrap();
    let mut reader = FrameReader::new(frame.as_bytes());
    let (header, body) = reader.read().unwrap();
    assert_eq!((header.operation, header.number), (request.operation(), number));
    Request::read(header.operation, body).unwrap()
}

fn key() -> impl Strategy<Value = PublicKey> {
    any::<[u8; 24]>().prop_map(|half| PublicKey::from_bytes([half, half].concat().try_into().unwrap()))
}

fn fork_info() -> impl Strategy<Value = ForkInfo> {
    (any::<[u8; 4]>(), any::<[u8; 4]>(), any::<u64>(), any::<[u8; 32]>()).prop_map(
        |(previous, current, epoch, root)| {
            let fork = Fork {
                previous_version: ForkVersion(previous),
                current_version: ForkVersion(current),
                epoch: Epoch(epoch),
            };
            ForkInfo { fork, genesis_validators_root: GenesisValidatorsRoot(root) }
        },
    )
}

fn stated() -> impl Strategy<Value = Stated> {
    let numbers = any::<[u64; 4]>();
    let roots = (any::<[u8; 32]>(), any::<[u8; 32]>(), any::<[u8; 32]>());
    (0..16_usize, numbers, roots).prop_map(|(which, numbers, (one, two, three))| match MessageKind::ALL[which].code() {
        1 => Stated::Block(BeaconBlockHeader {
            slot: Slot(numbers[0]),
            proposer_index: ValidatorIndex(numbers[1]),
            parent_root: one,
            state_root: two,
            body_root: three,
        }),
        2 => Stated::Attestation(AttestationData {
            slot: Slot(numbers[0]),
            index: numbers[1],
            beacon_block_root: one,
            source: Checkpoint { epoch: Epoch(numbers[2]), root: two },
            target: Checkpoint { epoch: Epoch(numbers[3]), root: three },
        }),
        6 => Stated::VoluntaryExit(VoluntaryExit {
            epoch: Epoch(numbers[0]),
            validator_index: ValidatorIndex(numbers[1]),
        }),
        7 => Stated::Deposit { root: one, genesis_fork_version: ForkVersion([1, 2, 3, 4]) },
        _ => {
            let MessageKind::Unslashable(kind) = MessageKind::ALL[which] else { unreachable!() };
            let what = Hashed::new(kind, numbers[0]).or_else(|| Hashed::new(kind, 0)).unwrap();
            Stated::Hashed { what, root: one }
        }
    })
}

fn item() -> impl Strategy<Value = SignItem> {
    (key(), any::<[u8; 32]>(), any::<u64>(), stated(), proptest::option::of(fork_info())).prop_map(
        |(public_key, root, commit_seq, stated, fork_info)| SignItem {
            public_key,
            root: ObservedRoot::new(root),
            commit_seq,
            statement: Statement { stated, fork_info },
        },
    )
}

fn sealed() -> impl Strategy<Value = SealedKeyBytes> {
    (key(), proptest::collection::vec(any::<u8>(), 0..=MAX_SEALED))
        .prop_map(|(public_key, sealed)| SealedKeyBytes { public_key, sealed })
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        (any::<u32>(), "[a-z0-9 .]{0,40}").prop_map(|(version, program)| Request::Hello { version, program }),
        (0..Network::BUILTIN_NAMES.len())
            .prop_map(|index| Request::Pin(Box::new(Network::builtin(Network::BUILTIN_NAMES[index]).unwrap()))),
        (any::<[u8; 32]>(), proptest::collection::vec(sealed(), 0..20))
            .prop_map(|(data_key, keys)| Request::Provision { data_key: DataKeyBytes::new(&data_key), keys }),
        proptest::collection::vec(key(), 0..20).prop_map(Request::Forget),
        proptest::collection::vec(item(), 0..MAX_ITEMS).prop_map(Request::Sign),
        (proptest::option::of(key()), 0..=MAX_KEYS).prop_map(|(after, limit)| Request::List { after, limit }),
        Just(()).prop_map(|()| Request::Health),
        Just(()).prop_map(|()| Request::Shutdown),
        bytes(MAX_NONCE).prop_map(|nonce| Request::Attest { nonce }),
        (bytes(MAX_CMS), proptest::collection::vec(sealed(), 0..20))
            .prop_map(|(cms, keys)| Request::ProvisionAttested { cms, keys }),
        (key(), any::<[u8; 32]>(), bytes(MAX_WRAPPED_KEY), any::<[u8; 30]>()).prop_map(
            |(public_key, data_key, wrapped_key, half)| {
                let ciphertext = [half, half].concat().try_into().unwrap();
                let data_key = DataKeyCommitment(data_key);
                Request::ImportAttested(Box::new(EncryptedKey { public_key, data_key, wrapped_key, ciphertext }))
            }
        ),
        lease_request(),
        order(),
    ]
}

fn order() -> impl Strategy<Value = Request> {
    let first = || 0..u32::MAX - u32::try_from(MAX_GENERATED).unwrap();
    let seed = (first(), any::<[u8; 32]>());
    let encrypted = (first(), bytes(MAX_WRAPPED_KEY)).prop_map(|(first, wrapped)| EncryptedSeed { first, wrapped });
    let data_key = any::<[u8; 32]>();
    prop_oneof![
        (data_key, proptest::option::of(seed), 1..=MAX_GENERATED).prop_map(|(data_key, seed, count)| {
            let origin = match seed {
                None => Origin::Random,
                Some((first, half)) => {
                    Origin::Tree { seed: SeedBytes::new(&[half, half].concat().try_into().unwrap()), first }
                }
            };
            Request::Generate { data_key: DataKeyBytes::new(&data_key), origin, count }
        }),
        (bytes(MAX_NONCE), data_key, 1..=MAX_GENERATED, proptest::option::of(encrypted)).prop_map(
            |(nonce, data_key, count, seed)| {
                let data_key = DataKeyCommitment(data_key);
                Request::GenerateAttested(Box::new(AttestedOrder { nonce, data_key, count, seed }))
            }
        ),
    ]
}

fn generated() -> impl Strategy<Value = Vec<GeneratedKey>> {
    let one =
        (sealed(), proptest::option::of(key())).prop_map(|(key, withdrawal_key)| GeneratedKey { key, withdrawal_key });
    proptest::collection::vec(one, 0..=MAX_GENERATED)
}

fn messages() -> impl Strategy<Value = Vec<Vec<u8>>> {
    proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..=MAX_WITNESS_MESSAGE), 0..=MAX_WITNESSES)
}

fn lease_request() -> impl Strategy<Value = Request> {
    let versions = || proptest::collection::vec(any::<u64>(), 0..=MAX_WITNESSES);
    prop_oneof![
        ("[a-z]{0,40}", proptest::collection::vec(any::<[u8; 32]>(), 0..=MAX_WITNESSES), 0..20_usize)
            .prop_map(|(group, witnesses, quorum)| Request::Witnesses { group, witnesses, quorum }),
        (any::<u64>(), versions()).prop_map(|(until, versions)| Request::AskLease { until: Epoch(until), versions }),
        messages().prop_map(Request::TakeLease),
        versions().prop_map(|versions| Request::ReleaseLease { versions }),
        any::<u32>().prop_map(Request::FetchPage),
        proptest::collection::vec(any::<u8>(), 0..2_000).prop_map(Request::OfferPage),
    ]
}

fn lease_answer() -> impl Strategy<Value = Answer> {
    let operation = prop_oneof![Just(Operation::AskLease), Just(Operation::ReleaseLease)];
    prop_oneof![
        (operation, messages(), any::<u32>()).prop_map(|(operation, requests, pages)| Answer::Requests {
            operation,
            requests,
            pages
        }),
        (any::<Option<(u64, u64)>>(), 0..LeaseNews::ALL.len(), any::<u32>(), any::<u64>()).prop_map(
            |(held, news, good, resumed)| Answer::Lease(LeaseReport {
                held: held.map(|(after, until)| (Epoch(after), Epoch(until))),
                news: LeaseNews::ALL[news],
                good,
                resumed,
            })
        ),
        proptest::collection::vec(any::<u8>(), 0..2_000).prop_map(Answer::Page),
    ]
}

/// Up to so many bytes, and often just so many.
fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![proptest::collection::vec(any::<u8>(), 0..=max), Just(vec![9; max])]
}

fn marks() -> impl Strategy<Value = Watermarks> {
    any::<(Option<u64>, Option<u64>, Option<u64>)>().prop_map(|(block, source, target)| Watermarks {
        block: block.map(Slot),
        source: source.map(Epoch),
        target: target.map(Epoch),
    })
}

fn answer() -> impl Strategy<Value = Answer> {
    let refusal =
        (0..Reason::ALL.len(), marks()).prop_map(|(index, marks)| Err(Refusal { reason: Reason::ALL[index], marks }));
    let signature = any::<[u8; 32]>().prop_map(|third| Ok([third, third, third].concat().try_into().unwrap()));
    prop_oneof![
        (any::<u32>(), "[a-z0-9 .]{0,40}", any::<bool>(), any::<u32>(), bytes(MAX_BOOT_KEY)).prop_map(
            |(version, program, pinned, bits, boot_key)| {
                Answer::Welcome { version, program, pinned, protections: Protections::from_bits(bits), boot_key }
            }
        ),
        bytes(MAX_DOCUMENT).prop_map(Answer::Attested),
        bytes(MAX_SEALED).prop_map(Answer::Imported),
        generated().prop_map(Answer::Generated),
        (generated(), bytes(MAX_DOCUMENT)).prop_map(|(keys, document)| Answer::GeneratedAttested { keys, document }),
        Just(Answer::ProvisionedAttested(KeyOutcome::ALL.to_vec())),
        Just(Answer::Done(Operation::Pin)),
        proptest::collection::vec(0..KeyOutcome::ALL.len(), 0..MAX_KEYS)
            .prop_map(|all| Answer::Provisioned(all.into_iter().map(|index| KeyOutcome::ALL[index]).collect())),
        proptest::collection::vec(prop_oneof![signature, refusal], 0..MAX_ITEMS).prop_map(Answer::Signed),
        proptest::collection::vec((key(), any::<bool>(), marks()), 0..MAX_KEYS).prop_map(|keys| {
            let state = |(public_key, open, marks)| KeyState { public_key, open, marks };
            Answer::Listed(keys.into_iter().map(state).collect())
        }),
        any::<[u64; 4]>().prop_map(|[keys, signatures, refusals, clock_millis]| {
            Answer::Health(HealthReport { keys, signatures, refusals, clock_millis })
        }),
        (0..Failure::ALL.len()).prop_map(|index| Answer::Failed(Failure::ALL[index])),
        lease_answer(),
    ]
}

proptest! {
    #[test]
    fn requests_come_back(request in request(), number in any::<u64>()) {
        prop_assert_eq!(shown(&returned(&request, number)), shown(&request));
    }

    #[test]
    fn answers_come_back(answer in answer(), number in any::<u64>()) {
        let frame = answer.frame(number).unwrap();
        let mut reader = FrameReader::new(frame.as_bytes());
        let (header, body) = reader.read().unwrap();
        prop_assert_eq!((header.operation, header.number), (answer.operation(), number));
        prop_assert_eq!(Answer::read(header.operation, body).unwrap(), answer);
    }

    /// Whatever arrives: an error, or something within the limits.
    #[test]
    fn any_bytes_are_an_error_or_within_the_limits(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        for operation in Operation::ALL {
            if let Ok(request) = Request::read(operation, &bytes) {
                check_limits(&request);
                prop_assert_eq!(shown(&returned(&request, 1)), shown(&request));
            }
            if let Ok(answer) = Answer::read(operation, &bytes) {
                prop_assert!(answer.frame(1).is_some());
            }
        }
        let mut reader = FrameReader::new(bytes.as_slice());
        while reader.read().is_ok() {}
    }

    /// The same for requests with a few bytes changed, cut off or added, which get further than noise.
    #[test]
    fn damaged_requests_are_an_error_or_within_the_limits(
        request in request(),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<proptest::sample::Index>(),
        more in proptest::collection::vec(any::<u8>(), 0..6),
    ) {
        let mut bytes = request.frame(1).unwrap().as_bytes().to_vec();
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        bytes.truncate(cut.index(bytes.len()) + 1);
        bytes.extend(more);
        let mut reader = FrameReader::new(bytes.as_slice());
        if let Ok((header, body)) = reader.read()
            && let Ok(request) = Request::read(header.operation, body)
        {
            check_limits(&request);
        }
    }
}

fn check_limits(request: &Request) {
    match request {
        Request::Provision { keys, .. } | Request::ProvisionAttested { keys, .. } => {
            assert!(keys.len() <= MAX_KEYS && keys.iter().all(|key| key.sealed.len() <= MAX_SEALED));
        }
        Request::Forget(keys) => assert!(keys.len() <= MAX_KEYS),
        Request::Sign(items) => assert!(items.len() <= MAX_ITEMS),
        Request::List { limit, .. } => assert!(*limit <= MAX_KEYS),
        Request::Attest { nonce } => assert!(nonce.len() <= MAX_NONCE),
        Request::ImportAttested(key) => assert!(key.wrapped_key.len() <= MAX_WRAPPED_KEY),
        Request::Generate { count, .. } => assert!((1..=MAX_GENERATED).contains(count)),
        Request::GenerateAttested(order) => {
            assert!((1..=MAX_GENERATED).contains(&order.count) && order.nonce.len() <= MAX_NONCE);
        }
        Request::Witnesses { witnesses, .. } => assert!(witnesses.len() <= MAX_WITNESSES),
        Request::AskLease { versions, .. } | Request::ReleaseLease { versions } => {
            assert!(versions.len() <= MAX_WITNESSES);
        }
        Request::TakeLease(grants) => {
            assert!(grants.len() <= MAX_WITNESSES && grants.iter().all(|grant| grant.len() <= MAX_WITNESS_MESSAGE));
        }
        Request::OfferPage(page) => assert!(page.len() <= MAX_PAGE),
        Request::Hello { .. } | Request::Pin(_) | Request::Health | Request::Shutdown | Request::FetchPage(_) => {}
    }
}

#[test]
fn a_full_batch_fits_and_one_more_is_refused_by_both_sides() {
    let info = ForkInfo {
        fork: Fork {
            previous_version: ForkVersion([255; 4]),
            current_version: ForkVersion([255; 4]),
            epoch: Epoch(u64::MAX),
        },
        genesis_validators_root: GenesisValidatorsRoot([255; 32]),
    };
    let checkpoint = Checkpoint { epoch: Epoch(u64::MAX), root: [255; 32] };
    let largest = SignItem {
        public_key: PublicKey::from_bytes([255; 48]),
        root: ObservedRoot::new([255; 32]),
        commit_seq: u64::MAX,
        statement: Statement {
            stated: Stated::Attestation(AttestationData {
                slot: Slot(u64::MAX),
                index: u64::MAX,
                beacon_block_root: [255; 32],
                source: checkpoint,
                target: checkpoint,
            }),
            fork_info: Some(info),
        },
    };
    let frame = Request::Sign(vec![largest; MAX_ITEMS]).frame(1).unwrap();
    println!("{} bytes for {MAX_ITEMS} items", frame.as_bytes().len());
    assert!(Request::Sign(vec![largest; MAX_ITEMS + 1]).frame(1).is_none());
    let sealed = SealedKeyBytes { public_key: largest.public_key, sealed: vec![255; MAX_SEALED] };
    let provision =
        |count| Request::Provision { data_key: DataKeyBytes::new(&[1; 32]), keys: vec![sealed.clone(); count] };
    assert!(provision(MAX_KEYS).frame(1).is_some());
    assert!(provision(MAX_KEYS + 1).frame(1).is_none());
    let long = SealedKeyBytes { sealed: vec![1; MAX_SEALED + 1], public_key: sealed.public_key };
    assert!(Request::Provision { data_key: DataKeyBytes::new(&[1; 32]), keys: vec![long] }.frame(1).is_none());

    let most = |count| Request::ProvisionAttested { cms: vec![1; MAX_CMS], keys: vec![sealed.clone(); count] };
    assert!(most(MAX_KEYS).frame(1).is_some() && most(MAX_KEYS + 1).frame(1).is_none());
    assert!(Request::ProvisionAttested { cms: vec![1; MAX_CMS + 1], keys: Vec::new() }.frame(1).is_none());
    assert!(Request::Attest { nonce: vec![1; MAX_NONCE + 1] }.frame(1).is_none());
    assert!(Answer::Attested(vec![1; MAX_DOCUMENT + 1]).frame(1).is_none());

    // What a hostile side would send: empty elements take two bytes each, and far more once decoded.
    let many = [0x0a, 0x00].repeat(MAX_FRAME / 2 - 10);
    for operation in [Operation::Sign, Operation::Forget] {
        assert!(matches!(Request::read(operation, &many), Err(Malformed::TooMany { .. })));
    }
    let many = [0x12, 0x00].repeat(MAX_FRAME / 2 - 10);
    assert!(matches!(Request::read(Operation::ProvisionAttested, &many), Err(Malformed::TooMany { .. })));
    let many = [vec![9; 32], [0x0a, 0x00].repeat(MAX_FRAME / 2 - 40)].concat();
    assert!(matches!(Request::read(Operation::Provision, &many), Err(Malformed::TooMany { .. })));
    for operation in [Operation::Sign, Operation::List] {
        let many = [0x0a, 0x00].repeat(MAX_FRAME / 2 - 10);
        assert!(matches!(Answer::read(operation, &many), Err(Malformed::TooMany { .. })));
    }
    let many = [0x08, 0x01].repeat(MAX_FRAME / 2 - 10);
    assert!(matches!(Answer::read(Operation::Provision, &many), Err(Malformed::TooMany { .. })));
}

#[test]
fn blocks_and_votes_never_come_as_a_hash() {
    let item = |kind: u8| {
        // public_key, root, and `hashed` with this kind.
        let mut body = vec![0x0a, 48];
        body.extend([1; 48]);
        body.extend([0x12, 32]);
        body.extend([2; 32]);
        body.extend([0x4a, 36, 0x08, kind, 0x1a, 32]);
        body.extend([3; 32]);
        let mut sign = vec![0x0a, u8::try_from(body.len()).unwrap()];
        sign.extend(body);
        Request::read(Operation::Sign, &sign)
    };
    let accepted: Vec<u8> = (0..=127).filter(|kind| item(*kind).is_ok()).collect();
    // 1 and 2 are blocks and attestations, 6 and 7 exits and deposits, which have forms of their own.
    assert_eq!(accepted, [3, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
    assert!(matches!(item(1), Err(Malformed::Value { field: "kind", value: 1 })));
}

#[test]
fn an_order_of_too_many_keys_or_of_places_that_are_not_there_is_refused() {
    let order = |count, first| {
        let origin = Origin::Tree { seed: SeedBytes::new(&[7; 64]), first };
        Request::Generate { data_key: DataKeyBytes::new(&[1; 32]), origin, count }.frame(1)
    };
    for count in [0, MAX_GENERATED + 1] {
        assert!(order(count, 0).is_none(), "{count}");
    }
    // Written by somebody else: count in field 1, first in field 2.
    let raw = |seed: u8, fields: &[u8]| {
        Request::read(Operation::Generate, &[[1; 32].as_slice(), &[seed; 64], fields].concat())
    };
    assert!(raw(7, &[0x08, 32, 0x10, 5]).is_ok());
    assert!(matches!(raw(7, &[0x08, 33, 0x10, 5]), Err(Malformed::Value { field: "count", value: 33 })));
    assert!(matches!(raw(7, &[0x10, 5]), Err(Malformed::Value { field: "count", value: 0 })));
    assert!(matches!(
        raw(7, &[0x08, 1, 0x10, 0xff, 0xff, 0xff, 0xff, 0x0f]),
        Err(Malformed::Value { field: "first", .. })
    ));
    assert!(matches!(raw(7, &[0x08, 1]), Err(Malformed::Value { field: "first", .. })), "a seed without a place");
    assert!(raw(0, &[0x08, 1]).is_ok(), "no seed and no place");
    assert!(matches!(Request::read(Operation::Generate, &[1; 95]), Err(Malformed::Length { field: "seed", len: 95 })));
}

#[test]
fn a_frame_of_an_answer_only_is_no_request() {
    assert!(matches!(Request::read(Operation::Failed, &[]), Err(Malformed::Value { .. })));
    let mut reader = FrameReader::new([0, 0, 0, 9, 77, 0, 0, 0, 0, 0, 0, 0, 1].as_slice());
    assert!(matches!(reader.read(), Err(FrameError::Operation { code: 77 })));
}
