//! A disk that can't be used: each case ends in one clear sentence, and nothing on the disk is changed.

use rep_tests::mount::LoopDevice;
use rep_tests::process::Running;
use rep_tests::scratch::sparse_file;
use rep_tests::tools::{self, root_or_not_run};
use rep_tests::{Cluster, ClusterOptions};
use std::time::Duration;

/// Whatever went wrong is one sentence that names the disk, and the daemon lives.
#[track_caller]
fn told(outcome: &tools::Outcome, words: &[&str]) {
    let said = outcome.stderr.trim();
    assert!(matches!(outcome.code, 1 | 10), "{outcome:?}");
    assert!(!said.contains("panicked") && said.lines().count() <= 3, "one sentence is enough: {said}");
    for word in words {
        assert!(said.contains(word), "'{word}' isn't said: {said}");
    }
}

#[test]
fn too_small() {
    let cluster = Cluster::start(&ClusterOptions { disk_bytes: [16 << 10; 2], ..ClusterOptions::default() });
    told(&cluster.alpha.verb("create-md"), &["disk0", "needs at least"]);
}

#[test]
fn missing() {
    let cluster = Cluster::start(&ClusterOptions::default());
    std::fs::remove_file(cluster.alpha.disk()).expect("the disk");
    told(&cluster.alpha.verb("create-md"), &["disk0", "no such disk"]);
    told(&cluster.alpha.verb("up"), &["disk0", "no such disk"]);
    assert!(cluster.alpha.resource().verdict.contains("disk0"), "the status says why it is down");
}

#[test]
fn a_folder() {
    let cluster = Cluster::start(&ClusterOptions::default());
    std::fs::remove_file(cluster.alpha.disk()).expect("the disk");
    std::fs::create_dir(cluster.alpha.disk()).expect("a folder");
    told(&cluster.alpha.verb("create-md"), &["disk0"]);
    told(&cluster.alpha.verb("up"), &["disk0"]);
}

#[test]
fn without_metadata() {
    let cluster = Cluster::start(&ClusterOptions::default());
    told(&cluster.alpha.verb("up"), &["disk0", "create-md"]);
}

#[test]
fn in_use_by_another_daemon() {
    let cluster = Cluster::in_sync(&ClusterOptions::default());
    let mut other = Cluster::start(&ClusterOptions::default());
    other.expect_log("in use");
    other.alpha.stop();
    other.config.nodes[0].volumes[0].disk = cluster.alpha.disk();
    other.write_config();
    other.alpha.start();
    told(&other.alpha.verb("up"), &["disk0", "in use"]);
    told(&other.alpha.verb("create-md --force"), &["disk0", "in use"]);
    assert!(cluster.alpha.resource().is_in_sync());
}

#[test]
fn of_another_resource() {
    let mut cluster = Cluster::in_sync(&ClusterOptions::default());
    cluster.alpha.stop();
    cluster.beta.stop();
    let text = cluster.config.text().replace("resource.vz", "resource.other");
    std::fs::write(cluster.config_path(), text).expect("the file");
    let mut alpha = rep_tests::Node::new(
        "alpha",
        cluster.alpha.folder().to_owned(),
        cluster.config_path().to_owned(),
        None,
        "other",
    );
    alpha.start();
    told(&alpha.verb("up"), &["disk0", "vz"]);
    told(&alpha.verb("create-md"), &["--force"]);
}

#[test]
fn of_the_other_node() {
    let mut cluster = Cluster::in_sync(&ClusterOptions::default());
    cluster.alpha.stop();
    cluster.beta.stop();
    std::fs::copy(cluster.beta.disk(), cluster.alpha.disk()).expect("beta's disk in alpha's place");
    cluster.alpha.start();
    told(&cluster.alpha.verb("up"), &["disk0", "beta"]);
}

#[test]
fn with_metadata_that_is_damaged() {
    use std::os::unix::fs::FileExt;
    let mut cluster = Cluster::in_sync(&ClusterOptions { external_metadata: true, ..ClusterOptions::default() });
    cluster.expect_log("damaged");
    cluster.alpha.stop();
    let path = cluster.alpha.meta_disk();
    let length = std::fs::metadata(&path).expect("metadata").len();
    let file = std::fs::File::options().write(true).open(&path).expect("metadata");
    file.write_all_at(&rep_tests::random::bytes(3, length as usize), 0).expect("rubbish");
    cluster.alpha.start();
    told(&cluster.alpha.verb("up"), &["meta0"]);
}

