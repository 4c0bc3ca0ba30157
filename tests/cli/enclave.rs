//! `holdfast enclave`: images that are the same for everybody, policies that name them, documents that prove nothing unless
//! AWS signed them, and an enclave that cannot start here and says why.

use std::path::{Path, PathBuf};

use holdfast_nitro::eif::Image;
use holdfast_tests::finished::{Finished, run};
use serde_json::Value;
use tempfile::TempDir;

/// A folder with what goes into an image.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(TempDir::new().expect("a folder"));
        let mut kernel: Vec<u8> = (0..3000_u32).flat_map(u32::to_be_bytes).collect();
        kernel[0x202..0x206].copy_from_slice(b"HdrS");
        folder.write("kernel", &kernel);
        folder.write("guest", &program("first"));
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn write(&self, name: &str, content: &[u8]) {
        std::fs::write(self.path(name), content).expect("a file");
    }

    fn build(&self, to: &str, more: &[&str]) -> Finished {
        let (kernel, guest, to) = (self.text("kernel"), self.text("guest"), self.text(to));
        let mut arguments = vec!["--json", "enclave", "build", "--kernel", &kernel, "--guest", &guest, "--to", &to];
        arguments.extend(more);
        run(&arguments)
    }
}

/// A static program: ELF without program headers.
fn program(content: &str) -> Vec<u8> {
    let mut program = [b"\x7fELF\x02\x01".as_slice(), &[0; 58], content.as_bytes()].concat();
    program[18] = 62;
    program
}

fn value(finished: &Finished) -> Value {
    finished.lines().pop().unwrap_or_else(|| panic!("no JSON in {}", finished.text()))
}

fn describe(path: &Path) -> Finished {
    run(&["--json", "enclave", "describe", &path.display().to_string()])
}

#[test]
fn the_same_inputs_are_the_same_image_and_its_values_are_computed_again() {
    let folder = Folder::new();
    let built = value(&folder.build("one.eif", &[]).expect(0, &["pcr0"]));
    let again = value(&folder.build("two.eif", &[]).expect(0, &[]));
    let (one, two) =
        (std::fs::read(folder.path("one.eif")).expect("image"), std::fs::read(folder.path("two.eif")).expect("image"));
    assert_eq!(one, two);
    assert_eq!(built["pcr0"], again["pcr0"]);
    let measured = Image::parse(&one).expect("an image").measurements();
    let described = value(&describe(&folder.path("one.eif")).expect(0, &[]));
    for (name, pcr) in [("pcr0", measured.pcr0), ("pcr1", measured.pcr1), ("pcr2", measured.pcr2)] {
        assert_eq!(described[name], pcr.to_string());
        assert_eq!(built[name], pcr.to_string());
    }
    // Another program is another PCR0 and PCR2 on the same platform; another command line another platform.
    folder.write("guest", &program("second"));
    let program = value(&folder.build("two.eif", &[]).expect(0, &[]));
    assert!(program["pcr0"] != built["pcr0"] && program["pcr1"] == built["pcr1"] && program["pcr2"] != built["pcr2"]);
    let line = value(&folder.build("two.eif", &["--cmdline", "quiet"]).expect(0, &[]));
    assert!(line["pcr1"] != built["pcr1"] && line["pcr2"] == program["pcr2"]);
}

