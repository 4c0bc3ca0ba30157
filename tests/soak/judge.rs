//! What must hold, watched all the time, and the verdict.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::atomic::Ordering;

use holdfast_tests::client_log::ClientLog;

use crate::asker::Asker;
use crate::causes::{Causes, During};
use crate::crowd::Crowd;
use crate::faults::Fault;
use crate::memory::Memory;
use crate::stage::Stage;
use crate::votes;

/// Of the chain that runs here (minimal preset).
pub(crate) const SLOTS_PER_EPOCH: u64 = 8;

/// Findings and figures so far.
pub(crate) struct Judge {
    asker: Asker,
    log: ClientLog,
    first_slot: u64,
    last_slot: u64,
    /// What was broken in which slots, and the slots after it.
    phases: Vec<(Fault, RangeInclusive<u64>)>,
    memory: Memory,
    crowd: Crowd,
    causes: Causes,
    findings: Vec<String>,
}

/// Duties by whole epochs.
#[derive(Default)]
struct Duties {
    expected: u64,
    missing: u64,
    /// Missing in epochs with an excuse.
    within: u64,
    sync_votes: u64,
}

impl Judge {
    /// Begins to watch.
    pub(crate) fn begin(stage: &Stage) -> Self {
        let mut log = ClientLog::from_start(stage.client_log());
        let mut causes = Causes::default();
        causes.take(&mut log, During::Start);
        let asker = Asker::start(stage);
        let first_slot = stage.wait_slot() + 1;
        let (phases, findings) = (Vec::new(), Vec::new());
        let (memory, crowd) = (Memory::begin(), Crowd::begin());
        Self { asker, log, first_slot, last_slot: first_slot, phases, memory, crowd, causes, findings }
    }

    /// The first slot that is judged.
    pub(crate) const fn first_slot(&self) -> u64 {
        self.first_slot
    }

    /// Waits for so many slots and looks at memory in each; the slot of the clock.
    pub(crate) fn wait(&mut self, stage: &Stage, slots: u64) -> u64 {
        let mut slot = self.last_slot;
        for _ in 0..slots {
            slot = stage.wait_slot();
            self.memory.take(stage);
        }
        slot
    }

    /// Takes what the client has complained of since the last time.
    pub(crate) fn hear(&mut self, during: During) {
        self.causes.take(&mut self.log, during);
    }

    /// Looks at everything after a fault.
    pub(crate) fn look(&mut self, stage: &Stage, fault: Fault, slots: RangeInclusive<u64>) {
        self.last_slot = *slots.end();
        for (name, server) in stage.servers() {
            let metrics = server.get_metrics("/metrics").text();
            let wanted = if name == "switcher" { "holdfast_switcher_" } else { "holdfast_signing_requests_total{" };
            let lines = metrics.lines().filter(|line| line.starts_with(wanted)).count();
            if lines == 0 {
                self.findings.push(format!("slots {slots:?}: {name} shows no {wanted} after {fault:?}"));
            }
        }
        self.phases.push((fault, slots));
        self.findings.extend(self.asker.asked().take_wrong());
    }

    /// Where it stands, in a line.
    pub(crate) fn line(&self, stage: &Stage) -> String {
        let refused = self.asker.asked().refused.load(Ordering::Relaxed);
        format!(
            "{refused} contradictions refused, {} errors, {} findings, {}",
            self.causes.count(),
            self.findings.len(),
            self.memory.line(stage)
        )
    }

