//! Reads the text that is scraped: families with type, help and the labels their samples have.

use std::collections::{BTreeMap, BTreeSet};

/// One family.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Family {
    /// `counter`, `gauge`, `histogram` or `info`.
    pub kind: String,
    /// What it means.
    pub help: String,
    /// Label names of its samples, `le` left out.
    pub labels: BTreeSet<String>,
    /// Whether it has samples.
    pub sampled: bool,
}

/// The families of a scrape by the name of their samples: `…_total` of counters, `…_info` of infos.
pub fn families(text: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let (mut help, mut current, mut kind) = (String::new(), String::new(), String::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            rest.split_once(' ').expect("a help text").1.clone_into(&mut help);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, of) = rest.split_once(' ').expect("a type");
            of.clone_into(&mut kind);
            current = match of {
                "counter" => format!("{name}_total"),
                "info" => format!("{name}_info"),
                _ => name.to_owned(),
            };
            // The help ends in a full stop that the library adds.
            let help = help.trim_end_matches('.').to_owned();
            families.entry(current.clone()).or_insert(Family { kind: of.to_owned(), help, ..Family::default() });
        } else if !line.starts_with('#') && !line.is_empty() {
            let family = families.get_mut(&current).expect("a sample follows its type");
            family.sampled = true;
            let end = line.find(['{', ' ']).expect("a sample");
            let name = &line[..end];
            let fits = match kind.as_str() {
                "histogram" => ["_bucket", "_sum", "_count"].iter().any(|end| name == format!("{current}{end}")),
                _ => name == current,
            };
            assert!(fits, "{name} is no sample of {current}");
            if let Some((_, rest)) = line.split_once('{') {
                let (labels, _) = rest.rsplit_once('}').expect("labels end");
                let names =
                    labels.split("\",").filter_map(|pair| pair.split_once('=')).map(|(name, _)| name.to_owned());
                family.labels.extend(names.filter(|name| name != "le" && !name.is_empty()));
            }
        }
    }
    families
}
