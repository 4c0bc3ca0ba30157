//! `holdfast doctor`: looks at everything a signer depends on and says how to mend what is wrong.
//!
//! Guarantees: makes no directory, database or key, and changes no key; runs beside a running server,
//! whose lock on the database it respects.

mod checks;
mod machine;
mod nodes;
mod policy;

use serde_json::{Value, json};

use super::{Context, Exit, Failure};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// As it should be.
    Fine,
    /// Works, but should be looked at.
    Warn,
    /// Does not work, or is not safe.
    Fail,
}

impl Verdict {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Fine => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    /// Stable name of the check.
    id: &'static str,
    /// How bad.
    verdict: Verdict,
    /// What was seen.
    evidence: String,
    /// What to do; empty if nothing.
    mend: String,
}

impl Finding {
    fn fine(id: &'static str, evidence: impl Into<String>) -> Self {
        Self { id, verdict: Verdict::Fine, evidence: evidence.into(), mend: String::new() }
    }

    fn warn(id: &'static str, evidence: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { id, verdict: Verdict::Warn, evidence: evidence.into(), mend: mend.into() }
    }

    fn fail(id: &'static str, evidence: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { id, verdict: Verdict::Fail, evidence: evidence.into(), mend: mend.into() }
    }

    fn line(&self) -> String {
        let mend = if self.mend.is_empty() { String::new() } else { format!("\n     {:<15} -> {}", "", self.mend) };
        format!("{:<4} {:<15} {}{mend}", self.verdict.as_str(), self.id, self.evidence)
    }

    fn json(&self) -> Value {
        json!({
            "id": self.id,
            "verdict": self.verdict.as_str(),
            "evidence": self.evidence,
            "mend": (!self.mend.is_empty()).then_some(&self.mend),
        })
    }
}

/// Runs all checks and prints what they found.
pub(super) async fn run(context: &Context) -> Result<Exit, Failure> {
    let config = &context.config;
    let mut findings = Vec::new();
    let (finding, network) = checks::network(config).await;
    findings.push(finding);
    findings.extend(nodes::consensus_nodes(config, network.as_ref()).await);
    findings.push(policy::policy(config));
    findings.push(checks::data_dir(config));
    findings.push(machine::filesystem(config));
    findings.push(machine::disk_space(config));
    let (more, use_of_database) = checks::database(config, context.output, network.as_ref()).await;
    findings.extend(more);
    let busy = use_of_database == checks::DatabaseUse::ByOther;
    if busy {
        findings.push(checks::server(config).await);
    }
    findings.extend(checks::anchors(config));
    findings.extend(checks::clock(network.as_ref()));
    findings.push(machine::synchronised());
    findings.extend(machine::memory_lock());
    findings.push(machine::dumps());
    findings.extend(machine::vault(config, network.as_ref()));
    findings.push(machine::port("http_port", "http.listen (--http-listen)", config.http.listen, busy));
    findings.push(machine::port("metrics_port", "metrics.listen (--metrics-listen)", config.metrics.listen, busy));

    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    let (warnings, failures) = (count(Verdict::Warn), count(Verdict::Fail));
    let lines: Vec<String> = findings.iter().map(Finding::line).collect();
    let json: Vec<Value> = findings.iter().map(Finding::json).collect();
    context.output.result(
        lines.join("\n"),
        &json!({ "ok": failures == 0, "warnings": warnings, "failures": failures, "checks": json }),
    )?;
    context.output.note(match (failures, warnings) {
        (0, 0) => "All is well.".to_owned(),
        (0, _) => format!("Works; {warnings} to look at."),
        (_, _) => format!("{failures} to mend, {warnings} to look at."),
    });
    Ok(if failures == 0 { Exit::Done } else { Exit::Refused })
}
