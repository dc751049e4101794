//! What clients may see: for every sector, the values it may hold now, judged from outside (I-R1 to I-R4, I-D1, I-D2).
//!
//! The model never looks into an engine. It knows when a write was asked for, when and how it was answered, and what
//! reads saw. A write is a *version* of each of its sectors:
//!
//! ```text
//!   asked ──────── answered ──────────────── overwritten ─────────── gone
//!     inv             fin                        over               (the overwriting one is stable)
//! ```
//!
//! - Answered well: whoever reads from now on sees it, or a version asked for before its answer came.
//! - Seen by a read: it had been done when that ended, also if it isn't answered. What is asked for later comes after it, and it
//!   doesn't come back.
//! - Answered with an error, or never (its Primary died): either value, until a read has settled it (I-R3, I-R4).
//! - Overwritten, but by something no flush has covered: comes back if every disk that held it lost its cache
//!   (`lose_unflushed`). Once the overwriting version is covered by a flush, it is `gone`.
//!
//! Time is a counter of events, so no two are at once.

/// A moment of the model's time.
pub type Tick = u64;

/// Not yet.
const NEVER: Tick = u64::MAX;

/// What a read may not have returned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadRead {
    /// The sector.
    pub sector: u32,
    /// What it returned.
    pub value: u32,
    /// Whether that value was ever written there (then it is stale; else it is garbage).
    pub once_written: bool,
    /// The versions it could have returned.
    pub expected: Vec<u32>,
}

/// A write as the model knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WriteRef {
    /// The volume.
    pub volume: usize,
    /// First sector.
    pub first: u32,
    /// Number of sectors.
    pub count: u32,
    /// Tick at which it was asked for; unique, hence its name.
    pub inv: Tick,
}

#[derive(Clone, Debug)]
struct Version {
    value: u32,
    inv: Tick,
    fin: Tick,
    /// A read that had seen it had ended: by then it had been done, answered or not.
    seen: Tick,
    over: Tick,
    gone: bool,
    /// On stable media wherever it is at all: seeing it settles the sector for good.
    stable: bool,
    /// Nobody wrote it: a disk holds it since something changed there behind everybody's back.
    planted: bool,
    /// Its client was told that it was done.
    answered: bool,
}

impl Version {
    /// When it had been done at the latest, as far as anybody can tell.
    fn done_by(&self) -> Tick {
        self.fin.min(self.seen)
    }

    /// The same, but of one that failed only what a read has seen.
    fn known_done_by(&self) -> Tick {
        if self.answered { self.done_by() } else { self.seen }
    }
}

#[derive(Clone, Debug, Default)]
struct Sector {
    versions: Vec<Version>,
    written: Vec<u32>,
}

#[derive(Debug)]
struct VolumeHistory {
    initial: Vec<u32>,
    /// What the other node's disk held then; nobody may see it, unless that node goes on by force.
    other: Vec<u32>,
    /// Per sector: 1 + its index in `sectors`; 0: never written.
    index: Vec<u32>,
    sectors: Vec<Sector>,
    touched: Vec<u32>,
    /// When something was last legally lost: what a read under way then saw may be gone with it.
    lost_at: Tick,
}

/// The model.
#[derive(Debug)]
pub struct History {
    now: Tick,
    volumes: Vec<VolumeHistory>,
    /// After a fork only I-R1 can be judged: a value is what was once written there.
    pub forked: bool,
    reads_open: Vec<Tick>,
}

impl History {
    /// A model of volumes that begin with this content: of the node that has the data, and of the other.
    pub fn new(initial: Vec<[Vec<u32>; 2]>) -> Self {
        let volumes = initial
            .into_iter()
            .map(|[initial, other]| VolumeHistory {
                index: vec![0; initial.len()],
                initial,
                other,
                sectors: Vec::new(),
                touched: Vec::new(),
                lost_at: 0,
            })
            .collect();
        History { now: 1, volumes, forked: false, reads_open: Vec::new() }
    }

    fn tick(&mut self) -> Tick {
        self.now += 1;
        self.now
    }

    /// A moment, for an operation that begins.
    pub fn begin(&mut self) -> Tick {
        self.tick()
    }

