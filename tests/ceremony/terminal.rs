//! The ceremony at a terminal: a new mnemonic is shown once, wiped, and typed back in part.

use std::io::{Read as _, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use holdfast_tests::finished::run;
use holdfast_tests::harness::binary;
use holdfast_tests::world::World;

use crate::generate::key_at;

/// Longest wait for a prompt.
const LIMIT: Duration = Duration::from_mins(1);

/// The binary at a terminal of its own, which `script` makes. Killed when dropped.
struct Terminal {
    child: Child,
    typing: ChildStdin,
    printed: mpsc::Receiver<Vec<u8>>,
    seen: String,
}

impl Terminal {
    fn start(arguments: &[String]) -> Self {
        let quoted: Vec<String> = arguments.iter().map(|argument| format!("'{argument}'")).collect();
        let command = format!("exec {} {}", binary().display(), quoted.join(" "));
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--flush", "--command", &command, "/dev/null"]);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HOLDFAST_")) {
            script.env_remove(name);
        }
        let mut child =
            script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("`script` starts: install bsdutils");
        let typing = child.stdin.take().expect("a pipe");
        let mut output = child.stdout.take().expect("a pipe");
        let (sender, printed) = mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read) = output.read(&mut buffer) {
                if read == 0 || sender.send(buffer[..read].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { child, typing, printed, seen: String::new() }
    }

    /// Waits until the terminal shows nothing of what is typed: that begins an instant after the question, before anybody
    /// but a test has typed.
    fn until_hidden(&self) {
        let script = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{script}/task/{script}/children")).expect("Linux");
        let program = children.split_whitespace().next().expect("script runs the program");
        let terminal = std::fs::read_link(format!("/proc/{program}/fd/0")).expect("its terminal");
        let started = std::time::Instant::now();
        loop {
            let stty = Command::new("stty").arg("-a").arg("-F").arg(&terminal).output().expect("stty starts");
            if String::from_utf8_lossy(&stty.stdout).contains(" -echo ") {
                return;
            }
            assert!(started.elapsed() < LIMIT, "what is typed at {} is shown", terminal.display());
        }
    }

    /// Waits for a text, and takes all that was printed until its end.
    fn until(&mut self, text: &str) -> String {
        while !self.seen.contains(text) {
            let more = self.printed.recv_timeout(LIMIT).unwrap_or_else(|_| panic!("no {text:?} in {:?}", self.seen));
            self.seen.push_str(&String::from_utf8_lossy(&more));
        }
        let end = self.seen.find(text).expect("it is there") + text.len();
        let rest = self.seen.split_off(end);
        std::mem::replace(&mut self.seen, rest)
    }

    fn type_line(&mut self, text: &str) {
        self.typing.write_all(format!("{text}\n").as_bytes()).and_then(|()| self.typing.flush()).expect("typed");
    }

    /// Waits for the end: the exit code, and what else was printed.
    fn end(mut self) -> (Option<i32>, String) {
        while let Ok(more) = self.printed.recv_timeout(LIMIT) {
            self.seen.push_str(&String::from_utf8_lossy(&more));
        }
        (self.child.wait().expect("it ends").code(), std::mem::take(&mut self.seen))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a ceremony and reads the mnemonic off the screen.
fn shown(world: &World) -> (Terminal, Vec<String>) {
    let mut terminal = Terminal::start(&world.with(&["keys", "generate", "--count", "2"]));
    let screen = terminal.until("Press Enter");
    let tokens: Vec<&str> = screen.split_whitespace().collect();
    let words = (1..=24).map(|place: usize| {
        let number = place.to_string();
        let at =
            tokens.iter().position(|token| *token == number).unwrap_or_else(|| panic!("no word {place}: {screen}"));
        tokens[at + 1].to_owned()
    });
    let words = words.collect();
    terminal.type_line("");
    terminal.until("\u{1b}[H\u{1b}[2J\u{1b}[3J");
    (terminal, words)
}

/// The place that is asked for next.
fn asked(terminal: &mut Terminal) -> usize {
    terminal.until("type word ");
    let rest = terminal.until(" (not shown): ");
    terminal.until_hidden();
    rest.split_whitespace().next().and_then(|place| place.parse().ok()).expect("a place")
}

#[test]
fn the_mnemonic_is_shown_wiped_and_typed_back() {
    let world = World::new(0);
    let (mut terminal, words) = shown(&world);
    for _ in 0..4 {
        let place = asked(&mut terminal);
        terminal.type_line(&words[place - 1]);
    }
    let (code, rest) = terminal.end();
    assert_eq!(code, Some(0), "{rest}");
    // Of what is said at the end, one word is also one that mnemonics are made of.
    let said = rest.replace("cannot protect each other", "");
    assert!(words.iter().filter(|word| word.len() > 5).all(|word| !said.contains(word.as_str())), "{rest}");
    let phrase = words.join(" ");
    for index in 0..2 {
        run(&world.with(&["keys", "show", &key_at(&phrase, index)])).expect(0, &["enabled"]);
    }
}

#[test]
fn a_word_that_was_not_noted_ends_it_with_nothing_made() {
    let world = World::new(0);
    let (mut terminal, _) = shown(&world);
    for _ in 0..3 {
        asked(&mut terminal);
        terminal.type_line("nonsense");
    }
    let (code, rest) = terminal.end();
    assert_eq!(code, Some(1), "{rest}");
    assert!(rest.contains("nothing was made"), "{rest}");
    let list = run(&world.with(&["--json", "keys", "list"])).expect(0, &[]);
    assert_eq!(list.lines()[0]["keys"], serde_json::json!([]));
}
