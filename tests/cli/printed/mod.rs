//! Proves: every line that the documentation prints to be typed works as printed. It is typed here, in an order in which a
//! reader would, on machines of a page or two each ([`scenes`]); or another test types it; or it is known why none can
//! ([`elsewhere`]). A line that is none of these fails, and so does an entry of these lists that is not needed any more.
//!
//! Not lines to be typed: the bare name of a command that needs more to do anything, and what is shortened by `…`, `|` or
//! brackets. That those exist is proved in `docs.rs`. The changelog and decision records say what was once.

mod elsewhere;
mod machine;
mod scenes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use holdfast_tests::harness::workspace;

use crate::docs::{Help, commands, documents, fenced, inline, name};

/// A line to be typed: where it stands, and itself without a comment.
#[derive(Clone)]
struct Line {
    place: String,
    text: String,
}

/// Every document whose commands are meant to work today, with its text and the lines that are to be typed.
fn pages() -> &'static BTreeMap<String, (String, Vec<Line>)> {
    static PAGES: OnceLock<BTreeMap<String, (String, Vec<Line>)>> = OnceLock::new();
    PAGES.get_or_init(|| {
        let mut help = Help::default();
        let all = documents().into_iter().map(|path| (name(&path), path));
        let today = all.filter(|(document, _)| document != "CHANGELOG.md" && !document.starts_with("docs/adr/"));
        today
            .map(|(document, path)| {
                let text = std::fs::read_to_string(path).expect("a readable document");
                let lines = lines(&document, &text, &mut help);
                (document, (text, lines))
            })
            .collect()
    })
}

/// The lines of a document that are to be typed.
fn lines(document: &str, text: &str, help: &mut Help) -> Vec<Line> {
    let place = |number: usize| format!("{document}:{number}");
    let mut found = Vec::new();
    // Lines of a text that is given to a command, up to this word.
    let mut given: Option<String> = None;
    for (number, language, line) in fenced(text) {
        let line = match language.as_str() {
            "sh" | "" => line.as_str(),
            "console" => line.strip_prefix("$ ").unwrap_or_default(),
            _ => continue,
        };
        if let Some(end) = &given {
            if line == end {
                given = None;
            }
            continue;
        }
        given = line.split_once("<<'").and_then(|(_, rest)| rest.split('\'').next()).map(str::to_owned);
        let text = without_comment(line);
        if !text.is_empty() {
            found.push(Line { place: place(number), text });
        }
    }
    for (number, code) in inline(text) {
        let is_ours = code.split_whitespace().next().is_some_and(|first| first == "holdfast");
        let is_short = code.contains(['…', '|', '[']);
        if !is_ours || is_short {
            continue;
        }
        let words = commands(&code).into_iter().next().unwrap_or_default();
        if words.is_empty() || are_names(&words, help) && !help.is_complete(&words) {
            continue;
        }
        found.push(Line { place: place(number), text: code });
    }
    found
}

/// Whether these are names of commands alone, without an argument.
fn are_names(words: &[String], help: &mut Help) -> bool {
    (1..=words.len()).all(|end| help.subcommands(&words[..end - 1]).contains(&words[end - 1]))
}

fn without_comment(line: &str) -> String {
    let end = line.find(" #").unwrap_or(if line.starts_with('#') { 0 } else { line.len() });
    line[..end].trim().to_owned()
}

/// The blocks of a document that a test runs as a whole, by the comment above them: their lines.
fn run_as_blocks(document: &str, text: &str) -> BTreeSet<String> {
    let (mut found, mut help) = (BTreeSet::new(), Help::default());
    for part in text.split("<!-- test: ").skip(1) {
        let (test, rest) = part.split_once(" -->\n").expect("the end of the comment");
        let quoted = format!("\"{test}\"");
        let block = rest.split_once("```sh\n").and_then(|(before, block)| before.trim().is_empty().then_some(block));
        let Some((block, _)) = block.and_then(|block| block.split_once("```")) else { continue };
        assert!(elsewhere::a_test_contains(&quoted), "{document}: no test runs the block {test}");
        found.extend(lines(document, &format!("```sh\n{block}```\n"), &mut help).into_iter().map(|line| line.text));
    }
    found
}

#[test]
fn every_printed_line_works_as_printed() {
    let typed = scenes::play();
    let (mut missing, mut seen, mut unneeded) = (Vec::new(), 0, elsewhere::names());
    for (document, (text, lines)) in pages() {
        let blocks = run_as_blocks(document, text);
        for line in lines {
            seen += 1;
            if typed.contains(&line.text) || blocks.contains(&line.text) {
                continue;
            }
            match elsewhere::find(&line.text) {
                Some(entry) => drop(unneeded.remove(entry)),
                None => missing.push(format!("{}: {}", line.place, line.text)),
            }
        }
    }
    assert!(missing.is_empty(), "printed, and run by no test:\n{}", missing.join("\n"));
    assert!(unneeded.is_empty(), "known to be run elsewhere or nowhere, but not printed, or run here: {unneeded:?}");
    println!("{seen} lines, {} of them typed here", typed.len());
    assert!(seen > 150 && typed.len() > 80, "{seen} lines, {} typed", typed.len());
}

#[test]
fn what_another_test_runs_is_in_that_test() {
    for (printed, file, words) in elsewhere::BY_OTHER_TESTS {
        let source = std::fs::read_to_string(workspace().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(source.contains(words), "{printed}: no {words:?} in {file}");
    }
}

#[test]
fn lines_to_be_typed_are_found() {
    let text = "`holdfast status`, `holdfast keys`, `holdfast exits sign`, `holdfast exits sign --all`, `holdfast kek init|status`\n\
                ```sh\n# why\nholdfast doctor   # mends\ncat <<'END'\nholdfast not\nEND\n```\n```console\n$ holdfast keys list\nkeys\n```\n```toml\na = 1\n```\n";
    let found: Vec<String> = lines("x.md", text, &mut Help::default()).into_iter().map(|line| line.text).collect();
    let expected =
        ["holdfast doctor", "cat <<'END'", "holdfast keys list", "holdfast status", "holdfast exits sign --all"];
    assert_eq!(found, expected);
}
