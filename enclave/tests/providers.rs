//! Proved here: the provider of a key service conforms like a local one; several providers of one data key open it
//! whichever is away, in order and within the time allowed, and a set is only made if each member works.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use holdfast_domain::GenesisValidatorsRoot;
use holdfast_enclave::provider::file::FileProvider;
use holdfast_enclave::provider::retry::{Backoff, Retry};
use holdfast_enclave::provider::{
    DataKeyId, GuardKey, KeyService, Provider, ProviderKind, Recovery, Remote, ServiceError, ServiceFailure,
    WrapContext, Wrapped, WrappedSet,
};
use holdfast_enclave::{DataKey, ProviderError};

const CONTEXT: WrapContext = WrapContext { network: GenesisValidatorsRoot([0x4b; 32]), data_key: DataKeyId(7) };

/// What a [`Table`] does when it is asked.
enum Mood {
    Works,
    Fails(ServiceFailure),
    /// Fails so often, then works.
    FailsFor(usize, ServiceFailure),
    /// Gives back another guard than it was given.
    Lies,
    Hangs,
    Panics,
}

/// Guards and what they are bound to, by handle.
type Kept = HashMap<Vec<u8>, (Vec<u8>, String)>;

/// A key service that keeps what it "encrypted" in a table and gives out handles.
struct Table {
    key: &'static str,
    kept: Mutex<Kept>,
    mood: Mutex<Mood>,
    calls: Arc<AtomicUsize>,
}

impl Table {
    fn new(key: &'static str) -> Self {
        Self { key, kept: Mutex::default(), mood: Mutex::new(Mood::Works), calls: Arc::default() }
    }

    fn mood(&self) -> Result<(), ServiceError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let failed = |failure| Err(ServiceError::new(failure, "as told"));
        let mut mood = self.mood.lock().unwrap();
        match &mut *mood {
            Mood::Works | Mood::Lies | Mood::FailsFor(0, _) => Ok(()),
            Mood::Fails(failure) => failed(*failure),
            Mood::FailsFor(left, failure) => {
                *left -= 1;
                failed(*failure)
            }
            Mood::Panics => panic!("on purpose"),
            Mood::Hangs => {
                drop(mood);
                loop {
                    std::thread::park();
                }
            }
        }
    }
}

impl KeyService for Table {
    fn kind(&self) -> ProviderKind {
        ProviderKind::VaultTransit
    }
    fn key(&self) -> &str {
        self.key
    }
    fn encrypt(&self, guard: &GuardKey, context: &WrapContext) -> Result<Vec<u8>, ServiceError> {
        self.mood()?;
        let mut kept = self.kept.lock().unwrap();
        let handle = format!("{}:{}", self.key, kept.len()).into_bytes();
        kept.insert(handle.clone(), (guard.expose(<[u8]>::to_vec), context.line()));
        Ok(handle)
    }
    fn decrypt(&self, ciphertext: &[u8], context: &WrapContext) -> Result<GuardKey, ServiceError> {
        self.mood()?;
        let kept = self.kept.lock().unwrap();
        let rejected = || ServiceError::new(ServiceFailure::Rejected, "no such handle");
        let (guard, bound) = kept.get(ciphertext).ok_or_else(rejected)?;
        if *bound != context.line() {
            return Err(rejected());
        }
        let mut guard = guard.clone();
        if matches!(*self.mood.lock().unwrap(), Mood::Lies) {
            guard[0] ^= 1;
        }
        GuardKey::take(&mut guard)
    }
}

/// A provider over a table, and the table to change its mood.
struct Handle(Arc<Table>);

impl KeyService for Handle {
    fn kind(&self) -> ProviderKind {
        self.0.kind()
    }
    fn key(&self) -> &str {
        self.0.key
    }
    fn encrypt(&self, guard: &GuardKey, context: &WrapContext) -> Result<Vec<u8>, ServiceError> {
        self.0.encrypt(guard, context)
    }
    fn decrypt(&self, ciphertext: &[u8], context: &WrapContext) -> Result<GuardKey, ServiceError> {
        self.0.decrypt(ciphertext, context)
    }
}

fn service(key: &'static str) -> (Box<dyn Provider>, Arc<Table>) {
    let table = Arc::new(Table::new(key));
    (Box::new(Remote::new(Handle(Arc::clone(&table)), Duration::from_secs(20))), table)
}

fn set_mood(table: &Table, mood: Mood) {
    *table.mood.lock().unwrap() = mood;
}

fn quick(attempts: u32) -> Retry {
    let wait = Duration::from_millis(1);
    Retry { attempts: NonZeroU32::new(attempts).unwrap(), backoff: Backoff::new(wait, wait) }
}

