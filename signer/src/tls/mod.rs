//! TLS of the listeners: rustls, from files that may change at any time (ADR 0025).
//!
//! Why it exists: every listener needs the same things of TLS: a certificate, perhaps clients' certificates, bounds.
//! What it guarantees: a [`Tls`] that exists can do a handshake; a change of files is taken over for the connections
//! that come next, whole or not at all, and ends of the others only those whose client would not be let in again; a
//! handshake ends within a bounded time, and however many do not come to an end, there is room for one that does.

mod certificate;
#[cfg(feature = "backend-process")]
mod client;
mod error;
mod known;
mod load;
mod newcomers;
mod open;
mod pem;
mod verify;
mod watch;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use holdfast_domain::Clock;
use prometheus_client::encoding::{EncodeLabel as _, EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use rustls::pki_types::{CertificateDer, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

use crate::config::{Fingerprint, TlsConfig};
use crate::outcome::chain;
use load::Loaded;
use newcomers::Newcomers;
use open::OpenConnections;

pub(crate) use certificate::{ClientCertificate, Voucher};
#[cfg(feature = "backend-process")]
pub(crate) use client::client_config;
pub(crate) use error::{TlsError, turned_away};
pub(crate) use newcomers::{Newcomer, Newcomers as Queue};
pub(crate) use open::Guarded;
pub(crate) use pem::{client_identity, own_certificate, trusted};
pub(crate) use watch::{Stamps, watch};

/// Longest time for a handshake: two round trips and a signature.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes in progress at most; the oldest makes way for a new one.
const MAX_HANDSHAKES: usize = 1_024;
/// Failed handshakes are logged at most so often for each listener.
const LOG_EVERY: Duration = Duration::from_secs(1);

/// Certificates that somebody names one by one.
pub(crate) trait Pins: Send + Sync {
    /// Whether this one is accepted whoever signed it.
    fn is_pinned(&self, fingerprint: &Fingerprint) -> bool;
    /// Whether there is any.
    fn any(&self) -> bool;
}

/// For listeners where nobody does.
pub(crate) struct NoPins;

impl Pins for NoPins {
    fn is_pinned(&self, _: &Fingerprint) -> bool {
        false
    }

    fn any(&self) -> bool {
        false
    }
}

/// The protocol spoken inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, as gRPC.
    Http2,
}

impl Protocol {
    fn alpn(self) -> Vec<Vec<u8>> {
        match self {
            Self::Http1 => vec![b"http/1.1".to_vec()],
            Self::Http2 => vec![b"h2".to_vec()],
        }
    }
}

/// Labels with the listener alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Listener(&'static str);

impl EncodeLabelSet for Listener {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        ("listener", self.0).encode(encoder.encode_label())
    }
}

/// Labels of `holdfast_tls_handshake_failures_total`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct FailureLabels {
    listener: &'static str,
    reason: &'static str,
}

impl EncodeLabelSet for FailureLabels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        [("listener", self.listener), ("reason", self.reason)].encode(encoder)
    }
}

/// What is measured of TLS, of all listeners.
#[derive(Clone, Default)]
pub(crate) struct TlsMetrics {
    expiry: Family<Listener, Gauge>,
    authorities_expiry: Family<Listener, Gauge>,
    revocations_due: Family<Listener, Gauge>,
    reloads: Family<Listener, Counter>,
    reload_failures: Family<Listener, Counter>,
    stale: Family<Listener, Gauge>,
    ended: Family<Listener, Counter>,
    failures: Family<FailureLabels, Counter>,
}

impl TlsMetrics {
    /// Adds the numbers to a registry.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("tls");
        let help = "When the listener's certificate ends, in Unix seconds";
        registry.register("certificate_expiry_timestamp_seconds", help, self.expiry.clone());
        let help = "When the first of the authorities for client certificates ends, in Unix seconds";
        registry.register("client_ca_expiry_timestamp_seconds", help, self.authorities_expiry.clone());
        let help = "When the first list of revoked client certificates is out of date, in Unix seconds";
        registry.register("crl_next_update_timestamp_seconds", help, self.revocations_due.clone());
        registry.register("reloads", "Changed TLS files that were taken over", self.reloads.clone());
        let help = "Changed TLS files that could not be used, so that those of before stay in use";
        registry.register("reload_failures", help, self.reload_failures.clone());
        let help = "1 while the files of a listener cannot be used and those of before are";
        registry.register("files_unusable", help, self.stale.clone());
        let help = "Open connections that were closed because their clients' certificates are accepted no more";
        registry.register("connections_ended", help, self.ended.clone());
        registry.register("handshake_failures", "TLS handshakes that failed, by reason", self.failures.clone());
    }
}

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    /// It took too long.
    #[error("the handshake took longer than {} s", HANDSHAKE.as_secs())]
    TimedOut,
    /// Too many were in progress.
    #[error("the handshake made way for newer ones")]
    MadeWay,
    /// One side did not accept the other, or it was no TLS.
    #[error("the handshake failed")]
    Failed(#[source] std::io::Error),
    /// The certificate is not accepted.
    #[error("the client's certificate is not accepted")]
    Certificate(#[source] rustls::Error),
}

impl HandshakeError {
    /// Stable word for metrics.
    fn reason(&self) -> &'static str {
        let inner = match self {
            Self::TimedOut => return "timed_out",
            Self::MadeWay => return "made_way",
            Self::Certificate(_) => return "certificate",
            Self::Failed(error) => error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()),
        };
        match inner {
            Some(rustls::Error::InvalidCertificate(_)) => "certificate",
            Some(rustls::Error::NoCertificatesPresented) => "certificate_missing",
            Some(rustls::Error::PeerIncompatible(_)) => "incompatible",
            Some(rustls::Error::AlertReceived(_)) => "refused_by_client",
            Some(_) => "no_tls",
            None => "broke_off",
        }
    }
}

