//! What a signer costs that has nothing to do: memory, the time of a start, and the size of the program.

use std::process::Command;
use std::time::Duration;

use holdfast_tests::harness::{binary, holdfast_ok};
use holdfast_tests::world::World;

use crate::measure::memory_now;
use crate::start::first_signature;

/// Starts of which the median counts.
const STARTS: usize = 5;

/// Measures with few and with many keys. After each start the signer rests, so that what the start left behind is given back.
pub(crate) fn measure(few: u64, many: u64, rest: Duration) {
    size();
    for (keys, target) in [(few, 60), (many, 400)] {
        let world = World::new(0);
        holdfast_ok(&world.with(&["--quiet", "keys", "generate", "--count", &keys.to_string()]));
        let (mut seconds, mut memory) = (Vec::new(), 0.0);
        for _ in 0..STARTS {
            let (server, taken, list) = first_signature(&world.server());
            assert_eq!(list.len() as u64, keys, "every key is served");
            seconds.push(taken);
            std::thread::sleep(rest);
            memory = memory_now(server.pid()).expect("the server runs") as f64 / 1024.0;
            server.kill9();
        }
        seconds.sort_by(f64::total_cmp);
        println!(
            "idle with {keys} sealed keys: {memory:.1} MiB resident (target {target}); start {:.0} ms from exec to the first signature \
             (median of {STARTS}{})",
            seconds[STARTS / 2] * 1000.0,
            if keys == few { "; target 300" } else { "" }
        );
    }
}

/// Of the program as it is installed, without what only a debugger reads.
fn size() {
    let folder = tempfile::tempdir().expect("a folder");
    let stripped = folder.path().join("holdfast");
    let done = Command::new("objcopy").arg("--strip-unneeded").arg(binary()).arg(&stripped).status();
    assert!(done.is_ok_and(|status| status.success()), "objcopy is missing: apt-get install binutils");
    let bytes = std::fs::metadata(&stripped).expect("the stripped program").len();
    println!("program as packaged: {:.1} MiB", bytes as f64 / f64::from(1 << 20));
}
