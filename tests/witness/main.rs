//! The real binary as signers and witnesses of one group: one signer at a time signs, a standby takes over, a resumed
//! signer finds its epochs over, a restart in good order goes on at once and an old checkpoint does not.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use holdfast_tests::documented;
use holdfast_tests::harness::{Builder, Server, command, holdfast, holdfast_ok, workspace};
use holdfast_tests::http::{Response, once};
use holdfast_tests::keys::TestKey;
use holdfast_tests::postgres::Cluster;
use holdfast_tests::world::{CHAIN, GENESIS_TIME, SLOTS_PER_EPOCH, World, copy_private};
use rustix::process::{Pid, Signal, kill_process};

/// Anything waited for comes within this.
const LIMIT: Duration = Duration::from_mins(1);
const GROUP: &str = "pair";

/// The present slot of a world in a hurry: slots of one second, epochs of eight.
fn slot() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() - GENESIS_TIME
}

fn epoch() -> u64 {
    slot() / SLOTS_PER_EPOCH
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < end, "{what}: not within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A witness: its process and what signers need to know of it.
struct Witness {
    server: Server,
    named: String,
}

fn start_witness(world: &World, name: &str) -> Witness {
    start_witness_on(world, name, None)
}

fn start_witness_on(world: &World, name: &str, database: Option<&str>) -> Witness {
    start_witness_with(world, name, database, &[])
}

fn start_witness_with(world: &World, name: &str, database: Option<&str>, environment: &[(&str, &str)]) -> Witness {
    let dir = world.path().join(name);
    let more = database.map(|url| args(&["--database", url])).unwrap_or_default();
    if !dir.join("witness.key").exists() {
        let init = args(&["--json", "witness", "init"]);
        let made = holdfast_ok(&[world.arguments_in(&dir), more.clone(), init].concat());
        assert!(String::from_utf8_lossy(&made.stdout).contains("public_key"));
    }
    let command = ["--json", "witness", "serve", "--listen", "127.0.0.1:0"];
    let builder = more.into_iter().fold(world.server_in(&dir), Builder::global);
    let builder = environment.iter().fold(builder, |builder, (name, value)| builder.env(*name, *value));
    named(builder.command_line(&command).start())
}

/// The witness of a server, with the key that it says it has.
fn named(server: Server) -> Witness {
    let mut key = None;
    wait_until("the ready line", || {
        let log = server.log();
        let mut lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        key = lines.find_map(|line| line["public_key"].as_str().map(str::to_owned));
        key.is_some()
    });
    let named = format!("http://{}#{}", server.http_addr(), key.unwrap());
    Witness { server, named }
}

fn args(list: &[&str]) -> Vec<String> {
    list.iter().map(|&one| one.to_owned()).collect()
}

/// A signer of the group.
fn signer(world: &World, data_dir: &Path, witnesses: &[&str]) -> Server {
    let server = signing_by(world, data_dir, witnesses).start();
    server.wait_ready();
    server
}

/// How one is started.
fn signing_by(world: &World, data_dir: &Path, witnesses: &[&str]) -> Builder {
    world
        .server_in(data_dir)
        .env("HOLDFAST_SIGNING_BACKEND", "process")
        .env("HOLDFAST_WITNESS_GROUP", GROUP)
        .env("HOLDFAST_WITNESS_SERVERS", witnesses.join(","))
        // The database of the second machine is a copy, and its signer notices.
        .env("HOLDFAST_SLASHING_ON_ROLLBACK", "fence")
}

/// A second machine: the same keys and data key, and a database of its own, which knows nothing of the other.
fn second_machine(world: &World) -> std::path::PathBuf {
    let dir = world.path().join("second");
    copy_private(&world.data_dir().join("kek"), &dir.join("kek"));
    std::fs::copy(world.data_dir().join("holdfast.db"), dir.join("holdfast.db")).unwrap();
    dir
}

fn attest(server: &Server, key: &TestKey, target: u64, content: u64) -> Response {
    let (body, _) = CHAIN.attestation(target * SLOTS_PER_EPOCH, target - 1, target, content);
    server.sign(&key.public, &body)
}

fn propose(server: &Server, key: &TestKey, slot: u64, content: u64) -> Response {
    let (body, _) = CHAIN.block(slot, content);
    server.sign(&key.public, &body)
}

/// Waits until a vote for the present epoch is signed, and says which epoch it was.
fn attests(server: &Server, key: &TestKey, content: u64) -> u64 {
    let mut signed = 0;
    wait_until("a vote is signed", || {
        let target = epoch();
        signed = target;
        attest(server, key, target, content).status == 200
    });
    signed
}

fn send(server: &Server, signal: Signal) {
    for process in std::iter::once(server.pid()).chain(vault_of(server)) {
        kill_process(Pid::from_raw(i32::try_from(process).unwrap()).unwrap(), signal).unwrap();
    }
}

fn vault_of(server: &Server) -> Option<u32> {
    let threads = std::fs::read_dir(format!("/proc/{}/task", server.pid())).ok()?;
    threads
        .filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("children")).ok())
        .find_map(|text| text.split_whitespace().next().and_then(|id| id.parse().ok()))
}

