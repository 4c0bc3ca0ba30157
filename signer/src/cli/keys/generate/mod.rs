//! `holdfast keys generate`: new keys, in custody from birth, and the deposits that make validators of them.
//!
//! Guarantees: a private key is made, sealed and used in a vault process and is never in this one, except to write it as a
//! keystore where that is asked for; a new mnemonic is confirmed or in its file before a key of it is registered; what the
//! vault sealed was opened again before it is registered, and keys are registered before anything is signed or written with
//! them; a deposit is signed on the road every signature takes, with a permit, so the journal has it.

mod deposits;
mod place;
mod source;

use eth2_keystore::DerivationPath;
use holdfast_domain::PublicKey;
use holdfast_enclave::ceremony::Outgoing;
use holdfast_enclave::generate::Generated;
use holdfast_slashing_db::journal::{Event, EventKind};
use holdfast_slashing_db::{EntryWatermark, KeyOrigin, Labels, NewKey, RegisterError, Registered, Tombstone};

use super::super::args::{GenerateArgs, GeneratedWatermarkArg};
use super::super::{Context, Exit, Failure};
use super::keystores::{self, Keystores};
use super::report::{Report, Status};
use super::{open_direct, operator};
use crate::custody::{self, Custody, CustodyError};
use deposits::Plan;
use place::Place;
pub(super) use place::Where;
use source::Source;

/// Keys registered in one transaction.
const CHUNK: u32 = 1_000;

/// A key in custody, as the rest of the ceremony needs it.
struct Made {
    outgoing: Outgoing,
    withdrawal_key: Option<PublicKey>,
}

/// Where keys come into being, and where they go.
struct Ceremony<'a> {
    custody: &'a Custody,
    /// Makes them, and signs for them.
    place: &'a Place,
    context: &'a Context,
}

/// Makes, seals and registers the keys; then writes what was asked for.
pub(super) async fn run(args: &GenerateArgs, context: &Context, asked: Where) -> Result<Exit, Failure> {
    let plan = Plan::new(&args.deposit)?;
    source::check(&args.source, plan.as_ref(), context.output)?;
    if args.keystores_to.is_some() && !asked.lets_keys_out() {
        let text =
            "--keystores-to: keys that are made in an enclave leave it sealed only; back up the mnemonic instead";
        return Err(Failure::message(Exit::Usage, text));
    }
    let keystores = match &args.keystores_to {
        Some(dir) => Some(Keystores::new(dir, args.keystore_password_file.as_deref(), args.kdf, context.output)?),
        None => None,
    };
    let mut custody = open_direct(context).await?;
    let place = Place::reach(asked, &mut custody, context).await?;
    let source = Source::new(&args.source, context.output)?;
    if let Source::Tree { first, .. } = &source
        && first.checked_add(args.count.get()).is_none()
    {
        return Err(Failure::message(Exit::Usage, "--first-index: there are not that many places in a mnemonic"));
    }
    let entry = match (args.watermark, &source) {
        (Some(GeneratedWatermarkArg::Now), _) | (None, Source::Tree { existing: true, .. }) => EntryWatermark::Now,
        (Some(GeneratedWatermarkArg::NeverSigned) | None, _) => EntryWatermark::NeverSigned,
    };
    let ceremony = Ceremony { custody: &custody, place: &place, context };
    journal(&custody, &source, args.count.get()).await?;
    let mut report = Report::new(context.output, usize::try_from(args.count.get()).unwrap_or(usize::MAX));
    let made = register(args.count.get(), &source, entry, &ceremony, &mut report).await?;
    let mut exit = report.finish();
    let written = write(&made, plan.as_ref(), keystores, &ceremony).await;
    place.end();
    custody.guard.shutdown().await;
    exit = written?.unwrap_or(exit);
    if matches!(source, Source::Random) {
        context.output.note(
            "These keys belong to no mnemonic and exist only here: for development networks, not for a deposit of value.",
        );
    } else if entry == EntryWatermark::Now {
        context.output.note(
            "Keys of a mnemonic may have signed elsewhere, so these are protected from the present on. Make sure that \
             they sign nowhere else.",
        );
    }
    Ok(exit)
}

