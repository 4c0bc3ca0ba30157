//! The schedule of forks as it becomes known, and how nodes are judged by it.
//!
//! Why it exists: nodes are updated for a fork while the switcher runs, and what was said at start is then out of
//! date. What it guarantees: genesis, constants and forks in force stay as they are pinned; what is still to come is
//! what most of the nodes tell now; a node is not put out for a fork that is to come while nobody else could serve.

use std::collections::BTreeSet;
use std::sync::Arc;

use holdfast_domain::Epoch;

use super::state::{Conclusions, Member, Presence, State};
use crate::decision::{Decision, DecisionKind};
use crate::health::{
    Admission, Compatibility, Gate, HealthTier, Liveness, NodeNetwork, Others, Reach, Verdict, agrees_for_now,
    agrees_until, compare, is_partial, judge, with_schedule_of,
};
use crate::network::PinnedNetwork;
use crate::upstream::{UpstreamId, UpstreamName};
use crate::version::Vendor;

/// From so many implementations on these are counted, below it nodes.
const COUNT_IMPLEMENTATIONS: usize = 3;

/// Differences named in one decision.
const NAMED: usize = 8;

/// Forks from the first epoch on: a chain begins with them.
const FIRST: Epoch = Epoch(0);

/// Who votes on the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Voter {
    id: UpstreamId,
    vendor: Vendor,
    away: bool,
}

/// Nodes that tell the same schedule.
struct Camp<'a> {
    told: &'a NodeNetwork,
    members: Vec<&'a Member>,
}

/// Another schedule.
struct Adopted {
    network: PinnedNetwork,
    settled: Epoch,
    reason: String,
}

impl Member {
    /// It was here and does not answer now. Who has only just come is not.
    fn is_away(&self) -> bool {
        self.presence == Presence::Away
    }

    /// Fit to serve, apart from what network it is on.
    fn is_there(&self) -> bool {
        self.liveness() > Liveness::Hung && self.admission == Admission::Serving && self.raw > HealthTier::LastResort
    }
}

impl State {
    /// The network is known from now on.
    pub(super) fn pin(&mut self, network: Arc<PinnedNetwork>, now: Epoch) {
        self.network = Some(network);
        self.settled = Some(now);
        self.voters = None;
        self.compare_anew();
    }

    /// A node has told its network.
    pub(crate) fn told(&mut self, id: UpstreamId, told: NodeNetwork) {
        let Some(member) = self.members.get_mut(&id) else { return };
        member.identity_due = false;
        if member.told.as_ref() != Some(&told) {
            member.told = Some(told);
            member.differences = None;
            // Voted on and judged with the next conclusions.
            self.voters = None;
            self.judged = None;
        }
    }

    /// Takes over what nodes tell of the future, and judges all of them by it.
    pub(super) fn follow_schedule(&mut self, now: Epoch, out: &mut Conclusions) {
        self.compare_all();
        if let Some(adopted) = self.vote() {
            let network = Arc::new(adopted.network);
            self.network = Some(Arc::clone(&network));
            self.settled = Some(adopted.settled);
            out.network = Some(network);
            out.decisions.push(Decision::general(DecisionKind::ScheduleChanged, adopted.reason));
            self.compare_anew();
            self.compare_all();
        }
        self.judge_all(now, out);
    }

    fn settled(&self) -> Epoch {
        self.settled.unwrap_or(FIRST)
    }

    fn compare_anew(&mut self) {
        self.judged = None;
        for member in self.members.values_mut() {
            member.differences = None;
        }
    }

    fn compare_all(&mut self) {
        let Some(network) = self.network.clone() else { return };
        for member in self.members.values_mut() {
            if member.differences.is_none()
                && let Some(told) = &member.told
            {
                member.differences = Some(compare(network.facts(), told));
            }
        }
    }

    /// Nodes on the network until an epoch, also those that do not answer now.
    fn agreeing(&self, until: Epoch) -> Vec<&Member> {
        let agrees = |member: &&Member| {
            member.differences.as_deref().is_some_and(|differences| agrees_until(differences, until))
        };
        self.members.values().filter(agrees).collect()
    }

    /// Another schedule than the one that counts, if the nodes tell one. Asked again whenever one of them tells
    /// something else, comes or goes.
    fn vote(&mut self) -> Option<Adopted> {
        let told = self.members.values().filter(|member| member.told.is_some());
        let voters: Vec<Voter> = told
            .map(|member| Voter { id: member.upstream.id(), vendor: member.vendor(), away: member.is_away() })
            .collect();
        if self.voters.as_ref() == Some(&voters) {
            return None;
        }
        self.voters = Some(voters);
        let facts = self.network.as_ref()?.facts();
        let mut settled = self.settled();
        let mut heard = self.agreeing(settled);
        if heard.is_empty() {
            // Not one node says any more what was taken to be in force: then it is not, and they know better.
            settled = FIRST;
            heard = self.agreeing(settled);
        }
        let here: Vec<&Member> = heard.iter().copied().filter(|member| !member.is_away()).collect();
        let camp = lead(if here.is_empty() { &heard } else { &here }, facts, settled)?;
        if alike(facts, camp.told) {
            return None;
        }
        // A node that is away for the moment goes on speaking for the forks it knows.
        let shorter = reach(facts, camp.told, settled) < Reach::of(facts, settled);
        if shorter && lead(&heard, facts, settled).is_some_and(|all| !alike(all.told, camp.told)) {
            return None;
        }
        adopt(facts, &camp, settled)
    }

