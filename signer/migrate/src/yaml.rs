//! YAML as far as settings need it: documents of names with texts, or lists of texts.
//!
//! Guarantees: scalars stay texts (a typed reader turns `0x12` into a number and cannot hold a public key); nested
//! names are joined by dots; what is there twice, and whatever could mean something else than it seems (aliases, tags,
//! maps in lists), is refused with its line. No error quotes the text, which may hold secrets.

use holdfast_secret::SecretText;
use saphyr_parser::{Event, Parser, ScalarStyle};

/// How deep maps may lie in each other.
const MAX_DEPTH: usize = 8;

/// Why a text is not understood. Lines count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum YamlError {
    /// It is no YAML.
    #[error("line {line} is not valid YAML; compare its quotes, colons and indentation with its neighbours")]
    Syntax {
        /// Where.
        line: usize,
    },
    /// It is YAML of a kind that settings never have.
    #[error("line {line}: expected a name with a text or a list of texts; write it in that form")]
    Shape {
        /// Where.
        line: usize,
    },
    /// A name is there twice, so it is not known which value holds.
    #[error("line {line}: {name} is there a second time; remove one of them")]
    Repeated {
        /// Where the second is.
        line: usize,
        /// The name.
        name: String,
    },
}

/// One name with its texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Names of the maps around it and its own, joined by dots.
    pub(crate) name: String,
    /// One text, or those of a list. None if there is nothing, `null` or `~`.
    pub(crate) texts: Vec<SecretText>,
    /// Where the name stands.
    pub(crate) line: usize,
}

/// One document: its entries in their order.
pub(crate) type Document = Vec<Entry>;

/// Reads all documents of a text; empty ones are left out.
///
/// # Errors
/// [`YamlError`].
pub(crate) fn documents(text: &str) -> Result<Vec<Document>, YamlError> {
    let mut reader = Reader::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| YamlError::Syntax { line: error.marker().line() })?;
        reader.take(event, span.start.line())?;
    }
    Ok(reader.done)
}

#[derive(Default)]
struct Reader {
    done: Vec<Document>,
    document: Document,
    /// Names of the maps that are open, each with those around it; the outermost has none.
    path: Vec<String>,
    maps: usize,
    /// A name whose value comes next.
    name: Option<(String, usize)>,
    /// A list that is open.
    list: Option<Entry>,
}

