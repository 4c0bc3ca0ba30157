//! What a request is for, as far as choosing a node and a deadline depends on it.
//!
//! Why it exists: routing by endpoint, health, balancing, metrics and deadlines all speak about the
//! same few classes; a closed list keeps them from drifting apart. What it guarantees: every class has a
//! name for labels, a role a node needs for it, and a rule for each unhealthy condition.

use crate::upstream::{Role, Roles};

macro_rules! classes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, [$($role:ident)*];)*) => {
        /// The classes of the Beacon API's endpoints, as a switcher sees them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum EndpointClass {
            $($(#[$doc])* $name,)*
        }

        impl EndpointClass {
            /// Every class, in order of declaration.
            pub const ALL: [Self; classes!(@count $($name)*)] = [$(Self::$name),*];

            /// Name for labels and logs.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// Roles of which an upstream needs one to be asked this; none if everyone may be asked.
            pub const fn roles(self) -> Roles {
                match self {
                    $(Self::$name => Roles::NONE$(.with(Role::$role))*,)*
                }
            }
        }
    };
    (@count $($name:ident)*) => { 0 $(+ classes!(@one $name))* };
    (@one $name:ident) => { 1 };
}

classes! {
    /// Genesis, spec, fork schedule, deposit contract.
    Static = "static", [];
    /// Attester, proposer, sync and PTC duties.
    Duty = "duty", [];
    /// Attestation data and payload attestation data: voted on.
    AttestationData = "attestation_data", [Attestation];
    /// Aggregates and sync committee contributions.
    Aggregate = "aggregate", [Attestation Sync];
    /// Block production.
    Produce = "produce", [Proposal];
    /// Publishing of blocks and payload envelopes.
    Publish = "publish", [Submit];
    /// Submission to the pools: attestations, aggregates, sync messages, exits.
    Submit = "submit", [Submit];
    /// Subscriptions and preparations: remembered and replayed. A node that makes blocks has to know whom they pay.
    Prepare = "prepare", [Submit Proposal];
    /// Liveness of validators (doppelganger checks).
    Liveness = "liveness", [];
    /// Head and block roots asked within a slot.
    HotRead = "hot_read", [];
    /// Other reads of little weight.
    Read = "read", [];
    /// Validators, balances, committees.
    BigRead = "big_read", [];
    /// Whole states and the like.
    Bulk = "bulk", [];
    /// The event stream.
    Events = "events", [];
    /// Facts about the node itself, among them the switcher's own probes.
    NodeInfo = "node_info", [];
    /// What only nodes with a builder can answer.
    Builder = "builder", [Builder];
}

impl EndpointClass {
    /// Position in [`Self::ALL`].
    pub(crate) const fn index(self) -> usize {
        self as usize
    }

    /// Whether an answer that comes late is lost duty time, so that lateness speaks against a node.
    pub const fn has_duty_deadline(self) -> bool {
        match self {
            Self::Duty
            | Self::AttestationData
            | Self::Aggregate
            | Self::Produce
            | Self::Publish
            | Self::Submit
            | Self::HotRead
            | Self::Builder => true,
            Self::Static
            | Self::Prepare
            | Self::Liveness
            | Self::Read
            | Self::BigRead
            | Self::Bulk
            | Self::Events
            | Self::NodeInfo => false,
        }
    }
}

/// What a node has to be fit for, as far as rules about unhealthy nodes differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// A vote on the chain will rest on the answer.
    Vote,
    /// Who has what duty.
    Duty,
    /// Aggregates and contributions.
    Aggregate,
    /// A block.
    Produce,
    /// Passing something on to the network, or telling the node something.
    Send,
    /// Evidence that keys are in use elsewhere.
    Safety,
    /// The newest block.
    Head,
    /// Anything else that is read.
    Read,
    /// Events.
    Stream,
}

impl EndpointClass {
    /// What a node has to be fit for to be asked this.
    pub(crate) const fn need(self) -> Need {
        match self {
            Self::AttestationData => Need::Vote,
            Self::Duty => Need::Duty,
            Self::Aggregate => Need::Aggregate,
            Self::Produce | Self::Builder => Need::Produce,
            Self::Publish | Self::Submit | Self::Prepare => Need::Send,
            Self::Liveness => Need::Safety,
            Self::HotRead => Need::Head,
            Self::Static | Self::Read | Self::BigRead | Self::Bulk | Self::NodeInfo => Need::Read,
            Self::Events => Need::Stream,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_have_distinct_names_and_their_position() {
        let names: std::collections::BTreeSet<_> = EndpointClass::ALL.iter().map(|class| class.as_str()).collect();
        assert_eq!(names.len(), EndpointClass::ALL.len());
        for (position, class) in EndpointClass::ALL.into_iter().enumerate() {
            assert_eq!(class.index(), position);
        }
    }
}
