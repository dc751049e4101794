//! ```text
//!   ext4, xfs --> loop device --> nbdfuse --> nbdkit     mkfs, mount, write, unmount, check: clean
//!   the same with its superblock overwritten             the check must complain
//! ```

use rep_tests::mount::LoopDevice;
use rep_tests::process::Running;
use rep_tests::scratch::{Place, Scratch, sparse_file};
use rep_tests::tools::{self, root_or_not_run};
use rep_tests::{slots, wait};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

fn lives_and_breaks(kind: &str) {
    if !root_or_not_run("mounting a file system") {
        return;
    }
    let _slot = slots::shared();
    let scratch = Scratch::new(Place::Disk);
    let [socket, disk] = ["nbd.sock", "disk"].map(|name| scratch.path().join(name));
    sparse_file(&disk, 320 << 20);
    let mut command = tools::server("nbdkit");
    command.args(["-f", "--unix"]).arg(&socket).arg("file").arg(&disk);
    let _server = Running::start(command, "nbdkit", &scratch.path().join("log"));
    wait::until_true("nbdkit listens", Duration::from_secs(20), || UnixStream::connect(&socket).is_ok());

    let device = LoopDevice::new(&format!("nbd+unix:///?socket={}", socket.display()), scratch.path());
    let mount = device.format_and_mount(kind, scratch.path());
    std::fs::write(mount.path().join("file"), vec![7; 1 << 20]).expect("a file");
    mount.unmount();
    device.check(kind);
    let mount = device.mount(kind, scratch.path());
    assert_eq!(std::fs::read(mount.path().join("file")).expect("the file"), vec![7; 1 << 20]);
    mount.unmount();

    let broken = std::fs::File::options().write(true).open(device.path()).expect("the device");
    broken.write_all_at(&[0x55; 64 << 10], 0).expect("overwritten");
    broken.sync_all().expect("synced");
    drop(broken);
    let judged = catch_unwind(AssertUnwindSafe(|| device.check(kind)));
    assert!(judged.is_err(), "the check took a broken {kind} for a clean one");
    device.close();
}

#[test]
fn ext4() {
    lives_and_breaks("ext4");
}

#[test]
fn xfs() {
    lives_and_breaks("xfs");
}
