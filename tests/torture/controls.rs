//! The controls: the same harness against what is known to be wrong must find it. A torture that finds nothing shows
//! something only because these find theirs.

use crate::plan::{Fault, Plan, Which};
use crate::run::{Length, run};
use crate::tally::Tally;
use crate::world::Subject;
use nix::errno::Errno;
use rep_tests::faulty_disk::Operations;
use rep_tests::ledger::{Lost, Report};
use rep_tests::load::{Load, LoadOptions};
use rep_tests::nbd::{Address, Connection};
use rep_tests::node::DaemonOptions;
use rep_tests::process::Running;
use rep_tests::scratch::{Place, Scratch, sparse_file};
use rep_tests::{Ledger, tools, wait};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const BYTES: u64 = 16 << 20;
const SOON: Duration = Duration::from_secs(30);

/// The bugs that are planted, what brings them out, and in how many volumes they are looked for: with all faults a control would take
/// minutes. One loses marks, one flushed data, one the word that unflushed data are lost.
const BUGS: [(&str, Bait, usize); 3] = [
    ("lone-write-unmarked", Bait::Faults(&["cut-link", "kill-secondary", "restart-secondary"]), 2),
    ("flush-local-only", Bait::Faults(&["power-cut-both"]), 1),
    ("lost-cache-untold", LAST_CACHE_DIES, 1),
];

/// The Primary works on its peer's disk alone, and that one's cache dies. With one volume: with two that cache hardly ever holds what
/// wasn't flushed by then.
const LAST_CACHE_DIES: Bait =
    Bait::Chain(Fault::DiskFails(Which::Primary, Operations::Writes, Errno::EIO, 1), Fault::PowerCut(Which::Secondary));

/// What brings a bug out.
#[derive(Clone, Copy, Debug)]
enum Bait {
    /// These kinds of faults, drawn as always.
    Faults(&'static [&'static str]),
    /// The one, and the other half a second later: drawn, they would hardly meet.
    Chain(Fault, Fault),
}

impl Bait {
    fn plan(self, seed: u64, cycle: u64, volumes: usize) -> Plan {
        match self {
            Bait::Faults(kinds) => {
                Plan::of(seed, cycle, volumes, &kinds.iter().map(|&kind| kind.to_owned()).collect::<Vec<_>>())
            }
            Bait::Chain(fault, second) => {
                Plan { fault, second: Some((second, 500, false)), ..Plan::of(seed, cycle, volumes, &[]) }
            }
        }
    }
}

/// How much a control may do until it has found what is wrong.
const CYCLES_MAX: u64 = 30;

/// How often the last cache dies under an honest daemon.
const HONEST_CYCLES: u64 = 4;

/// What a control is, and whether it found what it must.
#[derive(Debug)]
pub struct Control {
    name: String,
    found: Option<String>,
}

impl Control {
    fn new(name: impl Into<String>, found: Option<&String>) -> Control {
        let control = Control { name: name.into(), found: found.cloned() };
        match &control.found {
            Some(found) => println!("control: {}: found, as it must be: {found}", control.name),
            None => println!("control: {}: NOT FOUND", control.name),
        }
        control
    }

    /// Whether the harness did its work.
    pub fn passed(&self) -> bool {
        self.found.is_some()
    }
}

/// All of them. `planted`: a daemon built with planted bugs.
pub fn run_all(seed: u64, planted: Option<&Path>) -> Vec<Control> {
    let mut controls = vec![unsafe_cache(seed), honest_cache(seed), lying_disks(seed), honest_word(seed)];
    if let Some(program) = planted {
        controls.extend(BUGS.iter().map(|(bug, bait, volumes)| planted_bug(seed, program, bug, *bait, *volumes)));
    }
    controls
}

/// A server that answers flushes and flushes nothing, and is killed.
fn unsafe_cache(seed: u64) -> Control {
    let report = work_and_kill(seed, "unsafe");
    Control::new("nbdkit with cache=unsafe loses what it flushed", report.violations.first())
}

/// The same server when it is honest loses what it may, and no more: else the one above would show nothing.
fn honest_cache(seed: u64) -> Control {
    let report = work_and_kill(seed, "writeback");
    let fine = report.violations.is_empty() && report.unstable_lost > 0;
    let told = format!("{report}");
    Control::new("nbdkit with cache=writeback loses only what it may", fine.then_some(&told))
}

