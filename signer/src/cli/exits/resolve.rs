//! Who leaves: from names in a list to an index and a key each.
//!
//! Guarantees: where a beacon node is configured, it must agree with the list; whoever left already is left out.

use std::collections::BTreeMap;
use std::path::Path;

use holdfast_beacon::{Validator, ValidatorId, fetch_validators};
use holdfast_domain::{PublicKey, ValidatorIndex};

use super::super::{Context, Exit, Failure};
use crate::exits::{Leaver, Named, read_list};

/// A list from a file.
///
/// # Errors
/// [`Failure`] (usage).
pub(super) fn list(path: &Path) -> Result<Vec<Named>, Failure> {
    let usage = |error: anyhow::Error, what| {
        Failure::new(Exit::Usage, error.context(format!("--from: {} {what}", path.display())))
    };
    let text = std::fs::read_to_string(path).map_err(|error| usage(error.into(), "cannot be read"))?;
    read_list(&text).map_err(|error| usage(error.into(), "is not a list of validators"))
}

/// Completes what was named, by asking the first beacon node that answers if there is one, and leaves out who leaves
/// already. Ascending by index.
///
/// # Errors
/// [`Failure`] if somebody stays unknown, or the node says otherwise.
pub(super) async fn complete(named: Vec<Named>, context: &Context) -> Result<Vec<Leaver>, Failure> {
    resolve(named, Gone::LeftOut, context).await
}

/// The same for exits that exist: whoever leaves already stays among them.
///
/// # Errors
/// As [`complete`].
pub(super) async fn known(named: Vec<Named>, context: &Context) -> Result<Vec<Leaver>, Failure> {
    resolve(named, Gone::Kept, context).await
}

/// What becomes of validators that leave already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gone {
    LeftOut,
    Kept,
}

async fn resolve(named: Vec<Named>, gone: Gone, context: &Context) -> Result<Vec<Leaver>, Failure> {
    let mut leavers = Vec::with_capacity(named.len());
    if context.config.network.beacon.is_empty() {
        for one in named {
            let (Some(index), Some(key)) = (one.index, one.key) else {
                let text = "the list does not say index and key of everybody; name a beacon node with --beacon URL, which knows them";
                return Err(Failure::message(Exit::Usage, text));
            };
            leavers.push(Leaver { index, key });
        }
        context.output.note("No beacon node was asked (--beacon), so indices are taken as they are in the list.");
    } else {
        let known = ask(&named, context).await?;
        for one in named {
            if let Some(leaver) = known.find(one)? {
                if gone == Gone::LeftOut && known.leaves(&leaver) {
                    let text = format!(
                        "{} (index {}) is on its way out or gone already, and is left out",
                        leaver.key, leaver.index.0
                    );
                    context.output.note(text);
                } else {
                    leavers.push(leaver);
                }
            }
        }
    }
    leavers.sort_unstable_by_key(|leaver| leaver.index);
    leavers.dedup();
    Ok(leavers)
}

/// What a beacon node knows.
struct Known {
    by_index: BTreeMap<ValidatorIndex, Validator>,
    by_key: BTreeMap<PublicKey, ValidatorIndex>,
}

impl Known {
    fn find(&self, named: Named) -> Result<Option<Leaver>, Failure> {
        let unknown = |who: String| {
            Failure::message(Exit::Refused, format!("the beacon node knows no validator {who}; nothing was signed"))
        };
        let index = match (named.index, named.key) {
            (Some(index), _) => index,
            (None, Some(key)) => *self.by_key.get(&key).ok_or_else(|| unknown(key.to_string()))?,
            (None, None) => return Ok(None),
        };
        let found = self.by_index.get(&index).ok_or_else(|| unknown(index.0.to_string()))?;
        match named.key.filter(|key| *key != found.key) {
            Some(key) => {
                let text = format!(
                    "the list says that index {} is {key}, and the beacon node says that it is {}; nothing was signed",
                    index.0, found.key
                );
                Err(Failure::message(Exit::Refused, text))
            }
            None => Ok(Some(Leaver { index, key: found.key })),
        }
    }

    fn leaves(&self, leaver: &Leaver) -> bool {
        self.by_index.get(&leaver.index).is_some_and(Validator::leaves)
    }
}

async fn ask(named: &[Named], context: &Context) -> Result<Known, Failure> {
    let ids: Vec<ValidatorId> =
        named.iter().filter_map(|one| one.index.map(ValidatorId::Index).or(one.key.map(ValidatorId::Key))).collect();
    let mut failure = None;
    for url in &context.config.network.beacon {
        match fetch_validators(url.expose(), &ids).await {
            Ok(validators) => {
                let by_key = validators.iter().map(|one| (one.key, one.index)).collect();
                let by_index = validators.into_iter().map(|one| (one.index, one)).collect();
                return Ok(Known { by_index, by_key });
            }
            Err(error) => {
                failure = Some(
                    anyhow::Error::new(error).context(format!("the beacon node {url} gave no answer about validators")),
                );
            }
        }
    }
    Err(Failure::new(Exit::Unreachable, failure.unwrap_or_else(|| anyhow::anyhow!("no beacon node is configured"))))
}
