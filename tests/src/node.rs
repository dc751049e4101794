//! One node: its daemon, its disk, its command.

use crate::nbd::{Address, Connection};
use crate::process::Running;
use crate::random::Random;
use crate::status::{Resource, Status};
use crate::tools::{Outcome, finish};
use crate::{binaries, logs, wait};
use nix::sys::signal::Signal;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// How long anything may take that isn't a matter of data volume.
pub const SOON: Duration = Duration::from_secs(20);

/// How long `repctl status` may take on a machine that is busy with other scenarios.
const STATUS_DEADLINE: Duration = Duration::from_secs(10);

/// Which daemon a node runs, and in what world.
#[derive(Clone, Debug, Default)]
pub struct DaemonOptions {
    /// Another program than [`binaries::repd`].
    pub program: Option<PathBuf>,
    /// Further variables of its environment.
    pub environment: Vec<(String, String)>,
    /// The node has a boot id of its own, so that it alone can lose power ([`Node::reboot`]). Needs a namespace.
    pub own_boot: bool,
}

/// A node.
#[derive(Debug)]
pub struct Node {
    name: String,
    folder: PathBuf,
    /// What the names of its resource's files begin with.
    prefix: String,
    config: PathBuf,
    namespace: Option<String>,
    resource: String,
    options: DaemonOptions,
    log: PathBuf,
    daemon: Option<Running>,
}

impl Node {
    /// A node that isn't running. `folder` holds everything of its own; its log lies with the config.
    pub fn new(name: &str, folder: PathBuf, config: PathBuf, namespace: Option<String>, resource: &str) -> Node {
        std::fs::create_dir_all(&folder).expect("the node's folder");
        let log = config.with_file_name(format!("{name}.log"));
        let (name, resource) = (name.to_owned(), resource.to_owned());
        let (prefix, options) = (String::new(), DaemonOptions::default());
        Node { name, folder, prefix, config, namespace, resource, options, log, daemon: None }
    }

    /// Another resource of the same node and the same daemon, to be spoken to; the daemon itself stays this one's to start and
    /// to end.
    pub fn beside(&self, resource: &str) -> Node {
        Node {
            name: self.name.clone(),
            folder: self.folder.clone(),
            prefix: format!("{resource}-"),
            config: self.config.clone(),
            namespace: self.namespace.clone(),
            resource: resource.to_owned(),
            options: self.options.clone(),
            log: self.log.clone(),
            daemon: None,
        }
    }

    /// The same node with another daemon.
    pub fn with_daemon(mut self, options: DaemonOptions) -> Node {
        self.options = options;
        if self.options.own_boot {
            self.reboot();
        }
        self
    }

    /// The next start of the daemon is in another boot of the machine, as after a loss of power.
    pub fn reboot(&self) {
        let mut id = [0; 16];
        Random::new(Random::fresh_seed()).fill(&mut id);
        let digits: Vec<String> = id.iter().map(|byte| format!("{byte:02x}")).collect();
        std::fs::write(self.boot_id(), digits.concat()).expect("the boot id");
    }

