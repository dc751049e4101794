//! A device's requests, on their way from the kernel through the engine and back.
//!
//! ```text
//!  with the kernel ──fetched──► (waiting for a buffer, or its turn) ──► the engine's ──answered──► to be committed ──► with the kernel
//!        └──aborted──► gone
//! ```

use super::{UblkContext, request_id};
use crate::data::disks::{payload_of, slot_of};
use crate::data::limits::TAKEN_BYTES_MAX;
use rep_engine::Event;
use rep_ring::{Entry, Pool, SlotId, Zone};
use rep_types::{IoError, PayloadId, VolumeNumber};
use rep_ublk::lifecycle::Origin;
use rep_ublk::{Device, Operation, Request, Tag, errno_of};
use std::collections::VecDeque;
use tracing::warn;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum TagState {
    /// Nothing of it is under way; a fetch is to be pushed.
    New,
    Kernel,
    Waiting(Request),
    Engine(Request),
    /// Answered: to be committed with this result.
    Answered(i32),
    /// The next daemon answers it.
    Left,
    Gone,
}

pub(super) struct Serving {
    place: Place,
    device: Device,
    origin: Origin,
    size_bytes: u64,
    tags: Vec<TagState>,
    /// Requests that found no buffer, or came after so much data that the peer is to have that first, in the order they came.
    waiting: VecDeque<Tag>,
    /// Data of writes that was taken from the kernel since the last turn.
    taken_bytes: usize,
    /// Tags with an entry to be pushed.
    ready: VecDeque<Tag>,
    gone: usize,
}

/// The volume a device is of, and its place in the port's table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub number: VolumeNumber,
    pub index: u16,
}

impl Serving {
    pub fn new(place: Place, device: Device, origin: Origin, size_bytes: u64) -> Self {
        let ready: VecDeque<_> = device.tags().collect();
        let tags = vec![TagState::New; ready.len()];
        Serving { place, device, origin, size_bytes, tags, waiting: VecDeque::new(), taken_bytes: 0, ready, gone: 0 }
    }

    pub fn id(&self) -> u32 {
        self.device.id()
    }

    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The volume has grown: requests may reach so far, as soon as the kernel knows.
    pub fn grow(&mut self, size_bytes: u64) {
        self.size_bytes = self.size_bytes.max(size_bytes);
    }

    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Whether the kernel has every request back for good.
    pub fn is_idle(&self) -> bool {
        self.gone == self.tags.len()
    }

    fn state(&mut self, tag: Tag) -> &mut TagState {
        let index = self.device.index(tag);
        &mut self.tags[index]
    }

    /// A request came.
    pub fn fetched(&mut self, tag: Tag, context: &mut UblkContext<'_>) {
        match Request::parse(&self.device.descriptor(tag), self.size_bytes) {
            Ok(request) if self.waiting.is_empty() && self.may_take() && self.admit(tag, request, context) => {}
            Ok(request) => {
                *self.state(tag) = TagState::Waiting(request);
                self.waiting.push_back(tag);
            }
            Err(fault) => {
                warn!("the kernel asks for what was never offered: {fault}");
                self.answer(tag, -fault.errno());
            }
        }
    }

    /// Whether more data may be taken before what there is leaves for the peer.
    fn may_take(&self) -> bool {
        self.taken_bytes < TAKEN_BYTES_MAX
    }

    /// Once a turn: puts those who waited to the engine, in order, as far as there are buffers, and not more at once than
    /// keeps the peer waiting. Who is put there makes for another turn, and so for those who wait on.
    pub fn admit_waiting(&mut self, context: &mut UblkContext<'_>) {
        self.taken_bytes = 0;
        while self.may_take()
            && let Some(tag) = self.waiting.front().copied()
        {
            let TagState::Waiting(request) = *self.state(tag) else { unreachable!("{tag:?} doesn't wait") };
            if !self.admit(tag, request, context) {
                return;
            }
            self.waiting.pop_front();
        }
    }

