//! The way of spans to a collector: OTLP over HTTP, in protobuf.
//!
//! Guarantees: one request to the collector at a time, bounded in time; what it does not take after a few attempts is
//! dropped and counted, and that is said once, not for every batch; values of headers and the path of the address are
//! never shown.

mod messages;

use core::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use holdfast_domain::Clock;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::http::uri::Authority;
use hyper::{Method, Request, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use prost::Message as _;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use self::messages::{Export, Exported, Resource, ResourceSpans, Scope, ScopeSpans, text};
use crate::collector::{Collector, CollectorError};
use crate::metrics::Lost;
use crate::span::Finished;
use crate::tracer::{Inlet, Tracer};

/// Where traces go below the address of a collector, as OTLP has it.
const PATH: &str = "/v1/traces";
/// Spans in one request.
const BATCH: usize = 512;
/// How long the first span of a batch waits for others.
const GATHER: Duration = Duration::from_secs(1);
/// How long the collector may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Waits before the further attempts to send a batch.
const WAITS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];
/// How long the end of the process waits for the last batch.
const FAREWELL: Duration = Duration::from_secs(1);
/// Longest answer that is read.
const MAX_ANSWER: usize = 64 * 1024;

/// Why a batch did not arrive.
#[derive(Debug)]
enum Unsent {
    /// It may arrive later.
    Passing(String),
    /// It never will.
    Final(String),
}

/// Sends spans until it is told to stop.
pub(crate) struct Sender {
    inlet: Inlet,
    /// Spans of the next batch.
    gathered: Vec<Finished>,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    uri: Uri,
    headers: HeaderMap,
    resource: Resource,
    version: &'static str,
    /// Whether the last batch did not arrive.
    failing: bool,
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("failing", &self.failing).finish_non_exhaustive()
    }
}

impl Collector {
    /// See [`Collector::start`].
    pub(crate) fn sender(self, clock: Arc<dyn Clock>) -> Result<(Tracer, Sender), CollectorError> {
        let uri = address(&self.endpoint)?;
        let headers = headers(&self.headers)?;
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(self.tls()?).https_or_http().enable_http1().build();
        let resource = Resource {
            attributes: vec![
                text("service.name", "holdfast"),
                text("service.version", self.version),
                text("service.instance.id", self.instance),
            ],
        };
        let (tracer, inlet) = Tracer::on(self.one_in, clock);
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(1).build(connector);
        Ok((
            tracer,
            Sender {
                inlet,
                gathered: Vec::new(),
                client,
                uri,
                headers,
                resource,
                version: self.version,
                failing: false,
            },
        ))
    }

    fn tls(&self) -> Result<ClientConfig, CollectorError> {
        let mut roots = RootCertStore::empty();
        if let Some(path) = &self.ca_file {
            let unusable = |source| CollectorError::Authorities { path: path.clone(), source };
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unusable(error.into()))? {
                let certificate = certificate.map_err(|error| unusable(error.into()))?;
                roots.add(certificate).map_err(|error| unusable(error.into()))?;
            }
            if roots.is_empty() {
                return Err(unusable("it is empty".into()));
            }
        } else {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        Ok(versions
            .map_err(|error| CollectorError::Tls(error.into()))?
            .with_root_certificates(roots)
            .with_no_client_auth())
    }
}

fn address(endpoint: &str) -> Result<Uri, CollectorError> {
    let uri: Uri = format!("{}{PATH}", endpoint.trim_end_matches('/')).parse().map_err(|_| CollectorError::Endpoint)?;
    let scheme = matches!(uri.scheme_str(), Some("http" | "https"));
    let plain = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    if scheme && plain && !endpoint.contains(['?', '#']) { Ok(uri) } else { Err(CollectorError::Endpoint) }
}

fn headers(lines: &str) -> Result<HeaderMap, CollectorError> {
    let mut headers = HeaderMap::new();
    for (index, line) in lines.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = || CollectorError::Header { line: index.saturating_add(1) };
        let (name, value) = line.split_once(':').ok_or_else(wrong)?;
        let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| wrong())?;
        let mut value = HeaderValue::from_str(value.trim()).map_err(|_| wrong())?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
    Ok(headers)
}

/// Something that may be waited for again after it has happened.
struct Told<F> {
    future: Pin<Box<F>>,
    done: bool,
}

impl<F: Future<Output = ()>> Told<F> {
    async fn wait(&mut self) {
        if !self.done {
            self.future.as_mut().await;
            self.done = true;
        }
    }
}

