//! The state of the resource, for the control thread.

use super::thread::{DataThread, VolumeConfig};
use crate::resource::{DriverReport, LinkReport, PoolReport, ResourceReport, VolumeReport};

/// What a port knows of a volume's block device.
#[derive(Default)]
pub(super) struct BlockDevice {
    /// Its path, while there is one.
    pub device: Option<String>,
    /// Whether it can be used.
    pub usable: bool,
    /// Why it can't although it should.
    pub problem: Option<String>,
    /// Why it is smaller than its volume.
    pub size_problem: Option<String>,
    /// Its driver, while there is a device.
    pub driver: Option<DriverReport>,
}

impl DataThread {
    /// What clients see of a volume: the device, and how many they are.
    fn client_report(&self, config: &VolumeConfig) -> (BlockDevice, u32) {
        if let Some(device) = self.ublk.report(config.number).or_else(|| self.nbd.kernel_report(config.number)) {
            return (device, 0);
        }
        let (usable, clients, problem) = self.nbd.report(config.number);
        (BlockDevice { usable, problem, ..BlockDevice::default() }, clients)
    }

    /// The engine's state, and what only the shell knows.
    pub fn report(&self) -> ResourceReport {
        let now = self.timestamp();
        let volumes = self.volumes.iter().map(|config| {
            let (device, clients) = self.client_report(config);
            VolumeReport {
                number: config.number,
                device: device.device.unwrap_or_else(|| config.device.clone()),
                exported: device.usable,
                clients,
                export_problem: device.problem,
                size_problem: device.size_problem,
                driver: device.driver,
                archive_problem: self.archives.problem(config.number),
                disk: self.disks.report(config.number),
                stages: self.engine.latencies(config.number).cloned().unwrap_or_default(),
            }
        });
        let pool = self.buffers.pool.in_use();
        ResourceReport {
            engine: self.engine.snapshot(now),
            now,
            link: LinkReport {
                problem: self.peer.problem().map(ToString::to_string),
                queued_bytes: self.peer.queued_bytes(),
                sent: self.sent.clone(),
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
