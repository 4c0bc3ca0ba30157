//! `holdfast exits sign`.
//!
//! Guarantees: private keys are used in a vault process and are never in this one; each exit is signed on the road every signature takes, with a permit, so the journal has it before there is a
//! signature; a file appears whole, after the signature was verified; what is there already is checked and stays, so that a
//! run that was cut short can be run again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use eth2_keystore::{EncryptedMessage, KdfChoice, Password};
use holdfast_approvals::{Act, Payload};
use holdfast_domain::{Clock as _, Epoch, PublicKey, SlotClock, UnixMillis};
use holdfast_enclave::DataKey;
use holdfast_enclave::backend::KeyBackend;
use holdfast_enclave::durable::{Existing, create_private_dir, write_private_file};
use holdfast_slashing_db::StoredKey;
use serde_json::json;

use super::super::approvals;
use super::super::args::{ExitsSignArgs, KdfArg};
use super::super::keys::{open_record, operator};
use super::super::{Context, Exit, Failure, Output};
use super::{password, read_exit, resolve, server};
use crate::clock::SystemClock;
use crate::custody::{self, Chain, Custody, CustodyError};
use crate::exits::{ExitChain, Leaver, Named, SignedExit};
use crate::outcome::chain;
use crate::vault::{Backend, ready};

/// Signs what is not there yet.
pub(super) async fn run(args: &ExitsSignArgs, context: &Context) -> Result<Exit, Failure> {
    let password = args.password_file.as_deref().map(password).transpose()?;
    let mut named = match &args.from {
        Some(path) => resolve::list(path)?,
        None => Vec::new(),
    };
    named.extend(args.keys.iter().map(|key| Named { key: Some(*key), index: None }));
    named.extend(
        args.indices.iter().map(|index| Named { index: Some(holdfast_domain::ValidatorIndex(*index)), key: None }),
    );
    if let Some(server) = args.server {
        return through_server(args, named, password.as_ref(), server, context).await;
    }
    let mut custody = open_record(context).await?;
    let ended = on_database(args, named, password.as_ref(), &mut custody, context).await;
    custody.guard.shutdown().await;
    ended
}

/// The present epoch.
fn present(slots: &SlotClock, now: UnixMillis) -> Result<Epoch, Failure> {
    let before = || Failure::message(Exit::Refused, "the chain has not begun, so nobody can leave it");
    slots.epoch_at(now).ok_or_else(before)
}

/// Signs with what is in the database, which no server has open.
async fn on_database(
    args: &ExitsSignArgs,
    named: Vec<Named>,
    password: Option<&Password>,
    custody: &mut Custody,
    context: &Context,
) -> Result<Exit, Failure> {
    let network = custody.network.clone();
    let now = present(&custody.slot_clock, custody.clock.now())?;
    let chain = ExitChain { network: &network, genesis_validators_root: custody.genesis_validators_root, now };
    let mut held: BTreeMap<PublicKey, StoredKey> = BTreeMap::new();
    for stored in custody.guard.active_keys().await.map_err(CustodyError::from)? {
        held.insert(*stored.registration.key(), stored);
    }
    let plan = Plan::new(args, named, held.keys().copied().collect(), password, &chain, context).await?;
    let Plan { missing, mut exit } = plan;
    if missing.is_empty() {
        return Ok(exit);
    }
    let payload = payload(args, &missing, &network.name);
    let pending = approvals::examine_exits(missing.len(), &payload, &args.approval, custody, context).await?;
    custody.open_data_key(&context.config).await?;
    let Some(data_key) = custody.data_key.clone() else {
        return Err(CustodyError::DataKeyLost { keys: missing.len() }.into());
    };
    create_private_dir(&args.out).map_err(|error| Failure::new(Exit::Refused, error))?;
    let _cleared = pending.spend(&args.approval, context).await?;
    let epoch = args.epoch.map_or(now, Epoch);
    let backend = Backend::for_a_command(&context.config, &custody.network).map_err(CustodyError::Backend)?;
    for leaver in missing {
        // Every one is held, as the plan has looked at.
        let Some(stored) = held.remove(&leaver.key) else { continue };
        let signed = sign(&leaver, stored, (custody, &data_key), &backend.place(), (&chain, epoch)).await;
        exit = keep(&leaver, signed, args, password, context.output)?.unwrap_or(exit);
    }
    backend.shutdown();
    context.output.note(WHAT_NEXT);
    Ok(exit)
}

