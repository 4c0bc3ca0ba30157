//! Certificates are exchanged under load: not one request fails, and those who come later get the new one.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use holdfast_tests::world::CHAIN;

use crate::client::TlsClient;
use crate::stage::{Stage, metric, sign_path, wait_for};

const CLIENTS: u64 = 4;
/// Requests on each connection, so that handshakes go on all the time.
const REQUESTS: u64 = 10;
const ROTATIONS: u32 = 3;

#[test]
fn certificates_change_under_load_without_one_failed_request() {
    let stage = Stage::new(CLIENTS);
    let settings = [("certificate", "tls.pem"), ("key", "tls.key"), ("client_ca", "clients-ca.pem")];
    let server = stage.server(&settings).start();
    server.wait_ready();
    let config = TlsClient::config(&stage, Some("vc-1"));
    let (stop, signed) = (AtomicBool::new(false), AtomicU64::new(0));
    let shown = || TlsClient::connect(server.http_addr(), &config).expect("a handshake").server_certificate();
    let before = shown();
    std::thread::scope(|scope| {
        for (key, client) in stage.world.keys.iter().zip(0..CLIENTS) {
            let (server, config, stop, signed) = (&server, &config, &stop, &signed);
            scope.spawn(move || {
                let mut slot = 0;
                while !stop.load(Ordering::Relaxed) {
                    let mut connection = TlsClient::connect(server.http_addr(), config).expect("a handshake");
                    for _ in 0..REQUESTS {
                        slot += 1;
                        let (block, _) = CHAIN.block(slot, client);
                        let more = "Content-Type: application/json\r\n";
                        let answer = connection.request("POST", &sign_path(&key.public), more, &block.to_string());
                        let (status, body) = answer.expect("an answer");
                        assert_eq!(status, 200, "slot {slot}: {body}");
                        signed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        let mut last = before.clone();
        for _ in 0..ROTATIONS {
            stage.documented("renew");
            wait_for("the new certificate", || shown() != last);
            last = shown();
            let so_far = signed.load(Ordering::Relaxed);
            let end = Instant::now() + Duration::from_secs(20);
            while signed.load(Ordering::Relaxed) < so_far + 20 {
                assert!(Instant::now() < end, "nothing is signed any more");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        // A new file that cannot be used changes nothing.
        stage.shell("cp tls.key tls.key.kept; cp ca.key tls.key");
        let series = "holdfast_tls_files_unusable{listener=\"http\"}";
        wait_for("the refusal of a wrong key", || metric(&server, series) > 0.0);
        assert_eq!(shown(), last);
        stage.shell("mv tls.key.kept tls.key");
        wait_for("the good key", || metric(&server, series) == 0.0);
        stop.store(true, Ordering::Relaxed);
    });
    let log = server.log();
    assert!(log.contains("those of before stay in use") && log.contains("does not belong"), "{log}");
    assert!(metric(&server, "holdfast_tls_reloads_total{listener=\"http\"}") >= f64::from(ROTATIONS));
    println!("{} blocks signed over {ROTATIONS} changes of the certificate", signed.load(Ordering::Relaxed));
}
