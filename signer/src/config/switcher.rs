//! The sections of the switcher and of the execution pool, and the nodes they stand in front of.
//!
//! A node is an address, or a table with everything that can be said about it. Printing a
//! configuration shows neither a password in an address nor the value of a header.

use core::fmt;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32, NonZeroUsize};
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::{BeaconUrl, TlsConfig, loopback, size};

/// `[switcher]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SwitcherConfig {
    /// Whether the switcher runs beside the signer: a Beacon API for validator clients in front of the consensus clients named here and with network.beacon. The flags --switcher-listen and --no-signer switch it on, too.
    pub(crate) enabled: bool,
    /// Address and port of the switcher's Beacon API. One that other machines can reach needs switcher.tls with client_ca or known_clients.
    #[schemars(with = "String")]
    pub(crate) listen: SocketAddr,
    /// Listen where other machines can reach the switcher although nobody has to prove who he is. Only for a network that nothing else is on: whoever reaches the port can publish through your nodes and change fee recipients.
    pub(crate) allow_unauthenticated: bool,
    /// Which of equally healthy nodes is asked: "best-first", "round-robin", "weighted" or "dynamic" (by response time).
    pub(crate) balance: Balance,
    /// What a validator client gets when the nodes do not agree on what to attest to: "refuse" (503, the attestation is missed) or "best-node".
    pub(crate) no_quorum: NoQuorum,
    /// How many must agree on an attestation's source and target: distinct implementations where at least three answer, otherwise nodes. Default: more than half of those that answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) quorum: Option<NonZeroU16>,
    /// What happens to requests the switcher has no rule for: "refuse" (404) or "pass" (to the best node).
    pub(crate) unknown_routes: UnknownRoutes,
    /// What happens to heavy requests (whole states, blobs, rewards, light client, debug), which can exhaust a node: "refuse" (403) or "allow" (from the best node, streamed, two at a time).
    pub(crate) heavy_routes: HeavyRoutes,
    /// Address of a distributed validator's middleware, the only one that is asked for beacon_committee_selections and sync_committee_selections. Without one they get 501.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) middleware: Option<BeaconUrl>,
    /// Whether the signer asks the nodes if an attestation's source and target are theirs: "off", "observe" (count and log) or "enforce" (do not sign unless they confirm). Needs the switcher in the same process.
    pub(crate) cross_check: CrossCheck,
    /// Whether the nodes are asked if somebody else signs with keys that were imported, made or enabled a short while ago: "off", "observe" (ask, log, count and journal) or "enforce" (hold such keys back until nobody was seen). Needs the switcher in the same process.
    pub(crate) doppelganger: DoppelgangerCheck,
    /// In how many whole epochs after that nobody may be seen; at least 1.
    pub(crate) doppelganger_epochs: NonZeroU32,
    /// Consensus clients: a list of addresses, or [[switcher.upstream]] tables with url and, as wanted, name, weight, tier, roles, headers, username, password_file, token_file, ca_file, each_address.
    #[serde(deserialize_with = "entries")]
    #[schemars(with = "Vec<AddressOrTable>")]
    pub(crate) upstream: Vec<UpstreamEntry>,
    /// TLS of the switcher's Beacon API. Off while neither certificate nor pkcs12 is set. The files are read again when they change.
    pub(crate) tls: TlsConfig,
}

impl Default for SwitcherConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            listen: loopback(5052),
            allow_unauthenticated: false,
            balance: Balance::BestFirst,
            no_quorum: NoQuorum::Refuse,
            quorum: None,
            unknown_routes: UnknownRoutes::Refuse,
            heavy_routes: HeavyRoutes::Refuse,
            middleware: None,
            cross_check: CrossCheck::Observe,
            doppelganger: DoppelgangerCheck::Observe,
            doppelganger_epochs: NonZeroU32::new(2).unwrap_or(NonZeroU32::MIN),
            upstream: Vec::new(),
            tls: TlsConfig::default(),
        }
    }
}