/// What became of reading the files again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reloaded {
    /// They are as before.
    Unchanged,
    /// New handshakes use what is there now.
    Changed,
}

/// TLS of one listener.
pub(crate) struct Tls {
    listener: &'static str,
    config: TlsConfig,
    protocol: Protocol,
    pins: Arc<dyn Pins>,
    clock: Arc<dyn Clock>,
    loaded: ArcSwap<Loaded>,
    /// The files as they were when they were last read, with or without success.
    stamps: Mutex<Stamps>,
    handshakes: Newcomers,
    open: OpenConnections,
    metrics: TlsMetrics,
    last_log: Mutex<Option<Instant>>,
}

impl Tls {
    /// TLS as configured; `None` if it is off. `listener` is its name in logs and metrics; `pins` are certificates
    /// that are accepted besides those of the configuration.
    ///
    /// # Errors
    /// [`TlsError`], which names the file and what to do.
    pub(crate) fn open(
        listener: &'static str,
        config: &TlsConfig,
        protocol: Protocol,
        pins: Arc<dyn Pins>,
        metrics: &TlsMetrics,
        clock: Arc<dyn Clock>,
    ) -> Result<Option<Arc<Self>>, TlsError> {
        if !config.is_on() {
            return Ok(None);
        }
        let stamps = Stamps::of(&files(config));
        let loaded = Loaded::read(config, protocol, &pins, now(clock.as_ref()))?;
        let tls = Self {
            listener,
            config: config.clone(),
            protocol,
            pins,
            clock,
            loaded: ArcSwap::from_pointee(loaded),
            stamps: Mutex::new(stamps),
            handshakes: Newcomers::new(MAX_HANDSHAKES),
            open: OpenConnections::default(),
            metrics: metrics.clone(),
            last_log: Mutex::new(None),
        };
        tls.count_from_zero();
        tls.show();
        Ok(Some(Arc::new(tls)))
    }