#[test]
fn with_metadata_that_was_cut_off() {
    let mut cluster = Cluster::in_sync(&ClusterOptions { external_metadata: true, ..ClusterOptions::default() });
    cluster.alpha.stop();
    let file = std::fs::File::options().write(true).open(cluster.alpha.meta_disk()).expect("metadata");
    file.set_len(4096).expect("cut off");
    cluster.alpha.start();
    told(&cluster.alpha.verb("up"), &["meta0"]);
}

#[test]
fn that_shrank() {
    let mut cluster = Cluster::in_sync(&ClusterOptions { external_metadata: true, ..ClusterOptions::default() });
    cluster.alpha.stop();
    let file = std::fs::File::options().write(true).open(cluster.alpha.disk()).expect("the disk");
    file.set_len(32 << 20).expect("cut off");
    cluster.alpha.start();
    told(&cluster.alpha.verb("up"), &["33554432", "67108864"]);
    assert_eq!(cluster.alpha.resource().volume().disk, "Diskless");
}

#[test]
fn with_a_file_system_that_internal_metadata_would_overlap() {
    let cluster = Cluster::start(&ClusterOptions::default());
    tools::run("mkfs.ext4", ["-q".as_ref(), "-F".as_ref(), cluster.alpha.disk().as_os_str()], Duration::from_secs(60))
        .ok();
    let before = std::fs::read(cluster.alpha.disk()).expect("the disk");
    told(&cluster.alpha.verb("create-md"), &["ext4", "--force"]);
    assert!(std::fs::read(cluster.alpha.disk()).expect("the disk") == before, "the disk was changed");
}

#[test]
fn with_metadata_already() {
    let cluster = Cluster::start(&ClusterOptions::default());
    cluster.alpha.ok("create-md");
    told(&cluster.alpha.verb("create-md"), &["--force"]);
    cluster.alpha.ok("create-md --force");
}

#[test]
fn mounted() {
    if !root_or_not_run("mounting a file system") {
        return;
    }
    let mut cluster = Cluster::start(&ClusterOptions::default());
    let image = cluster.path("image");
    sparse_file(&image, 64 << 20);
    let socket = cluster.path("nbd.sock");
    let mut command = tools::server("nbdkit");
    command.args(["-f", "--unix"]).arg(&socket).arg("file").arg(&image);
    let _server = Running::start(command, "nbdkit", &cluster.path("nbdkit.log"));
    rep_tests::wait::until_true("nbdkit listens", Duration::from_secs(20), || socket.exists());
    let scratch = cluster.path("mounted");
    std::fs::create_dir(&scratch).expect("a folder");
    let device = LoopDevice::new(&format!("nbd+unix:///?socket={}", socket.display()), &scratch);
    let mount = device.format_and_mount("ext4", &scratch);
    cluster.alpha.stop();
    cluster.config.nodes[0].volumes[0].disk = device.path().into();
    cluster.write_config();
    cluster.alpha.start();
    told(&cluster.alpha.verb("create-md --force"), &[device.path(), "mounted"]);
    told(&cluster.alpha.verb("up"), &[device.path(), "mounted"]);
    mount.unmount();
}

/// Metadata on a file system that is full: `create-md` says so and leaves nothing half done.
#[test]
fn with_no_room_for_metadata() {
    if !root_or_not_run("mounting a small tmpfs") {
        return;
    }
    let mut cluster = Cluster::start(&ClusterOptions { external_metadata: true, ..ClusterOptions::default() });
    let small = SmallTmpfs::new(&cluster.path("small"), "256k");
    cluster.alpha.stop();
    std::fs::write(small.0.join("filler"), vec![1; 250 << 10]).expect("a filler");
    cluster.config.nodes[0].volumes[0].meta_disk = Some(small.0.join("meta"));
    cluster.write_config();
    cluster.alpha.start();
    told(&cluster.alpha.verb("create-md"), &["meta", "space"]);
    told(&cluster.alpha.verb("up"), &["meta"]);
    std::fs::remove_file(small.0.join("filler")).expect("the filler");
    cluster.alpha.stop();
    drop(small);
}

struct SmallTmpfs(std::path::PathBuf);

impl SmallTmpfs {
    fn new(path: &std::path::Path, size: &str) -> Self {
        std::fs::create_dir(path).expect("a mount point");
        tools::words(&format!("mount -t tmpfs -o size={size} tmpfs {}", path.display())).ok();
        SmallTmpfs(path.to_owned())
    }
}

impl Drop for SmallTmpfs {
    fn drop(&mut self) {
        let _ = tools::words(&format!("umount -l {}", self.0.display()));
    }
}