/// `[execution]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ExecutionConfig {
    /// Whether the execution pool runs: JSON-RPC over HTTP and WebSocket in front of the execution clients named here.
    pub(crate) enabled: bool,
    /// Address and port of the execution pool. One that other machines can reach needs execution.tls with client_ca or known_clients.
    #[schemars(with = "String")]
    pub(crate) listen: SocketAddr,
    /// Listen where other machines can reach the pool although nobody has to prove who he is. Only for a network that nothing else is on.
    pub(crate) allow_unauthenticated: bool,
    /// Which of equally healthy nodes is asked: "best-first", "round-robin", "weighted" or "dynamic" (by response time).
    pub(crate) balance: Balance,
    /// Methods that are passed on; an asterisk at the end stands for any ending. Methods by which a node would sign, and the namespaces engine, admin, debug, personal and miner, must be named whole.
    pub(crate) allowed_methods: Vec<String>,
    /// How many blocks a node may be behind the highest one and still answer reads.
    pub(crate) max_lag_blocks: u64,
    /// How long a node may take to answer, in milliseconds.
    pub(crate) timeout_ms: NonZeroU32,
    /// Largest request body or WebSocket message in bytes.
    pub(crate) max_body_bytes: NonZeroUsize,
    /// How many calls one batch may hold.
    pub(crate) max_batch: NonZeroUsize,
    /// How many connections may be open at once; further ones wait to be accepted.
    pub(crate) max_connections: NonZeroUsize,
    /// Execution clients: a list of addresses, or [[execution.upstream]] tables with url and, as wanted, name, websocket_url, weight, tier, headers, username, password_file, token_file, ca_file.
    #[serde(deserialize_with = "entries")]
    #[schemars(with = "Vec<AddressOrTable>")]
    pub(crate) upstream: Vec<UpstreamEntry>,
    /// TLS of the execution pool. Off while neither certificate nor pkcs12 is set. The files are read again when they change.
    pub(crate) tls: TlsConfig,
}

impl Default for ExecutionConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            listen: loopback(8545),
            allow_unauthenticated: false,
            balance: Balance::BestFirst,
            allowed_methods: ["eth_*", "net_*", "web3_*"].map(str::to_owned).to_vec(),
            max_lag_blocks: 3,
            timeout_ms: NonZeroU32::new(5_000).unwrap_or(NonZeroU32::MIN),
            max_body_bytes: size(5 * 1024 * 1024),
            max_batch: size(1_000),
            max_connections: size(1_024),
            upstream: Vec::new(),
            tls: TlsConfig::default(),
        }
    }
}

/// How nodes of equal health share the requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Balance {
    /// The first of the best, always.
    #[default]
    BestFirst,
    /// Each in turn.
    RoundRobin,
    /// Each in turn, in proportion to its weight.
    Weighted,
    /// Each in turn, the faster ones more often.
    Dynamic,
}

/// What happens without a majority for an attestation's source and target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum NoQuorum {
    /// 503: the validator client attests to nothing.
    #[default]
    Refuse,
    /// What the best node says.
    BestNode,
}

/// What happens to unknown requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum UnknownRoutes {
    /// 404.
    #[default]
    Refuse,
    /// To the best node.
    Pass,
}

/// What happens to whole states, blobs, rewards and the like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum HeavyRoutes {
    /// 403.
    #[default]
    Refuse,
    /// From the best node, few at a time.
    Allow,
}

/// Whether the nodes are asked about a vote before it is signed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CrossCheck {
    /// No.
    Off,
    /// Yes, and signed in any case.
    #[default]
    Observe,
    /// Yes, and signed only if they confirm it.
    Enforce,
}

/// Whether the nodes are asked about newly enabled keys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DoppelgangerCheck {
    /// No.
    Off,
    /// Yes, and such keys sign in any case.
    #[default]
    Observe,
    /// Yes, and they are held back until nobody was seen.
    Enforce,
}

/// What a consensus client is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RoleName {
    /// Attestation data, aggregates.
    Attestation,
    /// Producing blocks.
    Proposal,
    /// Sync committee duties.
    Sync,
    /// Taking what validators publish.
    Submit,
    /// Has an external builder.
    Builder,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpstreamEntry {
    /// Address of its HTTP API.
    pub(crate) url: BeaconUrl,
    /// Name in logs, metrics and commands. Default: host and port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// Address of its WebSocket API (ws://host:port or wss://host:port), execution clients only; without it the node serves no subscriptions. Headers, credentials and ca_file are those of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) websocket_url: Option<String>,
    /// Share of the requests when balancing is "weighted".
    #[serde(default = "one")]
    pub(crate) weight: NonZeroU16,
    /// Nodes of a lower tier are asked only when none of the tiers above is healthy; 0 is the highest.
    #[serde(default)]
    pub(crate) tier: u8,
    /// What it is used for. Default: everything but "builder".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) roles: Option<Vec<RoleName>>,
    /// Headers sent with every request.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) headers: BTreeMap<String, HeaderText>,
    /// User name, with password_file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) username: Option<String>,
    /// File that holds the password; one trailing line break is not part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) password_file: Option<PathBuf>,
    /// File that holds a bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token_file: Option<PathBuf>,
    /// File with the certificate of the authority that signed the node's, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Whether each address of the host name is a node of its own, as for a headless service; the name is looked up again while it runs. Consensus clients only. Otherwise the name is one node, looked up for each new connection.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) each_address: bool,
}

impl UpstreamEntry {
    /// A node of which only the address is known.
    pub(crate) fn at(url: BeaconUrl) -> Self {
        Self {
            url,
            name: None,
            websocket_url: None,
            weight: one(),
            tier: 0,
            roles: None,
            headers: BTreeMap::new(),
            username: None,
            password_file: None,
            token_file: None,
            ca_file: None,
            each_address: false,
        }
    }
}

