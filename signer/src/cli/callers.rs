//! `holdfast callers`: makes, shows, renews and takes away callers, in `callers.toml` of the data directory.
//!
//! Guarantees: a token is shown once and kept nowhere, only its hash is; nothing that is there is overwritten by
//! something half done; callers of the configuration file are shown and never changed.

use std::fmt::Write as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use holdfast_domain::UnixMillis;
use holdfast_enclave::durable;
use holdfast_secret::SecretText;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::args::{CallersAddArgs, CallersCommand, CallersRemoveArgs, CallersRotateArgs, ProofArgs};
use super::{Context, Exit, Failure};
use crate::callers::{CallersFile, FileError};
use crate::config::{CallerEntry, Fingerprint, TokenHash, check_callers};

/// Random bytes of a token: nobody guesses one, so a fast hash of it is as good as a slow one.
const TOKEN_BYTES: usize = 32;

/// Runs one of the commands.
pub(super) fn run(command: &CallersCommand, context: &Context) -> Result<Exit, Failure> {
    match command {
        CallersCommand::Add(args) => add(args, context),
        CallersCommand::List => list(context),
        CallersCommand::Rotate(args) => rotate(args, context),
        CallersCommand::Remove(args) => remove(args, context),
    }
}

/// Tokens that were just made.
#[derive(Default)]
pub(super) struct Made {
    /// For HTTP Basic authentication.
    pub(super) basic: Option<SecretText>,
    /// Bearer.
    pub(super) bearer: Option<SecretText>,
}

fn add(args: &CallersAddArgs, context: &Context) -> Result<Exit, Failure> {
    let mut file = read(context)?;
    let configured = context.config.callers.iter();
    if configured.chain(&file.callers).any(|caller| caller.name == args.name) {
        let name = &args.name;
        let problem = format!("{name} is a caller already; `holdfast callers rotate {name}` gives it a new token");
        return Err(Failure::message(Exit::Refused, problem));
    }
    let mut caller = CallerEntry { name: args.name.clone(), ..CallerEntry::default() };
    let made = extend(&mut caller, &args.proof)?;
    file.callers.push(caller);
    write(&file, context)?;
    show(&args.name, "added", &made, context)
}

fn rotate(args: &CallersRotateArgs, context: &Context) -> Result<Exit, Failure> {
    let mut file = read(context)?;
    let caller = find(&mut file, &args.name, context)?;
    if args.expire_old {
        for tokens in [&mut caller.basic_token_sha256, &mut caller.bearer_token_sha256] {
            tokens.drain(..tokens.len().saturating_sub(1));
        }
        write(&file, context)?;
        return show(&args.name, "expired", &Made::default(), context);
    }
    let until = match &args.until {
        None => None,
        Some(text) => Some(UnixMillis::from_rfc3339(text).ok_or_else(|| {
            Failure::message(Exit::Usage, format!("--until: {text:?} is no time such as 2026-12-01T00:00:00Z"))
        })?),
    };
    let mut proof = args.proof.clone();
    let chosen = proof.basic || proof.bearer || !proof.certificate.is_empty();
    if !chosen {
        // What it has is renewed.
        proof.bearer = !caller.bearer_token_sha256.is_empty();
        proof.basic = !caller.basic_token_sha256.is_empty() || !proof.bearer;
    }
    if let Some(until) = until {
        let (basic, bearer) = (&mut caller.basic_token_sha256, &mut caller.bearer_token_sha256);
        for (tokens, renewed) in [(basic, proof.basic), (bearer, proof.bearer)] {
            tokens.iter_mut().filter(|_| renewed).for_each(|token| *token = token.expiring(until));
        }
    }
    let made = extend(caller, &proof)?;
    write(&file, context)?;
    show(&args.name, "rotated", &made, context)
}

fn remove(args: &CallersRemoveArgs, context: &Context) -> Result<Exit, Failure> {
    let mut file = read(context)?;
    find(&mut file, &args.name, context)?;
    file.callers.retain(|caller| caller.name != args.name);
    write(&file, context)?;
    let left = file.callers.len().saturating_add(context.config.callers.len());
    context.output.result(
        format!("Removed {}; a running server refuses it within seconds. Callers left: {left}.", args.name),
        &json!({ "caller": args.name, "status": "removed", "left": left }),
    )?;
    if left == 0 {
        let note = "That was the last caller. A running server refuses everybody without proof until it is started again; \
                    then whoever reaches the signing API is served (on loopback only), unless http.tls asks for client \
                    certificates.";
        context.output.note(note);
    }
    Ok(Exit::Done)
}

fn list(context: &Context) -> Result<Exit, Failure> {
    let file = read(context)?;
    let (mut text, mut values) = (String::new(), Vec::new());
    let configured = context.config.callers.iter().map(|caller| (caller, "configuration"));
    for (caller, origin) in configured.chain(file.callers.iter().map(|caller| (caller, "callers.toml"))) {
        let mut proofs = Vec::new();
        let counted = [
            ("Basic token", caller.basic_token_sha256.len()),
            ("bearer token", caller.bearer_token_sha256.len()),
            ("certificate", caller.certificate_fingerprints.len()),
        ];
        for (what, count) in counted.into_iter().filter(|(_, count)| *count > 0) {
            proofs.push(format!("{count} {what}{}", if count == 1 { "" } else { "s" }));
        }
        proofs.extend(caller.certificate_subjects.iter().map(|name| format!("certificates of {name}")));
        proofs.extend(caller.unix_uids.iter().map(|uid| format!("user {uid}")));
        let proofs = if proofs.is_empty() { "nothing, so it cannot come in".to_owned() } else { proofs.join(", ") };
        let _ = writeln!(text, "{}: {proofs} ({origin})", caller.name);
        values.push(entry(caller, origin));
    }
    if text.is_empty() {
        text.push_str("No callers: whoever reaches a listener is served. `holdfast callers add NAME` makes one.");
    }
    context.output.result(text.trim_end().to_owned(), &json!({ "callers": values }))?;
    Ok(Exit::Done)
}

