//! What a JSON-RPC method means for choosing an execution client, and which methods are passed on at all.
//!
//! Why it exists: reads may go anywhere, transactions must go everywhere, and a filter lives in one node only.
//! What it guarantees: a method that is not allowed is never sent to a node; methods by which a node would
//! sign or be administered are allowed only when they are named whole.

use std::collections::BTreeSet;

/// How a method is handled. Source of the list: execution-apis (`eth`), Geth's documentation (`net`, `web3`, filters).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MethodKind {
    /// Any healthy node may answer, and another one may be asked again.
    Read,
    /// Goes to every node; the first that accepts it answers.
    Broadcast,
    /// Makes a filter, which lives in the node that made it.
    NewFilter,
    /// Asks for or removes a filter; its first parameter is the filter's id.
    UseFilter,
    /// Starts a subscription; WebSocket only.
    Subscribe,
    /// Ends a subscription; WebSocket only.
    Unsubscribe,
}

impl MethodKind {
    /// Every kind, in order of declaration.
    pub const ALL: [Self; 6] =
        [Self::Read, Self::Broadcast, Self::NewFilter, Self::UseFilter, Self::Subscribe, Self::Unsubscribe];

    /// Name for labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Broadcast => "broadcast",
            Self::NewFilter => "new_filter",
            Self::UseFilter => "use_filter",
            Self::Subscribe => "subscribe",
            Self::Unsubscribe => "unsubscribe",
        }
    }

    fn of(method: &str) -> Self {
        match method {
            "eth_sendRawTransaction" | "eth_sendRawTransactionConditional" | "eth_sendRawTransactionSync" => {
                Self::Broadcast
            }
            "eth_newFilter" | "eth_newBlockFilter" | "eth_newPendingTransactionFilter" => Self::NewFilter,
            "eth_getFilterChanges" | "eth_getFilterLogs" | "eth_uninstallFilter" => Self::UseFilter,
            "eth_subscribe" => Self::Subscribe,
            "eth_unsubscribe" => Self::Unsubscribe,
            _ => Self::Read,
        }
    }
}

/// Namespaces that administer a node or drive its chain: no pattern covers them.
const GUARDED_NAMESPACES: [&str; 7] = ["engine", "admin", "debug", "personal", "miner", "clique", "testing"];

/// Methods with which a node signs with keys of its own: no pattern covers them.
const GUARDED_METHODS: [&str; 6] = [
    "eth_sign",
    "eth_signTransaction",
    "eth_signTypedData",
    "eth_signTypedData_v4",
    "eth_sendTransaction",
    "eth_setEtherbase",
];

/// A pattern that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no method: write one like \"eth_call\", or \"eth_*\" for all of a namespace")]
pub struct BadPattern(pub String);

/// Which methods are passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MethodPolicy {
    exact: BTreeSet<String>,
    prefixes: Vec<String>,
}

impl MethodPolicy {
    /// Reads method names and prefixes that end in `*`.
    ///
    /// # Errors
    /// [`BadPattern`] with the first one that is neither.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, BadPattern> {
        let mut policy = Self { exact: BTreeSet::new(), prefixes: Vec::new() };
        for pattern in patterns {
            let (name, is_prefix) = pattern.strip_suffix('*').map_or((pattern, false), |prefix| (prefix, true));
            let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if !plain || !name.contains('_') {
                return Err(BadPattern(pattern.to_owned()));
            }
            if is_prefix {
                policy.prefixes.push(name.to_owned());
            } else {
                policy.exact.insert(name.to_owned());
            }
        }
        Ok(policy)
    }

    /// How to handle a method; `None` if it is not passed on.
    pub fn judge(&self, method: &str) -> Option<MethodKind> {
        let namespace = method.split_once('_').map(|(namespace, _)| namespace);
        let guarded = GUARDED_METHODS.contains(&method)
            || namespace.is_some_and(|namespace| GUARDED_NAMESPACES.contains(&namespace));
        let covered = !guarded && self.prefixes.iter().any(|prefix| method.starts_with(prefix.as_str()));
        (covered || self.exact.contains(method)).then(|| MethodKind::of(method))
    }
}

#[cfg(test)]
mod tests {
    //! Proves: what the default allows, that guarded methods need their whole name, and how methods are handled.
    use super::*;

    fn default() -> MethodPolicy {
        MethodPolicy::new(["eth_*", "net_*", "web3_*"]).unwrap()
    }

    #[test]
    fn nodes_are_not_administered_and_do_not_sign() {
        for method in [
            "engine_newPayloadV3",
            "admin_addPeer",
            "debug_traceBlock",
            "personal_unlockAccount",
            "miner_start",
            "eth_sign",
            "eth_sendTransaction",
            "eth_signTransaction",
            "txpool_content",
            "nonsense",
            "",
        ] {
            assert_eq!(default().judge(method), None, "{method}");
        }
        let all = MethodPolicy::new(["eth_*", "debug_*", "admin_*", "engine_*"]).unwrap();
        assert_eq!(all.judge("debug_traceBlock"), None);
        let named = MethodPolicy::new(["debug_traceTransaction", "eth_sign"]).unwrap();
        assert_eq!(named.judge("debug_traceTransaction"), Some(MethodKind::Read));
        assert_eq!(named.judge("eth_sign"), Some(MethodKind::Read));
        assert_eq!(named.judge("debug_traceBlock"), None);
        assert_eq!(named.judge("eth_call"), None);
    }

    #[test]
    fn methods_are_handled_by_what_they_mean() {
        for (method, kind) in [
            ("eth_call", MethodKind::Read),
            ("eth_blockNumber", MethodKind::Read),
            ("net_version", MethodKind::Read),
            ("eth_sendRawTransaction", MethodKind::Broadcast),
            ("eth_newBlockFilter", MethodKind::NewFilter),
            ("eth_getFilterChanges", MethodKind::UseFilter),
            ("eth_uninstallFilter", MethodKind::UseFilter),
            ("eth_subscribe", MethodKind::Subscribe),
            ("eth_unsubscribe", MethodKind::Unsubscribe),
        ] {
            assert_eq!(default().judge(method), Some(kind), "{method}");
        }
    }

    #[test]
    fn patterns_that_are_none_are_refused() {
        for pattern in ["*", "eth", "eth_*call", "eth call", ""] {
            assert_eq!(MethodPolicy::new([pattern]), Err(BadPattern(pattern.to_owned())));
        }
    }
}
