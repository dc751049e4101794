//! Verifies, judged exactly (I-B9): a disk changes behind the engines' backs, below every checksum, while clients write
//! and verifies run, are stopped, interrupted and gone on with.
//!
//! - Range by range: what the leader says differs is what differed when both disks were read for it, and every sector of
//!   that was planted; what differed is named, down to the block. Where a client's write is in flight at the same time, a
//!   verify that doesn't hold it back sees a difference nobody planted.
//! - A verify that ends has compared every block since it was first asked for, interruptions included, and counts the
//!   blocks that differed at their last comparison.
//! - What it found is marked on both sides, and nothing else is (unless a crash came between).
//! - A repair copies from the side that was named, a resync makes equal what was found.
//!
//! What is planted and not found yet is legal wherever a client may read it, and excused in the other checks, as long
//! as no answered write covers it. At a run's end a repair must have mended all of it.

mod plan;

pub(crate) use plan::add;
pub use plan::{VerifyPlan, draw};

use crate::counters::Sometimes;
use crate::disk::Sectors;
use crate::failure::Kind;
use crate::rng::mix;
use crate::swarm::SECOND;
use crate::truth::marks_bit;
use crate::world::{Due, World};
use rep_engine::{Command, Notice, Side, Why};
use rep_types::{BLOCK_SIZE, ConnectionState, DiskState, ReplicationState, Role, SyncRule};
use rep_wire::{ControlMessage, Message};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// What nobody writes begins with this.
const PLANTED: u32 = 0xa000_0000;
/// Looks at the marks a verify left, before they count as overtaken by something else.
const LOOKS_MAX: u32 = 20;

/// A range that is being compared, and what was read of it on either node.
#[derive(Clone, Debug)]
struct Compared {
    volume: usize,
    sectors: Sectors,
    read: [Vec<Rc<Vec<u32>>>; 2],
}

/// What is known of a volume.
#[derive(Clone, Debug, Default)]
struct Known {
    /// Sectors that were changed, and to what.
    planted: BTreeMap<u32, u32>,
    /// By leader: each block compared by the verify that isn't at its end, and whether it differed.
    passes: [BTreeMap<u64, bool>; 2],
    /// By leader: what it compared is of a disk that is there no more, and it hasn't heard.
    overtaken: [bool; 2],
    /// By leader: the side a repair is to copy from.
    repairs: [Option<Side>; 2],
    /// The node a repair is about to copy from.
    repair_source: Option<usize>,
    /// Blocks marked because they differed.
    found: BTreeSet<u64>,
    /// Those of which a crash may have lost the mark.
    doubtful: BTreeSet<u64>,
    /// Those a resync makes equal.
    mending: BTreeSet<u64>,
    /// Counts what may change marks.
    changes: u64,
}

/// The model.
#[derive(Debug, Default)]
pub struct Verifies {
    known: Vec<Known>,
    /// By leader, session and the range's name.
    ranges: BTreeMap<(usize, u64, u64), Compared>,
    numbers: u32,
}

impl Verifies {
    /// Nothing known yet.
    pub fn new(volumes: usize) -> Self {
        Verifies { known: vec![Known::default(); volumes], ..Verifies::default() }
    }
}

fn sectors_of(block: u64) -> std::ops::Range<usize> {
    block as usize * 8..(block as usize + 1) * 8
}

impl World {
    // ---- what is done ----

    /// A block of a disk changes, all of it or in part.
    pub(crate) fn plant_difference(&mut self, node: usize, volume: usize, draw: u64) {
        if self.swarm.may_fork || self.history.forked || self.operator.healing || self.truth_just_created(volume) {
            return;
        }
        let blocks = self.swarm.data_bytes / BLOCK_SIZE;
        let focus = &self.swarm.focus_blocks;
        let block = match draw % 4 {
            0 => mix(draw) % blocks,
            _ => u64::from(focus[mix(draw) as usize % focus.len()]),
        };
        let within = [0..8, 0..1, 7..8, 2..5][(draw >> 8) as usize % 4].clone();
        for sector in sectors_of(block).skip(within.start).take(within.len()) {
            self.verifies.numbers += 1;
            let value = PLANTED | self.verifies.numbers;
            self.nodes[node].volumes[volume].data.change(sector, value);
            self.history.plant(volume, sector as u32, value);
            self.verifies.known[volume].planted.insert(sector as u32, value);
        }
        let known = &mut self.verifies.known[volume];
        known.mending.remove(&block);
        self.seen(Sometimes::DataPlanted);
        self.line(|| format!("node {node} vol {volume}: block {block} changes, sectors {within:?}"));
    }

