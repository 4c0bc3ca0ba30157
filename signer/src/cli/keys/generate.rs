//! `holdfast keys generate`: new random keys for development networks, in custody from birth.

use holdfast_enclave::{generate, seal};
use holdfast_slashing_db::{EntryWatermark, KeyOrigin, NewKey, Registered, Tombstone};

use super::super::args::GenerateArgs;
use super::super::{Context, Exit, Failure};
use super::report::{Report, Status};
use super::{open_direct, operator};
use crate::custody::{Custody, CustodyError};

/// Keys registered in one transaction.
const CHUNK: usize = 1_000;

/// Makes, seals and registers the keys.
pub(super) async fn run(args: &GenerateArgs, context: &Context) -> Result<Exit, Failure> {
    let mut custody = open_direct(context).await?;
    custody.ensure_data_key(&context.config).await?;
    let count = usize::try_from(args.count.get()).unwrap_or(usize::MAX);
    let mut report = Report::new(context.output, count);
    let mut left = count;
    while left > 0 {
        let chunk = left.min(CHUNK);
        let keys = (0..chunk).map(|_| new_key(&custody)).collect::<Result<Vec<_>, _>>()?;
        let names: Vec<_> = keys.iter().map(|(key, _)| key.key).collect();
        let results = custody.guard.register_many(keys, Tombstone::Refuse).await.map_err(CustodyError::from)?;
        for (key, result) in names.iter().zip(results) {
            match result {
                Ok(Registered::New(_) | Registered::SwitchedOff(_)) => {
                    report.key(Status::Imported, Some(key), None, None)?;
                }
                Ok(Registered::Duplicate) => report.key(Status::Duplicate, Some(key), None, None)?,
                Err(error) => report.key(Status::Error, Some(key), None, Some(&super::chain(&error)))?,
            }
        }
        left = left.saturating_sub(chunk);
    }
    custody.guard.shutdown().await;
    let exit = report.finish();
    context.output.note(
        "These keys belong to no mnemonic and exist only here: for development networks, not for a deposit of value.",
    );
    Ok(exit)
}

fn new_key(custody: &Custody) -> Result<(NewKey, EntryWatermark), CustodyError> {
    let Some(data_key) = &custody.data_key else { return Err(CustodyError::DataKeyLost { keys: 0 }) };
    let secret = generate::secret_key()?;
    let sealed = seal::seal(data_key, custody.genesis_validators_root, &secret)?;
    let key = NewKey {
        key: *secret.public_key(),
        sealed,
        origin: KeyOrigin::Generated,
        label: None,
        registered_by: operator(),
    };
    Ok((key, EntryWatermark::NeverSigned))
}
