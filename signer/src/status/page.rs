//! The page itself and what belongs to it: shell, style, script, and the headers that keep everybody else out.
//!
//! Guarantees: nothing is loaded from elsewhere, nothing in the page is style or script by itself, and no other page may
//! frame it or read it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use hyper::body::Bytes;

use super::query::MAX_FIND;
use super::{Board, KeyPage, KeyQuery, Published, sections};

/// What a browser may do with an answer.
pub(crate) const HEADERS: [(&str, &str); 7] = [
    (
        "content-security-policy",
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; \
         form-action 'self'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cache-control", "no-store"),
];

/// What a path stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resource {
    /// The page.
    Page,
    /// The document.
    Document,
    /// The stream of events.
    Events,
    /// A page of keys.
    Keys,
    /// A page of keys as a document.
    KeysDocument,
    /// Something fixed.
    Asset(Asset),
}

/// Something that is part of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asset {
    /// Its type.
    pub(crate) content_type: &'static str,
    /// Its content.
    pub(crate) content: &'static str,
}

const STYLE: Asset = Asset { content_type: "text/css; charset=utf-8", content: include_str!("assets/status.css") };
const SCRIPT: Asset =
    Asset { content_type: "text/javascript; charset=utf-8", content: include_str!("assets/status.js") };
const MARK: Asset = Asset { content_type: "image/svg+xml", content: include_str!("assets/mark.svg") };

impl Resource {
    /// What there is at a path of the metrics listener; `None` for what is none of the page's business.
    pub(crate) fn at(path: &str) -> Option<Self> {
        Some(match path {
            "/" | "/status" => Self::Page,
            "/status.json" => Self::Document,
            "/status/events" => Self::Events,
            "/status/keys" => Self::Keys,
            "/status/keys.json" => Self::KeysDocument,
            "/status/style.css" => Self::Asset(STYLE),
            "/status/script.js" => Self::Asset(SCRIPT),
            "/status/mark.svg" => Self::Asset(MARK),
            _ => return None,
        })
    }
}

impl Board {
    /// The page as of now.
    pub(crate) async fn page(&self) -> String {
        let published = self.fresh().await;
        whole_page(&published)
    }

    /// The document as of now.
    pub(crate) async fn json(&self) -> Bytes {
        self.fresh().await.json.clone()
    }

    /// One page of the keys.
    pub(crate) async fn keys_page(&self, query: KeyQuery) -> String {
        let page = self.keys(query).await;
        keys_page(&page)
    }

    /// One page of the keys as a document.
    pub(crate) async fn keys_json(&self, query: KeyQuery) -> serde_json::Value {
        let KeyPage { keys, page, pages, total, query } = self.keys(query).await;
        serde_json::json!({
            "schema": "holdfast-status-keys/v1", "find": query.find(), "page": page, "pages": pages, "total": total,
            "keys": keys,
        })
    }
}

/// Head and frame of a page. `root` leads from the page to the root of the listener; `live` pages have the script.
fn shell(title: &str, root: &str, live: bool, body: &str) -> String {
    let script = if live { format!("<script src=\"{root}status/script.js\" defer></script>") } else { String::new() };
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{title}</title>\
         <link rel=\"icon\" href=\"{root}status/mark.svg\"><link rel=\"stylesheet\" href=\"{root}status/style.css\">\
         {script}</head><body><a class=\"skip\" href=\"#main\">Skip to content</a>\n{body}\n</body></html>\n"
    )
}

/// A live part of the page: its heading, and the table in a region that scrolls by itself.
struct Block {
    id: &'static str,
    heading: &'static str,
    before: String,
    after: String,
}

impl Block {
    fn new(id: &'static str, heading: &'static str) -> Self {
        Self { id, heading, before: String::new(), after: String::new() }
    }

    fn html(&self, parts: &BTreeMap<&'static str, String>) -> String {
        let Self { id, heading, before, after } = self;
        let content = parts.get(id).map_or("", String::as_str);
        format!(
            "<section class=\"block\" aria-labelledby=\"h-{id}\"><h2 id=\"h-{id}\">{heading}</h2>{before}\
             <div class=\"scroll\" id=\"{id}\" role=\"region\" aria-labelledby=\"h-{id}\" tabindex=\"0\">{content}</div>\
             {after}</section>\n"
        )
    }
}

fn whole_page(published: &Published) -> String {
    let parts = &published.sections;
    let part = |id: &str| parts.get(id).map_or("", String::as_str);
    let mut blocks = Vec::new();
    if parts.contains_key("kinds") {
        let mut signing = Block::new("kinds", "Signing");
        signing.before = format!("<div id=\"rate\">{}</div>", part("rate"));
        blocks.push(signing);
        blocks.push(Block::new("unsigned", "Not signed"));
    }
    for (id, heading) in [
        ("nodes", "Consensus clients"),
        ("execution", "Execution clients"),
        ("decisions", "Recent decisions"),
        ("instances", "Signers on this database"),
    ] {
        if parts.contains_key(id) {
            blocks.push(Block::new(id, heading));
        }
    }
    if parts.contains_key("keys") {
        let mut keys = Block::new("keys", "Keys");
        keys.after = format!(
            "<p class=\"note\"><span id=\"keys-note\">{}</span> <a href=\"status/keys\">All keys</a></p>{}",
            part("keys-note"),
            search("status/keys", "")
        );
        blocks.push(keys);
    }
    let links = blocks.iter().fold(String::new(), |mut links, block| {
        let _ = write!(links, "<li><a href=\"#h-{}\">{}</a></li>", block.id, block.heading);
        links
    });
    let blocks: String = blocks.iter().map(|block| block.html(parts)).collect();
    let body = format!(
        "<header><div class=\"top\"><h1><img src=\"status/mark.svg\" alt=\"\" width=\"28\" height=\"28\">Holdfast</h1>\
         <p class=\"live\"><span id=\"live\" class=\"badge off\">As loaded</span> <span id=\"updated\">{updated}</span></p>\
         </div><p id=\"place\">{place}</p><p id=\"summary\" role=\"status\" aria-live=\"polite\" class=\"sr\">{summary}</p>\
         <nav aria-label=\"Parts of this page\"><ul>{links}</ul></nav></header>\n\
         <main id=\"main\" tabindex=\"-1\"><div id=\"alarm\" role=\"alert\">{alarm}</div>\n\
         <section aria-labelledby=\"h-states\"><h2 id=\"h-states\" class=\"sr\">State</h2>\
         <ul id=\"states\" class=\"tiles\">{states}</ul></section>\n<div class=\"blocks\">\n{blocks}</div></main>\n\
         <footer><p>Read only. <a href=\"status.json\">status.json</a> <a href=\"metrics\">metrics</a></p>\
         <noscript><p>Without scripts this page shows the state of when it was loaded.</p></noscript></footer>",
        updated = part("updated"),
        place = published.place,
        summary = sections::escape(&published.summary),
        alarm = part("alarm"),
        states = part("states"),
    );
    shell("Holdfast status", "", true, &body)
}