    /// The operator asks for a verify.
    pub(crate) fn ask_verify(&mut self, node: usize, volume: usize, repair_from: Option<Side>) {
        if let Some(side) = repair_from {
            let source = if side == Side::Local { node } else { 1 - node };
            if self.is_being_given_up(source, volume) {
                return; // nobody has both copies given up, each for the other
            }
            self.will_be_given_up(1 - source, volume);
        }
        self.command(node, Command::Verify { volume: Self::number(volume), repair_from });
    }

    // ---- what is seen ----

    /// A verify was asked for, and runs.
    pub(crate) fn verify_granted(&mut self, node: usize, volume: usize, repair_from: Option<Side>) {
        let intent = &mut self.verifies.known[volume].repairs[node];
        *intent = repair_from.or(*intent);
    }

    /// What a node sends of a verify it leads.
    pub(crate) fn verify_sends(&mut self, node: usize, session: u64, message: &Message) {
        let Message::Control(control) = message else { return };
        match &**control {
            ControlMessage::DigestRequest { id, volume, range, .. } => {
                let (volume, sectors) = (volume.0 as usize, Sectors::of(*range));
                let compared = Compared { volume, sectors, read: [Vec::new(), Vec::new()] };
                self.verifies.ranges.insert((node, session, id.0), compared);
            }
            ControlMessage::DigestDone { id, different } => {
                if let Some(compared) = self.verifies.ranges.remove(&(node, session, id.0)) {
                    self.judge_range(node, &compared, different);
                }
            }
            _ => {}
        }
    }

    /// A disk was read for a verify.
    pub(crate) fn digests_read(&mut self, node: usize, volume: usize, sectors: Sectors, values: &[u32]) {
        let same = |compared: &&mut Compared| compared.volume == volume && compared.sectors == sectors;
        let values = Rc::new(values.to_vec());
        for compared in self.verifies.ranges.values_mut().filter(same) {
            compared.read[node].push(values.clone());
        }
    }

    /// Both were compared, block by block.
    fn judge_range(&mut self, leader: usize, compared: &Compared, told: &[u16]) {
        let volume = compared.volume;
        let writes = |sectors: Sectors| {
            self.clients.outstanding.values().any(|asked| {
                asked.volume == volume && (sectors.first..sectors.end()).any(|sector| asked.writes(sector))
            })
        };
        if writes(compared.sectors) {
            self.seen(Sometimes::VerifyHeldWrite);
        }
        for at in 0..compared.sectors.count.div_ceil(8) {
            let block = u64::from(compared.sectors.first / 8 + at);
            let named = told.contains(&(at as u16));
            if let Err(bad) = self.judge_block(compared, at as usize, named) {
                let detail = format!("a verify of node {leader}, volume {volume} block {block}: {bad}");
                return self.fail(Kind::WrongData, "I-B9", detail);
            }
            let known = &mut self.verifies.known[volume];
            known.passes[leader].insert(block, named);
            if named {
                known.found.insert(block);
                known.doubtful.remove(&block);
                self.seen(Sometimes::VerifyFound);
            }
        }
    }

    fn judge_block(&self, compared: &Compared, at: usize, named: bool) -> Result<(), String> {
        let sectors = at * 8..(at * 8 + 8).min(compared.sectors.count as usize);
        let [ours, theirs] = &compared.read;
        let pairs: Vec<_> = ours.iter().flat_map(|a| theirs.iter().map(move |b| (a, b))).collect();
        if pairs.is_empty() {
            return Err("compared without being read on both disks".into());
        }
        let differing = |(a, b): &(&Rc<Vec<u32>>, &Rc<Vec<u32>>)| -> Vec<usize> {
            sectors.clone().filter(|sector| a[*sector] != b[*sector]).collect()
        };
        let planted = |pair: &&(&Rc<Vec<u32>>, &Rc<Vec<u32>>)| {
            let first = compared.sectors.first;
            let is = |sector: usize, value| self.history.is_planted(compared.volume, first + sector as u32, value);
            differing(pair).into_iter().all(|sector| is(sector, pair.0[sector]) || is(sector, pair.1[sector]))
        };
        let differs = pairs.iter().filter(|pair| !differing(pair).is_empty()).count();
        match named {
            false if differs == pairs.len() => Err("differs, and is passed over".into()),
            true if differs == 0 => Err("said to differ, and is the same on both disks".into()),
            true if !pairs.iter().any(|pair| !differing(pair).is_empty() && planted(&pair)) => {
                Err("said to differ, where nothing was changed".into())
            }
            _ => Ok(()),
        }
    }

