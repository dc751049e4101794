//! Running the tools users run, each with a deadline.

use std::ffi::OsStr;
use std::process::Command;
use std::time::Duration;

/// How a tool ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its command line.
    pub line: String,
    /// Its exit code; 124: it did not end in time.
    pub code: i32,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

impl Outcome {
    /// Panics unless it ended well; returns what it printed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.code == 0, "{}\nended with {}\n{}\n{}", self.line, self.code, self.stdout, self.stderr);
        self.stdout
    }

    /// Panics unless it ended with this code; returns what it complained of.
    #[track_caller]
    pub fn failed_with(self, code: i32) -> String {
        assert!(
            self.code == code,
            "{}\nended with {}, expected {code}\n{}\n{}",
            self.line,
            self.code,
            self.stdout,
            self.stderr
        );
        self.stderr
    }
}

/// A tool that is ended when the deadline has passed.
pub fn tool<S: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = S>, deadline: Duration) -> Command {
    let mut command = server("timeout");
    command.arg("--kill-after=5").arg(deadline.as_secs().max(1).to_string()).arg(program).args(arguments);
    command
}

/// A tool that runs until its owner ends it. System administration programs are found too, and Debian's Python before
/// others.
pub fn server(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin").env("LC_ALL", "C");
    command
}

/// Runs a tool.
pub fn run<S: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = S>, deadline: Duration) -> Outcome {
    finish(tool(program, arguments, deadline))
}

/// Runs a command line of words without spaces in them, within a minute.
pub fn words(line: &str) -> Outcome {
    words_within(line, Duration::from_secs(60))
}

/// The same, within another time.
pub fn words_within(line: &str, deadline: Duration) -> Outcome {
    let mut words = line.split_whitespace();
    let program = words.next().expect("a program");
    run(program, words, deadline)
}

/// Runs a prepared command to its end.
pub fn finish(mut command: Command) -> Outcome {
    let line = format!("{command:?}");
    let output = command.stdin(std::process::Stdio::null()).output().unwrap_or_else(|e| panic!("{line}: {e}"));
    Outcome {
        line,
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Whether this process is root, which namespaces, loop devices and mounts need.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Says loudly that a scenario wasn't run, and why; where it must run (CI), that is a failure.
pub fn not_run(reason: &str) {
    assert!(std::env::var_os("CI").is_none(), "{reason}: on a CI machine that is a failure");
    not_run_here(reason);
}

/// Says loudly that a scenario wasn't run for want of something that no machine has to have, a continuous integration's
/// neither: a privilege kept from its root, a program that belongs to the machine and isn't installed for a test.
pub fn not_run_here(reason: &str) {
    eprintln!("\n*** NOT RUN: {reason} ***\n");
}

/// True when root; else says that the scenario isn't run.
pub fn root_or_not_run(what: &str) -> bool {
    if !is_root() {
        not_run(&format!("{what} needs root"));
    }
    is_root()
}
