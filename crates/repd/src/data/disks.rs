//! The open disks and their operations in flight.
//!
//! A disk in memory is worked on by plain calls that never wait, once what goes to the peer is on its way; every other
//! through the ring. A disk that is let go of stays open until its last operation has come back. Where a buffer is missing, reads for the peer and
//! metadata writes wait in order for one.

use super::buffers::Buffers;
use super::io::{Io, Operation};
use super::limits::READY_BATCH;
use crate::resource::DiskReport;
use rep_disk::{Buffer, Disk, DiskFacts, Kind, Progress, is_all_zero};
use rep_engine::{DiskSuccess, Event, ReadInto};
use rep_meta::{META_BLOCK_SIZE, MetaBlock};
use rep_ring::{Completion, Key, Slab, SlotId, Zone};
use rep_types::{ByteRange, DigestKey, IoError, IoId, PayloadId, VolumeNumber, ZeroBlocks};

use std::collections::VecDeque;

/// Which of a volume's devices.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Target {
    Data,
    Meta,
}

/// What is reported when an operation ends.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Report {
    /// `DiskDone`.
    Data,
    /// `DiskDone` with the buffer taken for it.
    DataInto(SlotId),
    /// `Digested`: each block of the buffer taken for it, under this key.
    Digests(SlotId, Box<DigestKey>),
    /// `MetaDone`.
    Meta,
}

/// A disk operation in flight.
pub(super) struct DiskOperation {
    disk: Key,
    target: Target,
    io: IoId,
    operation: rep_disk::Operation,
    /// A use of the buffer, ended with the operation. A `DataInto`'s goes to the engine instead.
    holds: Option<SlotId>,
    report: Report,
}

/// The memory of an operation: a slot from some byte on.
#[derive(Clone, Copy)]
struct Memory {
    slot: SlotId,
    offset: u32,
}

impl From<SlotId> for Memory {
    fn from(slot: SlotId) -> Memory {
        Memory { slot, offset: 0 }
    }
}

/// A volume's open devices.
pub(super) struct OpenDisk {
    pub data: Disk,
    /// `None`: the metadata lies on `data`.
    pub meta: Option<Disk>,
    volume: VolumeNumber,
    in_flight: u32,
    closing: bool,
}

impl OpenDisk {
    fn device(&mut self, target: Target) -> &mut Disk {
        match (target, &mut self.meta) {
            (Target::Meta, Some(meta)) => meta,
            _ => &mut self.data,
        }
    }
}

/// An operation that waits for a buffer.
enum Waiting {
    Read { disk: Key, io: IoId, range: ByteRange },
    Digest { disk: Key, io: IoId, range: ByteRange, key: Box<DigestKey> },
    Meta { disk: Key, io: IoId, offset: u64, block: MetaBlock },
}

/// An operation in a queue, and whether the engine has been told that it waits there.
struct Queued {
    what: Waiting,
    told: bool,
}

impl Queued {
    fn new(what: Waiting) -> Self {
        Queued { what, told: false }
    }

    fn io(&self) -> IoId {
        match &self.what {
            Waiting::Read { io, .. } | Waiting::Digest { io, .. } | Waiting::Meta { io, .. } => *io,
        }
    }
}

pub(super) struct Disks {
    open: Slab<OpenDisk>,
    volumes: Vec<(VolumeNumber, Option<Key>)>,
    waiting_reads: VecDeque<Queued>,
    waiting_meta: VecDeque<Queued>,
    /// Operations on disks in memory, in their order.
    ready: VecDeque<DiskOperation>,
}

/// What a disk operation needs of the thread.
pub(super) struct DiskContext<'a> {
    pub io: &'a mut Io,
    pub buffers: &'a mut Buffers,
    pub events: &'a mut Vec<Event>,
}

pub(super) fn slot_of(payload: PayloadId) -> SlotId {
    SlotId(payload.0)
}

pub(super) fn payload_of(slot: SlotId) -> PayloadId {
    PayloadId(slot.0)
}

impl Disks {
    pub fn new(volumes: impl Iterator<Item = VolumeNumber>) -> Self {
        Disks {
            open: Slab::new(),
            volumes: volumes.map(|number| (number, None)).collect(),
            waiting_reads: VecDeque::new(),
            waiting_meta: VecDeque::new(),
            ready: VecDeque::new(),
        }
    }

