//! Proved here: any threshold of holders opens and fewer do not; wrong, changed, foreign and repeated shares are told apart;
//! shares grow old; a changed byte of what is kept opens nothing.

use std::sync::Mutex;
use std::time::Duration;

use holdfast_domain::GenesisValidatorsRoot;

use super::*;
use crate::provider::{DataKeyId, GuardKey, KeyService, Remote, ServiceError};

const CONTEXT: WrapContext = WrapContext { network: GenesisValidatorsRoot([3; 32]), data_key: DataKeyId(5) };

/// "Encrypts" by adding its number, so that each person reads only their own.
struct Person(u8, String);

impl Person {
    fn new(number: u8) -> Self {
        Self(number, format!("person {number}"))
    }
}

impl Recipient for Person {
    fn label(&self) -> &str {
        &self.1
    }
    fn encrypt(&self, text: &[u8]) -> Result<Vec<u8>, ProviderError> {
        Ok([&[self.0], text].concat())
    }
}

impl Identity for Person {
    fn decrypt(&self, ciphertext: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, ProviderError> {
        Ok(ciphertext.strip_prefix(&[self.0]).map(|text| Zeroizing::new(text.to_vec())))
    }
}

/// A key service in memory that can be switched off.
struct Cloud(Arc<Mutex<bool>>);

impl KeyService for Cloud {
    fn kind(&self) -> ProviderKind {
        ProviderKind::AwsKms
    }
    fn key(&self) -> &'static str {
        "alias/share"
    }
    fn encrypt(&self, guard: &GuardKey, _: &WrapContext) -> Result<Vec<u8>, ServiceError> {
        Ok(guard.expose(<[u8]>::to_vec))
    }
    fn decrypt(&self, ciphertext: &[u8], _: &WrapContext) -> Result<GuardKey, ServiceError> {
        if *self.0.lock().unwrap() {
            return Err(ServiceError::new(crate::provider::ServiceFailure::Unreachable, "away"));
        }
        GuardKey::take(&mut ciphertext.to_vec())
    }
}

fn cloud(away: &Arc<Mutex<bool>>) -> Box<dyn Provider> {
    Box::new(Remote::new(Cloud(Arc::clone(away)), Duration::from_mins(1)))
}

struct World {
    away: Arc<Mutex<bool>>,
    key: DataKey,
    wrapped: Wrapped,
    set: ShareSet,
}

/// Two of: three people and a cloud.
fn world() -> World {
    let away = Arc::new(Mutex::new(false));
    let person = |number| Holder::Person(Box::new(Person::new(number)));
    let holders = vec![person(1), person(2), person(3), Holder::Provider(cloud(&away))];
    let wrapping = Shares::among(holders, 2).unwrap();
    let key = DataKey::generate().unwrap();
    let wrapped = wrapping.wrap(&key, &CONTEXT).unwrap();
    assert!(wrapping.unwrap(&wrapped, &CONTEXT).unwrap().matches(&key), "seen to open when it was made");
    assert!(wrapping.unwrap(&wrapped, &CONTEXT).is_err(), "and what that took is wiped");
    let set = ShareSet::of(&wrapped).unwrap().unwrap();
    World { away, key, wrapped, set }
}

impl World {
    fn line(&self, number: u8) -> Vec<u8> {
        let share = self.set.people().into_iter().find(|share| share.number == number).unwrap();
        Person::new(number).decrypt(&share.sealed).unwrap().unwrap().to_vec()
    }

    fn brought(&self, number: u8) -> BroughtShare {
        BroughtShare::parse(&self.line(number)).unwrap()
    }

    fn opener(&self, identities: &[u8], with_cloud: bool, collected: &Arc<Collected>) -> Shares {
        let identities: Vec<Box<dyn Identity>> =
            identities.iter().map(|number| -> Box<dyn Identity> { Box::new(Person::new(*number)) }).collect();
        let providers = if with_cloud { vec![cloud(&self.away)] } else { Vec::new() };
        Shares::from_holders(providers, identities, Arc::clone(collected))
    }
}

fn missing(result: Result<DataKey, ProviderError>) -> usize {
    match result.map(|_| ()).unwrap_err() {
        ProviderError::SharesMissing { have, need: 2, .. } => have,
        other => panic!("{other}"),
    }
}