/// Listens at an address and passes everything on to another one, until the test ends. Returns where it listens.
fn forward(from: &str, to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind(from).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            let Ok(far) = TcpStream::connect(to) else { continue };
            for (mut from, mut to) in [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)] {
                // A connection that ends is no concern of the others.
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    });
    address
}

#[test]
fn witnesses_over_tls_know_their_signers_and_are_known_by_them() {
    let world = World::in_a_hurry(1);
    let key = &world.keys[0];
    let files = world.path().join("tls");
    std::fs::create_dir(&files).unwrap();
    for block in ["server", "client", "revocations"] {
        documented::run("docs/tls.md", block, &files);
    }
    let file = |name: &str| files.join(name).display().to_string();
    let of_witness = ["tls.pem", "tls.key", "clients-ca.pem", "clients-crl.pem"].map(file);
    let [certificate, private, ca, crl] = of_witness.each_ref().map(String::as_str);
    let witness = start_witness_with(
        &world,
        "witness",
        None,
        &[
            ("HOLDFAST_WITNESS_TLS_CERTIFICATE", certificate),
            ("HOLDFAST_WITNESS_TLS_KEY", private),
            ("HOLDFAST_WITNESS_TLS_CLIENT_CA", ca),
            ("HOLDFAST_WITNESS_TLS_CRL", crl),
        ],
    );
    wait_until("TLS", || witness.server.log().contains("\"listener\":\"witness\""));
    let public = witness.named.rsplit_once('#').unwrap().1;
    let port = witness.server.http_addr().port();
    let by_name = format!("https://localhost:{port}#{public}");
    let by_other_name = format!("https://{}#{public}", forward("127.0.0.2:0", witness.server.http_addr()));
    let (of_server, of_clients) = (file("ca.pem"), file("clients-ca.pem"));
    let (own, own_key) = (file("vc-1.pem"), file("vc-1.key"));
    let dir = world.data_dir();
    let start = |named: &str, settings: &[(&str, &str)]| {
        let builder = signing_by(&world, &dir, &[named]);
        settings.iter().fold(builder, |builder, (name, value)| builder.env(format!("HOLDFAST_WITNESS_{name}"), *value))
    };
    let refuses = |named: &str, settings: &[(&str, &str)], words: &str| {
        let server = start(named, settings).start();
        wait_until(words, || server.log().contains(words));
        assert_ne!(attest(&server, key, epoch(), 1).status, 200, "{words}");
        server.stop();
    };
    let certificates = [("CERTIFICATE", own.as_str()), ("KEY", &own_key)];
    let good = [&[("CA", of_server.as_str())][..], &certificates].concat();
    refuses(&witness.named, &[], "what answers there is no witness");
    refuses(&by_name, &certificates, "name the authority in witness.ca");
    refuses(
        &by_name,
        &[&[("CA", of_clients.as_str())][..], &certificates].concat(),
        "name the authority in witness.ca",
    );
    refuses(&by_other_name, &good, "is for another name than its host");
    refuses(&by_name, &[("CA", &of_server)], "set witness.certificate and witness.key");
    for (settings, words) in [
        (&[("CA", of_server.as_str()), ("CERTIFICATE", "/nonexistent/own.pem")][..], "/nonexistent/own.pem"),
        (&[("CA", &of_server), ("CERTIFICATE", &own), ("KEY", private)], "does not belong to the first certificate"),
        (&[("KEY", &own_key)], "without witness.certificate"),
    ] {
        let error = start(&by_name, settings).try_start().map(drop).unwrap_err();
        assert!(error.contains("exit status: 2") && error.contains(words), "{error}");
    }

    let server = start(&by_name, &good).start();
    server.wait_ready();
    attests(&server, key, 1);
    // What the witness hears of a revocation ends that.
    documented::run("docs/tls.md", "revoke", &files);
    let words = "it does not accept witness.certificate";
    wait_until("the revocation", || server.log().contains(words));
    server.stop();
}

