//! What is left of the data key in a running server: its memory is searched as root sees it.

use std::io::Write as _;
use std::process::Stdio;

use aes_gcm::aead::AeadInOut as _;
use aes_gcm::{Aes256Gcm, KeyInit as _, Nonce, Tag};
use holdfast_tests::elsewhere::kms::Kms;
use holdfast_tests::postgres::as_root;
use holdfast_tests::world::GENESIS_VALIDATORS_ROOT;

use crate::aws;
use crate::stage::wait_for;

/// Counts each of the needles, given in hex on standard input, in all readable memory of a process.
const SCAN: &str = r#"
import re, sys
needles = [bytes.fromhex(word) for word in sys.stdin.read().split()]
counts = [0] * len(needles)
with open(f"/proc/{sys.argv[1]}/maps") as maps, open(f"/proc/{sys.argv[1]}/mem", "rb", 0) as memory:
    for line in maps:
        place = re.match(r"([0-9a-f]+)-([0-9a-f]+) r", line)
        if place is None or "[v" in line:
            continue
        start, end = (int(part, 16) for part in place.groups())
        try:
            memory.seek(start)
            data = memory.read(end - start)
        except OSError:
            continue
        for number, needle in enumerate(needles):
            found = data.count(needle)
            counts[number] += found
            if found:
                print(f"{found} times needle {number} in {line.strip()}", file=sys.stderr)
print(*counts)
"#;

/// How often each needle is there, and where.
pub(crate) fn count(pid: u32, needles: &[&[u8]]) -> (Vec<usize>, String) {
    let mut child = as_root("python3")
        .args(["-c", SCAN, &pid.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python3 starts as root");
    let words: Vec<String> = needles.iter().map(hex::encode).collect();
    child.stdin.take().expect("stdin").write_all(words.join("\n").as_bytes()).expect("needles are taken");
    let output = child.wait_with_output().expect("the scan ends");
    let (found, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "the memory of {pid} cannot be read: {said}");
    (found.split_whitespace().map(|word| word.parse().expect("a number")).collect(), said.into_owned())
}

/// The data key in a wrapped one, opened here with the guard that the service knows: the format a second time.
pub(crate) fn data_key(wrapped: &[u8], guard: &[u8], number: u32) -> [u8; 32] {
    let (header, boxed) = wrapped.split_at(wrapped.len() - 60);
    let (nonce, rest) = boxed.split_first_chunk::<12>().expect("a nonce");
    let (body, tag) = rest.split_first_chunk::<32>().expect("a body");
    let aad = [b"holdfast wrapped data key", header, &GENESIS_VALIDATORS_ROOT, &number.to_be_bytes()].concat();
    let mut key = *body;
    let cipher = Aes256Gcm::new_from_slice(guard).expect("a guard of 32 bytes");
    let tag = Tag::try_from(tag).expect("a tag");
    cipher.decrypt_inout_detached(&Nonce::from(*nonce), &aad, key.as_mut_slice().into(), &tag).expect("it opens");
    key
}

#[test]
fn nothing_of_the_data_key_is_left_in_a_server() {
    let kms = Kms::start(&["alias/holdfast"]);
    let mut stage = aws::stage(&kms.url(), "alias/holdfast");
    stage.set("HOLDFAST_KEYS_CHECK_MINUTES", "60");
    stage.make_keys(20);
    let guards = kms.plaintexts();
    let [guard] = guards.as_slice() else { panic!("{} guards", guards.len()) };
    let key = data_key(&stage.wrapped(), guard, 1);
    let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, guard);
    let opened = kms.count("Decrypt");
    let server = stage.serves(20);
    // Opened once for the keys, and once by the first check.
    wait_for("the first check", || kms.count("Decrypt") >= opened + 2);
    wait_for("its result", || server.get_metrics("/metrics").text().contains("holdfast_provider_usable{"));
    let list: Vec<String> =
        serde_json::from_value(server.get("/api/v1/eth2/publicKeys").json()).expect("a list of keys");
    let public = hex::decode(&list[0][2..]).expect("a public key");

    let (found, places) = count(server.pid(), &[&public, guard, base64.as_bytes(), &key]);
    assert!(found[0] > 0, "the scan finds what is there");
    assert_eq!(found[1..], [0, 0, 0], "copies of the guard, of its base64, of the data key:\n{places}");
}
