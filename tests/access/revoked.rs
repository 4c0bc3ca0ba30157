//! A certificate that is accepted no more ends the connections it opened, and no others.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use holdfast_tests::finished::run;

use crate::client::TlsClient;
use crate::stage::{Stage, metric};

/// docs/tls.md says five seconds; this machine is busy.
const SOON: Duration = Duration::from_secs(10);
const LIST: &str = "/api/v1/eth2/publicKeys";

/// Asks again and again until the connection ends; panics if it does not end in time.
fn until_it_ends(connection: &mut TlsClient, who: &str) -> Duration {
    let begin = Instant::now();
    while let Ok((status, body)) = connection.request("GET", LIST, "", "") {
        // One whose caller was taken away may hear that before.
        assert!([200, 401].contains(&status), "{who}: {body}");
        assert!(begin.elapsed() < SOON, "{who} is still served after {:?}", begin.elapsed());
        std::thread::sleep(Duration::from_millis(20));
    }
    begin.elapsed()
}

/// Waits on a connection on which nothing is said until the server ends it.
fn hears_the_end(connection: &mut TlsClient, who: &str) {
    let error = connection.until("nothing").expect_err("nothing is said");
    // Else the client gave up waiting.
    assert!(!matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{who}: {error}");
}

#[test]
fn open_connections_end_with_their_certificate_and_others_go_on() {
    let stage = Stage::new(1);
    stage.documented("revocations");
    stage.client("vc-2");
    stage.shell("openssl req -x509 -newkey rsa:2048 -noenc -days 30 -subj /CN=any -keyout pinned.key -out pinned.pem");
    run(&stage.world.with(&["callers", "add", "pinned", "--certificate", &stage.file("pinned.pem")])).expect(0, &[]);
    let settings =
        [("certificate", "tls.pem"), ("key", "tls.key"), ("client_ca", "clients-ca.pem"), ("crl", "clients-crl.pem")];
    let server = stage.server(&settings).start();
    server.wait_ready();
    let open = |name: &str| {
        let mut connection =
            TlsClient::connect(server.http_addr(), &TlsClient::config(&stage, Some(name))).expect("a handshake");
        let (status, body) = connection.request("GET", LIST, "", "").expect("an answer");
        assert_eq!(status, 200, "{name}: {body}");
        connection
    };
    let [mut asking, mut silent, mut other, mut pinned, mut pinned_silent] =
        ["vc-1", "vc-1", "vc-2", "pinned", "pinned"].map(open);

    stage.documented("revoke");
    let took = until_it_ends(&mut asking, "vc-1");
    println!("a connection of a revoked certificate ended after {took:?}");
    hears_the_end(&mut silent, "vc-1");
    let ended = || metric(&server, "holdfast_tls_connections_ended_total{listener=\"http\"}");
    assert!((ended() - 2.0).abs() < 0.5, "{}", ended());
    for (name, connection) in [("vc-2", &mut other), ("pinned", &mut pinned)] {
        assert_eq!(connection.request("GET", LIST, "", "").expect("it goes on").0, 200, "{name}");
    }
    let anew = TlsClient::connect(server.http_addr(), &TlsClient::config(&stage, Some("vc-1")));
    assert!(anew.and_then(|mut anew| anew.request("GET", LIST, "", "")).is_err(), "nor is it let in again");

    // One that is accepted by its fingerprint alone, which is listed no more.
    run(&stage.world.with(&["callers", "remove", "pinned"])).expect(0, &[]);
    until_it_ends(&mut pinned, "pinned");
    hears_the_end(&mut pinned_silent, "pinned");
    assert!((ended() - 4.0).abs() < 0.5, "{}", ended());
    assert_eq!(other.request("GET", LIST, "", "").expect("it goes on").0, 200);
    let log = server.log();
    assert!(log.contains("their clients' certificates are accepted no more"), "{log}");
    assert!(server.stop().0.success());
}
