//! A small HTTP/1.1 server for fakes, one thread for each connection, that can be told to be away or to hang.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};

/// A request.
#[derive(Debug, Clone)]
pub struct Request {
    /// Method.
    pub method: String,
    /// Path, with a query if there is one.
    pub path: String,
    /// Header names in lower case with their values.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

impl Request {
    /// First value of a header, by lower-case name; empty without.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// Body as JSON; null if it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// How the server behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// Answers.
    Works,
    /// Takes connections and closes them at once.
    Away,
    /// Takes requests and does not answer until its mood changes.
    Hangs,
}

/// What answers a request: status and JSON.
pub type Handler = dyn Fn(&Request) -> (u16, serde_json::Value) + Send + Sync;

/// A running server.
pub struct Server {
    address: SocketAddr,
    mood: Arc<(Mutex<Mood>, Condvar)>,
    stopped: Arc<AtomicBool>,
}

impl Server {
    /// Starts on a free port of loopback.
    pub fn start(content_type: &'static str, handler: Arc<Handler>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let mood = Arc::new((Mutex::new(Mood::Works), Condvar::new()));
        let stopped = Arc::new(AtomicBool::new(false));
        let (shared, ended) = (Arc::clone(&mood), Arc::clone(&stopped));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let (handler, mood) = (Arc::clone(&handler), Arc::clone(&shared));
                std::thread::spawn(move || {
                    // A client that leaves is no concern of a fake.
                    let _ = serve(&stream, content_type, handler.as_ref(), &mood);
                });
            }
        });
        Self { address, mood, stopped }
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes how it behaves; requests that hang are answered then.
    pub fn set_mood(&self, mood: Mood) {
        *self.mood.0.lock().expect("mood") = mood;
        self.mood.1.notify_all();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.set_mood(Mood::Away);
        // Wakes the accepting thread, which then ends.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(
    stream: &TcpStream,
    content_type: &str,
    handler: &Handler,
    mood: &(Mutex<Mood>, Condvar),
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        if *mood.0.lock().expect("mood") == Mood::Away {
            return Ok(());
        }
        let Some(request) = read(&mut reader)? else { return Ok(()) };
        let waited = mood.0.lock().expect("mood");
        let now = mood.1.wait_while(waited, |mood| *mood == Mood::Hangs).expect("mood");
        if *now == Mood::Away {
            return Ok(());
        }
        drop(now);
        let (status, body) = handler(&request);
        let body = body.to_string();
        let head =
            format!("HTTP/1.1 {status} Fake\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n", body.len());
        let mut stream = stream;
        stream.write_all(&[head.as_bytes(), body.as_bytes()].concat())?;
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split(' ');
    let (method, path) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let header = header.trim_end();
        if header.is_empty() {
            break;
        }
        if let Some((name, value)) = header.split_once(':') {
            headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    let length = headers.iter().find(|(name, _)| name == "content-length").and_then(|(_, value)| value.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body)?;
    Ok(Some(Request { method, path, headers, body }))
}
