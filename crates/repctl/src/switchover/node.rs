//! The two nodes of a switchover: this one, and the other as far as a command reaches it.

use super::run::Act;
use super::step::{Facts, Place};
use crate::Failure;
use crate::cli::{Options, StepWord, SwitchoverArguments};
use crate::commands::{primary, wait};
use crate::program::{self, NoEnd};
use rep_control::api::{ApiError, ErrorKind, ResourceStatus, Status, Verb, VerbRequest};
use rep_types::Refusal;
use serde::de::DeserializeOwned;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long the command that reaches the other node may take beyond what is done there.
const REACH_PATIENCE: Duration = Duration::from_secs(15);
/// How long a device may look open after its file system was unmounted: somebody is just looking at it (udev does).
const CLOSING_PATIENCE: Duration = Duration::from_secs(5);
/// The pause between two tries meanwhile.
const CLOSING_PAUSE: Duration = Duration::from_millis(100);

/// A node of a switchover.
pub trait Node {
    /// Its name.
    fn name(&self) -> &str;
    /// The resource, as its daemon sees it.
    fn status(&self) -> Result<ResourceStatus, ApiError>;
    /// How its mount, its links and its unit stand.
    fn facts(&self) -> Result<Facts, ApiError>;
    /// Does something.
    fn act(&self, act: Act) -> Result<(), ApiError>;
}

/// This node.
pub struct Here<'a> {
    name: String,
    arguments: &'a SwitchoverArguments,
    options: &'a Options,
}

impl<'a> Here<'a> {
    pub fn new(arguments: &'a SwitchoverArguments, options: &'a Options) -> Result<Self, ApiError> {
        let status = options.client().status(Some(&arguments.target.resource), options.timeout)?;
        Ok(Here { name: status.node, arguments, options })
    }

    fn place(&self) -> Place<'_> {
        let SwitchoverArguments { target, mount, reach } = self.arguments;
        Place { target, path: mount.as_deref(), file: &reach.file, options: self.options }
    }

    fn ask(&self, verb: Verb) -> Result<(), ApiError> {
        let resource = &self.arguments.target.resource;
        let answer = self.options.client().verb(resource, verb, &VerbRequest::default(), self.options.timeout);
        answer.map(drop)
    }
}

impl Node for Here<'_> {
    fn name(&self) -> &str {
        &self.name
    }

    fn status(&self) -> Result<ResourceStatus, ApiError> {
        wait::look(&self.arguments.target.resource, self.options, Instant::now() + self.options.timeout)
    }

    fn facts(&self) -> Result<Facts, ApiError> {
        self.place().facts()
    }

    fn act(&self, act: Act) -> Result<(), ApiError> {
        match act {
            Act::Secondary => until_closed(self.arguments, || self.ask(Verb::Secondary)),
            Act::Primary => {
                self.ask(Verb::Primary)?;
                primary::wait_device(&self.arguments.target.resource, self.options)
            }
            Act::StartUnit => self.place().take(StepWord::StartUnit),
            Act::StopUnit => self.place().take(StepWord::StopUnit),
            Act::Mount => self.place().take(StepWord::Mount),
            Act::Unmount => self.place().take(StepWord::Unmount),
            Act::MakeLinks => self.place().take(StepWord::MakeLinks),
            Act::RemoveLinks => self.place().take(StepWord::RemoveLinks),
            Act::Handover => self.place().take(StepWord::Handover),
        }
    }
}

/// The other node.
pub struct There<'a> {
    name: String,
    via: Vec<String>,
    program: String,
    arguments: &'a SwitchoverArguments,
    options: &'a Options,
}

impl<'a> There<'a> {
    pub fn new(arguments: &'a SwitchoverArguments, options: &'a Options, name: &str) -> Result<Self, Failure> {
        let ssh = || ["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=5", name].map(str::to_owned).to_vec();
        let given = |via: &String| via.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let via = arguments.reach.via.as_ref().map(given).filter(|words| !words.is_empty()).unwrap_or_else(ssh);
        // The other node has the program where this one has it.
        let program = std::env::current_exe().ok().and_then(|path| path.to_str().map(str::to_owned));
        let program = program.filter(|path| is_plain(path)).unwrap_or_else(|| "repctl".to_owned());
        for path in [Some(&arguments.reach.peer_socket), arguments.mount.as_ref(), Some(&arguments.reach.file.config)] {
            refuse_unless_plain(path.map(|path| path.as_path()))?;
        }
        Ok(There { name: name.to_owned(), via, program, arguments, options })
    }