    /// A read begins.
    pub fn begin_read(&mut self) -> Tick {
        let tick = self.tick();
        self.reads_open.push(tick);
        tick
    }

    /// A read ended without data.
    pub fn drop_read(&mut self, began: Tick) {
        self.reads_open.retain(|open| *open != began);
    }

    /// A write or zero of `count` sectors begins; sector `i` gets `value(i)`.
    pub fn begin_write(&mut self, volume: usize, first: u32, count: u32, value: impl Fn(u32) -> u32) -> WriteRef {
        let inv = self.tick();
        for at in 0..count {
            let value = value(at);
            let sector = self.volumes[volume].sector_mut(first + at);
            sector.written.push(value);
            sector.versions.push(Version {
                value,
                inv,
                fin: NEVER,
                seen: NEVER,
                over: NEVER,
                gone: false,
                stable: false,
                planted: false,
                answered: false,
            });
        }
        WriteRef { volume, first, count, inv }
    }

    /// The write was answered well. `stable`: the answer means stable (FUA, or `durability = "stable"`).
    pub fn finish_write(&mut self, write: WriteRef, stable: bool) {
        let now = self.tick();
        let oldest_read = self.oldest_read();
        for at in 0..write.count {
            let sector = self.volumes[write.volume].sector_mut(write.first + at);
            for version in &mut sector.versions {
                if version.inv == write.inv {
                    version.fin = now;
                    version.stable = stable;
                    version.answered = true;
                } else if version.done_by() < write.inv {
                    version.over = version.over.min(now);
                    version.gone |= stable;
                }
            }
            sector.prune(oldest_read);
        }
    }

    /// The write was answered with an error, or its Primary died: either value.
    pub fn abandon_write(&mut self, write: WriteRef) {
        let now = self.tick();
        for at in 0..write.count {
            let sector = self.volumes[write.volume].sector_mut(write.first + at);
            for version in &mut sector.versions {
                if version.inv == write.inv {
                    version.fin = now;
                }
            }
        }
    }

    /// A flush asked for at `began` was answered: what was answered well, or seen, before it was asked for is stable. A write that failed
    /// may be done after that, as a forwarded one whose node took its leave.
    pub fn finish_flush(&mut self, volume: usize, began: Tick) {
        self.tick();
        let oldest_read = self.oldest_read();
        for sector in &mut self.volumes[volume].sectors {
            for version in &mut sector.versions {
                version.gone |= version.over < began;
                version.stable |= version.known_done_by() < began;
            }
            sector.prune(oldest_read);
        }
    }

    /// Every disk that held everything answered lost its cache: what no flush covered may be there or not.
    pub fn lose_unflushed(&mut self, volume: usize) {
        let now = self.tick();
        self.volumes[volume].lost_at = now;
        for sector in &mut self.volumes[volume].sectors {
            if sector.versions.len() == 1 {
                sector.versions[0].stable = true;
                continue;
            }
            for version in &mut sector.versions {
                if version.done_by() == NEVER {
                    continue;
                }
                version.stable = true;
                if !version.gone {
                    version.over = NEVER;
                    if version.fin != NEVER {
                        version.fin = version.fin.min(now);
                    }
                }
            }
        }
    }

    /// A disk holds another value from now on, which nobody wrote: whoever reads there sees it, and whoever reads on the
    /// other sees what was there before. Both until the next write that is answered, which covers both.
    pub fn plant(&mut self, volume: usize, sector: u32, value: u32) {
        let now = self.tick();
        let sector = self.volumes[volume].sector_mut(sector);
        sector.written.push(value);
        let (over, gone, stable, planted, answered) = (NEVER, false, true, true, false);
        sector.versions.push(Version { value, inv: now, fin: now, seen: now, over, gone, stable, planted, answered });
    }

    /// No disk holds a planted value any more.
    pub fn weed(&mut self, volume: usize, sector: u32, value: u32) {
        let (now, oldest_read) = (self.tick(), self.oldest_read());
        let sector = self.volumes[volume].sector_mut(sector);
        for version in sector.versions.iter_mut().filter(|version| version.planted && version.value == value) {
            (version.over, version.gone) = (version.over.min(now), true);
        }
        sector.prune(oldest_read);
    }

