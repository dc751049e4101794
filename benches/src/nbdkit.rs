//! `nbdkit file`: one disk, no mirror. What a plain NBD server costs on this machine.

use crate::VOLUME_BYTES;
use crate::contender::Contender;
use crate::fio::Sample;
use rep_tests::process::Running;
use rep_tests::scratch::{Place, Scratch, sparse_file};
use rep_tests::{tools, wait};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Enough for a server to start.
const SOON: Duration = Duration::from_secs(20);

/// The contender, and a second server that is only the target of its copy.
#[derive(Debug)]
pub struct Nbdkit {
    server: Running,
    target: Running,
    scratch: Scratch,
}

/// `nbdkit file` on a unix socket.
pub fn serve_unix(disk: &Path, socket: &Path, log: &Path) -> Running {
    let mut command = tools::server("nbdkit");
    command.args(["--foreground", "--unix"]).arg(socket).arg("file").arg(disk);
    let server = Running::start(command, "nbdkit", log);
    wait::until_true("nbdkit listens", SOON, || UnixStream::connect(socket).is_ok());
    server
}

/// `nbdkit file` on a TCP port of the loopback interface.
pub fn serve_tcp(disk: &Path, port: u16, log: &Path) -> Running {
    let mut command = tools::server("nbdkit");
    command.args(["--foreground", "--ipaddr", "127.0.0.1", "--port", &port.to_string(), "file"]).arg(disk);
    let server = Running::start(command, "nbdkit", log);
    wait::until_true("nbdkit listens", SOON, || TcpStream::connect(("127.0.0.1", port)).is_ok());
    server
}

impl Nbdkit {
    /// Starts it.
    pub fn start() -> Nbdkit {
        let scratch = Scratch::new(Place::Tmpfs);
        let path = |name: &str| scratch.path().join(name);
        for disk in ["disk", "target"] {
            sparse_file(&path(disk), VOLUME_BYTES);
        }
        let server = serve_unix(&path("disk"), &path("disk.sock"), &path("log"));
        let target = serve_unix(&path("target"), &path("target.sock"), &path("log"));
        Nbdkit { server, target, scratch }
    }

    fn uri_of(&self, socket: &str) -> String {
        format!("nbd+unix:///?socket={}", self.scratch.path().join(socket).display())
    }
}

impl Contender for Nbdkit {
    fn name(&self) -> &'static str {
        "nbdkit file (no mirror)"
    }

    fn uri(&self) -> String {
        self.uri_of("disk.sock")
    }

    fn processes(&self) -> Vec<u32> {
        vec![self.server.pid()]
    }

    /// A plain copy by nbdcopy between two servers: what moving these bytes takes at all.
    fn resync(&self) -> Sample {
        let both = [self.server.pid(), self.target.pid()];
        let (before, began) = (crate::cpu::seconds(&both), Instant::now());
        let line = ["--connections=4", &self.uri_of("disk.sock"), &self.uri_of("target.sock")].map(str::to_owned);
        tools::run("nbdcopy", &line, Duration::from_secs(300)).ok();
        let bytes = VOLUME_BYTES as f64;
        let bytes_per_s = bytes / began.elapsed().as_secs_f64();
        Sample { bytes_per_s, bytes, cpu_s: crate::cpu::seconds(&both) - before, ..Sample::default() }
    }
}