fn work_and_kill(seed: u64, cache: &str) -> Report {
    let scratch = Scratch::new(Place::Tmpfs);
    sparse_file(&scratch.path().join("disk"), BYTES);
    let (server, address) = nbdkit(scratch.path(), &["--filter=cache"], &[&format!("cache={cache}")]);
    let ledger = Arc::new(Ledger::new(BYTES));
    // No zeroes: the filter passes them by its cache.
    let options = LoadOptions { zeroes: 0, forced: 0, flushes: 3, seed: Some(seed), ..LoadOptions::default() };
    let load = Load::start(&ledger, &address, "", &options);
    load.wait_for(2000, SOON);
    server.kill9();
    load.end();
    let (server, address) = nbdkit(scratch.path(), &[], &[]);
    let mut connection = Connection::open(&address, "", SOON).expect("the export again");
    let report = ledger.verify(Lost::Unflushed, |at, buffer| connection.read(at, buffer));
    server.kill9();
    report
}

fn nbdkit(folder: &Path, filters: &[&str], parameters: &[&str]) -> (Running, Address) {
    let (socket, file) = (folder.join("nbd.sock"), folder.join("disk"));
    let _ = std::fs::remove_file(&socket);
    let mut command = tools::server("nbdkit");
    command.args(["-f", "--unix"]).arg(&socket).args(filters).arg("file").arg(&file).args(parameters);
    let server = Running::start(command, "nbdkit", &folder.join("nbdkit.log"));
    wait::until_true("nbdkit listens", SOON, || std::os::unix::net::UnixStream::connect(&socket).is_ok());
    (server, Address::Unix(socket))
}

/// Honest daemons over disks that lie about flushes lose data when the power fails.
fn lying_disks(seed: u64) -> Control {
    let subject = Subject { volumes: 2, lying_disks: Some(1), ..Subject::default() };
    let tally = until_found(seed, &subject, Bait::Faults(&["power-cut-both"]));
    // Found in the one volume, and nothing in the other, whose disks are honest.
    let found = tally.violations.first().filter(|_| tally.violations.iter().all(|found| found.contains("volume 1: ")));
    Control::new("disks of the second of two volumes that lie about flushes", found)
}

/// An honest daemon tells of what the last cache took, and works on: else the one that doesn't would show nothing.
fn honest_word(seed: u64) -> Control {
    let length = Length { cycles: Some(HONEST_CYCLES), time: None };
    let subject = Subject { control: true, ..Subject::default() };
    let tally = run(&subject, length, |cycle| LAST_CACHE_DIES.plan(seed, cycle, subject.volumes));
    let fine = tally.violations.is_empty() && tally.losses_told > 0;
    if !fine {
        println!("{tally}");
    }
    let told = format!("{} of {HONEST_CYCLES} losses told by a flush, and no other flush failed", tally.losses_told);
    Control::new("a daemon whose clients lose the last cache tells them", fine.then_some(&told))
}

/// A daemon with a bug of one line.
fn planted_bug(seed: u64, program: &Path, bug: &str, bait: Bait, volumes: usize) -> Control {
    let environment = vec![("REPD_PLANTED_BUG".to_owned(), bug.to_owned())];
    let daemon = DaemonOptions { program: Some(program.to_owned()), environment, ..DaemonOptions::default() };
    let tally = until_found(seed, &Subject { daemon, volumes, ..Subject::default() }, bait);
    Control::new(format!("a daemon with the planted bug '{bug}'"), tally.violations.first())
}

fn until_found(seed: u64, subject: &Subject, bait: Bait) -> Tally {
    let length = Length { cycles: Some(CYCLES_MAX), time: None };
    run(&Subject { control: true, ..subject.clone() }, length, |cycle| bait.plan(seed, cycle, subject.volumes))
}

/// The disks' own faults, tried without a daemon: the errors that are set come, and go.
pub fn disks_fail_as_told() {
    use rep_tests::faulty_disk::{Faults, FaultyDisk};
    use std::os::unix::fs::FileExt;
    let scratch = Scratch::new(Place::Tmpfs);
    let path = scratch.path().join("disk");
    sparse_file(&path, 1 << 20);
    let disk = FaultyDisk::mount(&path);
    let file = std::fs::File::options().read(true).write(true).open(&path).expect("the disk");
    let error = |result: std::io::Result<()>| result.err().and_then(|error| error.raw_os_error());
    file.write_all_at(&[1; 8192], 4096).expect("a write");
    disk.set(Faults { failing: Some((Operations::Writes, Errno::ENOSPC, 1)), ..Faults::NONE });
    assert_eq!(error(file.write_all_at(&[2; 4096], 0)), Some(Errno::ENOSPC as i32));
    file.write_all_at(&[2; 4096], 0).expect("one failure was set");
    disk.set(Faults { failing: Some((Operations::Flushes, Errno::EIO, u32::MAX)), ..Faults::NONE });
    assert_eq!(error(file.sync_data()), Some(Errno::EIO as i32));
    disk.set(Faults::NONE);
    file.sync_data().expect("a flush");
    let mut bytes = [0; 8192];
    file.read_exact_at(&mut bytes, 0).expect("a read");
    assert_eq!((bytes[0], bytes[4096]), (2, 1));
    drop(file);
}