    /// Whether a value was planted in this sector, and nothing answered has covered it since.
    pub fn is_planted(&self, volume: usize, sector: u32, value: u32) -> bool {
        self.volumes[volume].get(sector).is_some_and(|known| {
            known.versions.iter().any(|version| version.planted && version.value == value && version.over == NEVER)
        })
    }

    /// Whether anything was answered that no flush has covered.
    pub fn has_unflushed(&self, volume: usize) -> bool {
        let unflushed = |version: &Version| version.known_done_by() != NEVER && !version.stable && !version.gone;
        self.volumes[volume].sectors.iter().any(|sector| sector.versions.iter().any(unflushed))
    }

    /// A read that began at `began` returned these values from `first` on.
    pub fn finish_read(&mut self, volume: usize, first: u32, values: &[u32], began: Tick) -> Result<(), BadRead> {
        let now = self.tick();
        let forked = self.forked;
        self.drop_read(began);
        for (at, value) in values.iter().enumerate() {
            self.volumes[volume].judge(first + at as u32, *value, began, now, forked)?;
        }
        Ok(())
    }

    /// Whether a disk that holds `value` in this sector holds everything that was answered.
    pub fn is_current(&self, volume: usize, sector: u32, value: u32) -> bool {
        self.volumes[volume].any(sector, value, |version| version.over == NEVER)
    }

    /// Whether a disk with `value` stable in this sector holds everything a flush covered.
    pub fn is_kept(&self, volume: usize, sector: u32, value: u32) -> bool {
        self.volumes[volume].any(sector, value, |version| !version.gone)
    }

    /// Whether a disk that holds `value` in this sector lacks a write whose client was told that it was done, and that nothing has
    /// overwritten. One that failed may have been seen, and be gone all the same.
    pub fn lacks_answered(&self, volume: usize, sector: u32, value: u32) -> bool {
        let newest = |version: &Version| version.answered && version.over == NEVER;
        let known = self.volumes[volume].get(sector);
        !self.is_current(volume, sector, value) && known.is_none_or(|sector| sector.versions.iter().any(newest))
    }

    /// Whether `value` was ever in this sector.
    pub fn was_written(&self, volume: usize, sector: u32, value: u32) -> bool {
        let known = &self.volumes[volume];
        known.initial[sector as usize] == value
            || known.get(sector).is_some_and(|sector| sector.written.contains(&value))
    }

    /// The sectors clients ever wrote.
    pub fn touched(&self, volume: usize) -> &[u32] {
        &self.volumes[volume].touched
    }

    /// What stood in the volume when it began.
    pub fn initial(&self, volume: usize) -> &[u32] {
        &self.volumes[volume].initial
    }

    /// The values a sector may hold now, for a report.
    pub fn describe(&self, volume: usize, sector: u32) -> String {
        match self.volumes[volume].get(sector) {
            None => format!("initial {}", self.volumes[volume].initial[sector as usize]),
            Some(known) => format!("{:?}", known.versions),
        }
    }

    fn oldest_read(&self) -> Tick {
        self.reads_open.iter().copied().min().unwrap_or(NEVER)
    }
}

impl VolumeHistory {
    /// What is known of a sector; nothing, too, of those beyond what the volume began with.
    fn get(&self, sector: u32) -> Option<&Sector> {
        let at = self.index.get(sector as usize)?.checked_sub(1)?;
        Some(&self.sectors[at as usize])
    }

    fn sector_mut(&mut self, sector: u32) -> &mut Sector {
        let slot = &mut self.index[sector as usize];
        if *slot == 0 {
            let first = Version {
                value: self.initial[sector as usize],
                inv: 0,
                fin: 0,
                seen: 0,
                over: NEVER,
                gone: false,
                stable: true,
                planted: false,
                answered: true,
            };
            self.sectors.push(Sector { versions: vec![first], written: Vec::new() });
            self.touched.push(sector);
            *slot = self.sectors.len() as u32;
        }
        &mut self.sectors[*slot as usize - 1]
    }

    fn any(&self, sector: u32, value: u32, holds: impl Fn(&Version) -> bool) -> bool {
        match self.get(sector) {
            None => self.initial[sector as usize] == value,
            Some(known) => known.versions.iter().any(|version| version.value == value && holds(version)),
        }
    }

