//! `create-md` and `dump-md`: the verbs that work on disks themselves, without the daemon.
//!
//! `create-md` looks at everything it would touch first, and changes nothing unless all of it may be touched: a disk
//! that is missing, in use, mounted, too small, another resource's, or that holds a file system is left as it is.

mod create;
mod dump;
mod foreign;

pub use create::create;
pub use dump::dump;

use crate::Failure;
use crate::cli::ConfigFile;
use crate::commands::config;
use crate::target::Target;
use rep_control::api::{ApiError, ErrorKind};
use rep_control::config::{MetaDisk, VolumeConfig};
use rep_meta::Placement;
use rep_types::{NodeName, Refusal, ResourceName};
use std::path::Path;

/// The volumes a verb is about, on this node.
struct Volumes {
    resource: ResourceName,
    node: NodeName,
    volumes: Vec<VolumeConfig>,
}

fn volumes(target: &Target, file: &ConfigFile, node: Option<&str>) -> Result<Volumes, Failure> {
    let config = config::load(file)?;
    let node = config.choose_node(node).map_err(|sentence| ApiError::new(ErrorKind::Config, "NoSuchNode", sentence))?;
    let resource = config.resource(&target.resource).ok_or_else(|| {
        let names: Vec<_> = config.resources.iter().map(|resource| resource.name.as_str()).collect();
        let message = format!("{} has no resource \"{}\"", file.config.display(), target.resource);
        ApiError::usage("NoSuchResource", message).with_hint(format!("it knows: {}", names.join(", ")))
    })?;
    let own = resource.node(node.as_str()).ok_or_else(|| {
        let names: Vec<_> = resource.nodes.iter().map(|node| node.name.as_str()).collect();
        let message = format!("the resource \"{}\" has no node \"{node}\"", resource.name);
        ApiError::new(ErrorKind::Config, "NoSuchNode", message)
            .with_hint(format!("name one with --node: {}", names.join(", ")))
    })?;
    let wanted = |volume: &&VolumeConfig| target.volume.is_none_or(|number| volume.number.0 == number);
    let volumes: Vec<_> = own.volumes.iter().filter(wanted).cloned().collect();
    if volumes.is_empty() {
        return Err(ApiError::refused(Refusal::NoSuchVolume, &target.resource).into());
    }
    Ok(Volumes { resource: resource.name.clone(), node, volumes })
}

fn placement(volume: &VolumeConfig) -> Placement {
    match volume.meta_disk {
        MetaDisk::Internal => Placement::Internal,
        MetaDisk::External(_) => Placement::External,
    }
}

/// Where the metadata of a volume is.
fn metadata_path(volume: &VolumeConfig) -> &Path {
    match &volume.meta_disk {
        MetaDisk::Internal => &volume.disk,
        MetaDisk::External(path) => path,
    }
}