    /// What a verify says is still marked of what it found, when it comes to its end.
    pub(crate) fn verify_marks(&mut self, node: usize, volume: usize, different_bytes: u64, marked_bytes: u64) {
        let Some(shown) = self.snapshot(node).map(|shown| shown.volumes[volume].clone()) else { return };
        let out_of_sync = shown.out_of_sync_bytes;
        if marked_bytes > different_bytes || marked_bytes > out_of_sync {
            let detail = format!(
                "node {node} volume {volume}: of {different_bytes} bytes found to differ {marked_bytes} are said to be \
                 marked, of {out_of_sync} marked in all"
            );
            self.fail(Kind::WrongData, "I-B9", detail);
        }
        if marked_bytes < different_bytes {
            self.seen(Sometimes::VerifyMendedMeanwhile);
        }
    }

    /// A node's disks are other ones now: nothing that was compared is said of them.
    pub(crate) fn verify_meets_new_disks(&mut self) {
        for known in &mut self.verifies.known {
            known.overtaken = [0, 1].map(|leader| !known.passes[leader].is_empty());
            known.passes.iter_mut().for_each(BTreeMap::clear);
        }
    }

    /// A verify came to its end.
    pub(crate) fn verify_finished(&mut self, node: usize, volume: usize, different_bytes: u64) {
        self.seen(Sometimes::VerifyFinished);
        let size = self.snapshot(node).map_or(0, |shown| shown.volumes[volume].size_bytes);
        self.note_overwritten(node, volume);
        let understood = self.agreed_on(rep_wire::features::REPAIR_WORD);
        let known = &mut self.verifies.known[volume];
        let pass = std::mem::take(&mut known.passes[node]);
        let repair = known.repairs[node].take();
        if std::mem::take(&mut known.overtaken[node]) {
            return;
        }
        let different = pass.values().filter(|differs| **differs).count() as u64 * BLOCK_SIZE;
        if let Some(block) = (0..size.div_ceil(BLOCK_SIZE)).find(|block| !pass.contains_key(block)) {
            let detail = format!("node {node} volume {volume}: a verify ends, and never compared block {block}");
            return self.fail(Kind::WrongData, "I-B9", detail);
        }
        if different != different_bytes {
            let detail =
                format!("node {node} volume {volume}: {different_bytes} bytes are said to differ, not {different}");
            return self.fail(Kind::WrongData, "I-B9", detail);
        }
        if let Some(side) = repair.filter(|_| different > 0) {
            let source = if side == Side::Local { node } else { 1 - node };
            // Of two repairs that contradict each other either may win.
            let contradicted = known.repair_source.is_some_and(|other| other != source);
            known.repair_source = (!contradicted && understood).then_some(source);
            self.will_be_given_up(1 - source, volume);
        }
        let changes = self.verifies.known[volume].changes;
        self.after(SECOND, Due::LookAtMarks { volume, changes, looks: 0 });
    }

    /// Counts what was planted and covered by an answered write before this verify came to it.
    fn note_overwritten(&mut self, node: usize, volume: usize) {
        let known = &self.verifies.known[volume];
        let covered = |(sector, value): &(&u32, &u32)| {
            let passed_over = known.passes[node].get(&u64::from(**sector / 8)) == Some(&false);
            passed_over && !self.history.is_planted(volume, **sector, **value)
        };
        let gone: Vec<u32> = known.planted.iter().filter(covered).map(|(sector, _)| *sector).collect();
        for sector in gone {
            self.verifies.known[volume].planted.remove(&sector);
            self.seen(Sometimes::VerifyOverwritten);
        }
    }

