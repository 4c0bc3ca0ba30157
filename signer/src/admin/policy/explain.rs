//! Which rule decides about a request, made up or recorded.

use std::sync::Arc;

use holdfast_access::{Caller, CallerName, Decision, Ground, Means, Operation, OperationSet, Policy, RuleId};
use holdfast_domain::PublicKey;
use holdfast_wire::admin::v1::policy_question::What;
use holdfast_wire::admin::v1::{ConsideredRule, PolicyAnswer, PolicyDecision, PolicyQuestion};
use holdfast_wire::admin::{Reason, refusal};
use holdfast_wire::web3signer::SignRequest;
use tonic::Status;

use crate::admin::convert;
use crate::config::{Config, WrittenPolicy, operations, resolve_network};
use crate::outcome::chain;
use crate::pipeline::kind_of;
use crate::policy::builtin_means;
use crate::policy::rule_labels::RuleLabels;

/// Most questions in one request.
const MAX_QUESTIONS: usize = 10_000;

/// What is asked.
pub(super) struct Question {
    caller: CallerName,
    /// `None` for all of them.
    means: Option<Means>,
    key: Option<PublicKey>,
    operations: OperationSet,
}

/// Reads questions.
///
/// # Errors
/// [`Status`] with [`Reason::InvalidArgument`] for the first one that means nothing.
pub(super) async fn read(questions: Vec<PolicyQuestion>, config: &Arc<Config>) -> Result<Vec<Question>, Status> {
    if questions.len() > MAX_QUESTIONS {
        let text = format!("ask at most {MAX_QUESTIONS} questions in one request");
        return Err(refusal(Reason::InvalidArgument, text));
    }
    let mut network = None;
    let mut all = Vec::with_capacity(questions.len());
    for PolicyQuestion { caller, means, pubkey, what } in questions {
        let wrong = |text: String| refusal(Reason::InvalidArgument, text);
        let operations = match what {
            Some(What::Operation(word)) => {
                operations(&word).map_err(|error| wrong(format!("operation (--op): {error}")))?
            }
            Some(What::SigningRequest(body)) => {
                if network.is_none() {
                    let known = resolve_network(config).await;
                    network = Some(known.map_err(|error| refusal(Reason::Unavailable, chain(&error)))?);
                }
                let Some(network) = &network else { continue };
                let request = SignRequest::parse(&body, network)
                    .map_err(|error| wrong(format!("signing_request (--request): {}", chain(&error))))?;
                [Operation::Sign(kind_of(&request.message))].into_iter().collect()
            }
            None => return Err(wrong("a question needs an operation or a signing_request".to_owned())),
        };
        all.push(Question {
            caller: CallerName::new(&caller).map_err(|error| wrong(format!("caller: {error}")))?,
            means: match means.as_str() {
                "" => None,
                word => {
                    let known = Means::ALL.into_iter().find(|one| one.as_str() == word);
                    Some(known.ok_or_else(|| wrong(format!("means: {word:?} is no way to prove a name")))?)
                }
            },
            key: if pubkey.is_empty() { None } else { Some(convert::key(&pubkey)?) },
            operations,
        });
    }
    Ok(all)
}

/// Answers them.
pub(super) fn answers(written: &WrittenPolicy, questions: &[Question], labels: &RuleLabels) -> Vec<PolicyAnswer> {
    let answer = |(index, question): (usize, &Question)| {
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        let one = move |operation: Operation| PolicyAnswer {
            question: index,
            operation: operation.as_word(),
            decisions: decisions(written, question, operation, labels),
        };
        question.operations.iter().map(one).collect::<Vec<_>>()
    };
    questions.iter().enumerate().flat_map(answer).collect()
}

/// The decision; one for each means if they differ.
fn decisions(
    written: &WrittenPolicy,
    question: &Question,
    operation: Operation,
    labels: &RuleLabels,
) -> Vec<PolicyDecision> {
    let policy = &written.policy;
    let decide = |means: Means| {
        let caller = Caller::new(question.caller.clone(), means);
        (means, policy.explain(&caller, question.key.as_ref(), operation))
    };
    let mut explained: Vec<_> = match question.means.or_else(|| builtin_means(&question.caller)) {
        Some(means) => vec![decide(means)],
        None => Means::ALL.into_iter().map(decide).collect(),
    };
    let differs = explained.iter().any(|(_, other)| explained.first().is_some_and(|(_, first)| first != other));
    if !differs {
        explained.truncate(1);
    }
    let message = |(means, explanation): &(Means, holdfast_access::Explanation)| {
        let considered = explanation.considered.iter().filter(|one| one.caller && one.operation);
        let shown = (differs || question.means.is_some()).then_some(*means);
        let undecided = labels.leaves_undecided(policy, explanation);
        PolicyDecision {
            undecided,
            allowed: !undecided && explanation.decision.is_allowed(),
            why: if undecided {
                "it hangs on labels, which are not known".to_owned()
            } else {
                ground(policy, explanation.decision)
            },
            rule: match explanation.decision.ground() {
                Ground::Rule(id) | Ground::Rate(id) if !undecided => rule_name(policy, id),
                Ground::Rule(_) | Ground::Rate(_) | Ground::NoRules | Ground::NothingAllows => String::new(),
            },
            means: shown.map_or_else(String::new, |means| means.as_str().to_owned()),
            considered: considered
                .map(|one| ConsideredRule {
                    rule: rule_name(policy, one.rule),
                    effect: one.effect.as_str().to_owned(),
                    matches: one.key,
                    unknown: !one.key && question.key.is_some() && labels.leaves_open(policy, one.rule),
                    line: written
                        .entries
                        .get(one.rule.place())
                        .map_or(0, |entry| u32::try_from(entry.line).unwrap_or(u32::MAX)),
                })
                .collect(),
        }
    };
    explained.iter().map(message).collect()
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
