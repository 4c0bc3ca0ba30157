//! `holdfast backup drill`: a backup that was never restored is a hope.
//!
//! Guarantees: works in a private temporary directory that is deleted in the end, signs nothing, and changes neither
//! the backup nor the data directory. The verdict is good only if every key in the backup opens and is the one it is
//! stored as.

use std::path::{Path, PathBuf};

use holdfast_domain::PublicKey;
use holdfast_enclave::durable::create_private_dir;
use holdfast_enclave::provider::Checked;
use holdfast_enclave::{ceremony, seal};
use serde_json::json;

use super::super::args::BackupDrillArgs;
use super::super::{Context, Exit, Failure};
use super::manifest::Manifest;
use super::restore::put_back;
use super::verify;
use crate::clock::Stopwatch;
use crate::config::{Config, JournalKeep};
use crate::custody::{Custody, CustodyError};
use crate::outcome::chain;

/// Restores into nowhere and opens every key.
pub(super) async fn run(args: &BackupDrillArgs, context: &Context) -> Result<Exit, Failure> {
    let mut watch = Stopwatch::start();
    let (manifest, digest) = verify::required(&args.from)?;
    let verified = watch.lap();
    let dir = Temporary::new(args.work_dir.as_deref())?;
    let config = moved(&context.config, &dir.0);
    let mut restored = put_back(&args.from, args.kek_dir.as_deref(), (&manifest, &digest), &config).await?;
    let put = watch.lap();
    let outcome = unseal(&mut restored.custody, &config).await;
    restored.custody.guard.shutdown().await;
    let outcome = outcome?;
    let opened = watch.lap();
    say(context, &manifest, &outcome, [verified, put, opened])
}

/// The same configuration with everything of its own below another directory.
fn moved(config: &Config, dir: &Path) -> Config {
    let mut config = config.clone();
    config.data.dir = dir.join("data");
    config.database.url = None;
    // Nothing leaves the restored journal for the archive that is in use.
    config.journal.keep = JournalKeep::Forever;
    config
}

/// A private directory that is deleted in the end.
struct Temporary(PathBuf);

impl Temporary {
    fn new(within: Option<&Path>) -> Result<Self, Failure> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| Failure::new(Exit::Unreachable, error))?;
        let within = within.map_or_else(std::env::temp_dir, Path::to_owned);
        let path = within.join(format!("holdfast-drill-{}", hex::encode(random)));
        create_private_dir(&path).map_err(|error| Failure::new(Exit::Refused, error))?;
        Ok(Self(path))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, path = %self.0.display(), "delete this by hand: it is a copy of the backup");
        }
    }
}

/// What opening came to.
struct Outcome {
    providers: Vec<Checked>,
    /// Why the data key does not open; `None` if it does, or if there is none and no key either.
    data_key: Option<String>,
    good: usize,
    bad: Vec<(PublicKey, String)>,
}

impl Outcome {
    fn passed(&self) -> bool {
        self.data_key.is_none() && self.bad.is_empty()
    }
}

async fn unseal(custody: &mut Custody, config: &Config) -> Result<Outcome, Failure> {
    let stored = custody.guard.active_keys().await.map_err(CustodyError::from)?;
    let providers = custody.check_providers(config).await?;
    let opened = custody.open_data_key(config).await;
    let mut outcome = Outcome { providers, data_key: None, good: 0, bad: Vec::new() };
    let data_key = match (opened, custody.data_key.clone()) {
        (Err(error), _) => {
            outcome.data_key = Some(chain(&error));
            return Ok(outcome);
        }
        (Ok(()), None) => {
            let lost = (!stored.is_empty()).then(|| chain(&CustodyError::DataKeyLost { keys: stored.len() }));
            outcome.data_key = lost;
            return Ok(outcome);
        }
        (Ok(()), Some(data_key)) => data_key,
    };
    for key in stored {
        let name = *key.registration.key();
        let proved = seal::open(&data_key, &name, custody.genesis_validators_root, &key.sealed)
            .map_err(|error| chain(&error))
            .and_then(|secret| ceremony::prove(&secret).map_err(|error| chain(&error)));
        match proved {
            Ok(()) => outcome.good = outcome.good.saturating_add(1),
            Err(reason) => outcome.bad.push((name, reason)),
        }
    }
    Ok(outcome)
}

fn say(context: &Context, manifest: &Manifest, outcome: &Outcome, seconds: [f64; 3]) -> Result<Exit, Failure> {
    let [verified, restored, opened] = seconds;
    let verdict = if outcome.passed() { "passed" } else { "failed" };
    let mut lines = vec![
        format!("drill {verdict}: backup of {}", manifest.created),
        format!("  {} keys opened, and are the keys they are stored as", outcome.good),
    ];
    lines.extend(outcome.bad.iter().map(|(key, reason)| format!("  {key} does not open: {reason}")));
    lines.extend(outcome.data_key.iter().map(|reason| format!("  the data key does not open: {reason}")));
    lines.extend(outcome.providers.iter().map(|member| match &member.result {
        Ok(_) => format!("  provider {}: opens it", member.provider),
        Err(error) => format!("  provider {}: does not open it: {}", member.provider, chain(error)),
    }));
    lines.push(format!(
        "  verify {verified:.1} s, restore and fence {restored:.1} s, open {opened:.1} s; nothing was signed"
    ));
    let providers: Vec<_> = outcome
        .providers
        .iter()
        .map(|member| {
            let reason = member.result.as_ref().err().map(|error| chain(error));
            json!({ "provider": member.provider.name(), "opens": reason.is_none(), "reason": reason })
        })
        .collect();
    let bad: Vec<_> =
        outcome.bad.iter().map(|(key, reason)| json!({ "pubkey": key.to_string(), "reason": reason })).collect();
    context.output.result(
        lines.join("\n"),
        &json!({
            "verdict": verdict, "backup_created": manifest.created, "keys_opened": outcome.good, "keys_failed": bad,
            "data_key": outcome.data_key, "providers": providers,
            "seconds": { "verify": verified, "restore": restored, "open": opened },
        }),
    )?;
    let lost = outcome.providers.iter().filter(|member| member.result.is_err()).count();
    if outcome.passed() && lost > 0 {
        context
            .output
            .note("The keys come back, but not every provider would bring them back: mend those that do not.");
    }
    Ok(match (outcome.passed(), outcome.data_key.is_some()) {
        (true, _) if lost == 0 => Exit::Done,
        (false, true) => Exit::Unreachable,
        (_, _) => Exit::Refused,
    })
}
