//! From a configuration to a data thread's options.

use rep_control::api::ApiError;
use rep_control::config::{
    self, ArchiveBlocks, Device, Durability, MetaDisk, NodeConfig, ResourceConfig, VolumeConfig,
};
use rep_engine::{ArchiveScope, EngineConfig, Tunables};
use rep_types::NodeName;
use repd::resource::{DeviceOptions, MEMORY_BYTES_DEFAULT, MetaPlacement, ResourceOptions, Secret, VolumeOptions};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

/// Everything a data thread must know. Reads the secret's file.
pub fn options(
    config: &ResourceConfig,
    node: &NodeName,
    sockets: &BTreeMap<u16, OwnedFd>,
) -> Result<ResourceOptions, ApiError> {
    let unknown = || ApiError::failed("NoSuchNode", format!("{} has no node {node}", config.name));
    let own = config.node(node.as_str()).ok_or_else(unknown)?;
    let peer = config.peer_of(node.as_str()).ok_or_else(unknown)?;
    Ok(ResourceOptions {
        name: config.name.clone(),
        node: own.name.clone(),
        peer: peer.name.clone(),
        engine: engine(config),
        secret: secret(config)?,
        listen: own.address,
        peer_address: peer.address,
        connect_interval: config.net.connect_interval,
        volumes: volumes(own, sockets)?,
        archive_dir: config.archive.directory.clone(),
        memory_bytes_max: MEMORY_BYTES_DEFAULT,
    })
}

/// What of the engine's configuration can change under way.
pub fn tunables(config: &ResourceConfig) -> Tunables {
    (&engine(config)).into()
}

fn engine(config: &ResourceConfig) -> EngineConfig {
    EngineConfig {
        timeout: config.net.timeout,
        ping_interval: config.net.ping_interval,
        ping_timeout: config.net.ping_timeout,
        ko_count: config.net.ko_count,
        stable: config.durability == Durability::Stable,
        resync_rate_max: config.resync.max_rate_bytes_per_s,
        disk_timeout: config.disk_timeout,
        fencing: config.fencing.policy(),
        on_io_error: config.on_io_error.policy(),
        on_no_data: config.on_no_data.policy(),
        asks_before_resync: !config.handlers.before_resync_target.is_empty(),
        split_brain: config.split_brain.policies(),
        archive: config.archive.directory.as_ref().map(|_| match config.archive.blocks {
            ArchiveBlocks::Differing => ArchiveScope::Differing,
            ArchiveBlocks::All => ArchiveScope::All,
        }),
        // Volumes, order and seed are the data thread's to fill in.
        ..EngineConfig::new(false, 0)
    }
}

fn secret(config: &ResourceConfig) -> Result<Option<Secret>, ApiError> {
    let Some(path) = &config.net.shared_secret_file else { return Ok(None) };
    let (secret, warning) =
        config::read_secret(path).map_err(|error| ApiError::failed("SecretUnreadable", error.to_string()))?;
    if let Some(warning) = warning {
        tracing::warn!(resource = %config.name, "{warning}");
    }
    Ok(Some(Secret(secret.into_bytes())))
}

fn volumes(node: &NodeConfig, sockets: &BTreeMap<u16, OwnedFd>) -> Result<Vec<VolumeOptions>, ApiError> {
    node.volumes.iter().map(|config| volume(config, sockets.get(&config.number.0))).collect()
}

fn volume(config: &VolumeConfig, socket: Option<&OwnedFd>) -> Result<VolumeOptions, ApiError> {
    let listen_fd = socket.map(OwnedFd::try_clone).transpose();
    Ok(VolumeOptions {
        number: config.number,
        disk: config.disk.clone(),
        meta: match &config.meta_disk {
            MetaDisk::Internal => MetaPlacement::Internal,
            MetaDisk::External(path) => MetaPlacement::External(path.clone()),
        },
        device: device(&config.device),
        listen_fd: listen_fd.map_err(|error| ApiError::failed("SystemError", format!("a passed socket: {error}")))?,
    })
}

fn device(device: &Device) -> DeviceOptions {
    match device {
        Device::NbdUnix(path) => DeviceOptions::NbdUnix(path.clone()),
        Device::NbdTcp(address) => DeviceOptions::NbdTcp(*address),
        Device::Ublk => DeviceOptions::Ublk,
        Device::NbdKernel => DeviceOptions::NbdKernel,
    }
}
