//! `holdfast reload`: has the process that runs with the data directory read its configuration again.

use std::fmt::Write as _;

use holdfast_wire::admin::v1::{ReloadConfigurationRequest, ReloadConfigurationResponse, SettingChange};
use serde_json::{Value, json};

use super::args::ReloadArgs;
use super::reach::{failure, remote};
use super::{Context, Failure};
use crate::admin::{Admin, ClientError, socket_path};
use crate::outcome::Exit;

/// Runs the command.
pub(super) async fn run(args: ReloadArgs, context: &Context) -> Result<Exit, Failure> {
    let unreachable = |error: ClientError| Failure::new(Exit::Unreachable, error);
    let admin = match remote(context).await? {
        Some(admin) => admin,
        None => Admin::connect(&socket_path(&context.config)).await.map_err(unreachable)?,
    };
    let request = ReloadConfigurationRequest { dry_run: args.dry_run };
    let answer = admin.configuration().reload(request).await.map_err(failure)?.into_inner();
    context.output.result(told(args.dry_run, &answer), &document(args.dry_run, &answer))?;
    Ok(if answer.problems.is_empty() { Exit::Done } else { Exit::Refused })
}

/// For people.
fn told(dry_run: bool, answer: &ReloadConfigurationResponse) -> String {
    let ReloadConfigurationResponse { changed, needs_restart, problems, configuration_sha256: digest } = answer;
    let would = |one: &'static str, other: &'static str| if dry_run { one } else { other };
    let mut text = match changed.len() {
        0 => would("dry run: nothing would change\n", "read again: nothing changes\n").to_owned(),
        _ => would("dry run: would change without a restart\n", "in force now\n").to_owned(),
    };
    list(&mut text, changed);
    if !needs_restart.is_empty() {
        text.push_str("needs a restart; until then the old value stays\n");
        list(&mut text, needs_restart);
    }
    for problem in problems {
        let _ = writeln!(text, "stays as it was: {problem}");
    }
    let _ = write!(text, "SHA-256 of the configuration {}: {digest}", would("then", "in force"));
    text
}

fn list(text: &mut String, changes: &[SettingChange]) {
    for SettingChange { setting, old, new } in changes {
        let _ = writeln!(text, "  {setting}: {old} -> {new}");
    }
}

/// For programs.
fn document(dry_run: bool, answer: &ReloadConfigurationResponse) -> Value {
    let changes = |all: &[SettingChange]| -> Vec<Value> {
        let one =
            |SettingChange { setting, old, new }: &SettingChange| json!({ "setting": setting, "old": old, "new": new });
        all.iter().map(one).collect()
    };
    json!({
        "dry_run": dry_run,
        "changed": changes(&answer.changed),
        "needs_restart": changes(&answer.needs_restart),
        "problems": answer.problems,
        "configuration_sha256": answer.configuration_sha256,
    })
}

#[cfg(test)]
mod tests {
    //! Proves: what people read of a reload.
    use super::*;

    #[test]
    fn people_read_old_and_new_values() {
        let change =
            |setting: &str| SettingChange { setting: setting.to_owned(), old: "1".to_owned(), new: "2".to_owned() };
        let answer = ReloadConfigurationResponse {
            changed: vec![change("a.b")],
            needs_restart: vec![change("c.d")],
            problems: vec!["why".to_owned()],
            configuration_sha256: "00ff".to_owned(),
        };
        assert_eq!(
            told(false, &answer),
            "in force now\n  a.b: 1 -> 2\nneeds a restart; until then the old value stays\n  c.d: 1 -> 2\n\
             stays as it was: why\nSHA-256 of the configuration in force: 00ff"
        );
        assert!(told(true, &answer).starts_with("dry run: would change without a restart\n  a.b"));
        let nothing = ReloadConfigurationResponse::default();
        assert!(told(true, &nothing).starts_with("dry run: nothing would change\nSHA-256"));
        assert!(told(false, &nothing).starts_with("read again: nothing changes\nSHA-256"));
    }
}
