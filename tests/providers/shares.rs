//! The data key's guard split among people and providers. The people use the real `age` and `ssh-keygen`.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use holdfast_tests::finished::Finished;
use holdfast_tests::harness::command;
use holdfast_tests::http::once;

use crate::memory::{count, data_key};
use crate::stage::{Loading, Stage, signs, wait_for};

/// Somebody with a key of age or of OpenSSH.
struct Person {
    identity: PathBuf,
    public: String,
}

fn ok(command: &mut Command, package: &str) -> Vec<u8> {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}: install {package}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

impl Person {
    fn with_age(folder: &Path, name: &str) -> Self {
        let identity = folder.join(name);
        ok(Command::new("age-keygen").arg("-o").arg(&identity), "age");
        let public = ok(Command::new("age-keygen").arg("-y").arg(&identity), "age");
        Self { identity, public: String::from_utf8(public).expect("text").trim().to_owned() }
    }

    fn with_ssh(folder: &Path, name: &str) -> Self {
        let identity = folder.join(name);
        let mut make = Command::new("ssh-keygen");
        ok(make.args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]).arg(&identity), "openssh-client");
        let public = std::fs::read_to_string(identity.with_extension("pub")).expect("the public key");
        Self { identity, public: public.trim().to_owned() }
    }

    fn path(&self) -> &str {
        self.identity.to_str().expect("text")
    }
}

/// A split data key and its people: two with age, one with OpenSSH.
struct World {
    stage: Stage,
    alice: Person,
    bob: Person,
    carol: Person,
    shares: PathBuf,
}

impl World {
    fn new() -> Self {
        let mut stage = Stage::new(&[]);
        stage.set("HOLDFAST_KEYS_PROVIDER", "file");
        let folder = stage.world.path().to_owned();
        let (alice, bob) = (Person::with_age(&folder, "alice"), Person::with_ssh(&folder, "bob"));
        let carol = Person::with_age(&folder, "carol");
        let shares = folder.join("shares");
        Self { stage, alice, bob, carol, shares }
    }

    /// Two of Alice, Bob and Carol, and these providers.
    fn split(&self, command: &str, more: &[&str]) -> Finished {
        let shares = self.shares.display().to_string();
        let mut arguments = vec!["--json", "kek", command, "--threshold", "2", "--share-dir", &shares];
        for person in [&self.alice, &self.bob, &self.carol] {
            arguments.extend(["--recipient", &person.public]);
        }
        arguments.extend(more);
        self.stage.run(&arguments)
    }

    fn share(&self, number: u32) -> PathBuf {
        self.shares.join(format!("share-{number}.age"))
    }

    /// Keys sealed under a data key that is split now.
    fn with_keys(&self) {
        self.stage.make_keys(2);
        self.split("rotate", &["--shares", "3"]).expect(0, &["\"provider\":\"shares\"", "share-3.age"]);
        let key_file = self.stage.world.data_dir().join("kek/file.key");
        std::fs::remove_file(key_file).expect("the key file goes");
    }

    fn unseal(&self, more: &[&str]) -> Finished {
        let mut arguments = vec!["--json", "kek", "unseal"];
        arguments.extend(more);
        self.stage.run(&arguments)
    }

    /// The same with a decrypted share on standard input.
    fn unseal_with(&self, line: &[u8]) -> Finished {
        let mut child = command();
        let arguments = self.stage.world.with(&["--json", "kek", "unseal", "--share", "-"]);
        child.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = child.spawn().expect("the binary starts");
        child.stdin.take().expect("piped").write_all(line).expect("the line goes in");
        child.wait_with_output().expect("it ends").into()
    }

    fn sealed(&self) -> Loading {
        let mut loading = self.stage.loading();
        let door = self.stage.world.data_dir().join("unseal.sock");
        wait_for("the door for shares", || {
            assert_eq!(loading.ended(), None);
            door.exists()
        });
        loading
    }
}

/// Decrypts with the real tool.
fn decrypt(person: &Person, file: &Path) -> Vec<u8> {
    ok(Command::new("age").args(["--decrypt", "--identity"]).arg(&person.identity).arg(file), "age")
}

