//! The topics of the event stream: a closed list, each a bit.

/// Topics a client asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TopicSet(u32);

macro_rules! topics {
    ($($name:ident = $text:literal),* $(,)?) => {
        /// A topic of `GET /eth/v1/events` (Beacon API).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[expect(missing_docs, reason = "the names are the Beacon API's")]
        pub enum Topic { $($name),* }

        impl Topic {
            /// Every topic.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// As the API writes it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }
        }
    };
}

topics! {
    Head = "head", Block = "block", ChainReorg = "chain_reorg", FinalizedCheckpoint = "finalized_checkpoint",
    HeadV2 = "head_v2", BlockGossip = "block_gossip", Attestation = "attestation",
    SingleAttestation = "single_attestation", VoluntaryExit = "voluntary_exit",
    BlsToExecutionChange = "bls_to_execution_change", ProposerSlashing = "proposer_slashing",
    AttesterSlashing = "attester_slashing", ContributionAndProof = "contribution_and_proof",
    PayloadAttributes = "payload_attributes", LightClientFinalityUpdate = "light_client_finality_update",
    LightClientOptimisticUpdate = "light_client_optimistic_update", DataColumnSidecar = "data_column_sidecar",
    BlobSidecar = "blob_sidecar", ExecutionPayload = "execution_payload",
    ExecutionPayloadGossip = "execution_payload_gossip", ExecutionPayloadAvailable = "execution_payload_available",
    ExecutionPayloadBid = "execution_payload_bid", PayloadAttestationMessage = "payload_attestation_message",
    ProposerPreferences = "proposer_preferences", FastConfirmation = "fast_confirmation",
}

impl Topic {
    /// What every node is always asked for: the pool's own health rests on it, and every client knows it.
    pub const CORE: [Self; 4] = [Self::Head, Self::Block, Self::ChainReorg, Self::FinalizedCheckpoint];

    /// By its name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|topic| topic.as_str() == text)
    }

    /// Whether it is one of [`Self::CORE`].
    pub fn is_core(self) -> bool {
        Self::CORE.contains(&self)
    }

    const fn bit(self) -> u32 {
        1 << self as u32
    }
}

impl TopicSet {
    /// With one more.
    #[must_use]
    pub const fn with(self, topic: Topic) -> Self {
        Self(self.0 | topic.bit())
    }

    /// Whether a topic is in it.
    pub const fn has(self, topic: Topic) -> bool {
        self.0 & topic.bit() != 0
    }

    /// The topics in it.
    pub fn iter(self) -> impl Iterator<Item = Topic> {
        Topic::ALL.iter().copied().filter(move |topic| self.has(*topic))
    }

    /// Reads `topics=a,b&topics=c` out of a query.
    ///
    /// # Errors
    /// The first name that is no topic; empty if none is named.
    pub fn from_query(query: &str) -> Result<Self, String> {
        let values = query.split('&').filter_map(|pair| pair.strip_prefix("topics="));
        let mut set = Self::default();
        for value in values {
            for name in value.replace("%2C", ",").replace("%2c", ",").split(',') {
                set = set.with(Topic::parse(name).ok_or_else(|| name.to_owned())?);
            }
        }
        if set == Self::default() { Err(String::new()) } else { Ok(set) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_in_every_spelling() {
        for query in ["topics=head,block", "topics=head&topics=block", "x=1&topics=head%2Cblock"] {
            let set = TopicSet::from_query(query).unwrap();
            assert_eq!(set.iter().collect::<Vec<_>>(), [Topic::Head, Topic::Block], "{query}");
        }
        assert_eq!(TopicSet::from_query("topics=head,nonsense"), Err("nonsense".to_owned()));
        assert_eq!(TopicSet::from_query(""), Err(String::new()));
    }

    #[test]
    fn every_topic_has_its_own_bit() {
        let all = Topic::ALL.iter().fold(TopicSet::default(), |set, topic| set.with(*topic));
        assert_eq!(all.iter().count(), Topic::ALL.len());
    }
}
