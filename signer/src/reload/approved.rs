//! What people must approve of a configuration that is read again while the server runs: other rules for callers, other
//! approvers.
//!
//! Guarantees: nothing is used up before all of it is approved; a request is written where the operator is told, and what
//! people signed is taken from one place, to which `holdfast approvals bring` writes it.

use std::path::{Path, PathBuf};

use holdfast_approvals::{Act, Request};
use holdfast_enclave::DurableError;
use holdfast_enclave::durable::{Existing, create_private_dir, write_private_file};
use holdfast_slashing_db::CallerId;

use crate::approval::{self, Blocked, Brought, Cleared};
use crate::config::{Config, WrittenPolicy};
use crate::outcome::chain;
use crate::policy::PolicyStore;

/// The acts that a reload can be.
pub(crate) const ACTS: [Act; 2] = [Act::Policy, Act::Approvers];

/// Leave to take over a configuration, to be kept until that is done.
#[must_use]
pub(super) struct Leave {
    _policy: Option<Cleared>,
}

/// Asks whether what a configuration changes may be, and puts its approvers in force if they are others.
///
/// # Errors
/// What to do, for the log. Nothing was changed.
pub(super) async fn leave(
    (approvals, policy): (&approval::Gate, &PolicyStore),
    (config, data_dir): (&Config, &Path),
    written: &WrittenPolicy,
    by: &CallerId,
) -> Result<Leave, String> {
    let place = Place::within(data_dir);
    let approvers = config.approvals.policy().map_err(|error| chain(&error))?;
    let mut problems = Vec::new();
    // Those of the running server are in force, also if nothing asked for them yet.
    match approvals.in_force(by).await {
        Ok(_) | Err(Blocked::Changed { .. }) => {}
        Err(blocked) => return Err(chain(&blocked)),
    }
    // Both are asked of the people in force until now.
    let change = policy.replaced_by(written);
    let change = change.map(|(said, groups)| approval::of_rules((&said, &groups), written, approval::Way::Reload));
    let policy = match change {
        None => None,
        Some(payload) => {
            match approvals.examine(&[Act::Policy], &payload, place.brought(Act::Policy)?.as_ref(), by).await {
                Ok(examined) => Some(examined),
                Err(blocked) => {
                    problems.push(place.say(Act::Policy, &blocked)?);
                    None
                }
            }
        }
    };
    let change = approvals.examine_change(approvers, place.brought(Act::Approvers)?.as_ref(), by).await;
    let change = match change {
        Ok(change) if problems.is_empty() => change,
        Ok(_) => return Err(problems.join("; ")),
        Err(blocked) => {
            problems.push(place.say(Act::Approvers, &blocked)?);
            return Err(problems.join("; "));
        }
    };
    let policy = match policy {
        None => None,
        Some(examined) => {
            let cleared = approvals.spend(examined, by).await.map_err(|blocked| chain(&blocked))?;
            place.clear(Act::Policy);
            Some(cleared)
        }
    };
    let adopted = approvals.change(change, by).await.map_err(|blocked| chain(&blocked))?;
    if adopted == crate::approval::Adopted::Now {
        tracing::info!(%by, "the approvers of the configuration are in force");
        place.clear(Act::Approvers);
    }
    Ok(Leave { _policy: policy })
}

/// Writes what people signed to where a reload takes it from.
///
/// # Errors
/// That it cannot be written.
pub(crate) fn bring(data_dir: &Path, brought: &Brought) -> Result<PathBuf, DurableError> {
    let place = Place::within(data_dir);
    create_private_dir(&place.0)?;
    let path = place.of(brought.request.act);
    write_private_file(&path, brought.to_text().as_bytes(), Existing::Replace)?;
    Ok(path)
}

/// Where requests of reloads are written, and what people signed is taken from.
struct Place(PathBuf);

impl Place {
    fn within(data_dir: &Path) -> Self {
        Self(data_dir.join("approvals"))
    }

    fn of(&self, act: Act) -> PathBuf {
        self.0.join(format!("{act}.txt"))
    }

    /// What was brought for an act.
    fn brought(&self, act: Act) -> Result<Option<Brought>, String> {
        let path = self.of(act);
        if !path.exists() {
            return Ok(None);
        }
        let cannot = |why: String| format!("{} cannot be used: {why}; take it away, or bring others", path.display());
        let text = std::fs::read_to_string(&path).map_err(|error| cannot(error.to_string()))?;
        Brought::from_text(&text).map(Some).map_err(|error| cannot(chain(&error)))
    }

    /// What keeps an act from happening, and what to do; a request is written.
    fn say(&self, act: Act, blocked: &Blocked) -> Result<String, String> {
        let Blocked::Needed { request, .. } = blocked else {
            let brought = self.of(act);
            let again = if brought.exists() {
                format!("; take {} away, or bring others, and reload again", brought.display())
            } else {
                String::new()
            };
            return Ok(format!("{act}: {}{again}", chain(blocked)));
        };
        let path = self.write(request)?;
        Ok(format!(
            "{act}: {blocked}. The request is {}; when they have signed it, give `holdfast approvals bring` the file and \
             what they made, and reload again",
            path.display()
        ))
    }

    fn write(&self, request: &Request) -> Result<PathBuf, String> {
        let path = self.0.join(approval::file_name(request));
        let written = create_private_dir(&self.0)
            .and_then(|()| write_private_file(&path, request.to_text().as_bytes(), Existing::Refuse));
        written.map_err(|error| format!("the request for approvals cannot be written: {}", chain(&error)))?;
        Ok(path)
    }

    /// Takes away what was used, and the requests that came before it.
    fn clear(&self, act: Act) {
        let requests = approval::requests_of(act);
        let used = self.of(act);
        let files = std::fs::read_dir(&self.0).into_iter().flatten().flatten().map(|entry| entry.path());
        for path in files.filter(|path| *path == used || is_named(path, &requests)) {
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::warn!(%error, path = %path.display(), "what was used of an approval cannot be taken away");
            }
        }
    }
}

fn is_named(path: &Path, before: &str) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(before))
}
