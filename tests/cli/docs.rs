//! Proves: every `holdfast …` command that the documentation prints exists as printed, each subcommand and each flag, by
//! what the binary itself says in its help; every TOML key it prints is a setting; every link within it leads somewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use holdfast_tests::harness::{holdfast, holdfast_ok, workspace};
use serde_json::Value;

/// Programs that run another one with the words after them.
const WRAPPERS: [&str; 6] = ["sudo", "docker", "kubectl", "exec", "time", "env"];
/// Programs for which `holdfast` is a name and no command, also behind `sudo`.
const OTHERS: [&str; 8] = ["systemctl", "journalctl", "apt", "apt-get", "install", "chown", "dpkg", "helm"];

/// A command as printed: where, and its words after `holdfast`.
struct Printed {
    place: String,
    words: Vec<String>,
}

pub(crate) fn documents() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        ["README.md", "SECURITY.md", "CHANGELOG.md"].iter().map(|name| workspace().join(name)).collect();
    let mut folders = vec![workspace().join("docs"), workspace().join("deploy")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

pub(crate) fn name(path: &Path) -> String {
    path.strip_prefix(workspace()).expect("a file of the repository").display().to_string()
}

/// Lines of fenced blocks, continued ones joined, with the block's language and the line's number.
pub(crate) fn fenced(text: &str) -> Vec<(usize, String, String)> {
    let mut found: Vec<(usize, String, String)> = Vec::new();
    let (mut language, mut continued) = (None, false);
    for (number, line) in text.lines().enumerate() {
        let trimmed = line.trim_start();
        if let Some(rest) = trimmed.strip_prefix("```") {
            language = if language.is_none() { Some(rest.trim().to_owned()) } else { None };
            continued = false;
            continue;
        }
        let Some(language) = &language else { continue };
        let (body, more) = trimmed.strip_suffix('\\').map_or((trimmed, false), |body| (body, true));
        match found.last_mut() {
            Some((_, _, last)) if continued => {
                last.push(' ');
                last.push_str(body);
            }
            _ => found.push((number + 1, language.clone(), body.to_owned())),
        }
        continued = more;
    }
    found
}

/// Code within lines of text.
pub(crate) fn inline(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut within = false;
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            within = !within;
        } else if !within {
            let parts = line.split('`').enumerate().filter(|(index, _)| index % 2 == 1);
            found.extend(parts.map(|(_, code)| (number + 1, code.replace("\\|", "|"))));
        }
    }
    found
}

/// Words of a shell line up to a comment; an operator is a word by itself.
fn words(line: &str) -> Vec<String> {
    let (mut found, mut word, mut quote) = (Vec::new(), String::new(), None);
    let line = line.strip_prefix("$ ").unwrap_or(line);
    for (index, c) in line.char_indices() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, '#') if word.is_empty() && (index == 0 || line[..index].ends_with(' ')) => break,
            (None, ' ') => found.extend((!word.is_empty()).then(|| std::mem::take(&mut word))),
            (None, ';' | ')') => {
                found.extend((!word.is_empty()).then(|| std::mem::take(&mut word)));
                found.push(";".to_owned());
            }
            _ => word.push(c),
        }
    }
    found.extend((!word.is_empty()).then_some(word));
    found
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
    })
}

/// The commands in a line of words.
pub(crate) fn commands(line: &str) -> Vec<Vec<String>> {
    let all = words(line);
    all.split(|word| ["|", "||", "&&", ";", "&"].contains(&word.as_str()))
        .filter_map(|segment| {
            let first = segment.iter().find(|word| !is_assignment(word))?;
            let program =
                |word: &str| word == "holdfast" || word.ends_with("/holdfast") || word.ends_with("$(holdfast");
            let ours = |word: &str| program(word) && !word.contains(':');
            if segment.iter().any(|word| OTHERS.contains(&word.as_str()))
                || !(ours(first) || WRAPPERS.contains(&first.as_str()))
            {
                return None;
            }
            let at = (0..segment.len())
                .find(|&at| ours(&segment[at]) && segment.get(at + 1).is_some_and(|next| !ours(next)))?;
            Some(segment[at + 1..].iter().take_while(|word| !word.contains('>') && *word != "<").cloned().collect())
        })
        .collect()
}

fn printed() -> Vec<Printed> {
    let mut found = Vec::new();
    for path in documents() {
        let text = std::fs::read_to_string(&path).expect("a readable document");
        let blocks = fenced(&text).into_iter().filter(|(_, language, _)| language != "toml" && language != "json");
        let lines = blocks.map(|(number, _, line)| (number, line));
        for (number, line) in lines.chain(inline(&text)) {
            for words in commands(&line) {
                found.push(Printed { place: format!("{}:{number}", name(&path)), words });
            }
        }
    }
    found
}

