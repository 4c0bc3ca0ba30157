//! Which settings a running server takes over when it reads its configuration again. The reload decides by these lists, and
//! the reference of settings is made from them, so that it cannot say anything else.

/// Where the policy stands in the configuration.
pub(crate) const POLICY: [&str; 2] = ["policy", "groups"];

/// Who approves dangerous acts: live where there is a signer.
pub(crate) const APPROVALS: [&str; 1] = ["approvals"];

/// Settings that change without a restart in every process.
pub(crate) const LIVE: [&str; 2] = ["callers", "telemetry.log"];

/// Consensus clients in the configuration: live where there is a switcher.
pub(crate) const CONSENSUS: [&str; 2] = ["switcher.upstream", "network.beacon"];

/// Execution clients: live where there is a pool of them.
pub(crate) const EXECUTION: [&str; 1] = ["execution.upstream"];

/// What only commands read, each time anew.
const OF_COMMANDS: [&str; 1] = ["remote"];

/// When another value of a setting counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counts {
    /// From the next command on.
    AtOnce,
    /// From a reload on.
    AfterReload,
    /// From a restart on.
    AfterRestart,
}

/// When another value of this setting, `section.key`, counts.
pub(crate) fn counts(setting: &str) -> Counts {
    let is_in = |places: &[&str]| places.iter().any(|place| is_within(setting, place));
    let live: [&[&str]; 5] = [&POLICY, &APPROVALS, &LIVE, &CONSENSUS, &EXECUTION];
    if live.into_iter().any(is_in) {
        Counts::AfterReload
    } else if is_in(&OF_COMMANDS) {
        Counts::AtOnce
    } else {
        Counts::AfterRestart
    }
}

/// Whether a setting is this section or setting, or within it.
pub(crate) fn is_within(setting: &str, place: &str) -> bool {
    let rest = setting.strip_prefix(place);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[', ' ']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_count_when_a_reload_says_so() {
        for setting in ["callers.name", "telemetry.log", "policy.name", "switcher.upstream.url", "network.beacon"] {
            assert_eq!(counts(setting), Counts::AfterReload, "{setting}");
        }
        for setting in ["telemetry.format", "http.listen", "switcher.listen", "network.name", "http.tls.key"] {
            assert_eq!(counts(setting), Counts::AfterRestart, "{setting}");
        }
        assert_eq!(counts("remote.server"), Counts::AtOnce);
    }
}
