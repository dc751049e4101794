//! `primary`, and waiting for the device.

use super::{verb, wait};
use crate::Failure;
use crate::cli::{Options, PrimaryArguments};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use rep_control::api::{ApiError, Verb, VerbRequest, VolumeStatus};
use rep_control::device_link;
use std::path::Path;
use std::time::{Duration, Instant};

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(50);

pub fn run(arguments: &PrimaryArguments, options: &Options) -> Result<(), Failure> {
    let request = VerbRequest { force: arguments.force, ..Default::default() };
    let answer = verb::ask(&arguments.target, Verb::Primary, request, options)?;
    if arguments.wait_device {
        wait_device(&arguments.target.resource, options)?;
    }
    verb::tell(&answer, options)
}

/// Waits until every volume's device is there under its name and can be opened: udev may make nodes, or give them their
/// rights, later than the kernel has the device.
pub fn wait_device(resource: &str, options: &Options) -> Result<(), ApiError> {
    let deadline = Instant::now() + options.timeout;
    loop {
        let status = wait::look(resource, options, deadline)?;
        let missing = status.volumes.iter().find_map(|volume| Some((volume, missing(resource, volume)?)));
        let Some((volume, why)) = missing else { return Ok(()) };
        if Instant::now() >= deadline {
            let message = format!("the device of volume {} of {resource} can't be used yet: {why}", volume.number);
            return Err(ApiError::timed_out(message).with_hint("--timeout waits longer; see repd's log"));
        }
        std::thread::sleep(PAUSE);
    }
}

/// Why a volume's device can't be used yet.
fn missing(resource: &str, volume: &VolumeStatus) -> Option<String> {
    if let Some(socket) = volume.device.strip_prefix("nbd:unix:") {
        return (!Path::new(socket).exists()).then(|| format!("{socket} isn't there"));
    }
    if volume.device.starts_with("nbd:tcp:") {
        return None;
    }
    let device = Path::new(&volume.device);
    if !device.is_absolute() {
        return Some(format!("there is no {} device yet", volume.device));
    }
    if let Err(error) = open(device, OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK, Mode::empty()) {
        return Some(format!("{}: {error}", device.display()));
    }
    let name = device_link(resource, volume.number);
    let leads = std::fs::canonicalize(&name).is_ok_and(|to| to == device);
    (!leads).then(|| format!("{} doesn't lead to it", name.display()))
}
