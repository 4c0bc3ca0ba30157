//! `holdfast policy`: a check of the rules, and which of them decides about a request, made up or recorded.
//!
//! Guarantees: opens no key; looks into the database only to see which keys have the labels that rules name, and says so if
//! it cannot; reads the configuration, and the files of groups, as a server would.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::Path;

use holdfast_access::{
    Builtin, Caller, CallerName, Decision, Finding, Ground, Means, Operation, Policy, RuleId, Severity, lint,
};
use holdfast_domain::{MessageKind, PublicKey};
use holdfast_wire::web3signer::SignRequest;
use serde_json::{Value, json};

use super::args::ExplainArgs;
use super::rule_labels::RuleLabels;
use super::{Context, Exit, Failure};
use crate::callers::CallersFile;
use crate::config::{Config, DEFAULT_CONFIG_FILE, compile_policy, file, operations, resolve_network};
use crate::outcome::chain;
use crate::pipeline::kind_of;

/// Every caller there can be, where that is known: an authority may vouch for any name.
pub(super) fn known_callers(config: &Config) -> Option<Vec<Caller>> {
    let file = CallersFile::read(&config.callers_file()).ok()?;
    if config.http.tls.trusts_clients() {
        return None;
    }
    let builtin = |one: Builtin| {
        let name = CallerName::from(one);
        let means = builtin_means(&name)?;
        Some(Caller::new(name, means))
    };
    let entries = || config.callers.iter().chain(&file.callers);
    let without = [Builtin::Http, Builtin::HttpUnix].into_iter().filter(|_| entries().next().is_none());
    let mut all: Vec<Caller> = without.chain([Builtin::Keymanager]).filter_map(builtin).collect();
    for entry in entries() {
        let Ok(name) = entry.caller_name() else { continue };
        let proofs = [
            (Means::Basic, entry.basic_token_sha256.is_empty()),
            (Means::Bearer, entry.bearer_token_sha256.is_empty()),
            (Means::UnixPeer, entry.unix_uids.is_empty()),
            (Means::Certificate, entry.certificate_fingerprints.is_empty() && entry.certificate_subjects.is_empty()),
        ];
        let proofs = proofs.into_iter().filter(|(_, none)| !none);
        all.extend(proofs.map(|(means, _)| Caller::new(name.clone(), means)));
    }
    Some(all)
}

/// Prints what is hardly meant.
pub(super) fn check(context: &Context) -> Result<Exit, Failure> {
    let labels = RuleLabels::look(&context.config);
    let written = compile_policy(&context.config, labels.keys())?;
    let rules = written.policy.rules();
    let path = file(&context.layers).unwrap_or_else(|| DEFAULT_CONFIG_FILE.into());
    let callers = known_callers(&context.config);
    let mut found = lint(&written.policy, callers.as_deref());
    if let RuleLabels::Unknown { .. } = labels {
        let message = labels.caveat().unwrap_or_default();
        found.push(Finding { severity: Severity::Warning, place: None, message });
    }
    found.sort_by_key(|finding| finding.place);
    let (mut text, mut values) = (String::new(), Vec::new());
    for finding in &found {
        let line = finding.place.and_then(|place| context.config.policy.get(place)).map(|entry| entry.line);
        let rule = finding.place.and_then(|place| rules.get(place)).map(|rule| rule.name.as_str());
        match line {
            Some(line) => {
                let _ = write!(text, "{}:{line}: ", path.display());
            }
            None => {
                let _ = write!(text, "{}: ", path.display());
            }
        }
        let about = rule.map_or_else(String::new, |rule| format!("rule \"{rule}\": "));
        let _ = writeln!(text, "{}: {about}{}", finding.severity.as_str(), finding.message);
        values.push(json!({
            "severity": finding.severity.as_str(), "line": line, "rule": rule, "message": finding.message,
        }));
    }
    let warnings = found.iter().filter(|finding| finding.severity == Severity::Warning).count();
    let known = !matches!(labels, RuleLabels::Unknown { .. });
    let value = json!({
        "ok": warnings == 0, "rules": rules.len(), "warnings": warnings, "findings": values, "labels_known": known,
        "caveat": labels.caveat(),
    });
    context.output.result(text, &value)?;
    if let (true, Some(caveat)) = (known, labels.caveat()) {
        context.output.note(caveat);
    }
    context.output.note(match (rules.len(), warnings) {
        (0, _) => "There are no rules: whoever may ask may do everything.".to_owned(),
        (count, 0) => format!("{count} rules, as they should be."),
        (count, warnings) => format!("{count} rules, {warnings} to look at."),
    });
    Ok(if warnings == 0 { Exit::Done } else { Exit::Refused })
}

