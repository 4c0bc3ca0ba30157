//! Proves: every reason against an act is found and named; a changed byte of a request or of an approval is refused; each
//! text has one form.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests may stop at the first surprise")]

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use holdfast_approvals::{
    Act, Approval, Approver, BadSignature, Count, Demand, Payload, Policy, PolicyError, Quorum, Refused, Request,
    RequestId, Scope, Seconds, SigningKey, check,
};
use holdfast_domain::{GenesisValidatorsRoot, UnixMillis};
use proptest::prelude::*;

/// 2026-11-29T00:00:00Z.
const NOW: UnixMillis = UnixMillis(1_795_910_400_000);
const DAY: Seconds = Seconds(86_400);

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed([seed; 32].into()).unwrap()
}

fn approver(name: &str, seed: u8) -> Approver {
    format!("{name} {}", key(seed).public()).parse().unwrap()
}

fn policy(threshold: u32) -> Policy {
    let people = vec![approver("alice", 1), approver("bob", 2), approver("carol", 3)];
    Policy::new(people, Count(threshold), Act::ALL, Count(0), DAY).unwrap()
}

fn scope() -> Scope {
    let genesis_validators_root = GenesisValidatorsRoot([0x4b; 32]);
    Scope { network: "mainnet".to_owned(), genesis_validators_root, instance: [9; 16] }
}

fn payload() -> Payload {
    Payload::new(["Export 2 keys as keystores", "key 0xaa", "key 0xbb"])
}

fn request(policy: &Policy) -> Request {
    Request::new(RequestId([7; 16]), (Act::Export, payload()), (NOW, DAY), "cli:uid=0", scope(), policy.digest())
}

fn sign(request: &Request, seeds: &[u8]) -> Vec<Approval> {
    seeds.iter().map(|seed| Approval::sign(request.to_text().as_bytes(), &key(*seed))).collect()
}

/// Checks the request against what it was made for, at this time.
fn at(request: &Request, approvals: &[Approval], policy: &Policy, now: UnixMillis) -> Result<Quorum, Refused> {
    let (scope, payload) = (scope(), payload());
    check(request, approvals, &Demand { scope: &scope, act: Act::Export, payload: &payload, policy, now })
}

#[test]
fn a_quorum_is_enough_and_fewer_are_not() {
    for need in 1..=3 {
        let policy = policy(need);
        let asked = request(&policy);
        for have in 0..=3_u8 {
            let seeds: Vec<u8> = (1..=have).collect();
            let outcome = at(&asked, &sign(&asked, &seeds), &policy, NOW);
            if u32::from(have) >= need {
                let quorum = outcome.unwrap();
                assert_eq!((quorum.id(), quorum.act(), quorum.by().len()), (asked.id, Act::Export, seeds.len()));
                assert_eq!(quorum.payload(), payload().digest());
            } else {
                let Err(Refused::TooFew { have: found, need: wanted, missing }) = outcome else {
                    panic!("{outcome:?}")
                };
                assert_eq!((found.0, wanted.0, missing.len()), (u32::from(have), need, 3 - usize::from(have)));
            }
        }
    }
}

