//! Who gets in where: the callers, and the TLS of every listener, opened together before anything listens.
//!
//! Guarantees: a listener that other machines can reach asks who they are, or the process does not start; what
//! changes in the files is taken over while all is served.

use std::sync::Arc;

use holdfast_access::Builtin;
use holdfast_domain::Clock;
use prometheus_client::registry::Registry;

use crate::admin::AdminDoor;
use crate::callers::{Callers, Door, FileError, Principal};
use crate::config::{Config, ConfigError, TlsConfig};
use crate::drain::Tasks;
use crate::http::socket::Bound;
use crate::outcome::chain;
use crate::tls::{self, NoPins, Pins, Protocol, Tls, TlsError, TlsMetrics};

/// Why nothing is opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DoorError {
    /// The callers cannot be read.
    #[error(transparent)]
    Callers(#[from] FileError),
    /// TLS of a listener cannot be had.
    #[error("TLS of the {listener} listener ({listener}.tls)")]
    Tls {
        /// Which.
        listener: &'static str,
        /// Why.
        #[source]
        source: TlsError,
    },
}

/// The doors of a process.
pub(crate) struct Doors {
    /// Who may come in.
    pub(crate) callers: Arc<Callers>,
    /// TLS of the signing API.
    pub(crate) http: Option<Arc<Tls>>,
    /// TLS of the metrics listener.
    pub(crate) metrics: Option<Arc<Tls>>,
    /// TLS of the switcher.
    pub(crate) switcher: Option<Arc<Tls>>,
    /// TLS of the execution pool.
    pub(crate) execution: Option<Arc<Tls>>,
    /// TLS of the admin API over TCP.
    pub(crate) admin: Option<Arc<Tls>>,
    numbers: TlsMetrics,
}

impl Doors {
    /// Reads the callers and the files of TLS.
    ///
    /// # Errors
    /// [`DoorError`], which says what to do.
    pub(crate) fn open(config: &Config, clock: &Arc<dyn Clock>) -> Result<Self, DoorError> {
        let callers = Arc::new(Callers::open(config, Arc::clone(clock))?);
        let numbers = TlsMetrics::default();
        let pins: Arc<dyn Pins> = Arc::clone(&callers) as _;
        let open_as = |listener, config: &TlsConfig, protocol, pins| {
            Tls::open(listener, config, protocol, pins, &numbers, Arc::clone(clock))
                .map_err(|source| DoorError::Tls { listener, source })
        };
        let open = |listener, config: &TlsConfig, pins| open_as(listener, config, Protocol::Http1, pins);
        Ok(Self {
            http: open("http", &config.http.tls, Arc::clone(&pins))?,
            metrics: open("metrics", &config.metrics.tls, pins)?,
            // Whoever is let in there may do everything, so the callers of the signer are not meant.
            switcher: open("switcher", &config.switcher.tls, Arc::new(NoPins))?,
            execution: open("execution", &config.execution.tls, Arc::new(NoPins))?,
            // A certificate that a client of the signing API is known by opens nothing here.
            admin: open_as("admin", &config.admin.tls, Protocol::Http2, Arc::new(NoPins))?,
            callers,
            numbers,
        })
    }

    /// Checks that the signing API asks who comes, if other machines can reach it, and warns of what is left.
    ///
    /// # Errors
    /// [`ConfigError::NotLoopback`], which says what to do.
    pub(crate) fn check_signing_api(&self, config: &Config) -> Result<(), ConfigError> {
        let (address, nobody) = (config.http.listen, self.callers.is_empty());
        config.check_signing_api(!nobody)?;
        if address.ip().is_loopback() {
            return Ok(());
        }
        if nobody && !config.http.tls.trusts_clients() {
            tracing::warn!(
                %address,
                "http.allow_unauthenticated: WHOEVER REACHES THIS ADDRESS CAN HAVE MESSAGES SIGNED; nothing else may \
                 be on this network"
            );
        } else if !config.http.tls.is_on() {
            tracing::warn!(
                %address,
                "callers prove who they are without TLS: whoever can listen on this network learns their tokens; set \
                 http.tls"
            );
        }
        Ok(())
    }

    /// What the signing API asks. Where it may not be open to everybody, it never becomes so.
    pub(crate) fn of_http(config: &Config) -> Door {
        let guarded = config.http.tls.trusts_clients() || config.check_signing_api(false).is_err();
        Door { name: "http", listener: Principal::builtin(Builtin::Http), guarded }
    }

    /// What the signing API's Unix socket asks.
    pub(crate) fn of_unix() -> Door {
        Door { name: "http-unix", listener: Principal::builtin(Builtin::HttpUnix), guarded: false }
    }

    /// What `/metrics` asks; `None` if nothing.
    pub(crate) fn of_metrics(config: &Config) -> Option<Door> {
        let asks = config.metrics.require_caller.unwrap_or_else(|| config.metrics.tls.is_on());
        asks.then(|| Door { name: "metrics", listener: Principal::builtin(Builtin::Metrics), guarded: true })
    }

    /// The admin API's way in over TCP, on the socket that was taken for it.
    pub(crate) fn of_admin(&self, config: &Config, bound: Option<Bound>) -> Option<AdminDoor> {
        let (bound, tls) = (bound?, Arc::clone(self.admin.as_ref()?));
        let address = bound.address;
        Some(AdminDoor::new((bound.into_listener()?, address), tls, Arc::clone(&self.callers), config))
    }

    /// Adds the numbers to a registry.
    pub(crate) fn register(&self, registry: &mut Registry) {
        self.callers.register(registry);
        self.numbers.register(registry);
    }

    /// What is read from files.
    pub(crate) fn files(&self) -> DoorFiles {
        let all = [&self.http, &self.metrics, &self.switcher, &self.execution, &self.admin]
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        DoorFiles { callers: Arc::clone(&self.callers), all }
    }

    /// Takes over what changes in the files, until the tasks are stopped.
    pub(crate) fn watch(&self, tasks: &Tasks) {
        let DoorFiles { callers, all } = self.files();
        tasks.spawn(tls::watch(all, callers, tasks.stopping()));
    }
}

/// What is read from files for the doors: the callers that `holdfast callers` keeps, certificates, keys, lists.
#[derive(Clone)]
pub(crate) struct DoorFiles {
    callers: Arc<Callers>,
    all: Vec<Arc<Tls>>,
}

impl DoorFiles {
    /// Reads everything again now, without waiting until it is looked for. What cannot be used stays as it was. Blocks.
    ///
    /// # Errors
    /// What could not be used, in words.
    pub(crate) fn reload(&self) -> Result<(), Vec<String>> {
        let mut failures = Vec::new();
        failures.extend(self.callers.reload().err().map(|error| chain(&error)));
        failures.extend(self.all.iter().filter_map(|tls| tls.reload().err()).map(|error| chain(&error)));
        // Callers name certificates by their fingerprints.
        for tls in &self.all {
            tls.judge_again();
        }
        if failures.is_empty() { Ok(()) } else { Err(failures) }
    }
}
