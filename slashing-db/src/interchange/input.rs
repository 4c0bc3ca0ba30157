//! A reader that lets no overlong text or number through to the parser.
//!
//! The parser keeps a text in memory until its closing quote. Without a bound, a file that is one endless
//! text would take all memory before anything could be said about it.

use std::fmt;
use std::io::{self, Read};

use super::MAX_TOKEN_BYTES;

/// A token is too long.
#[derive(Debug)]
pub(super) struct TokenTooLong {
    pub(super) line: usize,
    pub(super) column: usize,
}

impl fmt::Display for TokenTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "token too long at line {} column {}", self.line, self.column)
    }
}

impl std::error::Error for TokenTooLong {}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Between tokens, or inside a number or word.
    Plain,
    /// Inside a text.
    Text,
    /// Inside a text, after a backslash.
    Escape,
}

/// Passes bytes on while every token is short enough.
#[derive(Debug)]
pub(super) struct BoundedTokens<R> {
    input: R,
    state: State,
    token_bytes: usize,
    line: usize,
    column: usize,
    exceeded: bool,
}

impl<R: Read> BoundedTokens<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, state: State::Plain, token_bytes: 0, line: 1, column: 0, exceeded: false }
    }

    fn too_long(&self) -> io::Error {
        io::Error::other(TokenTooLong { line: self.line, column: self.column })
    }

    /// Takes note of a byte; `false` if it makes a token too long.
    fn admit(&mut self, byte: u8) -> bool {
        if byte == b'\n' {
            self.line = self.line.saturating_add(1);
            self.column = 0;
        } else {
            self.column = self.column.saturating_add(1);
        }
        let (state, in_token) = match (self.state, byte) {
            (State::Plain, b'"') => (State::Text, false),
            (State::Plain, b' ' | b'\t' | b'\r' | b'\n' | b',' | b':' | b'[' | b']' | b'{' | b'}') => {
                (State::Plain, false)
            }
            (State::Plain, _) => (State::Plain, true),
            (State::Text, b'"') => (State::Plain, false),
            (State::Text, b'\\') => (State::Escape, true),
            (State::Text | State::Escape, _) => (State::Text, true),
        };
        self.state = state;
        self.token_bytes = if in_token { self.token_bytes.saturating_add(1) } else { 0 };
        self.token_bytes <= MAX_TOKEN_BYTES
    }
}

impl<R: Read> Read for BoundedTokens<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.exceeded {
            return Err(self.too_long());
        }
        let count = self.input.read(buffer)?;
        for (index, byte) in buffer.iter().take(count).enumerate() {
            if !self.admit(*byte) {
                self.exceeded = true;
                // What comes before is passed on first: an earlier fault is the one to report.
                return if index == 0 { Err(self.too_long()) } else { Ok(index) };
            }
        }
        Ok(count)
    }
}
