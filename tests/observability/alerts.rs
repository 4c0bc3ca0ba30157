//! The alert rules: each has what somebody needs who is woken by it, its unit tests pass, and each expression works on
//! what the real program says.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use holdfast_tests::harness::workspace;
use holdfast_tests::prometheus::{Prometheus, program};
use serde_json::Value;

use crate::metrics_table::unknown_metrics;

/// Alerts about trouble that this stage does not have, and why. Their metrics must exist all the same, but for labels.
const NEEDS_TROUBLE: [(&str, &str); 6] = [
    ("HoldfastUnavailable", "needs a database that is gone: tests/database"),
    ("HoldfastFailed", "needs a defect"),
    ("HoldfastCheckpointsDisagree", "needs a quorum against a vote: tests/switcher"),
    ("HoldfastNobodyHoldsTheLease", "needs witnesses: tests/witness"),
    ("HoldfastDoppelganger", "needs newly enabled keys that somebody else uses: tests/switcher"),
    ("HoldfastCheckpointOld", "needs half an hour of records"),
];

/// Alerts whose trouble this stage does have.
const CAUSED: [&str; 2] = ["HoldfastSlashableRefused", "HoldfastUnknownKeys"];

fn folder() -> PathBuf {
    workspace().join("deploy/prometheus")
}

/// The rules as Prometheus has loaded them.
fn rules(prometheus: &Prometheus) -> Vec<Value> {
    let groups = prometheus.get("/api/v1/rules")["groups"].as_array().cloned().unwrap_or_default();
    groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default()).collect()
}

/// The expression with its thresholds as questions: it gives data whatever the answer is. What stands behind `unless`
/// stays a filter.
fn without_thresholds(expression: &str) -> String {
    let (left, right) =
        expression.split_once(" unless ").map_or((expression, None), |(left, right)| (left, Some(right)));
    let mut open = String::new();
    let (mut quoted, mut labels) = (false, false);
    let mut characters = left.chars().peekable();
    while let Some(character) = characters.next() {
        open.push(character);
        match character {
            '"' => quoted = !quoted,
            '{' if !quoted => labels = true,
            '}' if !quoted => labels = false,
            '<' | '>' | '=' | '!' if !quoted && !labels => {
                if characters.peek() == Some(&'=') {
                    open.extend(characters.next());
                }
                let rest: String = characters.clone().collect();
                if !rest.trim_start().starts_with("bool") {
                    open.push_str(" bool");
                }
            }
            _ => {}
        }
    }
    right.map_or(open.clone(), |right| format!("{open} unless {right}"))
}

/// Every expression is evaluated by Prometheus without an error, and gives data once its thresholds are questions.
pub fn every_rule_can_be_evaluated(prometheus: &Prometheus) {
    let rules = rules(prometheus);
    assert!(rules.len() > 30, "only {} rules are loaded", rules.len());
    for rule in &rules {
        let name = rule["name"].as_str().expect("a name");
        assert_eq!(rule["health"], "ok", "{name}: {}", rule["lastError"]);
        let excused = NEEDS_TROUBLE.iter().any(|(excused, _)| *excused == name);
        let query = rule["query"].as_str().expect("an expression");
        assert_eq!(unknown_metrics(query), Vec::<String>::new(), "{name}");
        let question = without_thresholds(query);
        if !excused {
            crate::stage::until(&format!("{name} has data: {question}"), || prometheus.has_data(&question));
        }
    }
    for (name, _) in NEEDS_TROUBLE {
        assert!(rules.iter().any(|rule| rule["name"] == name), "{name} is excused and does not exist");
    }
}

/// What goes wrong on the stage raises its alerts.
pub fn trouble_is_noticed(prometheus: &Prometheus) {
    for name in CAUSED {
        crate::stage::until(&format!("{name} is pending or fires"), || {
            let rules = rules(prometheus);
            let rule = rules.iter().find(|rule| rule["name"] == name).unwrap_or_else(|| panic!("no alert {name}"));
            rule["alerts"].as_array().is_some_and(|alerts| !alerts.is_empty())
        });
    }
}

#[test]
fn promtool_accepts_the_rules_and_each_alert_fires_when_it_should() {
    let promtool = program("promtool", "prometheus");
    for arguments in [["check", "rules", "holdfast.rules.yml"], ["test", "rules", "holdfast.rules.test.yml"]] {
        let output = Command::new(&promtool).args(arguments).current_dir(folder()).output().unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "promtool {arguments:?}: {text}");
    }
    let read = |name: &str| std::fs::read_to_string(folder().join(name)).unwrap();
    let names = |text: &str, key: &str| -> BTreeSet<String> {
        text.lines()
            .filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix(key))
            .map(str::to_owned)
            .collect()
    };
    let alerts = names(&read("holdfast.rules.yml"), "alert: ");
    let tested = names(&read("holdfast.rules.test.yml"), "alertname: ");
    assert_eq!(alerts, tested, "each alert has a unit test");
}

#[test]
fn each_alert_says_how_bad_it_is_and_what_to_do() {
    let runbook = std::fs::read_to_string(workspace().join("docs/runbooks/alerts.md")).unwrap();
    let rules = std::fs::read_to_string(folder().join("holdfast.rules.yml")).unwrap();
    let alerts: Vec<&str> = rules.split("      - alert: ").skip(1).collect();
    assert!(alerts.len() > 25, "only {} alerts", alerts.len());
    for alert in alerts {
        let name = alert.lines().next().unwrap();
        assert!(["severity: critical", "severity: warning"].iter().any(|level| alert.contains(level)), "{name}");
        assert!(alert.contains("summary: "), "{name}");
        assert!(alert.contains(&format!("runbook: docs/runbooks/alerts.md#{}\n", name.to_lowercase())), "{name}");
        assert!(runbook.contains(&format!("\n## {name}\n")), "{name} has no section in the runbook");
    }
    let sections = runbook.lines().filter_map(|line| line.strip_prefix("## "));
    for section in sections {
        assert!(rules.contains(&format!("alert: {section}\n")), "the runbook has a section {section} without an alert");
    }
}

#[test]
fn thresholds_become_questions() {
    for (rule, question) in [
        (r#"up{job=~".*holdfast.*"} == 0"#, r#"up{job=~".*holdfast.*"} == bool 0"#),
        ("a > 1 and on (x) b < c", "a > bool 1 and on (x) b < bool c"),
        ("(t < 7) != 1", "(t < bool 7) != bool 1"),
        ("sum(t >= bool 5) == 0 unless x == 0", "sum(t >= bool 5) == bool 0 unless x == 0"),
    ] {
        assert_eq!(without_thresholds(rule), question);
    }
}
