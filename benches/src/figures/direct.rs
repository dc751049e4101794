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
    let ours = export(&cluster.alpha);
    let raw = ["raw", "raw-copy"].map(|name| Target::DirectFile(cluster.path(name)));
    for target in raw.iter().chain([&ours]) {
        fio::fill(target, VOLUME_BYTES);
    }
    let name = "4k randwrite, depth 32, disks on a file system with O_DIRECT";
    let mut figure = Figure::against(name, "fio with io_uring on a bare file", "IOPS", Bar::AtLeast(0.5));
    // What the device can do for two copies, whoever writes them.
    let name = "the same, against two bare files";
    let mut of_both = Figure::against(name, "half of what fio does on two bare files at once", "IOPS", None);
    let load = words(&format!("rw=randwrite bs=4k iodepth=32 size={VOLUME_BYTES}"));
    for _ in 0..effort.rounds {
        let measured = |targets: &[Target]| fio::measure(targets, &load, effort.seconds).iops;
        let ours = measured(std::slice::from_ref(&ours));
        figure.add_pair(ours, measured(&raw[..1]));
        of_both.add_pair(ours, measured(&raw) / 2.0);
    }
    vec![figure, of_both]
}
