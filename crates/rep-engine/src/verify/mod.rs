//! Online verify: comparing two disks that should be equal, under load, without a false alarm.
//!
//! ```text
//!     leader                               peer
//!       ├───────────── Verify ─────────────►│
//!  lock ├────────── DigestRequest ─────────►│ lock, read, digest
//!       │◄──────────── Digests ─────────────┤
//!  read, digest, compare                    │
//!       ├─────────── DigestDone ───────────►│ mark what differs, unlock
//!       ├───────────── Verify ─────────────►│ ended
//! ```
//!
//! The range is locked in the tables of both nodes from before either reads it until both have been compared. A lock
//! is granted when the writes before it are answered by both disks, and holds back those after it, so both disks hold
//! the same bytes at that moment or never will: what is found differs (I-B9). Reads go on.
//!
//! What differs is marked on both sides, and counted. Nothing is copied unless the operator named the node to repair
//! from: a verify can't know which side is right.
//!
//! A verify ends early with the connection, a disk, or a new handshake; asked for again it goes on where it was (`record`).

mod follower;
mod record;

pub(crate) use follower::Follows;
pub(crate) use record::VerifyRecord;

use crate::action::{Action, Notice, Why};
use crate::command::{CommandError, CommandOutcome, Side};
use crate::event::Timestamp;
use crate::operation::{IoPurpose, Leg, Operation, OperationKind, Requester, Stage};
use crate::operator::Step;
use crate::slab::Key;
use crate::snapshot::VerifySnapshot;
use crate::volume::Volume;
use crate::{Engine, limits};
use rep_types::{
    BLOCK_SIZE, BlockRange, ByteRange, CommandId, DIGEST_LENGTH, DigestKey, DiskState, IoError, LinkCause, Refusal,
    ReplicationState, Role, planted,
};
use rep_wire::{ControlMessage, TransferId};
use std::collections::VecDeque;
use std::time::Duration;

/// A verify this node leads.
#[derive(Debug)]
pub(crate) struct Verify {
    /// Tells verifies apart.
    serial: u64,
    key: DigestKey,
    /// Where the next range begins, in bytes.
    cursor: u64,
    /// Ranges begun, in order, from the first on that hasn't been compared.
    window: VecDeque<VerifyRange>,
    /// Digests the peer sent, until ours are there.
    answers: Vec<(Key, Vec<u8>)>,
    pub(crate) not_before: Timestamp,
    started: Timestamp,
    /// Bytes compared since then.
    compared_bytes: u64,
    different_blocks: u64,
    repair_from: Option<Side>,
}

/// A range of a verify.
#[derive(Debug)]
struct VerifyRange {
    /// Where it begins, in bytes.
    offset: u64,
    /// Blocks found to differ, once it has been compared.
    different: Option<u64>,
}

impl Verify {
    /// The side whose data are right where a difference was found, if there was one and the operator has said it.
    fn good_side(&self) -> Option<Side> {
        self.repair_from.filter(|_| self.different_blocks > 0)
    }

    fn snapshot(&self, volume: &Volume, now: Timestamp) -> VerifySnapshot {
        let age = now.since(self.started).as_millis().max(1) as u64;
        VerifySnapshot {
            total_bytes: volume.size_bytes,
            done_bytes: self.first_open(),
            different_bytes: self.found_so_far() * BLOCK_SIZE,
            rate_bytes_per_s: self.compared_bytes * 1000 / age,
            halted_by: halted_by(volume),
        }
    }

    /// Everything before has been compared: ranges end in any order, the first may be the last.
    fn first_open(&self) -> u64 {
        if planted!("verify-resumes-late") {
            return self.cursor;
        }
        self.window.front().map_or(self.cursor, |range| range.offset)
    }

    fn found_so_far(&self) -> u64 {
        self.different_blocks + self.window.iter().filter_map(|range| range.different).sum::<u64>()
    }

    /// A range has been compared. What differs in it counts for good once everything before has been, too: a verify
    /// that goes on after an interruption compares it again otherwise.
    fn note_compared(&mut self, offset: u64, different: u64) {
        if let Some(range) = self.window.iter_mut().find(|range| range.offset == offset) {
            range.different = Some(different);
        }
        while let Some(different) = self.window.front().and_then(|range| range.different) {
            self.different_blocks += different;
            self.window.pop_front();
        }
    }
}

fn refused(refusal: Refusal) -> Option<Result<CommandOutcome, CommandError>> {
    Some(Err(CommandError::Refused(refusal)))
}