    /// Does the handshake on a connection that has just come in; returns the stream inside and the client's
    /// certificate, if it has one.
    ///
    /// # Errors
    /// [`HandshakeError`]; it is counted and, sparingly, logged here.
    pub(crate) async fn accept<S>(
        &self,
        stream: S,
        peer: std::net::IpAddr,
    ) -> Result<(Guarded<S>, Option<Arc<ClientCertificate>>), HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let result = self.handshake(stream).await;
        if let Err(error) = &result {
            self.account(peer, error);
        }
        result
    }

    async fn handshake<S>(&self, stream: S) -> Result<(Guarded<S>, Option<Arc<ClientCertificate>>), HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let loaded = self.loaded.load_full();
        let newcomer = self.handshakes.enter();
        let accepting = TlsAcceptor::from(Arc::clone(&loaded.server)).accept(stream);
        let stream = tokio::select! {
            biased;
            done = tokio::time::timeout(HANDSHAKE, accepting) => match done {
                Ok(stream) => stream.map_err(HandshakeError::Failed)?,
                Err(_elapsed) => return Err(HandshakeError::TimedOut),
            },
            () = newcomer.told_to_go() => return Err(HandshakeError::MadeWay),
        };
        let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let Some((own, between)) = shown.split_first() else { return Ok((Guarded::new(stream, None), None)) };
        // First among those who are judged when something changes: what changes after this is not missed.
        let place = self.open.enter(shown.iter().cloned().map(CertificateDer::into_owned).collect());
        // A resumed session has not been looked at since it began, and it may have been revoked.
        let judged = self.loaded.load().clients.voucher(own, between, now(self.clock.as_ref()));
        let voucher = judged.map_err(HandshakeError::Certificate)?;
        place.accepted(voucher);
        let certificate = Arc::new(ClientCertificate::read(own, voucher));
        Ok((Guarded::new(stream, Some(place)), Some(certificate)))
    }

    fn account(&self, peer: std::net::IpAddr, error: &HandshakeError) {
        let (listener, reason) = (self.listener, error.reason());
        self.metrics.failures.get_or_create(&FailureLabels { listener, reason }).inc();
        let now = Instant::now();
        let mut last = self.last_log.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|last| now.saturating_duration_since(last) < LOG_EVERY) {
            return;
        }
        *last = Some(now);
        drop(last);
        tracing::info!(%peer, listener, reason, "no connection: {}", chain(error));
    }

    /// Reads the files again, whether they have changed or not, and ends the connections of those who would not be let in
    /// by what is there now. On an error all is as before. Blocks.
    ///
    /// # Errors
    /// [`TlsError`]; it is counted here.
    pub(crate) fn reload(&self) -> Result<Reloaded, TlsError> {
        let mut stamps = self.stamps.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *stamps, Stamps::of(&files(&self.config)));
        let listener = Listener(self.listener);
        match Loaded::read(&self.config, self.protocol, &self.pins, now(self.clock.as_ref())) {
            Ok(loaded) => {
                let changed = before != *stamps || self.metrics.stale.get_or_create(&listener).get() != 0;
                self.metrics.stale.get_or_create(&listener).set(0);
                if !changed {
                    return Ok(Reloaded::Unchanged);
                }
                self.loaded.store(Arc::new(loaded));
                self.metrics.reloads.get_or_create(&listener).inc();
                self.show();
                self.judge_again();
                Ok(Reloaded::Changed)
            }
            Err(error) => {
                self.metrics.stale.get_or_create(&listener).set(1);
                self.metrics.reload_failures.get_or_create(&listener).inc();
                Err(error)
            }
        }
    }

    /// Ends the open connections of those who would not be let in now: their certificate was revoked or has ended, or
    /// nobody vouches for it any more. Blocks.
    pub(crate) fn judge_again(&self) {
        let (loaded, now, listener) = (self.loaded.load_full(), now(self.clock.as_ref()), self.listener);
        let ended = self.open.end_unless(|own, between| loaded.clients.voucher(own, between, now).ok());
        if ended > 0 {
            self.metrics.ended.get_or_create(&Listener(listener)).inc_by(u64::try_from(ended).unwrap_or(u64::MAX));
            tracing::warn!(listener, connections = ended, "closed: their clients' certificates are accepted no more");
        }
    }

    /// Whether [`Self::reload`] would take something over. Reads the files as it does, and changes nothing.
    ///
    /// # Errors
    /// [`TlsError`]: it would not.
    pub(crate) fn look(&self) -> Result<Reloaded, TlsError> {
        let changed = self.has_changed() || self.metrics.stale.get_or_create(&Listener(self.listener)).get() != 0;
        Loaded::read(&self.config, self.protocol, &self.pins, now(self.clock.as_ref()))?;
        Ok(if changed { Reloaded::Changed } else { Reloaded::Unchanged })
    }

    /// The name of the listener.
    pub(crate) fn listener(&self) -> &'static str {
        self.listener
    }

    /// Whether a file is another than when they were last read.
    fn has_changed(&self) -> bool {
        let now = Stamps::of(&files(&self.config));
        *self.stamps.lock().unwrap_or_else(PoisonError::into_inner) != now
    }

    /// Shows as 0 what has not happened yet, so that an alert sees the first.
    fn count_from_zero(&self) {
        let (metrics, listener) = (&self.metrics, Listener(self.listener));
        drop(metrics.stale.get_or_create(&listener));
        for counter in [&metrics.reloads, &metrics.reload_failures, &metrics.ended] {
            drop(counter.get_or_create(&listener));
        }
    }

    /// Says how long it all lasts.
    fn show(&self) {
        let (loaded, listener) = (self.loaded.load(), self.listener);
        let now = now(self.clock.as_ref()).as_secs().cast_signed();
        let seconds = loaded.expiry.saturating_sub(now);
        self.metrics.expiry.get_or_create(&Listener(listener)).set(loaded.expiry);
        for (family, value) in [
            (&self.metrics.authorities_expiry, loaded.authorities_expiry),
            (&self.metrics.revocations_due, loaded.revocations_due),
        ] {
            if let Some(value) = value {
                family.get_or_create(&Listener(listener)).set(value);
            }
        }
        let certificate = &loaded.subject;
        let days = seconds.checked_div(86_400).unwrap_or_default();
        if seconds <= 0 {
            tracing::error!(listener, certificate, "the TLS certificate has ended: clients will refuse it; renew it");
        } else if days < 14 {
            tracing::warn!(listener, certificate, days, "the TLS certificate ends soon; renew it");
        } else {
            tracing::info!(listener, certificate, days, "TLS");
        }
        if loaded.revocations_due.is_some_and(|due| due <= now) {
            tracing::warn!(listener, "the list of revoked client certificates is out of date: fetch a new one");
        }
    }
}

/// Every file that is read.
fn files(config: &TlsConfig) -> Vec<PathBuf> {
    [
        &config.certificate,
        &config.key,
        &config.pkcs12,
        &config.pkcs12_password_file,
        &config.client_ca,
        &config.known_clients,
        &config.crl,
    ]
    .into_iter()
    .flatten()
    .cloned()
    .collect()
}

fn now(clock: &dyn Clock) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_millis(clock.now().0))
}