/// Has a running server sign. People's approvals are used up in the database, which the server has open, so none can be
/// brought here.
async fn through_server(
    args: &ExitsSignArgs,
    named: Vec<Named>,
    password: Option<&Password>,
    server: SocketAddr,
    context: &Context,
) -> Result<Exit, Failure> {
    let Chain { network, genesis_validators_root, slot_clock } = custody::chain(&context.config).await?;
    let now = present(&slot_clock, SystemClock.now())?;
    let chain = ExitChain { network: &network, genesis_validators_root, now };
    let server = &server::target(server, &context.config)?;
    let held = server::keys(server).await?;
    let Plan { missing, mut exit } = Plan::new(args, named, held, password, &chain, context).await?;
    let policy = context.config.approvals.policy()?.filter(|policy| policy.needs(Act::BulkExit));
    if policy.is_some_and(|policy| u64::from(policy.bulk_exit_above().0) < missing.len() as u64) {
        let text = "so many exits need approvals, which are used up in the database: stop the server, and give this command without --server";
        return Err(Failure::message(Exit::Refused, text));
    }
    if missing.is_empty() {
        return Ok(exit);
    }
    create_private_dir(&args.out).map_err(|error| Failure::new(Exit::Refused, error))?;
    let epoch = args.epoch.map_or(now, Epoch);
    for leaver in missing {
        let signed = server::sign(server, &leaver, &chain, epoch).await;
        exit = keep(&leaver, signed, args, password, context.output)?.unwrap_or(exit);
    }
    context.output.note(WHAT_NEXT);
    Ok(exit)
}

const WHAT_NEXT: &str = "Whoever has these files can send them from their epoch on, once, and a validator that left does not come \
     back. They stay valid for as long as the network takes exits in the form of Capella (EIP-7044).";

/// Who is left to sign for.
struct Plan {
    missing: Vec<Leaver>,
    /// How the command ends if nothing else goes wrong.
    exit: Exit,
}

impl Plan {
    async fn new(
        args: &ExitsSignArgs,
        mut named: Vec<Named>,
        held: BTreeSet<PublicKey>,
        password: Option<&Password>,
        chain: &ExitChain<'_>,
        context: &Context,
    ) -> Result<Self, Failure> {
        if args.all {
            named.extend(held.iter().map(|key| Named { key: Some(*key), index: None }));
        }
        let mut leavers = resolve::complete(named, context).await?;
        if let Some(percent) = args.percent {
            leavers.truncate(leavers.len().saturating_mul(usize::from(percent)).div_ceil(100));
        }
        let strangers: Vec<&Leaver> = leavers.iter().filter(|one| !held.contains(&one.key)).collect();
        if let Some(first) = strangers.first() {
            let text = format!(
                "{} of the {} keys are not held here, the first is {} (index {}); nothing was signed. `holdfast keys list` shows what is",
                strangers.len(),
                leavers.len(),
                first.key,
                first.index.0
            );
            return Err(Failure::message(Exit::Refused, text));
        }
        let mut plan = Self { missing: Vec::with_capacity(leavers.len()), exit: Exit::Done };
        for leaver in leavers {
            match found(&leaver, &args.out, password, chain) {
                Found::Nothing => plan.missing.push(leaver),
                Found::Good => say(context.output, &leaver, &args.out, "already there", None)?,
                Found::Other(reason) => {
                    plan.exit = Exit::Refused;
                    say(context.output, &leaver, &args.out, "error", Some(&reason))?;
                }
            }
        }
        Ok(plan)
    }
}

