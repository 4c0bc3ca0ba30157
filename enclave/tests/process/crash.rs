//! A vault that is killed, one that cannot be started, and the end of one that is not needed any more.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use holdfast_enclave::backend::KeyBackend;
use holdfast_enclave::{
    DataKey, ProcessBackend, ProcessOptions, SignError, SignErrorClass, Unprotected, VaultPlace, VaultProgram,
    VerifyPolicy, generate,
};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Bench, attestation, block};
use crate::{block_on, network, next_slot, slot, start, suite, wait_until};

fn kill(process: u32) {
    let pid = Pid::from_raw(i32::try_from(process).unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
}

pub(crate) fn a_crash_is_said_and_mended() {
    let backend = start("vault", &[]);
    let place: Arc<dyn KeyBackend> = backend.clone().into();
    let bench = Bench::new();
    let data_key = Arc::new(DataKey::generate().unwrap());
    let secret = generate::secret_key().unwrap();
    let first = backend.vault_process().unwrap();
    block_on(async {
        let keys = suite::open(&place, &bench, &data_key, std::slice::from_ref(&secret)).await;
        let key = &keys[0];
        let signed = next_slot();
        let permit = bench.permit(key.key(), &attestation(signed)).await;
        assert!(key.sign(permit).await.is_ok());

        kill(first);
        let permit = bench.permit(key.key(), &block(next_slot())).await;
        let error = key.sign(permit).await.unwrap_err();
        assert!(matches!(error, SignError::VaultDown), "{error}");
        assert_eq!((error.class(), error.reason()), (SignErrorClass::Unavailable, "vault_down"));

        let mut generations = backend.generations();
        generations.wait_for(|generation| *generation == 2).await.unwrap();
        wait_until("another vault", || backend.vault_process().is_some_and(|process| process != first));
        // The new one has no keys yet.
        let permit = bench.permit(key.key(), &block(next_slot())).await;
        assert!(matches!(key.sign(permit).await.unwrap_err(), SignError::VaultDown));

        // With its keys it signs again, behind a fence: what the first one may have signed is out of its reach.
        let sealed = holdfast_enclave::seal::seal(&data_key, crate::support::NETWORK, &secret).unwrap();
        let (again, kept) = (Arc::clone(&place), Arc::clone(&data_key));
        let name = *key.key();
        let early = slot();
        let opened = tokio::task::spawn_blocking(move || {
            let mut opened = again.open(&kept, crate::support::NETWORK, &[(name, &sealed)]).unwrap();
            opened.pop().unwrap().is_ok()
        });
        assert!(opened.await.unwrap());
        let permit = bench.permit(key.key(), &attestation(early)).await;
        let error = key.sign(permit).await.unwrap_err();
        assert_eq!(error.class(), SignErrorClass::Refused, "{error}");
        assert!(error.reason().ends_with("_below_watermark"), "{error}");
        let permit = bench.permit(key.key(), &block(next_slot())).await;
        assert!(key.sign(permit).await.is_ok());
    });
}

pub(crate) fn a_vault_that_cannot_be_started_is_an_error() {
    let options = |program: &str, argument: &str| ProcessOptions {
        vault: VaultPlace::Program(VaultProgram {
            program: PathBuf::from(program),
            arguments: vec![argument.to_owned()],
        }),
        network: network(),
        witnesses: None,
        program: "test".to_owned(),
        queue_capacity: NonZeroUsize::MIN,
        verify: VerifyPolicy::TrustBackend,
        unprotected: Unprotected::Warn,
    };
    for (program, argument) in [("/no/such/program", "vault"), ("/bin/true", "x"), ("/bin/echo", "x")] {
        let error = ProcessBackend::start(options(program, argument)).map(|_| ()).unwrap_err();
        assert!(matches!(error, SignError::VaultStart(_)), "{program}: {error}");
        assert_eq!(error.reason(), "backend_not_started");
    }
}

pub(crate) fn stopping_finishes_what_was_accepted() {
    let backend = start("vault", &[]);
    let place: Arc<dyn KeyBackend> = backend.clone().into();
    let bench = Bench::new();
    let data_key = Arc::new(DataKey::generate().unwrap());
    let secrets: Vec<_> = (0..300).map(|_| generate::secret_key().unwrap()).collect();
    let process = backend.vault_process().unwrap();
    block_on(async {
        let keys = suite::open(&place, &bench, &data_key, &secrets).await;
        let message = attestation(next_slot());
        let mut signing = tokio::task::JoinSet::new();
        for key in keys {
            let permit = bench.permit(key.key(), &message).await;
            signing.spawn(async move { key.sign(permit).await });
        }
        assert!(signing.join_next().await.unwrap().unwrap().is_ok());
        // A service manager tells all processes of a service to stop; the vault is needed to the end.
        for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
            kill_process(Pid::from_raw(i32::try_from(process).unwrap()).unwrap(), signal).unwrap();
        }
        let stopping = backend.clone();
        tokio::task::spawn_blocking(move || stopping.shutdown()).await.unwrap();
        while let Some(done) = signing.join_next().await {
            // Signed, or not accepted: nothing accepted was lost.
            if let Err(error) = done.unwrap() {
                assert!(matches!(error, SignError::Stopped), "{error}");
            }
        }
    });
    assert!(backend.vault_process().is_none());
    wait_until("the end of the vault", || !PathBuf::from(format!("/proc/{process}")).exists());
}