#[test]
fn witnesses_are_measured_and_nothing_else_changes() {
    let folder = Folder::new();
    let plain = value(&folder.build("one.eif", &[]).expect(0, &[]));
    let keys: Vec<String> = [1, 2, 3]
        .map(|seed| {
            let dir = folder.text(&format!("witness-{seed}"));
            let init = run(&["--json", "--data-dir", &dir, "--network", "mainnet", "witness", "init"]).expect(0, &[]);
            value(&init)["public_key"].as_str().expect("a key").to_owned()
        })
        .to_vec();
    let url = format!("http://witness:9005#{}", keys[1]);
    let named = ["--witness", &keys[0], "--witness", &url, "--group", "pair"];
    let built = value(&folder.build("two.eif", &named).expect(0, &[]));
    assert_eq!(built["witnesses"], serde_json::json!({ "group": "pair", "keys": keys[..2], "quorum": 2 }));
    assert!(plain["witnesses"].is_null());
    assert!(built["pcr0"] != plain["pcr0"] && built["pcr1"] == plain["pcr1"] && built["pcr2"] != plain["pcr2"]);
    let again = value(&folder.build("three.eif", &named).expect(0, &[]));
    assert_eq!(again["pcr0"], built["pcr0"]);
    // Another witness, another number of them or another group is another image.
    for other in [
        vec!["--witness", &keys[0], "--witness", &keys[2], "--group", "pair"],
        vec!["--witness", &keys[0], "--group", "pair"],
        vec!["--witness", &keys[0], "--witness", &keys[1], "--group", "other"],
    ] {
        let other = value(&folder.build("three.eif", &other).expect(0, &[]));
        assert_ne!(other["pcr0"], built["pcr0"]);
    }
    folder.build("x.eif", &["--witness", &keys[0]]).expect(2, &["--group"]);
    folder.build("x.eif", &["--group", "pair"]).expect(2, &["--witness"]);
    folder.build("x.eif", &["--witness", "0x12", "--group", "pair"]).expect(2, &["public key of a witness"]);
    let few = ["--witness", &keys[0], "--witness", &keys[1], "--group", "pair", "--quorum", "1"];
    folder.build("x.eif", &few).expect(2, &["--quorum"]);
    assert!(!folder.path("x.eif").exists(), "nothing was written");
}

#[test]
fn what_cannot_be_an_image_is_named() {
    let folder = Folder::new();
    let good = std::fs::read(folder.path("guest")).expect("a program");
    folder.write("guest", b"#!/bin/sh");
    folder.build("x.eif", &[]).expect(2, &["--guest", "no program for x86-64"]);
    // The binary under test is linked dynamically.
    folder.write("guest", &std::fs::read(holdfast_tests::harness::binary()).expect("the binary"));
    folder.build("x.eif", &[]).expect(2, &["--guest", "crt-static"]);
    folder.write("guest", &good);
    folder.build("x.eif", &["--cmdline", "a\nb"]).expect(2, &["--cmdline", "printable"]);
    folder.write("kernel", &good);
    folder.build("x.eif", &[]).expect(2, &["--kernel", "bzImage"]);
    std::fs::remove_file(folder.path("kernel")).expect("removed");
    folder.build("x.eif", &[]).expect(2, &["--kernel", "cannot read"]);
    assert!(!folder.path("x.eif").exists(), "nothing was written");

    let folder = Folder::new();
    folder.build("x.eif", &[]).expect(0, &[]);
    let mut image = std::fs::read(folder.path("x.eif")).expect("image");
    let last = image.len() - 1;
    image[last] ^= 1;
    folder.write("x.eif", &image);
    describe(&folder.path("x.eif")).expect(1, &["check sum", "damaged"]);
    folder.write("x.eif", &image[..1000]);
    describe(&folder.path("x.eif")).expect(1, &["cut off"]);
    folder.write("x.eif", b"PK");
    describe(&folder.path("x.eif")).expect(1, &["no enclave image"]);
}