impl Engine {
    /// The operator asks for a verify. Returns as soon as it runs.
    pub(crate) fn verify_command(
        &mut self,
        index: usize,
        repair_from: Option<Side>,
    ) -> Option<Result<CommandOutcome, CommandError>> {
        let volume = &self.volumes[index];
        if !self.is_connected() {
            return refused(Refusal::NotConnected);
        }
        if self.handshake_under_way() {
            return refused(Refusal::HandshakeUnderWay);
        }
        if volume.local.is_none() || volume.detaching || !volume.peer_disk.takes_writes() {
            return refused(Refusal::Diskless);
        }
        if volume.resync.is_some() || volume.disk != DiskState::UpToDate || volume.peer_disk != DiskState::UpToDate {
            return refused(Refusal::ResyncUnderWay);
        }
        if volume.replication == ReplicationState::VerifyT {
            return refused(Refusal::Busy);
        }
        let victim_is_primary = match repair_from {
            Some(Side::Local) => self.peer_role == Some(Role::Primary),
            Some(Side::Peer) => self.role == Role::Primary,
            None => false,
        };
        if victim_is_primary {
            return refused(if repair_from == Some(Side::Peer) { Refusal::IsPrimary } else { Refusal::PeerIsPrimary });
        }
        if let Some(verify) = &mut self.volumes[index].verify {
            verify.repair_from = repair_from.or(verify.repair_from);
        } else {
            self.begin_verify(index, repair_from);
        }
        Some(Ok(CommandOutcome::Done))
    }

    fn begin_verify(&mut self, index: usize, repair_from: Option<Side>) {
        let (serial, now) = (self.next_serial(), self.now);
        let Some(key) = self.link.as_ref().map(|link| link.digest_key) else { return };
        let volume = &mut self.volumes[index];
        let Some(local) = &mut volume.local else { return };
        let (cursor, different_blocks) = local.verified.begin(serial);
        volume.verify = Some(Verify {
            serial,
            key,
            cursor,
            window: VecDeque::with_capacity(limits::VERIFY_REQUESTS_MAX),
            answers: Vec::new(),
            not_before: now,
            started: now,
            compared_bytes: 0,
            different_blocks,
            repair_from,
        });
        let volume = volume.number;
        self.set_replication(index, ReplicationState::VerifyS, Why::Command);
        self.send(ControlMessage::Verify { volume, running: true }, None);
    }

    /// The operator has had enough; asked for again, it goes on where it was.
    pub(crate) fn stop_verify_command(&mut self, index: usize) {
        if self.volumes[index].verify.is_some() {
            self.stop_verify(index, Why::Command);
            let volume = self.volumes[index].number;
            self.send(ControlMessage::Verify { volume, running: false }, None);
        }
    }

    /// Ends a verify early, on either side.
    pub(crate) fn stop_verify(&mut self, index: usize, why: Why) {
        let volume = &mut self.volumes[index];
        volume.follows = None;
        if let Some(verify) = volume.verify.take() {
            // What it has found so far a handshake may have copied: not the other way.
            volume.found_good_on = verify.good_side().or(volume.found_good_on);
            if let Some(local) = &mut volume.local {
                local.verified.stopped(why, verify.first_open(), verify.different_blocks);
            }
        }
        self.end_verify_locks(index);
        self.leave_verify_state(index, why);
    }

    /// Locks go, save those whose own read is on its way: that ends them.
    fn end_verify_locks(&mut self, index: usize) {
        let ours = |op: &Operation| op.volume == index && op.kind.is_verify();
        let keys: Vec<Key> = self.ops.iter().filter(|(_, op)| ours(op)).map(|(key, _)| key).collect();
        for key in keys {
            match self.ops.get_mut(key) {
                Some(op) if op.local == Leg::Open => op.peer = Leg::Failed,
                _ => self.end_operation(key, Err(IoError::Io)),
            }
        }
    }

    fn leave_verify_state(&mut self, index: usize, why: Why) {
        if matches!(self.volumes[index].replication, ReplicationState::VerifyS | ReplicationState::VerifyT) {
            self.set_replication(index, ReplicationState::Established, why);
        }
    }

    pub(crate) fn progress_verify(&mut self, index: usize) -> bool {
        let mut moved = false;
        while let Some(range) = self.next_verify_range(index) {
            let Some(verify) = &mut self.volumes[index].verify else { break };
            let serial = verify.serial;
            self.insert_operation(Requester::Nobody, index, range, None, OperationKind::VerifyLead { serial });
            moved = true;
        }
        moved | self.verify_ends(index)
    }

    /// Takes the next range to compare, if one may be begun now.
    fn next_verify_range(&mut self, index: usize) -> Option<ByteRange> {
        let (now, rate) = (self.now, self.config.resync_rate_max);
        let volume = &mut self.volumes[index];
        let (size, paused) = (volume.size_bytes, volume.resync_is_paused());
        let verify = volume.verify.as_mut()?;
        let may = !paused && verify.window.len() < limits::VERIFY_REQUESTS_MAX && verify.not_before <= now;
        if !may || verify.cursor >= size {
            return None;
        }
        let length = limits::VERIFY_LENGTH_MAX.min(size - verify.cursor);
        let range = ByteRange::new(verify.cursor, length as u32);
        verify.window.push_back(VerifyRange { offset: verify.cursor, different: None });
        verify.cursor += length;
        if let Some(nanoseconds) = length.saturating_mul(1_000_000_000).checked_div(rate) {
            verify.not_before = verify.not_before.max(now).after(Duration::from_nanos(nanoseconds));
        }
        Some(range)
    }

