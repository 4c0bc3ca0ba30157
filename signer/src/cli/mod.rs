//! The commands. Each is one module; this one reads the command line and the configuration, runs
//! the command and turns what came out into an exit code.

mod alone;
mod approvals;
pub(crate) mod args;
mod audit;
mod backup;
mod bundle;
mod callers;
mod completions;
mod config_cmd;
mod connect;
mod doctor;
mod enclave;
mod exits;
mod interchange;
mod kek;
mod keys;
mod man;
mod migrate;
pub(crate) mod output;
mod policy;
mod quickstart;
mod reach;
mod reload;
mod schema;
pub(crate) mod serve;
mod slashing;
mod switcher;
mod top;
mod unseal;
mod unwrap;
mod version;

use std::io::{IsTerminal as _, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::Parser as _;

use crate::config::{Config, Environment, Layers, load};
use crate::outcome::Exit;
use args::{Cli, Command};
pub(crate) use output::{Failure, Format, Output, Talk};

/// What every command gets.
pub(crate) struct Context {
    /// The configuration, all layers applied and checked.
    pub(crate) config: Config,
    /// What it was made from, to make it again.
    pub(crate) layers: Layers,
    /// Where to print.
    pub(crate) output: Output,
}

/// Runs the program: reads the command line, runs the command, says how it ended.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage_error(&error).into(),
    };
    let output = Output {
        format: if cli.global.json { Format::Json } else { Format::Text },
        talk: if cli.global.quiet { Talk::Quiet } else { Talk::Notes },
        through: None,
    };
    // A panic is a bug and has an exit code of its own; the default hook has printed where it was.
    let ended = catch_unwind(AssertUnwindSafe(|| dispatch(&cli, output))).unwrap_or_else(|_| {
        Err(Failure::message(Exit::Bug, "this is a bug in holdfast; please report the lines above"))
    });
    let exit = match ended {
        Ok(exit) => exit,
        Err(failure) => {
            output.failure(&failure);
            failure.exit()
        }
    };
    exit.into()
}

