//! A portal: one address, the volumes that are offered there, and its listening socket.

use super::Catalog;
use crate::resource::DeviceOptions;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::sockopt::{Ipv6V6Only, KeepAlive, ReuseAddr, TcpNoDelay};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, UnixAddr, bind, connect, listen, setsockopt, socket,
};
use nix::sys::stat::{Mode, fchmod, stat};
use rep_engine::Offer;
use rep_nbd::{Export, ExportCatalog, ExportFeatures, ExportId};
use rep_types::{ResourceName, VolumeNumber};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

/// A volume's device.
pub(in super::super) struct PortalOptions {
    pub volume: VolumeNumber,
    pub device: DeviceOptions,
    /// A socket that listens already.
    pub listen_fd: Option<OwnedFd>,
}

struct Offered {
    volume: VolumeNumber,
    export: Option<Offer>,
}

/// An address and what is offered there.
pub(super) struct Portal {
    resource: ResourceName,
    /// Durability is "stable".
    stable: bool,
    device: DeviceOptions,
    passed: Option<OwnedFd>,
    volumes: Vec<Offered>,
    catalog: Catalog,
    /// The socket file of ours, to be removed: device and inode.
    file: Option<(u64, u64)>,
    problem: Option<io::Error>,
}

impl Portal {
    /// One portal for each address.
    pub fn group(resource: &ResourceName, stable: bool, volumes: Vec<PortalOptions>) -> Vec<Portal> {
        let mut portals: Vec<Portal> = Vec::new();
        for PortalOptions { volume, device, listen_fd } in volumes {
            let offered = Offered { volume, export: None };
            match portals.iter_mut().find(|portal| portal.device == device) {
                Some(portal) => portal.volumes.push(offered),
                None => portals.push(Portal {
                    resource: resource.clone(),
                    stable,
                    device,
                    passed: listen_fd,
                    volumes: vec![offered],
                    catalog: Catalog::default(),
                    file: None,
                    problem: None,
                }),
            }
        }
        portals
    }

    pub fn serves(&self, volume: VolumeNumber) -> bool {
        self.volumes.iter().any(|offered| offered.volume == volume)
    }

    pub fn offers(&self, volume: VolumeNumber) -> bool {
        self.problem.is_none()
            && self.volumes.iter().any(|offered| offered.volume == volume && offered.export.is_some())
    }

    /// Whether nothing is offered.
    pub fn is_idle(&self) -> bool {
        self.volumes.iter().all(|offered| offered.export.is_none())
    }

    /// Whether there is an address to listen at; the kernel doesn't come by one.
    pub fn listens(&self) -> bool {
        self.device != DeviceOptions::NbdKernel
    }

    /// What is offered of a volume.
    pub fn export_of(&self, volume: VolumeNumber) -> Option<&Export> {
        self.catalog.get(export_id(volume))
    }

    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    pub fn offer(&mut self, volume: VolumeNumber, offer: Offer) {
        self.set(volume, Some(offer));
    }

    pub fn withdraw(&mut self, volume: VolumeNumber) {
        self.set(volume, None);
    }

    pub fn withdraw_all(&mut self) {
        self.volumes.iter_mut().for_each(|offered| offered.export = None);
        self.catalog = Catalog::default();
    }

    fn set(&mut self, volume: VolumeNumber, export: Option<Offer>) {
        if let Some(offered) = self.volumes.iter_mut().find(|offered| offered.volume == volume) {
            offered.export = export;
        }
        let default = match self.volumes.as_slice() {
            [only] => Some(export_id(only.volume)),
            _ => None,
        };
        let exports = self.volumes.iter().filter_map(|offered| self.export(offered)).collect();
        self.catalog = ExportCatalog::new(exports, default);
    }

    /// `RESOURCE` and `RESOURCE/0` for volume 0, `RESOURCE/N` for the others. Names of resources are short and blocks
    /// are a disk's: none of this can be refused.
    fn export(&self, offered: &Offered) -> Option<Export> {
        let Offer { size_bytes, block_bytes, discards, volatile_cache } = offered.export?;
        let numbered = format!("{}/{}", self.resource, offered.volume);
        let name = if offered.volume.0 == 0 { self.resource.as_str() } else { &numbered };
        // Clients of a socket may take it ill when a flush isn't offered, and one that finds nothing costs next to nothing.
        let volatile_cache = volatile_cache || self.listens() && !self.stable;
        let features = ExportFeatures { volatile_cache, trim: discards, ..ExportFeatures::default() };
        let export = Export::new(export_id(offered.volume), name, size_bytes, block_bytes).ok()?;
        Some(export.with_alias(&numbered).ok()?.with_features(features))
    }

    /// Why the address isn't listened at although something is offered.
    pub fn problem(&self) -> Option<String> {
        self.problem.as_ref().map(|error| format!("can't listen at {}: {error}", self.device))
    }

