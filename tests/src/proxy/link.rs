//! One proxied connection: for each direction a reader, which judges every chunk, and a writer,
//! which delivers it when its time has come.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use super::{Cut, Flow, Shared};

/// Chunks a held direction stores before it stops reading.
const HELD_CHUNKS: usize = 256;
const CHUNK: usize = 1 << 16;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToServer,
    ToClient,
}

enum Event {
    Bytes(Vec<u8>),
    /// The sender closed its half.
    End,
    /// The sender is gone.
    Gone,
    /// A cut fell due after the bytes before.
    Cut,
}

/// What the controls say about a chunk that was read.
enum Verdict {
    Pass,
    /// Only the first bytes pass, then the connection is cut.
    CutAfter(usize),
}

/// Both ends of a connection.
pub(super) struct Link {
    number: u64,
    client: TcpStream,
    server: TcpStream,
    is_closed: AtomicBool,
    /// The next answer cuts the connection.
    doomed: AtomicBool,
}

impl Link {
    /// Cuts both ends now, on command.
    pub(super) fn cut(&self, shared: &Shared) {
        if self.close(shared) {
            shared.cut.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Closes both ends now; whether they were open.
    fn close(&self, shared: &Shared) -> bool {
        // Under the lock, so that a writer that is about to wait sees it.
        let state = shared.state();
        let was_open = !self.is_closed.swap(true, Ordering::Relaxed);
        drop(state);
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.server.shutdown(Shutdown::Both);
        shared.changed.notify_all();
        was_open
    }

    fn ends(&self, direction: Direction) -> (&TcpStream, &TcpStream) {
        match direction {
            Direction::ToServer => (&self.client, &self.server),
            Direction::ToClient => (&self.server, &self.client),
        }
    }
}

/// Forwards until both directions have ended.
///
/// `cuts` is the number of cuts of all connections when this one was accepted.
pub(super) fn run(shared: &Arc<Shared>, number: u64, cuts: u64, client: TcpStream, server: TcpStream) {
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let (is_closed, doomed) = (AtomicBool::new(false), AtomicBool::new(false));
    let link = Arc::new(Link { number, client, server, is_closed, doomed });
    let mut state = shared.state();
    if state.ended || state.cuts != cuts {
        return;
    }
    state.links.insert(number, Arc::clone(&link));
    drop(state);
    let link = &*link;
    std::thread::scope(|scope| {
        for direction in [Direction::ToServer, Direction::ToClient] {
            let (events, queue) = sync_channel(HELD_CHUNKS);
            let waiting = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&waiting);
            scope.spawn(move || write_all(shared, link, direction, &queue, &counted));
            scope.spawn(move || read_all(shared, link, direction, &events, &waiting));
        }
    });
    shared.state().links.remove(&link.number);
}

fn read_all(
    shared: &Shared,
    link: &Link,
    direction: Direction,
    events: &SyncSender<(Instant, Event)>,
    waiting: &AtomicUsize,
) {
    let mut from = link.ends(direction).0;
    let mut buffer = vec![0; CHUNK];
    // End of the previous chunks, so that bytes looked for are found across two of them.
    let mut tail = Vec::new();
    let emit = |event: Event| {
        let delay = Duration::from_nanos(shared.one_way_nanos.load(Ordering::Relaxed));
        if delay.is_zero() && waiting.load(Ordering::Acquire) == 0 && is_open(shared.state().flow, direction) {
            // Nothing is ahead of it: the way through the writer would only cost time.
            return deliver(shared, link, direction, event);
        }
        waiting.fetch_add(1, Ordering::Release);
        events.send((Instant::now() + delay, event)).is_ok()
    };
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => {
                emit(Event::End);
                return;
            }
            Ok(count) => count,
            Err(_) => {
                emit(Event::Gone);
                return;
            }
        };
        let chunk = &buffer[..count];
        let goes_on = match judge(shared, link, direction, chunk, &mut tail) {
            Verdict::Pass => emit(Event::Bytes(chunk.to_vec())),
            Verdict::CutAfter(passing) => {
                shared.tripped.fetch_add(1, Ordering::Relaxed);
                let _ = passing == 0 || emit(Event::Bytes(chunk[..passing].to_vec()));
                emit(Event::Cut);
                false
            }
        };
        if !goes_on {
            return;
        }
    }
}

