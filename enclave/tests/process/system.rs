//! What the system says of a running vault.

use std::fs;
use std::sync::Arc;

use holdfast_enclave::backend::KeyBackend;
use holdfast_enclave::{DataKey, generate, seal};

use crate::support::NETWORK;
use crate::{start, wait_until};

fn field(status: &str, name: &str) -> String {
    let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in {status}"));
    line.split_once(':').unwrap().1.trim().to_owned()
}

pub(crate) fn what_was_given_up() {
    let backend = start("vault", &[]);
    let process = backend.vault_process().unwrap();
    let read = |name: &str| fs::read_to_string(format!("/proc/{process}/{name}")).unwrap();
    let threads: Vec<_> = fs::read_dir(format!("/proc/{process}/task")).unwrap().map(|entry| entry.unwrap()).collect();
    assert_eq!(threads.len(), 3, "two that sign, one that listens");
    for thread in threads {
        let status = fs::read_to_string(thread.path().join("status")).unwrap();
        assert_eq!(field(&status, "NoNewPrivs"), "1");
        assert_eq!(field(&status, "Seccomp:"), "2", "a list of system calls");
        assert_eq!(u64::from_str_radix(&field(&status, "CapEff"), 16).unwrap(), 0);
        assert_eq!(u64::from_str_radix(&field(&status, "CapPrm"), 16).unwrap(), 0);
    }
    let limits = read("limits");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
    assert!(read("environ").is_empty(), "it inherits no environment");
    // Only the socket is open, besides the streams every process has: no file, no database, no listener.
    for descriptor in fs::read_dir(format!("/proc/{process}/fd")).unwrap() {
        let descriptor = descriptor.unwrap();
        let target = fs::read_link(descriptor.path()).unwrap().display().to_string();
        let stream = ["1", "2"].contains(&descriptor.file_name().to_str().unwrap());
        assert!(stream || target.starts_with("socket:"), "{target}");
    }
}

pub(crate) fn opening_a_file_ends_it() {
    // Its clock, which opens a file, is asked when a key comes in.
    let backend = start("vault-curious", &[]);
    let process = backend.vault_process().unwrap();
    let place: Arc<dyn KeyBackend> = backend.clone().into();
    let data_key = DataKey::generate().unwrap();
    let secret = generate::secret_key().unwrap();
    let sealed = seal::seal(&data_key, NETWORK, &secret).unwrap();
    assert!(place.open(&data_key, NETWORK, &[(*secret.public_key(), &sealed)]).is_err());
    wait_until("the end of the curious vault", || backend.vault_process() != Some(process));
}
