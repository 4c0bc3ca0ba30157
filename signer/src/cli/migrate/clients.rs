//! Validator clients that hold their keys themselves: their directories, and what they say the keys have signed.
//!
//! Guarantees: only read; without a history of the client's nothing is moved, and the error says how to get one.

use std::path::PathBuf;

use super::super::args::{ClientArgs, LighthouseArgs};
use super::super::keys::{discover, open_wallets};
use super::super::{Context, Exit, Failure};
use super::past::Origin;
use super::plan::OldSigner;

/// A client whose history comes in a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Client {
    title: &'static str,
    name: &'static str,
    /// The command that writes the file.
    export: &'static str,
}

const LIGHTHOUSE: Client = Client {
    title: "Lighthouse",
    name: "lighthouse",
    export: "lighthouse account validator slashing-protection export interchange.json",
};
pub(super) const LODESTAR: Client = Client {
    title: "Lodestar",
    name: "lodestar",
    export: "lodestar validator slashing-protection export --file interchange.json",
};
pub(super) const NIMBUS: Client =
    Client { title: "Nimbus", name: "nimbus", export: "nimbus_beacon_node slashingdb export interchange.json" };
pub(super) const PRYSM: Client = Client {
    title: "Prysm",
    name: "prysm",
    export: "prysm validator slashing-protection-history export --slashing-protection-export-dir=DIR",
};
pub(super) const TEKU: Client =
    Client { title: "Teku", name: "teku", export: "teku slashing-protection export --to=interchange.json" };

/// Lighthouse: its database is read where it lies, unless a file is given.
///
/// # Errors
/// [`Failure`] (usage).
pub(super) fn lighthouse(args: &LighthouseArgs, context: &Context) -> Result<OldSigner, Failure> {
    if args.client.interchange.is_some() {
        return other(LIGHTHOUSE, &args.client, context);
    }
    #[cfg(feature = "store-sqlite")]
    {
        let inside = args.client.keystores.from.iter().flat_map(|dir| [dir.clone(), dir.join("validators")]);
        let usual: Vec<PathBuf> =
            inside.map(|dir| dir.join("slashing_protection.sqlite")).filter(|path| path.is_file()).collect();
        let path = match (&args.db, usual.as_slice()) {
            (Some(path), _) | (None, [path]) => path.clone(),
            (None, []) => {
                let text = format!(
                    "no slashing_protection.sqlite in the directories of --from; give it with --db, or `{}` and --interchange",
                    LIGHTHOUSE.export
                );
                return Err(Failure::message(Exit::Usage, text));
            }
            (None, _) => {
                let text = "several slashing_protection.sqlite in the directories of --from; move from one at a time";
                return Err(Failure::message(Exit::Usage, text));
            }
        };
        context.output.note(format!("What the keys have signed is read from {}.", path.display()));
        old(LIGHTHOUSE, &args.client, Origin::Lighthouse(path), context)
    }
    #[cfg(not(feature = "store-sqlite"))]
    other(LIGHTHOUSE, &args.client, context)
}

/// Any client, with an interchange file.
///
/// # Errors
/// [`Failure`] (usage) that says how to get the file.
pub(super) fn other(client: Client, args: &ClientArgs, context: &Context) -> Result<OldSigner, Failure> {
    let Some(path) = &args.interchange else {
        let text = format!(
            "what the keys have signed is missing: stop {}, run `{}`, and give the file with --interchange",
            client.title, client.export
        );
        return Err(Failure::message(Exit::Usage, text));
    };
    old(client, args, Origin::File(path.clone()), context)
}

fn old(client: Client, args: &ClientArgs, origin: Origin, context: &Context) -> Result<OldSigner, Failure> {
    let keystores = &args.keystores;
    if let Some(missing) = keystores.from.iter().find(|path| !path.exists()) {
        let text = format!("--from: there is no file or directory {}; check the path", missing.display());
        return Err(Failure::message(Exit::Usage, text));
    }
    let mut found = discover(&keystores.from, keystores.passwords_dir.as_deref());
    open_wallets(&mut found, keystores, context.output)?;
    Ok(OldSigner {
        title: client.title,
        name: client.name,
        settings: Vec::new(),
        elsewhere: Vec::new(),
        off: std::mem::take(&mut found.off),
        found,
        origin,
        passwords: keystores.clone(),
    })
}