    /// Whether what a verify found is marked on both nodes, and nothing else is; when all has come to rest.
    pub(crate) fn look_at_marks(&mut self, volume: usize, changes: u64, looks: u32) {
        if self.verifies.known[volume].changes != changes || looks > LOOKS_MAX {
            return;
        }
        let shown =
            [0, 1].map(|node| self.snapshot(node).map(|shown| (shown.connection, shown.volumes[volume].clone())));
        let settled = shown.iter().flatten().filter(|(connection, shown)| {
            let good = shown.disk == DiskState::UpToDate && shown.peer_disk == DiskState::UpToDate;
            let joined = *connection == ConnectionState::Connected && good && !shown.growing;
            joined && shown.replication == ReplicationState::Established
        });
        let idle = self.nodes.iter().all(|node| node.in_flight(volume) == 0);
        if settled.count() < 2 || !idle {
            return self.after(SECOND / 4, Due::LookAtMarks { volume, changes, looks: looks + 1 });
        }
        for (node, (_, shown)) in shown.into_iter().flatten().enumerate() {
            let Some(loaded) = self.durable(node, volume) else { return };
            let known = &self.verifies.known[volume];
            if let Some(block) = known.found.iter().find(|block| !marks_bit(&loaded, **block)) {
                let detail = format!("node {node} volume {volume} doesn't mark block {block}, which a verify found");
                return self.fail(Kind::WrongData, "I-B9", detail);
            }
            let most = known.found.union(&known.doubtful).count() as u64 * BLOCK_SIZE;
            if shown.out_of_sync_bytes > most {
                let (marked, found) = (shown.out_of_sync_bytes, &known.found);
                let detail = format!("node {node} volume {volume} marks {marked} bytes, a verify found {found:?}");
                return self.fail(Kind::WrongData, "I-B9", detail);
            }
        }
    }

    /// The most a node may call out-of-sync on disks that are equal but for what verifies found.
    pub(crate) fn found_bytes_max(&self, volume: usize) -> u64 {
        let known = &self.verifies.known[volume];
        known.found.union(&known.doubtful).count() as u64 * BLOCK_SIZE
    }

    /// What an engine tells that bears on verifies.
    pub(crate) fn verify_notice(&mut self, node: usize, notice: &Notice) {
        match notice {
            Notice::Replication { volume, from, to, why } => {
                let volume = volume.0 as usize;
                if *from == ReplicationState::VerifyS && *why != Why::VerifyDone {
                    self.seen(Sometimes::VerifyInterrupted);
                    self.verifies.known[volume].repairs[node] = None;
                }
                let verify = || self.snapshot(node).and_then(|shown| shown.volumes[volume].verify);
                if *to == ReplicationState::VerifyS && verify().is_some_and(|verify| verify.done_bytes > 0) {
                    self.seen(Sometimes::VerifyResumed);
                }
                if to.is_resync() && !from.is_resync() {
                    self.resync_mends(node, volume, *to);
                }
            }
            Notice::Connection { to, .. } if *to != ConnectionState::Connected => {
                for known in &mut self.verifies.known {
                    known.changes += 1;
                    known.overtaken[node] = false;
                }
            }
            Notice::Disk { volume, to, .. } => {
                let known = &mut self.verifies.known[volume.0 as usize];
                known.changes += 1;
                // Whose data are old by a word said since, a fence-peer handler's for instance, is nobody's source.
                if *to == DiskState::Outdated {
                    known.repair_source.take_if(|source| *source == node);
                }
            }
            Notice::PeerDisk { volume, .. } => self.verifies.known[volume.0 as usize].changes += 1,
            // Who has been Primary since isn't repaired, even if it has given the role away again.
            Notice::Role { to: Role::Primary, .. } => {
                for known in &mut self.verifies.known {
                    known.repair_source.take_if(|source| *source == 1 - node);
                }
            }
            Notice::Decided { volume, decision, .. } if decision.verdict == rep_types::SyncVerdict::Nothing => {
                // Nothing is marked.
                let known = &mut self.verifies.known[volume.0 as usize];
                known.doubtful.clear();
            }
            _ => {}
        }
    }

    /// A resync begins: it makes equal what was found, from the side that was named.
    fn resync_mends(&mut self, node: usize, volume: usize, to: ReplicationState) {
        let known = &mut self.verifies.known[volume];
        known.changes += 1;
        let found = std::mem::take(&mut known.found);
        known.mending.extend(found);
        let target = if to.is_target() { node } else { 1 - node };
        if let Some(source) = known.repair_source.take() {
            self.seen(Sometimes::VerifyRepaired);
            // One that has become Primary since the repair was asked for is never repaired; and what the two have gone
            // through since may say more than the operator did. A repair that is on time is an interrupted resync: one side
            // has given its data up, and which is the repair's doing unless the operator said so of the named one.
            let decided = self.snapshot(node).and_then(|shown| shown.volumes[volume].last_decision);
            let by_repair = !self.is_being_given_up(source, volume);
            let by_word = decided.is_some_and(|decided| match decided.rule {
                SyncRule::Reconnected | SyncRule::BothOff => true,
                SyncRule::InterruptedResync => by_repair,
                _ => false,
            });
            if source == target && by_word && self.role(1 - source) != Role::Primary {
                let detail = format!("volume {volume}: a repair from node {source} overwrites its data");
                self.fail(Kind::WrongData, "I-B9", detail);
            }
        }
    }

