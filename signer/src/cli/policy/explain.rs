//! `holdfast policy explain`: which rule decides about a request, made up or recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use holdfast_access::{CallerName, Means, Operation};
use holdfast_domain::{MessageKind, PublicKey};
use holdfast_wire::admin::v1::policy_question::What;
use holdfast_wire::admin::v1::{ExplainPolicyRequest, PolicyAnswer, PolicyDecision, PolicyQuestion};
use serde_json::{Value, json};

use super::super::args::ExplainArgs;
use super::super::reach::{Need, Reached, failure, reach};
use super::super::{Context, Exit, Failure, Output};
use super::read;

/// Questions that are asked at once.
const AT_ONCE: usize = 5_000;

/// One request to be judged.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Asked {
    caller: CallerName,
    /// `None` for all of them.
    means: Option<Means>,
    key: Option<PublicKey>,
    what: Asks,
}

/// What it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Asks {
    /// An operation, or a word for several.
    Operation(String),
    /// The body of a signing request.
    Body(String),
}

impl Asked {
    fn question(&self) -> PolicyQuestion {
        PolicyQuestion {
            caller: self.caller.to_string(),
            means: self.means.map_or_else(String::new, |means| means.as_str().to_owned()),
            pubkey: self.key.map_or_else(String::new, |key| key.to_string()),
            what: Some(match &self.what {
                Asks::Operation(word) => What::Operation(word.clone()),
                Asks::Body(text) => What::SigningRequest(text.clone().into_bytes()),
            }),
        }
    }
}

/// Prints the decision about each request and the rules that made it.
pub(super) async fn explain(args: &ExplainArgs, context: &Context) -> Result<Exit, Failure> {
    let asked: Vec<(Asked, u64)> = asked(args)?.into_iter().collect();
    let reached = reach(context, if args.configuration { Need::ConfiguredRules } else { Need::Rules }).await?;
    let answered = ask(&reached, &asked).await;
    let output = reached.output;
    reached.close().await;
    let (answers, caveat) = answered?;
    print(&asked, (&answers, &caveat), output)
}

/// What the command line asks, each with how often.
fn asked(args: &ExplainArgs) -> Result<BTreeMap<Asked, u64>, Failure> {
    let usage = |message: String| Failure::message(Exit::Usage, message);
    let caller = args.caller.as_deref().map(|name| CallerName::new(name).map_err(|error| usage(error.to_string())));
    let caller = caller.transpose()?;
    let key =
        args.key.as_deref().map(|text| text.parse::<PublicKey>().map_err(|error| usage(format!("--key: {error}"))));
    let key = key.transpose()?;
    let means = args.means.map(Means::from);
    let one = |caller, what| BTreeMap::from([(Asked { caller, means, key, what }, 1)]);
    match (&args.request, &args.op, caller) {
        (Some(path), _, caller) => {
            let text = read(path)?;
            if let Some(records) = recorded(&text, caller.as_ref(), means)? {
                return Ok(records);
            }
            let caller = caller.ok_or_else(|| usage("a request does not say whose it is; give --caller".to_owned()))?;
            Ok(one(caller, Asks::Body(text)))
        }
        (None, Some(word), Some(caller)) => Ok(one(caller, Asks::Operation(word.clone()))),
        (None, _, _) => Err(usage("give --caller and --op, or --request".to_owned())),
    }
}

/// Asks, some at a time, and sees that all were answered by the same rules.
async fn ask(reached: &Reached, asked: &[(Asked, u64)]) -> Result<(Vec<(usize, PolicyAnswer)>, String), Failure> {
    let (mut all, mut digests) = (Vec::new(), BTreeSet::new());
    let mut client = reached.admin.policy();
    let mut caveat = String::new();
    // An export without requests is answered, too.
    let parts = asked.chunks(AT_ONCE).chain(asked.is_empty().then_some(asked));
    for (part, some) in parts.enumerate() {
        let questions = some.iter().map(|(one, _)| one.question()).collect();
        let answer = client.explain(ExplainPolicyRequest { questions }).await.map_err(failure)?.into_inner();
        caveat = answer.caveat;
        digests.insert(answer.in_force.map(|rules| rules.digest));
        let place = |answer: &PolicyAnswer| {
            let within = usize::try_from(answer.question).unwrap_or(usize::MAX);
            part.saturating_mul(AT_ONCE).saturating_add(within)
        };
        all.extend(answer.answers.into_iter().map(|answer| (place(&answer), answer)));
    }
    if digests.len() > 1 {
        let text = "other rules came into force while questions were answered; ask again";
        return Err(Failure::message(Exit::Refused, text));
    }
    Ok((all, caveat))
}

