//! A vault that is killed, one that cannot be started, and the end of one that is not needed any more.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use holdfast_enclave::{
    ProcessBackend, ProcessOptions, SignError, Unprotected, VaultPlace, VaultProgram, VerifyPolicy, generate,
};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Bench, attestation};
use crate::{Beside, block_on, network, next_slot, slot, start, suite, wait_until};

fn kill(process: u32) {
    let pid = Pid::from_raw(i32::try_from(process).unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
}

impl suite::Mortal for Beside {
    fn vault(&self) -> &ProcessBackend {
        &self.0
    }

    fn present(&self) -> u64 {
        slot()
    }

    fn kill(&self) {
        kill(self.0.vault_process().unwrap());
    }
}

pub(crate) fn a_crash_is_said_and_mended() {
    let place = Beside(start("vault", &[]));
    let first = place.0.vault_process();
    block_on(suite::loss(&place));
    wait_until("another vault", || place.0.vault_process().is_some_and(|process| Some(process) != first));
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
    let place = Beside(backend.clone());
    let bench = Bench::new();
    let secrets: Vec<_> = (0..300).map(|_| generate::secret_key().unwrap()).collect();
    let process = backend.vault_process().unwrap();
    block_on(async {
        let keys = suite::open(&place, &bench, &secrets).await;
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
