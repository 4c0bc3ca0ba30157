//! The status page: what a signer and its switcher do, for people who look and for programs.
//!
//! Guarantees: it changes nothing and touches nothing that signs. The numbers are those of the metrics, read every few
//! seconds; keys are read from the database on the thread for reading, at most every ten seconds, and only while somebody
//! looks. All viewers share what was made once, so a hundred cost hardly more than one; they are sent what has changed, and
//! the first few of however many keys. No secrets are in it.

mod assemble;
mod document;
mod keys;
mod numbers;
mod page;
mod query;
mod sections;
mod stream;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use holdfast_domain::{Clock, SlotClock};
use hyper::body::Bytes;
use tokio::sync::{Mutex, Semaphore, watch};
use tokio::time::MissedTickBehavior;

use self::document::Document;
use self::keys::{KeyReader, KeyView};
use self::numbers::{History, Numbers};
use crate::clock::Stopwatch;
use crate::drain::{Stopping, Tasks};
use crate::loader::KeyLoader;
use crate::pipeline::Signer;
use crate::switcher::Running;

pub(crate) use page::{HEADERS, Resource};
pub(crate) use query::KeyQuery;
pub(crate) use stream::EventBody;

/// Time between two documents while somebody looks.
const EVERY: Duration = Duration::from_secs(2);
/// Time between two readings of the numbers while nobody does, in documents.
const IDLE_TICKS: u32 = 5;
/// How long somebody who asked for a page counts as looking.
const LOOKING_SECONDS: f64 = 15.0;
/// How old a document may be that is given out.
const FRESH_SECONDS: f64 = 1.5;
/// How long the first page waits for the keys.
const FIRST_KEYS: Duration = Duration::from_millis(800);
/// Streams of events open at once: half of the listener's connections, as scrapers and probes need some, too.
pub(crate) const MAX_STREAMS: usize = 128;
/// Keys on one page.
const PAGE_KEYS: usize = 100;

/// Gives the text of the metrics.
type Render = Box<dyn Fn() -> Result<String, std::fmt::Error> + Send + Sync>;

/// The signer's part of what is shown.
pub(crate) struct SignerParts {
    /// The request walk.
    pub(crate) signer: Arc<Signer>,
    /// How loading keys goes.
    pub(crate) loader: Arc<KeyLoader>,
    /// Slots of the network.
    pub(crate) slot_clock: SlotClock,
    /// How often the journal is signed, in minutes; 0 for never.
    pub(crate) checkpoint_minutes: u32,
}

/// Where everything comes from.
pub(crate) struct Sources {
    /// The text of the metrics.
    pub(crate) render: Render,
    /// The signer, if there is one.
    pub(crate) signer: Option<SignerParts>,
    /// The switcher, if it runs.
    pub(crate) running: Option<Arc<Running>>,
    /// The clock.
    pub(crate) clock: Arc<dyn Clock>,
    /// Knows when the process is stopping.
    pub(crate) tasks: Tasks,
}

/// What was made last.
#[derive(Debug, Default)]
struct Published {
    /// Which one this is: the one before has the number before it.
    number: u64,
    /// The second of the process at which it was made.
    at: f64,
    /// The document as JSON.
    json: Bytes,
    /// Parts of the page by the id of their element.
    sections: BTreeMap<&'static str, String>,
    /// The state in a sentence, for title and announcements.
    summary: String,
    /// The network, for the head of the page.
    place: String,
    /// All of it as an event of the stream.
    event: Bytes,
    /// What is not as it was in the one before, as an event of the stream.
    change: Bytes,
}

impl Published {
    /// What somebody is sent who was sent the state of this number before; `None` for who was sent nothing.
    fn event_after(&self, sent: Option<u64>) -> Bytes {
        if sent.is_some_and(|sent| sent.checked_add(1) == Some(self.number)) {
            self.change.clone()
        } else {
            self.event.clone()
        }
    }
}

/// What is shown, and who makes it.
pub(crate) struct Board {
    sources: Sources,
    started: Stopwatch,
    reader: Option<KeyReader>,
    history: Mutex<History>,
    published: watch::Sender<Arc<Published>>,
    /// The second of the process at which somebody asked last.
    asked: watch::Sender<f64>,
    streams: Arc<Semaphore>,
}

/// One page of keys.
struct KeyPage {
    /// The keys.
    keys: Vec<KeyView>,
    /// Which page this is, from 1.
    page: usize,
    /// How many there are.
    pages: usize,
    /// How many keys there are that were asked for.
    total: usize,
    /// What was asked for.
    query: KeyQuery,
}

