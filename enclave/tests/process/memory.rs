//! Reading the memory of a vault as root, after it has signed a thousand times and made keys.
//!
//! The same scan has to find a copy planted in ordinary memory: else it would prove nothing.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use eth2_keystore::{AccountIndex, DerivationPath, Secret, Seed};
use holdfast_enclave::backend::KeyBackend;
use holdfast_enclave::generate::{self, Origin};
use holdfast_enclave::import::SealFor;

use crate::generate::tree;
use crate::support::{Bench, NETWORK, attestation};
use crate::{Beside, block_on, next_slot, start, suite};

/// How often each needle is found in the memory of a process that can be read, and how many bytes those were.
fn scan(process: u32, needles: &[[u8; 32]]) -> (Vec<usize>, usize) {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let memory = File::open(format!("/proc/{process}/mem")).expect("root reads the memory of other processes");
    let mut by_start: HashMap<&[u8], Vec<usize>> = HashMap::new();
    for (place, needle) in needles.iter().enumerate() {
        by_start.entry(&needle[..4]).or_default().push(place);
    }
    let mut found = vec![0; needles.len()];
    let mut total = 0;
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (Some(range), Some(access)) = (words.next(), words.next()) else { continue };
        if !access.starts_with('r') {
            continue;
        }
        let (from, to) = range.split_once('-').unwrap();
        let [from, to] = [from, to].map(|text| u64::from_str_radix(text, 16).unwrap());
        let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
        // Page by page, as a part may be out of reach.
        let mut seen = 0;
        for (index, page) in bytes.chunks_mut(4096).enumerate() {
            let at = from + u64::try_from(index * 4096).unwrap();
            match memory.read_exact_at(page, at) {
                Ok(()) => seen += page.len(),
                Err(_) => page.fill(0),
            }
        }
        total += seen;
        for window in bytes.windows(32) {
            for place in by_start.get(&window[..4]).into_iter().flatten() {
                found[*place] += usize::from(window == needles[*place]);
            }
        }
    }
    (found, total)
}

/// What [`tree`] grows from, and what it grows through and into at its first places; each also with its bytes turned round.
fn grown() -> Vec<[u8; 32]> {
    let seed = Seed::from_mnemonic(&format!("{}about", "abandon ".repeat(11)), "").unwrap();
    let mut secrets: Vec<[u8; 32]> =
        seed.expose(|bytes| bytes.chunks(32).map(|half| half.try_into().unwrap()).collect());
    let mut paths: Vec<DerivationPath> = ["m", "m/12381", "m/12381/3600"].map(|path| path.parse().unwrap()).to_vec();
    for account in (0..4).map(AccountIndex::new) {
        let index = account.get();
        paths.push(format!("m/12381/3600/{index}").parse().unwrap());
        paths.extend([DerivationPath::validator_withdrawal(account), DerivationPath::validator_signing(account)]);
    }
    secrets.extend(paths.iter().map(|path| Secret::derive(&seed, path).unwrap().expose(|bytes| *bytes)));
    let turned: Vec<[u8; 32]> = secrets.iter().map(|secret| std::array::from_fn(|index| secret[31 - index])).collect();
    [secrets, turned].concat()
}

pub(crate) fn no_secret_can_be_read() {
    if !rustix::process::geteuid().is_root() {
        // Without root nothing of the vault can be read, which is less than this test is about, but is checked.
        let backend = start("vault", &[]);
        let process = backend.vault_process().unwrap();
        assert!(File::open(format!("/proc/{process}/mem")).is_err(), "another process of this user can read the vault");
        return;
    }
    let secrets: Vec<_> = (0..50).map(|_| generate::secret_key().unwrap()).collect();
    let control: [u8; 32] = std::array::from_fn(|index| u8::try_from(index * 5 + 3).unwrap());
    let text = hex::encode(control);
    let backend = start("vault-with-copy", &[text]);
    let place = Beside(backend.clone());
    let bench = Bench::new();
    let mut needles = vec![control, suite::plain()];
    for secret in &secrets {
        let big = secret.expose_be_bytes(|bytes| *bytes);
        let mut little = big;
        little.reverse();
        needles.extend([big, little]);
    }
    block_on(async {
        let keys = suite::open(&place, &bench, &secrets).await;
        for _ in 0..20 {
            let message = attestation(next_slot());
            for key in &keys {
                let permit = bench.permit(key.key(), &message).await;
                assert!(key.sign(permit).await.is_ok());
            }
        }
    });
    let place: Arc<dyn KeyBackend> = backend.clone().into();
    let sealed_for = SealFor { data_key: &suite::data_key(), network: NETWORK };
    place.generate(Origin::Tree { tree: &tree(), first: AccountIndex::new(0) }, 4, sealed_for).unwrap();
    needles.extend(grown());
    let (found, bytes) = scan(backend.vault_process().unwrap(), &needles);
    println!("scanned {} KiB of a vault after 1000 signatures and new keys; found {found:?}", bytes / 1024);
    assert!(bytes > 1_000_000, "only {bytes} bytes could be read");
    assert!(found[0] > 0, "the scan does not find the control copy");
    assert_eq!(found[1], 0, "the data key is in readable memory");
    assert_eq!(found[2..].iter().sum::<usize>(), 0, "private keys are in readable memory");
}
