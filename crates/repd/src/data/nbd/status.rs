//! Block status: what the local file system says of the backing file, as far as it may be believed.

use crate::data::limits::ALLOCATION_RUNS_MAX;
use rep_disk::Disk;
use rep_disk::allocation::runs;
use rep_nbd::{Allocation, BlockStatusReply, Request};
use rep_types::VolumeNumber;

/// Who knows which disk may be asked.
pub(in super::super) trait AllocationSource {
    /// The local disk of a volume, if it is UpToDate: a hole of any other says nothing of the data.
    fn current_disk(&self, volume: VolumeNumber) -> Option<&Disk>;
}

/// Appends the reply to a block-status request.
pub(super) fn answer(
    source: &dyn AllocationSource,
    volume: VolumeNumber,
    request: &Request,
    block_bytes: u32,
    out: &mut Vec<u8>,
) {
    let mut reply = BlockStatusReply::new(request, block_bytes);
    if let Some(disk) = source.current_disk(volume) {
        let mut found = Vec::new();
        runs(disk, request.range.offset, request.range.end(), ALLOCATION_RUNS_MAX, &mut found);
        let mut at = request.range.offset;
        for run in found {
            let more = reply.push(at, run.length, if run.hole { Allocation::Hole } else { Allocation::Data });
            at += run.length;
            if !more {
                break;
            }
        }
    }
    reply.append_to(out);
}
