//! ```text
//!   ledger client ---> nbdkit, cache=unsafe (answers flushes, flushes nothing) ---> file
//!                        X  SIGKILL
//!   ledger        <--- nbdkit, no cache <-------------------------------------- file
//!                        "flushed writes are missing": the ledger must say so
//! ```
//! And the same with servers that are honest: then it must have no complaint.

use rep_tests::ledger::Lost;
use rep_tests::load::{Load, LoadOptions};
use rep_tests::nbd::{Address, Connection};
use rep_tests::process::Running;
use rep_tests::scratch::{Place, Scratch, sparse_file};
use rep_tests::{Ledger, slots, tools};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const BYTES: u64 = 16 << 20;
const SOON: Duration = Duration::from_secs(30);

fn serve(scratch: &Path, filters: &[&str], parameters: &[&str]) -> (Running, Address) {
    let (socket, file) = (scratch.join("nbd.sock"), scratch.join("disk"));
    let _ = std::fs::remove_file(&socket);
    let mut command = tools::server("nbdkit");
    command
        .args(["-f", "--unix"])
        .arg(&socket)
        .args(filters)
        .args(["file".as_ref(), file.as_os_str()])
        .args(parameters);
    let server = Running::start(command, "nbdkit", &scratch.join("nbdkit.log"));
    rep_tests::wait::until_true("nbdkit listens", SOON, || std::os::unix::net::UnixStream::connect(&socket).is_ok());
    (server, Address::Unix(socket))
}

/// Works against a server, kills it in the middle, and looks at what is left on the disk.
fn work_and_kill(filters: &[&str], parameters: &[&str], flushes: u64, lost: Lost) -> rep_tests::ledger::Report {
    let _slot = slots::shared();
    let scratch = Scratch::new(Place::Tmpfs);
    sparse_file(&scratch.path().join("disk"), BYTES);
    let (server, address) = serve(scratch.path(), filters, parameters);
    let ledger = Arc::new(Ledger::new(BYTES));
    // No zeroes: the filter passes them by its cache.
    let options = LoadOptions { zeroes: 0, forced: 0, flushes, ..LoadOptions::default() };
    let load = Load::start(&ledger, &address, "", &options);
    load.wait_for(2000, SOON);
    // How many flushes are among those is a matter of chance.
    let flushed = || flushes == 0 || ledger.counts().flushes > 10;
    rep_tests::wait::until_true("it has flushed", SOON, flushed);
    server.kill9();
    load.stop();
    let (server, address) = serve(scratch.path(), &[], &[]);
    let mut connection = Connection::open(&address, "", SOON).expect("the export again");
    let report = ledger.verify(lost, |at, buffer| connection.read(at, buffer));
    server.kill9();
    report
}

#[test]
fn an_unsafe_cache_is_caught() {
    let report = work_and_kill(&["--filter=cache"], &["cache=unsafe"], 10, Lost::Unflushed);
    assert!(report.violations.len() > 10, "the ledger did not see what was lost: {report}");
}

#[test]
fn a_write_back_cache_loses_only_what_it_may() {
    let report = work_and_kill(&["--filter=cache"], &["cache=writeback"], 1, Lost::Unflushed);
    report.assert_clean();
    assert!(report.unstable_lost > 0, "nothing was lost at all, so nothing was shown: {report}");
}

#[test]
fn a_write_back_cache_loses_answered_writes() {
    let report = work_and_kill(&["--filter=cache"], &["cache=writeback"], 0, Lost::OneNode);
    assert!(!report.violations.is_empty(), "answered writes were lost and the ledger did not see it: {report}");
}

#[test]
fn a_server_without_a_cache_loses_nothing_when_killed() {
    work_and_kill(&[], &[], 3, Lost::OneNode).assert_clean();
}
