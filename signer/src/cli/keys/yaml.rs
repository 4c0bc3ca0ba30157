//! The little of YAML that key configuration files use: flat `name: value` lines, several documents
//! or list items per file.
//!
//! Why not a YAML library: the two formats read here (Web3Signer's key files and Lighthouse's
//! `validator_definitions.yml`) are written by programs as flat maps of plain or quoted texts. What
//! is not that is refused, not guessed.

/// One document or list item: its names and values in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct FlatMap(Vec<(String, String)>);

impl FlatMap {
    /// The value of a name, if it is there and not null.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(found, _)| found == name)?;
        (!value.is_empty() && value != "~" && value != "null").then_some(value.as_str())
    }
}

/// Why a text is not a list of flat maps.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} is not understood; only plain `name: value` lines are")]
pub(super) struct YamlError {
    line: usize,
}

/// Splits a text into its documents (between `---` lines) or list items (`- `).
pub(super) fn parse(text: &str) -> Result<Vec<FlatMap>, YamlError> {
    let mut maps = vec![FlatMap::default()];
    for (index, raw) in text.lines().enumerate() {
        let error = YamlError { line: index.saturating_add(1) };
        let line = raw.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line == "---" || line == "..." {
            maps.push(FlatMap::default());
            continue;
        }
        let line = match line.strip_prefix("- ") {
            Some(item) => {
                maps.push(FlatMap::default());
                item.trim_start()
            }
            None => line,
        };
        let (name, value) = split(line).ok_or_else(|| error.clone())?;
        let value = unquote(value).ok_or(error)?;
        if let Some(map) = maps.last_mut() {
            map.0.push((name.to_owned(), value));
        }
    }
    maps.retain(|map| !map.0.is_empty());
    Ok(maps)
}

fn split(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once(':')?;
    let name = name.trim_end().trim_matches('"').trim_matches('\'');
    let separated = value.is_empty() || value.starts_with([' ', '\t']);
    (separated && !name.is_empty()).then_some((name, value.trim()))
}

/// The value without quotes and without a comment; `None` for anything but a plain or quoted text.
fn unquote(value: &str) -> Option<String> {
    let mut characters = value.chars();
    match characters.next() {
        None | Some('#') => Some(String::new()),
        Some('"') => {
            let mut text = String::new();
            loop {
                match characters.next()? {
                    '"' => break,
                    '\\' => text.push(match characters.next()? {
                        'n' => '\n',
                        't' => '\t',
                        plain @ ('"' | '\\' | '/') => plain,
                        _ => return None,
                    }),
                    plain => text.push(plain),
                }
            }
            ends(characters.as_str()).then_some(text)
        }
        Some('\'') => {
            let mut text = String::new();
            loop {
                match (characters.next()?, characters.clone().next()) {
                    ('\'', Some('\'')) => {
                        text.push('\'');
                        characters.next();
                    }
                    ('\'', _) => break,
                    (plain, _) => text.push(plain),
                }
            }
            ends(characters.as_str()).then_some(text)
        }
        Some('{' | '[' | '&' | '*' | '!' | '|' | '>' | '%' | '@' | '`') => None,
        Some(_) => {
            let plain = value.split_once(" #").map_or(value, |(plain, _)| plain);
            Some(plain.trim_end().to_owned())
        }
    }
}

/// Whether only a comment may follow.
fn ends(rest: &str) -> bool {
    let rest = rest.trim_start();
    rest.is_empty() || rest.starts_with('#')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_split() {
        let maps = parse(
            "# generated\ntype: \"file-keystore\"\nkeyType: BLS\nkeystoreFile: a b.json # the file\n---\ntype: 'file-raw'\nprivateKey: '0x''1'\n",
        )
        .unwrap();
        assert_eq!(maps.len(), 2);
        assert_eq!(maps[0].get("type"), Some("file-keystore"));
        assert_eq!(maps[0].get("keystoreFile"), Some("a b.json"));
        assert_eq!(maps[1].get("privateKey"), Some("0x'1"));
        assert_eq!(maps[1].get("keystoreFile"), None);
    }

    #[test]
    fn list_items_are_split() {
        let maps = parse(
            "---\n- enabled: true\n  voting_public_key: \"0xab\"\n  description: \"\"\n  x: null\n- enabled: false\n",
        )
        .unwrap();
        assert_eq!(maps.len(), 2);
        assert_eq!(maps[0].get("voting_public_key"), Some("0xab"));
        assert_eq!(maps[0].get("description"), None);
        assert_eq!(maps[0].get("x"), None);
        assert_eq!(maps[1].get("enabled"), Some("false"));
    }

    #[test]
    fn what_is_not_flat_is_refused_with_its_line() {
        for text in
            ["type: file-keystore\nnested: {a: 1}\n", "a: b\nno colon here\n", "a: b\nx: \"open\n", "a: b\nx: |\n"]
        {
            assert_eq!(parse(text), Err(YamlError { line: 2 }), "{text:?}");
        }
    }
}
