//! `holdfast keys export`: keys leave as keystores, together with what they have signed.
//!
//! Guarantees: unless told otherwise the keys are switched off in the transaction that reads their history, so that
//! they can never sign here after they left; each key is in the journal before its file exists; what cannot work is
//! found before a key is switched off.

use std::collections::BTreeSet;

use holdfast_approvals::{Act, Payload};
use holdfast_domain::PublicKey;
use holdfast_enclave::ceremony::Outgoing;
use holdfast_enclave::durable::{Existing, stream_private_file};
use holdfast_slashing_db::{KeyState, Then, Withdraw};
use serde_json::json;

use super::super::approvals;
use super::super::args::{ExportArgs, KdfArg};
use super::super::{Context, Exit, Failure};
use super::keystores::{self, Keystores};
use super::{open_record, operator};
use crate::custody::{self, Custody, CustodyError};
use crate::exchange::write_file;

/// The history that goes with the keystores.
const HISTORY: &str = "slashing_protection.json";

/// Writes keys and their history into a new directory.
pub(super) async fn run(args: &ExportArgs, context: &Context) -> Result<Exit, Failure> {
    let configured = context.config.approvals.policy()?;
    if !configured.is_some_and(|policy| policy.needs(Act::Export)) {
        understood(args)?;
    }
    let mut custody = open_record(context).await?;
    let result = export(args, &mut custody, context).await;
    custody.guard.shutdown().await;
    result
}

/// Where nobody approves, whoever exports must say that the risk is known.
fn understood(args: &ExportArgs) -> Result<(), Failure> {
    if !args.i_understand_that_exported_keys_can_be_slashed_elsewhere {
        return Err(Failure::message(
            Exit::Usage,
            "an exported key can be signed with by anybody who gets its file and password, and nothing here can protect it \
             from that: two signers with one key get the validator slashed. If that is understood, give \
             --i-understand-that-exported-keys-can-be-slashed-elsewhere",
        ));
    }
    Ok(())
}

/// What exactly leaves, for people to approve.
fn payload(args: &ExportArgs, outgoing: &[Outgoing]) -> Payload {
    let kdf = match args.kdf {
        KdfArg::Scrypt => "scrypt",
        KdfArg::Pbkdf2 => "pbkdf2",
    };
    let stay = if args.keep_enabled { "The keys go on signing here." } else { "The keys are switched off here." };
    let mut lines = vec![
        format!(
            "Export {} keys as keystores (EIP-2335, {kdf}), with their slashing protection history.",
            outgoing.len()
        ),
        format!("Directory: {}", args.to.display()),
        stay.to_owned(),
    ];
    let mut keys: Vec<PublicKey> = outgoing.iter().map(|one| one.key).collect();
    keys.sort_unstable();
    lines.extend(keys.iter().map(|key| format!("key {key}")));
    Payload::new(lines)
}

async fn export(args: &ExportArgs, custody: &mut Custody, context: &Context) -> Result<Exit, Failure> {
    let outgoing = chosen(args, custody).await?;
    let payload = payload(args, &outgoing);
    let pending = approvals::examine(&[Act::Export], &payload, &args.approval, custody, context).await?;
    let keystores = Keystores::new(&args.to, args.password_file.as_deref(), args.kdf, context.output)?;
    custody.open_data_key(&context.config).await?;
    let Some(data_key) = custody.data_key.clone() else {
        return Err(CustodyError::DataKeyLost { keys: outgoing.len() }.into());
    };
    if !pending.spend(&args.approval, context).await?.by_people() {
        understood(args)?;
    }
    keystores.make_dir()?;
    let names: Vec<PublicKey> = outgoing.iter().map(|one| one.key).collect();
    // Read and switch off in one transaction: what is in the file covers all they will ever have signed here.
    let then = if args.keep_enabled { Then::Keep } else { Then::Stop(Withdraw::Disable) };
    let history = custody.guard.export(Some(names.clone()), then, &operator()).await.map_err(CustodyError::from)?;
    let disabled = history.iter().filter(|one| !args.keep_enabled && one.before == KeyState::Enabled).count();
    let state = if args.keep_enabled { "left as they are" } else { "switched off" };
    keystores::journal(custody, names.iter().copied(), keystores.dir(), state).await?;
    let path = keystores.dir().join(HISTORY);
    let network = custody.genesis_validators_root;
    stream_private_file(&path, Existing::Refuse, |file| write_file(file, network, &history))
        .map_err(|error| Failure::new(Exit::Refused, error))?;
    let borrowed: Vec<&Outgoing> = outgoing.iter().collect();
    let exit = keystores.write(&borrowed, (custody, &data_key), &custody::kdf_budget(&context.config))?;
    let count = names.len();
    context.output.result(
        format!("{count} keys, {disabled} switched off just now; what they have signed: {}", path.display()),
        &json!({ "exported": count, "disabled": disabled, "slashing_protection": path.display().to_string() }),
    )?;
    context.output.note(if args.keep_enabled {
        "The keys go on signing here, so the history beside them is out of date at once: never sign with these files. To \
         move keys, export without --keep-enabled."
    } else {
        "The keys are switched off here. Import both the keystores and the history where they sign next; after that \
         never enable them here again: `holdfast keys delete` erases them."
    });
    Ok(exit.unwrap_or(Exit::Done))
}

/// The keys to export, each with a secret here.
async fn chosen(args: &ExportArgs, custody: &Custody) -> Result<Vec<Outgoing>, Failure> {
    let stored = custody.guard.active_keys().await.map_err(CustodyError::from)?;
    let labels: std::collections::HashMap<PublicKey, Option<String>> = custody
        .guard
        .list()
        .await
        .map_err(CustodyError::from)?
        .into_iter()
        .map(|info| (info.key, info.label))
        .collect();
    let wanted: Option<BTreeSet<PublicKey>> = (!args.all).then(|| args.keys.iter().copied().collect());
    let outgoing: Vec<Outgoing> = stored
        .into_iter()
        .map(|key| (*key.registration.key(), key.sealed))
        .filter(|(key, _)| wanted.as_ref().is_none_or(|wanted| wanted.contains(key)))
        .map(|(key, sealed)| {
            // Keys made here from a mnemonic are labelled with their place in it.
            let path = labels.get(&key).and_then(Option::as_deref).and_then(|label| label.parse().ok());
            Outgoing { key, sealed, path }
        })
        .collect();
    let held: BTreeSet<PublicKey> = outgoing.iter().map(|one| one.key).collect();
    if let Some(missing) = wanted.iter().flatten().find(|key| !held.contains(key)) {
        let text = format!("{missing} is not held here, so nothing was exported; `holdfast keys list` shows what is");
        return Err(Failure::message(Exit::Refused, text));
    }
    if outgoing.is_empty() {
        return Err(Failure::message(Exit::Refused, "no keys are held here, so there is nothing to export"));
    }
    Ok(outgoing)
}