impl Sender {
    /// See `Worker::run`.
    pub(crate) async fn run(mut self, stopping: impl Future<Output = ()> + Send) {
        let mut told = Told { future: Box::pin(stopping), done: false };
        loop {
            tokio::select! {
                () = told.wait() => break,
                more = self.gather() => if !more { break },
            }
            let (count, body) = self.encode();
            let outcome = tokio::select! {
                // What is on its way is worth a short wait at the end, too.
                () = async { told.wait().await; tokio::time::sleep(FAREWELL).await } => Err(the_end()),
                outcome = self.send(&body) => outcome,
            };
            self.account(count, outcome);
        }
        while let Ok(spans) = self.inlet.receiver.try_recv() {
            self.gathered.extend(spans);
        }
        if !self.gathered.is_empty() {
            let (count, body) = self.encode();
            let sent = tokio::time::timeout(FAREWELL, self.once(&body)).await;
            self.account(count, sent.unwrap_or_else(|_| Err(the_end())));
        }
    }

    /// Gathers the spans of the next batch; whether there will be more. What was gathered stays when this is given up.
    async fn gather(&mut self) -> bool {
        let Some(first) = self.inlet.receiver.recv().await else { return false };
        self.gathered.extend(first);
        let full = async {
            while self.gathered.len() < BATCH {
                match self.inlet.receiver.recv().await {
                    Some(spans) => self.gathered.extend(spans),
                    None => break,
                }
            }
        };
        // Late is as good as full.
        let _ = tokio::time::timeout(GATHER, full).await;
        true
    }

    /// How many spans these are, and as a message.
    fn encode(&mut self) -> (usize, Bytes) {
        let batch = std::mem::take(&mut self.gathered);
        let count = batch.len();
        let scope = Scope { name: "holdfast".to_owned(), version: self.version.to_owned() };
        let scope_spans =
            vec![ScopeSpans { scope: Some(scope), spans: batch.into_iter().map(messages::Span::from).collect() }];
        let resource_spans = vec![ResourceSpans { resource: Some(self.resource.clone()), scope_spans }];
        (count, Export { resource_spans }.encode_to_vec().into())
    }

    /// How many of them the collector rejected.
    async fn send(&self, body: &Bytes) -> Result<usize, Unsent> {
        let mut outcome = self.once(body).await;
        for wait in WAITS {
            if !matches!(outcome, Err(Unsent::Passing(_))) {
                break;
            }
            tokio::time::sleep(wait).await;
            outcome = self.once(body).await;
        }
        outcome
    }

