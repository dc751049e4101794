//! The README's two commands are the ones that exist, and what it points at is there.

use rep_tests::binaries::workspace_root;
use rep_tests::tools;
use std::time::Duration;

fn readme() -> String {
    std::fs::read_to_string(workspace_root().join("README.md")).expect("README.md")
}

/// The cargo that runs us, in the workspace, as a newcomer would call it.
fn cargo(line: &[&str]) -> tools::Outcome {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = tools::tool("env", [cargo], Duration::from_secs(1200));
    command.args(line).env("PATH", std::env::var_os("PATH").unwrap_or_default()).current_dir(workspace_root());
    tools::finish(command)
}

#[test]
fn its_first_command_is_green() {
    let said = cargo(&["xtask", "demo"]).ok();
    for word in ["identical", "resync", "cargo xtask test"] {
        assert!(said.contains(word), "the demo says nothing of '{word}':\n{said}");
    }
}

#[test]
fn its_two_commands_are_there_and_ci_runs_the_second() {
    let readme = readme();
    for command in ["cargo xtask demo", "cargo xtask test"] {
        assert!(readme.lines().any(|line| line.trim() == command), "{command} stands on a line of its own");
    }
    // The second is what this test itself runs in, wherever it matters; the first is run below.
    let ci = std::fs::read_to_string(workspace_root().join(".ci/run")).expect(".ci/run");
    assert!(ci.contains("cargo xtask test"));
    let usage = cargo(&["xtask", "help"]).ok();
    for verb in ["demo", "check", "test", "sim", "fuzz", "bench", "ci"] {
        assert!(usage.contains(verb), "{verb} is missing in {usage}");
    }
}

#[test]
fn its_links_lead_somewhere() {
    let readme = readme();
    let targets = readme.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let files: Vec<&str> = targets.filter(|target| !target.contains("://") && !target.starts_with('#')).collect();
    assert!(files.len() > 3, "the README points at the other documents: {files:?}");
    for file in files {
        let path = workspace_root().join(file.split('#').next().unwrap_or(file));
        assert!(path.exists(), "{file} isn't there");
    }
}

/// Every `repctl` line of the README is one the command line takes.
#[test]
fn its_repctl_lines_parse() {
    let readme = readme();
    let lines: Vec<&str> = readme.lines().map(str::trim).filter(|line| line.starts_with("repctl ")).collect();
    assert!(lines.len() > 5, "{lines:?}");
    for line in lines {
        let plain = line.split('#').next().unwrap_or(line);
        let mut words: Vec<&str> = plain.split_whitespace().skip(1).collect();
        words.push("--help");
        let mut command = tools::tool("env", [rep_tests::binaries::repctl()], Duration::from_secs(20));
        command.args(words);
        tools::finish(command).ok();
    }
}

/// The set-up the README shows is one the daemon takes.
#[test]
fn its_configuration_is_valid() {
    let readme = readme();
    let toml = readme.split("```toml").nth(1).and_then(|rest| rest.split("```").next()).expect("a TOML block");
    let scratch = rep_tests::scratch::Scratch::new(rep_tests::Place::Tmpfs);
    let path = scratch.path().join("repd.toml");
    std::fs::write(&path, toml).expect("the file");
    let mut command = tools::tool("env", [rep_tests::binaries::repctl()], Duration::from_secs(20));
    command.args(["config", "check", "--config"]).arg(&path);
    tools::finish(command).ok();
}
