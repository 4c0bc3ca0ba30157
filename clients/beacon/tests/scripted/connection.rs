//! One connection of a scripted node: reads requests, writes answers, right or wrong as scripted.

use std::time::Instant;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::broadcast::error::RecvError;

use super::{Answer, Body, Inner, RAW, Seen};

type Reader = BufReader<TcpStream>;

pub(super) async fn serve(stream: TcpStream, inner: &Inner) {
    let mut stream = BufReader::new(stream);
    while let Some(seen) = read_request(&mut stream).await {
        inner.record(seen.clone());
        let answer = inner.decide(&seen);
        let held = async {
            if let Some(delay) = answer.delay {
                tokio::time::sleep(delay).await;
            }
            if let Some(gate) = &answer.gate {
                gate.passed().await;
            }
            if matches!(answer.body, Body::Never) {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            () = held => {}
            () = gone(&mut stream) => {
                inner.abandon(seen);
                return;
            }
        }
        match write_answer(&mut stream, answer, &seen, inner).await {
            Ok(Then::KeepAlive) => {}
            Ok(Then::Close) | Err(_) => return,
        }
    }
}

/// The peer has closed its side before it was answered.
async fn gone(stream: &mut Reader) {
    match stream.fill_buf().await {
        Ok(bytes) if !bytes.is_empty() => std::future::pending().await,
        Ok(_) | Err(_) => {}
    }
}

/// One request, or nothing when the peer has gone.
pub(super) async fn read_request(stream: &mut Reader) -> Option<Seen> {
    let mut line = String::new();
    if stream.read_line(&mut line).await.ok()? == 0 {
        return None;
    }
    let mut words = line.split_whitespace();
    let method = words.next()?.to_owned();
    let target = words.next()?.to_owned();
    let headers = read_headers(stream).await?;
    let body = read_body(stream, &headers, true).await?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    Some(Seen { method, path: path.to_owned(), query: query.to_owned(), headers, body, at: Instant::now() })
}

pub(super) async fn read_headers(stream: &mut Reader) -> Option<Vec<(String, String)>> {
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if line.is_empty() {
            return Some(headers);
        }
        let (name, value) = line.split_once(':')?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

/// Body by `Content-Length` or chunks; without either nothing (a request) or up to the end (an answer).
pub(super) async fn read_body(stream: &mut Reader, headers: &[(String, String)], request: bool) -> Option<Vec<u8>> {
    let find = |wanted: &str| headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
    let mut body = Vec::new();
    if let Some(length) = find("content-length") {
        body.resize(length.parse().ok()?, 0);
        stream.read_exact(&mut body).await.ok()?;
    } else if find("transfer-encoding").is_some() {
        while let Some(chunk) = read_chunk(stream).await? {
            body.extend(chunk);
        }
    } else if !request {
        stream.read_to_end(&mut body).await.ok()?;
    }
    Some(body)
}

/// The next chunk; `Some(None)` is the end of the body, `None` a broken connection.
pub(super) async fn read_chunk(stream: &mut Reader) -> Option<Option<Vec<u8>>> {
    let mut line = String::new();
    if stream.read_line(&mut line).await.ok()? == 0 {
        return None;
    }
    let length = usize::from_str_radix(line.trim(), 16).ok()?;
    let mut chunk = vec![0; length];
    stream.read_exact(&mut chunk).await.ok()?;
    let mut end = String::new();
    stream.read_line(&mut end).await.ok()?;
    Some((length > 0).then_some(chunk))
}

enum Then {
    KeepAlive,
    Close,
}

fn head(answer: &Answer, framing: &str) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {} Scripted\r\n", answer.status);
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(framing);
    head.push_str("\r\n");
    head.into_bytes()
}

async fn write_answer(stream: &mut Reader, answer: Answer, seen: &Seen, inner: &Inner) -> std::io::Result<Then> {
    match &answer.body {
        Body::Bytes(body) => {
            let framing =
                if answer.status == 204 { String::new() } else { format!("content-length: {}\r\n", body.len()) };
            let mut bytes = head(&answer, &framing);
            bytes.extend(body);
            stream.write_all(&bytes).await?;
            Ok(Then::KeepAlive)
        }
        Body::Truncated { claimed, sent } => {
            let mut bytes = head(&answer, &format!("content-length: {claimed}\r\n"));
            bytes.extend(sent);
            stream.write_all(&bytes).await?;
            Ok(Then::Close)
        }
        Body::TruncatedChunks(sent) => {
            let mut bytes = head(&answer, "transfer-encoding: chunked\r\n");
            bytes.extend(format!("{:x}\r\n", sent.len()).into_bytes());
            bytes.extend(sent);
            bytes.extend(b"\r\n");
            stream.write_all(&bytes).await?;
            Ok(Then::Close)
        }
        Body::Chunks { count, size, gate } => {
            stream.write_all(&head(&answer, "transfer-encoding: chunked\r\n")).await?;
            let mut chunk = format!("{size:x}\r\n").into_bytes();
            chunk.resize(chunk.len() + size, 0x5a);
            chunk.extend(b"\r\n");
            for index in 0..*count {
                if let (true, Some(gate)) = (index > 0, gate) {
                    gate.passed().await;
                }
                stream.write_all(&chunk).await?;
            }
            stream.write_all(b"0\r\n\r\n").await?;
            Ok(Then::KeepAlive)
        }
        Body::Events => events(stream, &answer, seen, inner).await,
        Body::Raw(bytes) => {
            stream.write_all(bytes).await?;
            stream.shutdown().await?;
            Ok(Then::Close)
        }
        Body::Nothing => Ok(Then::Close),
        // Held for ever before this.
        Body::Never => Ok(Then::Close),
    }
}

async fn events(stream: &mut Reader, answer: &Answer, seen: &Seen, inner: &Inner) -> std::io::Result<Then> {
    // Strict, as Prysm: a list is one topic, of which no event ever comes.
    let topics: Vec<&str> = seen.query.split('&').filter_map(|pair| pair.strip_prefix("topics=")).collect();
    let mut events = inner.events.subscribe();
    stream.write_all(&head(answer, "transfer-encoding: chunked\r\n")).await?;
    let open = OpenStream::new(inner);
    loop {
        let mut gone = [0];
        let event = tokio::select! {
            event = events.recv() => event,
            // The client never sends anything more: whatever comes is the end.
            _ = stream.read(&mut gone) => break,
        };
        match event {
            Ok(event) => {
                let (raw, event) = event.strip_prefix(RAW).map_or((false, event.as_str()), |rest| (true, rest));
                let topic = event.strip_prefix("event: ").and_then(|rest| rest.split('\n').next());
                if raw || topic.is_none_or(|topic| topics.contains(&topic)) {
                    stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await?;
                }
            }
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => break,
        }
    }
    drop(open);
    Ok(Then::Close)
}

/// Counts an event stream while it is open.
struct OpenStream<'a>(&'a Inner);

impl<'a> OpenStream<'a> {
    fn new(inner: &'a Inner) -> Self {
        inner.streams.send_modify(|open| *open += 1);
        Self(inner)
    }
}

impl Drop for OpenStream<'_> {
    fn drop(&mut self) {
        self.0.streams.send_modify(|open| *open -= 1);
    }
}
