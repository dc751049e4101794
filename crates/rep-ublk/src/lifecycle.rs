//! The orders of steps that make, take over and remove a device. All of them wait; none is for the thread that answers
//! requests.
//!
//! ```text
//!            add, set parameters ─┐                          ┌─ start ──────────┐
//!  (nothing) ─────────────────────┴► open, (fetch them all) ─┤                  ├► live ── stop, (all aborted, closed), delete ─► (nothing)
//!  left behind ── start recovery ──►                         └─ end recovery ───┘
//! ```
//! What stands in brackets is the data path's.

use crate::abi::{self, ANY_DEVICE, DeviceInfo, STATE_DEAD};
use crate::control::Control;
use crate::device::Device;
use crate::error::UblkError;
use crate::features::Features;
use crate::fingerprint::Fingerprint;
use crate::limits::{IO_BYTES_MAX, NODE_PATIENCE, QUEUES_MAX, RETRY_PAUSE, TAKEOVER_PATIENCE};
use crate::parameters::DeviceLimits;
use nix::errno::Errno;
use nix::libc;
use rep_types::{LeftDevice, SECTOR_SIZE};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Blocks larger than this aren't taken by the driver.
const BLOCK_BYTES_MAX: u32 = 4096;

/// What a device shall be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeviceOptions {
    /// Whose it is.
    pub fingerprint: Fingerprint,
    /// What the volume allows.
    pub limits: DeviceLimits,
    /// Queues, if it is made anew.
    pub queues: u16,
    /// Requests a queue, if it is made anew.
    pub depth: u16,
}

/// How a device came to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// It was made.
    Added,
    /// It was left behind by a server that is gone. Whoever has it open never noticed.
    TakenOver,
}

/// A device that was made or taken over and waits for its requests to be fetched for.
pub struct Prepared {
    /// The device.
    pub device: Device,
    /// How it came to be.
    pub origin: Origin,
    /// How far requests may reach: the volume's bytes, or those of a device that was left behind before the volume grew.
    pub size_bytes: u64,
    /// What the driver can do.
    pub features: Features,
}

/// Makes a device, or takes over the one that was left behind.
pub fn prepare(options: &DeviceOptions) -> Result<Prepared, UblkError> {
    if options.limits.logical_block_bytes > BLOCK_BYTES_MAX {
        return Err(UblkError::BlockSize(options.limits.logical_block_bytes));
    }
    let (mut control, features) = Control::open()?;
    if let Some(info) = find_with(&mut control, options.fingerprint)? {
        if info.state != STATE_DEAD {
            let (device, size_bytes) = take_over(&mut control, &info, options)?;
            return Ok(Prepared { device, origin: Origin::TakenOver, size_bytes, features });
        }
        // Never started, or stopped and not deleted. Who had it open when it was given up has a dead one.
        delete_dead(&mut control, info.dev_id)?;
    }
    let size_bytes = options.limits.size_bytes;
    add(&mut control, options).map(|device| Prepared { device, origin: Origin::Added, size_bytes, features })
}

/// Whether there is a device of a volume whose server is gone or going: to be taken over.
pub fn find(fingerprint: Fingerprint) -> Result<Option<DeviceInfo>, UblkError> {
    if !Path::new("/dev/ublk-control").exists() {
        return Ok(None);
    }
    let (mut control, _) = Control::open()?;
    Ok(find_with(&mut control, fingerprint)?.filter(|info| info.state != STATE_DEAD))
}

/// What whoever has such a device open was told of it.
pub fn left_device(fingerprint: Fingerprint) -> Result<Option<LeftDevice>, UblkError> {
    let Some(info) = find(fingerprint)? else { return Ok(None) };
    let (mut control, _) = Control::open()?;
    let told = control.parameters(info.dev_id)?;
    let (block_bytes, volatile_cache) = (told.logical_block_bytes(), told.has_volatile_cache());
    Ok(Some(LeftDevice { block_bytes, volatile_cache }))
}

fn find_with(control: &mut Control, fingerprint: Fingerprint) -> Result<Option<DeviceInfo>, UblkError> {
    for id in device_numbers() {
        if let Some(info) = control.info(id)?
            && info.server_flags == fingerprint.0
        {
            return Ok(Some(info));
        }
    }
    Ok(None)
}

/// The numbers of all devices there are.
fn device_numbers() -> Vec<u32> {
    let entries = std::fs::read_dir("/sys/class/ublk-char").into_iter().flatten().flatten();
    let mut numbers: Vec<u32> =
        entries.filter_map(|entry| entry.file_name().to_str()?.strip_prefix("ublkc")?.parse().ok()).collect();
    numbers.sort_unstable();
    numbers
}

fn add(control: &mut Control, options: &DeviceOptions) -> Result<Device, UblkError> {
    let info = control.add(&DeviceInfo {
        queues: options.queues,
        depth: options.depth,
        io_bytes_max: IO_BYTES_MAX,
        dev_id: ANY_DEVICE,
        flags: Features::NEEDED.0,
        server_flags: options.fingerprint.0,
        ..DeviceInfo::default()
    })?;
    let prepared =
        control.set_parameters(info.dev_id, &options.limits.parameters()).and_then(|()| open(&info, Duration::ZERO));
    if prepared.is_err() {
        // What can't be used isn't left lying about; the error that matters is the first.
        let _ = control.simple("deleting a device", abi::DEL_DEV, info.dev_id, 0);
    }
    prepared
}