/// One request to be judged.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Asked {
    caller: CallerName,
    /// `None` for all of them.
    means: Option<Means>,
    key: Option<PublicKey>,
    operation: String,
}

/// Prints the decision about each request and the rules that made it.
pub(super) async fn explain(args: &ExplainArgs, context: &Context) -> Result<Exit, Failure> {
    let labels = RuleLabels::look(&context.config);
    let policy = compile_policy(&context.config, labels.keys())?.policy;
    let usage = |message: String| Failure::message(Exit::Usage, message);
    let caller = args.caller.as_deref().map(|name| CallerName::new(name).map_err(|error| usage(error.to_string())));
    let caller = caller.transpose()?;
    let key =
        args.key.as_deref().map(|text| text.parse::<PublicKey>().map_err(|error| usage(format!("--key: {error}"))));
    let key = key.transpose()?;
    let means = args.means.map(Means::from);
    let mut asked: BTreeMap<Asked, u64> = BTreeMap::new();
    match (&args.request, &args.op, caller) {
        (Some(path), _, caller) => {
            let text = read(path)?;
            if let Some(records) = recorded(&text, caller.as_ref(), means)? {
                asked = records;
            } else {
                let network = resolve_network(&context.config).await?;
                let request = SignRequest::parse(text.as_bytes(), &network)
                    .map_err(|error| usage(format!("{}: {}", path.display(), chain(&error))))?;
                let caller =
                    caller.ok_or_else(|| usage("a request does not say whose it is; give --caller".to_owned()))?;
                let operation = Operation::Sign(kind_of(&request.message)).as_word();
                asked.insert(Asked { caller, means, key, operation }, 1);
            }
        }
        (None, Some(word), Some(caller)) => {
            for operation in operations(word).map_err(|error| usage(format!("--op: {error}")))?.iter() {
                let operation = operation.as_word();
                asked.insert(Asked { caller: caller.clone(), means, key, operation }, 1);
            }
        }
        (None, _, _) => return Err(usage("give --caller and --op, or --request".to_owned())),
    }
    if let Some(caveat) = labels.caveat() {
        context.output.note(caveat);
    }
    print(&policy, &labels, &asked, context)
}

/// How many requests came out how.
#[derive(Default)]
struct Verdicts {
    allowed: u64,
    refused: u64,
    /// Labels that are not known would decide.
    undecided: u64,
}

impl Verdicts {
    /// Counts a decision about so many requests; its word, and whether it allows, if that is known.
    fn count(&mut self, undecided: bool, decision: Decision, times: u64) -> (&'static str, Option<bool>) {
        let (counter, word, yes) = match (undecided, decision) {
            (true, _) => (&mut self.undecided, "undecided", None),
            (false, Decision::Allowed(_)) => (&mut self.allowed, "allowed", Some(true)),
            (false, Decision::Denied(_)) => (&mut self.refused, "refused", Some(false)),
        };
        *counter = counter.saturating_add(times);
        (word, yes)
    }

    /// Whether everything is allowed, if that is known.
    fn all_allowed(&self) -> Option<bool> {
        match (self.refused, self.undecided) {
            (0, 0) => Some(true),
            (0, _) => None,
            (_, _) => Some(false),
        }
    }

    fn exit(&self) -> Exit {
        match self.all_allowed() {
            Some(true) => Exit::Done,
            Some(false) => Exit::Refused,
            None => Exit::Unreachable,
        }
    }
}

