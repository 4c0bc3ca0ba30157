//! `holdfast exits verify`.

use std::path::PathBuf;

use holdfast_domain::Clock as _;
use holdfast_domain::ValidatorIndex;
use serde_json::json;

use super::super::args::ExitsVerifyArgs;
use super::super::{Context, Exit, Failure};
use super::{password, read_exit, resolve};
use crate::clock::SystemClock;
use crate::custody;
use crate::exits::{ExitChain, Leaver, Named, SignedExit};
use crate::outcome::chain;

/// Checks every file of a directory.
pub(super) async fn run(args: &ExitsVerifyArgs, context: &Context) -> Result<Exit, Failure> {
    let known = custody::chain(&context.config).await?;
    let password = args.password_file.as_deref().map(password).transpose()?;
    let Some(now) = known.slot_clock.epoch_at(SystemClock.now()) else {
        return Err(Failure::message(Exit::Refused, "the chain has not begun, so nobody can leave it"));
    };
    let files = files(args)?;
    let read: Vec<(PathBuf, Result<SignedExit, String>)> = files
        .into_iter()
        .map(|path| {
            let exit = read_exit(&path, password.as_ref());
            (path, exit)
        })
        .collect();
    let leavers = whose(args, &read, context).await?;
    let chain_ = ExitChain { network: &known.network, genesis_validators_root: known.genesis_validators_root, now };
    let (mut good, mut bad) = (0_usize, 0_usize);
    for (path, exit) in &read {
        let checked = exit.as_ref().map_err(Clone::clone).and_then(|exit| {
            let index = exit.index().map_err(|error| chain(&error))?;
            let leaver = leavers.iter().find(|one| one.index == index);
            let leaver = leaver.ok_or_else(|| format!("validator {} is not in the list", index.0))?;
            exit.verify(leaver, &chain_).map_err(|error| chain(&error))?;
            let epoch = exit.epoch().map_err(|error| chain(&error))?;
            Ok((index, leaver.key, epoch))
        });
        let file = path.display().to_string();
        match checked {
            Ok((index, key, epoch)) => {
                good = good.saturating_add(1);
                let later = if epoch > now { format!(", not before epoch {}", epoch.0) } else { String::new() };
                context.output.result(
                    format!("{file}: good, validator {}{later}", index.0),
                    &json!({
                        "file": file, "valid": true, "validator_index": index.0.to_string(), "pubkey": key.to_string(),
                        "epoch": epoch.0.to_string(),
                    }),
                )?;
            }
            Err(reason) => {
                bad = bad.saturating_add(1);
                let value = json!({ "file": file, "valid": false, "reason": reason });
                context.output.result(format!("{file}: BAD: {reason}"), &value)?;
            }
        }
    }
    context.output.note(format!("{good} good, {bad} bad, on {}", known.network.name));
    Ok(if bad == 0 { Exit::Done } else { Exit::Refused })
}

/// The files, by name; there must be some.
fn files(args: &ExitsVerifyArgs) -> Result<Vec<PathBuf>, Failure> {
    let unreadable = |error: std::io::Error| {
        let text = format!("cannot read the directory {}; check the path", args.dir.display());
        Failure::new(Exit::Usage, anyhow::Error::new(error).context(text))
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&args.dir).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(Failure::message(Exit::Usage, format!("there is no .json file in {}", args.dir.display())));
    }
    Ok(files)
}

/// Who the validators are that the files name: by the list, or by a beacon node.
async fn whose(
    args: &ExitsVerifyArgs,
    read: &[(PathBuf, Result<SignedExit, String>)],
    context: &Context,
) -> Result<Vec<Leaver>, Failure> {
    if let Some(path) = &args.from {
        return resolve::known(resolve::list(path)?, context).await;
    }
    if context.config.network.beacon.is_empty() {
        let text =
            "whose exits should these be? Give --from LIST with indices and keys, or a beacon node with --beacon URL";
        return Err(Failure::message(Exit::Usage, text));
    }
    let mut indices: Vec<ValidatorIndex> =
        read.iter().filter_map(|(_, exit)| exit.as_ref().ok().and_then(|exit| exit.index().ok())).collect();
    indices.sort_unstable();
    indices.dedup();
    let named = indices.into_iter().map(|index| Named { index: Some(index), key: None }).collect();
    resolve::known(named, context).await
}