    fn boot_id(&self) -> PathBuf {
        self.folder.join("boot_id")
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its backing disk (of volume 0).
    pub fn disk(&self) -> PathBuf {
        self.disk_of(0)
    }

    /// The backing disk of a volume.
    pub fn disk_of(&self, volume: usize) -> PathBuf {
        self.folder.join(format!("{}disk{volume}", self.prefix))
    }

    /// Its metadata, where that is a file of its own.
    pub fn meta_disk(&self) -> PathBuf {
        self.meta_disk_of(0)
    }

    /// The metadata of a volume, where that is a file of its own.
    pub fn meta_disk_of(&self, volume: usize) -> PathBuf {
        self.folder.join(format!("{}meta{volume}", self.prefix))
    }

    /// The socket of its export (of volume 0).
    pub fn socket(&self) -> PathBuf {
        self.socket_of(0)
    }

    /// The socket of a volume's export.
    pub fn socket_of(&self, volume: usize) -> PathBuf {
        self.folder.join(format!("{}nbd{volume}.sock", self.prefix))
    }

    /// Its folder, for a daemon's run-time files too.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The socket its command speaks to.
    pub fn control_socket(&self) -> PathBuf {
        self.folder.join("control.sock")
    }

    /// Its export, for our client.
    pub fn address(&self) -> Address {
        self.address_of(0)
    }

    /// The export of a volume, for our client.
    pub fn address_of(&self, volume: usize) -> Address {
        Address::Unix(self.socket_of(volume))
    }

    /// The name of a volume's export.
    pub fn export_of(&self, volume: usize) -> String {
        if volume == 0 { self.resource.clone() } else { format!("{}/{volume}", self.resource) }
    }

    /// Its export, for tools.
    pub fn uri(&self) -> String {
        format!("nbd+unix:///{}?socket={}", self.resource, self.socket().display())
    }

    /// A connection to its export.
    #[track_caller]
    pub fn connection(&self) -> Connection {
        self.connection_of(0)
    }

    /// A connection to a volume's export.
    #[track_caller]
    pub fn connection_of(&self, volume: usize) -> Connection {
        let export = self.export_of(volume);
        let opened = Connection::open(&self.address_of(volume), &export, Duration::from_secs(30));
        opened.unwrap_or_else(|e| panic!("the export '{export}' of {}: {e}", self.name))
    }

    // ---- the daemon ----

    /// Starts the daemon and waits until it answers.
    #[track_caller]
    pub fn start(&mut self) {
        assert!(self.daemon.is_none(), "{} runs already", self.name);
        let daemon = Running::start(self.daemon_command(), &self.name, &self.log);
        self.daemon = Some(daemon);
        crate::until(&format!("{}'s daemon answers", self.name), SOON, || {
            let running = self.daemon.as_mut().is_some_and(Running::is_running);
            assert!(running, "{}'s daemon ended at once:\n{}", self.name, logs::tail(&self.log(), 30));
            self.try_status().map(drop)
        });
    }

    /// The daemon's command line.
    pub fn daemon_command(&self) -> Command {
        let program = self.options.program.clone().unwrap_or_else(binaries::repd);
        let mut command = match &self.namespace {
            None => Command::new(program),
            Some(namespace) => {
                // Not `ip netns exec`: that gives the program mounts of its own, in which a file system lives on that was
                // unmounted here, and one that is mounted here later isn't there.
                let mut command = Command::new("nsenter");
                command.arg(format!("--net=/run/netns/{namespace}"));
                if self.options.own_boot {
                    command.args(["unshare", "--mount", "--propagation", "slave"]);
                    let script = "mount --bind \"$0\" /proc/sys/kernel/random/boot_id && exec \"$@\"";
                    command.args(["sh", "-c", script]).arg(self.boot_id());
                }
                command.arg(program).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
                command
            }
        };
        command.envs(self.options.environment.iter().map(|(name, value)| (name, value)));
        command.arg("--config").arg(&self.config).args(["--node", &self.name]).arg("--runtime-dir").arg(&self.folder);
        command.env("NO_COLOR", "1");
        command
    }

    /// Ends the daemon like a crash.
    #[track_caller]
    pub fn kill9(&mut self) {
        self.running().kill9();
    }

    /// Ends the daemon politely; panics unless its exit code is 0.
    #[track_caller]
    pub fn stop(&mut self) {
        let ended = self.running().terminate(SOON);
        assert!(ended.success(), "{}'s daemon ended with {ended}:\n{}", self.name, logs::tail(&self.log(), 30));
    }

    /// Freezes the daemon: it holds its sockets and answers nothing, from this call's end on.
    #[track_caller]
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
        // One thread takes the signal and has the others stop; on a busy machine those go on for a while.
        let what = format!("{}'s daemon stands still", self.name);
        wait::until_true(&what, SOON, || is_stopped(self.pid()));
    }

    /// Lets a frozen daemon go on.
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Whether the daemon was started and not ended since.
    pub fn is_started(&self) -> bool {
        self.daemon.is_some()
    }

