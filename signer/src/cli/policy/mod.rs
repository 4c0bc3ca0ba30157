//! `holdfast policy`: the rules in force, a check of them, which of them decides, and other rules in their place.
//!
//! Guarantees: a running server is asked; without one, and for what only looks, the configuration and the rules that were
//! given in its place are read as a server would read them, and nothing is opened. The output says which of the two.

mod change;
mod explain;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::Path;

use holdfast_access::RuleName;
use holdfast_domain::UnixMillis;
use holdfast_wire::admin::v1::{
    CheckPolicyRequest, PolicyFinding, PolicyOrigin, PolicyRules, ShowPolicyRequest, ShowPolicyResponse,
};
use serde_json::{Value, json};

use super::args::{PolicyCheckArgs, PolicyCommand};
use super::reach::{Need, failure, reach};
use super::{Context, Exit, Failure};
use crate::config::{Rules, compile_policy, place_of_file};

/// What begins the lines that `policy show` puts before the rules; they are no part of them.
const HEADING: &str = "# policy show: ";

/// Runs one of the commands.
pub(super) async fn run(command: &PolicyCommand, context: &Context) -> Result<Exit, Failure> {
    match command {
        PolicyCommand::Show => show(context).await,
        PolicyCommand::Check(args) => check(args, context).await,
        PolicyCommand::Explain(args) => explain::explain(args, context).await,
        PolicyCommand::Apply(args) => change::apply(args, context).await,
        PolicyCommand::Reset(args) => change::reset(args, context).await,
    }
}

/// Rules of a file, as they are sent.
struct Sent {
    text: String,
    /// Lines of the file where rules begin, by name.
    lines: BTreeMap<String, usize>,
}

impl Sent {
    /// Reads a file that has nothing but rules and groups. Keys of the groups' files go with it.
    fn read(path: &Path, context: &Context) -> Result<Self, Failure> {
        let text = read(path)?;
        let rules = Rules::parse(&text).map_err(|error| {
            let problem = format!("{}:{}:{}: {}", path.display(), error.line, error.column, error.problem);
            Failure::message(Exit::Usage, problem)
        })?;
        let name = |place: usize, name: &Option<String>| match name {
            Some(name) => name.clone(),
            None => RuleName::of_place(place.saturating_add(1)).to_string(),
        };
        let lines = rules.policy.iter().enumerate().map(|(place, rule)| (name(place, &rule.name), rule.line)).collect();
        if !rules.has_files() {
            return Ok(Self { text, lines });
        }
        context.output.note("The keys in the files of groups are sent with the rules; these files are not read again.");
        let text = rules.with_files_read()?.to_toml().map_err(|error| Failure::new(Exit::Bug, error))?;
        Ok(Self { text, lines })
    }
}

/// What rules are called: how many, which.
fn called(rules: &PolicyRules) -> String {
    format!("{} rules (SHA-256 {})", rules.rules, rules.digest)
}

/// Where rules come from.
fn origin(rules: &PolicyRules) -> String {
    match rules.origin() {
        PolicyOrigin::Given => {
            let since = UnixMillis(rules.since_unix_millis).rfc3339();
            format!("given through the admin API by {} at {since}, in place of those of the configuration", rules.by)
        }
        PolicyOrigin::Configuration | PolicyOrigin::Unspecified => format!("of the configuration ({})", rules.place),
    }
}

fn rules_json(rules: &PolicyRules) -> Value {
    let known = |text: &String| (!text.is_empty()).then(|| text.clone());
    json!({
        "sha256": rules.digest,
        "rules": rules.rules,
        "origin": match rules.origin() {
            PolicyOrigin::Given => Some("given"),
            PolicyOrigin::Configuration => Some("configuration"),
            PolicyOrigin::Unspecified => None,
        },
        "since": (rules.since_unix_millis > 0).then(|| UnixMillis(rules.since_unix_millis).rfc3339()),
        "by": known(&rules.by),
        "place": known(&rules.place),
    })
}

/// Prints the rules in force, so that they can be changed and applied again.
async fn show(context: &Context) -> Result<Exit, Failure> {
    let reached = reach(context, Need::Rules).await?;
    let shown = reached.admin.policy().show(ShowPolicyRequest {}).await;
    let output = reached.output;
    reached.close().await;
    let ShowPolicyResponse { in_force, configured, rules_toml } = shown.map_err(failure)?.into_inner();
    let in_force = in_force.unwrap_or_default();
    let mut text = format!("{HEADING}{}, {}\n", called(&in_force), origin(&in_force));
    if let Some(configured) = &configured {
        let _ = writeln!(
            text,
            "{HEADING}the {} of the configuration ({}) count for nothing until `holdfast policy reset`",
            called(configured),
            configured.place
        );
    }
    if in_force.rules == 0 {
        let _ = writeln!(text, "{HEADING}there are no rules, so whoever may ask may do everything");
    }
    // Of rules that were saved from here before.
    let rules: Vec<&str> = rules_toml.lines().skip_while(|line| line.starts_with(HEADING)).collect();
    text.push_str(&rules.join("\n"));
    let value = json!({
        "in_force": rules_json(&in_force), "configured": configured.as_ref().map(rules_json), "rules_toml": rules_toml,
    });
    output.result(text, &value)?;
    Ok(Exit::Done)
}

