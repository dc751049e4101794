//! The ledger: what a client was promised about every sector it wrote.
//!
//! A sector's content names the ledger, the sector and the number of the write, under a checksum, so that what is found
//! after a crash says which write it came from. For each sector the ledger keeps three numbers:
//!
//! ```text
//!   flushed <= acknowledged <= newest
//!   ^ covered by a flush that   ^ answered     ^ sent, perhaps not answered
//!     was answered
//! ```
//!
//! Found after the loss of one node: any write in `acknowledged..=newest` (I-D1). After the loss of whatever wasn't
//! stable anywhere: any in `flushed..=newest` (I-D2). What was seen once stays (I-R3): a look settles the numbers.
//!
//! Clients that lived through such a loss must hear of it: the next FLUSH fails (N2), unless one that failed before told
//! them (`told`). After a FLUSH that failed, no later one covers what that was to cover.
//! Two writes to one sector are never in flight together, so a sector's writes have one order.

use crate::random::Random;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes of a sector.
pub const SECTOR: usize = 512;

const MAGIC: &[u8; 8] = b"REPLEDGR";

/// What was lost before a look at the data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lost {
    /// Nothing, or one node of a pair that was in sync: every answered write is there.
    OneNode,
    /// Everything that wasn't stable: every write under an answered flush is there.
    Unflushed,
}

/// The ledger of one export.
#[derive(Debug)]
pub struct Ledger {
    run: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    sectors: Vec<Sector>,
    /// For each sector that was zeroed: by which writes.
    zeroed: HashMap<u32, BTreeSet<u32>>,
    /// Answered writes that no flush covers yet, in the order of their answers.
    unflushed: VecDeque<Answered>,
    answers: u64,
    next: u32,
    counts: Counts,
}

#[derive(Debug)]
struct Answered {
    answer: u64,
    sectors: Range<u32>,
    number: u32,
}

#[derive(Clone, Copy, Default, Debug)]
struct Sector {
    flushed: u32,
    acknowledged: u32,
    newest: u32,
    /// Under a flush that was answered with an error.
    told: u32,
    busy: bool,
}

/// How much was done and checked.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Writes sent.
    pub sent: u64,
    /// Writes answered with success.
    pub acknowledged: u64,
    /// Flushes answered with success.
    pub flushes: u64,
    /// Reads compared while the load ran.
    pub reads: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        let Counts { sent, acknowledged, flushes, reads } = other;
        self.sent += sent;
        self.acknowledged += acknowledged;
        self.flushes += flushes;
        self.reads += reads;
    }
}

/// A write that is in flight.
#[derive(Debug)]
pub struct Pending {
    /// Its sectors.
    pub sectors: Range<u32>,
    /// Its number.
    pub number: u32,
    /// Whether it makes zeroes.
    pub zeroes: bool,
}

/// A flush that is in flight: it will cover this many answers.
#[derive(Debug)]
pub struct PendingFlush(u64);

/// What a look at the data found.
#[derive(Clone, Default, Debug)]
pub struct Report {
    /// Sectors looked at that were ever written.
    pub checked: u64,
    /// What must not be: one sentence each.
    pub violations: Vec<String>,
    /// Writes found that were never answered: allowed.
    pub unanswered_found: u64,
    /// Sectors whose newest write isn't there, which was allowed.
    pub unstable_lost: u64,
    /// Of these, those whose newest answered write isn't there, and no failed flush has told so.
    pub untold_lost: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} sectors checked, {} violations, {} with an unanswered write, {} lost what they were allowed to lose",
            self.checked,
            self.violations.len(),
            self.unanswered_found,
            self.unstable_lost
        )?;
        self.violations.iter().take(10).try_for_each(|violation| write!(f, "\n  {violation}"))
    }
}

impl Report {
    /// Panics when something was lost or wrong.
    #[track_caller]
    pub fn assert_clean(&self) {
        assert!(self.checked > 0, "the ledger checked nothing");
        assert!(self.violations.is_empty(), "{self}");
    }
}

/// What a sector holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Content {
    Zeroes,
    Write(u32),
    Foreign,
    Torn,
    Misplaced(u32),
}

