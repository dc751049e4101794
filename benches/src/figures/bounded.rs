//! Memory with more asked for than can be done: large writes at a great depth, and a peer that takes nothing.

use super::{Bar, Effort, Figure, export, in_memory, words};
use crate::{VOLUME_BYTES, fio, memory::resident_bytes};
use rep_tests::{Cluster, ClusterOptions};

pub fn measure(effort: Effort) -> Vec<Figure> {
    // The peer is given up only long after the measurement.
    let patient = ["timeout = \"60s\"", "ping-interval = \"60s\"", "connect-interval = \"1s\""].map(str::to_owned);
    let options = ClusterOptions { net_lines: patient.into(), ..in_memory(VOLUME_BYTES) };
    let cluster = Cluster::with_primary(&options);
    let target = export(&cluster.alpha);
    let name = "Primary's memory: 1 MiB writes, depth 1024, peer frozen";
    // Twice what the daemon may take for its clients' data.
    let mut memory = Figure::alone(name, "MiB", Some(Bar::AtMost(192.0)));
    for _ in 0..effort.rounds {
        cluster.beta.freeze();
        let load = words(&format!("rw=write bs=1M iodepth=1024 size={VOLUME_BYTES}"));
        let client = fio::start(&target, &load, &cluster.path("fio.log"));
        std::thread::sleep(std::time::Duration::from_secs(effort.seconds));
        memory.add(resident_bytes(cluster.alpha.pid()) / f64::from(1 << 20));
        cluster.beta.thaw();
        drop(client);
        cluster.alpha.wait_in_sync();
    }
    vec![memory]
}
