//! Several signers on one database: what one changes among the keys, the others take over by themselves within
//! seconds. New keys are opened beside those that sign; deleted ones are dropped.
//!
//! Nothing of this is needed to stop a key: protection refuses one that was switched off or deleted from the moment
//! of the change, whoever made it.

use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use crate::drain::Stopping;
use crate::loader::{Followed, KeyLoader};
use crate::outcome::chain;

/// How often it is looked for changes: one number is read, on the connection for reading.
const EVERY: Duration = Duration::from_secs(2);

/// Follows changes until the process stops. Ends at once where nobody else can change keys.
pub(crate) async fn watch(loader: Arc<KeyLoader>, mut stopping: Stopping) {
    tokio::select! {
        () = stopping.begun() => {}
        () = follow(&loader) => {}
    }
}

async fn follow(loader: &Arc<KeyLoader>) {
    let mut failing = false;
    loop {
        tokio::time::sleep(EVERY).await;
        if loader.is_loading() {
            continue;
        }
        match loader.follow().await {
            Ok(Followed::Alone) => return,
            Ok(Followed::Unchanged) => failing = false,
            Ok(Followed::Changed { added, removed, failed }) => {
                failing = false;
                if failed > 0 {
                    warn!(
                        added,
                        removed, failed, "keys were changed by another signer, and some cannot be opened here"
                    );
                } else {
                    info!(added, removed, "keys were changed by another signer");
                }
            }
            Err(error) if !failing => {
                failing = true;
                warn!("cannot take over what other signers change among the keys, trying on: {}", chain(&error));
            }
            Err(_) => {}
        }
    }
}
