//! A permit that is silently dropped is a mistake.
#![deny(unused_must_use)]
use holdfast_domain::SigningIntent;
use holdfast_slashing_db::{CallerId, Guard};

async fn forget(guard: Guard, intent: SigningIntent, caller: CallerId) -> Option<()> {
    guard.authorize(intent, caller).await.ok()?;
    Some(())
}

fn main() {}
