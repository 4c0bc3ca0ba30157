//! Which callers there can be, as far as a configuration says.

use holdfast_access::{Builtin, Caller, CallerName, Means};

use crate::callers::CallersFile;
use crate::config::Config;

/// Every caller there can be, where that is known: an authority may vouch for any name.
pub(crate) fn known_callers(config: &Config) -> Option<Vec<Caller>> {
    let file = CallersFile::read(&config.callers_file()).ok()?;
    if config.http.tls.trusts_clients() {
        return None;
    }
    let builtin = |one: Builtin| {
        let name = CallerName::from(one);
        let means = builtin_means(&name)?;
        Some(Caller::new(name, means))
    };
    let entries = || config.callers.iter().chain(&file.callers);
    let without = [Builtin::Http, Builtin::HttpUnix].into_iter().filter(|_| entries().next().is_none());
    let mut all: Vec<Caller> = without.chain([Builtin::Keymanager]).filter_map(builtin).collect();
    for entry in entries() {
        let Ok(name) = entry.caller_name() else { continue };
        let proofs = [
            (Means::Basic, entry.basic_token_sha256.is_empty()),
            (Means::Bearer, entry.bearer_token_sha256.is_empty()),
            (Means::UnixPeer, entry.unix_uids.is_empty()),
            (Means::Certificate, entry.certificate_fingerprints.is_empty() && entry.certificate_subjects.is_empty()),
        ];
        let proofs = proofs.into_iter().filter(|(_, none)| !none);
        all.extend(proofs.map(|(means, _)| Caller::new(name.clone(), means)));
    }
    Some(all)
}

/// How a caller without a configured name comes in.
pub(crate) fn builtin_means(name: &CallerName) -> Option<Means> {
    let builtin = Builtin::ALL.into_iter().find(|builtin| builtin.as_str() == name.as_str())?;
    Some(match builtin {
        Builtin::Http | Builtin::HttpUnix | Builtin::Metrics | Builtin::Admin => Means::Listener,
        Builtin::Keymanager => Means::Bearer,
    })
}