fn print(
    policy: &Policy,
    labels: &RuleLabels,
    asked: &BTreeMap<Asked, u64>,
    context: &Context,
) -> Result<Exit, Failure> {
    let (mut text, mut values, mut verdicts) = (String::new(), Vec::new(), Verdicts::default());
    for (one, times) in asked {
        // The word came from an operation.
        let Some(operation) = Operation::named(&one.operation) else { continue };
        let decide = |means: Means| {
            let caller = Caller::new(one.caller.clone(), means);
            (means, policy.explain(&caller, one.key.as_ref(), operation))
        };
        let mut explained: Vec<_> = match one.means.or_else(|| builtin_means(&one.caller)) {
            Some(means) => vec![decide(means)],
            None => Means::ALL.into_iter().map(decide).collect(),
        };
        let differs = explained.iter().any(|(_, other)| explained.first().is_some_and(|(_, first)| first != other));
        if !differs {
            explained.truncate(1);
        }
        for (means, explanation) in &explained {
            let undecided = labels.leaves_undecided(policy, explanation);
            let (verdict, yes) = verdicts.count(undecided, explanation.decision, *times);
            let why = if undecided {
                "it hangs on labels, which are not known".to_owned()
            } else {
                ground(policy, explanation.decision)
            };
            let shown = (differs || one.means.is_some()).then_some(*means);
            let by = shown.map_or_else(|| one.caller.to_string(), |means| format!("{} ({means})", one.caller));
            let key = one.key.map_or_else(String::new, |key| format!(" with {key}"));
            let _ = writeln!(text, "{verdict}: {operation} for {by}{key}: {why}");
            let mut rules = Vec::new();
            for considered in explanation.considered.iter().filter(|one| one.caller && one.operation) {
                let name = rule_name(policy, considered.rule);
                let open = one.key.is_some() && labels.leaves_open(policy, considered.rule);
                let (what, matches) = match (considered.key, open) {
                    (true, _) => ("matches", Some(true)),
                    (false, true) => ("is about keys with labels", None),
                    (false, false) => ("is about other keys", Some(false)),
                };
                let _ = writeln!(text, "  rule \"{name}\" ({}) {what}", considered.effect.as_str());
                rules.push(json!({
                    "rule": name, "effect": considered.effect.as_str(), "matches": matches,
                    "line": context.config.policy.get(considered.rule.place()).map(|entry| entry.line),
                }));
            }
            let rule = match explanation.decision.ground() {
                Ground::Rule(id) | Ground::Rate(id) if !undecided => Some(rule_name(policy, id)),
                Ground::Rule(_) | Ground::Rate(_) | Ground::NoRules | Ground::NothingAllows => None,
            };
            values.push(json!({
                "allowed": yes, "rule": rule, "why": why, "caller": one.caller.as_str(),
                "means": shown.map(Means::as_str), "key": one.key.map(|key| key.to_string()), "operation": one.operation,
                "requests": times, "rules": rules,
            }));
        }
    }
    let exit = verdicts.exit();
    let Verdicts { allowed, refused, undecided } = &verdicts;
    let value = json!({
        "allowed": verdicts.all_allowed(), "requests": { "allowed": allowed, "refused": refused, "undecided": undecided },
        "decisions": values, "caveat": labels.caveat(),
    });
    context.output.result(text, &value)?;
    if asked.len() > 1 {
        let open = if *undecided > 0 { format!(", {undecided} undecided") } else { String::new() };
        context.output.note(format!("{allowed} requests would be allowed, {refused} refused{open}."));
    }
    Ok(exit)
}

fn rule_name(policy: &Policy, id: RuleId) -> String {
    policy.rule(id).map_or_else(String::new, |rule| rule.name.to_string())
}

fn ground(policy: &Policy, decision: Decision) -> String {
    match decision.ground() {
        Ground::NoRules => "there are no rules, so everything is allowed".to_owned(),
        Ground::Rule(id) => {
            let verb = if decision.is_allowed() { "allows" } else { "denies" };
            format!("rule \"{}\" {verb} it", rule_name(policy, id))
        }
        Ground::NothingAllows => "no rule allows it".to_owned(),
        Ground::Rate(id) => format!("rule \"{}\" allows it less often", rule_name(policy, id)),
    }
}

/// How a caller without a configured name comes in.
fn builtin_means(name: &CallerName) -> Option<Means> {
    let builtin = Builtin::ALL.into_iter().find(|builtin| builtin.as_str() == name.as_str())?;
    Some(match builtin {
        Builtin::Http | Builtin::HttpUnix | Builtin::Metrics | Builtin::Admin => Means::Listener,
        Builtin::Keymanager => Means::Bearer,
    })
}