/// Delivers queued events at their time; returns when the direction has ended.
fn write_all(
    shared: &Shared,
    link: &Link,
    direction: Direction,
    queue: &Receiver<(Instant, Event)>,
    waiting: &AtomicUsize,
) {
    wake_exactly();
    while let Ok((due, event)) = queue.recv() {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let mut state = shared.state();
        while !is_open(state.flow, direction) && !link.is_closed.load(Ordering::Relaxed) {
            state = shared.wait(state);
        }
        drop(state);
        let goes_on = deliver(shared, link, direction, event);
        waiting.fetch_sub(1, Ordering::Release);
        if !goes_on {
            return;
        }
    }
}

/// Asks for exact wake-ups of this thread: by default a sleep may be 50 µs late, in every direction
/// of every round trip. A system that refuses only makes delays less exact.
fn wake_exactly() {
    let thread = std::fs::read_link("/proc/thread-self").unwrap_or_default();
    if let Some(id) = thread.file_name() {
        let _ = std::fs::write(Path::new("/proc").join(id).join("timerslack_ns"), "1");
    }
}

fn is_open(flow: Flow, direction: Direction) -> bool {
    match (flow, direction) {
        (Flow::Open, _) | (Flow::HoldAnswers, Direction::ToServer) => true,
        (Flow::HoldAnswers, Direction::ToClient) | (Flow::HoldAll, _) => false,
    }
}

/// Whether the direction goes on.
fn deliver(shared: &Shared, link: &Link, direction: Direction, event: Event) -> bool {
    let mut to = link.ends(direction).1;
    match event {
        Event::Bytes(bytes) => {
            if link.is_closed.load(Ordering::Relaxed) {
                return false;
            }
            if to.write_all(&bytes).is_err() {
                link.close(shared);
                return false;
            }
            let counter = match direction {
                Direction::ToServer => &shared.to_server,
                Direction::ToClient => &shared.to_client,
            };
            counter.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            true
        }
        Event::End => {
            let _ = to.shutdown(Shutdown::Write);
            false
        }
        Event::Gone => {
            link.close(shared);
            false
        }
        Event::Cut => {
            link.cut(shared);
            false
        }
    }
}

/// Applies the armed cut, and takes it away when it happens.
fn judge(shared: &Shared, link: &Link, direction: Direction, chunk: &[u8], tail: &mut Vec<u8>) -> Verdict {
    if direction == Direction::ToClient && link.doomed.load(Ordering::Acquire) {
        return Verdict::CutAfter(0);
    }
    let mut state = shared.state();
    if direction == Direction::ToServer && !matches!(state.cut, Some(Cut::AnswerTo(_) | Cut::Before(_))) {
        tail.clear();
    }
    match (&mut state.cut, direction) {
        (Some(Cut::AfterAnswerBytes(left)), Direction::ToClient) => {
            let length = chunk.len() as u64;
            if length <= *left {
                *left -= length;
                return Verdict::Pass;
            }
            let passing = usize::try_from(*left).expect("less than the chunk");
            state.cut = None;
            Verdict::CutAfter(passing)
        }
        (Some(Cut::AnswerTo(wanted)), Direction::ToServer) if appears(wanted, tail, chunk) => {
            // Set before the bytes go on, so that the answer cannot come first.
            link.doomed.store(true, Ordering::Release);
            state.cut = None;
            Verdict::Pass
        }
        (Some(Cut::Before(wanted)), Direction::ToServer) if appears(wanted, tail, chunk) => {
            state.cut = None;
            Verdict::CutAfter(0)
        }
        (
            None | Some(Cut::AfterAnswerBytes(_) | Cut::AnswerTo(_) | Cut::Before(_)),
            Direction::ToServer | Direction::ToClient,
        ) => Verdict::Pass,
    }
}

/// Looks for the bytes, also across chunks; keeps the end of this one for the next.
fn appears(wanted: &[u8], tail: &mut Vec<u8>, chunk: &[u8]) -> bool {
    tail.extend_from_slice(chunk);
    let found = tail.windows(wanted.len()).any(|window| window == wanted);
    let spare = tail.len().saturating_sub(wanted.len().saturating_sub(1));
    tail.drain(..spare);
    found
}