    fn judge(&mut self, sector: u32, value: u32, began: Tick, now: Tick, forked: bool) -> Result<(), BadRead> {
        let initial = self.initial[sector as usize];
        let settles = began > self.lost_at;
        let at = self.index[sector as usize];
        if forked && value == self.other[sector as usize] {
            return Ok(());
        }
        if at == 0 {
            let bad = BadRead { sector, value, once_written: false, expected: vec![initial] };
            return if value == initial { Ok(()) } else { Err(bad) };
        }
        let known = &mut self.sectors[at as usize - 1];
        let once_written = value == initial || known.written.contains(&value);
        if forked && once_written {
            return Ok(());
        }
        let legal = |version: &Version| version.value == value && version.over > began;
        if !known.versions.iter().any(legal) {
            let expected = known.versions.iter().filter(|v| v.over > began).map(|v| v.value).collect();
            return Err(BadRead { sector, value, once_written, expected });
        }
        if settles {
            known.settle(value, began, now);
        }
        Ok(())
    }
}

impl Sector {
    /// A read that began at `began` saw `value`: what was over by then and isn't it never comes back.
    fn settle(&mut self, value: u32, began: Tick, now: Tick) {
        if self.versions.iter().any(|version| version.planted && version.over == NEVER) {
            // The other disk may hold another value, and be read next.
            return;
        }
        let stable = self.versions.iter().filter(|v| v.value == value && v.over > began).all(|v| v.stable);
        // Zeroes may be of several writes: then nobody can tell which was seen.
        let mut seen = self.versions.iter_mut().filter(|v| v.value == value);
        if let (Some(only), None) = (seen.next(), seen.next()) {
            only.seen = only.seen.min(now);
        }
        for version in &mut self.versions {
            if version.value != value && version.done_by() < began {
                version.over = version.over.min(now);
                version.gone |= stable;
            }
        }
    }

    /// Forgets what can't come back and no open read may still return.
    fn prune(&mut self, oldest_read: Tick) {
        if self.versions.len() > 1 {
            self.versions.retain(|version| !version.gone || version.over > oldest_read.min(NEVER - 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_sector() -> History {
        History::new(vec![[vec![0], vec![0]]])
    }

    fn write(history: &mut History, value: u32) -> WriteRef {
        history.begin_write(0, 0, 1, |_| value)
    }

    fn read(history: &mut History, value: u32) -> Result<(), BadRead> {
        let began = history.begin_read();
        history.finish_read(0, 0, &[value], began)
    }

    #[test]
    fn what_is_answered_is_what_is_read() {
        let mut history = one_sector();
        let first = write(&mut history, 1);
        history.finish_write(first, false);
        assert_eq!(read(&mut history, 1), Ok(()));
        let stale = read(&mut history, 0).expect_err("it was overwritten");
        assert_eq!((stale.once_written, stale.expected), (true, vec![1]));
    }

    #[test]
    fn what_a_flush_covers_outlives_every_cache() {
        for flushed in [false, true] {
            let mut history = one_sector();
            let first = write(&mut history, 1);
            history.finish_write(first, false);
            if flushed {
                let began = history.begin();
                history.finish_flush(0, began);
            }
            history.lose_unflushed(0);
            assert_eq!(history.is_kept(0, 0, 0), !flushed);
            assert!(history.is_kept(0, 0, 1));
        }
    }

    /// A write that failed may be done after a FLUSH was asked for, which doesn't cover it then: what it overwrites may come back
    /// with a lost cache. One that was seen before is covered. Found by seed 1073034.
    #[test]
    fn a_flush_covers_of_what_failed_only_what_was_seen() {
        for seen_before in [false, true] {
            let mut history = one_sector();
            let failed = write(&mut history, 1);
            history.abandon_write(failed);
            if seen_before {
                assert_eq!(read(&mut history, 1), Ok(()));
            }
            let began = history.begin();
            assert_eq!(read(&mut history, 1), Ok(()));
            history.finish_flush(0, began);
            assert_eq!(history.is_kept(0, 0, 0), !seen_before);
        }
    }
}
