//! `holdfast.admin.v1.Policy`: which callers may do what with which keys.
//!
//! Guarantees: rules take the place of those somebody has seen, never of others; they are in the journal, then on disk,
//! then in force, all of them at once; nobody shuts himself out, or opens everything, without saying that he means it.

mod compare;
mod explain;

use std::path::PathBuf;
use std::sync::Arc;

use holdfast_access::{AdminArea, Directory, Operation, Policy as Rules};
use holdfast_approvals::Act as Approvable;
use holdfast_wire::admin::v1::policy_server::Policy;
use holdfast_wire::admin::v1::{
    ChangePolicyResponse, CheckPolicyRequest, CheckPolicyResponse, ExplainPolicyRequest, ExplainPolicyResponse,
    PolicyOrigin, PolicyRules, ReplacePolicyRequest, ResetPolicyRequest, ShowPolicyRequest, ShowPolicyResponse,
};
use holdfast_wire::admin::{Reason, refusal};
use tonic::{Request, Response, Status};

use super::danger;
use super::desk::Desk;
use super::gate::{Act, Gate};
use crate::approval::{Brought, Way, of_rules};
use crate::callers::Principal;
use crate::config::{Config, RulesDigest, WrittenPolicy};
use crate::outcome::chain;
use crate::policy::rule_labels::RuleLabels;
use crate::policy::{Origin, PolicyStore, RuleSources, Rulebook, SourceError, administrator, kept, known_callers};

/// Longest rules, in bytes: some 40,000 keys.
pub(super) const MAX_RULES_BYTES: usize = 4 * 1024 * 1024;

/// Answers about the policy.
pub(crate) struct PolicyService {
    gate: Gate,
    config: Arc<Config>,
    /// Where the configuration is, for messages.
    place: PathBuf,
    /// Whether rules count that were given in place of the configuration's.
    given: bool,
    /// What changes the policy; without it, it is only looked at.
    desk: Option<Arc<Desk>>,
}

/// What shall be in force.
enum Wanted {
    /// These rules.
    Rules(Box<WrittenPolicy>, String),
    /// Those of the configuration.
    Configuration,
}

/// On what terms.
struct Terms {
    /// What must be in force now.
    expected: Option<RulesDigest>,
    dry_run: bool,
    force: bool,
    /// What people approved.
    brought: Option<Brought>,
}

impl PolicyService {
    /// In a signer, or on a database that is open here.
    pub(super) fn of_desk(desk: &Arc<Desk>) -> Self {
        let (gate, config) = (desk.gate.clone(), Arc::new(desk.config.clone()));
        let place = PathBuf::from("the configuration");
        Self { gate, config, place, given: true, desk: Some(Arc::clone(desk)) }
    }

    /// Only looks, at a configuration and, if wanted, at what was given in its place.
    pub(super) fn of_configuration(config: Arc<Config>, (place, given): (PathBuf, bool), gate: Gate) -> Self {
        Self { gate, config, place, given, desk: None }
    }

    /// What is in force: in this signer, or would be in one that starts.
    async fn store(&self) -> Result<Arc<PolicyStore>, Status> {
        if let Some(running) = self.gate.policy() {
            return Ok(Arc::clone(running));
        }
        let sources = self.sources().await?.map_err(|error| refusal(Reason::Configuration, chain(&error)))?;
        Ok(Arc::new(PolicyStore::new(sources, Arc::clone(self.gate.clock()))))
    }

    async fn sources(&self) -> Result<Result<RuleSources, SourceError>, Status> {
        let (config, place, at) = (Arc::clone(&self.config), self.place.clone(), self.read_now());
        let given = self.given;
        let read = move || {
            let labels = RuleLabels::look(&config).keys();
            if given {
                return RuleSources::read(&config, place, labels, at);
            }
            Ok(RuleSources::of_configuration(&config, place, labels, at)?)
        };
        blocking(read).await
    }

    /// What is known of labels: in a running signer all of it.
    async fn labels(&self) -> Result<RuleLabels, Status> {
        if self.gate.policy().is_some() {
            return Ok(RuleLabels::all_known());
        }
        let config = Arc::clone(&self.config);
        blocking(move || RuleLabels::look(&config)).await
    }

