//! An intent is judged once: it is consumed.
use holdfast_domain::SigningIntent;
use holdfast_slashing_db::{CallerId, Guard};

async fn twice(guard: Guard, intent: SigningIntent, caller: CallerId) {
    drop(guard.authorize(intent, caller.clone()).await);
    drop(guard.authorize(intent, caller).await);
}

fn main() {}
