//! The state of the resource, for the control thread.

use super::thread::DataThread;
use crate::resource::{LinkReport, PoolReport, ResourceReport, VolumeReport};

impl DataThread {
    /// The engine's state, and what only the shell knows.
    pub fn report(&self) -> ResourceReport {
        let now = self.timestamp();
        let volumes = self.volumes.iter().map(|config| {
            let (exported, clients, export_problem) = self.nbd.report(config.number);
            let disk = self.disks.report(config.number);
            VolumeReport {
                number: config.number,
                device: config.device.clone(),
                exported,
                clients,
                export_problem,
                disk,
            }
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
