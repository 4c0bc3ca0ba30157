//! `https`: an upstream is trusted by its own authority or not at all.

use std::time::Duration;

use holdfast_beacon::{
    CallError, CollectedAnswer, EndpointClass, TrustRoots, Upstream, UpstreamConfig, UpstreamRequest,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::certificates::Certificates;

/// Serves one answer per connection over TLS.
async fn server(certificates: &Certificates) -> u16 {
    let acceptor = certificates.acceptor();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // A client that does not trust us breaks off here.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = [0; 2048];
            let _ = stream.read(&mut request).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
            let _ = stream.shutdown().await;
        }
    });
    port
}

async fn call(url: &str, roots: TrustRoots, ca: &[u8]) -> Result<CollectedAnswer, CallError> {
    let mut config = UpstreamConfig::from_url(url).unwrap();
    config.tls.roots = roots;
    config.tls.own_ca_pem = ca.to_vec();
    let upstream = Upstream::standalone(config).unwrap();
    let request = UpstreamRequest::get_json("/".parse().unwrap(), EndpointClass::Read);
    let deadline = Instant::now() + Duration::from_secs(10);
    upstream.call(request, deadline).await?.collect(100, deadline).await
}

#[tokio::test]
async fn only_a_trusted_authority_and_the_right_name_are_accepted() {
    let certificates = Certificates::make();
    let ca: &[u8] = &certificates.authority;
    let port = server(&certificates).await;
    let url = format!("https://localhost:{port}");
    assert_eq!(call(&url, TrustRoots::OwnOnly, ca).await.unwrap().body, "ok");
    assert_eq!(call(&url, TrustRoots::Mozilla, ca).await.unwrap().body, "ok", "beside the public ones");
    let refused = |result: Result<CollectedAnswer, CallError>| matches!(result, Err(CallError::Connect(_)));
    assert!(refused(call(&url, TrustRoots::Mozilla, b"").await), "no public authority vouches for it");
    assert!(refused(call(&format!("https://127.0.0.1:{port}"), TrustRoots::OwnOnly, ca).await), "another name");
    assert!(call(&format!("http://localhost:{port}"), TrustRoots::Mozilla, b"").await.is_err(), "plain HTTP");
}