/// Writes down that keys are about to be made: before they are.
async fn journal(custody: &Custody, source: &Source, count: u32) -> Result<(), Failure> {
    let event = Event::new(custody.clock.now(), &operator(), EventKind::new("keys.generated"))
        .about("keys/generate")
        .detail(&format!("{count} keys, {}", source.describe()));
    custody.guard.record(event).await.map_err(|error| Failure::new(Exit::Unreachable, error))?;
    Ok(())
}

/// Makes the keys and brings them into custody. Those that were here already are among what is returned: a ceremony
/// that was cut short can be run again for its files.
async fn register(
    count: u32,
    source: &Source,
    entry: EntryWatermark,
    ceremony: &Ceremony<'_>,
    report: &mut Report,
) -> Result<Vec<Made>, Failure> {
    let mut made = Vec::new();
    let Ceremony { custody, place, context } = ceremony;
    for (origin, done, some) in source.origin().parts(count, CHUNK) {
        let mut keys = Vec::new();
        let mut outgoing = Vec::new();
        for (place, Generated { key, sealed, withdrawal_key }) in
            (done..).zip(place.make(origin, some, custody, context)?)
        {
            let path = source.account(place).map(DerivationPath::validator_signing);
            let label = path.as_ref().map(ToString::to_string);
            outgoing.push(Made { outgoing: Outgoing { key, sealed: sealed.clone(), path }, withdrawal_key });
            let new = NewKey {
                key,
                sealed,
                origin: KeyOrigin::Generated,
                label,
                labels: Labels::new(),
                registered_by: operator(),
            };
            keys.push((new, entry));
        }
        let registered = custody.guard.register_many(keys, Tombstone::Refuse);
        let results = registered.await.map_err(CustodyError::from)?;
        for (one, result) in outgoing.into_iter().zip(results) {
            let key = one.outgoing.key;
            if say(report, &key, result)? {
                made.push(one);
            }
        }
    }
    Ok(made)
}

/// Reports one key, and says whether it is in custody now.
fn say(report: &mut Report, key: &PublicKey, result: Result<Registered, RegisterError>) -> Result<bool, Failure> {
    match result {
        Ok(Registered::New(_)) => report.key(Status::Imported, Some(key), None, None)?,
        Ok(Registered::SwitchedOff(_)) => report.key(Status::Imported, Some(key), None, Some(OFF))?,
        Ok(Registered::Duplicate) => report.key(Status::Duplicate, Some(key), None, Some(ALREADY_HERE))?,
        Err(RegisterError::Tombstoned) => {
            report.key(Status::Tombstoned, Some(key), None, Some(DELETED))?;
            return Ok(false);
        }
        Err(RegisterError::AlreadySeen) => {
            report.key(Status::Error, Some(key), None, Some(SEEN))?;
            return Ok(false);
        }
        Err(error) => {
            report.key(Status::Error, Some(key), None, Some(&super::chain(&error)))?;
            return Ok(false);
        }
    }
    Ok(true)
}

const OFF: &str =
    "it is switched off, because the history taken in before says so; `holdfast keys enable` lets it sign";
const ALREADY_HERE: &str = "this key is held already; nothing was changed";
const SEEN: &str =
    "this database knows a history of this key, so it is not new: --watermark now takes it in behind the present";
const DELETED: &str = "this key was deleted here; to bring it back, write it as a keystore and use `holdfast keys import --replace-tombstone`";

/// Writes the files that were asked for. `Some` is how the command ends if not all could be made.
async fn write(
    made: &[Made],
    plan: Option<&Plan>,
    keystores: Option<Keystores>,
    Ceremony { custody, place, context }: &Ceremony<'_>,
) -> Result<Option<Exit>, Failure> {
    let mut exit = None;
    if let Some(plan) = plan.filter(|_| !made.is_empty()) {
        let wanted = deposits::wanted(made, plan)?;
        exit = deposits::write(&wanted, plan, (*custody, *place), context.output).await?.or(exit);
    }
    if let (Some(keystores), Some(data_key)) = (keystores.filter(|_| !made.is_empty()), place.data_key()) {
        keystores::journal(custody, made.iter().map(|one| one.outgoing.key), keystores.dir(), "at generation").await?;
        let outgoing: Vec<&Outgoing> = made.iter().map(|one| &one.outgoing).collect();
        let budget = custody::kdf_budget(&context.config);
        exit = keystores.write(&outgoing, (custody, data_key), &budget)?.or(exit);
    }
    Ok(exit)
}