fn print(
    asked: &[(Asked, u64)],
    (answers, caveat): (&[(usize, PolicyAnswer)], &str),
    output: Output,
) -> Result<Exit, Failure> {
    let (mut text, mut values) = (String::new(), Vec::new());
    let (mut allowed, mut refused, mut undecided) = (0_u64, 0_u64, 0_u64);
    for (place, answer) in answers {
        let Some((one, times)) = asked.get(*place) else { continue };
        let operation = &answer.operation;
        for decision in &answer.decisions {
            let PolicyDecision { allowed: yes, why, rule, means, considered, undecided: open } = decision;
            let yes = (!open).then_some(*yes);
            let (count, verdict) = match yes {
                Some(true) => (&mut allowed, "allowed"),
                Some(false) => (&mut refused, "refused"),
                None => (&mut undecided, "undecided"),
            };
            *count = count.saturating_add(*times);
            let by = if means.is_empty() { one.caller.to_string() } else { format!("{} ({means})", one.caller) };
            let key = one.key.map_or_else(String::new, |key| format!(" with {key}"));
            let _ = writeln!(text, "{verdict}: {operation} for {by}{key}: {why}");
            let mut rules = Vec::new();
            for one in considered {
                let (what, matches) = match (one.matches, one.unknown) {
                    (true, _) => ("matches", Some(true)),
                    (false, true) => ("is about keys with labels", None),
                    (false, false) => ("is about other keys", Some(false)),
                };
                let _ = writeln!(text, "  rule \"{}\" ({}) {what}", one.rule, one.effect);
                rules.push(json!({
                    "rule": one.rule, "effect": one.effect, "matches": matches,
                    "line": (one.line > 0).then_some(one.line),
                }));
            }
            values.push(json!({
                "allowed": yes, "rule": (!rule.is_empty()).then_some(rule), "why": why, "caller": one.caller.as_str(),
                "means": (!means.is_empty()).then_some(means), "key": one.key.map(|key| key.to_string()),
                "operation": operation, "requests": times, "rules": rules,
            }));
        }
    }
    let all_allowed = match (refused, undecided) {
        (0, 0) => Some(true),
        (0, _) => None,
        _ => Some(false),
    };
    let value = json!({
        "allowed": all_allowed, "requests": { "allowed": allowed, "refused": refused, "undecided": undecided },
        "decisions": values, "caveat": (!caveat.is_empty()).then_some(caveat),
    });
    output.result(text, &value)?;
    if answers.len() > 1 {
        let open = if undecided > 0 { format!(", {undecided} undecided") } else { String::new() };
        output.note(format!("{allowed} requests would be allowed, {refused} refused{open}."));
    }
    if !caveat.is_empty() {
        output.note(caveat);
    }
    Ok(match all_allowed {
        Some(true) => Exit::Done,
        Some(false) => Exit::Refused,
        None => Exit::Unreachable,
    })
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
            what: Asks::Operation(Operation::Sign(kind).as_word()),
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
        assert_eq!((asked.len(), *times, one.key), (1, 2, Some(key)));
        assert_eq!(one.what, Asks::Operation("randao".to_owned()));
        assert_eq!((one.caller.as_str(), one.means), ("vc-1", Some(Means::Basic)));
        assert!(recorded("{\n\"type\":\"BLOCK_V2\"}", None, None).unwrap().is_none());
        assert!(recorded("{\"type\":\"BLOCK_V2\"}", None, None).unwrap().is_none());
        assert!(recorded("{\"audit\":\"holdfast\"}\nnonsense", None, None).is_err());
    }
}