#[test]
fn any_two_open_it_and_no_one_does() {
    let world = world();
    let nobody = Arc::default();
    for (identities, with_cloud) in [(vec![1, 2], false), (vec![2, 3], false), (vec![3], true), (vec![1, 2, 3], true)] {
        let opened = world.opener(&identities, with_cloud, &nobody).unwrap(&world.wrapped, &CONTEXT).unwrap();
        assert!(opened.matches(&world.key), "{identities:?}");
    }
    assert_eq!(missing(world.opener(&[], false, &nobody).unwrap(&world.wrapped, &CONTEXT)), 0);
    assert_eq!(missing(world.opener(&[2], false, &nobody).unwrap(&world.wrapped, &CONTEXT)), 1);
    assert_eq!(missing(world.opener(&[9], true, &nobody).unwrap(&world.wrapped, &CONTEXT)), 1);
    *world.away.lock().unwrap() = true;
    let error = world.opener(&[1], true, &nobody).unwrap(&world.wrapped, &CONTEXT).map(|_| ()).unwrap_err();
    assert_eq!(error.recovery(), crate::provider::Recovery::Later);
    assert!(error.to_string().contains("cannot be reached"), "{error}");
}

#[test]
fn brought_shares_are_checked_one_by_one_and_wiped_when_used() {
    let world = world();
    let collected = Arc::new(Collected::default());
    let opener = world.opener(&[], false, &collected);
    assert_eq!(collected.bring(world.brought(3), &world.set).unwrap(), Progress { have: 1, need: 2 });
    let label = "person 3".to_owned();
    assert_eq!(collected.bring(world.brought(3), &world.set), Err(ShareError::Twice { number: 3, label }));
    let mut changed = world.line(1);
    let place = changed.len() - 2;
    changed[place] = if changed[place] == b'0' { b'1' } else { b'0' };
    let refused = collected.bring(BroughtShare::parse(&changed).unwrap(), &world.set).unwrap_err();
    assert!(matches!(refused, ShareError::Changed { number: 1, .. }), "{refused}");
    let mut other = world.brought(1);
    other.point = 9;
    assert_eq!(collected.bring(other, &world.set), Err(ShareError::NoSuchShare { number: 9 }));
    let foreign = self::world();
    assert_eq!(collected.bring(foreign.brought(1), &world.set), Err(ShareError::OtherSet));
    assert_eq!(missing(opener.unwrap(&world.wrapped, &CONTEXT)), 1);
    assert_eq!(collected.bring(world.brought(1), &world.set).unwrap().have, 2);
    assert!(opener.unwrap(&world.wrapped, &CONTEXT).unwrap().matches(&world.key));
    assert_eq!(collected.progress(&world.set).have, 0, "used shares are wiped");
}

#[test]
fn shares_that_wait_too_long_are_forgotten() {
    let world = world();
    let collected = Arc::new(Collected::default());
    collected.bring(world.brought(1), &world.set).unwrap();
    collected.age(Duration::from_mins(14));
    assert_eq!(collected.progress(&world.set).have, 1);
    collected.age(Duration::from_mins(2));
    assert_eq!(collected.progress(&world.set).have, 0);
    collected.bring(world.brought(1), &world.set).unwrap();
}

#[test]
fn no_changed_byte_opens() {
    let world = world();
    let opener = world.opener(&[1, 2, 3], true, &Arc::default());
    let bytes = world.wrapped.as_bytes();
    for place in 0..bytes.len() {
        let mut changed = bytes.to_vec();
        changed[place] ^= 1;
        let opened = opener.unwrap(&Wrapped::from_bytes(changed), &CONTEXT);
        assert!(opened.is_err(), "byte {place}");
    }
    for cut in 0..bytes.len() {
        assert!(opener.unwrap(&Wrapped::from_bytes(bytes[..cut].to_vec()), &CONTEXT).is_err(), "{cut}");
    }
    let elsewhere = WrapContext { data_key: DataKeyId(6), ..CONTEXT };
    assert!(opener.unwrap(&world.wrapped, &elsewhere).is_err());
}

#[test]
fn holders_are_named_and_nonsense_is_refused() {
    let world = world();
    assert_eq!(world.set.name(), "2 of 4");
    assert_eq!(world.set.kinds().unwrap(), [ProviderKind::AwsKms]);
    assert_eq!(world.set.people().len(), 3);
    assert_eq!(world.set.holders()[3], "4 (aws-kms key alias/share)");
    assert_eq!(world.wrapped.key().unwrap().as_deref(), Some("2 of 4"));
    for threshold in [0, 1, 3] {
        let holders = vec![Holder::Person(Box::new(Person::new(1))), Holder::Person(Box::new(Person::new(2)))];
        assert!(Shares::among(holders, threshold).is_err(), "{threshold}");
    }
}
