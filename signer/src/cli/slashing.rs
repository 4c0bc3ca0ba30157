//! `holdfast slashing status`: what protection knows.

use std::path::Path;

use holdfast_slashing_db::journal::{Head, JournalError, Reader};
use serde_json::json;

use super::keys::{key_heading, key_json, key_line, open_record, provider_name};
use super::{Context, Exit, Failure};
use crate::custody::CustodyError;

/// Prints the watermarks of every key, deleted ones too, and where the journal ends. Fails if the
/// journal cannot be verified.
pub(super) async fn status(context: &Context) -> Result<Exit, Failure> {
    let custody = open_record(context).await?;
    let keys = custody.guard.list().await.map_err(CustodyError::from)?;
    let high = custody.guard.high_watermarks().await.map_err(CustodyError::from)?;
    let provider = provider_name(&custody).await?;
    let journal = journal(context.config.database()?.path());
    custody.guard.shutdown().await;
    let Journal { head, entries } = journal.map_err(|error| Failure::new(Exit::Refused, error))?;
    let number = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    let (slot, source, target) =
        (high.block.map(|slot| slot.0), high.source.map(|epoch| epoch.0), high.target.map(|epoch| epoch.0));
    let mut lines = vec![
        format!("network                  {}", custody.network.name),
        format!("genesis validators root  {}", custody.genesis_validators_root),
        format!("instance                 {}", custody.instance),
        format!("journal                  {entries} entries, verified"),
        format!("journal head             batch {}, hash {}", head.seq, head.hash),
        format!(
            "highest                  block slot {}, source {}, target {}",
            number(slot),
            number(source),
            number(target)
        ),
        String::new(),
        key_heading(),
    ];
    lines.extend(keys.iter().map(key_line));
    context.output.result(
        lines.join("\n"),
        &json!({
            "network": custody.network.name,
            "genesis_validators_root": custody.genesis_validators_root.to_string(),
            "instance": custody.instance.to_string(),
            "journal": { "seq": head.seq, "hash": head.hash.to_string(), "entries": entries, "verified": true },
            "highest": { "block_slot": slot, "source_epoch": source, "target_epoch": target },
            "keys": keys.iter().map(|info| key_json(info, provider.as_deref())).collect::<Vec<_>>(),
        }),
    )?;
    Ok(Exit::Done)
}

/// Where the journal ends, and how many entries it has.
struct Journal {
    head: Head,
    entries: u64,
}

/// Reads the whole journal and verifies each batch on the way: what is printed is proved, not believed.
fn journal(path: &Path) -> Result<Journal, JournalError> {
    let mut reader = Reader::open(path)?;
    let mut entries = 0u64;
    for batch in reader.by_ref() {
        entries = entries.saturating_add(batch?.header.count);
    }
    Ok(Journal { head: reader.head(), entries })
}