    fn admit(&mut self, tag: Tag, request: Request, context: &mut UblkContext<'_>) -> bool {
        if context.paused {
            return false;
        }
        let length = request.range.length as usize;
        let slot = match request.operation {
            Operation::Read | Operation::Write { .. } => match context.pool.take(Zone::Client, length) {
                Some(slot) => Some(slot),
                None => return false,
            },
            Operation::Zero { .. } | Operation::Flush => None,
        };
        if let (Operation::Write { .. }, Some(slot)) = (request.operation, slot) {
            if let Err(error) = self.take_data(tag, slot, length, context.pool) {
                warn!("a write's data can't be had from the kernel: {error}");
                context.pool.release(slot);
                self.answer(tag, -errno_of(IoError::Io));
                return true;
            }
            self.taken_bytes += length;
        }
        *self.state(tag) = TagState::Engine(request);
        context.events.push(event(self.place, request, tag, slot));
        true
    }

    fn take_data(&self, tag: Tag, slot: SlotId, length: usize, pool: &mut Pool) -> std::io::Result<()> {
        // SAFETY: the slot was just taken, so nobody else uses it; it is at least so long, and its memory is mapped.
        let into = unsafe { std::slice::from_raw_parts_mut(pool.start_of(slot), length) };
        self.device.take_data(tag, into)
    }

    /// The engine answered a request.
    pub fn complete(&mut self, tag: Tag, result: Result<(), IoError>, payload: Option<PayloadId>, pool: &mut Pool) {
        let TagState::Engine(request) = *self.state(tag) else {
            unreachable!("a request that was answered twice, or never made: {tag:?}");
        };
        let mut answer = result.map_or_else(|error| -errno_of(error), |()| request.done());
        if let Some(slot) = payload.map(slot_of) {
            if result.is_ok() {
                // SAFETY: the read has ended; nothing writes to the slot any more.
                let data = unsafe { pool.bytes(slot) };
                if let Err(error) = self.device.give_data(tag, data) {
                    warn!("a read's data can't be given to the kernel: {error}");
                    answer = -errno_of(IoError::Io);
                }
            }
            pool.release(slot);
        }
        self.answer(tag, answer);
    }

    /// The engine gave a request up because the daemon ends: the kernel will give it to the next one (R35).
    pub fn leave_unanswered(&mut self, tag: Tag, payload: Option<PayloadId>, pool: &mut Pool) {
        payload.map(slot_of).into_iter().for_each(|slot| pool.release(slot));
        *self.state(tag) = TagState::Left;
    }

    /// Whether no answer waits to be told to the kernel.
    pub fn is_told(&self) -> bool {
        self.ready.is_empty()
    }

    fn answer(&mut self, tag: Tag, result: i32) {
        *self.state(tag) = TagState::Answered(result);
        self.ready.push_back(tag);
    }

    /// An entry to be pushed now.
    pub fn next_entry(&mut self) -> Option<(Tag, Entry)> {
        let tag = self.ready.pop_front()?;
        let entry = match std::mem::replace(self.state(tag), TagState::Kernel) {
            TagState::Answered(result) => self.device.commit(tag, result),
            _ => self.device.fetch(tag),
        };
        Some((tag, entry))
    }

    /// The kernel took a request back: none will come for it any more.
    pub fn aborted(&mut self, tag: Tag) {
        let before = std::mem::replace(self.state(tag), TagState::Gone);
        debug_assert_eq!(before, TagState::Kernel);
        self.gone += 1;
    }
}

fn event(place: Place, request: Request, tag: Tag, slot: Option<SlotId>) -> Event {
    let (volume, range, id) = (place.number, request.range, request_id(place.index, tag));
    match (request.operation, slot.map(payload_of)) {
        (Operation::Read, Some(payload)) => Event::ClientRead { request: id, volume, range, payload },
        (Operation::Write { fua }, Some(payload)) => Event::ClientWrite { request: id, volume, range, payload, fua },
        (Operation::Zero { mode, fua }, _) => Event::ClientZero { request: id, volume, range, mode, fua },
        (Operation::Flush, _) => Event::ClientFlush { request: id, volume },
        (Operation::Read | Operation::Write { .. }, None) => unreachable!("data without a buffer"),
    }
}