    fn verify_ends(&mut self, index: usize) -> bool {
        let volume = &mut self.volumes[index];
        let size = volume.size_bytes;
        let ended = |verify: &mut Verify| verify.cursor >= size && verify.window.is_empty();
        let Some(verify) = volume.verify.take_if(ended) else { return false };
        let mut marked_bytes = 0;
        if let Some(local) = &mut volume.local {
            local.verified.completed(size, verify.different_blocks);
            marked_bytes = local.verified.marked_bytes();
        }
        let number = volume.number;
        self.send(ControlMessage::Verify { volume: number, running: false }, None);
        self.leave_verify_state(index, Why::VerifyDone);
        let different_bytes = verify.different_blocks * BLOCK_SIZE;
        self.notice(Notice::VerifyFinished { volume: number, different_bytes, marked_bytes });
        if let Some(side) = verify.good_side() {
            let volume = &mut self.volumes[index];
            volume.repair_from = Some(side);
            // A handshake may come before the side to be repaired has given its data up: it goes by this.
            volume.found_good_on = Some(side);
        }
        true
    }

    /// A repair waits until no other command is under way.
    pub(crate) fn progress_repair(&mut self, index: usize) -> bool {
        if self.volumes[index].repair_from.is_none() || self.transition.is_some() || self.handshake_under_way() {
            return false;
        }
        let Some(from) = self.volumes[index].repair_from.take() else { return false };
        let volume = self.volumes[index].number;
        let from = if planted!("repair-the-wrong-side") { from.mirrored() } else { from };
        match from {
            _ if self.resync_refusal(index).is_some() => {}
            Side::Local => self.send(ControlMessage::Invalidate { volume, full: false }, None),
            // Much may have come between, a loss of the peer's disk too: then this is the only good copy.
            Side::Peer if self.role == Role::Secondary && self.volumes[index].peer_disk == DiskState::UpToDate => {
                self.begin_transition(CommandId(0), [Step::Invalidate { index, full: false, ticket: None }]);
                self.nobody_waits();
            }
            Side::Peer => {}
        }
        true
    }

    pub(crate) fn verify_timeout(&self) -> Option<Timestamp> {
        let waiting =
            |verify: &&Verify| verify.not_before > self.now && verify.window.len() < limits::VERIFY_REQUESTS_MAX;
        let verifies = self.volumes.iter().filter_map(|volume| volume.verify.as_ref());
        verifies.filter(waiting).map(|verify| verify.not_before).min()
    }

    // ---- the leader's ranges ----

    /// The range is locked here: have the peer lock and read it.
    pub(crate) fn verify_locked(&mut self, key: Key, op: Operation, serial: u64) {
        let now = self.now;
        let volume = &self.volumes[op.volume];
        let Some(verify) = volume.verify.as_ref().filter(|verify| verify.serial == serial) else {
            return self.end_operation(key, Err(IoError::Io));
        };
        let (volume, digest_key) = (volume.number, verify.key);
        if let Some(op) = self.ops.get_mut(key) {
            (op.peer, op.stage, op.started) = (Leg::Open, Stage::UnderWay, now);
        }
        let id = TransferId(key.0);
        self.send(ControlMessage::DigestRequest { id, volume, range: op.range, key: digest_key }, None);
    }

    /// The peer's digests.
    pub(crate) fn digests_told(&mut self, id: TransferId, digests: Vec<u8>) {
        let key = Key(id.0);
        let Some(op) = self.ops.get_mut(key) else { return };
        let OperationKind::VerifyLead { serial } = op.kind else { return };
        if op.peer != Leg::Open {
            return self.drop_link(LinkCause::Protocol);
        }
        op.peer = Leg::Done;
        let op = *op;
        let volume = &mut self.volumes[op.volume];
        let size = volume.size_bytes;
        let Some(verify) = volume.verify.as_mut().filter(|verify| verify.serial == serial) else {
            return self.end_operation(key, Err(IoError::Io));
        };
        if digests.is_empty() {
            // The peer no longer takes part.
            return self.stop_verify(op.volume, Why::Peer);
        }
        if digests.len() != digests_length(op.range, size) {
            return self.drop_link(LinkCause::Protocol);
        }
        verify.answers.push((key, digests));
        let digest_key = verify.key;
        if let Some(op) = self.ops.get_mut(key) {
            op.local = Leg::Open;
        }
        self.digest(op, IoPurpose::VerifyRead(key), digest_key);
    }

