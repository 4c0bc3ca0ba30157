//! What only a person can know: how many keys were meant, and that the old signer cannot sign any more.
//!
//! Guarantees: without a terminal nothing is confirmed that was not given as an option; what can be checked is.

use std::io::{IsTerminal as _, Write as _};

use holdfast_domain::{Clock as _, Slot};
use serde_json::json;

use super::super::args::{Confirmed, MoveArgs};
use super::super::{Context, Exit, Failure, Output};
use super::past::Past;
use super::plan::OldSigner;
use crate::clock::SystemClock;
use crate::custody::Chain;

/// Asks, or hears by option, how many keys move; the plan was printed.
///
/// # Errors
/// [`Failure`] if nobody said it, or another number.
pub(super) fn agree(keys: usize, args: &MoveArgs, output: Output) -> Result<(), Failure> {
    let refused = |text: String| Err(Failure::message(Exit::Refused, text));
    if keys == 0 {
        return refused("no key can move; see above what keeps each of them".to_owned());
    }
    match args.keys {
        Some(given) if given == keys => Ok(()),
        Some(given) => refused(format!("--move says {given}, and the plan says {keys} keys; nothing was moved")),
        None if can_ask(output) => {
            if typed(&format!("Type the number of keys to move them, switched off ({keys}): "), keys) {
                Ok(())
            } else {
                refused("that is not the number of keys; nothing was moved".to_owned())
            }
        }
        None => {
            refused(format!("nothing was moved: give --move {keys} after reading the plan, or run this on a terminal"))
        }
    }
}

/// Shows the checklist, and hears whether it is done.
///
/// # Errors
/// If standard output cannot be written.
pub(super) fn confirmed(
    old: &OldSigner,
    past: &Past,
    keys: usize,
    args: &MoveArgs,
    chain: &Chain,
    context: &Context,
) -> Result<bool, Failure> {
    let output = context.output;
    let by_option = is_enough(&args.confirm, past.fenced.is_some());
    let command = past.fenced.map(|_| fence_command(chain));
    output.result(
        text(old, past, keys, command.as_deref()),
        &json!({ "checklist": {
            "keys_switched_off": keys, "old_signer": old.name, "fence_there": past.fenced, "fence_command": command,
            "confirmed": by_option, "given": args.confirm.iter().map(|one| word(*one)).collect::<Vec<_>>(),
        }}),
    )?;
    if by_option {
        return Ok(true);
    }
    let question = format!("All of this is done. Type the number of keys to let them sign here ({keys}): ");
    if args.confirm.is_empty() && can_ask(output) && typed(&question, keys) {
        return Ok(true);
    }
    let missing = if past.fenced.is_some() {
        "--confirm old-signer-stopped,fence-set (or keys-removed)"
    } else {
        "--confirm old-signer-stopped,keys-removed"
    };
    output.note(format!(
        "Not confirmed: {keys} keys are here and stay switched off. Do what the list says, then give the same command again \
         with {missing}."
    ));
    Ok(false)
}

/// Checks what was said about the old signer's own fence.
///
/// # Errors
/// [`Failure`] if it is not there.
pub(super) fn check_fence(old: &OldSigner, latest: &Past, args: &MoveArgs) -> Result<(), Failure> {
    let claimed = args.confirm.contains(&Confirmed::FenceSet) && !args.confirm.contains(&Confirmed::KeysRemoved);
    if claimed && latest.fenced != Some(true) {
        let text = format!(
            "--confirm fence-set: no high watermark for both slots and epochs is set in the database of {}; set it with the \
             command of the list, or take its keys away (keys-removed); the keys stay switched off",
            old.title
        );
        return Err(Failure::message(Exit::Refused, text));
    }
    Ok(())
}

/// Whether what was given says that the old signer is stopped, and why it could sign nothing if it were started again.
fn is_enough(given: &[Confirmed], has_fence: bool) -> bool {
    given.contains(&Confirmed::OldSignerStopped)
        && (given.contains(&Confirmed::KeysRemoved) || (has_fence && given.contains(&Confirmed::FenceSet)))
}

const fn word(confirmed: Confirmed) -> &'static str {
    match confirmed {
        Confirmed::OldSignerStopped => "old-signer-stopped",
        Confirmed::FenceSet => "fence-set",
        Confirmed::KeysRemoved => "keys-removed",
    }
}

fn text(old: &OldSigner, past: &Past, keys: usize, command: Option<&str>) -> String {
    let title = old.title;
    let fence = match (past.fenced, command) {
        (Some(true), _) => {
            "\n  fence-set           its high watermark is set: it signs nothing at or above it".to_owned()
        }
        (Some(false), Some(command)) => format!(
            "\n  fence-set           its high watermark is set, so that it signs nothing if it is started all the same (not \
             yet: {command})\n  or keys-removed     its keys are taken away from it"
        ),
        _ => "\n  keys-removed        its keys are taken away from it".to_owned(),
    };
    format!(
        "Checklist: {keys} keys are here, switched off. Before they sign here:\n  old-signer-stopped  every {title} with these \
         keys is stopped, and nothing starts it again{fence}"
    )
}

/// The command that lets Web3Signer sign nothing from the next epoch on. Here keys are fenced at the present, so that both
/// meet there.
fn fence_command(chain: &Chain) -> String {
    let per_epoch = chain.slot_clock.slots_per_epoch.get();
    let now = chain.slot_clock.slot_at(SystemClock.now()).unwrap_or(Slot(0));
    let epoch = now.0.checked_div(per_epoch).unwrap_or(0).saturating_add(1);
    let slot = epoch.saturating_mul(per_epoch);
    format!("web3signer … eth2 … watermark-repair --epoch {epoch} --slot {slot} --set-high-watermark")
}

fn can_ask(output: Output) -> bool {
    std::io::stdin().is_terminal() && !output.is_json()
}

/// Asks for a number on the terminal.
fn typed(question: &str, expected: usize) -> bool {
    let mut stderr = std::io::stderr().lock();
    if write!(stderr, "{question}").and_then(|()| stderr.flush()).is_err() {
        return false;
    }
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).is_ok() && answer.trim().parse() == Ok(expected)
}

#[cfg(test)]
mod tests {
    //! Proves: nothing short of both halves is enough, and a fence counts only where there is one.
    use super::*;
    use Confirmed::{FenceSet, KeysRemoved, OldSignerStopped};

    #[test]
    fn both_halves_are_needed() {
        assert!(!is_enough(&[], true));
        assert!(!is_enough(&[OldSignerStopped], true));
        assert!(!is_enough(&[FenceSet, KeysRemoved], true));
        assert!(is_enough(&[OldSignerStopped, FenceSet], true));
        assert!(!is_enough(&[OldSignerStopped, FenceSet], false));
        assert!(is_enough(&[OldSignerStopped, KeysRemoved], false));
    }
}