#[test]
fn every_reason_is_named() {
    let two = policy(2);
    let asked = request(&two);
    let both = sign(&asked, &[1, 2]);
    let reason = |outcome: Result<Quorum, Refused>| outcome.unwrap_err().reason();
    assert_eq!(reason(at(&asked, &sign(&asked, &[1, 9]), &two, NOW)), "wrong_approver");
    assert_eq!(reason(at(&asked, &sign(&asked, &[1, 2, 9]), &two, NOW)), "wrong_approver");
    assert_eq!(reason(at(&asked, &sign(&asked, &[1, 1]), &two, NOW)), "duplicate_approver");
    assert_eq!(reason(at(&asked, &sign(&asked, &[1, 2, 1]), &two, NOW)), "duplicate_approver");
    // Expired: at the very second, and not a millisecond before.
    let end = UnixMillis(NOW.0 + DAY.0 * 1_000);
    assert_eq!(reason(at(&asked, &both, &two, end)), "expired");
    assert!(at(&asked, &both, &two, UnixMillis(end.0 - 1)).is_ok());
    // A clock that is behind: two minutes are borne.
    assert!(at(&asked, &both, &two, UnixMillis(NOW.0 - 120_000)).is_ok());
    assert_eq!(reason(at(&asked, &both, &two, UnixMillis(NOW.0 - 120_001))), "not_yet_valid");
    let long = Request { expires: UnixMillis(end.0 + 1_000), ..asked.clone() };
    assert_eq!(reason(at(&long, &sign(&long, &[1, 2]), &two, NOW)), "lives_too_long");
    // The approvers changed since.
    assert_eq!(reason(at(&asked, &both, &policy(1), NOW)), "changed_approvers");
    // Another place, another act, something else.
    for other in [
        Scope { network: "hoodi".to_owned(), ..scope() },
        Scope { genesis_validators_root: GenesisValidatorsRoot([1; 32]), ..scope() },
        Scope { instance: [8; 16], ..scope() },
    ] {
        let there = Request { scope: other, ..asked.clone() };
        assert_eq!(reason(at(&there, &sign(&there, &[1, 2]), &two, NOW)), "wrong_instance");
    }
    let exit = Request { act: Act::BulkExit, ..asked.clone() };
    assert_eq!(reason(at(&exit, &sign(&exit, &[1, 2]), &two, NOW)), "wrong_act");
    for lines in
        [vec!["Export 2 keys as keystores", "key 0xaa"], vec!["Export 2 keys as keystores", "key 0xaa", "key 0xbc"]]
    {
        let less = Request { payload: Payload::new(lines), ..asked.clone() };
        assert_eq!(reason(at(&less, &sign(&less, &[1, 2]), &two, NOW)), "changed_payload");
    }
    // An approval of another request.
    let other = Request { id: RequestId([6; 16]), ..asked.clone() };
    let outcome = at(&asked, &sign(&other, &[1, 2]), &two, NOW);
    assert!(matches!(outcome, Err(Refused::Bad { why: BadSignature::Mismatch, .. })), "{outcome:?}");
}

#[test]
fn one_person_cannot_be_two() {
    let people = vec![approver("alice", 1), approver("alice.too", 1)];
    let error = Policy::new(people, Count(2), Act::ALL, Count(0), DAY).unwrap_err();
    assert!(matches!(error, PolicyError::SameKey(_, _)), "{error}");
    let people = vec![approver("alice", 1), approver("alice", 2)];
    assert!(matches!(Policy::new(people, Count(1), [], Count(0), DAY), Err(PolicyError::SameName(_))));
    for threshold in [0, 4] {
        let people = policy(1).approvers().to_vec();
        assert!(matches!(Policy::new(people, Count(threshold), [], Count(0), DAY), Err(PolicyError::Threshold { .. })));
    }
    for lifetime in [0, 59, 30 * 86_400 + 1] {
        let people = policy(1).approvers().to_vec();
        assert_eq!(Policy::new(people, Count(1), [], Count(0), Seconds(lifetime)), Err(PolicyError::Lifetime));
    }
    assert!(Policy::new(policy(1).approvers().to_vec(), Count(1), [], Count(0), DAY).unwrap().needs(Act::Approvers));
}

/// No single changed byte, removed or inserted, of the request gives approvals to anything.
#[test]
fn a_changed_byte_of_the_request_is_refused() {
    let two = policy(2);
    let asked = request(&two);
    let (text, both) = (asked.to_text(), sign(&asked, &[1, 2]));
    let refused = |changed: Vec<u8>| {
        let Ok(changed) = String::from_utf8(changed) else { return true };
        Request::from_text(&changed).map_or(true, |read| at(&read, &both, &two, NOW).is_err())
    };
    assert!(!refused(text.clone().into_bytes()));
    for place in 0..text.len() {
        for bit in 0..8 {
            let mut changed = text.clone().into_bytes();
            changed[place] ^= 1 << bit;
            assert!(refused(changed), "bit {bit} of byte {place}");
        }
        let mut less = text.clone().into_bytes();
        less.remove(place);
        assert!(refused(less), "without byte {place}");
        let mut more = text.clone().into_bytes();
        more.insert(place, b' ');
        assert!(refused(more), "a space at {place}");
    }
}

/// The same for the approvals: each has one form.
#[test]
fn a_changed_byte_of_an_approval_is_refused() {
    let one = policy(1);
    let asked = request(&one);
    let text = Approval::sign(asked.to_text().as_bytes(), &key(1)).to_text();
    let refused = |changed: Vec<u8>| {
        let Ok(changed) = String::from_utf8(changed) else { return true };
        Approval::all_from(&changed).map_or(true, |read| at(&asked, &read, &one, NOW).is_err())
    };
    assert!(!refused(text.clone().into_bytes()));
    for place in 0..text.len() {
        for bit in 0..8 {
            let mut changed = text.clone().into_bytes();
            changed[place] ^= 1 << bit;
            assert!(refused(changed), "bit {bit} of byte {place}");
        }
        let mut less = text.clone().into_bytes();
        less.remove(place);
        assert!(refused(less), "without byte {place}");
        let mut more = text.clone().into_bytes();
        more.insert(place, b'\n');
        assert!(refused(more), "a line break at {place}");
    }
}

