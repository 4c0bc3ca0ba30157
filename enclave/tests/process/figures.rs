//! What a vault costs, printed and not judged: machines differ, and others use them meanwhile.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;

use holdfast_domain::{Epoch, Message, Unslashable};
use holdfast_enclave::backend::KeyBackend;
use holdfast_enclave::{ActiveKey, DataKey, LocalBackend, LocalOptions, SecretKey, generate};

use crate::support::Bench;
use crate::{block_on, start, suite};

const KEYS: u64 = 300;
const EPOCHS: u64 = 8;

/// Signatures per second of this backend, with permits that were earned before.
async fn rate(backend: &Arc<dyn KeyBackend>, secrets: &[SecretKey], data_key: &Arc<DataKey>) -> f64 {
    let bench = Arc::new(Bench::new());
    let begun = Instant::now();
    let keys = suite::open(backend, &bench, data_key, secrets).await;
    println!("{}: {} keys opened and registered in {:?}", backend.name(), keys.len(), begun.elapsed());
    let keys: Vec<Arc<ActiveKey>> = keys.into_iter().map(Arc::new).collect();
    let mut earning = tokio::task::JoinSet::new();
    for epoch in 0..EPOCHS {
        for key in &keys {
            let (key, bench) = (Arc::clone(key), Arc::clone(&bench));
            earning.spawn(async move {
                let message = Message::Unslashable(Unslashable::RandaoReveal(Epoch(epoch)));
                let permit = bench.permit(key.key(), &message).await;
                (key, permit)
            });
        }
    }
    let permits = earning.join_all().await;
    let count = permits.len();
    let begun = Instant::now();
    let mut signing = tokio::task::JoinSet::new();
    for (key, permit) in permits {
        signing.spawn(async move { key.sign(permit).await.unwrap() });
    }
    assert_eq!(signing.join_all().await.len(), count);
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let rate = count as f64 / begun.elapsed().as_secs_f64();
    rate
}

pub(crate) fn what_it_costs() {
    block_on(async {
        let data_key = Arc::new(DataKey::generate().unwrap());
        let secrets: Vec<SecretKey> = (0..KEYS).map(|_| generate::secret_key().unwrap()).collect();
        let threads = NonZeroUsize::new(2).unwrap();
        let local = LocalBackend::start(LocalOptions { threads, ..LocalOptions::default() }).unwrap();
        let local = rate(&local.into(), &secrets, &data_key).await;
        let process = rate(&start("vault-trusted", &[]).into(), &secrets, &data_key).await;
        println!("signatures per second: {local:.0} in this process, {process:.0} in a vault: {:.2}", process / local);
        assert!(process > 0.0 && local > 0.0);
    });
}
