//! Looks whether somebody else signs with keys that were enabled a short while ago.
//!
//! Why it exists: a key that is imported here and still at work elsewhere gets its validator slashed, and no database
//! can know. What it guarantees: it asks the nodes and says what they saw; under `enforce` protection holds such keys
//! back until it says that nobody was seen ([`judge`] has the rules), whatever becomes of this process meanwhile; an
//! answer that is missing puts the end off. It can only add refusals.

mod judge;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use holdfast_beacon::Pool;
use holdfast_domain::{Clock, Epoch, PublicKey, SlotClock, UnixMillis, ValidatorIndex};
use holdfast_slashing_db::journal::{Event, EventKind};
use holdfast_slashing_db::{AdminError, CallerId, Finding, Guard, Judged, NewlyEnabled};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tracing::{debug, error, info, warn};

use crate::clock::rfc3339;
use crate::config::{Config, DoppelgangerCheck};
use crate::drain::Stopping;
use crate::outcome::chain;
use judge::{Ending, Moment, Rules, Sighting};

/// Who found out.
const BY: &str = "doppelganger";
/// Validators asked about at once.
const AT_ONCE: usize = 1_000;
/// Events written at once.
const EVENTS_AT_ONCE: usize = 256;
/// Keys named one by one in the log up to this many.
const NAMED: usize = 20;
/// Bounds of the time between looks, which is else a slot.
const SHORTEST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(12);

type OneLabel = [(&'static str, &'static str); 1];

/// What is measured.
#[derive(Default)]
struct Numbers {
    keys: Family<OneLabel, Gauge>,
    findings: Family<OneLabel, Counter>,
    incomplete: Counter,
}

/// The check of newly enabled keys.
pub(crate) struct Doppelganger {
    guard: Guard,
    pool: Arc<Pool>,
    clock: Arc<dyn Clock>,
    rules: Rules,
    numbers: Numbers,
    /// The watched keys as read last, for those who ask how long it takes.
    watched: Mutex<BTreeMap<PublicKey, NewlyEnabled>>,
}

/// What is remembered between looks.
#[derive(Default)]
struct Memory {
    indices: BTreeMap<PublicKey, ValidatorIndex>,
    /// The epoch about which an early look had an answer for every key.
    looked_early: Option<Epoch>,
    /// Events of findings that are in effect, and not in the journal yet.
    untold: Vec<Event>,
}

impl Doppelganger {
    /// By the configuration; `None` if it is switched off. Under `enforce` keys are held back from now on.
    pub(crate) fn new(
        config: &Config,
        guard: &Guard,
        pool: &Arc<Pool>,
        slots: SlotClock,
        clock: Arc<dyn Clock>,
    ) -> Option<Arc<Self>> {
        let holds = match config.switcher.doppelganger {
            DoppelgangerCheck::Off => return None,
            DoppelgangerCheck::Observe => false,
            DoppelgangerCheck::Enforce => true,
        };
        if holds {
            guard.hold_newly_enabled();
        }
        let epochs = u64::from(config.switcher.doppelganger_epochs.get());
        let rules = Rules { slots, tolerance: config.slashing.future_tolerance_slots, epochs, holds };
        Some(Arc::new(Self {
            guard: guard.clone(),
            pool: Arc::clone(pool),
            clock,
            rules,
            numbers: Numbers::default(),
            watched: Mutex::default(),
        }))
    }

