//! Web3Signer as it is set up here: its settings, its keys, and where its database is.
//!
//! Guarantees: only read, its secret stores too, but for a configuration file that was asked for; options given here win
//! over its settings, because paths of a container are not paths of this machine. No password is shown.

use std::path::{Path, PathBuf};

use holdfast_enclave::durable::{Existing, write_private_file};
use holdfast_migrate::web3signer::{Becomes, Settings, Sources, Translation, environment_file, read, translate};
use holdfast_secret::SecretText;

use super::super::args::{KeystoresArgs, Web3SignerArgs};
use super::super::keys::{BulkPasswords, secret_text, web3signer};
use super::super::{Context, Exit, Failure};
use super::past::Origin;
use super::plan::OldSigner;
use super::secrets;
use crate::config::NetworkChoice;
use crate::outcome::chain;

/// Largest file of settings, in bytes.
const MAX_SETTINGS_BYTES: u64 = 1024 * 1024;

/// Looks at it. Its database is read later.
///
/// # Errors
/// [`Failure`] (usage) that names the option, file or line.
pub(super) async fn look(
    args: &Web3SignerArgs,
    old_config: Option<&Path>,
    context: &Context,
) -> Result<OldSigner, Failure> {
    let settings = settings(args, old_config)?;
    let Translation { lines, toml } = translate(&settings).map_err(|error| Failure::new(Exit::Usage, error))?;
    if let Some(path) = &args.write_config {
        write_private_file(path, toml.as_bytes(), Existing::Refuse)
            .map_err(|error| Failure::new(Exit::Usage, anyhow::Error::new(error).context("--write-config")))?;
        context.output.note(format!("Wrote {}: read it before you use it.", path.display()));
    }
    for line in &lines {
        if let ("network", Becomes::Setting { value, .. }) = (line.name, &line.becomes) {
            same_network(value.trim_matches('"'), &context.config.network.name)?;
        }
    }
    let (key_files, bulk) = (key_files(args, &settings), bulk(args, &settings)?);
    let mut switches = ["aws-secrets-enabled", "azure-vault-enabled", "gcp-secrets-enabled"].into_iter();
    let of_store = switches.any(|switch| settings.switch(switch, false) == Ok(true));
    if key_files.is_none() && bulk.is_none() && !of_store {
        return Err(usage(
            "where Web3Signer's keys are is not known: give --key-config DIR (without the setting, that is the directory in \
             which Web3Signer is started), or --keystores DIR",
        ));
    }
    let found = web3signer(key_files.as_deref(), bulk.as_ref().map(|(dir, passwords)| (dir.as_path(), passwords)));
    let mut found = found.map_err(|(path, error)| {
        let text = format!(
            "cannot read the directory {}: {error}; if Web3Signer runs in a container, give the directory of this machine \
             with --key-config or --keystores",
            path.display()
        );
        Failure::message(Exit::Usage, text)
    })?;
    let origin = origin(args, &settings, context)?;
    let elsewhere = secrets::fetch(&mut found, &settings, args, context).await?;
    Ok(OldSigner {
        title: "Web3Signer",
        name: "web3signer",
        settings: lines,
        found,
        elsewhere,
        off: Vec::new(),
        origin,
        passwords: KeystoresArgs::default(),
    })
}

fn usage(text: impl std::fmt::Display) -> Failure {
    Failure::message(Exit::Usage, text)
}

/// The settings in force there.
fn settings(args: &Web3SignerArgs, old_config: Option<&Path>) -> Result<Settings, Failure> {
    let path = match (&args.config_file, old_config) {
        (Some(_), Some(_)) => {
            return Err(usage("--config and --config-file both name a file of Web3Signer's; give one"));
        }
        (Some(path), None) => Some(path.as_path()),
        (None, path) => path,
    };
    let file = path.map(|path| text_of(path, "Web3Signer's configuration")).transpose()?;
    let environment = match &args.env_file {
        Some(path) => environment_file(text_of(path, "--env-file")?.expose())
            .map_err(|error| usage(format!("{}: {}", path.display(), chain(&error))))?,
        None => std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with("WEB3SIGNER_"))
            .map(|(name, value)| (name, SecretText::new(value)))
            .collect(),
    };
    let sources =
        Sources { file: file.as_ref().map(SecretText::expose), environment: &environment, arguments: &args.arguments };
    read(sources).map_err(|error| usage(format!("Web3Signer's settings: {}", chain(&error))))
}

/// A file that may hold passwords.
fn text_of(path: &Path, what: &str) -> Result<SecretText, Failure> {
    secret_text(path, MAX_SETTINGS_BYTES)
        .map_err(|error| usage(format!("{what}: cannot read {}: {error}; check the path", path.display())))
}