/// Takes a device over; also returns how far its requests may reach.
fn take_over(control: &mut Control, info: &DeviceInfo, options: &DeviceOptions) -> Result<(Device, u64), UblkError> {
    let ours = Features(info.flags).has(Features::NEEDED) && info.queues <= QUEUES_MAX;
    if !ours || info.io_bytes_max > IO_BYTES_MAX {
        return Err(UblkError::Foreign(info.dev_id));
    }
    let parameters = control.parameters(info.dev_id)?;
    let device_bytes = parameters.device_sectors.saturating_mul(SECTOR_SIZE);
    let volume_bytes = options.limits.size_bytes / SECTOR_SIZE * SECTOR_SIZE;
    // That of a volume that has grown meanwhile keeps its size for now.
    if device_bytes > volume_bytes {
        return Err(UblkError::Size { id: info.dev_id, device_bytes, volume_bytes });
    }
    let (device_block, volume_block) = (parameters.logical_block_bytes(), options.limits.logical_block_bytes);
    if device_block < volume_block {
        return Err(UblkError::Blocks { id: info.dev_id, device_block, volume_block });
    }
    if options.limits.volatile_cache && !parameters.has_volatile_cache() {
        return Err(UblkError::Cache(info.dev_id));
    }
    let deadline = Instant::now() + TAKEOVER_PATIENCE;
    loop {
        match control.simple("taking a device over", abi::START_USER_RECOVERY, info.dev_id, 0) {
            // Its server is on its way out: the kernel is still taking requests back from it.
            Err(UblkError::Command { source, .. }) if source.raw_os_error() == Some(libc::EBUSY) => {}
            Err(error) => return Err(error),
            Ok(()) => break,
        }
        if Instant::now() >= deadline {
            return Err(UblkError::Served(info.dev_id));
        }
        sleep(RETRY_PAUSE);
    }
    let reach_bytes = if device_bytes < volume_bytes { device_bytes } else { options.limits.size_bytes };
    open(info, TAKEOVER_PATIENCE).map(|device| (device, reach_bytes))
}

/// Has a device that stands grow, under whoever has it open.
pub fn grow(id: u32, size_bytes: u64) -> Result<(), UblkError> {
    let (mut control, features) = Control::open()?;
    if !features.has(Features::UPDATE_SIZE) {
        return Err(UblkError::KeepsSize(id));
    }
    control.simple("growing a device", abi::UPDATE_SIZE, id, size_bytes / SECTOR_SIZE)
}

/// Opens the character device. Its node may be about to appear; the one who had it before may be about to let go.
fn open(info: &DeviceInfo, busy_patience: Duration) -> Result<Device, UblkError> {
    let begun = Instant::now();
    loop {
        let error = match Device::open(info.dev_id, info.queues, info.depth) {
            Ok(device) => return Ok(device),
            Err(error) => error,
        };
        let patience = match &error {
            UblkError::Node { source, .. } => match source.raw_os_error() {
                Some(libc::ENOENT | libc::EACCES) => NODE_PATIENCE,
                Some(libc::EBUSY) => busy_patience,
                _ => Duration::ZERO,
            },
            _ => Duration::ZERO,
        };
        if begun.elapsed() >= patience {
            return Err(error);
        }
        sleep(RETRY_PAUSE);
    }
}

/// Lets the block layer at a device. Returns when every request has been fetched for, which the data path must do meanwhile.
pub fn begin(id: u32, origin: Origin) -> Result<(), UblkError> {
    let (mut control, _) = Control::open()?;
    let pid = u64::from(std::process::id());
    match origin {
        Origin::Added => control.simple("starting a device", abi::START_DEV, id, pid),
        Origin::TakenOver => control.simple("ending the takeover", abi::END_USER_RECOVERY, id, pid),
    }
}

/// Takes the block device away: its requests must go on being answered until this returns.
pub fn stop(id: u32) -> Result<(), UblkError> {
    let (mut control, _) = Control::open()?;
    control.simple("stopping a device", abi::STOP_DEV, id, 0)
}

/// Ends a device that nobody serves, under whoever has it open: what waits there fails, and what comes. Its number.
pub fn give_up(fingerprint: Fingerprint) -> Result<Option<u32>, UblkError> {
    let Some(DeviceInfo { dev_id, .. }) = find(fingerprint)? else { return Ok(None) };
    let (mut control, _) = Control::open()?;
    control.simple("ending a device", abi::STOP_DEV, dev_id, 0)?;
    // An older driver doesn't know that: then it is deleted when the next is made, and is dead all the same.
    let _ = control.simple("deleting a dead device", abi::DEL_DEV_ASYNC, dev_id, 0);
    Ok(Some(dev_id))
}

/// Deletes a device that was stopped, which may still be open: an older driver waits for its last user.
fn delete_dead(control: &mut Control, id: u32) -> Result<(), UblkError> {
    match control.simple("deleting a dead device", abi::DEL_DEV_ASYNC, id, 0) {
        Err(UblkError::Command { source, .. }) if source.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        Err(_) => control.simple("deleting a dead device", abi::DEL_DEV, id, 0),
        Ok(()) => Ok(()),
    }
}

/// Deletes a device that was stopped and closed. One that is gone already is no error.
pub fn delete(id: u32) -> Result<(), UblkError> {
    let (mut control, _) = Control::open()?;
    match control.simple("deleting a device", abi::DEL_DEV, id, 0) {
        Err(UblkError::Command { source, .. }) if source.raw_os_error() == Some(Errno::ENODEV as i32) => Ok(()),
        other => other,
    }
}
