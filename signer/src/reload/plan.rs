//! What a reload would do: everything read and checked, nothing changed.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_access::AdminArea;
use sha2::{Digest as _, Sha256};

use super::{NAMED, Outcome, ReloadError};
use crate::config::live::{APPROVALS, CONSENSUS, EXECUTION, LIVE, POLICY};
use crate::config::{Change, Config, Layers, RulesDigest, WrittenPolicy, compile_policy, load};
use crate::doors::DoorFiles;
use crate::switcher::{Nodes, Running};
use crate::telemetry::Levels;

/// What a signer knows of rules.
pub(super) struct Rules {
    /// The digest of those of the configuration, as they were last read.
    pub(super) configured: RulesDigest,
    /// Who gave those in force through the admin API, if they are not the configuration's.
    pub(super) given_by: Option<String>,
}

impl Outcome {
    /// Rules that were given stay in force: what changes among those of the configuration is remembered and no more.
    pub(super) fn set_rules_aside(&mut self, given_by: &str) {
        let before = self.changed.len();
        self.changed.retain(|change| !change.is_within("policy") && !change.is_within("groups"));
        if self.changed.len() < before {
            self.problems.push(format!(
                "policy: in force are the rules given through the admin API by {given_by}; that of the configuration counts \
                 for nothing until `holdfast policy reset`"
            ));
        }
    }
}

/// A reload that has been thought through.
pub(super) struct Plan {
    /// The configuration to come.
    pub(super) config: Config,
    /// Its policy.
    pub(super) written: WrittenPolicy,
    /// Its levels of logging.
    pub(super) levels: Levels,
    /// Its nodes, where there is a switcher.
    pub(super) nodes: Option<Nodes>,
    /// What will have been done.
    pub(super) outcome: Outcome,
}

impl Plan {
    /// Reads all layers, and every file that a reload would read. `policy` is what is known of rules, where there
    /// is a signer. Blocks.
    ///
    /// # Errors
    /// [`ReloadError`], which names the place of the first mistake.
    pub(super) fn read(
        layers: &Layers,
        in_force: &Config,
        files: &DoorFiles,
        (policy, running): (Option<Rules>, Option<&Running>),
    ) -> Result<Self, ReloadError> {
        let config = load(layers)?;
        let written = compile_policy(&config, BTreeMap::new())?;
        let levels = Levels::parse(&config.telemetry.log)?;
        // What a start would refuse, a reload refuses.
        config.check_signing_api(files.callers.check(&config.callers)? > 0)?;
        let (switcher, pool) = (running.is_some(), running.is_some_and(|running| running.execution().is_some()));
        let nodes = running.map(|_| Nodes::read(&config, pool)).transpose()?;
        let live = |change: &Change| {
            let signer = policy.is_some();
            let lists: [(&[&str], bool); 5] =
                [(&LIVE, true), (&POLICY, signer), (&APPROVALS, signer), (&CONSENSUS, switcher), (&EXECUTION, pool)];
            lists.into_iter().filter(|(_, live)| *live).any(|(list, _)| is_in(change, list))
        };
        let (mut changed, waiting): (Vec<_>, Vec<_>) = in_force.changes(&config)?.into_iter().partition(live);
        let in_text = changed.iter().any(|change| is_in(change, &POLICY));
        let before = policy.as_ref().map(|rules| rules.configured);
        if let Some(before) = before.filter(|before| *before != written.digest && !in_text) {
            changed.push(Change {
                setting: "policy (SHA-256, with the files of groups)".to_owned(),
                old: before.to_string(),
                new: written.digest.to_string(),
            });
        }
        if let (Some(nodes), Some(running)) = (&nodes, running) {
            let secrets = secret_changes(nodes.changed_since(&running.configured()), &changed);
            changed.extend(secrets);
        }
        let file = |setting: String| Change { setting, old: "as last read".to_owned(), new: "changed".to_owned() };
        if files.callers.has_changed() {
            changed.push(file("callers (callers.toml)".to_owned()));
        }
        changed.extend(files.look()?.into_iter().map(|listener| file(format!("{listener}.tls (files)"))));
        let digest = digest(&merged(in_force, &config, &changed));
        let mut outcome = Outcome { changed, waiting, problems: Vec::new(), digest };
        if let Some(by) = policy.and_then(|rules| rules.given_by) {
            outcome.set_rules_aside(&by);
        }
        Ok(Self { config, written, levels, nodes, outcome })
    }

