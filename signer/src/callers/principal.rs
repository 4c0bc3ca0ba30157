//! A caller, with the name the journal keeps of it.

use core::fmt;
use std::sync::Arc;

use holdfast_access::{Builtin, Caller, CallerName, Means};
use holdfast_slashing_db::CallerId;

/// Somebody who asks, once made and then shared by all requests of that caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Principal {
    caller: Caller,
    id: CallerId,
}

impl Principal {
    /// A caller whose name was proved. The journal keeps `name (means)`; of a listener only the name, as nothing was
    /// proved.
    pub(super) fn new(caller: Caller) -> Self {
        let id = match caller.means() {
            Means::Listener => CallerId::new(caller.name().as_str()),
            Means::UnixPeer | Means::Bearer | Means::Basic | Means::Certificate => CallerId::new(&caller.to_string()),
        };
        Self { caller, id }
    }

    /// Whoever reaches a listener without proof, or has the one token of the Keymanager API: the journal keeps the
    /// plain name, which says as much.
    pub(crate) fn builtin(builtin: Builtin) -> Arc<Self> {
        let means = match builtin {
            Builtin::Http | Builtin::HttpUnix | Builtin::Metrics | Builtin::Admin => Means::Listener,
            Builtin::Keymanager => Means::Bearer,
        };
        let caller = Caller::new(builtin.into(), means);
        Arc::new(Self { caller, id: CallerId::new(builtin.as_str()) })
    }

    /// A user of this machine, as the kernel says, at the other end of the admin socket. The journal keeps `uid/1000 (unix)`.
    pub(crate) fn user(uid: u32) -> Arc<Self> {
        let name = CallerName::new(&format!("uid/{uid}")).unwrap_or_else(|_| Builtin::Admin.into());
        Arc::new(Self::new(Caller::new(name, Means::UnixPeer)))
    }

    /// Whoever may send this process a signal, and sent SIGHUP. The journal keeps `sighup`.
    pub(crate) fn hang_up() -> Arc<Self> {
        let caller = Caller::new(Builtin::Admin.into(), Means::Listener);
        Arc::new(Self { caller, id: CallerId::new("sighup") })
    }

    /// The user of this process, who works on the database by a command. The journal keeps `cli:uid=1000`.
    pub(crate) fn operator() -> Arc<Self> {
        let uid = rustix::process::getuid().as_raw();
        let caller = Self::user(uid).caller.clone();
        Arc::new(Self { caller, id: CallerId::new(&format!("cli:uid={uid}")) })
    }

    /// The caller, for policy.
    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Its name in the journal, which says how it was proved, too.
    pub(crate) fn id(&self) -> &CallerId {
        &self.id
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    //! Proves: what the journal keeps of each kind of caller.
    use super::*;

    #[test]
    fn the_journal_keeps_the_name_and_how_it_was_proved() {
        assert_eq!(Principal::builtin(Builtin::Http).id().as_str(), "http");
        assert_eq!(Principal::builtin(Builtin::Keymanager).id().as_str(), "keymanager");
        let caller = Caller::new(CallerName::new("vc-1").unwrap(), Means::Certificate);
        let principal = Principal::new(caller.clone());
        assert_eq!((principal.id().as_str(), principal.caller()), ("vc-1 (certificate)", &caller));
        let longest = Caller::new(CallerName::new(&"a".repeat(128)).unwrap(), Means::Certificate);
        assert!(Principal::new(longest).id().as_str().ends_with("(certificate)"));
    }
}
