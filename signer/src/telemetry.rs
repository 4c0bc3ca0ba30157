//! Logging: where events go and how they look. Standard output is kept for what a command prints;
//! logs go to standard error. Logs are not the audit log: that is the journal.

mod ecs;
mod journal;

use std::io::IsTerminal;
use std::sync::OnceLock;

use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Registry, reload};

use crate::config::{LogFormat, TelemetryConfig};

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TelemetryError {
    /// The directives do not parse.
    #[error(
        "telemetry.log is not a list of levels: use error, warn, info, debug, trace, or directives such as \"info,holdfast=debug\""
    )]
    Filter(#[source] tracing_subscriber::filter::ParseError),
    /// Somebody set up logging before.
    #[error("logging is already set up in this process")]
    AlreadySet(#[source] TryInitError),
    /// There is nothing whose levels could be changed.
    #[error("logging is not set up in this process")]
    NotSet,
    /// The levels cannot be changed any more.
    #[error("the levels of logging cannot be changed")]
    Stuck(#[source] reload::Error),
}

/// The levels in force; one for the process, as logging is.
static LEVELS: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Levels that were read and can be put in force.
#[derive(Debug)]
pub(crate) struct Levels(EnvFilter);

impl Levels {
    /// Reads levels or directives.
    ///
    /// # Errors
    /// [`TelemetryError::Filter`].
    pub(crate) fn parse(text: &str) -> Result<Self, TelemetryError> {
        EnvFilter::try_new(text).map(Self).map_err(TelemetryError::Filter)
    }

    /// Puts them in force, for every line from now on.
    ///
    /// # Errors
    /// [`TelemetryError`] if logging was not set up, or not here.
    pub(crate) fn apply(self) -> Result<(), TelemetryError> {
        LEVELS.get().ok_or(TelemetryError::NotSet)?.reload(self.0).map_err(TelemetryError::Stuck)
    }
}

/// Sends events to standard error from now on.
///
/// # Errors
/// [`TelemetryError`] if the directives do not parse or logging was set up before.
pub(crate) fn init(config: &TelemetryConfig) -> Result<(), TelemetryError> {
    let (filter, levels) = reload::Layer::new(Levels::parse(&config.log)?.0);
    let terminal = std::io::stderr().is_terminal();
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(journal::Lines::new()).with_ansi(terminal);
    let set = match config.format {
        LogFormat::Ecs => {
            let lines = lines.with_ansi(false).fmt_fields(JsonFields::new()).event_format(ecs::Ecs);
            registry.with(lines).try_init()
        }
        LogFormat::Auto if !terminal => registry.with(lines.json()).try_init(),
        LogFormat::Json => registry.with(lines.json()).try_init(),
        LogFormat::Auto | LogFormat::Text => registry.with(lines).try_init(),
    };
    set.map_err(TelemetryError::AlreadySet)?;
    // Set up once, as the line before has seen to.
    drop(LEVELS.set(levels));
    Ok(())
}