    /// Duties that the client's own log does not have, by whole epochs.
    fn duties(&self, stage: &Stage) -> Duties {
        let keys = stage.network().pubkeys().len() as u64;
        let epochs = self.first_slot.div_ceil(SLOTS_PER_EPOCH)..self.last_slot / SLOTS_PER_EPOCH;
        let all = epochs.start * SLOTS_PER_EPOCH..=(epochs.end * SLOTS_PER_EPOCH).saturating_sub(1);
        let published = ClientLog::from_start(stage.client_log()).published(all);
        let mut duties = Duties::default();
        for epoch in epochs {
            let slots = epoch * SLOTS_PER_EPOCH..=epoch * SLOTS_PER_EPOCH + SLOTS_PER_EPOCH - 1;
            let of = |slot: u64| published.get(&slot).copied().unwrap_or_default();
            let votes: u64 = slots.clone().map(|slot| of(slot).attestations).sum();
            let blocks: Vec<u64> = slots.clone().filter(|slot| of(*slot).blocks == 0).collect();
            let gone = keys.saturating_sub(votes) + blocks.len() as u64;
            duties.expected += keys + SLOTS_PER_EPOCH;
            duties.sync_votes += slots.clone().map(|slot| of(slot).sync_votes).sum::<u64>();
            let faults: Vec<&(Fault, RangeInclusive<u64>)> = self
                .phases
                .iter()
                .filter(|(_, range)| range.start() <= slots.end() && slots.start() <= range.end())
                .collect();
            if faults.iter().any(|(fault, _)| fault.excuses()) {
                duties.within += gone;
            } else {
                duties.missing += gone;
            }
            if gone > 0 {
                let by_slot: Vec<String> = slots.map(|slot| format!("{slot}: {}", of(slot).attestations)).collect();
                println!(
                    "  epoch {epoch}: {votes} of {keys} votes ({}), slots without a block {blocks:?}; {faults:?}",
                    by_slot.join(", ")
                );
            }
        }
        duties
    }

    /// Prints the verdict; whether all held.
    pub(crate) fn verdict(mut self, stage: &Stage) -> bool {
        let asked = self.asker.finish();
        let faults = self.phases.iter().filter(|(fault, _)| *fault != Fault::Nothing).count();
        println!("soak: slots {} to {}, {faults} faults", self.first_slot, self.last_slot);
        self.findings.extend(asked.take_wrong());
        self.findings.extend(self.memory.judge());
        self.causes.print();
        let harmless = asked.judge(stage.client_log(), &mut self.findings);
        let status = stage.network().status();
        let full = self.crowd.judge();
        let times = stage.times(self.last_slot);
        self.findings.extend(votes::judge(&status, &(self.first_slot..=self.last_slot), &times, full));
        if status.double_votes + status.slashed_validators + status.proposer_slashings + status.attester_slashings > 0 {
            self.findings.push(format!("something slashable is on the chain: {status:?}"));
        }
        let duties = self.duties(stage);
        if duties.missing > 0 {
            self.findings.push(format!("{} duties are missing outside of what no signer can bridge", duties.missing));
        }
        println!(
            "  {} duties in whole epochs by the client's log, {} missing, {} more while the database restarted; {} votes of the sync committee",
            duties.expected, duties.missing, duties.within, duties.sync_votes
        );
        let statuses = statuses(stage);
        println!("  signing requests of the client, by what it got: {statuses:?}");
        let (refused, unavailable) = (asked.refused.load(Ordering::Relaxed), asked.unavailable.load(Ordering::Relaxed));
        println!(
            "  contradictions: {refused} refused, {harmless} signed where the key had asked, {unavailable} times nobody could be asked"
        );
        if refused == 0 || duties.expected == 0 || !statuses.contains_key(&200) {
            self.findings
                .push(format!("too little happened: {statuses:?}, {refused} refusals, {} duties", duties.expected));
        }
        stage.watch().print_figures();
        self.findings.extend(stage.watch().judge_panels());
        self.findings.extend(stage.watch().judge_alerts(full));
        for finding in &self.findings {
            println!("  finding: {finding}");
        }
        println!("verdict: {}", if self.findings.is_empty() { "held" } else { "broken" });
        self.findings.is_empty()
    }
}

/// What the client's requests for signatures got, by status: of the balancer, so after its second try.
fn statuses(stage: &Stage) -> BTreeMap<u16, u64> {
    let mut statuses = BTreeMap::new();
    for passed in stage.balancer().passed().iter().filter(|one| one.by_validator) {
        *statuses.entry(passed.status).or_default() += 1;
    }
    statuses
}