#[test]
fn a_restart_goes_on_at_once_and_an_old_checkpoint_does_not() {
    let world = World::in_a_hurry(1);
    let key = &world.keys[0];
    let witness = start_witness(&world, "witness");
    let dir = world.data_dir();
    let server = signer(&world, &dir, &[&witness.named]);
    attests(&server, key, 1);
    let (status, log) = server.stop();
    assert!(status.success() && log.contains("the lease is given back"), "{log}");
    let old = std::fs::read(dir.join("checkpoint")).unwrap();

    // Straight on: blocks of this very slot, without the fence of a new vault.
    let server = signer(&world, &dir, &[&witness.named]);
    wait_until("the lease goes on", || server.log().contains("goes on where the last vault stopped"));
    let began = epoch();
    let signed = propose(&server, key, slot(), 1);
    assert_eq!(signed.status, 200, "{}\n{}", signed.text(), server.log());
    let vote = attest(&server, key, began, 1);
    assert!(vote.status == 200 || epoch() > began, "{}", vote.text());
    assert!(!dir.join("checkpoint").exists(), "it is used up");
    let last = attests(&server, key, 1);
    let again = attest(&server, key, last, 2);
    assert_eq!((again.status, again.reason().as_str()), (412, "double_vote"));
    let (status, log) = server.stop();
    assert!(status.success() && log.contains("the lease is given back"), "{log}");

    // The host puts the older one in place, and its database with it would not matter either.
    std::fs::write(dir.join("checkpoint"), old).unwrap();
    let server = signer(&world, &dir, &[&witness.named]);
    wait_until("a lease begins", || server.log().contains("the lease begins"));
    assert!(!server.log().contains("goes on where"), "{}", server.log());
    let signed = attests(&server, key, 1);
    assert!(signed > last, "not in an epoch that the vault before signed in");
}

/// A vault that is started by itself, ended with its test.
struct Vault(Child, PathBuf);

impl Vault {
    fn start(world: &World) -> Self {
        let socket = world.path().join("vault.sock");
        let mut command = command();
        command.args(["vault", "--listen"]).arg(&socket).stderr(Stdio::null());
        let vault = Self(command.spawn().unwrap(), socket);
        wait_until("the vault listens", || std::os::unix::net::UnixStream::connect(&vault.1).is_ok());
        vault
    }

    fn signer(&self, world: &World, witness: &str) -> Server {
        let server = world
            .server()
            .env("HOLDFAST_SIGNING_BACKEND", "process")
            .env("HOLDFAST_SIGNING_VAULT_SOCKET", self.1.as_os_str())
            .env("HOLDFAST_WITNESS_GROUP", GROUP)
            .env("HOLDFAST_WITNESS_SERVERS", witness)
            .start();
        server.wait_ready();
        server
    }
}

