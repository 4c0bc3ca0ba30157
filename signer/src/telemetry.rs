//! Logging: where events go and how they look. Standard output is kept for what a command prints;
//! logs go to standard error. Logs are not the audit log: that is the journal.

mod ecs;

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

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
}

/// Sends events to standard error from now on.
///
/// # Errors
/// [`TelemetryError`] if the directives do not parse or logging was set up before.
pub(crate) fn init(config: &TelemetryConfig) -> Result<(), TelemetryError> {
    let filter = EnvFilter::try_new(&config.log).map_err(TelemetryError::Filter)?;
    let terminal = std::io::stderr().is_terminal();
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(terminal);
    let set = match config.format {
        LogFormat::Ecs => {
            let lines = lines.with_ansi(false).fmt_fields(JsonFields::new()).event_format(ecs::Ecs);
            registry.with(lines).try_init()
        }
        LogFormat::Auto if !terminal => registry.with(lines.json()).try_init(),
        LogFormat::Json => registry.with(lines.json()).try_init(),
        LogFormat::Auto | LogFormat::Text => registry.with(lines).try_init(),
    };
    set.map_err(TelemetryError::AlreadySet)
}