    /// Reads a range for its digests.
    pub(crate) fn digest(&mut self, op: Operation, purpose: IoPurpose, key: DigestKey) {
        let volume = self.volumes[op.volume].number;
        let io = self.new_io(op.volume, purpose);
        self.out.push(Action::DigestDisk { io, volume, range: op.range, key: Box::new(key) });
    }

    /// Our own digests are there.
    pub(crate) fn verify_read_done(&mut self, key: Key, digests: Vec<u8>) {
        let Some(op) = self.ops.get_mut(key) else { return };
        op.local = Leg::Done;
        let op = *op;
        match op.kind {
            OperationKind::VerifyLead { serial } => self.compare(key, op, serial, &digests),
            OperationKind::VerifyFollow { transfer, serial } if self.volumes[op.volume].follows_by(serial) => {
                self.send(ControlMessage::Digests { id: transfer, digests }, None);
                if planted!("verify-unlocks-early") {
                    self.end_operation(key, Ok(()));
                }
            }
            _ => self.end_operation(key, Err(IoError::Io)),
        }
    }

    fn compare(&mut self, key: Key, op: Operation, serial: u64, ours: &[u8]) {
        let now = self.now;
        let volume = &mut self.volumes[op.volume];
        let Some(verify) = volume.verify.as_mut().filter(|verify| verify.serial == serial) else {
            return self.end_operation(key, Err(IoError::Io));
        };
        let Some(position) = verify.answers.iter().position(|(answered, _)| *answered == key) else { return };
        let (_, theirs) = verify.answers.swap_remove(position);
        let mut different = different_blocks(ours, &theirs);
        if planted!("verify-misses-last-block")
            && different.last().is_some_and(|last| usize::from(*last) + 1 == ours.len() / DIGEST_LENGTH)
        {
            different.pop();
        }
        verify.compared_bytes += u64::from(op.range.length);
        verify.note_compared(op.range.offset, different.len() as u64);
        self.note_found(op, &different);
        self.mark_different(op, &different);
        self.epochs.touch(now);
        self.send(ControlMessage::DigestDone { id: TransferId(key.0), different }, None);
        self.end_operation(key, Ok(()));
    }

    /// For the record of what this node leads.
    fn note_found(&mut self, op: Operation, different: &[u16]) {
        let blocks = op.range.blocks_touched();
        let Some(local) = &mut self.volumes[op.volume].local else { return };
        local.verified.note_compared(blocks);
        for block in different {
            local.verified.note_different(BlockRange::new(blocks.first.0 + u64::from(*block), 1));
        }
    }

    fn mark_different(&mut self, op: Operation, different: &[u16]) {
        let first = op.range.blocks_touched().first.0;
        let volume = &mut self.volumes[op.volume];
        for block in different.iter().map(|block| first + u64::from(*block)) {
            let beside = u64::from(planted!("verify-marks-beside") && block > 0);
            volume.mark_out_of_sync(BlockRange::new(block - beside, 1));
        }
        if !different.is_empty() {
            volume.found_different = true;
            if let Some(local) = &mut volume.local {
                local.flush_bitmap();
            }
        }
    }
}

/// The blocks whose digests differ, by their distance from the first.
pub(crate) fn different_blocks(ours: &[u8], theirs: &[u8]) -> Vec<u16> {
    let pairs = ours.chunks_exact(DIGEST_LENGTH).zip(theirs.chunks_exact(DIGEST_LENGTH));
    (0u16..).zip(pairs).filter(|(_, (ours, theirs))| ours != theirs).map(|(block, _)| block).collect()
}

/// Bytes of the digests of a range; the volume's last block may be shorter than the others.
pub(crate) fn digests_length(range: ByteRange, size_bytes: u64) -> usize {
    debug_assert!(range.end() <= size_bytes);
    range.blocks_touched().count as usize * DIGEST_LENGTH
}

/// The side whose operator has it halted, if one has.
fn halted_by(volume: &Volume) -> Option<Side> {
    match (volume.resync_paused_here, volume.resync_paused_there) {
        (true, _) => Some(Side::Local),
        (false, true) => Some(Side::Peer),
        (false, false) => None,
    }
}

impl Volume {
    fn follows_by(&self, serial: u64) -> bool {
        self.follows.as_ref().is_some_and(|follows| follows.serial == serial)
    }

    /// A verify under way, whichever node leads it.
    pub(crate) fn verify_snapshot(&self, now: Timestamp) -> Option<VerifySnapshot> {
        match (&self.verify, &self.follows) {
            (Some(verify), _) => Some(verify.snapshot(self, now)),
            (None, Some(follows)) => follows.snapshot(self, now),
            (None, None) => None,
        }
    }
}
