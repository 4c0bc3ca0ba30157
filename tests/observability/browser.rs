//! The status page in a real browser: it looks right on a phone and on a desktop, by day and by night, it is live, it obeys
//! its own policy, and it can be used with a keyboard.
//!
//! With `HOLDFAST_SCREENSHOTS=FOLDER` the pictures are written there: those in docs/images are made so.

use base64::Engine as _;
use serde_json::{Value, json};

use crate::programs::Browser;
use crate::stage::{Stage, until};

/// Tab, in the keys of `WebDriver`.
const TAB: &str = "\u{e004}";

/// Every text's contrast with what is behind it: those that are below 4.5.
const CONTRAST: &str = r"
const channel = (value) => { value /= 255; return value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4; };
const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const colour = (text) => text.match(/[\d.]+/g).map(Number);
const behind = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const found = colour(getComputedStyle(at).backgroundColor);
    if (found.length === 3 || found[3] > 0) return found;
  }
  return [255, 255, 255];
};
const weak = [];
let texts = 0;
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.textContent.trim() || !element.getClientRects().length || element.closest('noscript')) continue;
  texts += 1;
  const [one, other] = [light(colour(getComputedStyle(element).color)), light(behind(element))];
  const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
  if (ratio < 4.5) weak.push(element.className + ' ' + walker.currentNode.textContent.trim() + ' ' + ratio.toFixed(2));
}
return { texts, weak };
";

/// What has the focus, and whether that can be seen.
const FOCUS: &str = r"
const at = document.activeElement;
const style = getComputedStyle(at);
const name = at.tagName === 'A' ? at.textContent : (at.id || at.tagName);
return { name, top: at.getBoundingClientRect().top + scrollY, seen: style.outlineStyle !== 'none' || at.className === 'skip' };
";

fn sized(browser: &Browser, width: u64, dark: bool) {
    browser.devtools(
        "Emulation.setDeviceMetricsOverride",
        &json!({
            "width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600,
        }),
    );
    let scheme = if dark { "dark" } else { "light" };
    let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
    browser.devtools("Emulation.setEmulatedMedia", &features);
}

fn picture(browser: &Browser, name: &str) -> Vec<u8> {
    let shot = browser.devtools(
        "Page.captureScreenshot",
        &json!({ "format": "png", "captureBeyondViewport": true, "clip": {
            "x": 0, "y": 0, "scale": 1, "width": browser.run("return document.documentElement.clientWidth"),
            "height": browser.run("return Math.min(document.documentElement.scrollHeight, 1600)"),
        }}),
    );
    let png = base64::engine::general_purpose::STANDARD.decode(shot["data"].as_str().unwrap()).unwrap();
    if let Some(folder) = std::env::var_os("HOLDFAST_SCREENSHOTS") {
        std::fs::write(std::path::Path::new(&folder).join(format!("{name}.png")), &png).unwrap();
    }
    png
}

#[test]
fn the_page_in_a_browser() {
    // The nodes of this stage have no opinion about votes.
    let mut stage = Stage::with(25, &[("HOLDFAST_SWITCHER_CROSS_CHECK", "off")]);
    let load = stage.load();
    let browser = Browser::start();
    let url = format!("http://{}/", stage.server().metrics_addr());
    browser.open(&url);
    until("the page is live", || browser.run("return document.getElementById('live').textContent") == "Live");

    // Live: what is signed from now on shows without a reload.
    browser.run("window.loadedOnce = true");
    let signed = || browser.run("return document.getElementById('kinds').textContent");
    let before = signed();
    until("the table of signatures changes", || signed() != before && signed() != "");
    until("the keys are read again, after they have signed", || {
        browser.run("return document.querySelector('#keys tbody tr:last-child td:last-child').textContent") != "–"
    });
    stage.kill_a_node();
    until("the dead node shows in the summary", || {
        browser.run("return document.getElementById('summary').textContent").as_str().unwrap().contains("1 of 2 good")
    });
    assert_eq!(browser.run("return window.loadedOnce"), true, "the page was not loaded again");
    drop(load);

    let mut pictures = Vec::new();
    for (width, dark) in [(360, false), (360, true), (1280, false), (1280, true)] {
        sized(&browser, width, dark);
        let size = browser.run("return [document.documentElement.scrollWidth, innerWidth]");
        assert!(size[0].as_u64() <= size[1].as_u64(), "{width} px: the page scrolls sideways, {size}");
        let contrast = browser.run(CONTRAST);
        assert!(contrast["texts"].as_u64() > Some(60), "{contrast}");
        assert_eq!(contrast["weak"], json!([]), "{width} px, dark {dark}: texts that are hard to read");
        let look = if dark { "dark" } else { "light" };
        let device = if width < 600 { "phone" } else { "desktop" };
        pictures.push(picture(&browser, &format!("status-{device}-{look}")));
    }
    pictures.dedup();
    assert_eq!(pictures.len(), 4, "each picture is another one");

    keyboard(&browser);
    structure(&browser);
    assert_eq!(browser.log(), Vec::<String>::new(), "the browser has nothing to complain about");

    // The policy is in force: a script in the page does not run, and that is said.
    browser.run(
        "const s = document.createElement('script'); s.textContent = 'window.injected = 1'; document.body.append(s)",
    );
    assert_eq!(browser.run("return window.injected"), Value::Null);
    assert!(
        browser.log().iter().any(|line| line.contains("Content Security Policy")),
        "a violation is noticed by this test"
    );

    browser.open(&format!("{url}status/keys"));
    sized(&browser, 360, false);
    let size = browser.run("return [document.documentElement.scrollWidth, innerWidth]");
    assert!(size[0].as_u64() <= size[1].as_u64(), "the list of keys scrolls sideways, {size}");
    assert_eq!(browser.run("return document.querySelectorAll('tbody tr').length"), 25);
    // A key is found as somebody types it, and the policy lets the form be sent.
    let wanted = &stage.world.keys[7].public;
    let typed = format!("document.getElementById('find').value = '{}'", &wanted[10..30]);
    browser.run(&typed);
    browser.run("document.querySelector('form.find button').click()");
    until("the search is answered", || {
        browser.run("return [...document.querySelectorAll('tbody th code')].map((one) => one.textContent)")
            == json!([wanted])
    });
    let size = browser.run("return [document.documentElement.scrollWidth, innerWidth]");
    assert!(size[0].as_u64() <= size[1].as_u64(), "what was found scrolls sideways, {size}");
    assert_eq!(browser.run("return document.getElementById('find').value"), wanted[10..30]);
    assert_eq!(browser.log(), Vec::<String>::new());
}