    fn key(&self, volume: VolumeNumber) -> Option<Key> {
        self.volumes.iter().find(|(number, _)| *number == volume)?.1
    }

    /// The volume's disk, while one is open.
    pub fn get(&self, volume: VolumeNumber) -> Option<&OpenDisk> {
        self.open.get(self.key(volume)?)
    }

    pub fn put(&mut self, volume: VolumeNumber, data: Disk, meta: Option<Disk>) {
        let key = self.open.insert(OpenDisk { data, meta, volume, in_flight: 0, closing: false });
        if let Some((_, place)) = self.volumes.iter_mut().find(|(number, _)| *number == volume) {
            *place = Some(key);
        }
    }

    /// Lets go of a volume's disk once nothing is in flight on it.
    pub fn close(&mut self, volume: VolumeNumber) {
        let Some(place) = self.volumes.iter_mut().find(|(number, _)| *number == volume) else { return };
        let Some(key) = place.1.take() else { return };
        if let Some(disk) = self.open.get_mut(key) {
            disk.closing = true;
        }
        self.settle(key);
    }

    fn settle(&mut self, key: Key) {
        if self.open.get(key).is_some_and(|disk| disk.closing && disk.in_flight == 0) {
            self.open.remove(key);
        }
    }

    /// How large a volume's disk and its metadata device are now; `None`: there is no telling.
    pub fn measure(&mut self, volume: VolumeNumber) -> Option<(u64, u64)> {
        let key = self.key(volume)?;
        let disk = self.open.get_mut(key)?;
        let data = disk.data.measure().ok()?;
        let meta = match &mut disk.meta {
            Some(meta) => meta.measure().ok()?,
            None => data,
        };
        Some((data, meta))
    }

    pub fn report(&self, volume: VolumeNumber) -> Option<DiskReport> {
        let DiskFacts { size_bytes, logical_block_bytes, direct, .. } = self.get(volume)?.data.facts;
        Some(DiskReport { direct, logical_block_bytes, size_bytes })
    }

    pub fn write(
        &mut self,
        (volume, io): (VolumeNumber, IoId),
        range: ByteRange,
        (payload, offset): (PayloadId, u32),
        durable: bool,
        context: &mut DiskContext<'_>,
    ) {
        let memory = Memory { slot: slot_of(payload), offset };
        context.buffers.pool.retain(memory.slot);
        self.start(volume, Target::Data, io, (Kind::Write { durable }, range), Some(memory), Report::Data, context);
    }

    pub fn read(
        &mut self,
        (volume, io): (VolumeNumber, IoId),
        range: ByteRange,
        into: ReadInto,
        context: &mut DiskContext<'_>,
    ) {
        match into {
            ReadInto::Payload(payload) => {
                let slot = slot_of(payload);
                context.buffers.pool.retain(slot);
                self.start(volume, Target::Data, io, (Kind::Read, range), Some(slot.into()), Report::Data, context);
            }
            ReadInto::NewPayload => match self.key(volume) {
                Some(disk) => {
                    self.waiting_reads.push_back(Queued::new(Waiting::Read { disk, io, range }));
                    self.start_waiting(context);
                }
                None => context.events.push(Event::DiskDone { io, result: Err(IoError::Io) }),
            },
        }
    }

    /// Reads a range for its digests alone.
    pub fn digest(
        &mut self,
        (volume, io): (VolumeNumber, IoId),
        range: ByteRange,
        key: Box<DigestKey>,
        context: &mut DiskContext<'_>,
    ) {
        match self.key(volume) {
            Some(disk) => {
                self.waiting_reads.push_back(Queued::new(Waiting::Digest { disk, io, range, key }));
                self.start_waiting(context);
            }
            None => context.events.push(Event::Digested { io, result: Err(IoError::Io) }),
        }
    }

    /// A zeroing or a flush.
    pub fn other(
        &mut self,
        (volume, io): (VolumeNumber, IoId),
        kind: Kind,
        range: ByteRange,
        context: &mut DiskContext<'_>,
    ) {
        self.start(volume, Target::Data, io, (kind, range), None, Report::Data, context);
    }