    fn read_now(&self) -> crate::policy::Given {
        crate::policy::Given { since: self.gate.clock().now(), by: "start".to_owned() }
    }

    /// Compiles a text of rules. Which keys have which labels is as in force.
    async fn parse(&self, text: String) -> Result<(WrittenPolicy, String), Status> {
        if text.len() > MAX_RULES_BYTES {
            let most = MAX_RULES_BYTES / (1024 * 1024);
            return Err(refusal(Reason::InvalidArgument, format!("rules_toml is longer than {most} MiB")));
        }
        let labels = self.store().await.map(|store| store.in_force().written.policy.directory().labels.clone());
        let labels = labels.unwrap_or_default();
        let (written, text) = blocking(move || (WrittenPolicy::parse(&text, labels), text)).await?;
        let written = written.map_err(|error| refusal(Reason::InvalidArgument, format!("rules_toml, {error}")))?;
        Ok((written, text))
    }

    /// What of rules is hardly meant so.
    async fn findings(&self, book: &Rulebook) -> Result<Vec<holdfast_wire::admin::v1::PolicyFinding>, Status> {
        let (config, written) = (Arc::clone(&self.config), Arc::clone(&book.written));
        blocking(move || compare::findings(&written, known_callers(&config).as_deref())).await
    }

    async fn change(&self, who: &Arc<Principal>, wanted: Wanted, terms: Terms) -> Result<ChangePolicyResponse, Status> {
        let store = self.store().await?;
        // Held until it is done: what is compared with is what is replaced.
        let turn = store.turn().await;
        let (before, given) = (turn.in_force(), store.given_by(who.id()));
        let way = if matches!(wanted, Wanted::Configuration) { Way::Withdrawn } else { Way::Given };
        let after = match wanted {
            Wanted::Rules(written, text) => Rulebook::given(*written, &text, given),
            Wanted::Configuration => Rulebook { given, ..store.configured() },
        };
        if let Some(expected) = terms.expected.filter(|expected| *expected != before.written.digest) {
            let found = before.said();
            let text = format!(
                "other rules are in force than those with SHA-256 {expected}, so nothing was done: {found}, since {} by {}; \
                 look at them, and give the SHA-256 of those that yours are to replace",
                before.given.since.rfc3339(),
                before.given.by
            );
            return Err(refusal(Reason::Stale, text));
        }
        let objection = objection(&before.written.policy, &after.written.policy, who);
        let mut answer = ChangePolicyResponse {
            before: Some(message(&before, &store)),
            after: Some(message(&after, &store)),
            done: false,
            changes: compare::changes(&before.written, &after.written),
            findings: self.findings(&after).await?,
            objection: objection.clone(),
        };
        let same = before.origin == after.origin && before.written.digest == after.written.digest;
        if terms.dry_run || same {
            return Ok(answer);
        }
        if let Some(objection) = objection.filter(|_| !terms.force) {
            let text = format!("{objection}, so nothing was done; with force (--force) it is done all the same");
            return Err(refusal(Reason::Refused, text));
        }
        let desk = self.desk()?;
        self.gate.may_write(who, AdminArea::Policy, &[])?;
        let said = before.said();
        let payload = of_rules((&said, before.written.policy.directory()), &after.written, way);
        let cleared = desk.may(&[Approvable::Policy], &payload, terms.brought.as_ref(), who.id()).await?;
        let detail = PolicyStore::difference(&before, &after);
        let act = Act::new(AdminArea::Policy, "policy.replaced").about("policy").detail(detail);
        let failed = |error: kept::KeptError| refusal(Reason::Unavailable, chain(&error));
        let work = async move {
            let done = turn.give(after).await.map_err(failed);
            drop(cleared);
            done
        };
        self.gate.act(who, act, work).await?;
        answer.done = true;
        Ok(answer)
    }

