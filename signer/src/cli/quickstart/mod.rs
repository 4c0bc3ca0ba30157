//! `holdfast quickstart`: from nothing to a signature, with no configuration.
//!
//! It takes the same road as a real start: the same directory, the same protection, the same
//! server. Only the key is a throw-away one, made here because there is none, and the ports give
//! way if they are taken.

mod paste;

use std::net::SocketAddr;
use std::sync::Arc;

use holdfast_domain::{Clock, GenesisValidatorsRoot, Network, PublicKey, SlotClock};
use holdfast_enclave::{generate, seal};
use holdfast_slashing_db::{CallerId, EntryWatermark, KeyOrigin, KeyState, NewKey, Registered, Tombstone};
use serde_json::json;

use super::serve::{bind, serve, start};
use super::{Context, Exit, Failure};
use crate::app::{Addresses, PortTaken};
use crate::clock::SystemClock;
use crate::custody::{self, Custody, CustodyError};
use crate::switcher::PoolSockets;
use paste::Vote;

/// Label of the key made here, by which a later start knows it again.
const LABEL: &str = "quickstart throw-away key";

/// Runs a signer with a throw-away key.
pub(super) fn run(context: &Context) -> Result<Exit, Failure> {
    let runtime = start(context)?;
    let ended = runtime.block_on(async {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let sockets = bind(context, PortTaken::TakeAnother, &clock)?;
        let mut custody = custody::open_sealed(&context.config, Arc::clone(&clock)).await?;
        let key = throw_away_key(context, &mut custody).await?;
        let guide = Guide {
            chain: custody.genesis_validators_root,
            network: custody.network.clone(),
            slots: custody.slot_clock,
            key,
        };
        let greeting_clock = Arc::clone(&clock);
        let greet = |addresses| guide.print(context, addresses, greeting_clock.as_ref());
        Box::pin(serve(context, custody, (sockets, PoolSockets::none()), clock, greet)).await
    });
    runtime.shutdown_background();
    ended
}

/// The quickstart's own key; made, and registered as never having signed, if there is no key at
/// all. `None` in a data directory with keys of somebody's validators: no lines to paste for those.
async fn throw_away_key(context: &Context, custody: &mut Custody) -> Result<Option<PublicKey>, Failure> {
    custody.ensure_data_key(&context.config).await?;
    let keys = custody.guard.list().await.map_err(CustodyError::from)?;
    let ours = keys.iter().find(|info| info.state == KeyState::Enabled && info.label.as_deref() == Some(LABEL));
    match ours {
        Some(info) => Ok(Some(info.key)),
        None if keys.is_empty() => make_key(custody).await.map(Some),
        None => Ok(None),
    }
}

async fn make_key(custody: &Custody) -> Result<PublicKey, Failure> {
    let Some(data_key) = &custody.data_key else {
        return Err(Failure::message(Exit::Bug, "the data key is missing right after it was made"));
    };
    let secret = generate::secret_key().map_err(CustodyError::from)?;
    let sealed = seal::seal(data_key, custody.genesis_validators_root, &secret).map_err(CustodyError::from)?;
    let key = *secret.public_key();
    let new = NewKey {
        key,
        sealed,
        origin: KeyOrigin::Generated,
        label: Some(LABEL.to_owned()),
        labels: holdfast_slashing_db::Labels::new(),
        registered_by: CallerId::new("quickstart"),
    };
    match custody.guard.register(new, EntryWatermark::NeverSigned, Tombstone::Refuse).await {
        Ok(Registered::New(_) | Registered::SwitchedOff(_) | Registered::Duplicate) => Ok(key),
        Err(error) => Err(Failure::new(Exit::Unreachable, error)),
    }
}

/// What is printed once the server is ready.
struct Guide {
    network: Network,
    chain: GenesisValidatorsRoot,
    slots: SlotClock,
    key: Option<PublicKey>,
}

impl Guide {
    fn print(&self, context: &Context, addresses: Addresses, clock: &dyn Clock) -> Result<(), Failure> {
        let wanted = Addresses { http: context.config.http.listen, metrics: context.config.metrics.listen };
        let mut text = moved("the signing API", wanted.http, addresses.http);
        text.push_str(&moved("metrics", wanted.metrics, addresses.metrics));
        let (Some(key), Some(epoch)) = (self.key, self.slots.epoch_at(clock.now())) else {
            text.push_str(self.nothing_to_paste());
            return context
                .output
                .result(text, &json!({ "event": "quickstart", "key": self.key.map(|key| key.to_string()) }));
        };
        let line =
            |vote| paste::curl(addresses.http, &key, &paste::attestation(&self.network, self.chain, epoch, vote));
        let (signed, refused) = (line(Vote::First), line(Vote::Conflicting));
        let dir = context.config.data_dir().display();
        text.push_str(&[
            String::new(),
            "Throw-away key, for trying things out: never deposit for it.".to_owned(),
            format!("  {key}\n"),
            format!("Paste this into another terminal for a signature, of a vote for epoch {epoch}, the present one:\n"),
            format!("{signed}\n"),
            "Then this: another vote for the same epoch. It is refused with 412, as both together get a validator slashed:\n".to_owned(),
            format!("{refused}\n"),
            format!("Use it from a validator client:  holdfast connect lighthouse --url http://{}", addresses.http),
            "Import keys of your own:         holdfast keys import --data-dir ANOTHER_DIRECTORY --from PATH".to_owned(),
            format!("Everything is in {dir}. Ctrl-C stops the signer."),
        ].join("\n"));
        let value = json!({
            "event": "quickstart", "key": key.to_string(), "epoch": epoch.to_string(), "signed": signed, "refused": refused,
        });
        context.output.result(text, &value)
    }

    fn nothing_to_paste(&self) -> &'static str {
        if self.key.is_none() {
            "This data directory holds keys of its own, so there are no lines to try: they would sign with a real key.\n\
             Give another --data-dir for a throw-away key, or use `holdfast serve`."
        } else {
            "This network has not started yet, so there is nothing to sign before its genesis."
        }
    }
}

/// Says that a port was taken, if it was.
fn moved(what: &str, wanted: SocketAddr, got: SocketAddr) -> String {
    if wanted.port() == 0 || wanted == got {
        return String::new();
    }
    format!("port {} is in use, so {what} is on port {} instead\n", wanted.port(), got.port())
}
