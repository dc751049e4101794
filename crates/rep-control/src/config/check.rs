//! What resources take for themselves, compared: no address, disk or socket may have two owners.

use super::problem::{Place, Problem};
use super::types::Device;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};

/// What is taken.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Claimed {
    /// An address of the peer link.
    LinkAddress(SocketAddr),
    /// A disk, for data or metadata.
    Disk(PathBuf),
    /// A unix socket of an export.
    ExportSocket(PathBuf),
    /// A TCP address of an export.
    ExportAddress(SocketAddr),
}

impl Claimed {
    /// What a device takes.
    pub fn of_device(device: &Device) -> Option<Self> {
        match device {
            Device::NbdUnix(path) => Some(Self::ExportSocket(path.clone())),
            Device::NbdTcp(address) => Some(Self::ExportAddress(*address)),
            Device::Ublk | Device::NbdKernel => None,
        }
    }
}

/// Who takes what, and where he says so.
pub(super) struct Claim {
    pub claimed: Claimed,
    pub place: Place,
    pub resource: String,
    pub node: String,
    pub owner: String,
}

impl Claim {
    /// Claims that may clash share this key.
    fn key(&self) -> (String, String) {
        match &self.claimed {
            Claimed::LinkAddress(address) | Claimed::ExportAddress(address) => {
                (String::new(), address.port().to_string())
            }
            Claimed::Disk(path) | Claimed::ExportSocket(path) => {
                (self.node.clone(), format!("path {}", plain(path).display()))
            }
        }
    }

    /// Why the two can't both hold.
    fn clash(&self, other: &Claim) -> Option<String> {
        let same_node = self.node == other.node;
        match (&self.claimed, &other.claimed) {
            (Claimed::LinkAddress(a), Claimed::LinkAddress(b)) => {
                (a == b).then(|| format!("the address {a} is taken twice"))
            }
            (Claimed::Disk(a), Claimed::Disk(_)) => Some(format!("the disk {} is taken twice", a.display())),
            (Claimed::Disk(a), Claimed::ExportSocket(_)) | (Claimed::ExportSocket(_), Claimed::Disk(a)) => {
                Some(format!("{} can't be a disk and a socket at once", a.display()))
            }
            (Claimed::ExportSocket(a), Claimed::ExportSocket(_)) => {
                (self.resource != other.resource).then(|| format!("the socket {} is taken twice", a.display()))
            }
            (Claimed::ExportAddress(a), Claimed::ExportAddress(b)) => {
                let clash = same_node && self.resource != other.resource && overlap(*a, *b);
                clash.then(|| format!("the address {a} is taken twice"))
            }
            (Claimed::LinkAddress(a), Claimed::ExportAddress(b))
            | (Claimed::ExportAddress(b), Claimed::LinkAddress(a)) => {
                (same_node && overlap(*a, *b)).then(|| format!("the address {b} is that of the peer link, too"))
            }
            _ => None,
        }
    }
}

/// A path without detours, as far as its text tells: the same disk may be written in several ways.
fn plain(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut plain, part| {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            other => plain.push(other),
        }
        plain
    })
}

/// Whether one node can't listen on both.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port() && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}

/// Tells every claim that clashes with an earlier one.
pub(super) fn claims(claims: &[Claim], problems: &mut Vec<Problem>) {
    let mut met: HashMap<_, Vec<&Claim>> = HashMap::new();
    for claim in claims {
        let earlier = met.entry(claim.key()).or_default();
        if let Some((other, clash)) = earlier.iter().find_map(|other| Some((other, claim.clash(other)?))) {
            let help = format!("{} takes it already, at {}", other.owner, other.place);
            problems.push(Problem::error(clash).at(claim.place.clone(), format!("for {}", claim.owner)).help(help));
        }
        earlier.push(claim);
    }
}