    pub fn write_meta(
        &mut self,
        (volume, io): (VolumeNumber, IoId),
        offset: u64,
        block: MetaBlock,
        context: &mut DiskContext<'_>,
    ) {
        match self.key(volume) {
            Some(disk) => {
                self.waiting_meta.push_back(Queued::new(Waiting::Meta { disk, io, offset, block }));
                self.start_waiting(context);
            }
            None => context.events.push(Event::MetaDone { io, result: Err(IoError::Io) }),
        }
    }

    /// Starts what waited for a buffer, in order, as far as there are buffers. Called when some may have come free.
    pub fn start_waiting(&mut self, context: &mut DiskContext<'_>) {
        while let Some(Queued { what: Waiting::Meta { .. }, .. }) = self.waiting_meta.front() {
            let Some(slot) = context.buffers.pool.take(Zone::Meta, META_BLOCK_SIZE) else { break };
            let Some(queued) = self.waiting_meta.pop_front() else { break };
            let Waiting::Meta { disk, io, offset, block } = begins(queued, context.events) else { break };
            context.buffers.pool.write(slot, 0, &block.0[..]);
            let what = (Kind::Write { durable: true }, ByteRange::new(offset, META_BLOCK_SIZE as u32));
            self.start_on(disk, Target::Meta, io, what, Some(slot.into()), Report::Meta, context);
        }
        while let Some(Waiting::Read { range, .. } | Waiting::Digest { range, .. }) =
            self.waiting_reads.front().map(|queued| &queued.what)
        {
            let Some(slot) = context.buffers.pool.take(Zone::Local, range.length as usize) else { break };
            let Some(queued) = self.waiting_reads.pop_front() else { break };
            let (disk, io, range, report) = match begins(queued, context.events) {
                Waiting::Read { disk, io, range } => (disk, io, range, Report::DataInto(slot)),
                Waiting::Digest { disk, io, range, key } => (disk, io, range, Report::Digests(slot, key)),
                Waiting::Meta { .. } => break,
            };
            self.start_on(disk, Target::Data, io, (Kind::Read, range), Some(slot.into()), report, context);
        }
        // Only what has just come hasn't been told.
        for queue in [&mut self.waiting_reads, &mut self.waiting_meta] {
            for queued in queue.iter_mut().rev().take_while(|queued| !queued.told) {
                queued.told = true;
                context.events.push(Event::DiskQueued { io: queued.io() });
            }
        }
    }

    #[allow(clippy::too_many_arguments)] // one place where all of an operation comes together
    fn start(
        &mut self,
        volume: VolumeNumber,
        target: Target,
        io: IoId,
        what: (Kind, ByteRange),
        memory: Option<Memory>,
        report: Report,
        context: &mut DiskContext<'_>,
    ) {
        match self.key(volume) {
            Some(disk) => self.start_on(disk, target, io, what, memory, report, context),
            None => {
                let holds = memory.map(|memory| memory.slot);
                finish(io, report, holds, Err(IoError::Io), context.buffers, context.events);
            }
        }
    }

    #[allow(clippy::too_many_arguments)] // as above
    fn start_on(
        &mut self,
        disk: Key,
        target: Target,
        io: IoId,
        (kind, range): (Kind, ByteRange),
        memory: Option<Memory>,
        report: Report,
        context: &mut DiskContext<'_>,
    ) {
        let holds = memory.map(|memory| memory.slot);
        let Some(open) = self.open.get_mut(disk) else {
            return finish(io, report, holds, Err(IoError::Io), context.buffers, context.events);
        };
        let device = open.device(target);
        let facts = device.facts;
        let buffer = memory.map(|Memory { slot, offset }| Buffer {
            start: part_of(context.buffers, slot, offset, range.length),
            registered: if facts.direct && !facts.in_memory {
                context.buffers.registered(slot, &context.io.ring)
            } else {
                None
            },
        });
        let operation = rep_disk::Operation::new(device, kind, range, buffer);
        let entry = (!facts.in_memory).then(|| operation.entry(device));
        open.in_flight += 1;
        let operation = DiskOperation { disk, target, io, operation, holds, report };
        let Some(entry) = entry else { return self.ready.push_back(operation) };
        // SAFETY: the disk stays open while operations are in flight on it, and the slot is held until the end.
        unsafe { context.io.push(entry, Operation::Disk(operation)) };
    }