#[test]
fn a_sealed_server_serves_nothing_until_two_people_came() {
    let world = World::new();
    world.with_keys();
    let status = world.stage.status();
    status.expect(3, &["0 of the 2 that are needed are here", "kek unseal"]);
    let loading = world.sealed();
    let ready = once(loading.metrics, "GET", "/readyz", &[], b"").expect("an answer");
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("sealed: 0 shares of the data key were brought, 2 are needed"), "{}", ready.text());
    let answer = once(loading.http, "GET", "/upcheck", &[], b"").expect("an answer");
    assert_eq!((answer.status, answer.reason().as_str()), (503, "keys_loading"));
    let state = world.unseal(&[]).expect(0, &["\"state\":\"sealed\"", &world.alice.public]);
    assert!(!state.text().contains("\"sealed\":\""), "the encrypted shares are not shown: {}", state.text());

    world.unseal(&["--identity", world.bob.path()]).expect(0, &["\"accepted\"", "\"have\":1", "\"need\":2"]);
    let ready = once(loading.metrics, "GET", "/readyz", &[], b"").expect("an answer");
    assert!(ready.status == 503 && ready.text().contains("sealed: 1 shares"), "{}", ready.text());
    world.unseal(&["--identity", world.bob.path()]).expect(1, &["share 2", "is here already"]);
    let share = world.share(1).display().to_string();
    world.unseal(&["--share", &share, "--identity", world.alice.path()]).expect(0, &["\"accepted\"", "\"have\":2"]);
    wait_for("readiness", || loading.ready() == 200);
    assert_eq!(signs(loading.http), 2);
    wait_for("the door to close", || !world.stage.world.data_dir().join("unseal.sock").exists());
    world.unseal(&[]).expect(3, &["no server waits for shares"]);

    // Whoever brought shares need not come again for a reload.
    let reload = once(loading.http, "POST", "/reload", &[], b"").expect("an answer");
    assert!(reload.status < 300, "{}", reload.text());
    let state = || once(loading.http, "GET", "/reload", &[], b"").expect("an answer").text();
    wait_for("the end of the reload", || !state().contains("running"));
    assert!(state().contains("completed"), "{}", state());
    assert_eq!(signs(loading.http), 2);
}

#[test]
fn shares_are_files_of_age_that_age_and_this_program_read_alike() {
    let world = World::new();
    world.with_keys();
    let loading = world.sealed();
    let (first, second) = (decrypt(&world.alice, &world.share(1)), decrypt(&world.bob, &world.share(2)));
    assert!(first.starts_with(b"holdfast-share-1:") && second.starts_with(b"holdfast-share-1:"));
    world.unseal_with(&first).expect(0, &["\"accepted\""]);
    // Encrypted anew by the tool, to another key of its own kind each.
    let folder = world.stage.world.path();
    let again = Person::with_ssh(folder, "again");
    let plain = folder.join("plain");
    for (person, number) in [(&again, 2), (&world.carol, 3)] {
        let line = if number == 2 { second.clone() } else { decrypt(&world.carol, &world.share(3)) };
        std::fs::write(&plain, line).expect("a file");
        let file = folder.join(format!("again-{number}.age"));
        ok(Command::new("age").args(["--recipient", &person.public, "--output"]).arg(&file).arg(&plain), "age");
        let file = file.display().to_string();
        if number == 2 {
            world.unseal(&["--share", &file, "--identity", world.alice.path()]).expect(1, &["somebody else"]);
            continue;
        }
        world.unseal(&["--share", &file, "--identity", person.path()]).expect(0, &["\"have\":2"]);
    }
    wait_for("readiness", || loading.ready() == 200);
    assert_eq!(signs(loading.http), 2);
}

#[test]
fn wrong_changed_and_foreign_shares_are_named_and_lose_nothing() {
    let (world, other) = (World::new(), World::new());
    world.with_keys();
    other.with_keys();
    let loading = world.sealed();
    let line = decrypt(&world.alice, &world.share(1));
    world.unseal_with(&decrypt(&other.alice, &other.share(1))).expect(1, &["belongs to another data key"]);
    let mut changed = line.clone();
    let place = changed.len() - 3;
    changed[place] = if changed[place] == b'7' { b'8' } else { b'7' };
    world.unseal_with(&changed).expect(1, &["share 1", "is not as it was handed out", &world.alice.public]);
    world.unseal_with(b"holdfast-share-1:nonsense").expect(2, &["no decrypted share"]);
    world.unseal(&["--identity", other.alice.path()]).expect(1, &["none of the shares is for the given identity"]);
    let mut file = std::fs::read(world.share(1)).expect("the share");
    let last = file.len() - 1;
    file[last] ^= 1;
    let broken = world.stage.world.path().join("broken.age");
    std::fs::write(&broken, file).expect("a file");
    let broken = broken.display().to_string();
    world.unseal(&["--share", &broken, "--identity", world.alice.path()]).expect(2, &["was changed"]);
    let open = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(&world.carol.identity, open).expect("chmod");
    world.unseal(&["--identity", world.carol.path()]).expect(2, &["chmod 600"]);
    assert_eq!(loading.ready(), 503);
    world.unseal_with(&line).expect(0, &["\"have\":1"]);
    world.unseal(&["--identity", world.bob.path()]).expect(0, &["\"have\":2"]);
    wait_for("readiness", || loading.ready() == 200);
    // Nothing of a share was ever logged.
    let value = String::from_utf8(line).expect("text").trim().rsplit(':').next().expect("a value").to_owned();
    let log = loading.stop();
    assert!(log.contains("a share was brought") && !log.contains(&value), "{log}");
}

/// The value of a decrypted share of this number.
fn value(line: &[u8], number: u8) -> Vec<u8> {
    let text = String::from_utf8(line.to_vec()).expect("text");
    let mut parts = text.trim().rsplit(':');
    let value = hex::decode(parts.next().expect("a value")).expect("hex");
    assert_eq!(parts.next().expect("a number"), number.to_string());
    value
}

