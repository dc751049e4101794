//! The ring of a data thread and the operations in flight on it: every completion finds its way back from here.

use super::disks::DiskOperation;
use super::nbd::NbdOperation;
use super::ublk::UblkOperation;
use rep_peer::PeerOperation;
use rep_ring::{Entry, Key, Ring, Slab, Submit};

/// An operation in flight.
pub(super) enum Operation {
    /// The read of the event counter others wake the thread by.
    Wake,
    Disk(DiskOperation),
    Peer(PeerOperation),
    Nbd(NbdOperation),
    Ublk(UblkOperation),
}

pub(super) struct Io {
    pub ring: Ring,
    pub operations: Slab<Operation>,
}

impl Io {
    /// # Safety
    /// As for [`Ring::push`].
    pub unsafe fn push(&mut self, entry: Entry, operation: Operation) -> Key {
        let key = self.operations.insert(operation);
        // SAFETY: handed on.
        unsafe { self.ring.push(entry, key) };
        key
    }
}

impl Submit<PeerOperation> for Io {
    unsafe fn submit(&mut self, entry: Entry, operation: PeerOperation) -> Key {
        // SAFETY: handed on.
        unsafe { self.push(entry, Operation::Peer(operation)) }
    }
}

impl Submit<NbdOperation> for Io {
    unsafe fn submit(&mut self, entry: Entry, operation: NbdOperation) -> Key {
        // SAFETY: handed on.
        unsafe { self.push(entry, Operation::Nbd(operation)) }
    }
}

impl Submit<UblkOperation> for Io {
    unsafe fn submit(&mut self, entry: Entry, operation: UblkOperation) -> Key {
        // SAFETY: handed on.
        unsafe { self.push(entry, Operation::Ublk(operation)) }
    }
}