    /// What it would do, for a dry run.
    pub(super) fn take_outcome(&mut self) -> Outcome {
        std::mem::take(&mut self.outcome)
    }

    /// The parts of the admin API that this changes something of. The state of the process is always one of them.
    pub(super) fn areas(&self) -> BTreeSet<AdminArea> {
        let of = |change: &Change| {
            let nodes = is_in(change, &CONSENSUS) || is_in(change, &EXECUTION);
            let policy = is_in(change, &POLICY) || change.is_within("callers");
            let approvals = is_in(change, &APPROVALS).then_some(AdminArea::Approvals);
            policy.then_some(AdminArea::Policy).or(nodes.then_some(AdminArea::Switcher)).or(approvals)
        };
        std::iter::once(AdminArea::Status).chain(self.outcome.changed.iter().filter_map(of)).collect()
    }

    /// For the journal: from which configuration to which, and what changes.
    pub(super) fn said(&self, in_force: &Config) -> String {
        let names: Vec<&str> = self.outcome.changed.iter().map(|change| change.setting.as_str()).collect();
        let (named, others) = names.split_at(NAMED.min(names.len()));
        let more = if others.is_empty() { String::new() } else { format!(" and {} more", others.len()) };
        let what = if names.is_empty() { "nothing".to_owned() } else { named.join(", ") };
        format!("from SHA-256 {} to {}: {what}{more}", digest(in_force), self.outcome.digest)
    }
}

/// Nodes that are configured in another way although nothing that prints says so.
fn secret_changes(nodes: Vec<String>, printed: &[Change]) -> Vec<Change> {
    let told = |name: &String| {
        let places = printed.iter().filter(|change| !change.setting.ends_with(" (order)"));
        places.flat_map(|change| [&change.setting, &change.old, &change.new]).any(|text| text.contains(name))
    };
    let secret = |name| Change {
        setting: format!("switcher.upstream (credentials, headers or files of {name})"),
        old: "as last read".to_owned(),
        new: "changed".to_owned(),
    };
    nodes.into_iter().filter(|name| !told(name)).map(secret).collect()
}

fn is_in(change: &Change, settings: &[&str]) -> bool {
    settings.iter().any(|setting| change.is_within(setting))
}

/// The configuration that would be in force: what changes without a restart is new, all else is old.
fn merged(in_force: &Config, new: &Config, changed: &[Change]) -> Config {
    let mut merged = in_force.clone();
    let says = |setting: &str| changed.iter().any(|change| change.is_within(setting));
    if says("policy") || says("groups") {
        merged.policy.clone_from(&new.policy);
        merged.groups.clone_from(&new.groups);
    }
    if says("approvals") {
        merged.approvals.clone_from(&new.approvals);
    }
    if says("telemetry.log") {
        merged.telemetry.log.clone_from(&new.telemetry.log);
    }
    if says("callers") {
        merged.callers.clone_from(&new.callers);
    }
    if CONSENSUS.iter().any(|setting| says(setting)) {
        merged.switcher.upstream.clone_from(&new.switcher.upstream);
        merged.network.beacon.clone_from(&new.network.beacon);
    }
    if says("execution.upstream") {
        merged.execution.upstream.clone_from(&new.execution.upstream);
    }
    merged
}

/// SHA-256 of a configuration as it prints, in digits: secrets are no part of it.
pub(super) fn digest(config: &Config) -> String {
    // One that cannot be printed cannot be compared either, which is told there.
    let text = toml::to_string(config).unwrap_or_default();
    hex::encode(Sha256::digest(text))
}