fn dispatch(cli: &Cli, output: Output) -> Result<Exit, Failure> {
    // These need no configuration, and must work while it is broken.
    match &cli.command {
        Command::Completions(args) => return completions::run(args),
        Command::Man(args) => return man::run(args),
        Command::Version => return version::run(output),
        #[cfg(feature = "backend-enclave")]
        Command::Enclave(
            args::EnclaveCommand::Wrap(_) | args::EnclaveCommand::Import(_) | args::EnclaveCommand::Generate(_),
        ) => {}
        Command::Enclave(command) => return enclave::run(command, output),
        Command::UnwrapHelper => return unwrap::run(),
        Command::Approve(args) => return approvals::approve(args, output),
        Command::Approvals(args::ApprovalsCommand::Keygen(args)) => return approvals::keygen(args, output),
        // Started with nothing but a socket.
        Command::Vault(args) => return crate::vault::run(args),
        Command::Config(args::ConfigCommand::Example) => return config_cmd::example(),
        Command::Config(args::ConfigCommand::Reference) => return config_cmd::reference(),
        Command::Config(args::ConfigCommand::Schema) => return config_cmd::schema(),
        Command::Config(args::ConfigCommand::Validate)
        | Command::Quickstart(_)
        | Command::Serve(_)
        | Command::Keys(_)
        | Command::Callers(_)
        | Command::Slashing(_)
        | Command::Migrate(_)
        | Command::Kek(_)
        | Command::Backup(_)
        | Command::Approvals(_)
        | Command::Audit(_)
        | Command::Switcher(_)
        | Command::Witness(_)
        | Command::Policy(_)
        | Command::Status(_)
        | Command::Reload(_)
        | Command::Top(_)
        | Command::Doctor(_)
        | Command::Exits(_)
        | Command::Connect(_) => {}
    }
    let layers = cli.layers(Environment::of_process());
    let config = load(&layers)?;
    if config.remote.server.is_some() && !cli.command.may_be_for_a_server_elsewhere() {
        let text = "this works on this machine's data directory and configuration, not through the admin API: give it on the \
                    machine of the server, without --admin-server (remote.server)";
        return Err(Failure::message(Exit::Usage, text));
    }
    let context = Context { config, layers, output };
    match &cli.command {
        Command::Quickstart(_) => quickstart::run(&context),
        Command::Serve(args) if args.no_signer => alone::run(&context),
        Command::Serve(_) => serve::run(&context),
        Command::Keys(command) => block_on(keys::run(command, &context)),
        Command::Callers(command) => callers::run(command, &context),
        Command::Slashing(args::SlashingCommand::Status(args)) => block_on(slashing::status(args, &context)),
        Command::Slashing(args::SlashingCommand::Fence(args)) => block_on(slashing::fence(args, &context)),
        Command::Slashing(args::SlashingCommand::Migrate(args)) => block_on(schema::migrate(args, &context)),
        Command::Slashing(args::SlashingCommand::Import(args)) => block_on(interchange::import(args, &context)),
        Command::Slashing(args::SlashingCommand::Export(args)) => block_on(interchange::export(args, &context)),
        Command::Migrate(command) => block_on(migrate::run(command, cli.old_config(), &context)),
        Command::Exits(command) => block_on(exits::run(command, &context)),
        Command::Approvals(command) => block_on(approvals::run(command, &context)),
        Command::Audit(command) => audit::run(command, &context),
        Command::Kek(command) => block_on(kek::run(command, &context)),
        Command::Backup(command) => block_on(backup::run(command, &context)),
        #[cfg(feature = "backend-enclave")]
        Command::Enclave(args::EnclaveCommand::Wrap(args)) => block_on(enclave::wrap::run(args, &context)),
        #[cfg(feature = "backend-enclave")]
        Command::Enclave(args::EnclaveCommand::Import(args)) => block_on(keys::import_into_enclave(args, &context)),
        #[cfg(feature = "backend-enclave")]
        Command::Enclave(args::EnclaveCommand::Generate(args)) => block_on(keys::generate_in_enclave(args, &context)),
        Command::Switcher(command) => block_on(switcher::run(command, &context)),
        Command::Witness(command) => block_on(crate::witness::run(command, &context)),
        Command::Policy(command) => block_on(policy::run(command, &context)),
        Command::Status(args) => block_on(reach::status(args, &context)),
        Command::Reload(args) => block_on(reload::run(*args, &context)),
        Command::Top(args) => block_on(top::run(args, &context)),
        Command::Doctor(_) => block_on(doctor::run(&context)),
        Command::Connect(args) => block_on(connect::run(args, &context)),
        Command::Config(_) => block_on(config_cmd::validate(&context)),
        Command::Approve(_)
        | Command::Completions(_)
        | Command::Man(_)
        | Command::Version
        | Command::Enclave(_)
        | Command::UnwrapHelper
        | Command::Vault(_) => Ok(Exit::Done),
    }
}

/// Runs a command that is not a server: one thread is enough, the work is done by threads of its own.
fn block_on<T>(command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        Failure::new(Exit::Unreachable, anyhow::Error::new(error).context("cannot start the runtime"))
    })?;
    runtime.block_on(command)
}

/// Prints what clap says: help and version are results, the rest is an error.
fn usage_error(error: &clap::Error) -> Exit {
    let json = std::env::args_os().any(|argument| argument == "--json");
    if error.use_stderr() && json {
        let text = error.render().to_string();
        let message = text.trim().trim_start_matches("error: ");
        Output { format: Format::Json, talk: Talk::Quiet, through: None }
            .failure(&Failure::message(Exit::Usage, message));
    } else {
        // Nobody to tell if the stream is closed.
        let _ = error.print();
    }
    if error.use_stderr() { Exit::Usage } else { Exit::Done }
}

/// Asks a yes-or-no question on the terminal. Without one, and for any answer but "yes", the
/// answer is no.
fn confirm(question: &str) -> bool {
    let mut stderr = std::io::stderr().lock();
    if !std::io::stdin().is_terminal()
        || write!(stderr, "{question} Type yes to go on: ").and_then(|()| stderr.flush()).is_err()
    {
        return false;
    }
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).is_ok() && answer.trim() == "yes"
}