impl Drop for Vault {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_vault_that_outlives_its_signer_keeps_its_lease() {
    let world = World::in_a_hurry(1);
    let key = &world.keys[0];
    let witness = start_witness(&world, "witness");
    let vault = Vault::start(&world);
    let server = vault.signer(&world, &witness.named);
    attests(&server, key, 1);
    // From the middle of each epoch the lease reaches into the next one.
    wait_until("a lease that reaches further", || {
        let until = format!("holdfast_vault_lease_until_epoch {}", epoch() + 1);
        server.get_metrics("/metrics").text().contains(&until)
    });
    let (status, log) = server.stop();
    assert!(status.success() && log.contains("the vault keeps its lease"), "{log}");
    assert!(!log.contains("given back"), "{log}");

    // No witness answers, and none has to: the lease is the vault's.
    witness.server.kill9();
    let server = vault.signer(&world, &witness.named);
    wait_until("the lease is known", || server.log().contains("the vault holds its lease still"));
    let before = slot();
    wait_until("a new slot", || slot() > before);
    let signed = propose(&server, key, slot(), 1);
    assert_eq!(signed.status, 200, "{}\n{}", signed.text(), server.log());
    let again = propose(&server, key, before.saturating_sub(1), 2);
    assert_eq!(again.status, 412, "{}", again.text());
    // It runs out like any other.
    wait_until("the lease is over", || propose(&server, key, slot(), 1).reason() == "no_lease");
}

#[test]
fn a_standby_takes_over_and_the_one_that_comes_back_signs_nothing() {
    let world = World::in_a_hurry(1);
    let key = &world.keys[0];
    let witness = start_witness(&world, "witness");
    let second = second_machine(&world);
    let active = signer(&world, &world.data_dir(), &[&witness.named]);
    attests(&active, key, 1);
    let standby = signer(&world, &second, &[&witness.named]);
    wait_until("the second stands by", || standby.log().contains("another signer of the group holds the lease"));
    // Behind the fence of its copied database, too.
    wait_until("refused for want of a lease", || {
        let refused = attest(&standby, key, epoch(), 2);
        assert_ne!(refused.status, 200);
        (refused.status, refused.reason().as_str()) == (503, "no_lease")
    });

    // It stops in its tracks, and holds at most the next epoch.
    send(&active, Signal::STOP);
    let stopped = epoch();
    let first = attests(&standby, key, 2);
    assert!(first <= stopped + 2, "taken over within one epoch after the last one leased: {stopped} {first}");
    // It runs on as if nothing had been.
    send(&active, Signal::CONT);
    for target in [epoch(), epoch() + 1] {
        let answer = attest(&active, key, target, 1);
        assert!(answer.status != 200, "two signers signed for epoch {target}");
    }
    let answer = propose(&active, key, slot(), 1);
    assert_eq!((answer.status, answer.reason().as_str()), (503, "no_lease"), "{}", answer.text());
    assert_eq!(propose(&standby, key, slot(), 2).status, 200, "{}", standby.log());
    wait_until("the first stands by", || active.log().contains("another signer of the group holds the lease"));

    // The holder is killed; the other takes over again.
    standby.kill9();
    let last = epoch();
    let again = attests(&active, key, 1);
    assert!(again > first && again <= last + 2, "{first} {last} {again}");
}

/// A printed command after `holdfast`, with this test's own in place of what is the reader's.
fn printed(begins: &str, own: &[(&str, &str)]) -> Vec<String> {
    let line = documented::printed("docs/witness.md", begins);
    println!("{line}");
    let line = own.iter().fold(line, |line, (printed, own)| {
        assert!(line.contains(printed), "{line} has no {printed}");
        line.replace(printed, own)
    });
    line.trim_start_matches("$ holdfast").split_whitespace().map(str::to_owned).collect()
}

#[test]
fn what_is_printed_sets_up_a_pair_and_the_standby_takes_over() {
    let world = World::in_a_hurry(1);
    let key = &world.keys[0];
    let dir = world.path().join("witness").display().to_string();
    let own = ("--data-dir witness", format!("--data-dir {dir}"));
    let own = (own.0, own.1.as_str());
    holdfast_ok(&printed("$ holdfast --data-dir witness witness init", &[own]));
    let chain = world.arguments_in(Path::new(&dir))[2..].join(" ");
    let serve = [own, ("--network mainnet", chain.as_str()), ("10.0.0.7:9005", "127.0.0.1:0")];
    let mut serve = printed("$ holdfast --data-dir witness --network mainnet witness serve", &serve);
    // Beyond loopback nobody is let in who is not enrolled.
    serve.extend(args(&["--json", "--enrolled-only"]));
    let words: Vec<&str> = serve.iter().map(String::as_str).collect();
    let witness = named(Server::builder().command_line(&words).start());

    // The settings of every signer, as printed.
    let document = std::fs::read_to_string(workspace().join("docs/witness.md")).unwrap();
    let block = document.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let config = world.path().join("holdfast.toml");
    assert!(block.contains("http://10.0.0.7:9005#0x8a88…"), "{block}");
    std::fs::write(&config, block.replace("http://10.0.0.7:9005#0x8a88…", &witness.named)).unwrap();
    let start = |data: &Path| {
        let builder = world.server_in(data).global("--config").global(&config);
        // The database of the second machine is a copy, and its signer notices.
        let server = builder.env("HOLDFAST_SLASHING_ON_ROLLBACK", "fence").start();
        server.wait_ready();
        server
    };
    let second = second_machine(&world);
    let active = start(&world.data_dir());
    let told = "witness enroll --group validators-1 --key 0x";
    wait_until("it is told how to be let in", || active.log().contains(told));
    assert_ne!(attest(&active, key, epoch(), 1).status, 200, "nobody let it in");
    let log = active.log();
    let member = log.split(told).nth(1).and_then(|rest| rest.get(..64)).map(|digits| format!("0x{digits}")).unwrap();
    let enroll = printed("$ holdfast --data-dir witness witness enroll", &[own, ("0x5d1c…", &member)]);
    holdfast_ok(&enroll);
    attests(&active, key, 1);
    let standby = start(&second);
    wait_until("the second stands by", || standby.log().contains("another signer of the group holds the lease"));
    let mut status = printed("holdfast witness status", &[("holdfast ", "")]);
    status.extend(args(&["--json", "--data-dir", &dir]));
    let status = String::from_utf8(holdfast_ok(&status).stdout).unwrap();
    assert!(status.contains("validators-1") && status.contains(&member), "{status}");

    active.kill9();
    let killed = epoch();
    let first = attests(&standby, key, 2);
    println!("killed in epoch {killed}, the other signs from epoch {first} on");
    assert!(first <= killed + 2, "at most two epochs are without a signer: {killed} {first}");
    let metrics = standby.get_metrics("/metrics").text();
    assert!(metrics.contains("holdfast_vault_lease_held 1"), "{metrics}");
}

#[test]
fn two_of_three_witnesses_are_enough_and_one_is_not() {
    let world = World::in_a_hurry(1);
    let key = &world.keys[0];
    let mut witnesses: Vec<Witness> = ["w1", "w2", "w3"].iter().map(|name| start_witness(&world, name)).collect();
    let named: Vec<String> = witnesses.iter().map(|witness| witness.named.clone()).collect();
    let named: Vec<&str> = named.iter().map(String::as_str).collect();
    let server = signer(&world, &world.data_dir(), &named);
    attests(&server, key, 1);
    witnesses.remove(0).server.kill9();
    let until = epoch() + 2;
    wait_until("later epochs are signed for", || attests(&server, key, 1) >= until);
    witnesses.remove(0).server.kill9();
    let mut refused = String::new();
    wait_until("one witness is not enough", || {
        let answer = attest(&server, key, epoch(), 1);
        refused = answer.reason();
        answer.status == 503
    });
    assert_eq!(refused, "no_lease");
    wait_until("the metric says so", || server.get_metrics("/metrics").text().contains("holdfast_vault_lease_held 0"));
    assert!(server.log().contains("the lease is not extended"), "{}", server.log());
}

#[test]
fn strangers_and_bad_input_get_clear_answers() {
    let world = World::in_a_hurry(1);
    let dir = world.path().join("witness");
    let command = |rest: &[&str]| holdfast(&[world.arguments_in(&dir), args(rest)].concat());
    let missing = command(&["witness", "serve", "--listen", "127.0.0.1:0"]);
    assert!(String::from_utf8_lossy(&missing.stderr).contains("holdfast witness init"), "{missing:?}");
    let witness = start_witness(&world, "witness");
    let twice = command(&["witness", "init"]);
    assert!(!twice.status.success() && String::from_utf8_lossy(&twice.stderr).contains("nothing was changed"));

    let post = |body: &[u8]| once(witness.server.http_addr(), "POST", "/v1/lease", &[], body).unwrap();
    assert_eq!((post(b"garbage").status, post(b"garbage").reason().as_str()), (400, "malformed"));
    assert_eq!(post(&[0; 5_000]).status, 413);
    assert_eq!(once(witness.server.http_addr(), "GET", "/v1/lease", &[], b"").unwrap().status, 404);
    let metrics = witness.server.get_metrics("/metrics").text();
    assert!(metrics.contains("holdfast_witness_requests_total{outcome=\"malformed\"} 3"), "{metrics}");

    // Another data key is another member: the first founds the group, the other is told how to be let in.
    let server = signer(&world, &world.data_dir(), &[&witness.named]);
    attests(&server, &world.keys[0], 1);
    let other = World::in_a_hurry(1);
    let stranger = signer(&other, &other.data_dir(), &[&witness.named]);
    wait_until("the stranger is told", || stranger.log().contains("witness enroll --group pair --key 0x"));
    let line = stranger.log();
    let key = line.split("--key ").nth(1).and_then(|rest| rest.get(..66)).unwrap().to_owned();
    let enrolled = command(&["witness", "enroll", "--group", GROUP, "--key", &key]);
    assert!(enrolled.status.success(), "{enrolled:?}");
    wait_until("it stands by", || stranger.log().contains("another signer of the group holds the lease"));
    let status = command(&["--json", "witness", "status"]);
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.contains(&key) && status.contains("\"holder\""), "{status}");