    /// Runs `repctl` there and returns what it printed.
    fn repctl(&self, words: &[&str]) -> Result<String, ApiError> {
        let socket = self.arguments.reach.peer_socket.to_string_lossy();
        let timeout = format!("{}ms", self.options.timeout.as_millis());
        let options = [self.program.as_str(), "--json", "--socket", &socket, "--timeout", &timeout];
        let line: Vec<&str> = self.via.iter().map(String::as_str).chain(options).chain(words.iter().copied()).collect();
        let ended = match program::run(&line, Instant::now() + self.options.timeout + REACH_PATIENCE) {
            Ok(ended) if ended.is_well() => return Ok(ended.stdout),
            Ok(ended) => ended,
            Err(NoEnd::NotRun(error)) => return Err(self.unreachable(&error.to_string())),
            Err(NoEnd::TimedOut) => return Err(ApiError::timed_out(format!("{} didn't answer in time", self.name))),
        };
        // What it printed is its error, if it was reached at all.
        Err(serde_json::from_str(&ended.stdout).unwrap_or_else(|_| self.unreachable(&ended.complaint())))
    }

    fn unreachable(&self, why: &str) -> ApiError {
        let message = format!("{} isn't reached by '{}': {why}", self.name, self.via.join(" "));
        let hint = "--via (or REPD_VIA) names the command that runs another there, as \"ssh root@192.168.255.2\"";
        ApiError::failed("PeerNotReached", message).with_hint(hint)
    }

    fn parsed<T: DeserializeOwned>(&self, text: &str) -> Result<T, ApiError> {
        serde_json::from_str(text).map_err(|error| {
            ApiError::failed("BadAnswer", format!("{}'s repctl gave no sense: {error}", self.name))
                .with_hint("both nodes need the same version of repctl")
        })
    }

    fn step(&self, word: &str) -> Result<String, ApiError> {
        let target = self.arguments.target.to_string();
        let config = self.arguments.reach.file.config.to_string_lossy();
        let path = self.arguments.mount.as_deref().map(Path::to_string_lossy);
        let mount = path.iter().flat_map(|path| ["--mount", path]);
        let words: Vec<&str> =
            ["switchover-step", &target, word, "--config", &config].into_iter().chain(mount).collect();
        self.repctl(&words)
    }
}

impl Node for There<'_> {
    fn name(&self) -> &str {
        &self.name
    }

    fn status(&self) -> Result<ResourceStatus, ApiError> {
        let status: Status = self.parsed(&self.repctl(&["status", &self.arguments.target.resource])?)?;
        if status.node != self.name {
            let message = format!("'{}' leads to {}, not to {}", self.via.join(" "), status.node, self.name);
            return Err(ApiError::new(ErrorKind::Usage, "WrongNode", message).with_hint("name another with --via"));
        }
        status.resources.into_iter().next().ok_or_else(|| ApiError::failed("BadAnswer", "the resource is missing"))
    }

    fn facts(&self) -> Result<Facts, ApiError> {
        self.status()?;
        self.parsed(&self.step("facts")?)
    }

    fn act(&self, act: Act) -> Result<(), ApiError> {
        let resource = self.arguments.target.resource.as_str();
        let done = match act {
            Act::Secondary => {
                until_closed(self.arguments, || self.repctl(&["secondary", resource]).map(drop))?;
                return Ok(());
            }
            Act::Primary => self.repctl(&["primary", resource, "--wait-device"]),
            Act::StartUnit => self.step("start-unit"),
            Act::StopUnit => self.step("stop-unit"),
            Act::Mount => self.step("mount"),
            Act::Unmount => self.step("unmount"),
            Act::MakeLinks => self.step("make-links"),
            Act::RemoveLinks => self.step("remove-links"),
            Act::Handover => self.step("handover"),
        };
        done.map(drop)
    }
}

/// Demotes; where a file system was just unmounted, for a moment also against somebody who looks at the device.
fn until_closed(arguments: &SwitchoverArguments, demote: impl Fn() -> Result<(), ApiError>) -> Result<(), ApiError> {
    let deadline = Instant::now() + if arguments.mount.is_some() { CLOSING_PATIENCE } else { Duration::ZERO };
    loop {
        match demote() {
            Err(error) if error.is_refusal(Refusal::DeviceIsOpen) && Instant::now() < deadline => {
                std::thread::sleep(CLOSING_PAUSE);
            }
            other => return other,
        }
    }
}

/// A shell at the other end reads the words once more: only such are sent as mean the same to every shell.
fn is_plain(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "/._+@:-".contains(c))
}

fn refuse_unless_plain(path: Option<&Path>) -> Result<(), Failure> {
    let Some(path) = path else { return Ok(()) };
    if path.is_absolute() && path.to_str().is_some_and(is_plain) {
        return Ok(());
    }
    let message = format!("{} can't be named to the other node", path.display());
    let hint = "a whole path is expected, of letters, digits and / . _ + @ : -";
    Err(ApiError::usage("BadPath", message).with_hint(hint).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_words_that_mean_the_same_everywhere_are_sent() {
        for good in ["/vz", "/run/repd/control.sock", "/a-b_c/d.e"] {
            assert!(is_plain(good) && refuse_unless_plain(Some(Path::new(good))).is_ok(), "{good}");
        }
        for bad in ["", "/a b", "/a;b", "$HOME", "/a'b", "vz"] {
            assert!(refuse_unless_plain(Some(Path::new(bad))).is_err(), "{bad}");
        }
    }
}