/// Refuses to move keys of one network to a signer of another. Networks in files are told apart by their databases.
fn same_network(there: &str, here: &NetworkChoice) -> Result<(), Failure> {
    let Ok(NetworkChoice::Builtin(there)) = there.parse::<NetworkChoice>() else { return Ok(()) };
    match here {
        NetworkChoice::Builtin(here) if *here != there => Err(usage(format!(
            "Web3Signer signs for {there}, and this signer is set up for {here}: give --network {there}"
        ))),
        NetworkChoice::Builtin(_) | NetworkChoice::File(_) => Ok(()),
    }
}

fn path_of(settings: &Settings, name: &str) -> Option<PathBuf> {
    settings.text(name).map(|text| PathBuf::from(text.expose()))
}

fn key_files(args: &Web3SignerArgs, settings: &Settings) -> Option<PathBuf> {
    args.key_config.clone().or_else(|| path_of(settings, "key-config-path"))
}

/// The directory of keystores, and their passwords.
fn bulk(args: &Web3SignerArgs, settings: &Settings) -> Result<Option<(PathBuf, BulkPasswords)>, Failure> {
    let Some(dir) = args.keystores.clone().or_else(|| path_of(settings, "keystores-path")) else { return Ok(None) };
    let (given, set) = (
        (args.keystores_passwords.clone(), args.keystores_password_file.clone()),
        (path_of(settings, "keystores-passwords-path"), path_of(settings, "keystores-password-file")),
    );
    let passwords = match (given, set) {
        ((Some(dir), _), _) | ((None, None), (Some(dir), None)) => BulkPasswords::Directory(dir),
        ((None, Some(file)), _) | ((None, None), (None, Some(file))) => BulkPasswords::File(file),
        ((None, None), _) => {
            return Err(usage(
                "the passwords of the directory of keystores are missing, or named twice: give --keystores-passwords DIR or \
                 --keystores-password-file FILE, beside --keystores DIR",
            ));
        }
    };
    Ok(Some((dir, passwords)))
}

/// Where its database is.
#[cfg(feature = "store-postgres")]
fn origin(args: &Web3SignerArgs, settings: &Settings, context: &Context) -> Result<Origin, Failure> {
    use holdfast_migrate::web3signer::{DatabaseAddress, database_address};
    use holdfast_slashing_db::PostgresOptions;

    let enabled = settings.switch("slashing-protection-enabled", true);
    let Some(url) = args.db.as_ref().or_else(|| settings.text("slashing-protection-db-url")) else {
        return if enabled.map_err(|error| Failure::new(Exit::Usage, error))? {
            Err(usage(
                "where Web3Signer's database is is not known: give --db URL. If it ran without one, say so behind --: \
                 `-- eth2 --slashing-protection-enabled=false`",
            ))
        } else {
            Ok(Origin::Nowhere)
        };
    };
    let given = args.db_password_file.as_deref().map(crate::custody::database_password).transpose()?;
    let password = given.or_else(|| settings.text("slashing-protection-db-password").cloned());
    let user =
        args.db_user.as_deref().or_else(|| settings.text("slashing-protection-db-username").map(SecretText::expose));
    let plain = url.expose().starts_with("postgres://") || url.expose().starts_with("postgresql://");
    let DatabaseAddress { url, password } = if plain {
        if args.db_user.is_some() {
            return Err(usage(
                "--db-user goes with a JDBC address; put the role into this one: postgres://ROLE@HOST/DATABASE",
            ));
        }
        DatabaseAddress { url: url.expose().to_owned(), password: given_only(args, password) }
    } else {
        database_address(url, user, password.as_ref()).map_err(|error| usage(format!("--db: {error}")))?
    };
    let mut options = PostgresOptions::new(url);
    options.password = password;
    options.connect_timeout = std::time::Duration::from_millis(context.config.database.connect_timeout_ms.get());
    Ok(Origin::Web3Signer(Box::new(options)))
}

/// Beside an address of PostgreSQL's own form, which may hold a password, only a password that was given for it counts.
#[cfg(feature = "store-postgres")]
fn given_only(args: &Web3SignerArgs, password: Option<SecretText>) -> Option<SecretText> {
    password.filter(|_| args.db_password_file.is_some())
}

/// Without PostgreSQL its database cannot be read.
#[cfg(not(feature = "store-postgres"))]
fn origin(_: &Web3SignerArgs, _: &Settings, _: &Context) -> Result<Origin, Failure> {
    Err(usage("this build has no PostgreSQL; move by hand, with a file from `web3signer eth2 export`"))
}
