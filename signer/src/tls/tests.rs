//! Proves: which files are refused and how the message says so; whose certificate is accepted and why; that a change of
//! files is taken over whole or not at all.
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use holdfast_enclave::durable::{Existing, write_private_file};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::CertificateDer;
use std::path::Path;
use tempfile::TempDir;

use super::*;
use crate::clock::SystemClock;

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

/// An authority, or somebody it vouches for.
struct Made {
    key: KeyPair,
    params: CertificateParams,
    der: CertificateDer<'static>,
}

impl Made {
    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params
    }

    fn authority(name: &str, until: i32) -> Self {
        let mut params = Self::params(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().clone();
        Self { key, params, der }
    }

    fn signed(&self, name: &str) -> Self {
        let params = Self::params(name);
        let key = KeyPair::generate().unwrap();
        let der = params.signed_by(&key, &Issuer::from_params(&self.params, &self.key)).unwrap().der().clone();
        Self { key, params, der }
    }

    fn certificate(&self) -> String {
        pem("CERTIFICATE", &self.der)
    }

    fn private(&self) -> String {
        pem("PRIVATE KEY", self.key.serialized_der())
    }
}

struct Stage {
    dir: TempDir,
    authority: Made,
    server: Made,
}

impl Stage {
    fn new() -> Self {
        let authority = Made::authority("authority", 3_000);
        let server = authority.signed("server");
        Self { dir: tempfile::tempdir().unwrap(), authority, server }
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        write_private_file(&path, content.as_bytes(), Existing::Replace).unwrap();
        path
    }

    fn config(&self) -> TlsConfig {
        TlsConfig {
            certificate: Some(self.file("c", &self.server.certificate())),
            key: Some(self.file("k", &self.server.private())),
            ..TlsConfig::default()
        }
    }

    fn open(config: &TlsConfig) -> Result<Arc<Tls>, TlsError> {
        let metrics = TlsMetrics::default();
        let pins = Arc::new(NoPins);
        let tls = Tls::open("http", config, Protocol::Http1, pins, &metrics, Arc::new(SystemClock))?;
        Ok(tls.expect("it is on"))
    }

    fn problem(config: &TlsConfig) -> String {
        match Self::open(config) {
            Ok(_) => panic!("{config:?} is accepted"),
            Err(error) => chain(&error),
        }
    }
}

fn voucher(tls: &Tls, own: &CertificateDer<'_>) -> Result<Voucher, rustls::Error> {
    tls.loaded.load().clients.voucher(own, &[], now(&SystemClock))
}

#[test]
fn bad_files_are_refused_by_name() {
    let stage = Stage::new();
    let (good, other) = (stage.config(), stage.authority.signed("other"));
    assert!(Stage::open(&good).is_ok());
    let both = stage.file("both", &format!("{}{}", stage.server.private(), stage.server.certificate()));
    assert!(Stage::open(&TlsConfig { certificate: Some(both), ..TlsConfig::default() }).is_ok(), "all in one file");
    let with_key = |name: &str, content: &str| TlsConfig { key: Some(stage.file(name, content)), ..good.clone() };
    let encrypted = stage.server.private().replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let twice = format!("{}{}", stage.server.private(), other.private());
    let swapped = format!("{}{}", stage.authority.certificate(), stage.server.certificate());
    let cut: String = stage.server.certificate().lines().take(1).collect();
    // Each in a file of its own: all are written before the first is read.
    let certificate =
        |name: &str, content: &str| TlsConfig { certificate: Some(stage.file(name, content)), ..good.clone() };
    let table = [
        (with_key("k1", &other.private()), "does not belong to the first certificate"),
        (with_key("k2", &stage.server.certificate()), "has no private key"),
        (with_key("k3", &twice), "several private keys"),
        (with_key("k4", &encrypted), "is encrypted"),
        (with_key("k5", &pem("PRIVATE KEY", b"nonsense")), "cannot be used"),
        (certificate("c1", &stage.server.private()), "has no certificate"),
        (certificate("c2", &swapped), "comes first"),
        (certificate("c3", &pem("CERTIFICATE", b"nonsense")), "certificate 1"),
        (certificate("c4", &cut), "PEM"),
        (certificate("c5", "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n"), "PEM"),
        (TlsConfig { key: Some(PathBuf::from("/nonexistent/key")), ..good.clone() }, "/nonexistent/key"),
    ];
    for (config, part) in table {
        let problem = Stage::problem(&config);
        assert!(problem.contains(part), "{problem} does not say {part}");
    }
}

#[test]
fn authorities_that_have_ended_are_refused() {
    let stage = Stage::new();
    let ended = Made::authority("old", 2_020);
    let mut config = stage.config();
    config.client_ca = Some(stage.file("ca", &ended.certificate()));
    assert!(Stage::problem(&config).contains("ended on 2020-01-01"));
    let both = format!("{}{}", ended.certificate(), stage.authority.certificate());
    config.client_ca = Some(stage.file("ca", &both));
    let tls = Stage::open(&config).unwrap();
    assert_eq!(voucher(&tls, &stage.authority.signed("vc").der), Ok(Voucher::Authority));
    assert!(voucher(&tls, &ended.signed("vc").der).is_err());
    config.client_ca = Some(stage.file("ca", "nothing"));
    assert!(Stage::problem(&config).contains("has no certificate"));
    config.client_ca = Some(stage.file("ca", &stage.authority.certificate()));
    config.crl = Some(stage.file("crl", "nothing"));
    assert!(Stage::problem(&config).contains("no list of revoked certificates"));
}

