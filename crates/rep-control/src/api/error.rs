//! What a caller is told when it isn't "done": the kind, the reason's name, the sentence, the exit code.

use rep_types::Refusal;
use serde::{Deserialize, Serialize};

/// `repctl`'s exit codes; scripts rely on them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum ExitCode {
    /// Done.
    Done = 0,
    /// Failed while doing it.
    Failed = 1,
    /// Wrong usage.
    Usage = 2,
    /// The configuration doesn't hold.
    Config = 3,
    /// No daemon at the socket.
    NoDaemon = 4,
    /// Timed out.
    TimedOut = 5,
    /// Refused by the current state.
    Refused = 10,
}

/// The kind of an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// Failed while doing it.
    Failed,
    /// The request makes no sense.
    Usage,
    /// The configuration doesn't hold.
    Config,
    /// No daemon at the socket.
    NoDaemon,
    /// Not done in time.
    TimedOut,
    /// Refused by the current state.
    Refused,
}

impl ErrorKind {
    /// The exit code it means.
    pub fn exit_code(self) -> ExitCode {
        match self {
            Self::Failed => ExitCode::Failed,
            Self::Usage => ExitCode::Usage,
            Self::Config => ExitCode::Config,
            Self::NoDaemon => ExitCode::NoDaemon,
            Self::TimedOut => ExitCode::TimedOut,
            Self::Refused => ExitCode::Refused,
        }
    }

    /// The HTTP status it travels with.
    pub fn http_status(self) -> u16 {
        match self {
            Self::Failed | Self::Config | Self::NoDaemon => 500,
            Self::Usage => 400,
            Self::TimedOut => 504,
            Self::Refused => 409,
        }
    }
}

/// An error as it travels and as `--json` shows it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct ApiError {
    /// Its kind.
    pub error: ErrorKind,
    /// The reason's name, for scripts (`DeviceIsOpen`).
    pub reason: String,
    /// What happened and why, as one sentence.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
    /// What `repctl` exits with.
    pub exit_code: u8,
    /// For a configuration that doesn't hold: every problem in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<ConfigProblem>,
}

/// A problem of a configuration.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ConfigProblem {
    /// `error` or `warning`.
    pub severity: String,
    /// The file; `None` where the file itself can't be read.
    pub file: Option<String>,
    /// The line, from 1.
    pub line: Option<usize>,
    /// The column, from 1, in characters.
    pub column: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What is expected at that place.
    pub expected: Option<String>,
    /// What to do about it.
    pub help: Option<String>,
}

impl ApiError {
    /// An error of a kind.
    pub fn new(error: ErrorKind, reason: impl Into<String>, message: impl Into<String>) -> Self {
        let exit_code = error.exit_code() as u8;
        ApiError { error, reason: reason.into(), message: message.into(), hint: None, exit_code, problems: Vec::new() }
    }

    /// Adds what to do next.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A command the state refuses. What can't be done at all is a failure, not a matter of state.
    pub fn refused(refusal: Refusal, resource: &str) -> Self {
        let kind = if refusal == Refusal::NotSupported { ErrorKind::Failed } else { ErrorKind::Refused };
        let sentence = refusal.to_string().replace("RES", resource);
        let reason = format!("{refusal:?}");
        match sentence.split_once("; ") {
            Some((message, hint)) => ApiError::new(kind, reason, message).with_hint(hint),
            None => ApiError::new(kind, reason, sentence),
        }
    }

    /// Whether it is this refusal.
    pub fn is_refusal(&self, refusal: Refusal) -> bool {
        self.reason == format!("{refusal:?}")
    }

    /// Failed while doing it.
    pub fn failed(reason: &str, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Failed, reason, message)
    }

    /// A request that makes no sense.
    pub fn usage(reason: &str, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, reason, message)
    }

    /// Not done in time.
    pub fn timed_out(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::TimedOut, "TimedOut", message)
    }

    /// A configuration that doesn't hold.
    pub fn config(problems: Vec<ConfigProblem>) -> Self {
        let errors = problems.iter().filter(|problem| problem.severity == "error").count();
        let message = format!("{errors} {} in the configuration", if errors == 1 { "error" } else { "errors" });
        let error = Self::new(ErrorKind::Config, "BadConfiguration", message);
        ApiError { problems, ..error }.with_hint("nothing was changed; mend it and check it with 'repctl config check'")
    }

    /// One line: what happened, why, what to do next.
    pub fn sentence(&self) -> String {
        match &self.hint {
            Some(hint) => format!("{}; {hint}", self.message),
            None => self.message.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_its_reason_and_says_what_to_do() {
        let error = ApiError::refused(Refusal::IsPrimary, "vz");
        let json = serde_json::to_value(&error).unwrap();
        assert_eq!(json["error"], "refused");
        assert_eq!(json["reason"], "IsPrimary");
        assert_eq!(json["exit_code"], 10);
        assert_eq!(error.sentence(), "this node is Primary; run 'repctl secondary vz' first");
        assert_eq!(ApiError::refused(Refusal::NotSupported, "vz").exit_code, 1);
    }
}