    /// A listening socket; an error is kept as the problem.
    pub fn open(&mut self) -> Result<OwnedFd, ()> {
        let opened = match (&self.passed, &self.device) {
            (Some(passed), _) => passed.try_clone(),
            (None, DeviceOptions::NbdUnix(path)) => listen_unix(path),
            (None, DeviceOptions::NbdTcp(address)) => listen_tcp(*address),
            (None, DeviceOptions::Ublk | DeviceOptions::NbdKernel) => Err(io::ErrorKind::Unsupported.into()),
        };
        if let (Ok(_), None, DeviceOptions::NbdUnix(path)) = (&opened, &self.passed, &self.device) {
            self.file = identity(path);
        }
        match opened {
            Ok(socket) => {
                self.problem = None;
                Ok(socket)
            }
            Err(error) => {
                if self.problem.as_ref().is_none_or(|before| before.kind() != error.kind()) {
                    tracing::warn!("can't listen at {}: {error}", self.device);
                }
                self.problem = Some(error);
                Err(())
            }
        }
    }

    /// The socket was closed: its file goes, if it is still ours.
    pub fn closed(&mut self) {
        self.problem = None;
        let DeviceOptions::NbdUnix(path) = &self.device else { return };
        if let Some(file) = self.file.take()
            && identity(path) == Some(file)
        {
            // Somebody else may have been faster.
            let _ = std::fs::remove_file(path);
        }
    }

    pub fn set_options(&self, socket: &OwnedFd) {
        if matches!(self.device, DeviceOptions::NbdTcp(_)) {
            // A client whose socket takes no options is still a client.
            let _ = setsockopt(socket, TcpNoDelay, &true);
            let _ = setsockopt(socket, KeepAlive, &true);
        }
    }
}

impl Drop for Portal {
    fn drop(&mut self) {
        self.closed();
    }
}

fn export_id(volume: VolumeNumber) -> ExportId {
    ExportId(u32::from(volume.0))
}

/// The volume of an export.
pub(super) fn volume_of(export: ExportId) -> VolumeNumber {
    VolumeNumber(export.0 as u16)
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    stat(path).ok().map(|facts| (facts.st_dev, facts.st_ino))
}

fn listen_tcp(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, ReuseAddr, &true)?;
    if address.is_ipv6() {
        setsockopt(&socket, Ipv6V6Only, &true)?;
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    listen(&socket, Backlog::new(64)?)?;
    Ok(socket)
}

/// A unix socket only its owner may use. A file left behind by a daemon that was killed is replaced; one that
/// somebody listens on isn't, nor is anything that isn't a socket.
fn listen_unix(path: &Path) -> io::Result<OwnedFd> {
    let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    // The file takes over the socket's mode when it is bound: there is no moment at which others may use it.
    fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
    let address = UnixAddr::new(path)?;
    match bind(socket.as_raw_fd(), &address) {
        Err(Errno::EADDRINUSE) if is_stale(path, &address) => {
            std::fs::remove_file(path)?;
            bind(socket.as_raw_fd(), &address)?;
        }
        other => other?,
    }
    listen(&socket, Backlog::new(64)?)?;
    Ok(socket)
}

fn is_stale(path: &Path, address: &UnixAddr) -> bool {
    let is_socket = stat(path).is_ok_and(|facts| facts.st_mode & libc::S_IFMT == libc::S_IFSOCK);
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let probe = socket(AddressFamily::Unix, SockType::Stream, flags, None);
    is_socket && probe.is_ok_and(|probe| connect(probe.as_raw_fd(), address) == Err(Errno::ECONNREFUSED))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const OFFER: Offer = Offer { size_bytes: 1 << 20, block_bytes: 512, discards: true, volatile_cache: true };

    #[test]
    fn a_socket_left_behind_is_replaced_and_a_living_one_is_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("vz.sock");
        let first = listen_unix(&path).expect("listen");
        assert_eq!(std::fs::metadata(&path).expect("the file").permissions().mode() & 0o777, 0o600);
        assert_eq!(listen_unix(&path).expect_err("in use").raw_os_error(), Some(libc::EADDRINUSE));
        drop(first);
        listen_unix(&path).expect("listen again");
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("vz.sock");
        std::fs::write(&path, "precious").expect("write");
        assert!(listen_unix(&path).is_err());
        assert_eq!(std::fs::read(&path).expect("read"), b"precious");
    }

    #[test]
    fn names_follow_the_volumes_of_a_socket() {
        let options = |volume| PortalOptions {
            volume: VolumeNumber(volume),
            device: DeviceOptions::NbdUnix("/run/repd/vz.sock".into()),
            listen_fd: None,
        };
        let name = ResourceName::new("vz").expect("a name");
        let mut one = Portal::group(&name, false, vec![options(0)]);
        one[0].offer(VolumeNumber(0), OFFER);
        for known in ["vz", "vz/0", ""] {
            assert!(one[0].catalog().find(known.as_bytes()).is_some(), "{known}");
        }
        let mut two = Portal::group(&name, false, vec![options(0), options(1)]);
        assert_eq!(two.len(), 1);
        two[0].offer(VolumeNumber(1), OFFER);
        assert!(two[0].catalog().find(b"vz/1").is_some());
        assert!(two[0].catalog().find(b"").is_none() && two[0].catalog().find(b"vz").is_none());
        two[0].withdraw(VolumeNumber(1));
        assert!(two[0].is_idle() && two[0].catalog().exports().is_empty());
    }
}