/// The form that searches the keys. It is no live part of the page: what is being typed stays.
fn search(action: &str, find: &str) -> String {
    let find = sections::escape(find);
    format!(
        "<form class=\"find\" role=\"search\" method=\"get\" action=\"{action}\"><label for=\"find\">Find keys by public key, \
         name, label or state</label><span><input id=\"find\" name=\"find\" type=\"search\" value=\"{find}\" \
         maxlength=\"{MAX_FIND}\" autocomplete=\"off\" spellcheck=\"false\"><button>Find</button></span></form>"
    )
}

fn keys_page(page: &KeyPage) -> String {
    let KeyPage { keys, page, pages, total, query } = page;
    let link = |wanted: usize, rel: &str, word: &str| {
        if (1..=*pages).contains(&wanted) && wanted != *page {
            let query = sections::escape(&query.to_page(wanted));
            format!("<li><a rel=\"{rel}\" href=\"keys?{query}\">{word}</a></li>")
        } else {
            format!("<li><span class=\"none\">{word}</span></li>")
        }
    };
    let pager = format!(
        "<nav aria-label=\"Pages of keys\"><ul>{}{}<li aria-current=\"page\">page {page} of {pages}</li>{}{}</ul></nav>",
        link(1, "first", "First"),
        link(page.saturating_sub(1), "prev", "Previous"),
        link(page.saturating_add(1), "next", "Next"),
        link(*pages, "last", "Last"),
    );
    let count = sections::grouped(u64::try_from(*total).unwrap_or(u64::MAX));
    let (told, empty, back) = if query.find().is_empty() {
        (format!("{count} keys; those that need a look come first"), sections::NO_KEYS, "")
    } else {
        let find = sections::escape(query.find());
        (format!("{count} keys with “{find}”"), "No key has this.", "<li><a href=\"keys\">All keys</a></li>")
    };
    let search = search("keys", query.find());
    let body = format!(
        "<header><div class=\"top\"><h1><img src=\"mark.svg\" alt=\"\" width=\"28\" height=\"28\">Holdfast</h1></div>\
         <p>{told}</p><nav aria-label=\"Way back\"><ul>\
         <li><a href=\"../status\">Back to the status</a></li>{back}</ul></nav></header>\n\
         <main id=\"main\" tabindex=\"-1\"><section class=\"block\" aria-labelledby=\"h-keys\"><h2 id=\"h-keys\">Keys</h2>{search}\
         <div class=\"scroll\" role=\"region\" aria-labelledby=\"h-keys\" tabindex=\"0\">{table}</div>{pager}</section></main>",
        table = sections::keys(keys, empty),
    );
    shell("Holdfast keys", "../", false, &body)
}

#[cfg(test)]
mod tests {
    //! Proves: which paths there are, and that pages hold neither style nor script of their own.
    use super::*;

    #[test]
    fn paths() {
        for path in ["/", "/status", "/status.json", "/status/keys", "/status/events", "/status/style.css"] {
            assert!(Resource::at(path).is_some(), "{path}");
        }
        for path in ["", "/metrics", "/livez", "/status/", "/status/../metrics", "/favicon.ico"] {
            assert_eq!(Resource::at(path), None, "{path}");
        }
    }

    #[test]
    fn pages_obey_their_own_policy() {
        let published = Published {
            sections: BTreeMap::from([("kinds", "k".to_owned()), ("keys", "x".to_owned())]),
            ..Published::default()
        };
        let empty = |query| KeyPage { keys: Vec::new(), page: 1, pages: 3, total: 0, query };
        let hostile = KeyQuery::parse(Some("find=%22%3E%3Cscript%3Ealert(1)%3C/script%3E&page=1"));
        let found = keys_page(&empty(hostile));
        assert!(found.contains("value=\"&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;\""), "{found}");
        for html in [whole_page(&published), keys_page(&empty(KeyQuery::default())), found] {
            for banned in ["<style", "style=", "onclick", "onload", "javascript:", "http://", "https://", "src=\"/"] {
                assert!(!html.contains(banned), "{banned} in {html}");
            }
            assert!(html.matches("<script").count() <= 1 && !html.contains("<script>"), "{html}");
        }
        assert!(!STYLE.content.contains("url(") && !STYLE.content.contains("@import"));
        assert!(keys_page(&empty(KeyQuery::default())).contains("keys?page=2"));
    }
}