/// Writes an exit if there is one, and says what became of it. `Some` is how the command ends if it was not written.
fn keep(
    leaver: &Leaver,
    signed: Result<SignedExit, String>,
    args: &ExitsSignArgs,
    password: Option<&Password>,
    output: Output,
) -> Result<Option<Exit>, Failure> {
    let form = password.map(|password| (password, args.kdf));
    let written = signed.and_then(|signed| write(&signed, &args.out.join(leaver.file_name()), form));
    let status = if written.is_ok() { "signed" } else { "error" };
    say(output, leaver, &args.out, status, written.as_ref().err().map(String::as_str))?;
    Ok(written.is_err().then_some(Exit::Refused))
}

/// What exactly is signed, for people to approve.
fn payload(args: &ExitsSignArgs, leavers: &[Leaver], network: &str) -> Payload {
    let epoch = args.epoch.map_or_else(|| "the present one when they are signed".to_owned(), |epoch| epoch.to_string());
    let form = if args.encrypt { "encrypted (EIP-2335)" } else { "not encrypted" };
    let mut lines = vec![
        format!("Sign voluntary exits of {} validators on {network}.", leavers.len()),
        format!("Valid from epoch: {epoch}"),
        format!("Directory: {}, {form}", args.out.display()),
    ];
    lines.extend(leavers.iter().map(|one| format!("validator {} key {}", one.index.0, one.key)));
    Payload::new(lines)
}

/// What is at the place of a file.
enum Found {
    Nothing,
    Good,
    Other(String),
}

fn found(leaver: &Leaver, out: &Path, password: Option<&Password>, chain_: &ExitChain<'_>) -> Found {
    let path = out.join(leaver.file_name());
    if std::fs::symlink_metadata(&path).is_err() {
        return Found::Nothing;
    }
    let read = read_exit(&path, password).and_then(|exit| exit.verify(leaver, chain_).map_err(|error| chain(&error)));
    match read {
        Ok(()) => Found::Good,
        Err(reason) => {
            Found::Other(format!("{} is there and is something else: {reason}; move it away", path.display()))
        }
    }
}

async fn sign(
    leaver: &Leaver,
    stored: StoredKey,
    (custody, data_key): (&Custody, &DataKey),
    place: &Arc<dyn KeyBackend>,
    (chain_, epoch): (&ExitChain<'_>, Epoch),
) -> Result<SignedExit, String> {
    let intent = chain_.intent(leaver, epoch).map_err(|error| chain(&error))?;
    let permit = custody.guard.authorize(intent, operator()).await.map_err(|refusal| chain(&refusal))?;
    let active = ready(place, data_key, custody.genesis_validators_root, stored).map_err(|error| chain(&error))?;
    let signed = active.sign(permit).await.map_err(|error| chain(&error))?;
    let exit = SignedExit::new(epoch, leaver.index, &signed.signature);
    exit.verify(leaver, chain_).map_err(|error| chain(&error))?;
    Ok(exit)
}

fn write(exit: &SignedExit, path: &Path, form: Option<(&Password, KdfArg)>) -> Result<(), String> {
    let text = match form {
        None => exit.to_text(),
        Some((password, kdf)) => {
            let kdf = match kdf {
                KdfArg::Scrypt => KdfChoice::SCRYPT,
                KdfArg::Pbkdf2 => KdfChoice::PBKDF2,
            };
            let sealed = EncryptedMessage::encrypt(exit.to_text().as_bytes(), password, kdf);
            sealed.map_err(|error| chain(&error))?.to_json()
        }
    };
    write_private_file(path, text.as_bytes(), Existing::Refuse).map_err(|error| chain(&error))
}

fn say(output: Output, leaver: &Leaver, out: &Path, status: &str, reason: Option<&str>) -> Result<(), Failure> {
    let file = out.join(leaver.file_name()).display().to_string();
    let text = match reason {
        None => format!("{} {} {status}: {file}", leaver.index.0, leaver.key),
        Some(reason) => format!("{} {} {status}: {reason}; the others are not affected", leaver.index.0, leaver.key),
    };
    output.result(
        text,
        &json!({
            "validator_index": leaver.index.0.to_string(), "pubkey": leaver.key.to_string(), "status": status.replace(' ', "_"),
            "file": reason.is_none().then_some(file), "reason": reason,
        }),
    )
}
