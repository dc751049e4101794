//! ```text
//!   the kernel wants memory ──► dirty pages of /vz are to be written ──► the daemon ──► wants memory
//! ```
//! So no thread of a daemon with a block device of the kernel waits for memory that is freed by writing to disks
//! (`PR_SET_IO_FLUSHER`), from its first one on. Under real pressure: tools/lab/pressure.sh.

use rep_tests::tools::not_run_here;
use rep_tests::{Cluster, ClusterOptions, Node};

/// What a daemon says that may not be marked.
const TOLD: &str = "memory pressure could stall the device: the daemon may not be known as one that writes back";

/// Of a task's flags (`/proc/PID/stat`): it asks for memory without I/O.
const PF_MEMALLOC_NOIO: u64 = 0x0008_0000;

/// Root in a container often may not: then the daemon says so and goes on.
fn may_be_marked() -> bool {
    const CAP_SYS_RESOURCE: u32 = 24;
    let status = std::fs::read_to_string("/proc/self/status").expect("this process");
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).expect("what it may").trim();
    u64::from_str_radix(effective, 16).expect("bits") & (1 << CAP_SYS_RESOURCE) != 0
}

/// All that can be seen where it may not.
fn assert_told(node: &Node) {
    assert!(node.log().contains(TOLD), "{}", node.log());
    not_run_here("being marked as one that writes back needs CAP_SYS_RESOURCE; that the want of it is told was seen");
}

/// Every thread of a daemon by its name, and whether it is marked.
fn threads(node: &Node) -> Vec<(String, bool)> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", node.pid())).expect("its threads").flatten();
    let thread = |task: std::fs::DirEntry| {
        // One that has just ended is none.
        let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
        let (name, rest) = stat.rsplit_once(") ")?;
        let flags: u64 = rest.split(' ').nth(6)?.parse().expect("flags");
        Some((name.rsplit_once('(')?.1.to_owned(), flags & PF_MEMALLOC_NOIO != 0))
    };
    tasks.filter_map(thread).collect()
}

fn make_devices_of_the_kernel(cluster: &Cluster) {
    let text = cluster.config.text();
    let lines = text.lines().map(|line| if line.starts_with("device = ") { "device = \"ublk\"" } else { line });
    std::fs::write(cluster.config_path(), lines.collect::<Vec<_>>().join("\n")).expect("the configuration");
}

#[test]
fn every_thread_is_marked_from_the_first_on() {
    let mut cluster = Cluster::prepare(&ClusterOptions::default());
    make_devices_of_the_kernel(&cluster);
    cluster.alpha.ok("create-md");
    cluster.alpha.start();
    cluster.alpha.wait_connection("Connecting");
    let threads = threads(&cluster.alpha);
    for name in ["repd", "log", "data-vz"] {
        assert!(threads.iter().any(|(thread, _)| thread.starts_with(name)), "no thread '{name}': {threads:?}");
    }
    if may_be_marked() {
        assert!(threads.iter().all(|(_, marked)| *marked), "{threads:?}");
    } else {
        assert_told(&cluster.alpha);
    }
}

/// One whose clients come over a socket has no need of it; a device that is configured later has the two threads marked that it waits for.
#[test]
fn only_where_there_is_such_a_device_or_once_there_is() {
    let mut cluster = Cluster::prepare(&ClusterOptions::default());
    cluster.alpha.ok("create-md");
    cluster.alpha.start();
    cluster.alpha.wait_connection("Connecting");
    assert!(threads(&cluster.alpha).iter().all(|(_, marked)| !marked), "{:?}", threads(&cluster.alpha));
    assert!(!cluster.alpha.log().contains(TOLD), "{}", cluster.alpha.log());
    make_devices_of_the_kernel(&cluster);
    cluster.alpha.ctl(["adjust"]).ok();
    cluster.alpha.wait_connection("Connecting");
    let threads = threads(&cluster.alpha);
    if !may_be_marked() {
        return assert_told(&cluster.alpha);
    }
    for name in ["repd", "data-vz"] {
        assert!(threads.iter().any(|(thread, marked)| thread.starts_with(name) && *marked), "'{name}': {threads:?}");
    }
}
