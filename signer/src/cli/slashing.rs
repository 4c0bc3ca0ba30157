//! `holdfast slashing status` and `fence`: what protection knows, and the way out of a freeze.

use holdfast_slashing_db::journal::{JournalError, Reader};
use holdfast_slashing_db::{Guard, InstanceInfo, ServerInfo};
use serde_json::{Value, json};

use super::args::{FenceArgs, SlashingStatusArgs};
use super::keys::{key_heading, key_json, key_line, open_record, operator, provider_name};
use super::{Context, Exit, Failure};
use crate::clock::rfc3339;
use crate::custody::{self, CustodyError};
use crate::rollback;

/// Prints the watermarks of every key, deleted ones too, and where the journal ends; on request verifies the whole
/// journal, and fails if that fails. While protection is frozen it says why, and ends with the exit code for that.
pub(super) async fn status(args: &SlashingStatusArgs, context: &Context) -> Result<Exit, Failure> {
    let custody = open_record(context).await?;
    let keys = custody.guard.list().await.map_err(CustodyError::from)?;
    let high = custody.guard.high_watermarks().await.map_err(CustodyError::from)?;
    let provider = provider_name(&custody).await?;
    let suspicion = rollback::suspicion(&custody.guard);
    let instances = custody.guard.instances().await.map_err(CustodyError::from)?;
    let server = custody.guard.server().await.map_err(CustodyError::from)?;
    let head = custody.guard.journal_head().await.map_err(CustodyError::from)?;
    let verified = if args.verify {
        Some(custody::open_journal(&context.config, custody.instance)?.and_then(journal))
    } else {
        None
    };
    custody.guard.shutdown().await;
    let verified = verified.transpose().map_err(|error| Failure::new(Exit::Refused, error))?;
    let number = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    let (slot, source, target) =
        (high.block.map(|slot| slot.0), high.source.map(|epoch| epoch.0), high.target.map(|epoch| epoch.0));
    let mut lines = suspicion.map_or_else(Vec::new, |found| rollback::explain(&found, &rfc3339(found.since)));
    if !lines.is_empty() {
        lines.push(String::new());
    }
    lines.extend([
        format!("network                  {}", custody.network.name),
        format!("genesis validators root  {}", custody.genesis_validators_root),
        format!("instance                 {}", custody.instance),
        match &verified {
            Some(Journal { entries }) => format!("journal                  {entries} entries, verified"),
            None => "journal                  not verified; --verify reads all of it".to_owned(),
        },
        format!("journal head             batch {}, hash {}", head.seq, head.hash),
        format!(
            "highest                  block slot {}, source {}, target {}",
            number(slot),
            number(source),
            number(target)
        ),
    ]);
    lines.extend(server.iter().map(server_line));
    lines.extend(instances.iter().map(|instance| {
        let (id, head, seen) = (instance.id, instance.head.seq, rfc3339(instance.last_seen));
        format!(
            "shared with              {id} on {}, {}, batch {head}, last seen {seen}",
            instance.host, instance.version
        )
    }));
    lines.extend([String::new(), key_heading()]);
    lines.extend(keys.iter().map(key_line));
    context.output.result(
        lines.join("\n"),
        &json!({
            "network": custody.network.name,
            "genesis_validators_root": custody.genesis_validators_root.to_string(),
            "instance": custody.instance.to_string(),
            "journal": {
                "seq": head.seq, "hash": head.hash.to_string(),
                "entries": verified.as_ref().map(|journal| journal.entries), "verified": verified.is_some(),
            },
            "server": server.as_ref().map(|server| json!({
                "version": server.version, "synchronous_standbys": server.synchronous_standbys,
            })),
            "instances": instances.iter().map(instance_json).collect::<Vec<_>>(),
            "highest": { "block_slot": slot, "source_epoch": source, "target_epoch": target },
            "state": if suspicion.is_some() { "frozen" } else { "serving" },
            "frozen": suspicion.as_ref().map(rollback::as_json),
            "keys": keys.iter().map(|info| key_json(info, provider.as_deref())).collect::<Vec<_>>(),
        }),
    )?;
    Ok(if suspicion.is_some() { Exit::Frozen } else { Exit::Done })
}

/// Fences keys at the present. All keys, if none is named; that ends a freeze.
pub(super) async fn fence(args: &FenceArgs, context: &Context) -> Result<Exit, Failure> {
    let custody = open_record(context).await?;
    let result = place(args, &custody.guard).await;
    let high = custody.guard.high_watermarks().await.map_err(CustodyError::from)?;
    let left = rollback::suspicion(&custody.guard);
    custody.guard.shutdown().await;
    let fenced = result?;
    let (slot, target) = (high.block.map(|slot| slot.0), high.target.map(|epoch| epoch.0));
    let place = match (slot, target) {
        (Some(slot), Some(target)) => {
            format!("blocks sign above slot {slot}, attestations above target epoch {target}")
        }
        (_, _) => "the chain has not begun, so there is nothing to be behind of".to_owned(),
    };
    let state = if left.is_some() {
        "Protection stays frozen for the other keys; `holdfast slashing fence` without --key fences all."
    } else {
        "Protection is not frozen; the signer can be started."
    };
    context.output.result(
        format!("fenced {fenced} keys: {place}. {state}"),
        &json!({
            "fenced": fenced, "block_slot": slot, "target_epoch": target,
            "state": if left.is_some() { "frozen" } else { "serving" },
        }),
    )?;
    Ok(Exit::Done)
}

async fn place(args: &FenceArgs, guard: &Guard) -> Result<u64, Failure> {
    for key in &args.keys {
        if guard.key_info(key).await.map_err(CustodyError::from)?.is_none() {
            return Err(Failure::message(Exit::Refused, format!("{key} is not registered here; nothing was fenced")));
        }
    }
    let keys = (!args.keys.is_empty()).then(|| args.keys.clone());
    Ok(guard.fence(keys, &operator()).await.map_err(CustodyError::from)?)
}

fn server_line(server: &ServerInfo) -> String {
    let standbys = server.synchronous_standbys.as_deref().map_or_else(
        || "commits wait for no standby, so a fail-over may lose some and freezes the signers".to_owned(),
        |standbys| format!("commits wait for the standbys {standbys}"),
    );
    format!("server                   PostgreSQL {}, {standbys}", server.version)
}

fn instance_json(instance: &InstanceInfo) -> Value {
    json!({
        "id": instance.id.to_string(),
        "host": instance.host,
        "version": instance.version,
        "started": rfc3339(instance.started),
        "last_seen": rfc3339(instance.last_seen),
        "journal": { "seq": instance.head.seq, "hash": instance.head.hash.to_string() },
    })
}

/// A journal that was verified.
struct Journal {
    entries: u64,
}

/// Reads the whole journal and verifies each batch on the way: what is printed is proved, not believed.
fn journal(mut reader: Reader) -> Result<Journal, JournalError> {
    let mut entries = 0u64;
    for batch in reader.by_ref() {
        entries = entries.saturating_add(batch?.header.count);
    }
    Ok(Journal { entries })
}
