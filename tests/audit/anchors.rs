//! Checkpoints that are kept elsewhere: a bucket of other people's making, a webhook, log collectors; what each of them
//! got, what is tried again, and a journal whose end was cut off, verified against them.

use std::io::Read as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use holdfast_tests::elsewhere::moto::Moto;
use holdfast_tests::elsewhere::server::{Request, Server as Fake};
use holdfast_tests::finished::Finished;
use holdfast_tests::harness::{Builder, command};
use holdfast_tests::http::once;
use holdfast_tests::postgres::free_port;
use holdfast_tests::world::{CHAIN, World};
use serde_json::json;

use crate::stage::{file, public_key};

/// Longest wait for something that must happen.
const LIMIT: Duration = Duration::from_secs(30);
/// Moto checks no signature, but wants one of the right form.
const CREDENTIAL: &str =
    "AWS4-HMAC-SHA256 Credential=test/20260101/eu-west-1/s3/aws4_request, SignedHeaders=host, Signature=0";

#[track_caller]
fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < end, "{what} did not happen within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A world whose binary runs with these settings.
struct Stage {
    world: World,
    settings: Vec<(&'static str, String)>,
}

impl Stage {
    fn new(settings: &[(&'static str, &str)]) -> Self {
        let settings = settings.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Self { world: World::new(1), settings }
    }

    fn server(&self) -> Builder {
        self.settings.iter().fold(self.world.server(), |server, (name, value)| server.env(name, value))
    }

    fn run(&self, arguments: &[&str]) -> Finished {
        let mut command = command();
        command.args(self.world.with(arguments)).envs(self.settings.iter().cloned());
        command.output().expect("the binary starts").into()
    }

    /// Runs a server that signs one attestation and stops; its log.
    fn signs(&self, number: u64) -> String {
        let server = self.server().start();
        server.wait_ready();
        let (vote, _) = CHAIN.attestation(8 * (number + 2), number, number + 1, 0);
        assert_eq!(server.sign(&self.world.keys[0].public, &vote).status, 200);
        let (ended, log) = server.stop();
        assert!(ended.success(), "{log}");
        log
    }

    /// The journal's last checkpoint, as it is kept elsewhere.
    fn last(&self) -> String {
        self.run(&["audit", "checkpoint"]).expect(0, &["holdfast/"]).stdout
    }

    fn copy(&self, name: &str) -> String {
        let copy = file(&self.world, name);
        std::fs::copy(self.world.data_dir().join("holdfast.db"), &copy).expect("a copy");
        copy
    }
}

/// A bucket in moto.
fn bucket(moto: &Moto, name: &str, headers: &[(&str, &str)]) {
    let address = moto.url()["http://".len()..].parse().expect("an address");
    let body =
        b"<CreateBucketConfiguration><LocationConstraint>eu-west-1</LocationConstraint></CreateBucketConfiguration>";
    let headers = [&[("Authorization", CREDENTIAL)], headers].concat();
    let answer = once(address, "PUT", &format!("/{name}"), &headers, body).expect("moto answers");
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// What moto has at a path.
fn object(moto: &Moto, path: &str) -> String {
    let address = moto.url()["http://".len()..].parse().expect("an address");
    once(address, "GET", path, &[("Authorization", CREDENTIAL)], b"").expect("moto answers").text()
}

fn in_bucket<'a>(moto: &'a str, more: &[(&'static str, &'a str)]) -> Vec<(&'static str, &'a str)> {
    let settings = [
        ("HOLDFAST_AUDIT_S3_BUCKET", "checkpoints"),
        ("HOLDFAST_AUDIT_S3_PREFIX", "holdfast/"),
        ("HOLDFAST_AUDIT_S3_ENDPOINT", moto),
        ("HOLDFAST_AUDIT_S3_REGION", "eu-west-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ];
    [&settings, more].concat()
}

#[test]
fn a_bucket_keeps_each_checkpoint_and_tells_that_the_end_was_cut_off() {
    let moto = Moto::start();
    bucket(&moto, "checkpoints", &[("x-amz-bucket-object-lock-enabled", "true")]);
    let url = moto.url();
    let stage = Stage::new(&in_bucket(&url, &[("HOLDFAST_AUDIT_S3_LOCK_DAYS", "30")]));
    stage.signs(0);
    let early = stage.copy("early.db");
    let before = stage.last();
    stage.signs(1);
    let (last, key) = (stage.last(), public_key(&stage.world));
    assert_ne!(before, last);
    let listed = object(&moto, "/checkpoints?list-type=2");
    let names: Vec<&str> = listed.split("<Key>").skip(1).map(|rest| rest.split('<').next().expect("a name")).collect();
    let notes: Vec<String> = names.iter().map(|name| object(&moto, &format!("/checkpoints/{name}"))).collect();
    assert!(notes.contains(&before) && notes.last() == Some(&last), "{names:?}");
    let address = moto.url()["http://".len()..].parse().expect("an address");
    let path = format!("/checkpoints/{}", names[0]);
    let kept = once(address, "GET", &path, &[("Authorization", CREDENTIAL)], b"").expect("moto answers");
    assert_eq!(kept.header("x-amz-object-lock-mode"), Some("COMPLIANCE"), "{:?}", kept.headers);
    let version = kept.header("x-amz-version-id").expect("a version").to_owned();
    let delete = format!("{path}?versionId={version}");
    let deleted = once(address, "DELETE", &delete, &[("Authorization", CREDENTIAL)], b"").expect("moto answers");
    assert_eq!(deleted.status, 403, "the store refuses to delete it: {}", deleted.text());

    let place = "s3://checkpoints/holdfast";
    let verify = |what: &str, more: &[&str]| {
        stage.run(&[&["audit", "verify", what, "--checkpoint-key", &key, "--anchor", place], more].concat())
    };
    let whole = stage.copy("whole.db");
    verify(&whole, &[]).expect(0, &["verified", "kept elsewhere"]);
    verify(&early, &[]).expect(1, &["NOT in order", "was cut off"]);
    // For who knows that it was copied before.
    let time = before.lines().find_map(|line| line.strip_prefix("time ")).expect("a time");
    let time: u64 = time.parse().expect("milliseconds");
    let as_of = holdfast_domain::UnixMillis(time + 1).rfc3339_millis();
    verify(&early, &["--as-of", &as_of]).expect(0, &["verified"]);
    let export = file(&stage.world, "journal.jsonl");
    stage.run(&["audit", "export", "--to", &export]).expect(0, &[]);
    verify(&export, &[]).expect(0, &["kept elsewhere"]);
    // A copy of the bucket on a disk, and a bucket of somebody else's.
    let folder = stage.world.path().join("bucket");
    for (name, note) in names.iter().zip(&notes) {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        std::fs::write(path, note).expect("a note");
    }
    let folder = folder.display().to_string();
    stage.run(&["audit", "verify", &early, "--anchor", &folder]).expect(1, &["was cut off"]);
    stage.run(&["audit", "verify", &whole, "--anchor", "s3://nobody/"]).expect(3, &["404", "NoSuchBucket"]);
    stage.run(&["audit", "verify", &whole, "--anchor", "s3://checkpoints/other"]).expect(1, &["holds no checkpoint"]);
    stage.run(&["doctor"]).expect(0, &["s3://checkpoints/holdfast/ keeps the checkpoint of batch"]);

    // What is there under the name of a checkpoint is never replaced.
    let other = Stage { world: World::new(1), settings: stage.settings.clone() };
    let instance = |note: &str| note.lines().next().expect("a name").trim_start_matches("holdfast/").to_owned();
    other.signs(0);
    let name = format!("/checkpoints/holdfast/{}/", instance(&other.last()));
    let kept = object(&moto, "/checkpoints?list-type=2");
    assert!(kept.contains(&name["/checkpoints/".len()..]), "two journals share a bucket: {kept}");
    stage.run(&["audit", "verify", &whole, "--anchor", place, "--checkpoint-key", &key]).expect(0, &["verified"]);
}

#[test]
fn a_webhook_gets_each_checkpoint_in_the_end_and_nothing_waits_for_it() {
    let status = Arc::new(AtomicU16::new(503));
    let got = Arc::new(Mutex::new(Vec::<Request>::new()));
    let (answer, seen) = (Arc::clone(&status), Arc::clone(&got));
    let fake = Fake::start(
        "text/plain",
        Arc::new(move |request: &Request| {
            let status = answer.load(Ordering::SeqCst);
            seen.lock().expect("requests").push(request.clone());
            (status, json!({ "message": "not now" }))
        }),
    );
    let stage = Stage::new(&[]);
    let secret = |name: &str, text: &str| {
        let path = stage.world.path().join(name);
        std::fs::write(&path, text).expect("a file");
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, private).expect("chmod");
        path.display().to_string()
    };
    let settings = vec![
        ("HOLDFAST_AUDIT_WEBHOOK_URL", format!("{}/hook", fake.url())),
        ("HOLDFAST_AUDIT_WEBHOOK_TOKEN_FILE", secret("token", "t0ken\n")),
        ("HOLDFAST_AUDIT_WEBHOOK_HMAC_FILE", secret("hmac", "Jefe\n")),
    ];
    let stage = Stage { settings, ..stage };
    let log = stage.signs(0);
    assert!(log.contains("is tried again") && log.contains("not kept everywhere yet"), "{log}");
    stage.run(&["doctor"]).expect(0, &["keeps no checkpoints since", "503"]);

    let server = stage.server().start();
    server.wait_ready();
    let metric = |name: &str| {
        let metrics = server.get_metrics("/metrics").text();
        let start = format!("holdfast_audit_{name}{{anchor=\"webhook\"}} ");
        let value = metrics.lines().find_map(|line| line.strip_prefix(&start)?.parse::<u64>().ok());
        value.unwrap_or_else(|| panic!("no {start}in\n{metrics}"))
    };
    wait_for("a failure", || metric("anchor_failures_total") > 0);
    assert_eq!(metric("anchored_batch"), 0);
    let (vote, _) = CHAIN.attestation(24, 1, 2, 0);
    assert_eq!(server.sign(&stage.world.keys[0].public, &vote).status, 200);
    status.store(204, Ordering::SeqCst);
    wait_for("what failed is tried again", || metric("anchored_batch") > 0);
    assert!(metric("anchored_timestamp_seconds") > 1_700_000_000);
    assert!(server.stop().0.success());

    let last = stage.last();
    let got = got.lock().expect("requests");
    let request = got.last().expect("a request");
    assert_eq!(
        (request.method.as_str(), request.path.as_str(), request.body.as_slice()),
        ("POST", "/hook", last.as_bytes())
    );
    assert_eq!(request.header("authorization"), "Bearer t0ken");
    assert!(
        request.header("idempotency-key").contains('/') && request.header("content-type").starts_with("text/plain")
    );
    let python = "import hmac,sys;print('sha256='+hmac.new(b'Jefe',sys.stdin.buffer.read(),'sha256').hexdigest())";
    let mut child = Command::new("python3")
        .args(["-c", python])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 starts");
    std::io::Write::write_all(&mut child.stdin.take().expect("piped"), last.as_bytes()).expect("taken");
    let signed = child.wait_with_output().expect("it ends").stdout;
    assert_eq!(request.header("x-holdfast-signature"), String::from_utf8_lossy(&signed).trim());
    stage.run(&["audit", "checkpoint"]).expect(0, &["webhook: http://127.0.0.1", "keeps this one"]);
    stage.run(&["doctor"]).expect(0, &["keeps the checkpoint of batch"]);
}

/// The note in a message of RFC 5424 that was framed by its length.
fn note_of(framed: &str) -> String {
    let (length, message) = framed.split_once(' ').expect("a length");
    assert_eq!(length.parse(), Ok(message.len()), "{framed}");
    assert!(message.starts_with("<110>1 20") && message.contains(" holdfast - checkpoint - "), "{message}");
    let note = message.split_once(" note=").expect("a note").1;
    String::from_utf8(BASE64.decode(note.trim()).expect("base64")).expect("UTF-8")
}

#[test]
fn a_log_collector_gets_each_checkpoint_and_its_log_verifies() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = format!("tcp://{}", listener.local_addr().expect("an address"));
    let got = Arc::new(Mutex::new(Vec::<String>::new()));
    let seen = Arc::clone(&got);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut text = String::new();
            if stream.read_to_string(&mut text).is_ok() {
                seen.lock().expect("messages").push(text);
            }
        }
    });
    let stage = Stage::new(&[("HOLDFAST_AUDIT_SYSLOG", &address)]);
    stage.signs(0);
    let early = stage.copy("early.db");
    stage.signs(1);
    let messages = got.lock().expect("messages").clone();
    let last = messages.last().expect("a message");
    assert_eq!(note_of(last), stage.last());
    // As a collector writes it down, among other lines.
    let log = file(&stage.world, "collector.log");
    std::fs::write(&log, format!("Jul  1 12:00:00 host sshd: hello\n{last}\n")).expect("a log");
    let key = public_key(&stage.world);
    stage.run(&["audit", "verify", "--checkpoint-key", &key, "--anchor", &log]).expect(0, &["kept elsewhere"]);
    stage.run(&["audit", "verify", &early, "--anchor", &log]).expect(1, &["was cut off"]);
    // A checkpoint of another signer shows nothing about this one.
    let other = Stage::new(&[]);
    other.signs(0);
    other.run(&["audit", "verify", "--anchor", &log]).expect(1, &["none of the checkpoints"]);
}

