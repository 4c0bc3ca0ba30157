//! `holdfast completions`: what a shell needs to complete our commands.

use clap::CommandFactory as _;

use super::args::{Cli, CompletionsArgs};
use super::output::print;
use super::{Exit, Failure};

/// Prints the script.
pub(super) fn run(args: &CompletionsArgs) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "holdfast", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