    fn judge_all(&mut self, now: Epoch, out: &mut Conclusions) {
        if self.network.is_none() {
            return;
        }
        let serves = |member: &Member| {
            member.is_there()
                && member.differences.as_deref().is_some_and(|differences| agrees_for_now(differences, now))
        };
        let others = if self.members.values().any(serves) { Others::There } else { Others::Nobody };
        if others == Others::There {
            // Seen in force: a fork that nobody follows may have been none. Not the highest epoch ever: the clock may
            // have been wrong.
            self.settled = Some(now);
        }
        let gate = Gate { settled: self.settled(), now, others };
        if self.judged == Some(gate) {
            return;
        }
        self.judged = Some(gate);
        for member in self.members.values_mut() {
            let Some(differences) = &member.differences else { continue };
            let verdict = Verdict { compatibility: judge(differences, gate), differences: differences.clone() };
            if member.verdict.as_ref() != Some(&verdict) {
                warn_of_differences(member.upstream.name(), &verdict, &mut out.decisions);
            }
            member.verdict = Some(verdict);
        }
    }
}

/// Whether two nodes tell the same schedule.
fn alike(one: &NodeNetwork, other: &NodeNetwork) -> bool {
    compare(one, other).iter().all(|difference| difference.from.is_none())
}

/// How many implementations nodes are of.
fn implementations(members: &[&Member]) -> usize {
    members.iter().map(|member| member.vendor()).collect::<BTreeSet<_>>().len()
}

/// The schedule most tell: the longer one of two told by as many, then the one that counts already, then that of the
/// first in the configuration.
fn lead<'a>(heard: &[&'a Member], facts: &NodeNetwork, settled: Epoch) -> Option<Camp<'a>> {
    let telling = heard.iter().copied().filter_map(|member| Some((member, member.told.as_ref()?)));
    // Whoever leaves a part out speaks for everybody who tells the rest as he does.
    let (partial, whole): (Vec<_>, Vec<_>) = telling.partition(|(_, told)| is_partial(told));
    let mut camps: Vec<Camp<'a>> = Vec::new();
    for (member, told) in whole.into_iter().chain(partial) {
        let mut joined = 0usize;
        for camp in camps.iter_mut().filter(|camp| alike(camp.told, told)) {
            camp.members.push(member);
            joined = joined.saturating_add(1);
        }
        if joined == 0 {
            camps.push(Camp { told, members: vec![member] });
        }
    }
    let by_implementation = implementations(heard) >= COUNT_IMPLEMENTATIONS;
    let weight = |camp: &Camp<'_>| {
        let nodes = camp.members.len();
        if by_implementation { (implementations(&camp.members), nodes) } else { (nodes, 0) }
    };
    camps.into_iter().rev().max_by_key(|camp| (weight(camp), reach(facts, camp.told, settled), alike(facts, camp.told)))
}

/// How far the network would reach with what a node tells.
fn reach(facts: &NodeNetwork, told: &NodeNetwork, settled: Epoch) -> Reach {
    Reach::of(&with_schedule_of(facts, told, settled), settled)
}

/// The network with the schedule of a camp; `None` if that changes nothing.
fn adopt(facts: &NodeNetwork, camp: &Camp<'_>, settled: Epoch) -> Option<Adopted> {
    let new = with_schedule_of(facts, camp.told, settled);
    let changes: Vec<String> = compare(facts, &new)
        .iter()
        .take(NAMED)
        .map(|change| format!("{} was {} and is {}", change.what, change.pinned, change.node))
        .collect();
    if changes.is_empty() {
        return None;
    }
    let names: Vec<&str> = camp.members.iter().map(|member| member.upstream.name().as_str()).collect();
    let reason = format!("the schedule of forks has changed: {}; told by {}", changes.join("; "), names.join(", "));
    // The lengths of slots and epochs stay, so it can be used as the one before.
    let network = PinnedNetwork::new(new).ok()?;
    Some(Adopted { network, settled, reason })
}

fn warn_of_differences(name: &UpstreamName, verdict: &Verdict, decisions: &mut Vec<Decision>) {
    let (kind, advice) = match verdict.compatibility {
        Compatibility::Incompatible => {
            (DecisionKind::Incompatible, "it is on another network and is asked for nothing")
        }
        Compatibility::FutureFork => (
            DecisionKind::ForkWarning,
            "update whichever is out of date: from one epoch before the fork it is excluded while others can serve",
        ),
        Compatibility::Unknown | Compatibility::Compatible => return,
    };
    let all: Vec<String> = verdict.differences.iter().take(NAMED).map(ToString::to_string).collect();
    decisions.push(Decision::about(kind, name, format!("{}; {advice}", all.join("; "))));
}