#[test]
fn a_real_log_collector_writes_down_what_verifies() {
    let program = ["/usr/sbin/rsyslogd", "/usr/bin/rsyslogd"].into_iter().find(|path| Path::new(path).is_file());
    let program = program.expect("rsyslogd is missing: install rsyslog");
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (port, log) = (free_port(), path("collected.log"));
    let config = format!(
        "global(workDirectory=\"{}\")\nmodule(load=\"imtcp\")\ninput(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\")\n\
         action(type=\"omfile\" file=\"{log}\" template=\"RSYSLOG_SyslogProtocol23Format\")\n",
        folder.path().display()
    );
    std::fs::write(path("rsyslog.conf"), config).expect("a configuration");
    let collector = Command::new(program)
        .args(["-n", "-i", &path("pid"), "-f", &path("rsyslog.conf")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("rsyslogd starts");
    let _collector = Ends(collector);
    wait_for("rsyslogd listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    let stage = Stage::new(&[("HOLDFAST_AUDIT_SYSLOG", &format!("tcp://127.0.0.1:{port}"))]);
    stage.signs(0);
    let note = BASE64.encode(stage.last());
    wait_for("the message", || std::fs::read_to_string(&log).is_ok_and(|text| text.contains(&note)));
    let key = public_key(&stage.world);
    stage.run(&["audit", "verify", "--checkpoint-key", &key, "--anchor", &log]).expect(0, &["kept elsewhere"]);
    let text = std::fs::read_to_string(&log).expect("the log");
    let line = text.lines().find(|line| line.contains("holdfast-checkpoint")).expect("the line");
    assert!(line.starts_with("<110>1 ") && line.contains(" holdfast - checkpoint - "), "{line}");
}

struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_log_collector_over_tls_is_who_it_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let pem = |label: &str, der: &[u8]| {
        let text = BASE64.encode(der);
        let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
    };
    let certificate = |name: &str| {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        std::fs::write(path(&format!("{name}.pem")), pem("CERTIFICATE", made.cert.der())).expect("written");
        std::fs::write(path(&format!("{name}.key")), pem("PRIVATE KEY", &made.signing_key.serialize_der()))
            .expect("written");
    };
    certificate("collector");
    certificate("stranger");
    let port = free_port();
    let out = std::fs::File::create(folder.path().join("out")).expect("a file");
    let collector = Command::new("openssl")
        .args(["s_server", "-quiet", "-accept", &port.to_string(), "-cert", &path("collector.pem")])
        .args(["-key", &path("collector.key")])
        .stdin(Stdio::piped())
        .stdout(out)
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl starts");
    let _collector = Ends(collector);
    wait_for("the collector listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    let address = format!("tls://localhost:{port}");
    let received = || std::fs::read_to_string(Path::new(&path("out"))).expect("its output");
    let mut stage =
        Stage::new(&[("HOLDFAST_AUDIT_SYSLOG", &address), ("HOLDFAST_AUDIT_SYSLOG_CA_FILE", &path("stranger.pem"))]);
    let log = stage.signs(0);
    assert!(log.contains("is tried again") && !received().contains("holdfast"), "{log}");
    stage.settings[1].1 = path("collector.pem");
    stage.signs(1);
    wait_for("the message", || received().contains("note="));
    let text = received();
    let last = text.rfind("<110>1").expect("a message");
    let length =
        text[..last].rsplit(|letter: char| !letter.is_ascii_digit() && letter != ' ').next().expect("a length");
    assert_eq!(note_of(&format!("{length}{}", &text[last..])), stage.last());
}

#[test]
fn places_that_cannot_be_used_are_named_at_start() {
    let stage = Stage::new(&[]);
    for (name, value, phrase) in [
        ("HOLDFAST_AUDIT_SYSLOG", "udp://host:514", "tls://host:6514"),
        ("HOLDFAST_AUDIT_WEBHOOK_URL", "ftp://host/", "https://"),
        ("HOLDFAST_AUDIT_S3_BUCKET", "a/b", "audit.s3_bucket"),
        ("HOLDFAST_AUDIT_SYSLOG_CA_FILE", "/x", "audit.syslog is missing"),
        ("HOLDFAST_AUDIT_S3_LOCK_DAYS", "3", "needs audit.s3_bucket"),
        ("HOLDFAST_AUDIT_WEBHOOK_HMAC_FILE", "/x", "audit.webhook_url is missing"),
    ] {
        let mut command = command();
        let output = command.args(stage.world.with(&["serve"])).env(name, value).output().expect("the binary starts");
        Finished::from(output).expect(2, &[phrase]);
    }
    let finished = stage.run(&["audit", "verify", "--anchor", "/nowhere"]);
    finished.expect(2, &["/nowhere"]);
}
