//! Writing an event down is not being allowed.
use holdfast_slashing_db::journal::Event;
use holdfast_slashing_db::{Guard, SigningPermit};

fn sign(_: SigningPermit) {}

async fn shortcut(guard: Guard, event: Event) {
    sign(guard.record(event).await.unwrap());
}

fn main() {}
