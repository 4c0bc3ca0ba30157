//! The status page with very many keys and very many who look: what they are sent, what it costs, and what it does to
//! signatures.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use holdfast_tests::harness::holdfast_ok;
use holdfast_tests::world::{SLOTS_PER_EPOCH, World};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, LocalSet};

use crate::burst::{Load, Roots, runtime};
use crate::measure::{Latencies, PlainSign, cpu_of, memory_now};
use crate::start::first_signature;

/// Slots in an epoch of mainnet: in each of them one of so many keys attests.
const SLOTS_OF_MAINNET: u64 = 32;
/// Viewers that open a stream and never read it, for each hundred that do.
const DEAF_PERCENT: usize = 20;

/// What is measured.
pub(crate) struct Plan {
    /// Sealed keys.
    pub(crate) keys: u64,
    /// Viewers who read.
    pub(crate) viewers: usize,
    /// Bursts with and without them, a second apart.
    pub(crate) bursts: u64,
    /// How long it is watched while nothing is signed.
    pub(crate) seconds: u64,
}

/// What viewers were sent.
#[derive(Default)]
struct Sent {
    first: Cell<u64>,
    firsts: Cell<u64>,
    later: Cell<u64>,
    laters: Cell<u64>,
}

/// Measures with nobody looking, and with everybody.
pub(crate) fn measure(plan: &Plan) {
    let world = World::new(0);
    holdfast_ok(&world.with(&["--quiet", "keys", "generate", "--count", &plan.keys.to_string()]));
    let (server, _, list) = first_signature(&world.server());
    assert_eq!(list.len() as u64, plan.keys, "every key is served");
    let share = usize::try_from(plan.keys.div_ceil(SLOTS_OF_MAINNET)).expect("fits");
    let share: Vec<String> = list.into_iter().take(share).collect();
    let (runtime, local) = (runtime(), LocalSet::new());
    let mut load = local.block_on(&runtime, Load::connect(&[server.http_addr()], &share));
    let (address, pid) = (server.metrics_addr(), server.pid());
    let mut plain = PlainSign::default();
    plain.run(300);
    let (mut epoch, rest) = (1_000, Duration::from_secs(plan.seconds));
    let memory = || memory_now(pid).expect("the server runs") as f64 / 1024.0;
    let sent = Rc::new(Sent::default());
    let mut viewers: Vec<JoinHandle<()>> = Vec::new();
    let mut deaf: Vec<TcpStream> = Vec::new();
    for count in [0, plan.viewers] {
        local.block_on(&runtime, async {
            for number in 0..count {
                let stream = watch(address).await;
                viewers.push(tokio::task::spawn_local(read(stream, Rc::clone(&sent))));
                if number * DEAF_PERCENT / 100 > deaf.len() {
                    deaf.push(watch(address).await);
                }
            }
            // The start and the first reading of the keys are not what is measured.
            tokio::time::sleep(Duration::from_secs(2)).await;
        });
        let (began, before) = (Instant::now(), cpu_of(pid));
        local.block_on(&runtime, async { tokio::time::sleep(rest).await });
        let share = cpu_of(pid).saturating_sub(before).as_secs_f64() / began.elapsed().as_secs_f64();
        println!("{count} viewers: nothing signed {:>7.2} % of a core, {:.1} MiB resident", share * 100.0, memory());
        let mut latencies = Latencies::default();
        for round in 0..=plan.bursts {
            let requests = load.prepare(epoch, Roots::Same);
            epoch += SLOTS_PER_EPOCH;
            local.block_on(&runtime, async { tokio::time::sleep(Duration::from_secs(1)).await });
            let before = cpu_of(pid);
            let times = local.block_on(&runtime, load.fire(requests));
            if round > 0 {
                latencies.add(times, cpu_of(pid).saturating_sub(before));
            }
        }
        latencies.print(&format!("{count} viewers: burst"), &plain, 0.65);
        println!("{count} viewers: after the bursts {:.1} MiB resident", memory());
    }
    let mean = |sum: &Cell<u64>, count: &Cell<u64>| sum.get() as f64 / count.get().max(1) as f64 / 1024.0;
    println!(
        "sent with {} keys: {:.1} KiB at first, {:.1} KiB for each of {} states after it; page {:.1} KiB, one page of keys {:.1} KiB",
        plan.keys,
        mean(&sent.first, &sent.firsts),
        mean(&sent.later, &sent.laters),
        sent.laters.get(),
        server.get_metrics("/").body.len() as f64 / 1024.0,
        server.get_metrics("/status/keys").body.len() as f64 / 1024.0
    );
    let alive = viewers.iter().filter(|viewer| !viewer.is_finished()).count();
    assert_eq!(alive, plan.viewers, "every viewer was served to the end");
    println!("{} viewers that never read were among them", deaf.len());
}

/// Opens a stream of events.
async fn watch(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("the server accepts");
    let request = format!("GET /status/events HTTP/1.1\r\nHost: {address}\r\nAccept: text/event-stream\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("the request is sent");
    stream
}

/// Reads a stream to its end.
async fn read(mut stream: TcpStream, sent: Rc<Sent>) {
    let (mut bytes, mut piece, mut states) = (Vec::new(), vec![0; 64 * 1024], 0_u64);
    loop {
        let read = stream.read(&mut piece).await.expect("the stream is read");
        if read == 0 {
            return;
        }
        bytes.extend_from_slice(&piece[..read]);
        if states == 0 {
            assert!(bytes.starts_with(b"HTTP/1.1 200".get(..bytes.len().min(12)).expect("a prefix")), "refused");
        }
        // The event that is complete, with the frames of its chunk, which are a dozen bytes.
        while let Some(end) = find(&bytes, b"event: status").and_then(|at| Some(at + find(&bytes[at..], b"\n\n")? + 2))
        {
            let size = bytes.drain(..end).count() as u64;
            let (sum, count) = if states == 0 { (&sent.first, &sent.firsts) } else { (&sent.later, &sent.laters) };
            sum.set(sum.get() + size);
            count.set(count.get() + 1);
            states += 1;
        }
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
