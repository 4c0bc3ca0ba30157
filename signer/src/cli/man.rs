//! `holdfast man`: the manual pages, made from the command line itself, so that they say what the program takes. For those
//! who make packages.

use std::io;
use std::path::Path;

use clap::CommandFactory as _;

use super::args::{Cli, ManArgs};
use super::{Exit, Failure};

/// What stands at the foot of each page.
const SOURCE: &str = concat!("Holdfast ", env!("CARGO_PKG_VERSION"));

/// Writes a page for each command.
pub(super) fn run(args: &ManArgs) -> Result<Exit, Failure> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let written = std::fs::create_dir_all(&args.to).and_then(|()| write(command, &args.to));
    written.map_err(|error| {
        let context = format!("the manual pages cannot be written into {}", args.to.display());
        Failure::new(Exit::Unreachable, anyhow::Error::new(error).context(context))
    })?;
    Ok(Exit::Done)
}

/// Pages of a command and of those below it, but not of hidden ones.
fn write(command: clap::Command, to: &Path) -> io::Result<()> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        write(below.clone(), to)?;
    }
    clap_mangen::Man::new(command).source(SOURCE).manual("Holdfast").generate_to(to).map(drop)
}