#[test]
fn a_policy_lets_only_named_images_decrypt() {
    let folder = Folder::new();
    let first = value(&folder.build("one.eif", &[]).expect(0, &[]))["pcr0"].clone();
    let other = "ab".repeat(48);
    let role = "arn:aws:iam::111122223333:role/signer";
    let image = folder.text("one.eif");
    let printed = run(&["enclave", "kms-policy", "--eif", &image, "--pcr0", &other, "--role", role]).expect(0, &[]);
    let policy: Value = serde_json::from_str(&printed.stdout).expect("JSON");
    let statements = policy["Statement"].as_array().expect("statements");
    let of = |sid: &str| statements.iter().find(|one| one["Sid"] == sid).unwrap_or_else(|| panic!("no {sid}"));
    let mut images = [first.as_str().expect("text").to_owned(), other];
    images.sort();
    let allowed = of("TheEnclaveDecrypts");
    assert_eq!(allowed["Principal"]["AWS"], role);
    assert_eq!(
        allowed["Condition"]["StringEqualsIgnoreCase"]["kms:RecipientAttestation:ImageSha384"],
        serde_json::json!(images)
    );
    assert_eq!(of("NobodyElseDecrypts")["Effect"], "Deny");
    assert_eq!(of("AdministersWithoutDecrypting")["Principal"]["AWS"], "arn:aws:iam::111122223333:root");

    let zero = "00".repeat(48);
    run(&["enclave", "kms-policy", "--pcr0", &zero, "--role", role]).expect(2, &["debug mode"]);
    run(&["enclave", "kms-policy", "--role", role]).expect(2, &["--eif FILE"]);
    run(&["enclave", "kms-policy", "--pcr0", "12", "--role", role]).expect(2, &["96 hexadecimal digits"]);
    run(&["enclave", "kms-policy", "--eif", &image, "--role", "signer"]).expect(2, &["no ARN of a role"]);
    run(&["enclave", "kms-policy", "--eif", &image, "--role", role, "--account", "1"]).expect(2, &["12 digits"]);
}

#[test]
fn documents_that_aws_did_not_just_sign_prove_nothing() {
    let folder = Folder::new();
    let verify = |nonce: &str| {
        let document = folder.text("document");
        run(&["enclave", "verify", "--document", &document, "--nonce", nonce, "--pcr0", &"ab".repeat(48)])
    };
    verify("00").expect(2, &["--document", "cannot read"]);
    folder.write("document", b"no document");
    verify("00").expect(1, &["no attestation document"]);
    verify("").expect(2, &["1 to 512 bytes"]);
    verify("xyz").expect(2, &["hexadecimal"]);
    // As QEMU's emulated device writes them: no algorithm, zeros for a signature.
    let payload = b"\xa0";
    let emulated = [b"\x84\x43\xa1\x01\x20\xa0\x41".as_slice(), payload, b"\x58\x40", &[0; 64]].concat();
    folder.write("document", &emulated);
    verify("00").expect(1, &["not signed with ES384", "prove nothing", "QEMU"]);
    // Documents that AWS signed years ago.
    if let Some(vectors) = holdfast_tests::vectors::shared() {
        for name in ["evervault-2022-pcr8.bin", "evervault-ga.bin", "evervault-debug-mode.bin"] {
            let mut document = std::fs::read(vectors.join("nitro").join(name)).expect("a published document");
            folder.write("document", &document);
            verify("00").expect(1, &["expired"]);
            document[200] ^= 1;
            folder.write("document", &document);
            verify("00").expect(1, &["signature is wrong"]);
        }
    }
}

#[test]
fn an_enclave_that_cannot_start_here_says_what_is_missing() {
    let folder = Folder::new();
    folder.build("x.eif", &[]).expect(0, &[]);
    let image = folder.text("x.eif");
    assert!(!Path::new("/dev/nitro_enclaves").exists(), "this test is for a machine without enclaves");
    run(&["enclave", "run", "--eif", &image]).expect(3, &["/dev/nitro_enclaves", "--qemu"]);
    let missing = folder.text("no-such-program");
    run(&["enclave", "run", "--eif", &image, "--qemu", "/bin/true", "--vsock-device", &missing])
        .expect(3, &["there is no program", "no-such-program"]);
    run(&["enclave", "run", "--eif", &image, "--qemu", "/bin/true", "--vsock-device", "/bin/false"])
        .expect(3, &["ended at once"]);
    folder.write("x.eif", b".eif");
    run(&["enclave", "run", "--eif", &image]).expect(1, &["cut off"]);
}
