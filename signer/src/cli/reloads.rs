//! SIGHUP: what of the configuration can change while all is served (ADR 0036).
//!
//! What it guarantees: everything is read and checked before anything changes, so a mistake changes nothing; what people
//! must approve of it they did, or nothing changes; the policy is in the journal before it takes effect; what needs a restart
//! is said, with both values, and stays as it was.

use std::collections::BTreeMap;

use holdfast_slashing_db::CallerId;
use tracing::{error, info, warn};

use super::approvals;
use crate::app::App;
use crate::config::{Config, Layers, WrittenPolicy, compile_policy, load};
use crate::doors::DoorFiles;
use crate::notify::ServiceManager;
use crate::outcome::chain;
use crate::policy::{Given, Replaced};
use crate::telemetry::Levels;

/// Settings that change without a restart.
const LIVE: [&str; 8] = [
    "policy",
    "groups",
    "telemetry.log",
    "approvals.acts",
    "approvals.approvers",
    "approvals.bulk_exit_above",
    "approvals.lifetime_hours",
    "approvals.threshold",
];

/// What a reload works on.
pub(super) struct Reloads<'a> {
    /// Where the configuration comes from.
    pub(super) layers: &'a Layers,
    /// The one in force.
    pub(super) config: Config,
    /// Callers and certificates.
    pub(super) files: DoorFiles,
}

impl Reloads<'_> {
    /// Reads everything again and takes over what can be, telling the service manager.
    pub(super) async fn reload(&mut self, app: &App, manager: &ServiceManager) {
        manager.reloading();
        self.take_over(app).await;
        manager.reloaded();
    }

    async fn take_over(&mut self, app: &App) {
        let layers = self.layers.clone();
        let read = tokio::task::spawn_blocking(move || read(&layers)).await;
        let (config, written, levels) = match read {
            Ok(Ok(read)) => read,
            Ok(Err(problem)) => return error!("SIGHUP: nothing changes: {problem}"),
            Err(_) => return error!("SIGHUP: nothing changes: this is a bug, please report it"),
        };
        let by = CallerId::new("sighup");
        let _leave = match approvals::of_reload(app, (&config, self.config.data_dir()), &written, &by).await {
            Ok(leave) => leave,
            Err(problem) => return error!("SIGHUP: nothing changes: {problem}"),
        };
        match app.replace_policy(written, &by).await {
            Ok(Replaced::By { rules }) => info!(rules, "SIGHUP: the policy of the configuration is in force"),
            Ok(Replaced::Kept { given: Given { since, by } }) => warn!(
                since = since.rfc3339(),
                by,
                "SIGHUP: the policy stays the one that was given through the admin API; that of the configuration was read, \
                 and counts for nothing until `holdfast policy reset`"
            ),
            Ok(Replaced::Same) => info!("SIGHUP: the policy of the configuration is in force already"),
            Err(refusal) => {
                return error!("SIGHUP: nothing changes, because the change cannot be journaled: {refusal}");
            }
        }
        self.config.policy.clone_from(&config.policy);
        self.config.groups.clone_from(&config.groups);
        self.config.approvals.clone_from(&config.approvals);
        self.log_as(&config, levels);
        self.say_what_waits(&config);
        let files = self.files.clone();
        match tokio::task::spawn_blocking(move || files.reload()).await {
            Ok(Ok(())) => info!("SIGHUP: callers and certificates were read again"),
            Ok(Err(problems)) => {
                for problem in problems {
                    error!("SIGHUP: what it is about stays as it is: {problem}");
                }
            }
            Err(_) => error!("SIGHUP: callers and certificates stay as they are: this is a bug, please report it"),
        }
    }

    fn log_as(&mut self, config: &Config, levels: Levels) {
        let (old, new) = (&self.config.telemetry.log, &config.telemetry.log);
        if old == new {
            return;
        }
        match levels.apply() {
            Ok(()) => {
                info!(old, new, "SIGHUP: telemetry.log is in force");
                self.config.telemetry.log.clone_from(new);
            }
            Err(error) => error!("SIGHUP: telemetry.log stays as it is: {}", chain(&error)),
        }
    }

    /// Names what the configuration says now and this process does not do.
    fn say_what_waits(&self, config: &Config) {
        match self.config.changes(config) {
            Ok(changes) => {
                for change in changes.iter().filter(|change| !LIVE.contains(&change.setting.as_str())) {
                    let (setting, old, new) = (&change.setting, &change.old, &change.new);
                    warn!(setting, old, new, "SIGHUP: this setting needs a restart; until then the old value stays");
                }
            }
            Err(error) => error!("SIGHUP: what needs a restart cannot be told: {}", chain(&error)),
        }
    }
}

/// The configuration, and of it what can be put in force, all checked.
fn read(layers: &Layers) -> Result<(Config, WrittenPolicy, Levels), String> {
    let config = load(layers).map_err(|error| chain(&error))?;
    let written = compile_policy(&config, BTreeMap::new()).map_err(|error| chain(&error))?;
    let levels = Levels::parse(&config.telemetry.log).map_err(|error| chain(&error))?;
    Ok((config, written, levels))
}
