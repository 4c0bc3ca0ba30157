//! Files through streams of messages: bytes that come in pieces as something to read, and the other way round. Both ends
//! are bounded: who reads or writes slowly holds up the other, and no file is in memory.

use std::io::{self, Read, Write};

use tokio::sync::mpsc;

/// Pieces that wait.
pub(crate) const WAITING: usize = 16;
/// Longest piece that is sent.
const PIECE_BYTES: usize = 64 * 1024;

/// Reads what is sent. For a thread that may wait.
pub(crate) struct PieceReader {
    pieces: mpsc::Receiver<Vec<u8>>,
    piece: Vec<u8>,
    taken: usize,
    ended: bool,
}

impl PieceReader {
    /// A reader, and where to send pieces. An empty piece ends the file; without one it is cut off, and reading it fails.
    pub(crate) fn new() -> (mpsc::Sender<Vec<u8>>, Self) {
        let (sender, pieces) = mpsc::channel(WAITING);
        (sender, Self { pieces, piece: Vec::new(), taken: 0, ended: false })
    }
}

impl Read for PieceReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let left = self.piece.get(self.taken..).unwrap_or_default();
            if !left.is_empty() {
                let count = left.len().min(out.len());
                if let (Some(to), Some(from)) = (out.get_mut(..count), left.get(..count)) {
                    to.copy_from_slice(from);
                }
                self.taken = self.taken.saturating_add(count);
                return Ok(count);
            }
            if self.ended {
                return Ok(0);
            }
            match self.pieces.blocking_recv() {
                Some(piece) if piece.is_empty() => self.ended = true,
                Some(piece) => (self.piece, self.taken) = (piece, 0),
                None => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file was cut off on its way")),
            }
        }
    }
}

/// Sends what is written. For a thread that may wait.
pub(crate) struct PieceWriter<F> {
    send: F,
    piece: Vec<u8>,
}

impl<F: FnMut(Vec<u8>) -> bool> PieceWriter<F> {
    /// Hands pieces to `send`, which says whether anybody still wants them.
    pub(crate) fn new(send: F) -> Self {
        Self { send, piece: Vec::with_capacity(PIECE_BYTES) }
    }

    fn hand_on(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_BYTES));
        if (self.send)(piece) { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    }
}

impl<F: FnMut(Vec<u8>) -> bool> Write for PieceWriter<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = PIECE_BYTES.saturating_sub(self.piece.len());
        let taken = bytes.get(..room.min(bytes.len())).unwrap_or_default();
        self.piece.extend_from_slice(taken);
        let count = taken.len();
        if self.piece.len() >= PIECE_BYTES {
            self.hand_on()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.hand_on()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_in_any_pieces_is_read() {
        let bytes: Vec<u8> = (0..200_000_u32).map(|number| number.to_le_bytes()[0] ^ number.to_le_bytes()[1]).collect();
        let (sender, mut reader) = PieceReader::new();
        let copy = bytes.clone();
        let writing = std::thread::spawn(move || {
            let mut writer = PieceWriter::new(|piece| sender.blocking_send(piece).is_ok());
            for piece in copy.chunks(777) {
                writer.write_all(piece).unwrap();
            }
            writer.flush().unwrap();
            sender.blocking_send(Vec::new()).unwrap();
        });
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        writing.join().unwrap();
        assert!(read == bytes);
    }

    #[test]
    fn a_file_that_is_cut_off_is_no_file() {
        let (sender, mut reader) = PieceReader::new();
        sender.blocking_send(b"half".to_vec()).unwrap();
        drop(sender);
        let mut read = Vec::new();
        assert_eq!(reader.read_to_end(&mut read).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_writer_hears_that_nobody_reads() {
        let mut writer = PieceWriter::new(|_| false);
        writer.write_all(b"x").unwrap();
        assert_eq!(writer.flush().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