/// Findings for people, each after the place of the rule; and for programs.
fn told(findings: &[PolicyFinding], place: &str, lines: Option<&BTreeMap<String, usize>>) -> (String, Vec<Value>) {
    let (mut text, mut values) = (String::new(), Vec::new());
    for PolicyFinding { warning, rule, line, message } in findings {
        let severity = if *warning { "warning" } else { "note" };
        let own = lines.and_then(|lines| lines.get(rule)).and_then(|line| u32::try_from(*line).ok());
        let line = own.or((*line > 0).then_some(*line));
        let at = line.map_or_else(String::new, |line| format!("{line}:"));
        let about = if rule.is_empty() { String::new() } else { format!("rule \"{rule}\": ") };
        let _ = writeln!(text, "{place}:{at} {severity}: {about}{message}");
        let rule = (!rule.is_empty()).then_some(rule);
        values.push(json!({ "severity": severity, "line": line, "rule": rule, "message": message }));
    }
    (text, values)
}

/// Prints what is hardly meant.
async fn check(args: &PolicyCheckArgs, context: &Context) -> Result<Exit, Failure> {
    let file = args.file.as_deref();
    let sent = file.map(|path| Sent::read(path, context)).transpose()?;
    let reached = reach(context, if args.configuration { Need::ConfiguredRules } else { Need::Rules }).await?;
    let request = CheckPolicyRequest { rules_toml: sent.as_ref().map(|sent| sent.text.clone()) };
    let checked = reached.admin.policy().check(request).await;
    let output = reached.output;
    reached.close().await;
    let checked = checked.map_err(failure)?.into_inner();
    let (rules, mut findings) = (checked.rules.unwrap_or_default(), checked.findings);
    let (caveat, known) = ((!checked.caveat.is_empty()).then_some(checked.caveat), !checked.labels_unknown);
    if let (false, Some(caveat)) = (known, &caveat) {
        findings.push(PolicyFinding { warning: true, message: caveat.clone(), ..PolicyFinding::default() });
    }
    let place = match file {
        Some(path) => path.display().to_string(),
        None if rules.origin() == PolicyOrigin::Given => "applied rules".to_owned(),
        None => rules.place.clone(),
    };
    let (text, values) = told(&findings, &place, sent.as_ref().map(|sent| &sent.lines));
    let warnings = findings.iter().filter(|finding| finding.warning).count();
    let mut value = json!({ "ok": warnings == 0, "rules": rules.rules, "warnings": warnings, "findings": values,
        "labels_known": known, "caveat": caveat });
    if let (None, Some(members)) = (file, value.as_object_mut()) {
        members.insert("in_force".to_owned(), rules_json(&rules));
    }
    output.result(text, &value)?;
    if rules.origin() == PolicyOrigin::Given {
        output.note(format!("The rules in force were {}.", origin(&rules)));
    }
    if let (true, Some(caveat)) = (known, caveat) {
        output.note(caveat);
    }
    if file.is_none() && !args.configuration {
        say_what_waits(&rules, context);
    }
    output.note(match (rules.rules, warnings) {
        (0, _) => "There are no rules: whoever may ask may do everything.".to_owned(),
        (count, 0) => format!("{count} rules, as they should be."),
        (count, warnings) => format!("{count} rules, {warnings} to look at."),
    });
    Ok(if warnings == 0 { Exit::Done } else { Exit::Refused })
}

/// Says that the configuration has other rules by now than those of it that are in force.
fn say_what_waits(rules: &PolicyRules, context: &Context) {
    let asked_here = context.config.remote.server.is_none() && rules.origin() == PolicyOrigin::Configuration;
    // A command without the server's configuration knows of no rules.
    if !asked_here || context.config.policy.is_empty() {
        return;
    }
    let waits =
        compile_policy(&context.config, BTreeMap::new()).is_ok_and(|own| own.digest.to_string() != rules.digest);
    if waits {
        context.output.note(format!(
            "{} has other rules by now: `holdfast policy check --configuration` looks at them, `holdfast reload` puts them in force.",
            place_of_file(&context.layers).display()
        ));
    }
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
