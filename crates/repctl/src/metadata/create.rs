//! `create-md`: look at all, then write.

use super::foreign::{self, HEAD_LENGTH};
use super::{metadata_path, placement, volumes};
use crate::Failure;
use crate::cli::{CreateMdArguments, Options};
use crate::output::{print, print_json};
use crate::terminal::bytes;
use nix::fcntl::posix_fallocate;
use rep_control::api::{ApiError, ErrorKind};
use rep_control::config::{MetaDisk, VolumeConfig};
use rep_disk::{BlockingStorage, Disk, OpenError};
use rep_meta::{
    CreateError, CreateParameters, Identity, InitialBitmap, Layout, LayoutOptions, MetaStorage, Placement, Probe,
    find_former_end, probe,
};
use rep_types::SECTOR_SIZE;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a disk in use is waited for: a daemon that starts looks at its disks for a moment, in vain as long as they have
/// no metadata.
const PATIENCE: Duration = Duration::from_secs(3);

/// A volume that may be written to: its disks are open and locked.
struct Prepared<'a> {
    volume: &'a VolumeConfig,
    identity: Identity,
    disk: Disk,
    /// The metadata's own disk, when external.
    meta_disk: Option<Disk>,
    /// The metadata's file, made by us: taken away again when another volume can't be written to.
    made: Option<PathBuf>,
}

pub fn create(arguments: &CreateMdArguments, options: &Options) -> Result<(), Failure> {
    let found = volumes(&arguments.target, &arguments.file, arguments.node.as_deref())?;
    let mut all = Vec::new();
    for volume in &found.volumes {
        let identity = Identity { resource: found.resource.clone(), node: found.node.clone(), volume: volume.number };
        match prepare(volume, identity, arguments.force) {
            Ok(prepared) => all.push(prepared),
            Err(error) => {
                undo(&all);
                return Err(error.into());
            }
        }
    }
    for prepared in all {
        write(prepared, options)?;
    }
    Ok(())
}

fn undo(all: &[Prepared<'_>]) {
    for path in all.iter().filter_map(|prepared| prepared.made.as_ref()) {
        let _ = std::fs::remove_file(path);
    }
}

fn prepare(volume: &VolumeConfig, identity: Identity, force: bool) -> Result<Prepared<'_>, ApiError> {
    let name = identity.resource.to_string();
    let mut disk = open(&volume.disk, &name)?;
    let layout = Layout::for_device(disk.facts.size_bytes, placement(volume))
        .map_err(|error| ApiError::failed("DiskTooSmall", format!("{}: {error}", volume.disk.display())))?;
    let (mut meta_disk, mut made) = (None, None);
    match &volume.meta_disk {
        MetaDisk::Internal => {
            if !force {
                refuse_overlap(&mut disk, &volume.disk, layout.available_bytes)?;
            }
        }
        MetaDisk::External(path) => {
            made = allocate(path, layout.metadata_device_bytes)?.then(|| path.clone());
            meta_disk = Some(open(path, &name)?);
        }
    }
    let target = meta_disk.as_mut().unwrap_or(&mut disk);
    if !force && let Err(error) = refuse_metadata(target, volume, &name) {
        if let Some(path) = made {
            let _ = std::fs::remove_file(path);
        }
        return Err(error);
    }
    Ok(Prepared { volume, identity, disk, meta_disk, made })
}

fn open(path: &Path, resource: &str) -> Result<Disk, ApiError> {
    Disk::open(path, SECTOR_SIZE, PATIENCE).map_err(|error| {
        let message = format!("{} can't be used: {error}", path.display());
        let (reason, hint) = match error {
            OpenError::Missing => ("DiskMissing", "look at its path in the configuration".to_owned()),
            OpenError::InUse => ("DiskInUse", format!("if it is repd that has it, run 'repctl down {resource}' first")),
            OpenError::Mounted => ("DiskMounted", "unmount it first".to_owned()),
            OpenError::Permission => ("PermissionDenied", "run repctl as root or as the disk's owner".to_owned()),
            OpenError::TooSmall { .. } => ("DiskTooSmall", "give it a larger disk".to_owned()),
            _ => ("DiskUnusable", "nothing was changed".to_owned()),
        };
        let error = match error {
            // Another day it can be had: that is a matter of state.
            OpenError::InUse | OpenError::Mounted => ApiError::new(ErrorKind::Refused, reason, message),
            _ => ApiError::failed(reason, message),
        };
        error.with_hint(hint)
    })
}

fn storage(disk: &mut Disk) -> Result<BlockingStorage<'_>, ApiError> {
    BlockingStorage::new(disk).map_err(|error| ApiError::failed("SystemError", error.to_string()))
}

fn read_head(disk: &mut Disk, path: &Path) -> Result<Vec<u8>, ApiError> {
    let length = (HEAD_LENGTH as u64).min(disk.facts.size_bytes / 4096 * 4096) as usize;
    let mut head = vec![0; length];
    storage(disk)?
        .read(0, &mut head)
        .map_err(|error| ApiError::failed("DiskFailed", format!("{} can't be read: {error}", path.display())))?;
    Ok(head)
}

/// Refuses a disk with a file system or the like that reaches into where the metadata would go.
fn refuse_overlap(disk: &mut Disk, path: &Path, data_bytes: u64) -> Result<(), ApiError> {
    let Some(found) = foreign::recognise(&read_head(disk, path)?) else { return Ok(()) };
    if found.size_bytes.is_some_and(|size| size <= data_bytes) {
        return Ok(());
    }
    let message = format!("{} holds {}, and internal metadata would overwrite its end", path.display(), found.name);
    let hint = format!(
        "shrink it to {data_bytes} bytes first, or give the metadata a file of its own (meta-disk), or use --force if what it holds may go"
    );
    Err(ApiError::new(ErrorKind::Refused, "FileSystemFound", message).with_hint(hint))
}

