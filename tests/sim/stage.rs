//! What both stages do: wait for signers to come back, play the operator after a rollback, and try to
//! have everything contradicted that was signed last.

use std::sync::atomic::Ordering;
use std::time::Duration;

use holdfast_slashing_db::RollbackKind;
use holdfast_slashing_db::journal::Reader;
use holdfast_tests::world::SLOTS_PER_EPOCH;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rustix::process::Signal;

use crate::ask::Ask;
use crate::chains::Chains;
use crate::instance::{Instance, State};
use crate::plan::{EraPlan, Kind, Policy};
use crate::traffic::{Answer, GLANCE, Traffic};

/// A signer that noticed nothing itself, and was stopped by one that did.
const TOLD: &str = RollbackKind::PeerSuspects.as_str();
/// Epochs after which keys that were fenced, or signed ahead of time, sign again.
const EPOCHS_BEYOND_A_FENCE: u64 = 3;
/// How long something hangs, in milliseconds.
const HANG_MILLIS: std::ops::Range<u64> = 50..700;
/// How wrong a clock is, in seconds: from minutes to years.
const CLOCK_SECONDS: [i64; 4] = [600, 7_200, 86_400 * 3, 86_400 * 400];

/// The signers of an era and all that is known about them.
pub(crate) struct Cast<'a> {
    pub(crate) plan: &'a EraPlan,
    pub(crate) traffic: &'a Traffic<'a>,
    pub(crate) instances: Vec<Instance>,
    pub(crate) chains: Chains,
    pub(crate) rng: ChaCha8Rng,
}

/// Clients that contradict at once.
const CONTRADICTING: usize = 12;

/// A stage as the run sees it.
pub(crate) trait Stage {
    /// Brings one fault about and sees to it that everything recovers.
    ///
    /// # Errors
    /// The finding.
    fn hurt(&mut self, kind: Kind) -> Result<(), String>;

    /// Stops everything and reads all journals a last time.
    ///
    /// # Errors
    /// The finding.
    fn end(&mut self) -> Result<(), String>;

    /// What the signers printed last.
    fn logs(&self) -> String;
}

