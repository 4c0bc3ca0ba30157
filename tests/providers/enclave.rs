//! A signer whose keys are in an enclave, as far as it goes without AWS: the data key is encrypted for enclaves, and a vault
//! that does not prove to be one gets nothing, whatever it says.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Stdio;
use std::time::Instant;

use holdfast_tests::elsewhere::kms::Kms;
use holdfast_tests::elsewhere::recipient::RecipientPolicy;
use holdfast_tests::finished::Finished;
use holdfast_tests::keys::TestKey;
use holdfast_vault_proto::frame::FrameReader;
use holdfast_vault_proto::{Answer, Failure, Operation, Protections, Request, VERSION};

use crate::aws;
use crate::recipient::document;
use crate::stage::{LIMIT, Stage};

const ALIAS: &str = "alias/vault";

/// A world whose keys are guarded by a file here, and whose data key is encrypted for enclaves too.
fn stage(kms: &Kms) -> Stage {
    let mut stage = aws::stage(&kms.url(), "");
    stage.set("HOLDFAST_KEYS_PROVIDER", "file");
    stage.make_keys(1);
    stage.set("HOLDFAST_ENCLAVE_KEY", ALIAS);
    let file = stage.world.path().join("enclave.key").display().to_string();
    stage.run(&["--json", "enclave", "wrap", "--to", &file]).expect(0, &["wrapped", "data_key"]);
    stage.set("HOLDFAST_ENCLAVE_DATA_KEY_FILE", &file);
    stage.set("HOLDFAST_ENCLAVE_PCR0", &"ab".repeat(48));
    stage.set("HOLDFAST_SIGNING_BACKEND", "enclave");
    stage
}

/// A server that ends by itself.
fn ends(stage: &Stage) -> Finished {
    let mut child = stage
        .server()
        .command()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let end = Instant::now() + LIMIT;
    while child.try_wait().expect("it can be waited for").is_none() {
        if Instant::now() > end {
            let _ = child.kill();
            panic!("it did not end: {:?}", child.wait_with_output());
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    child.wait_with_output().expect("its output").into()
}

/// Speaks for a vault that has an emulated security module: its documents say everything right and are not signed.
fn impostor(listener: &UnixListener) {
    for stream in listener.incoming().map_while(Result::ok) {
        // A signer that gives up closes the connection.
        let _ = converse(stream);
    }
}

fn converse(stream: UnixStream) -> Option<()> {
    let mut writer = stream.try_clone().ok()?;
    let mut stream = stream;
    let mut byte = [0];
    while byte != *b"\n" {
        stream.read_exact(&mut byte).ok()?;
    }
    writer.write_all(b"OK 1\n").ok()?;
    let mut reader = FrameReader::new(stream);
    loop {
        let (number, answer) = {
            let (header, body) = reader.read().ok()?;
            let answer = match Request::read(header.operation, body).ok()? {
                Request::Hello { .. } => Answer::Welcome {
                    version: VERSION,
                    program: "impostor".to_owned(),
                    pinned: false,
                    protections: Protections::from_bits(0),
                    boot_key: Vec::new(),
                },
                Request::Pin(_) => Answer::Done(Operation::Pin),
                Request::Attest { .. } => Answer::Attested(document(0xab, b"a key", crate::recipient::now())),
                _ => Answer::Failed(Failure::Internal),
            };
            (header.number, answer)
        };
        answer.frame(number)?.write(&mut writer).ok()?;
    }
}

#[test]
fn a_vault_that_proves_nothing_gets_no_data_key() {
    let kms = Kms::start(&[ALIAS]);
    let mut stage = stage(&kms);
    assert_eq!((kms.count("Encrypt"), kms.plaintexts()[0].len()), (1, 32), "the data key itself");
    kms.only_for(RecipientPolicy::default());
    let socket = stage.world.path().join("vault.vsock");
    stage.set("HOLDFAST_ENCLAVE_ADDRESS", &format!("unix:{}:9002", socket.display()));
    ends(&stage).expect(3, &["cannot reach the vault at unix:"]);

    let listener = UnixListener::bind(&socket).expect("a socket");
    std::thread::spawn(move || impostor(&listener));
    ends(&stage).expect(3, &["does not prove to be an expected enclave", "not signed with ES384"]);
    assert_eq!(kms.count("Decrypt"), 0, "AWS KMS was not asked for it");
}

#[test]
fn keys_are_encrypted_for_no_vault_that_proves_nothing() {
    let kms = Kms::start(&[ALIAS]);
    let mut stage = stage(&kms);
    let folder = stage.world.path().join("more");
    std::fs::create_dir(&folder).expect("a folder");
    TestKey::interop(77).write_keystore(&folder, "secret");
    let password = stage.world.path().join("password-of-more");
    std::fs::write(&password, "secret").expect("a file");
    let (folder, password, named) = (folder.display().to_string(), password.display().to_string(), "5a".repeat(32));
    let arguments = ["enclave", "import", "--data-key", &named, "--from", &folder, "--password-file", &password];
    let socket = stage.world.path().join("vault.vsock");
    stage.set("HOLDFAST_ENCLAVE_ADDRESS", &format!("unix:{}:9002", socket.display()));
    stage.run(&arguments).expect(3, &["cannot reach the vault at unix:"]);

    let listener = UnixListener::bind(&socket).expect("a socket");
    std::thread::spawn(move || impostor(&listener));
    stage.run(&arguments).expect(3, &["does not prove to be an expected enclave", "not signed with ES384"]);
    assert_eq!(kms.count("Decrypt"), 0, "AWS KMS was not asked for it");
    let mut wrong = arguments;
    wrong[3] = "12";
    stage.run(&wrong).expect(2, &["--data-key", "enclave wrap"]);
    stage.set("HOLDFAST_SIGNING_BACKEND", "in-process");
    stage.run(&arguments).expect(2, &["signing.backend"]);
    let server = stage.serves(1);
    stage.set("HOLDFAST_SIGNING_BACKEND", "enclave");
    stage.run(&arguments).expect(1, &["a signer is running", "stop it"]);
    stage.set("HOLDFAST_SIGNING_BACKEND", "in-process");
    drop(server);
    let listed = stage.run(&["--json", "keys", "list"]).expect(0, &[]);
    assert!(!listed.text().contains(&TestKey::interop(77).public[2..]), "{}", listed.text());
}

#[test]
fn settings_of_an_enclave_are_checked_before_anything_starts() {
    let kms = Kms::start(&[ALIAS]);
    let mut stage = stage(&kms);
    ends(&stage).expect(2, &["enclave.address", "is missing"]);
    stage.set("HOLDFAST_ENCLAVE_ADDRESS", "vsock:16:9002");
    stage.set("HOLDFAST_ENCLAVE_PCR0", &"00".repeat(48));
    ends(&stage).expect(2, &["enclave.pcr0", "debug mode"]);
    stage.set("HOLDFAST_ENCLAVE_PCR0", "12");
    ends(&stage).expect(2, &["enclave.pcr0", "96 hexadecimal digits"]);
    stage.set("HOLDFAST_ENCLAVE_PCR0", "");
    ends(&stage).expect(2, &["enclave.pcr0", "is empty"]);
    stage.set("HOLDFAST_SIGNING_BACKEND", "in-process");
    stage.set("HOLDFAST_ENCLAVE_KEY", "alias/none");
    stage.run(&["enclave", "wrap", "--to", "x"]).expect(3, &["alias/none"]);
}