impl Board {
    /// A board that nobody watches yet. It is kept up to date by tasks that end with those of `sources`.
    pub(crate) fn start(sources: Sources) -> Arc<Self> {
        let reader =
            sources.signer.as_ref().map(|parts| KeyReader::new(Arc::clone(&parts.signer), Arc::clone(&sources.clock)));
        let tasks = sources.tasks.clone();
        let board = Arc::new(Self {
            sources,
            started: Stopwatch::start(),
            reader,
            history: Mutex::default(),
            published: watch::Sender::new(Arc::default()),
            asked: watch::Sender::new(f64::NEG_INFINITY),
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
        });
        tasks.spawn(Arc::clone(&board).keep(tasks.stopping()));
        if board.reader.is_some() {
            let reading = Arc::clone(&board);
            let stopping = tasks.stopping();
            tasks.spawn(async move {
                if let Some(reader) = &reading.reader {
                    reader.run(stopping).await;
                }
            });
        }
        board
    }

    /// Keeps the numbers, and while somebody looks the document, up to date until stopping begins.
    async fn keep(self: Arc<Self>, mut stopping: Stopping) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut idle = 0u32;
        loop {
            tokio::select! {
                () = stopping.begun() => break,
                _ = ticks.tick() => {}
            }
            if self.is_watched() {
                self.refresh().await;
            } else if idle == 0 {
                self.read_numbers(&mut *self.history.lock().await);
            }
            idle = idle.wrapping_add(1) % IDLE_TICKS;
        }
        // Whoever still looks sees that it is over.
        if self.published.receiver_count() > 0 {
            self.refresh().await;
        }
    }

    fn is_watched(&self) -> bool {
        self.published.receiver_count() > 0 || self.started.seconds() - *self.asked.borrow() < LOOKING_SECONDS
    }

    fn read_numbers(&self, history: &mut History) {
        // Formatting into a string does not fail.
        if let Ok(text) = (self.sources.render)() {
            history.add(self.started.seconds(), Numbers::read(&text));
        }
    }

    /// Makes what is shown anew.
    async fn refresh(&self) {
        let mut history = self.history.lock().await;
        self.make(&mut history);
    }

    fn make(&self, history: &mut History) {
        if let Some(reader) = &self.reader {
            reader.want();
        }
        self.read_numbers(history);
        let document = self.document(history);
        let before = Arc::clone(&self.published.borrow());
        self.published.send_replace(Arc::new(self.publish(&before, &document)));
    }

    fn publish(&self, before: &Published, document: &Document) -> Published {
        let sections = sections::all(document);
        let summary = sections::summary(document);
        let changed: BTreeMap<_, _> =
            sections.iter().filter(|(id, html)| before.sections.get(*id) != Some(*html)).collect();
        Published {
            number: before.number.saturating_add(1),
            at: self.started.seconds(),
            json: serde_json::to_vec(document).unwrap_or_default().into(),
            event: stream::event(&serde_json::json!({ "summary": summary, "sections": sections })),
            change: stream::event(&serde_json::json!({ "summary": summary, "sections": changed })),
            place: sections::place(document),
            sections,
            summary,
        }
    }

    /// What is shown, made anew if nobody has for a while. Those who ask at the same time wait for one.
    async fn fresh(&self) -> Arc<Published> {
        self.asked.send_replace(self.started.seconds());
        if let Some(reader) = &self.reader {
            reader.want();
            reader.first(FIRST_KEYS).await;
        }
        let is_fresh =
            |published: &Published| !published.json.is_empty() && self.started.seconds() - published.at < FRESH_SECONDS;
        let now = Arc::clone(&self.published.borrow());
        if is_fresh(&now) {
            return now;
        }
        let mut history = self.history.lock().await;
        let now = Arc::clone(&self.published.borrow());
        if is_fresh(&now) {
            return now;
        }
        self.make(&mut history);
        drop(history);
        Arc::clone(&self.published.borrow())
    }

    /// One page of the keys that are asked for; the nearest one that exists.
    async fn keys(&self, query: KeyQuery) -> KeyPage {
        drop(self.fresh().await);
        let table = self.reader.as_ref().and_then(|reader| reader.reading().table);
        let all = table.as_ref().map_or(&[][..], |table| &table.keys);
        let total = all.iter().filter(|key| query.matches(key)).count();
        let pages = total.div_ceil(PAGE_KEYS).max(1);
        let page = query.page().clamp(1, pages);
        let before = page.saturating_sub(1).saturating_mul(PAGE_KEYS);
        let keys = all.iter().filter(|key| query.matches(key)).skip(before).take(PAGE_KEYS).cloned().collect();
        KeyPage { keys, page, pages, total, query }
    }

    /// A stream of what is shown; `None` if too many are open.
    pub(crate) fn stream(self: &Arc<Self>) -> Option<EventBody> {
        let place = Arc::clone(&self.streams).try_acquire_owned().ok()?;
        Some(stream::open(Arc::clone(self), place, stream::PATIENCE))
    }
}