fn read(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text))
    };
    let failure = |error| {
        let context = format!("cannot read {}", path.display());
        Failure::new(Exit::Usage, anyhow::Error::new(error).context(context))
    };
    read.map_err(failure)?;
    Ok(text)
}

/// The requests in an export of the journal, each with how often it is there; `None` if it is none.
fn recorded(
    text: &str,
    caller: Option<&CallerName>,
    means: Option<Means>,
) -> Result<Option<BTreeMap<Asked, u64>>, Failure> {
    let mut asked = BTreeMap::new();
    let mut is_export = false;
    for (place, line) in text.lines().enumerate() {
        let wrong = |what: &str| Failure::message(Exit::Usage, format!("line {}: {what}", place.saturating_add(1)));
        let Ok(value) = serde_json::from_str::<Value>(line) else {
            if is_export {
                return Err(wrong("not a line of an export"));
            }
            return Ok(None);
        };
        let member = |name: &str| value.get(name).and_then(Value::as_str);
        is_export |= member("audit").is_some();
        let (Some(op), Some(key), Some(by)) = (member("op"), member("key"), member("by")) else {
            // Batches, events and the frame.
            continue;
        };
        is_export = true;
        let kind = MessageKind::ALL.into_iter().find(|kind| kind.as_str() == op);
        let kind = kind.ok_or_else(|| wrong("the operation is unknown to this version"))?;
        let key = key.parse().map_err(|_| wrong("the key is no public key"))?;
        let (name, proved) = who(by).ok_or_else(|| wrong("the caller's name cannot be a caller's; give --caller"))?;
        let one = Asked {
            caller: caller.cloned().unwrap_or(name),
            means: means.or(proved),
            key: Some(key),
            operation: Operation::Sign(kind).as_word(),
        };
        let times: &mut u64 = asked.entry(one).or_default();
        *times = times.saturating_add(1);
    }
    Ok(is_export.then_some(asked))
}

/// A caller as the journal has it: `vc-1 (certificate)`, or `http` of a listener.
fn who(by: &str) -> Option<(CallerName, Option<Means>)> {
    let Some((name, means)) = by.strip_suffix(')').and_then(|rest| rest.split_once(" (")) else {
        return Some((CallerName::new(by).ok()?, None));
    };
    let means = Means::ALL.into_iter().find(|one| one.as_str() == means)?;
    Some((CallerName::new(name).ok()?, Some(means)))
}

#[cfg(test)]
mod tests {
    //! Proves: which lines of an export are requests, and whose.
    use super::*;

    #[test]
    fn callers_as_journaled() {
        let name = |text| CallerName::new(text).unwrap();
        assert_eq!(who("vc-1 (certificate)"), Some((name("vc-1"), Some(Means::Certificate))));
        assert_eq!(who("http"), Some((name("http"), None)));
        assert_eq!(who("vc-1 (magic)"), None);
    }

    #[test]
    fn requests_of_an_export_are_counted() {
        let key = PublicKey::from_bytes([7; 48]);
        let request = format!(r#"{{"i":0,"op":"randao_reveal","key":"{key}","epoch":1,"by":"vc-1 (basic)"}}"#);
        let text = format!("{{\"audit\":\"holdfast\"}}\n{request}\n{{\"event\":\"x\",\"by\":\"y\"}}\n{request}\n");
        let asked = recorded(&text, None, None).unwrap().unwrap();
        let (one, times) = asked.first_key_value().unwrap();
        assert_eq!((asked.len(), *times, one.operation.as_str(), one.key), (1, 2, "randao", Some(key)));
        assert_eq!((one.caller.as_str(), one.means), ("vc-1", Some(Means::Basic)));
        assert!(recorded("{\n\"type\":\"BLOCK_V2\"}", None, None).unwrap().is_none());
        assert!(recorded("{\"type\":\"BLOCK_V2\"}", None, None).unwrap().is_none());
        assert!(recorded("{\"audit\":\"holdfast\"}\nnonsense", None, None).is_err());
    }
}