fn entry(caller: &CallerEntry, origin: &str) -> Value {
    let until = |tokens: &[TokenHash]| {
        tokens.iter().map(|token| json!({ "until": token.until().map(UnixMillis::rfc3339) })).collect::<Vec<_>>()
    };
    let fingerprints: Vec<String> = caller.certificate_fingerprints.iter().map(ToString::to_string).collect();
    json!({
        "name": caller.name,
        "origin": origin,
        "basic_tokens": until(&caller.basic_token_sha256),
        "bearer_tokens": until(&caller.bearer_token_sha256),
        "certificate_fingerprints": fingerprints,
        "certificate_subjects": caller.certificate_subjects,
        "unix_uids": caller.unix_uids,
    })
}

/// Gives a caller what was asked for; a Basic token if nothing was.
pub(super) fn extend(caller: &mut CallerEntry, proof: &ProofArgs) -> Result<Made, Failure> {
    let ProofArgs { basic, bearer, certificate, subject, unix_uid } = proof;
    let nothing = !basic && !bearer && certificate.is_empty() && subject.is_empty() && unix_uid.is_empty();
    let mut made = Made::default();
    if *basic || nothing {
        let token = token()?;
        caller.basic_token_sha256.push(TokenHash::of(token.expose().as_bytes()));
        made.basic = Some(token);
    }
    if *bearer {
        let token = token()?;
        caller.bearer_token_sha256.push(TokenHash::of(token.expose().as_bytes()));
        made.bearer = Some(token);
    }
    for path in certificate {
        caller.certificate_fingerprints.push(fingerprint(path)?);
    }
    caller.certificate_subjects.extend(subject.iter().cloned());
    caller.unix_uids.extend(unix_uid);
    Ok(made)
}

fn token() -> Result<SecretText, Failure> {
    let mut bytes = Zeroizing::new([0; TOKEN_BYTES]);
    getrandom::fill(bytes.as_mut_slice())
        .map_err(|error| Failure::message(Exit::Unreachable, format!("the system gave no random bytes: {error}")))?;
    Ok(SecretText::new(URL_SAFE_NO_PAD.encode(bytes.as_slice())))
}

/// The fingerprint of the first certificate of a PEM file.
fn fingerprint(path: &Path) -> Result<Fingerprint, Failure> {
    let der = CertificateDer::from_pem_file(path).map_err(|error| {
        let context = format!("no certificate in {}; it must be PEM (-----BEGIN CERTIFICATE-----)", path.display());
        Failure::new(Exit::Usage, anyhow::anyhow!("{error:?}").context(context))
    })?;
    Ok(Fingerprint::of(&der))
}

fn find<'a>(file: &'a mut CallersFile, name: &str, context: &Context) -> Result<&'a mut CallerEntry, Failure> {
    let configured = context.config.callers.iter().any(|caller| caller.name == name);
    let problem = if configured {
        format!("{name} stands in the configuration file: change it there")
    } else {
        format!("{name} is no caller; `holdfast callers list` shows them")
    };
    let found = file.callers.iter_mut().find(|caller| caller.name == name);
    found.ok_or_else(|| Failure::message(Exit::Refused, problem))
}

pub(super) fn read(context: &Context) -> Result<CallersFile, Failure> {
    CallersFile::read(&context.config.callers_file()).map_err(failure)
}

/// Writes the callers, if they and those of the configuration go together.
pub(super) fn write(file: &CallersFile, context: &Context) -> Result<(), Failure> {
    check_callers(context.config.callers.iter().chain(&file.callers))
        .map_err(|problem| Failure::message(Exit::Usage, format!("callers {problem}")))?;
    durable::create_private_dir(context.config.data_dir()).map_err(|error| Failure::new(Exit::Usage, error))?;
    file.write(&context.config.callers_file()).map_err(failure)
}

fn failure(error: FileError) -> Failure {
    Failure::new(Exit::Usage, error)
}

fn show(name: &str, status: &str, made: &Made, context: &Context) -> Result<Exit, Failure> {
    let mut lines = vec![match status {
        "added" => format!("Added the caller {name}."),
        "expired" => format!("The old tokens of {name} are valid no more."),
        _ => format!("{name} has a further proof of its name; those of before stay valid."),
    }];
    if let Some(token) = &made.basic {
        lines.push(format!("Its address of this signer: http://{}:{}@HOST:PORT", user_of_url(name), token.expose()));
    }
    if let Some(token) = &made.bearer {
        lines.push(format!("Its bearer token: {}", token.expose()));
    }
    if made.basic.is_some() || made.bearer.is_some() {
        lines.push("This is shown once: only the hash is kept.".to_owned());
    }
    let token = |token: &Option<SecretText>| token.as_ref().map(|token| token.expose().to_owned());
    context.output.result(
        lines.join("\n"),
        &json!({
            "caller": name, "status": status,
            "basic_token": token(&made.basic), "bearer_token": token(&made.bearer),
        }),
    )?;
    Ok(Exit::Done)
}

/// A name as it stands in a URL.
pub(super) fn user_of_url(name: &str) -> String {
    name.replace('@', "%40").replace('/', "%2F")
}
