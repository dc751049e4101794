//! Attaching a disk: opened, locked and read by a thread of its own, so that a disk that hangs hangs nobody else.

use super::limits::LOCK_PATIENCE;
use crate::resource::{AttachError, DeviceOptions, MetaPlacement};
use crate::waking::WakingSender;
use rep_disk::{BlockingStorage, Disk, boot_id};
use rep_meta::{BootId, Identity, Loaded, MetaStorage, Placement};
use rep_nbdk::Backend;
use rep_types::{CommandId, LeftDevice, VolumeNumber};
use rep_ublk::{Fingerprint, lifecycle};
use std::path::{Path, PathBuf};

/// What is needed to attach a volume.
#[derive(Clone, Debug)]
pub(super) struct AttachOptions {
    pub identity: Identity,
    pub disk: PathBuf,
    pub meta: MetaPlacement,
    pub device: DeviceOptions,
}

/// A disk that was opened and read.
pub(super) struct Attachable {
    pub data: Disk,
    pub meta: Option<Disk>,
    pub loaded: Box<Loaded>,
    pub boot: BootId,
    /// The kernel's device that an earlier daemon left behind.
    pub left: Option<LeftDevice>,
}

/// What the thread came to.
pub(super) struct AttachResult {
    pub id: CommandId,
    pub volume: VolumeNumber,
    pub result: Result<Attachable, AttachError>,
}

/// Starts the thread. It ends by sending its result; a disk nobody wants any more is closed with it.
pub(super) fn start(id: CommandId, options: AttachOptions, results: WakingSender<AttachResult>) -> std::io::Result<()> {
    let name = format!("attach-{}-{}", options.identity.resource, options.identity.volume);
    let volume = options.identity.volume;
    std::thread::Builder::new().name(name).spawn(move || {
        let result = attach(&options);
        results.send(AttachResult { id, volume, result });
    })?;
    Ok(())
}

fn attach(options: &AttachOptions) -> Result<Attachable, AttachError> {
    let open = |path: &Path| {
        Disk::open(path, 0, LOCK_PATIENCE).map_err(|source| AttachError::Disk { path: path.to_owned(), source })
    };
    let mut data = open(&options.disk)?;
    let size = data.facts.size_bytes;
    let (meta, loaded) = match &options.meta {
        MetaPlacement::Internal => (None, load(&mut data, &options.disk, options, Placement::Internal, size)?),
        MetaPlacement::External(path) => {
            let mut meta = open(path)?;
            let loaded = load(&mut meta, path, options, Placement::External, size)?;
            (Some(meta), loaded)
        }
    };
    let boot = boot_id().map_err(|error| AttachError::Disk {
        path: PathBuf::from("/proc/sys/kernel/random/boot_id"),
        source: rep_disk::OpenError::System(error),
    })?;
    let left = left_device(options);
    Ok(Attachable { data, meta, loaded: Box::new(loaded), boot, left })
}

/// What whoever has a device open that was left behind knows of it. A driver that can't be asked has none; taking over will
/// tell.
fn left_device(options: &AttachOptions) -> Option<LeftDevice> {
    let Identity { resource, node, volume } = &options.identity;
    match options.device {
        DeviceOptions::Ublk => {
            lifecycle::left_device(Fingerprint::new(resource.as_str(), node.as_str(), volume.0)).ok().flatten()
        }
        DeviceOptions::NbdKernel => {
            rep_nbdk::left_device(&Backend::new(resource.as_str(), node.as_str(), volume.0)).ok().flatten()
        }
        DeviceOptions::NbdUnix(_) | DeviceOptions::NbdTcp(_) => None,
    }
}

fn load(
    disk: &mut Disk,
    path: &Path,
    options: &AttachOptions,
    placement: Placement,
    device_bytes: u64,
) -> Result<Loaded, AttachError> {
    let system = |error| AttachError::Disk { path: path.to_owned(), source: rep_disk::OpenError::System(error) };
    let mut storage = BlockingStorage::new(disk).map_err(system)?;
    let loaded = rep_meta::load(&mut storage, &options.identity, placement, device_bytes)
        .map_err(|error| AttachError::Metadata { path: path.to_owned(), source: error.into() })?;
    // What a killed daemon had written but not made stable counts from here on.
    storage.flush().map_err(|error| AttachError::Metadata { path: path.to_owned(), source: error.into() })?;
    Ok(loaded)
}
