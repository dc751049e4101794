//! One volume under torture: its two disks, what its clients know of it, and these clients.

use rep_tests::faulty_disk::FaultyDisk;
use rep_tests::ledger::{Lost, Report};
use rep_tests::load::{ClientEnd, Load, LoadOptions};
use rep_tests::nbd::Connection;
use rep_tests::{Ledger, Node};
use std::io;
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug)]
pub struct Volume {
    pub number: usize,
    /// Alpha's and beta's.
    pub disks: [FaultyDisk; 2],
    pub ledger: Arc<Ledger>,
    /// What the faults since the last look may have taken.
    pub lost: Lost,
    /// The Primary that has lived through it, with what its clients are owed.
    pub witness: Option<usize>,
    load: Option<Load>,
}

impl Volume {
    /// A volume of this many bytes that nobody has written to.
    pub fn new(number: usize, disks: [FaultyDisk; 2], bytes: u64) -> Volume {
        Volume { number, disks, ledger: Arc::new(Ledger::new(bytes)), lost: Lost::OneNode, witness: None, load: None }
    }

    /// Bytes of the volume.
    pub fn bytes(&self) -> u64 {
        u64::from(self.ledger.sectors()) * 512
    }

    /// Clients work on this node, if none do. Not after a loss of what wasn't flushed: the ledger must see first what is left, or
    /// it would take a later flush for one of what is gone.
    pub fn begin_load(&mut self, node: &Node, seed: u64) {
        if self.lost == Lost::Unflushed || self.load.is_some() {
            return;
        }
        // Mostly not as fast as they can: else every block is out-of-sync in a second, and no bit could be wrong.
        let pause = Duration::from_micros(if seed.is_multiple_of(4) { 0 } else { 700 });
        // Few flushes, so that a power cut finds something to take.
        let seed = seed.wrapping_add((self.number as u64) << 32);
        let options = LoadOptions { seed: Some(seed), pause, flushes: 1, forced: 2, ..LoadOptions::default() };
        let (address, export) = (node.address_of(self.number), node.export_of(self.number));
        self.load = Some(Load::start(&self.ledger, &address, &export, &options));
    }

    /// Whether clients work.
    pub fn has_load(&self) -> bool {
        self.load.is_some()
    }

    /// Waits for more answers to the clients, if there are any.
    pub fn wait_for_answers(&self, more: u64, deadline: Duration) {
        self.load.iter().for_each(|load| load.wait_for(more, deadline));
    }

    /// The clients end, if there are any.
    pub fn end_load(&mut self) -> Vec<ClientEnd> {
        self.load.take().map(Load::end).unwrap_or_default()
    }

    /// Bytes in which the disks differ, and where the first is.
    pub fn differing_bytes(&self) -> (u64, Option<u64>) {
        self.disks[0].differing_bytes(&self.disks[1], self.bytes())
    }

    /// Reads everything through this node and has the ledger judge it.
    pub fn look(&self, node: &Node) -> Report {
        let mut connection = node.connection_of(self.number);
        let report = self.ledger.verify(self.lost, |at, buffer| connection.read(at, buffer));
        let _ = connection.close();
        report
    }

    /// A flush through this node, and a second if it fails; what was wrong with either.
    pub fn flush(&self, node: &Node) -> [Option<io::Error>; 2] {
        let mut connection = node.connection_of(self.number);
        let first = self.flush_once(&mut connection);
        let again = first.as_ref().and_then(|_| self.flush_once(&mut connection));
        let _ = connection.close();
        [first, again]
    }

    fn flush_once(&self, connection: &mut Connection) -> Option<io::Error> {
        let pending = self.ledger.begin_flush();
        let error = connection.flush().err();
        self.ledger.end_flush(pending, error.is_none());
        error
    }
}