/// Refuses metadata that is there already, and a metadata file or device with something else in it.
fn refuse_metadata(disk: &mut Disk, volume: &VolumeConfig, resource: &str) -> Result<(), ApiError> {
    let path = metadata_path(volume);
    let found = probe(&mut storage(disk)?, placement(volume))
        .map_err(|error| ApiError::failed("DiskFailed", format!("{} can't be read: {error}", path.display())))?;
    let refuse = |reason: &str, what: String| {
        let hint = "use --force if it may go: which data is newer and what the peer lacks is forgotten, and the peer's \
                    data is copied over this disk";
        Err(ApiError::new(ErrorKind::Refused, reason, format!("{} {what}", path.display())).with_hint(hint))
    };
    match found {
        Probe::Metadata(found) => {
            let (other, node, number) = (&found.resource, &found.node, found.volume);
            let whose = if other.as_str() == resource { "this resource" } else { "another resource" };
            refuse("MetadataFound", format!("holds metadata of {whose}: {other}/{number} on node {node}"))
        }
        Probe::Damaged => refuse("MetadataFound", "holds damaged metadata of repd".into()),
        Probe::Unknown(error) => {
            refuse("MetadataFound", format!("holds metadata of repd that this version can't read ({error})"))
        }
        Probe::Nothing if placement(volume) == Placement::External => {
            let head = read_head(disk, path)?;
            match foreign::recognise(&head) {
                Some(found) => refuse("FileSystemFound", format!("holds {}", found.name)),
                None if head.iter().any(|byte| *byte != 0) => {
                    refuse("ForeignData", "holds something that isn't repd's metadata".into())
                }
                None => Ok(()),
            }
        }
        Probe::Nothing => match find_former_end(&mut storage(disk)?) {
            Some(former) => {
                let (other, node, number) =
                    (&former.superblock.resource, &former.superblock.node, former.superblock.volume);
                let what = format!(
                    "has grown: the metadata of {other}/{number} on node {node} is where a disk of {} bytes ended, and still \
                     counts; 'repctl up' attaches it as it was",
                    former.device_bytes
                );
                refuse("DiskHasGrown", what)
            }
            None => Ok(()),
        },
    }
}

/// Makes a metadata file, or lets it grow, with its space really there. True when it was made. Devices are left alone.
fn allocate(path: &Path, needed_bytes: u64) -> Result<bool, ApiError> {
    let exists = path.exists();
    if exists && !path.is_file() {
        return Ok(false);
    }
    let failed = |error: io::Error| {
        let message = format!("the metadata file {} can't be made: {error}", path.display());
        match error.kind() {
            io::ErrorKind::StorageFull => ApiError::failed("NoSpace", message)
                .with_hint(format!("it needs {} ({needed_bytes} bytes)", bytes(needed_bytes))),
            io::ErrorKind::NotFound => {
                ApiError::failed("NoSuchDirectory", message).with_hint("make its directory first")
            }
            _ => ApiError::failed("MetadataFileFailed", message),
        }
    };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    if length >= needed_bytes {
        return Ok(!exists);
    }
    let allocated =
        posix_fallocate(&file, 0, needed_bytes as i64).map_err(io::Error::from).and_then(|()| file.sync_all());
    if let Err(error) = allocated {
        // What was there before keeps its length; what wasn't there before goes.
        let _ = if exists { file.set_len(length) } else { std::fs::remove_file(path) };
        return Err(failed(error));
    }
    Ok(!exists)
}

fn write(mut prepared: Prepared<'_>, options: &Options) -> Result<(), Failure> {
    let path = metadata_path(prepared.volume).display().to_string();
    let parameters = CreateParameters {
        identity: prepared.identity.clone(),
        device_uuid: random()?,
        placement: placement(prepared.volume),
        device_bytes: prepared.disk.facts.size_bytes,
        options: LayoutOptions::default(),
        bitmap: InitialBitmap::default(),
    };
    let target = prepared.meta_disk.as_mut().unwrap_or(&mut prepared.disk);
    let (superblock, layout) = rep_meta::create(&mut storage(target)?, &parameters).map_err(|error| {
        let reason = match error {
            CreateError::Layout(_) | CreateError::MetadataDeviceTooSmall { .. } => "DiskTooSmall",
            CreateError::Io(_) => "DiskFailed",
        };
        ApiError::failed(reason, format!("metadata could not be written to {path}: {error}"))
    })?;
    tell(&prepared.identity, &path, &superblock, &layout, options)
}

fn random() -> Result<u128, ApiError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| ApiError::failed("NoRandomness", error.to_string()))?;
    Ok(u128::from_le_bytes(bytes))
}

fn tell(
    identity: &Identity,
    path: &str,
    superblock: &rep_meta::Superblock,
    layout: &Layout,
    options: &Options,
) -> Result<(), Failure> {
    let (resource, volume, node) = (&identity.resource, identity.volume, &identity.node);
    if options.json {
        return print_json(&serde_json::json!({
            "resource": resource, "volume": volume, "node": node, "path": path,
            "device_uuid": format!("{:032x}", superblock.device_uuid),
            "available_bytes": layout.available_bytes, "activity_log_extents": layout.log_slots,
        }));
    }
    print(&format!(
        "{resource}/{volume} on {node}: fresh metadata on {path}; {} for data, {} extents in the activity log\n",
        bytes(layout.available_bytes),
        layout.log_slots
    ))
}
