//! Proved here: messages come back as they were signed, and no changed byte passes.

use proptest::prelude::*;

use super::*;

fn keys() -> [SigningKey; 3] {
    [1, 2, 3].map(|seed| SigningKey::from_seed(&[seed; 32]))
}

fn group() -> impl Strategy<Value = Group> {
    "[a-z0-9._-]{1,64}".prop_map(|name| name.parse().unwrap())
}

fn wish() -> impl Strategy<Value = Wish> {
    prop_oneof![
        any::<(u64, Option<[u8; 32]>)>()
            .prop_map(|(until, hash)| Wish::Acquire { until: Epoch(until), resumes: hash.map(CheckpointHash) }),
        any::<(u64, [u8; 32])>().prop_map(|(seq, hash)| Wish::Release { seq, hash: CheckpointHash(hash) }),
    ]
}

fn request() -> impl Strategy<Value = Request> {
    (any::<([u8; 32], u64, [u8; 32])>(), group(), wish()).prop_map(|((chain, version, nonce), group, wish)| {
        let [witness, holder, member] = keys().map(|key| key.public());
        Request {
            chain: GenesisValidatorsRoot(chain),
            witness,
            group,
            holder,
            version,
            nonce: Nonce(nonce),
            wish,
            member,
        }
    })
}

fn grant() -> impl Strategy<Value = Grant> {
    let handed = proptest::option::of(any::<(u64, [u8; 32], u64)>()).prop_map(|handed| {
        handed.map(|(seq, hash, until)| Handed { seq, hash: CheckpointHash(hash), until: Epoch(until) })
    });
    (any::<([u8; 32], [u8; 32], [u64; 4])>(), group(), handed).prop_map(|((chain, nonce, numbers), group, handed)| {
        Grant {
            chain: GenesisValidatorsRoot(chain),
            group,
            holder: keys()[1].public(),
            nonce: Nonce(nonce),
            version: numbers[0],
            after: Epoch(numbers[1]),
            until: Epoch(numbers[2]),
            seq: numbers[3],
            handed,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn requests_come_back_and_no_changed_byte_passes(
        request in request(), place in any::<proptest::sample::Index>(), change in 1..=255_u8,
    ) {
        let [_, holder, member] = keys();
        let bytes = request.sign(&holder, &member);
        prop_assert!(bytes.len() <= MAX_MESSAGE);
        prop_assert_eq!(Request::verify(&bytes), Ok(request.clone()));
        let mut changed = bytes.clone();
        changed[place.index(bytes.len())] ^= change;
        prop_assert!(Request::verify(&changed).is_err());
        prop_assert!(Request::verify(&bytes[..place.index(bytes.len())]).is_err());
        prop_assert!(Request::verify(&[bytes, vec![change]].concat()).is_err());
        // Somebody else's signature in either place.
        prop_assert_eq!(Request::verify(&request.sign(&member, &member)), Err(MessageError::Signature));
        prop_assert_eq!(Request::verify(&request.sign(&holder, &holder)), Err(MessageError::Signature));
    }

    #[test]
    fn grants_come_back_and_no_changed_byte_passes(
        grant in grant(), place in any::<proptest::sample::Index>(), change in 1..=255_u8,
    ) {
        let [witness, other, _] = keys();
        let bytes = grant.sign(&witness);
        prop_assert!(bytes.len() <= MAX_MESSAGE);
        prop_assert_eq!(Grant::verify(&bytes, &witness.public()), Ok(grant.clone()));
        prop_assert!(Grant::verify(&bytes, &other.public()).is_err());
        let mut changed = bytes.clone();
        changed[place.index(bytes.len())] ^= change;
        prop_assert!(Grant::verify(&changed, &witness.public()).is_err());
        prop_assert!(Grant::verify(&bytes[..place.index(bytes.len())], &witness.public()).is_err());
        prop_assert!(Grant::verify(&[bytes, vec![change]].concat(), &witness.public()).is_err());
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(Request::verify(&bytes).is_err());
        prop_assert!(Grant::verify(&bytes, &keys()[0].public()).is_err());
    }
}

#[test]
fn names_of_groups() {
    for name in ["a", "staking-1.prod_eu", &"x".repeat(64)] {
        assert_eq!(name.parse::<Group>().unwrap().as_str(), name);
    }
    for name in ["", "A", "a b", "ä", "a/b", &"x".repeat(65)] {
        assert_eq!(name.parse::<Group>(), Err(MessageError::Group), "{name}");
    }
}
