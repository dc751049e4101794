//! `repd`: two daemons, the link on the loopback interface, disks in memory as for all contenders.

use crate::VOLUME_BYTES;
use crate::contender::Contender;
use crate::figures::in_memory;
use crate::fio::Sample;
use rep_tests::Cluster;
use std::time::{Duration, Instant};

/// The contender.
#[derive(Debug)]
pub struct Ours(Cluster);

impl Ours {
    /// Starts both nodes, in sync, alpha Primary.
    pub fn start() -> Ours {
        Ours(Cluster::with_primary(&in_memory(VOLUME_BYTES)))
    }
}

impl Contender for Ours {
    fn name(&self) -> &'static str {
        "repd (mirrored)"
    }

    fn uri(&self) -> String {
        self.0.alpha.uri()
    }

    fn processes(&self) -> Vec<u32> {
        vec![self.0.alpha.pid(), self.0.beta.pid()]
    }

    /// The whole volume, as after a node's disk was replaced.
    fn resync(&self) -> Sample {
        let (before, began) = (crate::cpu::seconds(&self.processes()), Instant::now());
        self.0.alpha.ok("resync --full --from alpha");
        self.0.alpha.ok("wait synced --timeout 120s");
        let seconds = began.elapsed().as_secs_f64();
        self.0.alpha.wait_until("in sync", Duration::from_secs(120), |resource| resource.is_in_sync());
        let bytes = VOLUME_BYTES as f64;
        Sample {
            bytes_per_s: bytes / seconds,
            bytes,
            cpu_s: crate::cpu::seconds(&self.processes()) - before,
            ..Sample::default()
        }
    }
}