impl Cast<'_> {
    /// A signer by chance.
    pub(crate) fn any(&mut self) -> usize {
        self.rng.random_range(0..self.instances.len())
    }

    /// A hang by chance.
    pub(crate) fn hold(&mut self) {
        std::thread::sleep(Duration::from_millis(self.rng.random_range(HANG_MILLIS)));
    }

    /// Waits until every signer signs again, and starts those that ended. Nobody may be frozen.
    ///
    /// # Errors
    /// The finding.
    pub(crate) fn recover(&mut self, mut revive: impl FnMut()) -> Result<(), String> {
        for number in 0..self.instances.len() {
            let mut problem = None;
            let waited = self.traffic.until("a signer signs again", || {
                revive();
                match self.look(number, false) {
                    Ok(serves) => serves,
                    Err(finding) => {
                        problem = Some(finding);
                        true
                    }
                }
            });
            problem.map_or(waited, Err)?;
        }
        Ok(())
    }

    /// Whether a signer serves; starts it if it ended. A suspicion counts as the end of waiting if it is expected.
    fn look(&mut self, number: usize, suspicion_expected: bool) -> Result<bool, String> {
        let instance = &mut self.instances[number];
        match instance.state() {
            State::Ended(code) => {
                // 3: the outcome of a commit is unknown, or there is no database. 4 belongs to a rollback.
                if !(matches!(code, None | Some(3)) || suspicion_expected && code == Some(4)) {
                    return Err(format!("signer {number} ended with {code:?}\n{}", instance.log()));
                }
                instance.start(self.traffic).map(|()| false)
            }
            // It ends with the fence of the one that noticed; if nothing was rolled back, that one is the false alarm.
            State::Suspects(reason) if !suspicion_expected && reason == TOLD => Ok(false),
            State::Suspects(reason) if !suspicion_expected => {
                Err(format!("a false alarm of signer {number}: {reason}\n{}", instance.log()))
            }
            State::Suspects(_) => Ok(true),
            State::Ready => Ok(instance.signs(self.traffic) && instance.state() == State::Ready),
            State::Unready => Ok(false),
        }
    }

    /// After a rollback fault: every signer is asked for contradictions of what was signed last, those that
    /// froze are fenced by the operator (or by themselves), and all are asked again.
    /// Returns which signers froze; with the fence policy none is seen to.
    ///
    /// # Errors
    /// The finding.
    pub(crate) fn settle_rollback(&mut self) -> Result<Vec<bool>, String> {
        let froze: Vec<bool> =
            (0..self.instances.len()).map(|number| self.notices(number)).collect::<Result<_, String>>()?;
        self.contradict();
        for (instance, froze) in self.instances.iter_mut().zip(&froze) {
            // One that was only told has nothing to be fenced for once the others are.
            let noticed = matches!(instance.state(), State::Suspects(reason) if reason != TOLD);
            if *froze && instance.policy == Policy::Freeze && noticed {
                instance.fence_and_start(self.traffic)?;
            }
        }
        self.traffic.totals.add(|counts| counts.freezes += froze.iter().filter(|froze| **froze).count() as u64);
        self.contradict();
        self.traffic.clock.advance_epochs(EPOCHS_BEYOND_A_FENCE);
        self.contradict();
        Ok(froze)
    }

    /// Waits until a signer is seen to have frozen, or serves.
    fn notices(&mut self, number: usize) -> Result<bool, String> {
        let freezes = self.instances[number].policy == Policy::Freeze;
        let (mut froze, mut problem) = (false, None);
        let waited = self.traffic.until("a signer notices a rollback, or serves", || {
            if let State::Suspects(reason) = self.instances[number].state() {
                froze = true;
                return freezes || reason == TOLD;
            }
            match self.look(number, true) {
                // A suspicion that came up meanwhile is looked at again.
                Ok(serves) => serves && self.instances[number].state() == State::Ready,
                Err(finding) => {
                    problem = Some(finding);
                    true
                }
            }
        });
        problem.map_or(waited, Err)?;
        Ok(froze)
    }

    /// Asks signers for contradictions of the newest signatures. The record finds it if one is signed.
    pub(crate) fn contradict(&mut self) {
        let mut conflicts = Vec::new();
        for (key, ask) in self.traffic.ledger.newest() {
            conflicts.extend(ask.conflicts().into_iter().map(|conflict| (key, conflict)));
        }
        let conflicts: Vec<_> = conflicts
            .into_iter()
            .map(|(key, ask)| (self.rng.random_range(0..self.instances.len()), key, ask))
            .collect();
        let (instances, traffic) = (&self.instances, self.traffic);
        std::thread::scope(|scope| {
            for part in conflicts.chunks(conflicts.len().div_ceil(CONTRADICTING).max(1)) {
                scope.spawn(move || {
                    for (number, key, ask) in part {
                        drop(instances[*number].ask(traffic, *key, *ask));
                    }
                });
            }
        });
    }

    /// Reads the journals. If any of them lost batches, every signer must have frozen, also one that lost nothing
    /// itself: what the others signed is missing to it as well.
    ///
    /// # Errors
    /// The finding.
    pub(crate) fn audit(&mut self, journals: Vec<(String, Reader)>, froze: Option<&[bool]>) -> Result<(), String> {
        let released = self.traffic.ledger.released();
        let lost = self.chains.read(self.traffic.totals, journals)?;
        self.traffic.ledger.check_covered(&released, self.chains.journaled())?;
        let blind = froze
            .unwrap_or_default()
            .iter()
            .zip(&self.instances)
            .position(|(froze, instance)| !froze && instance.policy == Policy::Freeze);
        let cuts: Vec<String> = lost.iter().map(|cut| format!("{} of {}", cut.batches, cut.name)).collect();
        match blind {
            Some(number) if !cuts.is_empty() => {
                Err(format!("signer {number} did not notice that batches were lost: {}", cuts.join(", ")))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// SIGKILL to a signer.
    ///
    /// # Errors
    /// The finding.
    pub(crate) fn kill_signer(&mut self) -> Result<(), String> {
        let number = self.any();
        self.instances[number].kill();
        self.recover(|| ())
    }

    /// SIGSTOP to a signer for a while.
    ///
    /// # Errors
    /// The finding.
    pub(crate) fn hang_signer(&mut self) -> Result<(), String> {
        let number = self.any();
        self.instances[number].signal(Signal::STOP);
        self.hold();
        self.instances[number].signal(Signal::CONT);
        self.recover(|| ())
    }

    /// A clock that is ahead: what is in the future by the right time is signed now, which shows that the clock
    /// jumped. Then that time comes.
    ///
    /// # Errors
    /// The finding.
    pub(crate) fn clock_forward(&mut self) -> Result<(), String> {
        let number = self.any();
        let seconds = CLOCK_SECONDS[self.rng.random_range(0..CLOCK_SECONDS.len())];
        let face = self.instances[number].face;
        self.traffic.clock.jump(face, seconds);
        let slot = self.traffic.clock.slot() + SLOTS_PER_EPOCH;
        let key = self.rng.random_range(0..self.traffic.keys.len());
        let mut answer = None;
        let signed = self.traffic.until("the clock is ahead", || {
            answer = self.instances[number].ask(self.traffic, key, Ask::Block { slot, seed: 0 });
            // Whether or not somebody else was faster: a slot that is judged is not in the future.
            match &answer {
                Some(Answer::Signed) => true,
                Some(Answer::Refused(why)) => why.starts_with("412 ") && !why.ends_with("_in_future"),
                None => false,
            }
        });
        let waited = self.traffic.progress(self.plan.requests_between / 4, 0);
        self.traffic.clock.jump(face, 0);
        self.traffic.clock.advance_epochs(EPOCHS_BEYOND_A_FENCE);
        signed.map_err(|error| format!("{error}, but {answer:?}"))?;
        waited?;
        self.recover(|| ())
    }

    /// A clock that is behind: the present is refused as the future.
    ///
    /// # Errors
    /// The finding.
    pub(crate) fn clock_back(&mut self) -> Result<(), String> {
        let number = self.any();
        let seconds = CLOCK_SECONDS[self.rng.random_range(0..CLOCK_SECONDS.len())];
        let face = self.instances[number].face;
        let before = self.traffic.mark();
        self.traffic.clock.jump(face, -seconds);
        let refused = self
            .traffic
            .until("the present is refused as the future", || self.traffic.mark().future >= before.future + 10);
        self.traffic.clock.jump(face, 0);
        refused?;
        self.recover(|| ())
    }

    /// Closes or opens a signer's door for clients.
    pub(crate) fn door(&self, number: usize, open: bool) {
        self.traffic.doors[number].open.store(open, Ordering::SeqCst);
    }

    /// Waits until the fault has met somebody, then lets clients meet it a little more.
    ///
    /// # Errors
    /// That it never did.
    pub(crate) fn wait_for(&self, what: &str, met: impl FnMut() -> bool) -> Result<(), String> {
        self.traffic.until(what, met)?;
        std::thread::sleep(GLANCE);
        Ok(())
    }
}
