//! The vault as the only program of a machine, really booted, and a host that does what it likes.
//!
//! `cargo test -p holdfast-tests --test enclave` boots it under Debian's QEMU, in seconds and without attestation;
//! `tests/enclave/full` boots the image of an enclave under QEMU's Nitro machine, with attestation documents, measured
//! registers and a key service that reads them. Both run the suite of every backend over what they booted, and the first runs
//! it over the others too. docs/enclave-tests.md says what each shows.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod attested;
mod every;
mod generated;
mod hostile;
mod imported;
mod leased;
mod support;

use std::process::ExitCode;
use std::time::Instant;

/// A test by its name.
type Test = (&'static str, fn());

const STOCK: [Test; 10] = [
    ("every backend: in this process", every::in_this_process),
    ("every backend: in a vault process", every::in_a_process),
    ("every backend: in a machine", every::in_a_machine),
    ("nothing slashable over vsock, and keys only for this boot", hostile::nothing_slashable),
    ("garbage ends a conversation and not the vault", hostile::garbage),
    ("a killed machine and replayed state gain nothing", hostile::rollback),
    ("an administrator's keys are sealed inside, outlive a boot and sign", imported::sealed_inside),
    ("keys are made only where something vouches for them", generated::nothing_unattested),
    ("an image with witnesses signs nothing without their grants", leased::nothing_without_a_grant),
    ("of two clones that race for the lease one signs", leased::race),
];

const NITRO: [Test; 8] = [
    ("every backend: in an enclave", every::in_an_enclave),
    ("every backend: all signing vectors in enclaves", every::signing_vectors_in_an_enclave),
    ("the document says what was measured", attested::measured),
    ("a key service opens for this image and no other", attested::key_service),
    ("keys are made inside and vouched for", generated::made_inside_and_vouched_for),
    ("nothing slashable inside an attested enclave", attested::nothing_slashable),
    ("a killed enclave and replayed state gain nothing", attested::rollback),
    ("a clone signs nothing that was signed before it got its keys", attested::clones),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, rest @ ..] = arguments.as_slice()
        && mode == "vault"
    {
        return every::vault(rest);
    }
    if arguments.iter().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    let mut words = arguments.iter().filter(|argument| !argument.starts_with('-')).peekable();
    let full = words.next_if(|word| *word == "full").is_some();
    let tests: &[Test] = if full { &NITRO } else { &STOCK };
    let filter = words.next();
    let mut ran = 0;
    for (name, test) in tests {
        if filter.is_none_or(|filter| name.contains(filter.as_str())) {
            let begun = Instant::now();
            test();
            println!("enclave: {name} ... ok ({:.1?})", begun.elapsed());
            ran += 1;
        }
    }
    println!("enclave: {ran} tests passed");
    if ran == 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
