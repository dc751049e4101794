//! Starting other programs and telling how they ended.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Why a step failed.
#[derive(Debug)]
pub enum Failure {
    /// A program could not be started.
    Start(String, std::io::Error),
    /// A program ended badly.
    Ended {
        /// What was run.
        line: String,
        /// Its exit code; none when a signal ended it.
        code: Option<i32>,
    },
    /// The command line was wrong.
    Usage(String),
    /// Something that a person must change first.
    Missing(String),
    /// This machine can't do it; nothing is known of what it would have shown.
    NotHere(String),
    /// Steps of a summary that failed.
    Steps(Vec<&'static str>),
}

impl Failure {
    /// A program or a folder that isn't there.
    pub fn start(what: impl Into<String>, error: std::io::Error) -> Self {
        Failure::Start(what.into(), error)
    }

    /// A wrong command line.
    pub fn usage(text: impl Into<String>) -> Self {
        Failure::Usage(text.into())
    }

    /// What `xtask` itself ends with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Usage(_) => 2,
            Failure::Ended { code: Some(code), .. } => u8::try_from(*code).unwrap_or(1),
            _ => 1,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Start(what, error) => write!(f, "could not start {what}: {error}"),
            Failure::Ended { line, code: Some(code) } => write!(f, "'{line}' ended with exit code {code}"),
            Failure::Ended { line, code: None } => write!(f, "'{line}' was ended by a signal"),
            Failure::Usage(text) | Failure::Missing(text) | Failure::NotHere(text) => f.write_str(text),
            Failure::Steps(names) => write!(f, "failed: {}", names.join(", ")),
        }
    }
}

/// A program about to be run.
#[derive(Debug)]
pub struct Tool(Command);

impl Tool {
    /// This program, without arguments.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Tool(Command::new(program))
    }

    /// One more argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.0.arg(argument);
        self
    }

    /// More arguments.
    pub fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.0.args(arguments);
        self
    }

    /// A variable of its environment.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.0.env(name, value);
        self
    }

    /// The command line, for messages.
    pub fn line(&self) -> String {
        let words = std::iter::once(self.0.get_program()).chain(self.0.get_args());
        words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
    }

    /// Runs it with our own standard streams.
    pub fn run(mut self) -> Result<(), Failure> {
        let line = self.line();
        let status = self.0.status().map_err(|e| Failure::Start(line.clone(), e))?;
        if status.success() { Ok(()) } else { Err(Failure::Ended { line, code: status.code() }) }
    }

    /// Runs it with every line of its standard output told at once, behind `who` says it and when; each is shown to `seen`.
    pub fn run_telling(mut self, who: &str, mut seen: impl FnMut(&str)) -> Result<(), Failure> {
        let (line, began) = (self.line(), Instant::now());
        let failed = |error| Failure::Start(line.clone(), error);
        let mut child = self.0.stdout(Stdio::piped()).spawn().map_err(failed)?;
        for told in child.stdout.take().map(BufReader::new).into_iter().flat_map(|output| output.split(b'\n')) {
            let Ok(told) = told else { break };
            let told = String::from_utf8_lossy(&told);
            println!("{who} {:>4} s | {told}", began.elapsed().as_secs());
            seen(&told);
        }
        let status = child.wait().map_err(failed)?;
        if status.success() { Ok(()) } else { Err(Failure::Ended { line, code: status.code() }) }
    }

    /// Runs it silently and says whether it ended well.
    pub fn succeeds(mut self) -> bool {
        self.0.output().is_ok_and(|output| output.status.success())
    }
}

/// `cargo` with these arguments: the one that runs us.
pub fn cargo<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Tool {
    Tool::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"))).args(arguments)
}

/// The folder that holds the workspace's Cargo.toml.
pub fn workspace_root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// Where cargo puts what it builds.
pub fn target_directory() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace_root().join("target"), PathBuf::from)
}

/// A binary of the workspace, built in release mode.
pub fn release_binary(name: &str) -> PathBuf {
    target_directory().join("release").join(name)
}

/// A program in the PATH, or where system administration programs live.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
    let candidates = std::env::split_paths(&path).chain(system).map(|folder| folder.join(program));
    candidates.into_iter().find(|candidate| candidate.is_file())
}

/// What a program prints.
pub fn output(program: &str, arguments: &[&str]) -> Result<String, Failure> {
    let output = Command::new(program).args(arguments).output().map_err(|e| Failure::start(program, e))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