fn failure(result: Result<DataKey, ProviderError>) -> ProviderError {
    result.map(|_| ()).unwrap_err()
}

#[test]
fn a_service_wraps_and_every_byte_counts() {
    let (ours, table) = service("ours");
    let key = DataKey::generate().unwrap();
    let wrapped = ours.wrap(&key, &CONTEXT).unwrap();
    assert_eq!(wrapped.provider().unwrap(), ProviderKind::VaultTransit);
    assert_eq!(wrapped.key().unwrap().as_deref(), Some("ours"));
    assert!(ours.unwrap(&wrapped, &CONTEXT).unwrap().matches(&key));

    let bytes = wrapped.as_bytes();
    for place in 0..bytes.len() {
        let mut changed = bytes.to_vec();
        changed[place] ^= 1;
        failure(ours.unwrap(&Wrapped::from_bytes(changed), &CONTEXT));
    }
    for len in 0..bytes.len() {
        failure(ours.unwrap(&Wrapped::from_bytes(bytes[..len].to_vec()), &CONTEXT));
    }
    let asked = table.calls.load(Ordering::SeqCst);
    let elsewhere = WrapContext { network: GenesisValidatorsRoot([1; 32]), ..CONTEXT };
    let error = failure(ours.unwrap(&wrapped, &elsewhere));
    assert!(matches!(error, ProviderError::WrongNetwork { .. }), "{error}");
    assert_eq!(table.calls.load(Ordering::SeqCst), asked, "the service need not be asked for that");
    let renamed = WrapContext { data_key: DataKeyId(8), ..CONTEXT };
    let error = failure(ours.unwrap(&wrapped, &renamed));
    assert!(matches!(error, ProviderError::Service { failure: ServiceFailure::Rejected, .. }), "{error}");
}

#[test]
fn a_service_that_gives_back_another_guard_opens_nothing() {
    let (ours, table) = service("ours");
    let wrapped = ours.wrap(&DataKey::generate().unwrap(), &CONTEXT).unwrap();
    set_mood(&table, Mood::Lies);
    assert!(matches!(failure(ours.unwrap(&wrapped, &CONTEXT)), ProviderError::Damaged));
    let error = WrappedSet::wrap(&DataKey::generate().unwrap(), &[ours], &CONTEXT, Retry::ONCE).unwrap_err();
    assert!(matches!(error, ProviderError::Damaged), "{error}");
}

#[test]
fn a_service_that_hangs_or_breaks_is_an_error_in_time() {
    let table = Arc::new(Table::new("slow"));
    let ours = Remote::new(Handle(Arc::clone(&table)), Duration::from_millis(100));
    let wrapped = ours.wrap(&DataKey::generate().unwrap(), &CONTEXT).unwrap();
    set_mood(&table, Mood::Hangs);
    let begun = Instant::now();
    let error = failure(ours.unwrap(&wrapped, &CONTEXT));
    assert!(matches!(error, ProviderError::Service { failure: ServiceFailure::TimedOut, .. }), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(30));
    assert_eq!(error.recovery(), Recovery::Soon);

    let (ours, table) = service("broken");
    let wrapped = ours.wrap(&DataKey::generate().unwrap(), &CONTEXT).unwrap();
    set_mood(&table, Mood::Panics);
    let error = failure(ours.unwrap(&wrapped, &CONTEXT));
    assert!(matches!(error, ProviderError::Service { failure: ServiceFailure::Protocol, .. }), "{error}");
}