    fn desk(&self) -> Result<&Arc<Desk>, Status> {
        let none = || refusal(Reason::Internal, "nothing to change the policy of; report this as a bug");
        self.desk.as_ref().ok_or_else(none)
    }

    /// Takes away given rules that nobody can read, for a command that has the database itself: no server starts with them.
    async fn discard(
        &self,
        who: &Arc<Principal>,
        problem: &Status,
        (dry_run, brought): (bool, Option<Brought>),
    ) -> Result<ChangePolicyResponse, Status> {
        let (config, place, at) = (Arc::clone(&self.config), self.place.clone(), self.read_now());
        let read = move || RuleSources::of_configuration(&config, place, RuleLabels::look(&config).keys(), at);
        let sources = blocking(read).await?;
        let sources = sources.map_err(|error| refusal(Reason::Configuration, chain(&error)))?;
        let after = &sources.configured;
        let mut answer = ChangePolicyResponse {
            after: Some(PolicyRules { place: self.place.display().to_string(), ..rules(after) }),
            findings: self.findings(after).await?,
            objection: Some(problem.message().to_owned()),
            ..ChangePolicyResponse::default()
        };
        if dry_run {
            return Ok(answer);
        }
        self.gate.may_write(who, AdminArea::Policy, &[])?;
        let payload = of_rules(("rules that cannot be used", &Directory::default()), &after.written, Way::Withdrawn);
        let cleared = self.desk()?.may(&[Approvable::Policy], &payload, brought.as_ref(), who.id()).await?;
        let detail = format!("from rules that cannot be used to {}", after.said());
        let act = Act::new(AdminArea::Policy, "policy.replaced").about("policy").detail(detail);
        let file = sources.file.clone();
        let work = async move {
            let removed = blocking(move || kept::remove(&file)).await?;
            drop(cleared);
            removed.map_err(|error| refusal(Reason::Unavailable, chain(&error)))
        };
        self.gate.act(who, act, work).await?;
        answer.done = true;
        Ok(answer)
    }
}

#[tonic::async_trait]
impl Policy for PolicyService {
    async fn show(&self, request: Request<ShowPolicyRequest>) -> Result<Response<ShowPolicyResponse>, Status> {
        let who = Gate::caller(&request)?;
        self.gate.may_read(&who, AdminArea::Policy)?;
        let store = self.store().await?;
        let book = store.in_force();
        let rules_toml = match &book.text {
            Some(text) => text.to_string(),
            None => book.written.to_toml().map_err(|error| refusal(Reason::Internal, error.to_string()))?,
        };
        let configured = (book.origin == Origin::Given).then(|| message(&store.configured(), &store));
        Ok(Response::new(ShowPolicyResponse { in_force: Some(message(&book, &store)), configured, rules_toml }))
    }

    async fn check(&self, request: Request<CheckPolicyRequest>) -> Result<Response<CheckPolicyResponse>, Status> {
        let who = Gate::caller(&request)?;
        self.gate.may_read(&who, AdminArea::Policy)?;
        let (book, rules) = match request.into_inner().rules_toml {
            None => {
                let store = self.store().await?;
                let book = store.in_force();
                let rules = message(&book, &store);
                (book, rules)
            }
            Some(text) => {
                let (written, text) = self.parse(text).await?;
                let book = Rulebook::given(written, &text, crate::policy::Given::unknown());
                let (digest, count) = (book.written.digest.to_string(), number(&book));
                (book, PolicyRules { digest, rules: count, ..PolicyRules::default() })
            }
        };
        let labels = self.labels().await?;
        Ok(Response::new(CheckPolicyResponse {
            rules: Some(rules),
            findings: self.findings(&book).await?,
            caveat: labels.caveat().unwrap_or_default(),
            labels_unknown: labels.is_unknown(),
        }))
    }

