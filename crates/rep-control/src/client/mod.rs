//! The caller's side of the control socket: one short HTTP/1.1 exchange a call, every one with a deadline.
//!
//! It isn't a general HTTP client: it speaks with `repd` over a unix socket, and needs no runtime. Invariants: no call
//! outlives its deadline, whatever the daemon does; what the daemon sends is bounded before it is kept.

mod body;
mod stream;

use crate::api::{
    AdjustAnswer, AdjustRequest, ApiError, Detail, ErrorKind, Event, Status, Verb, VerbAnswer, VerbRequest,
};
use body::{Body, read_head};
use serde::de::DeserializeOwned;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use stream::DeadlineStream;

/// The largest answer that is kept, in bytes.
const ANSWER_LENGTH_MAX: u64 = 64 << 20;
/// How much longer than the daemon the caller waits: the daemon's own sentence about the delay is the better one.
const GRACE: Duration = Duration::from_millis(1500);

/// The longest path a socket can have, in bytes.
const SOCKET_PATH_LENGTH_MAX: usize = 107;
/// How many resources' deadlines `adjust` is waited for.
const ADJUST_RESOURCES: u32 = 4;

/// The daemon at a socket.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// The daemon at this socket; nothing is sent yet.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Client { socket: socket.into() }
    }

    /// Where the daemon is spoken to.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The state of all resources, or of one.
    pub fn status(&self, resource: Option<&str>, timeout: Duration) -> Result<Status, ApiError> {
        let path = resource.map_or("/v1/status".to_owned(), |name| format!("/v1/status/{name}"));
        self.exchange("GET", &path, "", Instant::now() + timeout)
    }

    /// A resource's details.
    pub fn detail(&self, resource: &str, timeout: Duration) -> Result<Detail, ApiError> {
        self.exchange("GET", &format!("/v1/resources/{resource}/detail"), "", Instant::now() + timeout)
    }

    /// Asks for a verb and waits until it is done.
    pub fn verb(
        &self,
        resource: &str,
        verb: Verb,
        request: &VerbRequest,
        timeout: Duration,
    ) -> Result<VerbAnswer, ApiError> {
        let timeout_ms = Some(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
        let request = VerbRequest { timeout_ms, ..request.clone() };
        let body = serde_json::to_string(&request).map_err(|error| broken(&error))?;
        self.exchange("POST", &format!("/v1/resources/{resource}/{verb}"), &body, Instant::now() + timeout + GRACE)
    }

    /// Has the daemon read its configuration anew, and tell or apply the difference. `timeout` is for each resource.
    pub fn adjust(&self, dry_run: bool, timeout: Duration) -> Result<AdjustAnswer, ApiError> {
        let timeout_ms = Some(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
        let body = serde_json::to_string(&AdjustRequest { dry_run, timeout_ms }).map_err(|error| broken(&error))?;
        self.exchange("POST", "/v1/adjust", &body, Instant::now() + ADJUST_RESOURCES * timeout + GRACE)
    }

    /// What happens from now on. Waits for each event without a deadline.
    pub fn events(&self, timeout: Duration) -> Result<Events, ApiError> {
        let mut reader = self.send("GET", "/v1/events", "", Instant::now() + timeout)?;
        let head = read_head(&mut reader).map_err(|error| self.io_error(&error))?;
        let body = Body::new(reader, &head);
        if head.status != 200 {
            return Err(read_error(body));
        }
        body.stream().clear_deadline();
        Ok(Events { lines: BufReader::new(body) })
    }

    fn exchange<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: &str,
        deadline: Instant,
    ) -> Result<T, ApiError> {
        let mut reader = self.send(method, path, body, deadline)?;
        let head = read_head(&mut reader).map_err(|error| self.io_error(&error))?;
        let body = Body::new(reader, &head);
        if head.status != 200 {
            return Err(read_error(body));
        }
        let mut text = Vec::new();
        body.take(ANSWER_LENGTH_MAX).read_to_end(&mut text).map_err(|error| self.io_error(&error))?;
        serde_json::from_slice(&text).map_err(|error| broken(&error))
    }

    fn send(
        &self,
        method: &str,
        path: &str,
        body: &str,
        deadline: Instant,
    ) -> Result<BufReader<DeadlineStream>, ApiError> {
        let mut stream = DeadlineStream::connect(&self.socket, deadline).map_err(|error| self.connect_error(&error))?;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: repd\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).map_err(|error| self.io_error(&error))?;
        Ok(BufReader::new(stream))
    }

    fn connect_error(&self, error: &std::io::Error) -> ApiError {
        use std::io::ErrorKind::{ConnectionRefused, NotFound, PermissionDenied};
        let socket = self.socket.display();
        match error.kind() {
            NotFound | ConnectionRefused => {
                let message = format!("no daemon at {socket}");
                let hint = "start repd, or name its socket with --socket or REPD_SOCKET";
                ApiError::new(ErrorKind::NoDaemon, "NoDaemon", message).with_hint(hint)
            }
            _ if self.socket.as_os_str().len() > SOCKET_PATH_LENGTH_MAX => {
                let message = format!("{socket} is too long for a socket's path");
                ApiError::usage("BadSocket", message).with_hint(format!("at most {SOCKET_PATH_LENGTH_MAX} bytes fit"))
            }
            PermissionDenied => {
                let message = format!("the socket {socket} may not be opened by this user");
                ApiError::failed("PermissionDenied", message).with_hint("run repctl as root or as the user of repd")
            }
            _ => self.io_error(error),
        }
    }

    fn io_error(&self, error: &std::io::Error) -> ApiError {
        let socket = self.socket.display();
        match error.kind() {
            std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock => {
                ApiError::timed_out(format!("the daemon at {socket} didn't answer in time"))
                    .with_hint("look at its log, or ask for more time with --timeout")
            }
            std::io::ErrorKind::InvalidData => broken(error),
            _ => ApiError::failed("ConnectionLost", format!("the daemon at {socket} went away: {error}"))
                .with_hint("look at its log"),
        }
    }
}

fn read_error(body: Body<BufReader<DeadlineStream>>) -> ApiError {
    let mut text = Vec::new();
    match body.take(ANSWER_LENGTH_MAX).read_to_end(&mut text) {
        Ok(_) => serde_json::from_slice(&text).unwrap_or_else(|error| broken(&error)),
        Err(error) => broken(&error),
    }
}

fn broken(error: &dyn std::error::Error) -> ApiError {
    ApiError::failed("BadAnswer", format!("the daemon's answer makes no sense: {error}"))
        .with_hint("are repd and repctl of the same version?")
}

/// Events as they come.
pub struct Events {
    lines: BufReader<Body<BufReader<DeadlineStream>>>,
}

/// The longest line of an event, in bytes.
const EVENT_LENGTH_MAX: u64 = 64 << 10;

impl Iterator for Events {
    type Item = Result<Event, ApiError>;

    /// The next event; `None` when the daemon ended.
    fn next(&mut self) -> Option<Self::Item> {
        let mut line = Vec::new();
        match (&mut self.lines).take(EVENT_LENGTH_MAX).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(serde_json::from_slice(&line).map_err(|error| broken(&error))),
        }
    }
}
