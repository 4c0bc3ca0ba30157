//! One database connection, held by a `psql` process: statements in transactions that stay open,
//! answers that never come, and connections that break are all visible from outside.
//!
//! `psql` is the client on purpose: it shares no code with the product.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// Rows as text; NULL is an empty string. Values must not contain line breaks.
pub type Rows = Vec<Vec<String>>;

/// How long [`Session::run`] waits for an answer.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(30);

const FIELD: &str = "\u{1f}";
const MARK: &str = "\u{1}end";

/// How libpq says that a connection is gone.
const LOST: [&str; 5] = [
    "server closed the connection unexpectedly",
    "connection to server was lost",
    "no connection to the server",
    "could not receive data from server",
    "could not send data to server",
];

enum Line {
    Row(String),
    Message(String),
    /// One of the two output streams ended.
    Closed,
}

/// A connection. Dropping it closes it.
pub struct Session {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<Line>,
    rows: Vec<String>,
    messages: Vec<String>,
    /// Streams that still have to report the end of the statement.
    awaited: usize,
    open_streams: usize,
}

impl Session {
    /// Starts `psql` on a connection string; whether the connection works shows in the first answer.
    pub(super) fn open(mut psql: Command, url: &str) -> Self {
        let mut child = psql
            .args(["-XAtq", "-F", FIELD, "-v", "VERBOSITY=verbose", "-v", "SHOW_CONTEXT=never", "-d", url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("psql starts");
        let (sender, lines) = channel();
        read_lines(child.stdout.take().expect("stdout is piped"), sender.clone(), Line::Row);
        read_lines(child.stderr.take().expect("stderr is piped"), sender, Line::Message);
        let input = child.stdin.take();
        Self { child, input, lines, rows: Vec::new(), messages: Vec::new(), awaited: 0, open_streams: 2 }
    }

    /// Runs statements and returns their rows, or the message of the error that stopped one of
    /// them (with its SQLSTATE), of the lost connection, or of the missing answer.
    pub fn run(&mut self, sql: &str) -> Result<Rows, String> {
        self.send(sql);
        self.wait(ANSWER_LIMIT).unwrap_or_else(|| {
            let ended = self.child.try_wait();
            Err(format!("no answer within {ANSWER_LIMIT:?} to: {sql}\npsql: {ended:?}, said {:?}", self.messages))
        })
    }

    /// Sends statements without waiting for the answer.
    pub fn send(&mut self, sql: &str) {
        assert_eq!(self.awaited, 0, "the answer to the statement before has not been taken");
        let end = if sql.trim_end().ends_with(';') { "" } else { ";" };
        self.awaited = 2;
        if let Some(input) = &mut self.input {
            // A psql that ended already says so in its answer.
            let _ = input.write_all(format!("{sql}{end}\n\\echo {MARK}\n\\warn {MARK}\n").as_bytes());
        }
    }

    /// Waits for the answer to [`Session::send`]; `None` if it has not come within the limit, and
    /// it can then be waited for again.
    pub fn wait(&mut self, limit: Duration) -> Option<Result<Rows, String>> {
        let deadline = Instant::now() + limit;
        while self.awaited > 0 && self.open_streams > 0 {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Line::Row(line) | Line::Message(line)) if line == MARK => self.awaited -= 1,
                Ok(Line::Row(line)) => self.rows.push(line),
                Ok(Line::Message(line)) => self.messages.push(line),
                Ok(Line::Closed) => self.open_streams -= 1,
                Err(RecvTimeoutError::Timeout) => return None,
                Err(RecvTimeoutError::Disconnected) => self.open_streams = 0,
            }
        }
        let rows = std::mem::take(&mut self.rows);
        let messages = std::mem::take(&mut self.messages);
        let says = |words: &[&str]| messages.iter().any(|line| words.iter().any(|word| line.contains(word)));
        let failed = says(&["ERROR:", "FATAL:", "PANIC:"]);
        // psql does not always end with its connection: after a server's last warning it goes on.
        let lost = self.awaited > 0 || says(&LOST);
        self.awaited = 0;
        if lost || failed {
            let kind = if lost { "connection lost: " } else { "" };
            return Some(Err(format!("{kind}{}", messages.join("\n"))));
        }
        Some(Ok(rows.iter().map(|row| row.split(FIELD).map(str::to_owned).collect()).collect()))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_lines(stream: impl Read + Send + 'static, sender: Sender<Line>, wrap: fn(String) -> Line) {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if sender.send(wrap(line)).is_err() {
                return;
            }
        }
        let _ = sender.send(Line::Closed);
    });
}