    async fn explain(&self, request: Request<ExplainPolicyRequest>) -> Result<Response<ExplainPolicyResponse>, Status> {
        let who = Gate::caller(&request)?;
        self.gate.may_read(&who, AdminArea::Policy)?;
        let store = self.store().await?;
        let book = store.in_force();
        let questions = explain::read(request.into_inner().questions, &self.config).await?;
        let written = Arc::clone(&book.written);
        let labels = self.labels().await?;
        let caveat = labels.caveat().unwrap_or_default();
        let answers = blocking(move || explain::answers(&written, &questions, &labels)).await?;
        Ok(Response::new(ExplainPolicyResponse { in_force: Some(message(&book, &store)), answers, caveat }))
    }

    async fn replace(&self, request: Request<ReplacePolicyRequest>) -> Result<Response<ChangePolicyResponse>, Status> {
        let who = Gate::caller(&request)?;
        // The answer says what is in force.
        self.gate.may_read(&who, AdminArea::Policy)?;
        let ReplacePolicyRequest { rules_toml, expected_digest, dry_run, force, approval } = request.into_inner();
        let brought = danger::brought(&approval)?;
        let expected = expected(&expected_digest, dry_run)?;
        let (written, text) = self.parse(rules_toml).await?;
        let wanted = Wanted::Rules(Box::new(written), text);
        self.change(&who, wanted, Terms { expected, dry_run, force, brought }).await.map(Response::new)
    }

    async fn reset(&self, request: Request<ResetPolicyRequest>) -> Result<Response<ChangePolicyResponse>, Status> {
        let who = Gate::caller(&request)?;
        self.gate.may_read(&who, AdminArea::Policy)?;
        let ResetPolicyRequest { expected_digest, dry_run, force, approval } = request.into_inner();
        let brought = danger::brought(&approval)?;
        if self.gate.policy().is_none()
            && force
            && let Err(SourceError::Given(problem)) = self.sources().await?
        {
            let problem = refusal(Reason::Configuration, chain(&problem));
            return self.discard(&who, &problem, (dry_run, brought)).await.map(Response::new);
        }
        let expected = expected(&expected_digest, dry_run)?;
        self.change(&who, Wanted::Configuration, Terms { expected, dry_run, force, brought }).await.map(Response::new)
    }
}

/// What must be in force for a change to be done.
fn expected(text: &str, dry_run: bool) -> Result<Option<RulesDigest>, Status> {
    if text.is_empty() && dry_run {
        return Ok(None);
    }
    let wrong = |problem: String| refusal(Reason::InvalidArgument, format!("expected_digest: {problem}"));
    text.parse().map(Some).map_err(wrong)
}

/// Why rules are not put in force unless somebody says that he means it.
fn objection(before: &Rules, after: &Rules, who: &Principal) -> Option<String> {
    if after.is_empty() {
        return (!before.is_empty())
            .then(|| "these are no rules at all: every caller may do everything then".to_owned());
    }
    let area = AdminArea::Policy;
    let may = |operation| administrator(after, who.caller(), None, operation).is_allowed();
    let missing: Vec<String> = [Operation::AdminRead(area), Operation::AdminWrite(area)]
        .into_iter()
        .filter(|operation| !may(*operation))
        .map(Operation::as_word)
        .collect();
    (!missing.is_empty())
        .then(|| format!("by these rules you ({who}) may not change the policy any more ({})", missing.join(", ")))
}

fn number(book: &Rulebook) -> u32 {
    u32::try_from(book.written.count()).unwrap_or(u32::MAX)
}

fn rules(book: &Rulebook) -> PolicyRules {
    let origin = match book.origin {
        Origin::Configuration => PolicyOrigin::Configuration,
        Origin::Given => PolicyOrigin::Given,
    };
    PolicyRules {
        digest: book.written.digest.to_string(),
        rules: number(book),
        origin: origin.into(),
        since_unix_millis: book.given.since.0,
        by: book.given.by.clone(),
        place: String::new(),
    }
}

fn message(book: &Rulebook, store: &PolicyStore) -> PolicyRules {
    let place = match book.origin {
        Origin::Configuration => store.place().display().to_string(),
        Origin::Given => String::new(),
    };
    PolicyRules { place, ..rules(book) }
}

/// Reads files, or computes for long, on a thread that may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Status> {
    tokio::task::spawn_blocking(work).await.map_err(|error| refusal(Reason::Internal, error.to_string()))
}

