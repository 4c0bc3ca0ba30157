//! `holdfast migrate`: keys from another signer, together with what they have signed there.
//!
//! Guarantees: a plan is shown and a person says how many keys move before anything is changed. Histories come in
//! before keys, in one transaction; keys come in switched off, and sign only after a person confirmed that the old signer
//! cannot. Whatever ends it on the way, the same command goes on where it stopped.
//!
//! | step | ended there | the same command again |
//! | --- | --- | --- |
//! | histories | nothing, or all of them without keys | finds them unchanged |
//! | keys | some keys, switched off | finds those here, brings the rest |
//! | checklist | all keys, switched off | asks for it again |
//! | fence and switching on | keys that are fenced, or on | does it again for those that are off |

mod checklist;
mod clients;
mod moving;
mod past;
mod plan;
mod secrets;
mod web3signer;

use std::path::Path;

use super::args::MigrateCommand;
use super::{Context, Exit, Failure};
use crate::custody;

/// Moves keys, or shows the plan.
pub(super) async fn run(
    command: &MigrateCommand,
    old_config: Option<&Path>,
    context: &Context,
) -> Result<Exit, Failure> {
    let old = match command {
        MigrateCommand::Web3signer(args) => web3signer::look(args, old_config, context).await?,
        MigrateCommand::Lighthouse(args) => clients::lighthouse(args, context)?,
        MigrateCommand::Lodestar(args) => clients::other(clients::LODESTAR, args, context)?,
        MigrateCommand::Nimbus(args) => clients::other(clients::NIMBUS, args, context)?,
        MigrateCommand::Prysm(args) => clients::other(clients::PRYSM, args, context)?,
        MigrateCommand::Teku(args) => clients::other(clients::TEKU, args, context)?,
    };
    let chain = custody::chain(&context.config).await?;
    moving::run(old, command.moving(), &chain, context).await
}