    async fn once(&self, body: &Bytes) -> Result<usize, Unsent> {
        let mut request = Request::new(Full::new(body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        let passing = |error: &dyn std::error::Error| Unsent::Passing(chain(error));
        let exchange = async {
            let response = self.client.request(request).await.map_err(|error| passing(&error))?;
            let status = response.status();
            let answer = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
            Ok::<_, Unsent>((status, answer.map_err(|error| passing(&*error))?.to_bytes()))
        };
        let late = || Unsent::Passing(format!("no answer within {} s", PATIENCE.as_secs()));
        let (status, answer) = tokio::time::timeout(PATIENCE, exchange).await.map_err(|_| late())??;
        match status {
            status if status.is_success() => Ok(Exported::decode(answer)
                .ok()
                .and_then(|exported| exported.partial_success)
                .and_then(|partial| usize::try_from(partial.rejected_spans).ok())
                .unwrap_or(0)),
            // Those that OTLP says to come back after.
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Err(Unsent::Passing(format!("it answered {}", status.as_u16()))),
            status => Err(Unsent::Final(format!("it answered {}", status.as_u16()))),
        }
    }

    fn account(&mut self, count: usize, outcome: Result<usize, Unsent>) {
        self.inlet.waiting.fetch_sub(count, Ordering::Relaxed);
        let collector = self.uri.authority().map_or("", Authority::as_str);
        match outcome {
            Ok(rejected) => {
                let rejected = rejected.min(count);
                self.inlet.metrics.sent(count.saturating_sub(rejected));
                self.inlet.metrics.lost(Lost::Rejected, rejected);
                if self.failing {
                    tracing::info!(collector, "traces are sent again");
                }
                self.failing = false;
            }
            Err(Unsent::Passing(error) | Unsent::Final(error)) => {
                self.inlet.metrics.lost(Lost::Unsent, count);
                if !self.failing {
                    tracing::warn!(
                        collector,
                        error,
                        "traces cannot be sent; they are dropped and counted until they can"
                    );
                }
                self.failing = true;
            }
        }
    }
}

/// Why the last batches are not sent.
fn the_end() -> Unsent {
    Unsent::Final("the process ends".to_owned())
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    //! Proves: the bytes on the wire, what is refused as configuration, and that nothing secret shows.
    use super::*;
    use crate::context::{SpanId, TraceId};
    use crate::span::{Kind, Value};

    fn collector(endpoint: &str, headers: &str) -> Collector {
        Collector {
            endpoint: endpoint.to_owned(),
            headers: headers.to_owned(),
            ca_file: None,
            version: "1.2.3",
            instance: "one".to_owned(),
            one_in: 1,
        }
    }

    struct Never;

    impl Clock for Never {
        fn now(&self) -> holdfast_domain::UnixMillis {
            holdfast_domain::UnixMillis(0)
        }
    }

    #[test]
    fn addresses_and_headers() {
        let start = |endpoint: &str, headers: &str| collector(endpoint, headers).sender(Arc::new(Never));
        for endpoint in ["http://127.0.0.1:4318", "https://collector.example/", "https://collector.example/tenant/"] {
            let (tracer, worker) = start(endpoint, "").unwrap();
            assert!(tracer.is_on() && worker.uri.path().ends_with("/v1/traces"), "{endpoint}");
            assert!(!worker.uri.path().contains("//"), "{endpoint}");
        }
        for endpoint in ["", "collector:4318", "grpc://c:4317", "http://u:T0PSECRET@c", "http://c?T0PSECRET", "http://"]
        {
            let error = start(endpoint, "").unwrap_err();
            assert!(
                matches!(error, CollectorError::Endpoint) && !error.to_string().contains("T0PSECRET"),
                "{endpoint}"
            );
        }
        let (_, worker) = start("http://c", "Authorization: Bearer T0PSECRET\n\nx-tenant: validators\n").unwrap();
        assert_eq!(worker.headers["authorization"], "Bearer T0PSECRET");
        assert_eq!(worker.headers["x-tenant"], "validators");
        assert!(!format!("{:?} {worker:?}", worker.headers).contains("T0PSECRET"));
        for (lines, wrong) in [("T0PSECRET", 1), ("a: b\nc d: T0PSECRET", 2), ("a: T0P\u{7f}SECRET", 1)] {
            let error = start("http://c", lines).unwrap_err();
            assert!(matches!(error, CollectorError::Header { line } if line == wrong), "{error}");
            assert!(!error.to_string().contains("SECRET"), "{error}");
        }
    }

    #[test]
    fn a_span_on_the_wire() {
        let (_, mut worker) = collector("http://c", "").sender(Arc::new(Never)).unwrap();
        let span = Finished {
            trace: TraceId::new([0xa1; 16]).unwrap(),
            id: SpanId::new([0xb2; 8]).unwrap(),
            parent: SpanId::new([0xc3; 8]),
            name: "sign",
            kind: Kind::Client,
            began: 1,
            ended: 2,
            attributes: vec![("slot", Value::Number(5)), ("kind", "block".into())],
            failed: Some("no".into()),
        };
        worker.gathered.push(span);
        let (count, body) = worker.encode();
        assert_eq!(count, 1);
        // By the field numbers of the .proto files: trace_id, span_id, parent_span_id, name, kind, both times,
        // two attributes, status.
        let mut wanted = vec![0x0a_u8, 16];
        wanted.extend([0xa1; 16]);
        wanted.extend([0x12, 8]);
        wanted.extend([0xb2; 8]);
        wanted.extend([0x22, 8]);
        wanted.extend([0xc3; 8]);
        wanted.extend(b"\x2a\x04sign\x30\x03\x39\x01\0\0\0\0\0\0\0\x41\x02\0\0\0\0\0\0\0");
        wanted.extend(b"\x4a\x0a\x0a\x04slot\x12\x02\x18\x05\x4a\x0f\x0a\x04kind\x12\x07\x0a\x05block");
        wanted.extend(b"\x7a\x06\x12\x02no\x18\x02");
        let found = body.windows(wanted.len()).any(|window| window == wanted);
        assert!(found, "{wanted:02x?} is not in {:02x?}", body.as_ref());
        for text in ["service.name", "holdfast", "service.version", "1.2.3", "service.instance.id", "one"] {
            assert!(body.windows(text.len()).any(|window| window == text.as_bytes()), "{text}");
        }
    }
}
