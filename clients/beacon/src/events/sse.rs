//! Server-sent events, byte by byte: records in, records out.
//!
//! Why it exists: upstream bodies arrive in pieces that respect no line. What it guarantees: a record is
//! given out whole or not at all, whatever the pieces; a record larger than a bound ends the stream instead
//! of the memory.

use std::sync::Arc;

/// Longest record accepted: the largest events (payload attributes, light client updates) stay far below.
pub const MAX_RECORD_BYTES: usize = 1024 * 1024;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SseEvent {
    /// `event:`.
    pub topic: String,
    /// `data:`, lines joined.
    pub data: Arc<str>,
}

/// A record is longer than [`MAX_RECORD_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event is longer than {MAX_RECORD_BYTES} bytes; is this a beacon node?")]
pub struct RecordTooLong;

/// Reads a stream piece by piece.
#[derive(Debug, Default)]
pub struct SseParser {
    line: Vec<u8>,
    topic: String,
    data: String,
    /// A line ended with CR, so that an LF right after belongs to it.
    after_cr: bool,
}

impl SseParser {
    /// Takes the next bytes and appends what they complete to `events`. Comments complete nothing.
    ///
    /// # Errors
    /// [`RecordTooLong`]; the stream is to be given up.
    pub fn feed(&mut self, bytes: &[u8], events: &mut Vec<SseEvent>) -> Result<(), RecordTooLong> {
        for byte in bytes {
            let after_cr = std::mem::take(&mut self.after_cr);
            match byte {
                b'\n' if after_cr => {}
                b'\n' => self.end_line(events),
                b'\r' => {
                    self.after_cr = true;
                    self.end_line(events);
                }
                other => {
                    if self.line.len().saturating_add(self.data.len()) >= MAX_RECORD_BYTES {
                        return Err(RecordTooLong);
                    }
                    self.line.push(*other);
                }
            }
        }
        Ok(())
    }

    fn end_line(&mut self, events: &mut Vec<SseEvent>) {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        if line.is_empty() {
            let (topic, data) = (std::mem::take(&mut self.topic), std::mem::take(&mut self.data));
            if !data.is_empty() {
                events.push(SseEvent { topic, data: data.into() });
            }
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.topic),
            "data" => {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            // Comments (an empty field), ids and retry times are between the node and us.
            _ => {}
        }
    }
}

impl SseEvent {
    /// The record as it goes to clients.
    pub fn to_record(&self) -> String {
        let mut record = format!("event: {}\n", self.topic);
        for line in self.data.split('\n') {
            record.push_str("data: ");
            record.push_str(line);
            record.push('\n');
        }
        record.push('\n');
        record
    }
}

#[cfg(test)]
mod tests {
    //! Proves: pieces of any size give the same events; what is written is read back; bounds hold.
    use proptest::prelude::*;

    use super::*;

    fn read(pieces: &[&[u8]]) -> Vec<SseEvent> {
        let (mut parser, mut events) = (SseParser::default(), Vec::new());
        for piece in pieces {
            parser.feed(piece, &mut events).unwrap();
        }
        events
    }

    fn event(topic: &str, data: &str) -> SseEvent {
        SseEvent { topic: topic.to_owned(), data: data.into() }
    }

    #[test]
    fn nodes_dialects_are_read() {
        assert_eq!(read(&[b"event: head\ndata: {\"a\":1}\n\n"]), [event("head", "{\"a\":1}")]);
        assert_eq!(read(&[b"event:head\r\ndata:x\r\n\r\n: keep-alive\r\n\r\n"]), [event("head", "x")]);
        assert_eq!(read(&[b"id: 7\ndata: x\nevent: block\ndata: y\n\n"]), [event("block", "x\ny")]);
        assert_eq!(read(&[b":\n\n", b"\n", b"event: head\n\n"]), [], "no data, no event");
        assert_eq!(read(&[b"event: head\ndata: cut"]), []);
    }

    #[test]
    fn a_record_without_end_is_given_up() {
        let mut parser = SseParser::default();
        let piece = vec![b'x'; MAX_RECORD_BYTES];
        assert_eq!(parser.feed(&piece, &mut Vec::new()), Ok(()));
        assert_eq!(parser.feed(b"x", &mut Vec::new()), Err(RecordTooLong));
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(records in prop::collection::vec(("[a-z_]{1,12}", "[ -~]{1,40}"), 1..6), cut in 1usize..7) {
            let events: Vec<SseEvent> = records.iter().map(|(topic, data)| event(topic, data)).collect();
            let bytes: String = events.iter().map(SseEvent::to_record).collect();
            let pieces: Vec<&[u8]> = bytes.as_bytes().chunks(cut).collect();
            prop_assert_eq!(read(&pieces), events);
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = read(&[&bytes]);
        }
    }
}
