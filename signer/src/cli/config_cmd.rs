//! `holdfast config`: the example file, the reference, the schema, and a check of what is in force.

use std::sync::Arc;

use holdfast_domain::Clock;
use serde_json::json;

use super::output::print;
use super::{Context, Exit, Failure};
use crate::clock::SystemClock;
use crate::config::{example_toml, reference, resolve_network, schema_json};
use crate::doors::Doors;

/// Prints the example file.
pub(super) fn example() -> Result<Exit, Failure> {
    print(&example_toml())?;
    Ok(Exit::Done)
}

/// Prints the reference.
pub(super) fn reference() -> Result<Exit, Failure> {
    print(&reference::markdown())?;
    Ok(Exit::Done)
}

/// Prints the schema.
pub(super) fn schema() -> Result<Exit, Failure> {
    print(&schema_json())?;
    Ok(Exit::Done)
}

/// Prints the configuration in force, without passwords. That it was read says that every layer is
/// well formed; here the network is looked up, too, and the callers and the files of TLS are read.
pub(super) async fn validate(context: &Context) -> Result<Exit, Failure> {
    let network = resolve_network(&context.config).await?;
    crate::anchors::check(&context.config).map_err(|error| Failure::new(Exit::Usage, error))?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let doors = Doors::open(&context.config, &clock).map_err(|error| Failure::new(Exit::Usage, error))?;
    doors.check_signing_api(&context.config)?;
    let config = toml::to_string(&context.config).map_err(|error| {
        Failure::new(Exit::Bug, anyhow::Error::new(error).context("cannot print the configuration"))
    })?;
    let root = network.genesis_validators_root.map(|root| root.to_string());
    let genesis_seconds = network.genesis_time.map(|time| time.0 / 1000);
    context.output.result(
        &config,
        &json!({
            "valid": true,
            "config": context.config,
            "network": { "name": network.name, "genesis_validators_root": root, "genesis_time": genesis_seconds },
        }),
    )?;
    context.output.note(format!(
        "The configuration is valid. Network {}, genesis validators root {}.",
        network.name,
        root.unwrap_or_default()
    ));
    Ok(Exit::Done)
}
