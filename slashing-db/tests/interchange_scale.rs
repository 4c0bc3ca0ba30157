//! 100,000 validators through reader and writer: what it takes in memory and time, printed with `--nocapture`.
//!
//! Proved: memory follows the number of validators and not the size of the file, which is made on the fly
//! here and never exists as a whole.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it finds a fault")]

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::time::Instant;

use holdfast_domain::{Epoch, GenesisValidatorsRoot, PublicKey, Slot};
use holdfast_slashing_db::Watermarks;
use holdfast_slashing_db::interchange::{AttestationFloor, ValidatorFloor, read, write};

const VALIDATORS: u32 = 100_000;
const VOTES_EACH: u64 = 12;
const CHAIN: GenesisValidatorsRoot = GenesisValidatorsRoot([0x11; 32]);

fn key(number: u32) -> PublicKey {
    let mut bytes = [0x80; 48];
    bytes[44..].copy_from_slice(&number.to_be_bytes());
    PublicKey::from_bytes(bytes)
}

/// A complete file, made entry by entry while it is read.
struct Complete {
    next: u32,
    entry: Vec<u8>,
    given: usize,
    total: u64,
}

impl Complete {
    fn new() -> Self {
        let start = format!(
            r#"{{"metadata":{{"interchange_format_version":"5","genesis_validators_root":"{CHAIN}"}},"data":["#
        );
        Self { next: 0, entry: start.into_bytes(), given: 0, total: 0 }
    }

    fn refill(&mut self) {
        self.given = 0;
        self.entry.clear();
        let number = self.next;
        self.next += 1;
        if number > VALIDATORS {
            return;
        }
        if number == VALIDATORS {
            self.entry.extend_from_slice(b"]}");
            return;
        }
        let comma = if number == 0 { "" } else { "," };
        let slot = u64::from(number) + 1;
        write!(
            self.entry,
            r#"{comma}{{"pubkey":"{}","signed_blocks":[{{"slot":"{slot}","signing_root":"{CHAIN}"}}],"signed_attestations":["#,
            key(number)
        )
        .unwrap();
        for vote in 0..VOTES_EACH {
            let comma = if vote == 0 { "" } else { "," };
            let target = slot + vote;
            write!(
                self.entry,
                r#"{comma}{{"source_epoch":"{}","target_epoch":"{target}","signing_root":"{CHAIN}"}}"#,
                target - 1
            )
            .unwrap();
        }
        self.entry.extend_from_slice(b"]}");
    }
}

impl Read for &mut Complete {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.given == self.entry.len() {
            self.refill();
        }
        let count = self.entry.get(self.given..).unwrap_or_default().read(buffer)?;
        self.given += count;
        self.total += count as u64;
        Ok(count)
    }
}

/// Highest memory of this process so far, in bytes.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("this test needs /proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
}

#[expect(clippy::cast_precision_loss, reason = "for people to read")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[test]
fn memory_follows_the_validators_and_not_the_file() {
    let before = peak_memory();
    let mut file = Complete::new();
    let started = Instant::now();
    let interchange = read(&mut file, CHAIN).unwrap();
    let took = started.elapsed();
    let grown = peak_memory().saturating_sub(before);
    let rate = mib(file.total) / took.as_secs_f64();
    println!(
        "read: {VALIDATORS} validators, {:.0} MiB of file, {:.1} MiB of memory, {took:.2?}, {rate:.0} MiB/s",
        mib(file.total),
        mib(grown)
    );
    assert_eq!(interchange.len(), VALIDATORS as usize);
    for number in [0, 1, VALIDATORS - 1] {
        let slot = u64::from(number) + 1;
        let target = slot + VOTES_EACH - 1;
        let attestation = Some(AttestationFloor { source: Epoch(target - 1), target: Epoch(target) });
        let expected = ValidatorFloor { block: Some(Slot(slot)), attestation };
        assert_eq!(interchange.get(&key(number)).unwrap().floor, expected);
    }
    assert!(grown < file.total / 4, "{grown} bytes of memory for a file of {} bytes", file.total);

    let marks: BTreeMap<PublicKey, Watermarks> =
        interchange.iter().map(|(key, history)| (*key, history.floor.into())).collect();
    let started = Instant::now();
    let mut out = Vec::new();
    write(&mut out, CHAIN, &marks).unwrap();
    let wrote = started.elapsed();
    let started = Instant::now();
    let back = read(out.as_slice(), CHAIN).unwrap();
    println!("written: {:.1} MiB in {wrote:.2?}; read back in {:.2?}", mib(out.len() as u64), started.elapsed());
    assert!(
        interchange
            .iter()
            .map(|(key, history)| (key, history.floor))
            .eq(back.iter().map(|(key, history)| (key, history.floor)))
    );
}