    /// Whether there is something to do on disks in memory.
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Does some of what is to be done on disks in memory. Not all at once: what follows from these leaves while the
    /// others are worked on.
    pub fn run_ready(&mut self, context: &mut DiskContext<'_>) {
        for _ in 0..READY_BATCH {
            let Some(next) = self.ready.pop_front() else { return };
            let DiskOperation { disk, target, io, operation, holds, report } = next;
            let Some(open) = self.open.get_mut(disk) else { continue };
            // SAFETY: the buffer is a part of a slot in use, as long as the range; the engine has no other operation on it that
            // writes to it.
            let result = unsafe { operation.run(open.device(target)) };
            open.in_flight -= 1;
            finish(io, report, holds, result, context.buffers, context.events);
            self.settle(disk);
        }
    }

    /// Takes a completion of a disk operation.
    pub fn completed(&mut self, completion: Completion, context: &mut DiskContext<'_>) {
        let Some(Operation::Disk(operation)) = context.io.operations.get_mut(completion.key) else { return };
        let (key, target) = (operation.disk, operation.target);
        let Some(open) = self.open.get_mut(key) else { return };
        let device = open.device(target);
        if let Progress::Done(result) = operation.operation.complete(device, completion.result) {
            open.in_flight -= 1;
            let Some(Operation::Disk(operation)) = context.io.operations.remove(completion.key) else { return };
            let DiskOperation { io, report, holds, .. } = operation;
            finish(io, report, holds, result, context.buffers, context.events);
            self.settle(key);
            return;
        }
        let entry = operation.operation.entry(device);
        // SAFETY: as at the start: disk and slot are held until the end.
        unsafe { context.io.ring.push(entry, completion.key) };
    }

    /// Whether a disk of this volume has been let go of and is still open, because operations on it haven't come back.
    pub fn is_closing(&self, volume: VolumeNumber) -> bool {
        self.open.iter().any(|(_, disk)| disk.closing && disk.volume == volume)
    }

    /// Whether no disk is open and nothing is in flight.
    pub fn is_idle(&self) -> bool {
        self.open.is_empty()
    }

    /// Lets go of every disk.
    pub fn close_all(&mut self) {
        let volumes: Vec<_> = self.volumes.iter().map(|(number, _)| *number).collect();
        volumes.into_iter().for_each(|volume| self.close(volume));
        self.waiting_reads.clear();
        self.waiting_meta.clear();
    }
}

/// Where a part of a slot begins; it lies within the slot.
fn part_of(buffers: &Buffers, slot: SlotId, offset: u32, length: u32) -> *mut u8 {
    let end = offset as usize + length as usize;
    assert!(end <= buffers.pool.length(slot), "bytes {offset} to {end} of a buffer that is shorter");
    buffers.pool.start_of(slot).wrapping_add(offset as usize)
}

/// An operation has got its buffer.
fn begins(queued: Queued, events: &mut Vec<Event>) -> Waiting {
    if queued.told {
        events.push(Event::DiskBegun { io: queued.io() });
    }
    queued.what
}

/// Reports an operation's end and lets go of its buffer.
fn finish(
    io: IoId,
    report: Report,
    holds: Option<SlotId>,
    result: Result<(), IoError>,
    buffers: &mut Buffers,
    events: &mut Vec<Event>,
) {
    if let (Report::Digests(slot, key), Ok(())) = (&report, result) {
        // SAFETY: the read has ended; nothing writes to the slot any more.
        let digests = rep_disk::block_digests(unsafe { buffers.pool.bytes(*slot) }, key);
        buffers.pool.release(*slot);
        return events.push(Event::Digested { io, result: Ok(digests) });
    }
    let (Report::DataInto(slot), Ok(())) = (&report, result) else {
        holds.into_iter().for_each(|slot| buffers.pool.release(slot));
        events.push(match report {
            Report::Meta => Event::MetaDone { io, result },
            Report::Digests(..) => Event::Digested { io, result: result.map(|()| Vec::new()) },
            Report::Data | Report::DataInto(_) => {
                Event::DiskDone { io, result: result.map(|()| DiskSuccess::default()) }
            }
        });
        return;
    };
    // SAFETY: the read has ended; nothing writes to the slot any more.
    let zeroes = ZeroBlocks::of(unsafe { buffers.pool.bytes(*slot) }, is_all_zero);
    events.push(Event::DiskDone { io, result: Ok(DiskSuccess { payload: Some(payload_of(*slot)), zeroes }) });
}
