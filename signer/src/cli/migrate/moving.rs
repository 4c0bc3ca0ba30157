//! The move itself, step by step: histories, keys, checklist, fence, switching on.
//!
//! Guarantees: see the table in [`super`]. A key that was here and signed before goes on signing all the while.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_domain::PublicKey;
use holdfast_slashing_db::Switch;
use holdfast_slashing_db::interchange::{History, Interchange};

use super::super::args::{FenceArgs, ImportArgs, MoveArgs, MoveWatermarkArg, WatermarkArg};
use super::super::interchange::take_in;
use super::super::keys::{self, Candidate, Discovery, Here};
use super::super::{Context, Exit, Failure, Output, Talk, slashing};
use super::checklist;
use super::past::{Past, Purpose};
use super::plan::{Fate, OldSigner, Plan};
use crate::custody::Chain;

/// Keys fenced and switched on at once: as many as fit into a message of the admin API.
const PAGE: usize = 10_000;

/// Moves keys, or shows the plan.
pub(super) async fn run(
    mut old: OldSigner,
    args: &MoveArgs,
    chain: &Chain,
    context: &Context,
) -> Result<Exit, Failure> {
    let output = context.output;
    // What looks and switches says where it works once, and no more.
    let quiet = Context {
        config: context.config.clone(),
        layers: context.layers.clone(),
        output: Output { talk: Talk::Quiet, ..output },
    };
    let here = keys::here(&quiet).await?;
    let past = old.origin.read(Purpose::Look, chain, context).await?;
    let plan = Plan::new(&old, &past, &here, args);
    plan.say(&old, &past, output)?;
    if args.plan {
        output.note("Nothing was changed.");
        return Ok(plan.exit(&old));
    }
    checklist::agree(plan.moving(), args, output)?;
    // Once more, now that it counts: the old signer must not be connected any more.
    let past = old.origin.read(Purpose::TakeIn, chain, context).await?;
    let plan = Plan::new(&old, &past, &here, args);
    let behind = plan.exit(&old);
    protect(&old, &past, &plan, context).await?;
    let brought = bring(&mut old, &past, &plan, args, context).await?;
    let waiting = waiting(&plan, &quiet).await?;
    if waiting.is_empty() {
        output.note("No key waits to be switched on.");
        return Ok(worse(behind, brought));
    }
    if !checklist::confirmed(&old, &past, waiting.len(), args, chain, context)? {
        return Ok(Exit::Refused);
    }
    let latest = old.origin.read(Purpose::TakeIn, chain, context).await?;
    checklist::check_fence(&old, &latest, args)?;
    if latest.interchange != past.interchange {
        protect(&old, &latest, &Plan::new(&old, &latest, &keys::here(&quiet).await?, args), &quiet).await?;
    }
    let mut switched = Exit::Done;
    // A key of which the old signer's protection says nothing is fenced whatever was asked for.
    let complete = |key: &PublicKey| plan.keys.get(key).is_some_and(|one| one.has_history);
    let (unfenced, fenced): (Vec<PublicKey>, Vec<PublicKey>) =
        waiting.into_iter().partition(|key| args.watermark == MoveWatermarkArg::Interchange && complete(key));
    for page in fenced.chunks(PAGE) {
        slashing::fence(&FenceArgs { keys: page.to_vec() }, &quiet).await?;
        switched = worse(switched, keys::enable(page.to_vec(), Switch::Enable, &quiet).await?);
    }
    for page in unfenced.chunks(PAGE) {
        switched = worse(switched, keys::enable(page.to_vec(), Switch::EnableUnfenced, &quiet).await?);
    }
    output.note(
        "The keys sign here from now on. Point the validator clients at this signer; the old one must stay stopped.",
    );
    Ok(worse(worse(behind, brought), switched))
}

/// Takes histories in, in one transaction. Keys that come in later are noted as switched off, so that they come in so.
async fn protect(old: &OldSigner, past: &Past, plan: &Plan, context: &Context) -> Result<(), Failure> {
    let from = &past.interchange;
    let mut validators: BTreeMap<PublicKey, History> = from.iter().map(|(key, history)| (*key, *history)).collect();
    let mut off: BTreeSet<PublicKey> = validators.keys().filter(|key| from.is_switched_off(key)).copied().collect();
    for (key, one) in &plan.keys {
        if one.fate == Fate::Comes || (one.off_there && one.fate == Fate::HereOn) {
            validators.entry(*key).or_default();
            off.insert(*key);
        }
    }
    let marked = Interchange::new(from.genesis_validators_root(), validators).with_switched_off(off);
    if marked.is_empty() { Ok(()) } else { take_in(&marked, past.source.as_ref(), old.name, context).await }
}

/// Brings the keys in. Those without a history begin at the present whatever was asked for.
async fn bring(
    old: &mut OldSigner,
    past: &Past,
    plan: &Plan,
    args: &MoveArgs,
    context: &Context,
) -> Result<Exit, Failure> {
    let (known, unknown): (BTreeSet<PublicKey>, BTreeSet<PublicKey>) =
        (plan.coming(true).copied().collect(), plan.coming(false).copied().collect());
    let mut exit = Exit::Done;
    let kept = match args.watermark {
        MoveWatermarkArg::Now => WatermarkArg::Now,
        MoveWatermarkArg::Interchange => WatermarkArg::Interchange,
    };
    for (some, watermark) in [(known, kept), (unknown, WatermarkArg::Now)] {
        if some.is_empty() {
            continue;
        }
        let of = |candidate: &Candidate| candidate.claimed.is_some_and(|key| some.contains(&key));
        let (candidates, rest) = std::mem::take(&mut old.found.candidates).into_iter().partition(of);
        old.found.candidates = rest;
        let import = ImportArgs {
            keystores: old.passwords.clone(),
            watermark,
            slashing_protection: None,
            labels: Vec::new(),
            replace_tombstone: false,
            approval: args.approval.clone(),
        };
        let found = Discovery::of(candidates);
        exit = worse(exit, keys::bring(found, past.interchange.clone(), &import, context).await?);
    }
    Ok(exit)
}

/// Keys of the plan that move, are here, switched off, and were not off in the old signer.
async fn waiting(plan: &Plan, context: &Context) -> Result<Vec<PublicKey>, Failure> {
    let here = keys::here(context).await?;
    let waits = |key: &PublicKey| here.get(key) == Some(&Here::Off);
    let moved = plan.keys.iter().filter(|(key, one)| one.fate.moves() && !one.off_there && waits(key));
    Ok(moved.map(|(key, _)| *key).collect())
}

fn worse(one: Exit, other: Exit) -> Exit {
    if one == Exit::Done { other } else { one }
}