/// What the binary says of its commands.
#[derive(Default)]
pub(crate) struct Help(BTreeMap<Vec<String>, String>);

impl Help {
    fn of(&mut self, path: &[String]) -> &str {
        self.0.entry(path.to_vec()).or_insert_with(|| {
            let mut arguments = path.to_vec();
            arguments.push("--help".to_owned());
            String::from_utf8(holdfast_ok(&arguments).stdout).expect("help is text")
        })
    }

    pub(crate) fn subcommands(&mut self, path: &[String]) -> Vec<String> {
        let listed = self.of(path).lines().skip_while(|line| *line != "Commands:").skip(1);
        listed
            .take_while(|line| !line.is_empty())
            .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
            .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
            .collect()
    }

    /// Whether a command does something with nothing more than its name.
    pub(crate) fn is_complete(&mut self, path: &[String]) -> bool {
        if !self.subcommands(path).is_empty() {
            return false;
        }
        let usage = self.of(path).lines().find_map(|line| line.strip_prefix("Usage: ")).unwrap_or_default().to_owned();
        // What may be left out stands in brackets.
        let (mut depth, mut needed) = (0_u32, false);
        for c in usage.chars() {
            match c {
                '[' => depth += 1,
                ']' => depth -= 1,
                '<' => needed |= depth == 0,
                _ => {}
            }
        }
        !needed
    }

    /// Whether a flag is there, and whether it takes a value.
    fn flag(&mut self, path: &[String], flag: &str) -> Option<bool> {
        self.of(path).lines().find_map(|line| {
            let line = line.trim_start();
            if !line.starts_with('-') {
                return None;
            }
            let mut parts = line.split([' ', ',']).filter(|part| !part.is_empty());
            let is =
                parts.by_ref().take_while(|part| part.starts_with('-')).any(|part| part.trim_end_matches('.') == flag);
            is.then(|| line.contains('<') && line.find('<') < line.find("  ").or(Some(usize::MAX)))
        })
    }
}

/// Whether it is a command that the help does not list, for the program's own use.
fn is_hidden(path: &[String], name: &str) -> bool {
    let arguments = path.iter().map(String::as_str).chain([name, "--help"]);
    holdfast(&arguments.collect::<Vec<_>>()).status.success()
}

/// What is wrong with a printed command.
fn check(words: &[String], help: &mut Help) -> Result<(), String> {
    let mut path = Vec::new();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let word = word.trim_matches(['[', ']', '…']);
        if word.is_empty() {
            continue;
        }
        if word.starts_with('-') && word.len() > 1 {
            let flag = word.split('=').next().unwrap_or(word);
            match help.flag(&path, flag) {
                None => return Err(format!("`holdfast {}` has no {flag}", path.join(" "))),
                Some(true) if !word.contains('=') => drop(rest.next()),
                Some(_) => {}
            }
            continue;
        }
        let known = help.subcommands(&path);
        if known.is_empty() {
            continue;
        }
        let alternatives: Vec<&str> = word.split('|').collect();
        // A word that stands for any command.
        if word.chars().all(|c| c.is_ascii_uppercase() || c == '_') {
            return Ok(());
        }
        let exists = |one: &&str| known.iter().any(|name| name == one) || is_hidden(&path, one);
        if let Some(unknown) = alternatives.iter().find(|one| !exists(one)) {
            return Err(format!("`holdfast {}` has no command {unknown}", path.join(" ")));
        }
        match alternatives.as_slice() {
            [one] => path.push((*one).to_owned()),
            _ => return Ok(()),
        }
    }
    Ok(())
}

#[test]
fn every_printed_command_exists() {
    let mut help = Help::default();
    let printed = printed();
    let wrong: Vec<String> = printed
        .iter()
        .filter_map(|one| {
            let problem = check(&one.words, &mut help).err()?;
            Some(format!("{}: holdfast {}: {problem}", one.place, one.words.join(" ")))
        })
        .collect();
    assert!(wrong.is_empty(), "the documentation prints commands that are not there:\n{}", wrong.join("\n"));
    assert!(printed.len() > 120, "only {} commands were found", printed.len());
}

#[test]
fn a_command_that_is_not_there_is_found() {
    let mut help = Help::default();
    let mut problem = |line: &str| {
        let found = commands(line);
        assert_eq!(found.len(), 1, "{line}");
        check(&found[0], &mut help).err()
    };
    assert_eq!(problem("$ sudo -u holdfast holdfast --config /etc/x.toml keys list --json | jq ."), None);
    assert_eq!(problem("HOLDFAST_X=1 holdfast --data-dir keys keys import --from a --watermark now # keys"), None);
    assert_eq!(problem("holdfast kek init|status|rotate"), None);
    assert!(problem("holdfast keys imprt --from a").is_some_and(|text| text.contains("no command imprt")));
    assert!(problem("holdfast keys import --form a").is_some_and(|text| text.contains("no --form")));
    assert!(problem("docker compose run --rm holdfast kek init|status|rotat").is_some());
    assert!(commands("sudo journalctl -u holdfast -f").is_empty());
    assert!(commands("cargo build -p holdfast --locked").is_empty());
}

