//! Deposit data of generated keys: signed with a permit, verified, written in one file.

use std::collections::HashMap;
use std::path::PathBuf;

use holdfast_domain::{PublicKey, SigningIntent, UnixMillis};
use holdfast_enclave::DurableError;
use holdfast_enclave::durable::{Existing, write_private_file};
use serde_json::json;

use super::super::super::args::DepositArgs;
use super::super::super::{Exit, Failure, Output};
use super::super::operator;
use super::Made;
use super::place::Place;
use crate::custody::{Custody, CustodyError};
use crate::deposit::{ACTIVATION, Amount, Credentials, Entry, Withdrawal, message};
use crate::outcome::chain;

/// What is deposited for every key.
pub(super) struct Plan {
    withdrawal: Withdrawal,
    amount: Amount,
    to: PathBuf,
}

impl Plan {
    /// What the options say; `None` if no deposit data is wanted.
    ///
    /// # Errors
    /// [`Failure`] (usage).
    pub(super) fn new(args: &DepositArgs) -> Result<Option<Self>, Failure> {
        let withdrawal = match (args.withdrawal_address, args.compounding, args.bls_withdrawal) {
            (Some(address), true, _) => Withdrawal::Compounding(address),
            (Some(address), false, _) => Withdrawal::Address(address),
            (None, _, true) => Withdrawal::Bls,
            (None, _, false) if args.amount.is_some() => {
                return Err(Failure::message(
                    Exit::Usage,
                    "--amount needs a place for withdrawals: --withdrawal-address 0x…, or --bls-withdrawal",
                ));
            }
            (None, _, false) => return Ok(None),
        };
        let amount = args.amount.unwrap_or(ACTIVATION);
        withdrawal.check(amount).map_err(|error| Failure::message(Exit::Usage, format!("--amount: {error}")))?;
        if !args.deposit_to.is_dir() {
            let text = format!("--deposit-to: {} is not a directory; make it first", args.deposit_to.display());
            return Err(Failure::message(Exit::Usage, text));
        }
        Ok(Some(Self { withdrawal, amount, to: args.deposit_to.clone() }))
    }

    /// Whether withdrawals go to keys of a mnemonic.
    pub(super) fn needs_mnemonic(&self) -> bool {
        Credentials::of_address(self.withdrawal).is_none()
    }
}

/// Which keys get a deposit, and their credentials.
///
/// # Errors
/// [`Failure`] if withdrawal keys are wanted that no mnemonic has.
pub(super) fn wanted(made: &[Made], plan: &Plan) -> Result<Vec<(PublicKey, Credentials)>, Failure> {
    let none =
        || Failure::message(Exit::Usage, "--bls-withdrawal needs a mnemonic: random keys have no withdrawal keys");
    let each = |one: &Made| {
        let credentials = match (Credentials::of_address(plan.withdrawal), one.withdrawal_key) {
            (Some(credentials), _) => credentials,
            (None, Some(key)) => Credentials::of_bls_key(&key),
            (None, None) => return Err(none()),
        };
        Ok((one.outgoing.key, credentials))
    };
    made.iter().map(each).collect()
}

/// Signs the deposits and writes their file. `Some` is how the command ends if some could not be signed.
///
/// # Errors
/// [`Failure`]; the keys stay in custody, and the command can be run again with the same mnemonic.
pub(super) async fn write(
    wanted: &[(PublicKey, Credentials)],
    plan: &Plan,
    (custody, place): (&Custody, &Place),
    output: Output,
) -> Result<Option<Exit>, Failure> {
    let (entries, refused) = sign(wanted, plan.amount, custody, place).await?;
    for (key, reason) in &refused {
        output.note(format!("no deposit for {key}: {reason}"));
    }
    let text = serde_json::to_string(&entries).map_err(|error| Failure::new(Exit::Bug, error))?;
    let path = free(plan, custody.clock.now(), &text)?;
    let network = &custody.network.name;
    output.result(
        format!("deposit data of {} validators on {network}: {}", entries.len(), path.display()),
        &json!({ "deposit_data": path.display().to_string(), "deposits": entries.len(), "refused": refused.len() }),
    )?;
    output.note("Check in it the network and the withdrawal credentials before anybody sends money.");
    Ok((!refused.is_empty()).then_some(Exit::Refused))
}

/// Writes the file under the name of this second, or of the next that is free: a file that is there stays.
fn free(plan: &Plan, now: UnixMillis, text: &str) -> Result<PathBuf, Failure> {
    let seconds = now.0 / 1_000;
    let names = (seconds..seconds.saturating_add(60)).map(|second| plan.to.join(format!("deposit_data-{second}.json")));
    for path in names {
        match write_private_file(&path, text.as_bytes(), Existing::Refuse) {
            Ok(()) => return Ok(path),
            Err(DurableError::Exists { .. }) => {}
            Err(error) => return Err(Failure::new(Exit::Refused, error)),
        }
    }
    Err(Failure::message(
        Exit::Refused,
        "--deposit-to: the directory has a deposit data file for every second of this minute",
    ))
}

/// What was signed, and what was not with the reason.
type Outcome = (Vec<Entry>, Vec<(PublicKey, String)>);

async fn sign(
    wanted: &[(PublicKey, Credentials)],
    amount: Amount,
    custody: &Custody,
    place: &Place,
) -> Result<Outcome, Failure> {
    let credentials: HashMap<PublicKey, Credentials> = wanted.iter().copied().collect();
    let network = &custody.network;
    let (mut entries, mut refused) = (HashMap::new(), Vec::new());
    for stored in custody.guard.active_keys().await.map_err(CustodyError::from)? {
        let key = *stored.registration.key();
        let Some(credentials) = credentials.get(&key).copied() else { continue };
        let intent = SigningIntent::new(key, &message(key, credentials, amount, network), None, None, network)
            .map_err(|error| Failure::new(Exit::Bug, error))?;
        let permit = match custody.guard.authorize(intent, operator()).await {
            Ok(permit) => permit,
            Err(refusal) => {
                refused.push((key, chain(&refusal)));
                continue;
            }
        };
        let active = place.ready(custody, stored)?;
        let signed = active.sign(permit).await.map_err(CustodyError::Backend)?;
        let entry = Entry::new(key, credentials, amount, network, signed.signature.as_bytes());
        entries.insert(key, entry.map_err(|error| Failure::new(Exit::Bug, error))?);
    }
    // In the order of the mnemonic, as the deposit tool has them.
    Ok((wanted.iter().filter_map(|(key, _)| entries.remove(key)).collect(), refused))
}
