//! Disks on a real file system, past the page cache, against the bare file: both nodes' disks and the bare one lie on
//! the same device, so a mirrored write asks it for two.

use super::{Bar, Effort, Figure, export, words};
use crate::VOLUME_BYTES;
use crate::fio::{self, Target};
use rep_tests::{Cluster, ClusterOptions, NetworkKind, Place};

pub fn measure(effort: Effort) -> Vec<Figure> {
    let options = ClusterOptions {
        disk_bytes: [VOLUME_BYTES; 2],
        external_metadata: true,
        place: Place::Disk,
        network: NetworkKind::Loopback,
        exclusive: true,
        ..ClusterOptions::default()
    };
    let cluster = Cluster::with_primary(&options);
    let (ours, raw) = (export(&cluster.alpha), Target::DirectFile(cluster.path("raw")));
    for target in [&ours, &raw] {
        fio::fill(target, VOLUME_BYTES);
    }
    let name = "4k randwrite, depth 32, disks on a file system with O_DIRECT";
    let mut figure = Figure::against(name, "fio with io_uring on a bare file", "IOPS", Bar::AtLeast(0.5));
    let load = words(&format!("rw=randwrite bs=4k iodepth=32 size={VOLUME_BYTES}"));
    for _ in 0..effort.rounds {
        let [ours, raw] = [&ours, &raw].map(|target| fio::measure(std::slice::from_ref(target), &load, effort.seconds));
        figure.add_pair(ours.iops, raw.iops);
    }
    vec![figure]
}