/// Lines outside of fenced blocks, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut within = false;
    text.lines().enumerate().filter_map(move |(at, line)| {
        let is_fence = line.trim_start().starts_with("```");
        within ^= is_fence;
        (!within && !is_fence).then_some((at + 1, line))
    })
}

/// What a link may name in a document: its headings, as they are called in addresses, and what is marked with an id.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (_, line) in prose(text) {
        found.extend(line.split("<a id=\"").skip(1).filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
        let heading = line.trim_start_matches('#');
        if heading.len() == line.len() || !heading.starts_with(' ') {
            continue;
        }
        // Of a link its text only.
        let (begin, links) = heading.split_once("](").unwrap_or((heading, ""));
        let after = links.split("](").filter_map(|part| Some(part.split_once(')')?.1));
        let plain: String = std::iter::once(begin).chain(after).collect();
        let lower = plain.trim().to_lowercase();
        let kept = lower.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
        let slug: String = kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect();
        // The second of the same name has a number.
        let again = (1..).map(|number| format!("{slug}-{number}"));
        let name = std::iter::once(slug.clone()).chain(again).find(|name| !found.contains(name));
        found.extend(name);
    }
    found
}

#[test]
fn links_lead_somewhere() {
    let (mut broken, mut named) = (Vec::new(), 0);
    for path in documents().into_iter().chain([workspace().join("ARCHITECTURE.md")]) {
        let text = std::fs::read_to_string(&path).expect("a readable document");
        for (number, line) in prose(&text) {
            for target in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
                if target.contains("://") {
                    continue;
                }
                let other = path.parent().expect("a folder").join(file);
                let leads = if anchor.is_empty() {
                    file.is_empty() || other.exists()
                } else {
                    named += 1;
                    let there = if file.is_empty() { Ok(text.clone()) } else { std::fs::read_to_string(other) };
                    there.is_ok_and(|there| anchors(&there).contains(anchor))
                };
                if !leads {
                    broken.push(format!("{}:{number}: {target}", name(&path)));
                }
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
    assert!(named > 100, "only {named} links name a part of a document");
}

/// Follows references of a JSON schema, into items of lists and to the table among alternatives.
fn resolve<'a>(schema: &'a Value, mut node: &'a Value) -> &'a Value {
    loop {
        let next = node
            .get("$ref")
            .and_then(Value::as_str)
            .and_then(|reference| schema.pointer(reference.trim_start_matches('#')))
            .or_else(|| node.get("items"))
            .or_else(|| node.get("anyOf")?.as_array()?.iter().find(|one| one.get("properties").is_some()));
        match next {
            Some(next) => node = next,
            None => return node,
        }
    }
}

/// Whether there is a setting with this path.
fn is_setting<'a>(schema: &'a Value, path: impl Iterator<Item = &'a str>) -> bool {
    let mut node = schema;
    for name in path {
        match resolve(schema, node).get("properties").and_then(|all| all.get(name)) {
            Some(found) => node = found,
            None => return false,
        }
    }
    true
}

#[test]
fn every_printed_setting_exists() {
    let schema = holdfast_ok(&["config", "schema"]).stdout;
    let schema: Value = serde_json::from_slice(&schema).expect("the schema is JSON");
    assert!(is_setting(&schema, ["http", "listen"].into_iter()) && !is_setting(&schema, ["http", "lsten"].into_iter()));
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for path in documents() {
        let text = std::fs::read_to_string(&path).expect("a readable document");
        let mut section = String::new();
        for (number, language, line) in fenced(&text) {
            if language != "toml" {
                section.clear();
                continue;
            }
            let line = line.split(" #").next().unwrap_or_default().trim();
            let named = line.strip_prefix('[').and_then(|rest| rest.split(']').next());
            let key = line
                .split_once(" = ")
                .map(|(key, _)| key)
                .filter(|key| key.chars().all(|c| c.is_ascii_lowercase() || c == '_'));
            let full = match (named, key) {
                (Some(name), _) => {
                    name.trim_start_matches('[').clone_into(&mut section);
                    section.clone()
                }
                (None, Some(key)) if !section.is_empty() => format!("{section}.{key}"),
                (None, _) => continue,
            };
            seen += 1;
            if !is_setting(&schema, full.split('.')) {
                wrong.push(format!("{}:{number}: {full}", name(&path)));
            }
        }
    }
    assert!(wrong.is_empty(), "the documentation prints settings that are not there:\n{}", wrong.join("\n"));
    assert!(seen > 20, "only {seen} settings were found");
}