impl Reader {
    fn take(&mut self, event: Event<'_>, line: usize) -> Result<(), YamlError> {
        let shape = YamlError::Shape { line };
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) => {}
            Event::DocumentEnd => {
                if !self.document.is_empty() {
                    self.done.push(std::mem::take(&mut self.document));
                }
            }
            Event::Alias(_) => return Err(shape),
            Event::MappingStart(anchor, tag) => {
                let inside = self.maps > 0;
                if anchor != 0 || tag.is_some() || self.list.is_some() || self.maps >= MAX_DEPTH {
                    return Err(shape);
                }
                match self.name.take() {
                    Some((name, _)) => self.path.push(name),
                    None if inside => return Err(shape),
                    None => {}
                }
                self.maps = self.maps.saturating_add(1);
            }
            Event::MappingEnd => {
                self.maps = self.maps.saturating_sub(1);
                self.path.pop();
            }
            Event::SequenceStart(anchor, tag) => match self.name.take() {
                Some((name, line)) if anchor == 0 && tag.is_none() && self.list.is_none() => {
                    self.list = Some(Entry { name, texts: Vec::new(), line });
                }
                _ => return Err(shape),
            },
            Event::SequenceEnd => {
                if let Some(entry) = self.list.take() {
                    self.add(entry)?;
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                if anchor != 0 || tag.is_some() {
                    return Err(shape);
                }
                let nothing = style == ScalarStyle::Plain && matches!(text.as_ref(), "" | "~" | "null");
                self.scalar(&text, nothing, line)?;
            }
        }
        Ok(())
    }

    fn scalar(&mut self, text: &str, nothing: bool, line: usize) -> Result<(), YamlError> {
        if let Some(list) = &mut self.list {
            if nothing {
                return Err(YamlError::Shape { line });
            }
            list.texts.push(SecretText::new(text));
            return Ok(());
        }
        match self.name.take() {
            Some((name, line)) => {
                let texts = if nothing { Vec::new() } else { vec![SecretText::new(text)] };
                self.add(Entry { name, texts, line })
            }
            // A document of nothing but comments is one empty scalar.
            None if self.maps == 0 && nothing => Ok(()),
            None if self.maps == 0 || nothing => Err(YamlError::Shape { line }),
            None => {
                let mut name = self.path.last().cloned().unwrap_or_default();
                if !name.is_empty() {
                    name.push('.');
                }
                name.push_str(text);
                self.name = Some((name, line));
                Ok(())
            }
        }
    }

    fn add(&mut self, entry: Entry) -> Result<(), YamlError> {
        if self.document.iter().any(|other| other.name == entry.name) {
            return Err(YamlError::Repeated { line: entry.line, name: entry.name });
        }
        self.document.push(entry);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn flat(text: &str) -> Vec<Vec<(String, Vec<String>)>> {
        let plain = |entry: &Entry| {
            (entry.name.clone(), entry.texts.iter().map(|text| text.expose().to_owned()).collect::<Vec<_>>())
        };
        documents(text).unwrap().iter().map(|document| document.iter().map(plain).collect()).collect()
    }

    fn pair(name: &str, texts: &[&str]) -> (String, Vec<String>) {
        (name.to_owned(), texts.iter().map(|text| (*text).to_owned()).collect())
    }

    #[test]
    fn names_texts_lists_nesting_and_documents() {
        let read = flat(
            "# c\nprivateKey: 0x0012 # kept as text\nb: \"null\"\nc: ~\nd: [x, 'y']\ne:\n  - 1\neth2:\n  network: hoodi\neth2.x: 2\n---\n# none\n---\ntype: file-raw\n",
        );
        assert_eq!(read[0][0], pair("privateKey", &["0x0012"]));
        assert_eq!(read[0][1], pair("b", &["null"]));
        assert_eq!(read[0][2], pair("c", &[]));
        assert_eq!(read[0][3], pair("d", &["x", "y"]));
        assert_eq!(read[0][4], pair("e", &["1"]));
        assert_eq!(read[0][5], pair("eth2.network", &["hoodi"]));
        assert_eq!(read[0][6], pair("eth2.x", &["2"]));
        assert_eq!(read[1], [pair("type", &["file-raw"])]);
        assert_eq!(read.len(), 2);
        assert_eq!(
            flat("a: {b: {c: {d: 1}, e: 2}, f: 3}\ng: 4\n")[0]
                .iter()
                .map(|(name, _)| name.as_str())
                .collect::<Vec<_>>(),
            ["a.b.c.d", "a.b.e", "a.f", "g"]
        );
    }

    #[test]
    fn what_could_mean_something_else_is_refused_with_its_line() {
        for text in ["a: 1\nb: *x\n", "a: 1\nb: &x 2\n", "a: 1\nb: !t 2\n", "a: 1\nb: [{c: 1}]\n", "a: 1\n? [b]\n: 1\n"]
        {
            assert!(documents(text).is_err(), "{text:?}");
        }
        assert_eq!(
            documents("a: 1\nx: {y: 1}\nx.y: 2\n"),
            Err(YamlError::Repeated { line: 3, name: "x.y".to_owned() })
        );
        assert_eq!(documents("- a\n"), Err(YamlError::Shape { line: 1 }));
        assert_eq!(documents("just text\n"), Err(YamlError::Shape { line: 1 }));
    }

    #[test]
    fn errors_quote_no_value() {
        for text in ["a: \"hunter2\n", "a: hunter2: b\n", "a: hunter2\na: hunter2\n", "hunter2\n", "a: &x hunter2\n"] {
            let error = documents(text).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,60}|[a-c:\\-\\[\\]{}&*!|> \n\"'~]{0,60}") {
            let _ = documents(&text);
        }

        #[test]
        fn texts_survive(texts in prop::collection::vec("[ -~]{1,20}", 1..6)) {
            let lines = texts.iter().enumerate().map(|(at, text)| format!("k{at}: '{}'", text.replace('\'', "''")));
            let yaml = lines.collect::<Vec<_>>().join("\n");
            let read = flat(&yaml);
            prop_assert_eq!(read[0].iter().map(|(_, texts)| texts[0].clone()).collect::<Vec<_>>(), texts);
        }
    }
}
