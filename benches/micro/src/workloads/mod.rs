//! The table of the workloads.

mod nbd;
mod tables;
mod turn;
mod wire;

/// Something the data path does all the time, ready to be done again and again.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// Its name, everywhere.
    pub name: &'static str,
    /// How often a run does it.
    pub operations: u64,
    /// Makes it ready. What it returns does it `operations` times.
    pub prepare: fn() -> Box<dyn FnMut()>,
}

const fn workload(name: &'static str, operations: u64, prepare: fn() -> Box<dyn FnMut()>) -> Workload {
    Workload { name, operations, prepare }
}

/// All of them.
pub const WORKLOADS: &[Workload] = &[
    workload("wire/write-encode", 1, wire::write_encode),
    workload("wire/write-parse", 1, wire::write_parse),
    workload("wire/ack-encode", 1, wire::ack_encode),
    workload("wire/ack-parse", 1, wire::ack_parse),
    workload("wire/payload-crc-4k", 1, wire::payload_crc_4k),
    workload("wire/payload-xxh64-4k", 1, wire::payload_xxh64_4k),
    workload("nbd/write-request", 1, nbd::write_request),
    workload("nbd/write-reply", 1, nbd::write_reply),
    workload("nbd/read-reply", 1, nbd::read_reply),
    workload("bitmap/mark-and-clear", 1, tables::mark_and_clear),
    workload("bitmap/visit-run", rep_engine::benched::Bitmap::RUNS, tables::visit_runs),
    workload("activity-log/hit", 1, tables::log_hit),
    workload("activity-log/miss", 1, tables::log_miss),
    workload("overlap/turn-at-32", 1, tables::overlap_turn),
    workload("overlap/conflict-at-32", 1, tables::overlap_conflict),
    workload("engine/write", 1, turn::write),
    workload("engine/write-at-32", turn::DEPTH, turn::write_at_depth),
    workload("engine/peer-write", 1, turn::peer_write),
    workload("engine/read", 1, turn::read),
];
