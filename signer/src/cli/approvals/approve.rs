//! `holdfast approve`: read, understand, sign. Needs the request and the key, and nothing else of this program.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use holdfast_approvals::{Act, Approval, KeyError, Request, SigningKey};
use holdfast_domain::Clock as _;
use holdfast_enclave::durable::{Existing, check_private_permissions, write_private_file};
use serde_json::json;
use zeroize::Zeroizing;

use super::super::args::{ApproveArgs, KeygenArgs};
use super::super::{Exit, Failure, Output, Talk, confirm};
use super::gate::read_text;
use crate::clock::SystemClock;

/// Shows a request, asks, signs.
pub(in crate::cli) fn run(args: &ApproveArgs, output: Output) -> Result<Exit, Failure> {
    let text = read_text(&args.request)?;
    let malformed = |error| {
        Failure::new(Exit::Usage, anyhow::Error::new(error).context(format!("{} is malformed", args.request.display())))
    };
    let (request, others) = Request::with_approvals(&text).map_err(malformed)?;
    let key = read_key(&args.key)?;
    let now = SystemClock.now();
    if request.expires <= now {
        let text = format!("the request expired at {}; ask for a new one", request.expires.rfc3339());
        return Err(Failure::message(Exit::Refused, text));
    }
    let fingerprint = key.public().fingerprint();
    if others.iter().any(|other| *other.key() == key.public()) {
        return Err(Failure::message(Exit::Refused, format!("{fingerprint} has approved this request already")));
    }
    if !args.yes && (output.is_json() || output.talk == Talk::Quiet) {
        let text = "nobody approves what is not shown: leave --json and --quiet out, or give --yes if somebody has read the request";
        return Err(Failure::message(Exit::Usage, text));
    }
    output.note(format!("{}\n{}\n", request.to_text(), meaning(request.act)));
    output.note(format!(
        "Signed with {fingerprint}, this is your approval. It counts once, until {}.",
        request.expires.rfc3339()
    ));
    if !args.yes && (!std::io::stdin().is_terminal() || !confirm("Approve exactly this?")) {
        return Err(Failure::message(
            Exit::Refused,
            "not approved, and nothing was written; confirm with yes on a terminal, or give --yes if you have read it",
        ));
    }
    let approval = Approval::sign(request.to_text().as_bytes(), &key);
    let (path, content, existing) = if args.append {
        (args.request.clone(), text + &approval.to_text(), Existing::Replace)
    } else {
        let path = args.to.clone().unwrap_or_else(|| beside(&args.request, &fingerprint.to_string()));
        (path, approval.to_text(), Existing::Refuse)
    };
    write_private_file(&path, content.as_bytes(), existing).map_err(|error| Failure::new(Exit::Refused, error))?;
    let place = path.display().to_string();
    output.result(
        format!("approved by {fingerprint}: {place}"),
        &json!({
            "approved": request.id.to_string(), "act": request.act.as_str(), "key": fingerprint.to_string(), "file": place,
        }),
    )?;
    output.note("Send this file back to whoever asked.");
    Ok(Exit::Done)
}

/// Makes a key to approve with.
pub(in crate::cli) fn keygen(args: &KeygenArgs, output: Output) -> Result<Exit, Failure> {
    let mut seed = Zeroizing::new([0_u8; 32]);
    let mut check = [0_u8; 4];
    let random = |_| Failure::new(Exit::Bug, KeyError::Random);
    getrandom::fill(seed.as_mut_slice()).map_err(random)?;
    getrandom::fill(&mut check).map_err(random)?;
    let key = SigningKey::from_seed(seed).map_err(|error| Failure::new(Exit::Bug, error))?;
    let file = key.to_openssh(u32::from_be_bytes(check)).ok_or_else(|| Failure::new(Exit::Bug, KeyError::Private))?;
    write_private_file(&args.to, &file, Existing::Refuse).map_err(|error| Failure::new(Exit::Refused, error))?;
    let public = key.public();
    output.result(
        &public,
        &json!({
            "key": args.to.display().to_string(), "public": public.to_string(), "fingerprint": public.fingerprint().to_string(),
        }),
    )?;
    output.note(format!(
        "The private key is in {}, without a passphrase: `ssh-keygen -p -f` gives it one, and `ssh-keygen -Y sign` signs with \
         it then. The line above, behind a name, goes into approvals.approvers.",
        args.to.display()
    ));
    Ok(Exit::Done)
}

/// A private key that others cannot read.
fn read_key(path: &Path) -> Result<SigningKey, Failure> {
    let text = Zeroizing::new(read_text(path)?);
    check_private_permissions(path).map_err(|error| Failure::new(Exit::Usage, error))?;
    SigningKey::from_file(&text).map_err(|error| {
        Failure::new(Exit::Usage, anyhow::Error::new(error).context(format!("cannot sign with {}", path.display())))
    })
}

/// The request's name, with a few characters of the fingerprint.
fn beside(request: &Path, fingerprint: &str) -> PathBuf {
    let digits = fingerprint.rsplit(':').next().unwrap_or_default();
    let short: String = digits.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
    let mut name = request.as_os_str().to_owned();
    name.push(format!(".{short}.sig"));
    name.into()
}

/// What an act means, for whoever is asked to approve it.
fn meaning(act: Act) -> &'static str {
    match act {
        Act::Export => {
            "If you approve: the keys named above leave this signer as files. Whoever has the files and their password can sign \
             with them, and nothing can take that back."
        }
        Act::ReplaceTombstone => {
            "If you approve: keys that were deleted here come back and sign again. If they sign anywhere else by then, their \
             validators are slashed."
        }
        Act::LowerProtection => {
            "If you approve: protection of the keys named above begins lower than at the present, or without what could not be \
             read. If they signed more elsewhere than is said above, their validators can be slashed."
        }
        Act::Policy => "If you approve: who may have what signed changes as said above.",
        Act::Approvers => "If you approve: from then on other people, or fewer, decide what you decide now.",
        Act::BulkExit => {
            "If you approve: voluntary exits are signed for the validators named above. Whoever has the files can send them at any \
             time, and a validator that left does not come back."
        }
    }
}
