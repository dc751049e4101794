//! One of the demo's nodes: its daemon, and how it is asked.

use super::interrupt::Cleanup;
use super::{Failed, check};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;
use rep_control::api::{ApiError, Detail, ErrorKind, ResourceStatus, Verb, VerbRequest, VolumeDetail};
use rep_control::client::Client;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The demo's resource.
pub const RESOURCE: &str = "demo";
/// How long anything may take.
pub const DEADLINE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);

/// A node.
pub struct Node {
    name: String,
    repd: PathBuf,
    directory: PathBuf,
    client: Client,
    daemon: Option<Child>,
    cleanup: Arc<Cleanup>,
}

/// The daemon's program: beside this one, or in the PATH.
pub fn find_repd() -> Result<PathBuf, Failed> {
    let beside = std::env::current_exe().ok().map(|own| own.with_file_name("repd"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|directory| directory.join("repd"));
    let found = beside.into_iter().chain(in_path).find(|candidate| candidate.is_file());
    found.ok_or_else(|| {
        Failed("there is no repd beside repctl or in the PATH; build both with 'cargo build --release'".into())
    })
}

impl Node {
    /// A node whose daemon doesn't run yet.
    pub fn new(name: &str, repd: &Path, directory: &Path, cleanup: Arc<Cleanup>) -> Self {
        let client = Client::new(directory.join(name).join(rep_control::CONTROL_SOCKET_NAME));
        Node { name: name.into(), repd: repd.into(), directory: directory.into(), client, daemon: None, cleanup }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The backing disk.
    pub fn disk(&self) -> PathBuf {
        self.directory.join(format!("{}.disk", self.name))
    }

    /// The NBD export's socket.
    pub fn export(&self) -> PathBuf {
        self.directory.join(&self.name).join("nbd.sock")
    }

    fn log(&self) -> PathBuf {
        self.directory.join(format!("{}.log", self.name))
    }

    /// The last lines of the daemon's log.
    pub fn log_end(&self) -> String {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    /// Writes fresh metadata, by the same command an operator uses.
    pub fn create_metadata(&self) -> Result<String, Failed> {
        let output = Command::new(std::env::current_exe()?)
            .args(["create-md", RESOURCE, "--node", &self.name, "--config"])
            .arg(self.directory.join("repd.toml"))
            .output()?;
        check(output.status.success(), || String::from_utf8_lossy(&output.stderr).trim_end().to_owned())?;
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    /// Starts the daemon and waits until the resource is up.
    pub fn start(&mut self) -> Result<(), Failed> {
        let log = File::options().create(true).append(true).open(self.log())?;
        let mut command = Command::new(&self.repd);
        command
            .arg("--config")
            .arg(self.directory.join("repd.toml"))
            .args(["--node", &self.name, "--runtime-dir"])
            .arg(self.directory.join(&self.name))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            // Ctrl-C is for the demo, which ends its daemons itself.
            .process_group(0);
        // SAFETY: between fork and exec only two system calls are made, which are safe there.
        unsafe {
            command.pre_exec(|| {
                // The demo keeps signals for a thread of its own; the daemon is to have its own.
                SigSet::all().thread_unblock()?;
                nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(Into::into)
            });
        }
        let child = command.spawn()?;
        self.cleanup.started(child.id());
        self.daemon = Some(child);
        self.until("be up", |node| match node.try_status() {
            Ok(status) => Ok(status.volumes.iter().all(|volume| volume.size_bytes > 0)),
            Err(error) if error.error == ErrorKind::NoDaemon => Ok(false),
            Err(error) => Err(error.into()),
        })
    }

    /// The daemon's process number.
    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().map_or(0, Child::id)
    }

    /// Ends the daemon as a crash would.
    pub fn kill(&mut self) -> Result<(), Failed> {
        self.end(Signal::SIGKILL).map(drop)
    }

    /// Asks the daemon to end, and waits until it has.
    pub fn terminate(&mut self) -> Result<ExitStatus, Failed> {
        self.end(Signal::SIGTERM)
    }

    fn end(&mut self, signal: Signal) -> Result<ExitStatus, Failed> {
        let mut child = self.daemon.take().ok_or_else(|| Failed(format!("{} doesn't run", self.name)))?;
        kill(Pid::from_raw(child.id() as i32), signal)?;
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = child.try_wait()? {
                self.cleanup.ended(child.id());
                return Ok(status);
            }
            if Instant::now() >= deadline {
                self.daemon = Some(child);
                return Err(Failed(format!("{} doesn't end", self.name)));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn try_status(&self) -> Result<ResourceStatus, ApiError> {
        let status = self.client.status(Some(RESOURCE), DEADLINE)?;
        status.resources.into_iter().next().ok_or_else(|| ApiError::failed("BadAnswer", "no such resource"))
    }

    /// The state.
    pub fn status(&self) -> Result<ResourceStatus, Failed> {
        self.try_status().map_err(|error| Failed(format!("{}: {}", self.name, error.sentence())))
    }

    /// The details of the demo's only volume.
    pub fn detail(&self) -> Result<VolumeDetail, Failed> {
        let detail: Detail = self.client.detail(RESOURCE, DEADLINE)?;
        detail.volumes.into_iter().next().ok_or_else(|| Failed("the resource has no volume".into()))
    }

    /// A verb.
    pub fn verb(&self, verb: Verb, request: &VerbRequest) -> Result<(), Failed> {
        let answer = self.client.verb(RESOURCE, verb, request, DEADLINE);
        answer
            .map(drop)
            .map_err(|error| Failed(format!("{verb} on {}: {}: {}", self.name, error.reason, error.sentence())))
    }

    /// A verb that the state may still refuse for a moment.
    pub fn verb_soon(&self, verb: Verb) -> Result<(), Failed> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.verb(verb, &VerbRequest::default()) {
                Err(_) if Instant::now() < deadline => std::thread::sleep(PAUSE),
                result => return result,
            }
        }
    }

    /// Waits until something is so.
    pub fn until(&self, what: &str, so: impl Fn(&Node) -> Result<bool, Failed>) -> Result<(), Failed> {
        let deadline = Instant::now() + DEADLINE;
        while !so(self)? {
            if Instant::now() >= deadline {
                let verdict = self.try_status().map_or_else(|error| error.sentence(), |status| status.verdict);
                return Err(Failed(format!("{} should {what} by now, but: {verdict}", self.name)));
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.daemon.take() {
            let _ = child.kill();
            let _ = child.wait();
            self.cleanup.ended(child.id());
        }
    }
}