    /// A node's daemon is gone, and with it what it hadn't recorded.
    pub(crate) fn verify_forgets(&mut self, node: usize) {
        for known in &mut self.verifies.known {
            known.passes[node].clear();
            known.overtaken[node] = false;
            known.repairs[node] = None;
            known.repair_source = None;
            known.changes += 1;
            let found = std::mem::take(&mut known.found);
            known.doubtful.extend(found);
            let mending = std::mem::take(&mut known.mending);
            known.doubtful.extend(mending);
        }
    }

    /// Both call their disks equal: what was found is.
    pub(crate) fn check_mended(&mut self, volume: usize) {
        if self.verifies.known[volume].mending.is_empty() {
            return;
        }
        let mending = std::mem::take(&mut self.verifies.known[volume].mending);
        let [a, b] = [0, 1].map(|node| self.nodes[node].volumes[volume].data.cached());
        for block in &mending {
            let mut sectors = sectors_of(*block);
            if let Some(sector) = sectors.find(|at| a[*at] != b[*at] && !self.is_being_written(volume, *at as u32)) {
                let detail = format!("volume {volume} sector {sector}: a verify found it, and it isn't made equal");
                return self.fail(Kind::WrongData, "I-B9", detail);
            }
        }
        self.seen(Sometimes::VerifyMended);
        self.weed_planted(volume);
    }

    /// Forgets what was planted and stands on no disk any more.
    fn weed_planted(&mut self, volume: usize) {
        let planted = std::mem::take(&mut self.verifies.known[volume].planted);
        for (sector, value) in planted {
            let held = self.nodes.iter().any(|node| {
                let data = &node.volumes[volume].data;
                data.cached()[sector as usize] == value || data.stable()[sector as usize] == value
            });
            if held {
                self.verifies.known[volume].planted.insert(sector, value);
            } else {
                self.history.weed(volume, sector, value);
            }
        }
    }

    /// Whether two values of a sector differ because one of them was planted.
    pub(crate) fn is_excused(&self, volume: usize, sector: usize, a: u32, b: u32) -> bool {
        [a, b].iter().any(|value| self.history.is_planted(volume, sector as u32, *value))
    }

    // ---- the end ----

    /// Whether the disks differ, as far as both nodes agreed to use them.
    fn differs(&mut self, volume: usize) -> bool {
        let end = self.agreed_sectors(volume);
        let [a, b] = [0, 1].map(|node| &self.nodes[node].volumes[volume].data.cached()[..end]);
        a != b
    }

    /// Whether something that was planted is still to be found.
    pub(crate) fn has_planted(&mut self) -> bool {
        !self.history.forked && (0..self.swarm.volumes).any(|volume| self.differs(volume))
    }

    /// The operator looks for what was planted, and has it mended.
    pub(crate) fn mend_planted(&mut self) {
        for volume in 0..self.swarm.volumes {
            let shown = [0, 1].map(|node| self.snapshot(node).map(|shown| shown.volumes[volume].clone()));
            let ready = shown.iter().flatten().all(|shown| {
                let good = shown.disk == DiskState::UpToDate && shown.peer_disk == DiskState::UpToDate;
                good && shown.replication == ReplicationState::Established
            });
            if self.swarm.verify.plants == 0 || !ready || !self.is_connected(0) || !self.is_connected(1) {
                continue;
            }
            let leader = self.dice.misc.below(2) as usize;
            if self.differs(volume) {
                let source = (0..2).find(|node| self.role(*node) == Role::Primary).unwrap_or(leader);
                let side = if source == leader { Side::Local } else { Side::Peer };
                self.ask_verify(leader, volume, Some(side));
            } else if shown.iter().flatten().any(|shown| shown.out_of_sync_bytes > 0) {
                let marked = |node: &usize| shown[*node].as_ref().is_some_and(|shown| shown.out_of_sync_bytes > 0);
                let node = (0..2).find(marked).unwrap_or(leader);
                self.command(node, Command::Resync { volume: Self::number(volume) });
            }
        }
    }
}