/// The guard that shares 1 and 2 give, by the book: at 0, their line is 2/3 of the first and 1/3 of the second.
fn joined(first: &[u8], second: &[u8]) -> Vec<u8> {
    let double = |a: u8| (a << 1) ^ if a & 0x80 == 0 { 0 } else { 0x1b };
    // A third is what gives the whole when it is added to its double.
    let third = |a: u8| (0..=255).find(|b| double(*b) ^ b == a).expect("every byte has one");
    first.iter().zip(second).map(|(first, second)| double(third(*first)) ^ third(*second)).collect()
}

#[test]
fn nothing_of_the_shares_or_the_guard_is_left_in_a_server() {
    let world = World::new();
    world.with_keys();
    let wrapped = world.stage.wrapped();
    let loading = world.sealed();
    let lines = [decrypt(&world.alice, &world.share(1)), decrypt(&world.bob, &world.share(2))];
    for line in &lines {
        world.unseal_with(line).expect(0, &["\"accepted\""]);
    }
    wait_for("readiness", || loading.ready() == 200);
    assert_eq!(signs(loading.http), 2);
    let list = once(loading.http, "GET", "/api/v1/eth2/publicKeys", &[], b"").expect("an answer").json();
    let public = hex::decode(&list[0].as_str().expect("a key")[2..]).expect("hex");
    let (first, second) = (value(&lines[0], 1), value(&lines[1], 2));
    let guard = joined(&first, &second);
    // That it is the guard: it opens what is stored.
    data_key(&wrapped, &guard, 1);
    let texts = [hex::encode(&first), hex::encode(&second)];
    let needles: [&[u8]; 6] = [&public, &first, &second, &guard, texts[0].as_bytes(), texts[1].as_bytes()];
    let (found, places) = count(loading.pid(), &needles);
    assert!(found[0] > 0, "the scan finds what is there");
    assert_eq!(found[1..], [0; 5], "copies of the shares, of the guard, of the shares as text:\n{places}");
}

#[test]
fn a_provider_among_the_holders_gives_its_share_by_itself() {
    let world = World::new();
    world.split("init", &["--provider", "file"]).expect(0, &["made"]);
    let failed = world.stage.run(&["--json", "keys", "generate", "--count", "1"]);
    failed.expect(3, &["1 of the 2 that are needed are here"]);
    // For commands, identities can be named.
    let mut stage = world.stage;
    stage.set("HOLDFAST_SHARES_IDENTITY_FILES", world.carol.path());
    stage.run(&["--json", "keys", "generate", "--count", "2"]).expect(0, &[]);
    stage.status().expect(0, &["\"opens\":true", "shares"]);
    stage.serves(2);
    // A new data key, split anew: the old shares are worth nothing.
    let wrapped = stage.wrapped();
    let mut arguments = vec!["--json", "kek", "rotate", "--data-key", "--threshold", "2", "--provider", "file"];
    for person in [&world.alice, &world.carol] {
        arguments.extend(["--recipient", &person.public]);
    }
    stage.run(&arguments).expect(0, &["\"status\":\"replaced\"", "\"keys\":2"]);
    assert_ne!(stage.wrapped(), wrapped);
    stage.serves(2);
    stage.run(&["--json", "kek", "rotate", "--provider", "file"]).expect(0, &["\"provider_before\":\"shares\""]);
    stage.set("HOLDFAST_SHARES_IDENTITY_FILES", "");
    stage.serves(2);
}

#[test]
fn what_cannot_be_split_is_refused_before_anything_is_made() {
    let world = World::new();
    let init = |arguments: &[&str]| world.stage.run(&[&["--json", "kek", "init"], arguments].concat());
    let (alice, bob) = (world.alice.public.as_str(), world.bob.public.as_str());
    init(&["--threshold", "1", "--recipient", alice, "--recipient", bob]).expect(2, &["shares.threshold"]);
    init(&["--threshold", "3", "--recipient", alice, "--recipient", bob]).expect(2, &["shares.threshold"]);
    init(&["--threshold", "2", "--recipient", alice]).expect(2, &["shares.recipients"]);
    init(&["--threshold", "2", "--shares", "3", "--recipient", alice, "--recipient", bob])
        .expect(2, &["--shares says 3"]);
    let slip = alice.replacen('q', "p", 1);
    let slip = if slip == alice { alice.replacen('p', "q", 1) } else { slip };
    init(&["--threshold", "2", "--recipient", &slip, "--recipient", bob]).expect(2, &["has a slip in it"]);
    let rsa = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQC7";
    init(&["--threshold", "2", "--recipient", alice, "--recipient", rsa]).expect(2, &["ssh-ed25519"]);
    init(&["--recipient", alice, "--recipient", bob]).expect(2, &["--threshold"]);
    world.stage.status();
    init(&["--threshold", "2", "--recipient", alice, "--recipient", bob]).expect(0, &["made"]);
}
