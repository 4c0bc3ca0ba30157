//! `holdfast vault --listen`: a vault that the system starts, and that outlives the signer.

use std::path::PathBuf;
use std::process::{Child, Stdio};

use holdfast_tests::finished::{SERVE, run};
use holdfast_tests::harness::{Server, command};
use holdfast_tests::world::{CHAIN, SLOTS_PER_EPOCH, World};

use super::{slot, wait_until};

/// A vault of its own, ended with its test.
struct Vault {
    child: Child,
    socket: PathBuf,
}

impl Vault {
    fn start(world: &World, more: &[&str]) -> Self {
        let socket = world.path().join("vault.sock");
        let listen = socket.display().to_string();
        let child = command()
            .args(["vault", "--listen", &listen])
            .args(more)
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the binary starts");
        let vault = Self { child, socket };
        wait_until("the vault listens", || std::os::unix::net::UnixStream::connect(&vault.socket).is_ok());
        vault
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    fn signer(&self, world: &World) -> Server {
        let server = world
            .server()
            .env("HOLDFAST_SIGNING_BACKEND", "process")
            .env("HOLDFAST_SIGNING_VAULT_SOCKET", self.socket.as_os_str())
            .start();
        server.wait_ready();
        server
    }
}

impl Drop for Vault {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn block(server: &Server, key: &str) -> u16 {
    let (body, _) = CHAIN.block(slot(), 1);
    server.sign(key, &body).status
}

#[test]
fn a_signer_that_starts_again_signs_at_once_with_the_vault_that_stayed() {
    let world = World::in_a_hurry(2);
    let mut vault = Vault::start(&world, &[]);
    let key = &world.keys[0].public;
    let server = vault.signer(&world);
    // A new key is behind a fence at the present.
    assert_eq!(block(&server, key), 412);
    wait_until("the fence is behind", || block(&server, key) == 200);

    let (status, log) = server.stop();
    assert!(status.success(), "{log}");
    assert!(vault.runs(), "the vault stays when its signer stops");
    let server = vault.signer(&world);
    let before = slot();
    wait_until("a new slot", || slot() > before);
    assert_eq!(block(&server, key), 200, "no fence after a restart of the signer\n{}", server.log());

    // The same after the signer was killed.
    server.kill9();
    assert!(vault.runs());
    let server = vault.signer(&world);
    let before = slot();
    wait_until("a new slot", || slot() > before);
    assert_eq!(block(&server, key), 200);
    let epoch = slot() / SLOTS_PER_EPOCH;
    let (vote, _) = CHAIN.attestation(slot(), epoch.saturating_sub(2), epoch.saturating_sub(1), 3);
    assert_eq!(server.sign(key, &vote).status, 412, "marks of before still count");

    // A vault that is started anew gets its keys back, and begins behind a fence.
    vault.kill();
    let mut vault = Vault::start(&world, &[]);
    wait_until("keys are back", || block(&server, key) == 412);
    wait_until("the fence is behind", || block(&server, key) == 200);
    assert!(server.stop().0.success() && vault.runs());
}

#[test]
fn strangers_and_mistakes_are_refused_and_explained() {
    let world = World::new(1);
    let mut vault = Vault::start(&world, &["--client", "65534"]);
    let socket = vault.socket.display().to_string();
    let refused = || {
        let mut command = command();
        command.args(world.with(&SERVE)).env("HOLDFAST_SIGNING_BACKEND", "process");
        command.env("HOLDFAST_SIGNING_VAULT_SOCKET", &socket);
        holdfast_tests::finished::Finished::from(command.output().expect("the binary starts"))
    };
    // This test's user is not the vault's client.
    refused().expect(3, &["vault"]);
    assert!(vault.runs(), "and the vault is none the worse for it");
    run(&["vault", "--listen", &socket]).expect(3, &["another process serves"]);
    vault.kill();
    refused().expect(3, &["cannot reach the vault", "does it run"]);
    run(&["vault"]).expect(2, &["--listen"]);
    let file = world.path().join("file");
    std::fs::write(&file, "").unwrap();
    run(&["vault", "--listen", &file.display().to_string()]).expect(3, &["is no socket"]);
    let mut command = command();
    command.args(world.with(&SERVE)).env("HOLDFAST_SIGNING_VAULT_SOCKET", &socket);
    holdfast_tests::finished::Finished::from(command.output().unwrap()).expect(2, &["signing.backend"]);
}
