//! The state of the resource, for the control thread.

use super::thread::{DataThread, VolumeConfig};
use crate::resource::{LinkReport, PoolReport, ResourceReport, VolumeReport};

impl DataThread {
    /// What clients see of a volume: the device, whether it is offered, how many there are, and why it isn't.
    fn client_report(&self, config: &VolumeConfig) -> (String, bool, u32, Option<String>) {
        let ublk = self.ublk.serves(config.number).then(|| self.ublk.report(config.number));
        if let Some((device, usable, problem)) = ublk.or_else(|| self.nbd.kernel_report(config.number)) {
            return (device.unwrap_or_else(|| config.device.clone()), usable, 0, problem);
        }
        let (exported, clients, problem) = self.nbd.report(config.number);
        (config.device.clone(), exported, clients, problem)
    }

    /// The engine's state, and what only the shell knows.
    pub fn report(&self) -> ResourceReport {
        let now = self.timestamp();
        let volumes = self.volumes.iter().map(|config| {
            let (device, exported, clients, export_problem) = self.client_report(config);
            let disk = self.disks.report(config.number);
            let archive_problem = self.archives.problem(config.number);
            VolumeReport { number: config.number, device, exported, clients, export_problem, archive_problem, disk }
        });
        let pool = self.buffers.pool.in_use();
        ResourceReport {
            engine: self.engine.snapshot(now),
            now,
            link: LinkReport {
                problem: self.peer.problem().map(ToString::to_string),
                queued_bytes: self.peer.queued_bytes(),
            },
            volumes: volumes.collect(),
            pool: PoolReport {
                used_bytes: pool.used_bytes,
                total_bytes: pool.total_bytes,
                registered: self.buffers.is_registered(),
            },
        }
    }
}
