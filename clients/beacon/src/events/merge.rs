//! Many nodes' events as one stream: each thing that happened once, no head that no validator should follow.
//!
//! Why it exists: every node tells the same news at another time, and some tell of heads that duties must
//! not build on. What it guarantees: an event is passed on at most once while it is remembered; a `head` is
//! passed on only from a node that may lead, and after its `block` if any stream tells blocks; bytes of an
//! event are those of the node that told it first.

use std::collections::{HashMap, HashSet, VecDeque};

use holdfast_domain::Slot;
use serde::Deserialize;

use super::sse::SseEvent;
use crate::{BlockRoot, HeadRef, PayloadStatus};

/// How many events are remembered: some epochs of blocks, a few slots of attestations.
const REMEMBERED: usize = 16_384;

/// Whether a node's view of the head may be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Healthy and in the majority.
    MayLead,
    /// Optimistic, behind, on a minority fork, or not judged yet.
    MayNotLead,
}

/// What a `head` or `block` event says.
#[derive(Debug, Clone, Deserialize)]
struct Named {
    slot: Option<String>,
    block: Option<BlockRoot>,
    #[serde(default)]
    execution_optimistic: bool,
    payload_status: Option<String>,
    block_root: Option<BlockRoot>,
    new_head_block: Option<BlockRoot>,
    epoch: Option<String>,
    index: Option<String>,
    builder_index: Option<String>,
    block_hash: Option<String>,
}

#[derive(Deserialize)]
struct Enveloped {
    data: Named,
}

/// What identifies an event among many nodes' tellings.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    /// By what it names.
    Named(String),
    /// By its whole text: signed objects are the same everywhere.
    Text(u64, usize),
}

/// What to do with an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Passage {
    /// Tell the clients.
    Pass,
    /// They know, or must not.
    Drop,
}

/// Remembers what was told.
#[derive(Debug, Default)]
pub struct Merger {
    told: HashSet<(String, Key)>,
    order: VecDeque<(String, Key)>,
    /// Heads whose block was not told yet.
    waiting: HashMap<BlockRoot, SseEvent>,
}

/// Heads that wait for their block at most; more than nodes ever name at once.
const MAX_WAITING: usize = 64;

impl Merger {
    /// Takes an event of a node and gives what clients are to be told now, in order.
    pub fn take(&mut self, event: SseEvent, standing: Standing) -> Vec<SseEvent> {
        let named = named(&event);
        let leads = match event.topic.as_str() {
            "head" | "head_v2" => {
                standing == Standing::MayLead && named.as_ref().is_some_and(|named| !named.execution_optimistic)
            }
            "chain_reorg" | "finalized_checkpoint" => standing == Standing::MayLead,
            _ => true,
        };
        if !leads {
            return Vec::new();
        }
        let key = key(&event, named.as_ref());
        if !self.first(&event.topic, key) {
            return Vec::new();
        }
        let block = named.and_then(|named| named.block);
        match (event.topic.as_str(), block) {
            ("head", Some(block)) if self.block_is_due(&block) => {
                if self.waiting.len() < MAX_WAITING {
                    self.waiting.insert(block, event);
                    return Vec::new();
                }
                vec![event]
            }
            ("block", Some(block)) => {
                let head = self.waiting.remove(&block);
                std::iter::once(event).chain(head).collect()
            }
            _ => vec![event],
        }
    }

    /// Gives out heads that still wait for their block: it may never come.
    pub fn release(&mut self) -> Vec<SseEvent> {
        self.waiting.drain().map(|(_, event)| event).collect()
    }

    /// Whether heads are waiting.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether blocks are told at all, and this one was not yet.
    fn block_is_due(&self, block: &BlockRoot) -> bool {
        let blocks_are_told = self.order.iter().rev().take(256).any(|(topic, _)| topic == "block");
        blocks_are_told && !self.told.contains(&("block".to_owned(), Key::Named(block.to_string())))
    }

    fn first(&mut self, topic: &str, key: Key) -> bool {
        let entry = (topic.to_owned(), key);
        if !self.told.insert(entry.clone()) {
            return false;
        }
        self.order.push_back(entry);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.told.remove(&oldest);
        }
        true
    }
}

fn named(event: &SseEvent) -> Option<Named> {
    let bare = serde_json::from_str::<Named>(&event.data).ok();
    match bare {
        Some(named) if named.block.is_some() || named.block_root.is_some() || named.new_head_block.is_some() => {
            Some(named)
        }
        bare => serde_json::from_str::<Enveloped>(&event.data).ok().map(|wrapped| wrapped.data).or(bare),
    }
}

fn key(event: &SseEvent, named: Option<&Named>) -> Key {
    let by_name = named.and_then(|named| match event.topic.as_str() {
        "head" | "block" | "block_gossip" | "fast_confirmation" => named.block.map(|block| block.to_string()),
        // The same block comes again when its payload arrives.
        "head_v2" => {
            named.block.map(|block| format!("{block} {}", named.payload_status.as_deref().unwrap_or_default()))
        }
        "finalized_checkpoint" => {
            named.block.map(|block| format!("{block} {}", named.epoch.as_deref().unwrap_or_default()))
        }
        "chain_reorg" => named.new_head_block.map(|block| block.to_string()),
        "execution_payload" | "execution_payload_gossip" | "execution_payload_available" => {
            named.block_root.map(|root| {
                format!(
                    "{root} {} {}",
                    named.builder_index.as_deref().unwrap_or_default(),
                    named.block_hash.as_deref().unwrap_or_default()
                )
            })
        }
        "data_column_sidecar" => {
            named.block_root.map(|root| format!("{root} {}", named.index.as_deref().unwrap_or_default()))
        }
        _ => None,
    });
    by_name.map_or_else(|| text_key(event), Key::Named)
}