#[test]
fn a_request_carries_its_approvals() {
    let asked = request(&policy(2));
    let both = sign(&asked, &[1, 2]);
    let text: String = asked.to_text() + &both.iter().map(Approval::to_text).collect::<String>();
    assert_eq!(Request::with_approvals(&text).unwrap(), (asked.clone(), both));
    assert_eq!(Request::with_approvals(&asked.to_text()).unwrap(), (asked, Vec::new()));
    assert!(Request::with_approvals(&(text + "\n")).is_err());
    assert!(Request::from_text("").is_err() && Approval::all_from("").is_err());
}

#[test]
fn nothing_hides_in_what_is_shown() {
    let payload = Payload::new(["a\u{202e}b\nkey\t\\ é", "", "  "]);
    assert_eq!(payload.lines(), ["a\\u{202e}b\\u{a}key\\u{9}\\u{5c} \\u{e9}"]);
    let mut asked = request(&policy(1));
    asked.payload = payload;
    assert!(asked.to_text().bytes().all(|byte| byte == b'\n' || (b' '..=b'~').contains(&byte)));
    assert_eq!(Request::from_text(&asked.to_text()), Ok(asked));
}

#[test]
fn keys_are_read_in_the_formats_there_are() {
    let secret = key(5);
    let file = secret.to_openssh(0x0102_0304).unwrap();
    assert_eq!(SigningKey::from_file(std::str::from_utf8(&file).unwrap()).unwrap().public(), secret.public());
    // PKCS#8 version 1, as `openssl genpkey -algorithm ed25519` writes it.
    let document = [hex::decode("302e020100300506032b657004220420").unwrap(), vec![5; 32]].concat();
    let pkcs8 = format!("-----BEGIN {0}-----\n{1}\n-----END {0}-----\n", "PRIVATE KEY", BASE64.encode(document));
    assert_eq!(SigningKey::from_file(&pkcs8).unwrap().public(), secret.public());
    let line = format!("{} somebody@somewhere\n", secret.public());
    assert_eq!(line.parse(), Ok(secret.public()));
    for bad in ["", "ssh-rsa AAAA", "ssh-ed25519", "ssh-ed25519 AAAA", "sk-ssh-ed25519@openssh.com AAAA"] {
        assert!(bad.parse::<holdfast_approvals::ApproverKey>().is_err(), "{bad}");
    }
    for bad in ["", "hello", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"] {
        assert!(SigningKey::from_file(bad).is_err(), "{bad}");
    }
    assert!(!format!("{secret:?}").contains("0505"));
}

proptest! {
    #[test]
    fn policies_and_requests_come_back_as_they_were(
        threshold in 1_u32..=3, above in any::<u32>(), lifetime in 60_u64..=2_592_000, acts in proptest::collection::vec(0_usize..6, 0..6),
        id in any::<[u8; 16]>(), instance in any::<[u8; 16]>(), by in "\\PC{0,40}",
        lines in proptest::collection::vec("\\PC{0,60}", 0..20), now in 0_u64..4_000_000_000_000,
    ) {
        let acts: Vec<Act> = acts.into_iter().map(|place| Act::ALL[place]).collect();
        let policy = Policy::new(policy(1).approvers().to_vec(), Count(threshold), acts, Count(above), Seconds(lifetime)).unwrap();
        prop_assert_eq!(Policy::from_text(&policy.to_text()), Ok(policy.clone()));
        let asked = Request::new(
            RequestId(id), (Act::Approvers, Payload::new(&lines)), (UnixMillis(now), Seconds(lifetime)), &by,
            Scope { instance, ..scope() }, policy.digest(),
        );
        prop_assert_eq!(Request::from_text(&asked.to_text()), Ok(asked.clone()));
        prop_assert_eq!(asked.payload.digest() == Payload::new(["other"]).digest(), false);
    }

    #[test]
    fn arbitrary_text_is_refused_without_a_panic(text in "\\PC{0,300}", bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Request::with_approvals(&text).is_err());
        prop_assert!(Approval::all_from(&text).is_err() || text.is_empty());
        let armored = format!("-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n", base64(&bytes));
        prop_assert!(Approval::all_from(&armored).is_err());
        let _ = SigningKey::from_file(&armored.replace("SSH SIGNATURE", "OPENSSH PRIVATE KEY"));
        prop_assert!(Policy::from_text(&text).is_err());
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