    /// The daemon's process id.
    #[track_caller]
    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().unwrap_or_else(|| panic!("{} isn't running", self.name)).pid()
    }

    fn signal(&self, signal: Signal) {
        self.daemon.as_ref().unwrap_or_else(|| panic!("{} isn't running", self.name)).signal(signal);
    }

    #[track_caller]
    fn running(&mut self) -> Running {
        self.daemon.take().unwrap_or_else(|| panic!("{} isn't running", self.name))
    }

    /// The daemon's log, of all its lives.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        logs::plain(&String::from_utf8_lossy(&bytes))
    }

    /// Waits for a text in the daemon's log.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str) {
        crate::until(&format!("'{text}' in {}'s log", self.name), SOON, || {
            let log = self.log();
            if log.contains(text) { Ok(()) } else { Err(logs::tail(&log, 10)) }
        });
    }

    // ---- the command ----

    /// Runs `repctl` with these arguments.
    pub fn ctl<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Outcome {
        let mut command = crate::tools::tool("env", [binaries::repctl()], Duration::from_secs(120));
        command.arg("--socket").arg(self.control_socket()).args(arguments);
        finish(command)
    }

    /// Runs `repctl VERB RESOURCE REST...` for this cluster's resource; panics unless it ends well.
    #[track_caller]
    pub fn ok(&self, line: &str) -> String {
        self.verb(line).ok()
    }

    /// What the status tells of how long requests take: a field of a part of volume 0's; 0 where it isn't there.
    #[track_caller]
    pub fn latency(&self, part: &str, field: &str) -> u64 {
        let status: serde_json::Value = serde_json::from_str(&self.ok("status --json")).expect("JSON");
        status["resources"][0]["volumes"][0]["latency"][part][field].as_u64().unwrap_or(0)
    }

    /// Runs `repctl VERB RESOURCE REST...`; panics unless the state refused it, naming this reason.
    #[track_caller]
    pub fn refused(&self, line: &str, reason: &str) {
        let plain = self.verb(line).failed_with(10);
        assert!(plain.contains(reason), "'{line}' was refused, but without naming {reason}: {plain}");
    }

    /// Runs `repctl VERB RESOURCE REST...`.
    pub fn verb(&self, line: &str) -> Outcome {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        words.insert(1, &self.resource);
        let config = self.config.to_string_lossy();
        if matches!(words[0], "create-md" | "dump-md") {
            words.extend(["--config", &config, "--node", &self.name]);
        }
        self.ctl(words)
    }

    /// The whole status.
    #[track_caller]
    pub fn status(&self) -> Status {
        self.try_status().unwrap_or_else(|e| panic!("{}: {e}", self.name))
    }

    /// The whole status, or why there is none.
    pub fn try_status(&self) -> Result<Status, String> {
        let outcome = self.ctl(["--json", "status"]);
        if outcome.code != 0 {
            return Err(format!("exit code {}: {}", outcome.code, outcome.stderr));
        }
        serde_json::from_str(&outcome.stdout).map_err(|e| format!("{e} in {}", outcome.stdout))
    }

    /// This cluster's resource.
    #[track_caller]
    pub fn resource(&self) -> Resource {
        self.try_resource().unwrap_or_else(|e| panic!("{}: {e}", self.name))
    }

    fn try_resource(&self) -> Result<Resource, String> {
        let mut resources = self.try_status()?.resources.into_iter();
        resources.find(|resource| resource.name == self.resource).ok_or_else(|| "no such resource".to_owned())
    }

    /// Waits until the resource is as wanted.
    #[track_caller]
    pub fn wait_until(&self, what: &str, deadline: Duration, wanted: impl Fn(&Resource) -> bool) -> Resource {
        crate::until(&format!("{}: {what}", self.name), deadline, || match self.try_resource()? {
            resource if wanted(&resource) => Ok(resource),
            resource => Err(resource.line()),
        })
    }

    /// Panics if `repctl status` waits for a peer or a disk (I-L3). It takes milliseconds on an idle machine, and within a second it
    /// gives a stuck data thread up; what hangs in a scenario hangs until the scenario ends it, far beyond this.
    #[track_caller]
    pub fn assert_answers_quickly(&self) {
        let began = std::time::Instant::now();
        self.ok("status");
        let took = began.elapsed();
        assert!(took < STATUS_DEADLINE, "{}'s status took {took:?}", self.name);
    }

    /// Writes through the export: these bytes, at this offset.
    #[track_caller]
    pub fn write(&self, at: u64, bytes: &[u8]) {
        let mut connection = self.connection();
        for (number, part) in bytes.chunks(1 << 20).enumerate() {
            connection.write(at + ((number as u64) << 20), part, 0).unwrap_or_else(|e| panic!("a write: {e}"));
        }
        connection.flush().unwrap_or_else(|e| panic!("a flush: {e}"));
        let _ = connection.close();
    }

    /// Reads through the export.
    #[track_caller]
    pub fn read(&self, at: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let mut connection = self.connection();
        for (number, part) in bytes.chunks_mut(1 << 20).enumerate() {
            connection.read(at + ((number as u64) << 20), part).unwrap_or_else(|e| panic!("a read: {e}"));
        }
        let _ = connection.close();
        bytes
    }

    /// Reads everything through the export and has the ledger judge it.
    #[track_caller]
    pub fn judge(&self, ledger: &crate::Ledger, lost: crate::ledger::Lost) -> crate::ledger::Report {
        let mut connection = self.connection();
        let report = ledger.verify(lost, |at, buffer| connection.read(at, buffer));
        let _ = connection.close();
        eprintln!("{}: {report}", self.name);
        report
    }

    /// Waits until both replicas are the same and connected.
    #[track_caller]
    pub fn wait_in_sync(&self) -> Resource {
        self.wait_until("in sync", Duration::from_secs(60), Resource::is_in_sync)
    }

    /// Waits for a connection state.
    #[track_caller]
    pub fn wait_connection(&self, state: &str) -> Resource {
        self.wait_until(&format!("connection {state}"), SOON, |resource| resource.connection == state)
    }
}

/// Whether every thread of a process has been stopped by a signal.
fn is_stopped(pid: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    threads.flatten().all(|thread| {
        // What follows the name, which stands in brackets and may hold anything, is the state.
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('T'))
    })
}