impl Ledger {
    /// The ledger of an export of this many bytes, all of them zero.
    pub fn new(bytes: u64) -> Ledger {
        let sectors = usize::try_from(bytes).expect("a volume that fits in memory") / SECTOR;
        let state = State {
            sectors: vec![Sector::default(); sectors],
            zeroed: HashMap::new(),
            unflushed: VecDeque::new(),
            answers: 0,
            next: 1,
            counts: Counts::default(),
        };
        Ledger { run: Random::fresh_seed(), state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many sectors it keeps.
    pub fn sectors(&self) -> u32 {
        self.state().sectors.len() as u32
    }

    /// How much was done.
    pub fn counts(&self) -> Counts {
        self.state().counts
    }

    /// Notes a write before it is sent. `None` while another request is on one of the sectors.
    pub fn begin_write(&self, sectors: Range<u32>, zeroes: bool) -> Option<Pending> {
        let mut state = self.state();
        state.claim(&sectors)?;
        let number = state.next;
        state.next += 1;
        state.counts.sent += 1;
        for at in sectors.clone() {
            state.sectors[at as usize].newest = number;
            if zeroes {
                state.zeroed.entry(at).or_default().insert(number);
            }
        }
        Some(Pending { sectors, number, zeroes })
    }

    /// The bytes of a write.
    pub fn bytes(&self, write: &Pending) -> Vec<u8> {
        let mut bytes = vec![0; write.sectors.len() * SECTOR];
        for (at, sector) in write.sectors.clone().zip(bytes.chunks_exact_mut(SECTOR)) {
            fill(sector, self.run, at, write.number);
        }
        bytes
    }

    /// Notes that a write was answered. One that failed stays open: it may be found or not (I-R4).
    ///
    /// A write that was cut off is never ended: its server may still be at it, so nobody touches its sectors until the
    /// next [`Ledger::verify`].
    pub fn end_write(&self, write: Pending, succeeded: bool, forced: bool) {
        let mut state = self.state();
        state.release(&write.sectors);
        if !succeeded {
            return;
        }
        state.counts.acknowledged += 1;
        for sector in &mut state.sectors[write.sectors.start as usize..write.sectors.end as usize] {
            sector.acknowledged = write.number;
            if forced {
                sector.flushed = write.number;
            }
        }
        state.answered(write.sectors, write.number);
    }

    /// Notes a flush before it is sent: it covers what is answered by now, on whatever connection (R4).
    pub fn begin_flush(&self) -> PendingFlush {
        PendingFlush(self.state().answers)
    }

    /// Notes that a flush was answered. One that was cut off covers nothing; one that failed tells that it covers nothing.
    pub fn end_flush(&self, flush: PendingFlush, succeeded: bool) {
        let mut state = self.state();
        state.counts.flushes += u64::from(succeeded);
        while state.unflushed.front().is_some_and(|oldest| oldest.answer <= flush.0) {
            let Some(Answered { sectors, number, .. }) = state.unflushed.pop_front() else { return };
            for sector in &mut state.sectors[sectors.start as usize..sectors.end as usize] {
                let covered = if succeeded { &mut sector.flushed } else { &mut sector.told };
                *covered = number.max(*covered);
            }
        }
    }

    /// Notes a read before it is sent, so that no write of ours meets it. `None` while one is in flight there.
    pub fn begin_read(&self, sectors: Range<u32>) -> Option<Range<u32>> {
        self.state().claim(&sectors)?;
        Some(sectors)
    }

    /// Judges a read's bytes (`None`: it failed, which is no lie). What it saw stays (I-R2).
    pub fn end_read(&self, sectors: Range<u32>, bytes: Option<&[u8]>) -> Vec<String> {
        let mut state = self.state();
        state.release(&sectors);
        let Some(bytes) = bytes else { return Vec::new() };
        state.counts.reads += 1;
        let mut report = Report::default();
        for (at, sector) in sectors.zip(bytes.chunks_exact(SECTOR)) {
            state.judge(at, content(sector, self.run, at), Lost::OneNode, &mut report);
        }
        report.violations
    }

    /// Reads everything and judges it. The server of requests that were cut off must be gone.
    pub fn verify(&self, lost: Lost, mut read: impl FnMut(u64, &mut [u8]) -> io::Result<()>) -> Report {
        let mut state = self.state();
        let mut report = Report::default();
        let mut buffer = vec![0; 1 << 20];
        let total = state.sectors.len();
        for first in (0..total).step_by(buffer.len() / SECTOR) {
            let count = (total - first).min(buffer.len() / SECTOR);
            let part = &mut buffer[..count * SECTOR];
            if let Err(error) = read((first * SECTOR) as u64, part) {
                report.violations.push(format!("sectors {first}+{count} can't be read: {error}"));
                continue;
            }
            for (at, sector) in (first..).zip(part.chunks_exact(SECTOR)) {
                state.judge(at as u32, content(sector, self.run, at as u32), lost, &mut report);
            }
        }
        state.begin_anew();
        report
    }
}

impl State {
    fn answered(&mut self, sectors: Range<u32>, number: u32) {
        self.answers += 1;
        self.unflushed.push_back(Answered { answer: self.answers, sectors, number });
    }

    /// After a look at everything: what is there counts as answered, nothing is in flight.
    fn begin_anew(&mut self) {
        self.unflushed.clear();
        for at in 0..self.sectors.len() {
            let sector = &mut self.sectors[at];
            sector.busy = false;
            if sector.acknowledged > sector.flushed {
                let (at, number) = (at as u32, sector.acknowledged);
                self.answered(at..at + 1, number);
            }
        }
    }

    fn claim(&mut self, sectors: &Range<u32>) -> Option<()> {
        let slice = &mut self.sectors[sectors.start as usize..sectors.end as usize];
        if slice.iter().any(|sector| sector.busy) {
            return None;
        }
        slice.iter_mut().for_each(|sector| sector.busy = true);
        Some(())
    }

    fn release(&mut self, sectors: &Range<u32>) {
        let slice = &mut self.sectors[sectors.start as usize..sectors.end as usize];
        slice.iter_mut().for_each(|sector| sector.busy = false);
    }

    /// Whether this content may be there, and if so, that it is there from now on.
    fn judge(&mut self, at: u32, content: Content, lost: Lost, report: &mut Report) {
        let sector = self.sectors[at as usize];
        let floor = match lost {
            Lost::OneNode => sector.acknowledged,
            Lost::Unflushed => sector.flushed,
        };
        report.checked += u64::from(sector.newest > 0);
        let zeroed = || self.zeroed.get(&at).and_then(|all| all.range(floor..=sector.newest).next_back().copied());
        let seen = match content {
            Content::Write(number) if (floor..=sector.newest).contains(&number) => Ok(number),
            Content::Write(number) => Err(format!("write {number}")),
            Content::Zeroes => match zeroed() {
                Some(number) => Ok(number),
                None if floor == 0 => Ok(0),
                None => Err("zeroes".to_owned()),
            },
            Content::Foreign => Err("bytes nobody wrote".to_owned()),
            Content::Torn => Err("a torn sector".to_owned()),
            Content::Misplaced(other) => Err(format!("what was written to sector {other}")),
        };
        match seen {
            Ok(number) => self.settle(at, number, report),
            Err(what) => report.violations.push(format!(
                "sector {at} holds {what}; flushed {}, acknowledged {}, newest {}",
                sector.flushed, sector.acknowledged, sector.newest
            )),
        }
    }

    fn settle(&mut self, at: u32, number: u32, report: &mut Report) {
        let sector = &mut self.sectors[at as usize];
        report.unanswered_found += u64::from(number > sector.acknowledged);
        report.unstable_lost += u64::from(number < sector.newest);
        report.untold_lost += u64::from(number < sector.acknowledged && sector.told < sector.acknowledged);
        *sector = Sector {
            flushed: sector.flushed.min(number),
            acknowledged: number,
            newest: number,
            told: sector.told,
            busy: sector.busy,
        };
    }
}

fn fill(sector: &mut [u8], run: u64, at: u32, number: u32) {
    sector[..8].copy_from_slice(MAGIC);
    sector[8..16].copy_from_slice(&run.to_le_bytes());
    sector[16..20].copy_from_slice(&at.to_le_bytes());
    sector[20..24].copy_from_slice(&number.to_le_bytes());
    Random::new(run ^ u64::from(at) << 32 ^ u64::from(number)).fill(&mut sector[24..SECTOR - 4]);
    let checksum = crc32fast::hash(&sector[..SECTOR - 4]);
    sector[SECTOR - 4..].copy_from_slice(&checksum.to_le_bytes());
}

fn content(sector: &[u8], run: u64, at: u32) -> Content {
    let number = |range: Range<usize>| u32::from_le_bytes(sector[range].try_into().expect("4 bytes"));
    if sector.iter().all(|&byte| byte == 0) {
        return Content::Zeroes;
    }
    if &sector[..8] != MAGIC || sector[8..16] != run.to_le_bytes() {
        return Content::Foreign;
    }
    if number(SECTOR - 4..SECTOR) != crc32fast::hash(&sector[..SECTOR - 4]) {
        return Content::Torn;
    }
    match number(16..20) {
        place if place == at => Content::Write(number(20..24)),
        place => Content::Misplaced(place),
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