const fn one() -> NonZeroU16 {
    NonZeroU16::MIN
}

/// The value of a header, which may be a secret: prints as `***`.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub(crate) struct HeaderText(String);

impl HeaderText {
    /// The value: for sending only.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for HeaderText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for HeaderText {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

/// Shape of a list's items, for the schema.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
enum AddressOrTable {
    /// Only the address.
    Address(String),
    /// Everything.
    Table(UpstreamEntry),
}

/// Reads a list of addresses and tables, with messages that name the field that is wrong.
fn entries<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<UpstreamEntry>, D::Error> {
    struct Item(UpstreamEntry);
    struct ItemVisitor;

    impl<'de> Visitor<'de> for ItemVisitor {
        type Value = Item;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a node's address, or a table with its url")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Item, E> {
            text.parse().map(|url| Item(UpstreamEntry::at(url))).map_err(E::custom)
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Item, A::Error> {
            UpstreamEntry::deserialize(MapAccessDeserializer::new(map)).map(Item)
        }
    }

    impl<'de> Deserialize<'de> for Item {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_any(ItemVisitor)
        }
    }

    let items = Vec::<Item>::deserialize(deserializer)?;
    Ok(items.into_iter().map(|Item(entry)| entry).collect())
}

/// What is wrong with a list of nodes that no single node shows.
pub(super) fn check_nodes(nodes: &[UpstreamEntry]) -> Result<(), String> {
    let mut names = std::collections::BTreeSet::new();
    for node in nodes {
        let name = node.name.as_deref().map_or_else(|| Cow::Owned(node.url.to_string()), Cow::Borrowed);
        if name.is_empty() {
            return Err("has a node with an empty name; leave the name out to have it called after its address".into());
        }
        if !names.insert(name.clone()) {
            return Err(format!("has two nodes called {name:?}; give each a name of its own"));
        }
        if node.username.is_some() != node.password_file.is_some() {
            return Err(format!("node {name:?} needs both username and password_file, or neither"));
        }
        if node.username.is_some() && node.token_file.is_some() {
            return Err(format!("node {name:?} has a password and a token; give one of them"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    //! Proves: both ways to write a node, messages for mistakes, and that secrets do not print.
    use super::*;

    #[test]
    fn a_node_is_an_address_or_a_table() {
        let text = "upstream = [\"http://a:1\", { url = \"http://b:2\", name = \"b\", weight = 3, tier = 1, roles = [\"submit\"] }]";
        let config: SwitcherConfig = toml::from_str(text).unwrap();
        assert_eq!(config.upstream[0], UpstreamEntry::at("http://a:1".parse().unwrap()));
        assert_eq!(config.upstream[1].weight.get(), 3);
        assert_eq!(config.upstream[1].roles, Some(vec![RoleName::Submit]));
        let text = "[[upstream]]\nurl = \"http://a:1\"\n[[upstream]]\nurl = \"http://b:1\"\n";
        assert_eq!(toml::from_str::<SwitcherConfig>(text).unwrap().upstream.len(), 2);
    }

    #[test]
    fn mistakes_in_a_table_are_named() {
        for (text, word) in [
            ("[[upstream]]\nurl = \"http://a:1\"\nweigth = 2\n", "weigth"),
            ("[[upstream]]\nname = \"a\"\n", "url"),
            ("upstream = [\"a:1\"]", "expected a beacon node's address"),
            ("upstream = [3]", "a node's address"),
            ("balance = \"best\"", "best-first"),
            ("doppelganger = \"on\"", "enforce"),
            ("doppelganger_epochs = 0", "nonzero"),
        ] {
            let error = toml::from_str::<SwitcherConfig>(text).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn secrets_do_not_print() {
        let text = "[[upstream]]\nurl = \"http://u:hunter2@a:1/?k=hunter2\"\nheaders = { x-key = \"hunter2\" }\n";
        let config: SwitcherConfig = toml::from_str(text).unwrap();
        for shown in [format!("{config:?}"), toml::to_string(&config).unwrap()] {
            assert!(!shown.contains("hunter2"), "{shown}");
        }
        assert_eq!(config.upstream[0].headers["x-key"].expose(), "hunter2");
    }

    #[test]
    fn lists_with_contradictions_are_refused() {
        let nodes = |text: &str| toml::from_str::<SwitcherConfig>(text).unwrap().upstream;
        assert!(check_nodes(&nodes("upstream = [\"http://a:1\", \"http://b:1\"]")).is_ok());
        for (text, word) in [
            ("upstream = [\"http://a:1\", \"http://a:1\"]", "two nodes"),
            ("[[upstream]]\nurl = \"http://a:1\"\nusername = \"u\"\n", "both"),
            ("[[upstream]]\nurl = \"http://a:1\"\nname = \"\"\n", "empty"),
        ] {
            let error = check_nodes(&nodes(text)).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
