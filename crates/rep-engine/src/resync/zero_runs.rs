//! Zeroes within a range that a resync moves: they travel as one bit a block and are made on the target as zeroes, so that
//! what is thin on the source is thin on the target.
//!
//! ```text
//!     source                                       target
//!   read  [data|0000000|data|0|data]                 │
//!     ├── ResyncRuns: zeroes at blocks 1.., data ───►│ write ─┐
//!     │            (a short run is data)             │ zero  ─┤ each a disk operation
//!     │                                              │ write ─┘
//!     │◄───────────────── ResyncAck ─────────────────┤ when the last has landed
//! ```
//!
//! What is all zeroes goes as `ResyncZeroes`, what has no run worth the trouble as `ResyncData`: a run costs the target up
//! to two disk operations more (`limits::RESYNC_ZERO_RUN_BLOCKS_MIN`).
//!
//! Invariants:
//! - Z1 the range is locked on both nodes, and its blocks count as copied, by the request and not by its disk operations:
//!   neither changes before the last of them has landed;
//! - Z2 an error of any of them is the request's: the disk is let go of, and the bits stay (S3).

use crate::action::Action;
use crate::operation::{IoPurpose, Leg, Operation};
use crate::slab::Key;
use crate::{Engine, limits};
use rep_types::planted;
use rep_types::{LinkCause, PayloadId, ZeroBlocks, ZeroMode, ZeroRun};
use rep_wire::{Message, TransferId, features};

impl Engine {
    /// Source: sends a range that was read, of which these blocks are zeroes. Says how many bytes of data travel.
    pub(super) fn send_range(&mut self, id: TransferId, length: u32, payload: PayloadId, zeroes: ZeroBlocks) -> u32 {
        let long = match self.agreed_on(features::RESYNC_RUNS) {
            true => zeroes.without_short_runs(length, limits::RESYNC_ZERO_RUN_BLOCKS_MIN),
            false => ZeroBlocks::NONE,
        };
        let message = if zeroes.covers(length) {
            Message::ResyncZeroes { id }
        } else if long.is_empty() {
            Message::ResyncData { id, length }
        } else {
            Message::ResyncRuns { id, length, zeroes: long }
        };
        let sent = message.payload_length();
        self.send(message, (sent > 0).then_some(payload));
        sent
    }

    /// Target: a range has come without its zeroes.
    pub(crate) fn resync_runs(&mut self, id: TransferId, length: u32, zeroes: ZeroBlocks, payload: Option<PayloadId>) {
        let Some((key, op)) = self.awaited(id) else { return self.release(payload) };
        let Some(payload) = payload.filter(|_| length == op.range.length) else {
            self.release(payload);
            return self.drop_link(LinkCause::Protocol);
        };
        self.volumes[op.volume].counters.received_bytes += u64::from(zeroes.data_length(length));
        self.land_runs(key, op, payload, zeroes);
    }

    fn land_runs(&mut self, key: Key, op: Operation, payload: PayloadId, zeroes: ZeroBlocks) {
        let (volume, durable) = (self.volumes[op.volume].number, self.config.stable);
        let runs = zeroes.runs(op.range).filter(|run| !(run.zero && planted!("runs-zeroes-left-out")));
        if let Some(op) = self.ops.get_mut(key) {
            (op.local, op.payload, op.landing) = (Leg::Open, Some(payload), runs.clone().count() as u32);
        }
        let mut payload_offset = 0;
        for ZeroRun { zero, range } in runs {
            let io = self.new_io(op.volume, IoPurpose::ResyncWrite(key));
            self.out.push(match zero {
                true => Action::ZeroDisk { io, volume, range, mode: ZeroMode::ZeroMayUnmap, durable },
                false => Action::WriteDisk { io, volume, range, payload, payload_offset, durable },
            });
            if !zero && !planted!("runs-from-payload-start") {
                payload_offset += range.length;
            }
        }
    }

    /// A disk operation of a resync's request has landed; whether it was the last.
    pub(super) fn resync_request_landed(&mut self, key: Key) -> bool {
        let Some(op) = self.ops.get_mut(key) else { return false };
        op.landing = op.landing.saturating_sub(1);
        op.landing == 0 || planted!("runs-acknowledged-early")
    }

    /// As many disk operations are out for requests of resyncs as these count.
    pub(crate) fn assert_resync_landings(&self) {
        let counted: u32 = self.ops.iter().map(|(_, op)| op.landing).sum();
        let of_request = |purpose| matches!(purpose, IoPurpose::ResyncWrite(key) if self.ops.get(key).is_some());
        let out = self.ios.iter().filter(|(_, io)| of_request(io.purpose)).count();
        assert_eq!(out, counted as usize, "Z1: disk operations of resync requests");
    }
}