#[test]
fn any_one_of_several_opens_and_the_away_ones_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = FileProvider::create(FileProvider::default_path(dir.path())).unwrap();
    let ((one, table_one), (two, table_two)) = (service("one"), service("two"));
    let providers: Vec<Box<dyn Provider>> = vec![one, two, Box::new(file.clone())];
    let key = DataKey::generate().unwrap();
    let set = WrappedSet::wrap(&key, &providers, &CONTEXT, Retry::ONCE).unwrap();
    let set = WrappedSet::from_bytes(&set.to_bytes().unwrap()).unwrap();
    assert_eq!(set.members().len(), 3);
    assert_eq!(set.kinds().unwrap(), [ProviderKind::VaultTransit, ProviderKind::File]);

    let opened = set.open(&providers, &CONTEXT, quick(3)).unwrap();
    assert!(opened.key.matches(&key) && opened.failed.is_empty());
    assert_eq!(opened.by, "vault-transit key one");

    set_mood(&table_one, Mood::Fails(ServiceFailure::Denied));
    let opened = set.open(&providers, &CONTEXT, quick(3)).unwrap();
    assert!(opened.key.matches(&key));
    assert_eq!(opened.by, "vault-transit key two");
    assert!(matches!(opened.failed[..], [ProviderError::Service { failure: ServiceFailure::Denied, .. }]));

    // The one that only waits is not waited for while another opens.
    set_mood(&table_two, Mood::Fails(ServiceFailure::Unreachable));
    let calls = table_two.calls.load(Ordering::SeqCst);
    let opened = set.open(&providers, &CONTEXT, quick(50)).unwrap();
    assert!(opened.key.matches(&key) && opened.by.starts_with("key file"));
    assert_eq!(table_two.calls.load(Ordering::SeqCst), calls + 1);

    let checked = set.check(&providers, &CONTEXT);
    let words: Vec<_> =
        checked.iter().map(|c| c.result.as_ref().map(String::as_str).map_err(ProviderError::word)).collect();
    assert_eq!(words[..2], [Err("denied"), Err("unreachable")]);
    assert!(words[2].unwrap().starts_with("key file"));

    // Without the file there is none left, and each says why.
    let without: Vec<_> = providers.into_iter().take(2).collect();
    let error = set.open(&without, &CONTEXT, quick(3)).map(|_| ()).unwrap_err();
    let text = error.to_string();
    for part in ["file, which is not configured", "one may not be used", "two cannot be reached"] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    assert_eq!(error.recovery(), Recovery::Soon, "the second may come back");
}

#[test]
fn what_may_pass_is_asked_again_and_the_rest_is_not() {
    let (one, table) = service("one");
    let providers = vec![one];
    let key = DataKey::generate().unwrap();
    let set = WrappedSet::wrap(&key, &providers, &CONTEXT, Retry::ONCE).unwrap();
    set_mood(&table, Mood::FailsFor(3, ServiceFailure::Busy));
    assert!(set.open(&providers, &CONTEXT, quick(4)).unwrap().key.matches(&key));
    set_mood(&table, Mood::FailsFor(4, ServiceFailure::Busy));
    let error = set.open(&providers, &CONTEXT, quick(4)).map(|_| ()).unwrap_err();
    assert_eq!(error.word(), "busy");
    set_mood(&table, Mood::Fails(ServiceFailure::KeyDisabled));
    let calls = table.calls.load(Ordering::SeqCst);
    let error = set.open(&providers, &CONTEXT, quick(4)).map(|_| ()).unwrap_err();
    assert_eq!((error.word(), table.calls.load(Ordering::SeqCst)), ("key_disabled", calls + 1));
    assert!(error.to_string().contains("one is disabled"), "{error}");
}

#[test]
fn a_key_that_was_given_another_name_still_opens() {
    let (one, table) = service("alias/old");
    let key = DataKey::generate().unwrap();
    let set = WrappedSet::wrap(&key, &[one], &CONTEXT, Retry::ONCE).unwrap();
    let renamed = Table { key: "arn:new", kept: Mutex::new(table.kept.lock().unwrap().clone()), ..Table::new("") };
    let providers: Vec<Box<dyn Provider>> = vec![Box::new(Remote::new(renamed, Duration::from_secs(20)))];
    assert!(set.open(&providers, &CONTEXT, Retry::ONCE).unwrap().key.matches(&key));
}

#[test]
fn sets_are_stored_whole_and_broken_ones_refused() {
    let ((one, _), (two, _)) = (service("one"), service("two"));
    let key = DataKey::generate().unwrap();
    let alone = one.wrap(&key, &CONTEXT).unwrap();
    let single = WrappedSet::from_bytes(alone.as_bytes()).unwrap();
    assert_eq!(single.to_bytes().unwrap(), alone.as_bytes(), "one alone is stored as before");
    let providers = vec![one, two];
    let bytes = WrappedSet::wrap(&key, &providers, &CONTEXT, Retry::ONCE).unwrap().to_bytes().unwrap();
    for len in 1..bytes.len() {
        let Ok(set) = WrappedSet::from_bytes(&bytes[..len]) else { continue };
        panic!("{len} bytes were taken for {} members", set.members().len());
    }
    assert!(WrappedSet::from_bytes(&[bytes.as_slice(), &[0]].concat()).is_err(), "nothing may follow");
    assert!(WrappedSet::from_bytes(&[0x80, 0]).is_err(), "nor may there be none");
    let error = WrappedSet::wrap(&key, &[], &CONTEXT, Retry::ONCE).unwrap_err();
    assert!(matches!(error, ProviderError::Count { count: 0, .. }), "{error}");
}
