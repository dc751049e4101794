//! A request on its way to the engine, piece by piece, as buffers allow.

use super::client::{Client, Flow};
use super::{NbdContext, Shared};
use crate::data::disks::payload_of;
use crate::data::limits::CLIENT_ZERO_BYTES_MAX;
use rep_engine::Event;
use rep_nbd::{Command, Pieces, Request};
use rep_ring::{Key, Pool, SlotId, Zone};
use rep_types::{ByteRange, VolumeNumber};

/// Pieces of a client's requests that the engine may have at a time, in bytes, as a part of the clients' buffers.
const CLIENT_SHARE: usize = 2;

/// A request that isn't wholly the engine's yet.
pub(super) struct Cut {
    request: Request,
    whole: Key,
    next: Option<ByteRange>,
    rest: Pieces,
    /// The buffer of `next`, while a write's payload comes in.
    filling: Option<SlotId>,
}

impl Cut {
    pub fn new(request: Request, whole: Key) -> Self {
        let mut rest = request.pieces();
        Cut { request, whole, next: rest.next(), rest, filling: None }
    }

    /// Whether it waits for the client's bytes.
    pub fn is_filling(&self) -> bool {
        self.filling.is_some()
    }

    /// Puts the next piece to the engine, if that can be; `ended` is set with the last.
    pub fn advance(
        &mut self,
        key: Key,
        volume: VolumeNumber,
        ended: &mut bool,
        client: &mut Client,
        shared: &mut Shared,
        context: &mut NbdContext<'_>,
    ) -> Flow {
        let Some(range) = self.next else {
            *ended = true;
            return Flow::More;
        };
        let event = match self.request.command {
            Command::Read { .. } => self.read(key, volume, range, client, shared, context),
            Command::Write { fua } => self.write(key, volume, range, fua, client, shared, context),
            Command::Trim { .. } | Command::WriteZeroes { .. } if client.piece_bytes > CLIENT_ZERO_BYTES_MAX => None,
            Command::Flush => Some(Event::ClientFlush { request: self.piece(range, None, client, shared), volume }),
            _ => self.request.zero_mode().map(|mode| {
                let request = self.piece(range, None, client, shared);
                Event::ClientZero { request, volume, range, mode, fua: self.request.fua() }
            }),
        };
        let Some(event) = event else { return Flow::Wait };
        context.events.push(event);
        self.next = self.rest.next();
        *ended = self.next.is_none();
        Flow::More
    }

    fn piece(
        &self,
        range: ByteRange,
        slot: Option<SlotId>,
        client: &mut Client,
        shared: &mut Shared,
    ) -> rep_types::RequestId {
        client.piece_bytes += range.length as usize;
        shared.requests.piece(self.whole, range, slot)
    }

    fn read(
        &mut self,
        key: Key,
        volume: VolumeNumber,
        range: ByteRange,
        client: &mut Client,
        shared: &mut Shared,
        context: &mut NbdContext<'_>,
    ) -> Option<Event> {
        let slot = take(range, key, client, shared, context)?;
        context.pool.retain(slot);
        let request = self.piece(range, Some(slot), client, shared);
        Some(Event::ClientRead { request, volume, range, payload: payload_of(slot) })
    }

    #[allow(clippy::too_many_arguments)] // the request's own, and those everything here has
    fn write(
        &mut self,
        key: Key,
        volume: VolumeNumber,
        range: ByteRange,
        fua: bool,
        client: &mut Client,
        shared: &mut Shared,
        context: &mut NbdContext<'_>,
    ) -> Option<Event> {
        let slot = match self.filling.take() {
            Some(slot) => slot,
            None => {
                let slot = take(range, key, client, shared, context)?;
                if !client.incoming.fill(slot, 0, range.length as usize, context.pool) {
                    self.filling = Some(slot);
                    return None;
                }
                slot
            }
        };
        client.payload_received(range.length);
        let request = self.piece(range, None, client, shared);
        Some(Event::ClientWrite { request, volume, range, payload: payload_of(slot), fua })
    }

    /// The client has gone: returns the buffer that was being filled.
    pub fn let_go(self, shared: &mut Shared, pool: &mut Pool) -> Option<SlotId> {
        shared.requests.orphan(self.whole, pool);
        self.filling
    }
}

/// A buffer for a client, unless it has its share already or others have waited longer.
fn take(
    range: ByteRange,
    key: Key,
    client: &Client,
    shared: &mut Shared,
    context: &mut NbdContext<'_>,
) -> Option<SlotId> {
    let length = range.length as usize;
    let share = context.pool.zone_bytes(Zone::Client) / CLIENT_SHARE;
    if client.piece_bytes + client.queued_bytes() + length > share {
        return None;
    }
    let turn = shared.waiting.front().is_none_or(|first| *first == key);
    match turn.then(|| context.pool.take(Zone::Client, length)).flatten() {
        Some(slot) => {
            if shared.waiting.front() == Some(&key) {
                shared.waiting.pop_front();
            }
            Some(slot)
        }
        None => {
            if !shared.waiting.contains(&key) {
                shared.waiting.push_back(key);
            }
            None
        }
    }
}