/// Tab goes through the page from top to bottom, and shows where it is.
fn keyboard(browser: &Browser) {
    browser.run("document.activeElement.blur(); scrollTo(0, 0)");
    let mut stops: Vec<(String, f64)> = Vec::new();
    loop {
        browser.press(TAB);
        let focus = browser.run(FOCUS);
        let (name, top) = (focus["name"].as_str().unwrap().to_owned(), focus["top"].as_f64().unwrap());
        if name == "BODY" || name == "HTML" || stops.iter().any(|(known, at)| *known == name && (at - top).abs() < 1.0)
        {
            break;
        }
        assert_eq!(focus["seen"], true, "{name} does not show that it has the focus");
        stops.push((name, top));
        assert!(stops.len() < 60, "{stops:?}");
    }
    let names: Vec<&str> = stops.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names.first(), Some(&"Skip to content"), "{names:?}");
    for wanted in [
        "Signing",
        "kinds",
        "unsigned",
        "nodes",
        "execution",
        "decisions",
        "keys",
        "All keys",
        "find",
        "BUTTON",
        "status.json",
    ] {
        assert!(names.contains(&wanted), "{wanted} cannot be reached: {names:?}");
    }
    let place = |wanted: &str| names.iter().position(|name| *name == wanted).unwrap();
    assert!(place("kinds") < place("nodes") && place("nodes") < place("keys") && place("keys") < place("status.json"));
    // The first stop is for this.
    browser.run("scrollTo(0, 0); document.querySelector('.skip').click()");
    assert_eq!(browser.run("return document.activeElement.id"), "main");
}

/// What a screen reader goes by.
fn structure(browser: &Browser) {
    let count = |selector: &str| browser.run(&format!("return document.querySelectorAll(\"{selector}\").length"));
    for (selector, wanted) in [
        ("h1", 1),
        ("main", 1),
        ("header", 1),
        ("footer", 1),
        ("html[lang]", 1),
        ("[role=status][aria-live=polite]", 1),
        ("table:not(:has(caption))", 0),
        ("th:not([scope])", 0),
        ("section:not([aria-labelledby])", 0),
        ("img:not([alt])", 0),
        ("[style], style, script:not([src])", 0),
    ] {
        assert_eq!(count(selector), wanted, "{selector}");
    }
    // Every name that is referred to exists, once.
    let dangling = "const ids = [...document.querySelectorAll('[id]')].map((one) => one.id);
        const missing = [...document.querySelectorAll('[aria-labelledby]')].map((one) => one.getAttribute('aria-labelledby'))
          .filter((id) => !ids.includes(id));
        return [missing, ids.filter((id, place) => ids.indexOf(id) !== place)]";
    assert_eq!(browser.run(dangling), json!([[], []]));
    // A state is a word, not only a colour.
    let wordless = "return [...document.querySelectorAll('.badge')].filter((one) => !one.textContent.trim()).length";
    assert_eq!(browser.run(wordless), 0);
}