    // Configurations that cannot work.
    let refused = |variables: &[(&str, &str)]| {
        let builder = world.server_in(&world.path().join("unused"));
        let builder = variables.iter().fold(builder, |builder, (name, value)| builder.env(name, value));
        builder.try_start().err().expect("it does not start")
    };
    let all = refused(&[("HOLDFAST_WITNESS_GROUP", GROUP), ("HOLDFAST_WITNESS_SERVERS", &witness.named)]);
    assert!(all.contains("signing.backend = \"process\"") || all.contains("signing.backend"), "{all}");
    let all = refused(&[("HOLDFAST_WITNESS_GROUP", GROUP), ("HOLDFAST_WITNESS_SERVERS", "http://a:1")]);
    assert!(all.contains("holdfast witness init"), "{all}");
}

#[test]
fn a_witness_on_postgresql_keeps_what_it_granted() {
    let world = World::in_a_hurry(1);
    let cluster = Cluster::start();
    let url = cluster.url();
    let witness = start_witness_on(&world, "witness", Some(&url));
    let server = signer(&world, &world.data_dir(), &[&witness.named]);
    attests(&server, &world.keys[0], 1);
    drop(server);
    for sql in ["UPDATE holdfast_witness.record SET version = 9", "DELETE FROM holdfast_witness.record"] {
        let refused = cluster.try_psql(sql).unwrap_err();
        assert!(refused.contains("nothing is ever changed"), "{refused}");
    }
    // The signer is gone and gave nothing back; a witness that was started anew still knows.
    witness.server.kill9();
    let witness = start_witness_on(&world, "witness", Some(&url));
    let server = signer(&world, &world.data_dir(), &[&witness.named]);
    wait_until("the lease is remembered", || {
        let log = server.log();
        log.contains("another signer of the group holds the lease") || log.contains("the lease begins")
    });
    attests(&server, &world.keys[0], 1);
    drop(server);
    drop(witness);

    cluster.set("fsync", "off");
    let dir = world.path().join("witness");
    let serve = args(&["--database", &url, "witness", "serve", "--listen", "127.0.0.1:0"]);
    let refused = holdfast(&[world.arguments_in(&dir), serve].concat());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("fsync"), "{said}");
}