#[cfg(test)]
mod tests {
    //! Proves: nobody without a name is answered; what needs force; which digests are accepted.
    use holdfast_access::{Builtin, Caller, Means};

    use super::*;
    use crate::clock::SystemClock;
    use crate::drain::Tasks;

    fn compiled(text: &str) -> WrittenPolicy {
        WrittenPolicy::parse(text, crate::policy::KeysOfLabels::new()).unwrap()
    }

    fn from<T>(message: T, who: Builtin) -> Request<T> {
        let mut request = Request::new(message);
        request.extensions_mut().insert(Principal::builtin(who));
        request
    }

    #[tokio::test]
    async fn whoever_proved_no_name_is_refused_by_every_verb() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.data.dir = dir.path().to_owned();
        let gate = Gate::new(None, Arc::new(SystemClock), Tasks::new());
        let service = PolicyService::of_configuration(Arc::new(config), (PathBuf::new(), true), gate);
        for who in [Builtin::Http, Builtin::Admin] {
            let answers = [
                service.show(from(ShowPolicyRequest {}, who)).await.err(),
                service.check(from(CheckPolicyRequest::default(), who)).await.err(),
                service.explain(from(ExplainPolicyRequest::default(), who)).await.err(),
                service.replace(from(ReplacePolicyRequest::default(), who)).await.err(),
                service.reset(from(ResetPolicyRequest { force: true, ..Default::default() }, who)).await.err(),
            ];
            for status in answers {
                let status = status.expect("it is refused");
                assert_eq!(holdfast_wire::admin::reason_of(&status), Some(Reason::Denied), "{status:?}");
            }
        }
        // The same service answers whoever has a name.
        let mut request = Request::new(ShowPolicyRequest {});
        request.extensions_mut().insert(Principal::user(7));
        assert_eq!(service.show(request).await.unwrap().into_inner().in_force.unwrap().rules, 0);
    }

    #[test]
    fn what_takes_the_caller_s_leave_or_opens_everything_needs_force() {
        let who = Principal::user(7);
        assert_eq!(who.caller(), &Caller::new(holdfast_access::CallerName::new("uid/7").unwrap(), Means::UnixPeer));
        let rule = |effect: &str, callers: &str, word: &str| {
            format!("[[policy]]\neffect = \"{effect}\"\ncallers = [{callers}]\noperations = [\"{word}\"]\n")
        };
        let clients = rule("allow", "\"http\"", "duties");
        let table = [
            (clients.clone(), None),
            (format!("{clients}{}", rule("allow", "\"uid/7\"", "admin.policy.*")), None),
            (format!("{clients}{}", rule("allow", "\"uid/8\"", "admin.keys.*")), None),
            (format!("{clients}{}", rule("allow", "\"uid/7\"", "admin.policy.read")), Some("(admin.policy.write)")),
            (format!("{clients}{}", rule("allow", "\"uid/7\"", "admin.keys.*")), Some("admin.policy.read, admin.")),
            (format!("{clients}{}", rule("deny", "\"*\"", "admin.policy.write")), Some("admin.policy.write")),
            (String::new(), Some("every caller may do everything")),
        ];
        let before = compiled(&clients);
        for (text, expected) in table {
            let found = objection(&before.policy, &compiled(&text).policy, &who);
            match expected {
                None => assert_eq!(found, None, "{text}"),
                Some(part) => assert!(found.as_ref().is_some_and(|found| found.contains(part)), "{text}: {found:?}"),
            }
        }
        assert_eq!(objection(&compiled("").policy, &compiled("").policy, &who), None, "nothing opens that was open");
    }

    #[test]
    fn what_is_expected_is_a_whole_digest() {
        let digest = compiled("").digest;
        assert_eq!(expected(&digest.to_string(), false).unwrap(), Some(digest));
        assert_eq!(expected("", true).unwrap(), None);
        for (text, dry_run) in [("", false), ("12", false), ("12", true)] {
            assert!(expected(text, dry_run).is_err(), "{text:?}");
        }
    }
}
