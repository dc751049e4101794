//! `adjust`: the difference between the configuration and the running daemon, told or applied.

use crate::Failure;
use crate::cli::{AdjustArguments, Options};
use crate::output::{print, print_json, tell};
use rep_control::api::{AdjustAnswer, ChangeKind, ExitCode, ResourceChange, SettingChange};

pub fn run(arguments: &AdjustArguments, options: &Options) -> Result<(), Failure> {
    let answer = options.client().adjust(arguments.dry_run, options.timeout)?;
    if options.json {
        print_json(&answer)?;
    } else {
        print(&text(&answer))?;
    }
    let failed: Vec<_> = answer.changes.iter().filter_map(|change| Some((change, change.error.as_ref()?))).collect();
    for (change, error) in &failed {
        tell(format_args!("repctl: {}: {}: {}", error.reason, change.resource, error.sentence()));
    }
    match failed.first() {
        // Failed weighs more than refused: the one wants looking at, the other waits for its time.
        Some(_) if failed.iter().all(|(_, error)| error.exit_code == ExitCode::Refused as u8) => {
            Err(Failure::Code(ExitCode::Refused))
        }
        Some(_) => Err(Failure::Code(ExitCode::Failed)),
        None => Ok(()),
    }
}

fn text(answer: &AdjustAnswer) -> String {
    if answer.changes.is_empty() {
        return "the daemon runs what the configuration says\n".to_owned();
    }
    answer.changes.iter().map(|change| change_text(change, answer.dry_run)).collect()
}

fn change_text(change: &ResourceChange, dry_run: bool) -> String {
    let what = match (change.kind, change.needs_restart) {
        (ChangeKind::Added, _) => "new",
        (ChangeKind::Removed, _) => "gone: goes down",
        (ChangeKind::Changed, true) => "changed: goes down and comes up",
        (ChangeKind::Changed, false) => "changed",
    };
    let outcome = match (dry_run, change.done) {
        (true, _) => "",
        (false, true) => " (done)",
        (false, false) => " (not done)",
    };
    let settings: String = change.settings.iter().map(setting_text).collect();
    format!("{}: {what}{outcome}\n{settings}", change.resource)
}

fn setting_text(setting: &SettingChange) -> String {
    let word = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".to_owned());
    format!("  {}: {} -> {}\n", setting.key, word(&setting.from), word(&setting.to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_difference_for_people() {
        let setting = SettingChange {
            key: "net.timeout".into(),
            from: Some("6s".into()),
            to: Some("7s".into()),
            needs_restart: true,
        };
        let change = ResourceChange {
            resource: "vz".into(),
            kind: ChangeKind::Changed,
            settings: vec![setting],
            needs_restart: true,
            done: true,
            error: None,
        };
        let mut answer = AdjustAnswer { dry_run: false, changes: vec![change] };
        assert_eq!(text(&answer), "vz: changed: goes down and comes up (done)\n  net.timeout: 6s -> 7s\n");
        answer.dry_run = true;
        assert!(text(&answer).starts_with("vz: changed: goes down and comes up\n"));
        assert_eq!(text(&AdjustAnswer::default()), "the daemon runs what the configuration says\n");
    }
}
