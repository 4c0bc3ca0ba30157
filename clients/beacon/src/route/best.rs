//! Aggregates and contributions: the fullest of all nodes'.
//!
//! Why it exists: only nodes subscribed to a committee's subnet have its aggregate, and each has seen other
//! votes. What it guarantees: of the answers that are for this duty the one with most votes; "not found" of some nodes
//! is normal and no error while another has it; contributions are asked of every node that may have the block.

use futures_util::StreamExt;
use holdfast_domain::Slot;
use hyper::StatusCode;
use tokio::time::Instant;

use super::Switcher;
use super::fan::form_of;
use super::judge::{Bad, nobody, worst_case};
use super::path::{query_number, query_root};
use super::request::{ClientAnswer, ClientRequest};
use super::table::Endpoint;
use super::weigh::{Weight, aggregate, contribution};
use crate::BlockRoot;
use crate::upstream::{CollectedAnswer, Role};

/// An aggregate with the bits of a whole slot's committees is under 20 kB.
const MAX_BYTES: usize = 256 * 1024;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
enum Wanted {
    Aggregate { slot: Slot },
    Contribution { slot: Slot, subcommittee: u64, root: BlockRoot },
}

impl Wanted {
    fn read(endpoint: Endpoint, query: &str) -> Result<Self, &'static str> {
        let slot = Slot(query_number(query, "slot").ok().flatten().ok_or("slot: give a number in the query")?);
        if endpoint != Endpoint::SyncContribution {
            return Ok(Self::Aggregate { slot });
        }
        let subcommittee = query_number(query, "subcommittee_index").ok().flatten();
        let subcommittee = subcommittee.ok_or("subcommittee_index: give a number in the query")?;
        let root = query_root(query, "beacon_block_root").ok().flatten();
        let root = root.ok_or("beacon_block_root: give 0x and 64 hexadecimal digits in the query")?;
        Ok(Self::Contribution { slot, subcommittee, root })
    }

    const fn role(self) -> Role {
        match self {
            Self::Aggregate { .. } => Role::Attestation,
            Self::Contribution { .. } => Role::Sync,
        }
    }

    fn weigh(self, answer: &CollectedAnswer) -> Option<Weight> {
        match self {
            Self::Aggregate { slot } => aggregate(form_of(answer), &answer.body, slot),
            Self::Contribution { slot, subcommittee, root } => contribution(&answer.body, slot, subcommittee, root),
        }
    }
}

impl Switcher {
    pub(super) async fn best(&self, endpoint: Endpoint, request: &ClientRequest) -> ClientAnswer {
        let wanted = match Wanted::read(endpoint, request.query()) {
            Ok(wanted) => wanted,
            Err(message) => return ClientAnswer::error(StatusCode::BAD_REQUEST, message),
        };
        let class = endpoint.class();
        let mut nodes = self.pool.view().everyone(class);
        // Both are of one class, as health goes, but not of one role.
        nodes.retain(|node| node.upstream.config().roles.contains(wanted.role()));
        if let Wanted::Contribution { root, .. } = wanted {
            // A node whose head is older than the block lacks it and has nothing to say. One whose head is newer or another has it
            // as well as the one that still has it for its head: that may be the slowest of all.
            let slot = self.events.slot_of(&root);
            let holders: Vec<_> =
                nodes.iter().filter(|node| node.head.is_none_or(|head| Some(head.slot) >= slot)).cloned().collect();
            if !holders.is_empty() {
                nodes = holders;
            }
        }
        if nodes.is_empty() {
            return nobody();
        }
        let deadline = self.pool.deadline(class);
        let mut asked = self.ask_all(endpoint, request, &nodes, MAX_BYTES, deadline);
        let mut best: Option<(Weight, CollectedAnswer)> = None;
        let mut bad: Vec<(String, Bad)> = Vec::new();
        let mut until = deadline.end;
        while let Ok(Some((node, told))) = tokio::time::timeout_at(until, asked.next()).await {
            let weighed = told.and_then(|answer| match wanted.weigh(&answer) {
                Some(weight) => Ok((weight, answer)),
                None => Err(Bad::Broken("not what was asked for".to_owned())),
            });
            match weighed {
                Ok((weight, answer)) => {
                    if best.as_ref().is_none_or(|(known, _)| weight.set > known.set) {
                        best = Some((weight, answer));
                    }
                    if weight.is_full() {
                        break;
                    }
                    // The others get a moment: a fuller aggregate is worth it, a slow node is not.
                    until = until.min(Instant::now() + self.slot_length() / 48);
                }
                Err(reason) => bad.push((node.upstream.name().to_string(), reason)),
            }
        }
        drop(asked);
        match best {
            Some((_, answer)) => ClientAnswer::collected(answer),
            None if bad.is_empty() => nobody(),
            None => worst_case(bad),
        }
    }
}