#[test]
fn known_clients_need_no_authority() {
    let stage = Stage::new();
    let own = Made::authority("vc-1", 3_000);
    let mut config = stage.config();
    config.known_clients = Some(stage.file("known", &format!("vc-1 {}\n", Fingerprint::of(&own.der))));
    let tls = Stage::open(&config).unwrap();
    assert_eq!(voucher(&tls, &own.der), Ok(Voucher::KnownClient));
    assert!(voucher(&tls, &Made::authority("vc-1", 3_000).der).is_err(), "another certificate of that name");
    let ended = Made::authority("vc-1", 2_020);
    config.known_clients = Some(stage.file("known", &format!("vc-1 {}\n", Fingerprint::of(&ended.der))));
    assert!(voucher(&Stage::open(&config).unwrap(), &ended.der).is_err(), "it has ended");
    let read = ClientCertificate::read(&stage.server.der, Voucher::Authority);
    assert_eq!(read.names, ["server", "localhost"]);
}

#[test]
fn changes_are_taken_over_whole_or_not_at_all() {
    let stage = Stage::new();
    let config = stage.config();
    let tls = Stage::open(&config).unwrap();
    let ends = || tls.metrics.expiry.get_or_create(&Listener("http")).get();
    assert!(!tls.has_changed());
    let before = Arc::as_ptr(&tls.loaded.load().server);
    stage.file("c", &stage.authority.signed("next").certificate());
    assert!(tls.has_changed());
    assert!(tls.reload().is_err(), "the key is still the old one's");
    assert!(!tls.has_changed(), "it is told once");
    assert_eq!(Arc::as_ptr(&tls.loaded.load().server), before);
    assert_eq!(tls.metrics.stale.get_or_create(&Listener("http")).get(), 1);
    let mut next = Made::params("next");
    next.not_after = rcgen::date_time_ymd(2_999, 1, 1);
    let key = KeyPair::generate().unwrap();
    let issuer = Issuer::from_params(&stage.authority.params, &stage.authority.key);
    let der = next.signed_by(&key, &issuer).unwrap().der().clone();
    stage.file("c", &pem("CERTIFICATE", &der));
    stage.file("k", &pem("PRIVATE KEY", key.serialized_der()));
    assert_eq!(tls.reload().unwrap(), Reloaded::Changed);
    assert_eq!(ends(), 32_472_144_000, "2999-01-01");
    assert_eq!(tls.metrics.stale.get_or_create(&Listener("http")).get(), 0);
    assert_eq!(tls.reload().unwrap(), Reloaded::Unchanged);
    std::fs::remove_file(Path::new(config.key.as_ref().unwrap())).unwrap();
    assert!(tls.reload().is_err());
    assert_eq!(ends(), 32_472_144_000);
}

#[tokio::test]
async fn a_connection_ends_when_its_client_is_known_no_more_and_whoever_reads_hears_of_it() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let stage = Stage::new();
    let [first, second] = ["vc-1", "vc-2"].map(|name| Made::authority(name, 3_000));
    let line = |made: &Made, name: &str| format!("{name} {}\n", Fingerprint::of(&made.der));
    let both = format!("{}{}", line(&first, "vc-1"), line(&second, "vc-2"));
    let config = TlsConfig { known_clients: Some(stage.file("known", &both)), ..stage.config() };
    let tls = Stage::open(&config).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(stage.authority.der.clone()).unwrap();
    let connect = async |client: &Made| {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.unwrap().with_root_certificates(roots.clone());
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(client.key.serialized_der().to_vec());
        let config = builder.with_client_auth_cert(vec![client.der.clone()], key.into()).unwrap();
        let (near, far) = tokio::io::duplex(64 * 1024);
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        let local = std::net::IpAddr::from([127, 0, 0, 1]);
        let (client, server) = tokio::join!(connector.connect(name, near), tls.accept(far, local));
        let (server, certificate) = server.unwrap_or_else(|error| panic!("{}", chain(&error)));
        assert_eq!(certificate.unwrap().voucher, Voucher::KnownClient);
        (client.unwrap(), server)
    };
    let (mut near, mut far) = connect(&first).await;
    let (mut other_near, mut other_far) = connect(&second).await;
    near.write_all(b"a").await.unwrap();
    assert_eq!(far.read_u8().await.unwrap(), b'a');

    stage.file("known", &line(&second, "vc-2"));
    let change = async {
        // Only once the other waits: both are polled in this task, in this order.
        assert_eq!(tls.reload().unwrap(), Reloaded::Changed);
    };
    let (read, ()) = tokio::join!(far.read_u8(), change);
    assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::ConnectionAborted);
    assert!(far.write_all(b"b").await.is_err(), "nor is anything written");
    near.write_all(b"c").await.unwrap();
    assert!(far.read_u8().await.is_err(), "what comes afterwards is not read");
    other_near.write_all(b"d").await.unwrap();
    assert_eq!(other_far.read_u8().await.unwrap(), b'd');
    assert_eq!(tls.metrics.ended.get_or_create(&Listener("http")).get(), 1);
}