/// By hash and length of the text. Nodes write signed objects with the same members in the same order as
/// the API shows them; one that does not only causes the event to be told twice.
fn text_key(event: &SseEvent) -> Key {
    use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
    Key::Text(BuildHasherDefault::<DefaultHasher>::default().hash_one(&*event.data), event.data.len())
}

/// The head an event tells of, for the pool.
pub fn head_of(event: &SseEvent) -> Option<HeadRef> {
    if !matches!(event.topic.as_str(), "head" | "head_v2") {
        return None;
    }
    let named = named(event)?;
    let slot: u64 = named.slot?.parse().ok()?;
    Some(HeadRef {
        slot: Slot(slot),
        root: named.block,
        payload: PayloadStatus::from_optimistic(named.execution_optimistic),
    })
}

#[cfg(test)]
mod tests {
    //! Proves: once each, in order, from those who may; and `head_v2` again when the payload changes.
    use super::*;

    fn root(byte: u8) -> String {
        format!("0x{}", format!("{byte:02x}").repeat(32))
    }

    fn event(topic: &str, data: &serde_json::Value) -> SseEvent {
        SseEvent { topic: topic.to_owned(), data: data.to_string().into() }
    }

    fn head(slot: u64, block: u8, optimistic: bool) -> SseEvent {
        let data = serde_json::json!({ "slot": slot.to_string(), "block": root(block), "state": root(9), "execution_optimistic": optimistic });
        event("head", &data)
    }

    fn block(slot: u64, block: u8) -> SseEvent {
        event(
            "block",
            &serde_json::json!({ "slot": slot.to_string(), "block": root(block), "execution_optimistic": false }),
        )
    }

    fn topics(events: &[SseEvent]) -> Vec<&str> {
        events.iter().map(|event| event.topic.as_str()).collect()
    }

    #[test]
    fn each_head_is_told_once() {
        let mut merger = Merger::default();
        assert_eq!(merger.take(head(1, 1, false), Standing::MayLead), [head(1, 1, false)]);
        assert_eq!(merger.take(head(1, 1, false), Standing::MayLead), []);
        assert_eq!(merger.take(head(2, 2, false), Standing::MayLead).len(), 1);
    }

    #[test]
    fn optimistic_and_minority_heads_are_not_told_but_do_not_block_the_right_one() {
        let mut merger = Merger::default();
        assert_eq!(merger.take(head(1, 1, true), Standing::MayLead), []);
        assert_eq!(merger.take(head(1, 1, false), Standing::MayNotLead), []);
        assert_eq!(merger.take(head(1, 1, false), Standing::MayLead).len(), 1);
        assert_eq!(merger.take(block(1, 1), Standing::MayNotLead).len(), 1, "blocks are facts");
    }

    #[test]
    fn a_head_follows_its_block() {
        let mut merger = Merger::default();
        merger.take(block(1, 1), Standing::MayLead);
        assert_eq!(merger.take(head(2, 2, false), Standing::MayLead), []);
        assert!(merger.has_waiting());
        assert_eq!(topics(&merger.take(block(2, 2), Standing::MayLead)), ["block", "head"]);
        assert_eq!(merger.take(head(3, 3, false), Standing::MayLead), []);
        assert_eq!(topics(&merger.release()), ["head"], "the block may never come");
    }

    #[test]
    fn head_v2_is_told_again_when_its_payload_arrives() {
        let v2 = |status: &str| {
            event(
                "head_v2",
                &serde_json::json!({ "version": "gloas", "data": { "slot": "5", "block": root(5), "payload_status": status, "execution_optimistic": false } }),
            )
        };
        let mut merger = Merger::default();
        assert_eq!(merger.take(v2("empty"), Standing::MayLead).len(), 1);
        assert_eq!(merger.take(v2("empty"), Standing::MayLead).len(), 0);
        assert_eq!(merger.take(v2("full"), Standing::MayLead).len(), 1);
        assert_eq!(
            head_of(&v2("full")).map(|head| (head.slot, head.payload)),
            Some((Slot(5), PayloadStatus::Verified))
        );
    }

    #[test]
    fn signed_objects_are_told_once_by_their_text() {
        let exit =
            |index: u64| event("voluntary_exit", &serde_json::json!({ "message": { "validator_index": index } }));
        let mut merger = Merger::default();
        assert_eq!(merger.take(exit(1), Standing::MayNotLead).len(), 1);
        assert_eq!(merger.take(exit(1), Standing::MayLead).len(), 0);
        assert_eq!(merger.take(exit(2), Standing::MayLead).len(), 1);
    }

    #[test]
    fn memory_is_bounded() {
        let mut merger = Merger::default();
        for number in 0..REMEMBERED + 100 {
            merger.take(event("voluntary_exit", &serde_json::json!({ "n": number })), Standing::MayLead);
        }
        assert_eq!((merger.told.len(), merger.order.len()), (REMEMBERED, REMEMBERED));
    }

    #[test]
    fn what_is_no_json_is_not_a_head() {
        let garbage = SseEvent { topic: "head".to_owned(), data: "{".into() };
        assert_eq!(head_of(&garbage), None);
        assert_eq!(Merger::default().take(garbage, Standing::MayLead), []);
    }
}
