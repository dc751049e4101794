//! QEMU's mirror: `qemu-storage-daemon` with a `blockdev-mirror` job in `copy-mode=write-blocking` to a remote NBD disk.
//! A write is answered when both have it: the nearest thing to what we do.

use crate::VOLUME_BYTES;
use crate::contender::Contender;
use crate::fio::Sample;
use crate::nbdkit::serve_tcp;
use rep_tests::process::Running;
use rep_tests::scratch::{Place, Scratch, sparse_file};
use rep_tests::{tools, wait};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// The contender.
#[derive(Debug)]
pub struct Mirror {
    daemon: Running,
    remote: Running,
    monitor: RefCell<Monitor>,
    scratch: Scratch,
}

impl Mirror {
    /// Starts it and waits until both disks are the same.
    pub fn start() -> Mirror {
        let scratch = Scratch::new(Place::Tmpfs);
        let path = |name: &str| scratch.path().join(name);
        for disk in ["disk", "remote"] {
            sparse_file(&path(disk), VOLUME_BYTES);
        }
        let port = rep_tests::net::free_ports()[0];
        let remote = serve_tcp(&path("remote"), port, &path("log"));
        let mut command = tools::server("qemu-storage-daemon");
        let chardev = format!("socket,path={},server=on,wait=off,id=monitor", path("monitor.sock").display());
        let file = format!("driver=file,node-name=file,filename={}", path("disk").display());
        let target = format!("driver=nbd,node-name=remote,server.type=inet,server.host=127.0.0.1,server.port={port}");
        let server = format!("addr.type=unix,addr.path={},max-connections=16", path("disk.sock").display());
        command.args(["--chardev", &chardev, "--monitor", "chardev=monitor", "--blockdev", &file]);
        command.args(["--blockdev", "driver=raw,node-name=disk,file=file", "--blockdev", &target]);
        command.args(["--nbd-server", &server, "--export", "type=nbd,id=disk,node-name=disk,name=disk,writable=on"]);
        let daemon = Running::start(command, "qemu-storage-daemon", &path("log"));
        let monitor = RefCell::new(Monitor::open(&path("monitor.sock")));
        let mirror = Mirror { daemon, remote, monitor, scratch };
        mirror.begin_job();
        mirror.wait_until_ready();
        mirror
    }

    fn begin_job(&self) {
        let arguments = json!({"job-id": "mirror", "device": "disk", "target": "remote", "sync": "full",
                               "copy-mode": "write-blocking"});
        self.monitor.borrow_mut().ask("blockdev-mirror", &arguments);
    }

    fn wait_until_ready(&self) {
        let status = || {
            let jobs = self.monitor.borrow_mut().ask("query-jobs", &json!({}));
            jobs[0]["status"].as_str().unwrap_or("no job").to_owned()
        };
        wait::until("QEMU's mirror is ready", Duration::from_secs(120), || match status() {
            ready if ready == "ready" => Ok(()),
            other => Err(other),
        });
    }

    fn end_job(&self) {
        self.monitor.borrow_mut().ask("block-job-cancel", &json!({"device": "mirror", "force": true}));
        wait::until_true("QEMU's mirror has ended", Duration::from_secs(60), || {
            self.monitor.borrow_mut().ask("query-jobs", &json!({})).as_array().is_some_and(Vec::is_empty)
        });
    }
}

impl Contender for Mirror {
    fn name(&self) -> &'static str {
        "QEMU mirror"
    }

    fn uri(&self) -> String {
        format!("nbd+unix:///disk?socket={}", self.scratch.path().join("disk.sock").display())
    }

    fn processes(&self) -> Vec<u32> {
        vec![self.daemon.pid(), self.remote.pid()]
    }

    /// The job begun anew: it copies the whole volume.
    fn resync(&self) -> Sample {
        self.end_job();
        let (before, began) = (crate::cpu::seconds(&self.processes()), Instant::now());
        self.begin_job();
        self.wait_until_ready();
        let bytes = VOLUME_BYTES as f64;
        let bytes_per_s = bytes / began.elapsed().as_secs_f64();
        Sample { bytes_per_s, bytes, cpu_s: crate::cpu::seconds(&self.processes()) - before, ..Sample::default() }
    }
}

/// QEMU's monitor protocol: a line of JSON out, lines of JSON in, events among them.
#[derive(Debug)]
struct Monitor(BufReader<UnixStream>);

impl Monitor {
    fn open(socket: &Path) -> Monitor {
        let soon = Duration::from_secs(20);
        let stream = wait::until("QEMU's monitor", soon, || UnixStream::connect(socket).map_err(|e| e.to_string()));
        let mut monitor = Monitor(BufReader::new(stream));
        monitor.line(); // the greeting
        monitor.ask("qmp_capabilities", &json!({}));
        monitor
    }

    fn ask(&mut self, what: &str, arguments: &Value) -> Value {
        let line = json!({"execute": what, "arguments": arguments}).to_string() + "\n";
        self.0.get_mut().write_all(line.as_bytes()).expect("the monitor takes a line");
        loop {
            let mut answer = self.line();
            assert!(answer["error"].is_null(), "{what}: {answer}");
            if answer.get("return").is_some() {
                return answer["return"].take();
            }
        }
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a line from the monitor");
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e} in {line}"))
    }
}