    /// Adds the numbers to the process's registry.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let numbers = &self.numbers;
        let keys = "Newly enabled keys by what is known: pending, or detected in use elsewhere";
        registry.register("holdfast_doppelganger_keys", keys, numbers.keys.clone());
        let findings = "Checks of newly enabled keys by how they ended, and sightings of somebody else";
        registry.register("holdfast_doppelganger_findings", findings, numbers.findings.clone());
        let incomplete = "Looks at newly enabled keys to which not every healthy node gave an answer";
        registry.register("holdfast_doppelganger_incomplete_looks", incomplete, numbers.incomplete.clone());
    }

    /// When a key that is held back signs, if nobody is seen until then.
    pub(crate) fn until(&self, key: &PublicKey) -> String {
        let now = self.clock.now();
        let known = self.watched.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied();
        let fresh = NewlyEnabled {
            key: *key,
            enabled: now,
            quiet_epochs: 0,
            own_epochs: 0,
            judged_through: None,
            seen: None,
            watermarks: holdfast_slashing_db::Watermarks::default(),
        };
        let epoch = self.rules.last_epoch(&known.unwrap_or(fresh), now).0.saturating_add(1);
        let SlotClock { genesis, slot_millis, slots_per_epoch } = self.rules.slots;
        let slots = epoch.saturating_mul(slots_per_epoch.get()).saturating_add(slots_per_epoch.get() / 4 * 3);
        let at = UnixMillis(genesis.0.saturating_add(slots.saturating_mul(slot_millis.get())));
        format!("{}, in epoch {epoch}", rfc3339(at))
    }

    /// Looks once in a slot until the process stops.
    pub(crate) async fn watch(self: Arc<Self>, mut stopping: Stopping) {
        tokio::select! {
            () = stopping.begun() => {}
            () = self.look_on() => {}
        }
    }

    async fn look_on(&self) {
        let slot = Duration::from_millis(self.rules.slots.slot_millis.get());
        let mut memory = Memory::default();
        let mut failing = false;
        loop {
            match self.look(&mut memory).await {
                Ok(()) => failing = false,
                Err(error) if !failing => {
                    failing = true;
                    warn!("cannot look after newly enabled keys, trying on: {}", chain(&error));
                }
                Err(_) => {}
            }
            tokio::time::sleep(slot.clamp(SHORTEST, LONGEST)).await;
        }
    }

    async fn look(&self, memory: &mut Memory) -> Result<(), AdminError> {
        self.tell_untold(memory).await;
        let keys = self.guard.newly_enabled().await?;
        self.show(&keys);
        let keys = self.finish(keys).await?;
        let watched: BTreeSet<PublicKey> = keys.iter().map(|key| key.key).collect();
        memory.indices.retain(|key, _| watched.contains(key));
        let Some(moment) = self.rules.moment(self.clock.now()) else { return Ok(()) };
        if !moment.is_late && memory.looked_early == Some(moment.epoch) {
            return Ok(());
        }
        let wanted: Vec<PublicKey> =
            keys.iter().filter(|key| self.rules.wants(key, moment.epoch)).map(|key| key.key).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let sightings = self.sightings(memory, &wanted, moment.epoch).await;
        if sightings.values().any(|sighting| *sighting == Sighting::Unknown) {
            self.numbers.incomplete.inc();
        } else if !moment.is_late {
            memory.looked_early = Some(moment.epoch);
        }
        self.conclude(memory, moment, &sightings).await
    }

    /// What the nodes say about each key in an epoch.
    async fn sightings(&self, memory: &mut Memory, keys: &[PublicKey], epoch: Epoch) -> BTreeMap<PublicKey, Sighting> {
        let unknown: Vec<PublicKey> = keys.iter().filter(|key| !memory.indices.contains_key(key)).copied().collect();
        let mut resolved = true;
        if !unknown.is_empty() {
            match self.pool.validator_indices(&unknown).await {
                Some(found) => memory.indices.extend(found),
                None => resolved = false,
            }
        }
        let mut sightings = BTreeMap::new();
        let mut known = Vec::with_capacity(keys.len());
        for key in keys {
            match memory.indices.get(key) {
                Some(index) => known.push((*key, *index)),
                // A key without a validator cannot have been seen; once it has one it is asked about.
                None => drop(sightings.insert(*key, if resolved { Sighting::Quiet } else { Sighting::Unknown })),
            }
        }
        for chunk in known.chunks(AT_ONCE) {
            let indices: Vec<ValidatorIndex> = chunk.iter().map(|(_, index)| *index).collect();
            let union = self.pool.liveness(epoch, &indices).await;
            for (key, index) in chunk {
                let sighting = match (union.live.contains(index), union.is_complete()) {
                    (true, _) => Sighting::Live,
                    (false, true) => Sighting::Quiet,
                    (false, false) => Sighting::Unknown,
                };
                sightings.insert(*key, sighting);
            }
        }
        sightings
    }

    /// Draws the conclusions and writes them down.
    async fn conclude(
        &self,
        memory: &mut Memory,
        moment: Moment,
        sightings: &BTreeMap<PublicKey, Sighting>,
    ) -> Result<(), AdminError> {
        // Read again: what this database signed meanwhile explains what the nodes saw.
        let keys = self.guard.newly_enabled().await?;
        let judged: Vec<Judged> = keys
            .iter()
            .filter_map(|key| {
                let finding = self.rules.judge(key, moment, *sightings.get(&key.key)?)?;
                Some(Judged { key: key.key, enabled: key.enabled, finding })
            })
            .collect();
        if judged.is_empty() {
            return Ok(());
        }
        // In effect first: a key that somebody else uses must not wait for a journal.
        self.guard.judge_newly_enabled(judged.clone()).await?;
        for Judged { key, enabled, finding } in judged {
            let Finding::Seen(epoch) = finding else { continue };
            self.count("detected");
            error!(
                pubkey = %key,
                %epoch,
                held = self.rules.holds,
                "somebody else signs with a key that was enabled here at {}: stop that signer, then disable the key here and \
                 enable it again",
                rfc3339(enabled)
            );
            let detail = format!("enabled at {}, seen live in epoch {epoch}", rfc3339(enabled));
            memory.untold.push(self.event("detected", key, &detail));
        }
        self.tell_untold(memory).await;
        Ok(())
    }

    /// Ends the checks that are over; gives back the keys that are still watched. A key is let go only after that is in
    /// the journal.
    async fn finish(&self, keys: Vec<NewlyEnabled>) -> Result<Vec<NewlyEnabled>, AdminError> {
        let (mut watched, mut over) = (Vec::with_capacity(keys.len()), Vec::new());
        for key in keys {
            match self.rules.ending(&key) {
                Some(ending) => over.push((key, ending)),
                None => watched.push(key),
            }
        }
        let count = over.len();
        for chunk in over.chunks(EVENTS_AT_ONCE) {
            // Queued together, so that they share a commit.
            let told: Vec<_> = chunk.iter().map(|(key, ending)| self.guard.record(self.ended(key, *ending))).collect();
            let mut judged = Vec::with_capacity(chunk.len());
            for ((key, ending), told) in chunk.iter().zip(told) {
                match told.await {
                    Ok(_) => {
                        self.count(word(*ending));
                        if count <= NAMED {
                            info!(pubkey = %key.key, ending = word(*ending), "the check of a newly enabled key is over");
                        }
                        judged.push(Judged { key: key.key, enabled: key.enabled, finding: Finding::Over });
                    }
                    // Tried again at the next look; until then it is watched on.
                    Err(refusal) => debug!(%refusal, pubkey = %key.key, "the end of a check is not in the journal"),
                }
            }
            if !judged.is_empty() {
                self.guard.judge_newly_enabled(judged).await?;
            }
        }
        if count > NAMED {
            info!(keys = count, "the checks of newly enabled keys are over");
        }
        Ok(watched)
    }

    fn ended(&self, key: &NewlyEnabled, ending: Ending) -> Event {
        let through = key.judged_through.map_or_else(|| "none".to_owned(), |epoch| epoch.to_string());
        let detail = format!(
            "enabled at {}, nobody seen in {} epochs, own signatures in {}, last epoch judged {through}",
            rfc3339(key.enabled),
            key.quiet_epochs,
            key.own_epochs
        );
        self.event(word(ending), key.key, &detail)
    }

    fn event(&self, word: &str, key: PublicKey, detail: &str) -> Event {
        let kind = EventKind::new(&format!("doppelganger.{word}"));
        Event::new(self.clock.now(), &CallerId::new(BY), kind).of_key(key).detail(detail)
    }

    /// Writes events that are owed; what fails is owed on.
    async fn tell_untold(&self, memory: &mut Memory) {
        let owed = core::mem::take(&mut memory.untold);
        let told: Vec<_> = owed.iter().map(|event| self.guard.record(event.clone())).collect();
        for (event, told) in owed.into_iter().zip(told) {
            if told.await.is_err() {
                memory.untold.push(event);
            }
        }
    }

    fn show(&self, keys: &[NewlyEnabled]) {
        let detected = keys.iter().filter(|key| key.seen.is_some()).count();
        for (state, count) in [("pending", keys.len().saturating_sub(detected)), ("detected", detected)] {
            let gauge = self.numbers.keys.get_or_create_owned(&[("state", state)]);
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let by_key = keys.iter().map(|key| (key.key, *key)).collect();
        *self.watched.lock().unwrap_or_else(PoisonError::into_inner) = by_key;
    }

    fn count(&self, finding: &'static str) {
        self.numbers.findings.get_or_create_owned(&[("finding", finding)]).inc();
    }
}

/// Word for an ending in metrics and in the journal.
fn word(ending: Ending) -> &'static str {
    match ending {
        Ending::Passed => "passed",
        Ending::Inconclusive => "inconclusive",
        Ending::InUse => "in_use",
    }
}
