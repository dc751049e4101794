//! Clients: they ask, and every answer is judged by the history.

use crate::counters::Sometimes;
use crate::disk::Sectors;
use crate::failure::Kind;
use crate::history::{Tick, WriteRef};
use crate::plan::{ClientOp, Step};
use crate::swarm::US;
use crate::world::{Due, World};
use rep_engine::Event;
use rep_types::{ByteRange, IoError, PayloadId, RequestId, SECTOR_SIZE};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Requests in flight at most; more are passed over.
const OUTSTANDING_MAX: usize = 32;

/// A request in flight.
#[derive(Clone, Debug)]
pub struct Outstanding {
    /// The node it went to.
    pub node: usize,
    /// The volume.
    pub volume: usize,
    /// What was asked.
    pub op: ClientOp,
    /// When, on the history's clock.
    pub began: Tick,
    /// When, on the simulation's.
    pub at: u64,
    /// It waits, or has waited, for good data.
    pub starved: bool,
    /// A disk that is kept failed at something that overlaps it: it may be answered with that error.
    pub passed_on: bool,
    /// Who asked was told that what is answered is stable.
    stable: bool,
    write: Option<WriteRef>,
    values: Rc<Vec<u32>>,
}

impl Outstanding {
    /// Whether this writes a sector.
    pub fn writes(&self, sector: u32) -> bool {
        self.write.is_some_and(|write| (write.first..write.first + write.count).contains(&sector))
    }
}

/// The clients.
#[derive(Debug, Default)]
pub struct Clients {
    /// Requests in flight.
    pub outstanding: BTreeMap<u64, Outstanding>,
    /// Blocks clients wrote, by volume, counted when asked and when answered, or done where nobody waits any more.
    pub blocks_written: Vec<u64>,
    /// What resyncs that run may copy, by volume and node.
    pub budgets: Vec<[Option<crate::checks::ResyncBudget>; 2]>,
    /// What clients of each node are owed, by volume.
    pub words: Vec<[crate::owed::Word; 2]>,
    /// When a disk of a volume last failed, ceased to be good or became so, by volume.
    pub troubled_at: Vec<Option<u64>>,
    /// Writes whose client died, or was told of an error, while its Primary may still have them to do; and on which node it was.
    pub late: Vec<(usize, WriteRef)>,
    next_request: u64,
    next_value: u32,
}

impl Clients {
    /// No requests yet.
    pub fn new(volumes: usize) -> Self {
        Clients {
            blocks_written: vec![0; volumes],
            troubled_at: vec![None; volumes],
            words: vec![Default::default(); volumes],
            budgets: vec![[None; 2]; volumes],
            ..Clients::default()
        }
    }

    /// A write may have changed blocks just now.
    pub fn count_blocks(&mut self, write: WriteRef) {
        self.blocks_written[write.volume] += u64::from(write.count.div_ceil(8)) + 1;
    }
}

fn bytes(first: u32, count: u32) -> ByteRange {
    ByteRange::new(u64::from(first) * SECTOR_SIZE, count * SECTOR_SIZE as u32)
}

impl World {
    /// The node a client's request goes to: the one that offers the device. Two do so after a fork.
    fn serving(&self, volume: usize, client: u32) -> Option<usize> {
        let serves = |node: &usize| {
            let state = &self.nodes[*node];
            let disk = &state.volumes[volume];
            state.is_up() && !state.closing && disk.exported.is_some() && disk.openers > 0
        };
        let serving: Vec<usize> = (0..2).filter(serves).collect();
        serving.get(client as usize % serving.len().max(1)).copied()
    }

    /// A client asks for something, if anyone offers the device.
    pub(crate) fn client(&mut self, volume: usize, client: u32, op: ClientOp) {
        if self.clients.outstanding.len() < OUTSTANDING_MAX
            && let Some(node) = self.serving(volume, client)
            && let Some(op) = self.within_device(node, volume, op)
        {
            self.ask(node, volume, op);
        }
    }

    /// A request cut at the end of the device as it is offered now.
    fn within_device(&self, node: usize, volume: usize, op: ClientOp) -> Option<ClientOp> {
        let sectors = (self.nodes[node].volumes[volume].exported?.size_bytes / SECTOR_SIZE) as u32;
        let cut = |first: u32, count: u32| count.min(sectors.saturating_sub(first));
        let op = match op {
            ClientOp::Read { first, count } => ClientOp::Read { first, count: cut(first, count) },
            ClientOp::Write { first, count, fua } => ClientOp::Write { first, count: cut(first, count), fua },
            ClientOp::Zero { first, count, mode, fua } => ClientOp::Zero { first, count: cut(first, count), mode, fua },
            ClientOp::Flush => return Some(op),
        };
        // Behind the last whole block there may be nothing of it left.
        let op = self.whole_blocks_of(node, volume, op);
        let is_empty = matches!(
            op,
            ClientOp::Read { count: 0, .. } | ClientOp::Write { count: 0, .. } | ClientOp::Zero { count: 0, .. }
        );
        (!is_empty).then_some(op)
    }

    /// Sends a request to a node's engine.
    pub(crate) fn ask(&mut self, node: usize, volume: usize, op: ClientOp) {
        let op = self.whole_blocks_of(node, volume, op);
        self.clients.next_request += 1;
        let number = self.clients.next_request;
        let request = RequestId(number);
        let mut asked = Outstanding {
            node,
            volume,
            op,
            began: 0,
            at: self.now,
            starved: false,
            passed_on: false,
            stable: self.told_stable(node, volume),
            write: None,
            values: Rc::new(Vec::new()),
        };
        let name = Self::number(volume);
        let event = match op {
            ClientOp::Read { first, count } => {
                asked.began = self.history.begin_read();
                let payload = self.give(node, Rc::new(vec![0xbad0_bad0; count as usize]), false);
                Event::ClientRead { request, volume: name, range: bytes(first, count), payload }
            }
            ClientOp::Write { first, count, fua } => {
                let base = self.clients.next_value + 1;
                self.clients.next_value += count;
                let write = self.history.begin_write(volume, first, count, |at| base + at);
                asked.began = write.inv;
                asked.write = Some(write);
                asked.values = Rc::new((base..base + count).collect());
                let payload = self.give(node, asked.values.clone(), false);
                self.write_meets_comparison(volume, bytes(first, count));
                Event::ClientWrite { request, volume: name, range: bytes(first, count), payload, fua }
            }
            ClientOp::Zero { first, count, mode, fua } => {
                let write = self.history.begin_write(volume, first, count, |_| 0);
                asked.began = write.inv;
                asked.write = Some(write);
                asked.values = Rc::new(vec![0; count as usize]);
                Event::ClientZero { request, volume: name, range: bytes(first, count), mode, fua }
            }
            ClientOp::Flush => {
                asked.began = self.history.begin();
                Event::ClientFlush { request, volume: name }
            }
        };
        if let Some(write) = asked.write {
            self.clients.count_blocks(write);
        }
        self.line(|| format!("node {node} vol {volume} client {number}: {op:?} values {:?}", asked.values.first()));
        self.clients.outstanding.insert(number, asked);
        self.feed(node, event);
    }

    /// An engine answers.
    pub(crate) fn complete(
        &mut self,
        node: usize,
        number: u64,
        result: Result<(), IoError>,
        payload: Option<PayloadId>,
    ) {
        let Some(asked) = self.clients.outstanding.remove(&number) else {
            return self.fail(Kind::Crash, "answer", format!("node {node} answers request {number} twice"));
        };
        if asked.node != node {
            return self.fail(Kind::Crash, "answer", format!("node {node} answers request {number} of the other"));
        }
        if let Some(write) = asked.write {
            self.clients.count_blocks(write);
        }
        self.check_answered_alone(&asked, result);
        self.check_answered_with_data(&asked, result);
        self.check_starved_answer(&asked, result);
        self.check_forwarded_answer(&asked, result);
        if result.is_err() {
            self.seen(Sometimes::RequestFailed);
            self.check_error(&asked, result);
            self.note_refused_alone(&asked);
        }
        self.check_owed(&asked, result);
        let returned = payload.map(|id| self.nodes[node].payloads.take_back(id));
        match asked.op {
            ClientOp::Read { first, .. } => self.read_answered(&asked, first, result, returned),
            ClientOp::Flush => {
                if result.is_ok() {
                    self.seen(if asked.at == self.now {
                        Sometimes::FlushFoundNothing
                    } else {
                        Sometimes::FlushAnswered
                    });
                    self.flush_answered(node, asked.volume, asked.began);
                }
            }
            ClientOp::Write { fua, .. } | ClientOp::Zero { fua, .. } => self.write_answered(&asked, result, fua),
        }
    }

    fn read_answered(
        &mut self,
        asked: &Outstanding,
        first: u32,
        result: Result<(), IoError>,
        returned: Option<Option<crate::node::Payload>>,
    ) {
        let Some(Some(payload)) = returned else {
            let detail = format!("node {} answers a read without a buffer of its own: {result:?}", asked.node);
            return self.fail(Kind::Crash, "payload", detail);
        };
        if result.is_err() {
            return self.history.drop_read(asked.began);
        }
        let ClientOp::Read { count, .. } = asked.op else { return };
        if payload.sectors.len() != count as usize {
            let detail = format!("a read of {count} sectors returns {}", payload.sectors.len());
            return self.fail(Kind::WrongData, "I-R1", detail);
        }
        let server = if self.forwards(asked.node) { 1 - asked.node } else { asked.node };
        if self.has_unreported_failure(server, asked.volume) || self.serves_what_died(server, asked.volume) {
            // A disk has lost what its cache held, and nobody could know yet.
            return self.history.drop_read(asked.began);
        }
        self.seen(Sometimes::ReadJudged);
        if let Err(bad) = self.history.finish_read(asked.volume, first, &payload.sectors, asked.began) {
            let invariant = if bad.once_written { "I-R2" } else { "I-R1" };
            let detail = format!(
                "node {} volume {} sector {} (block {}) reads {}, legal are {:?}; known: {}",
                asked.node,
                asked.volume,
                bad.sector,
                bad.sector / 8,
                bad.value,
                bad.expected,
                self.history.describe(asked.volume, bad.sector),
            );
            self.fail(Kind::WrongData, invariant, detail);
        }
    }

    /// Whether a node serves reads beside the only good copy, whose cache has died since they met: what a client reads
    /// then may be given up for what that copy has kept. Promised is more only while both are UpToDate (I-D1).
    fn serves_what_died(&self, node: usize, volume: usize) -> bool {
        let died = self.nodes[1 - node].lost_cache_at > self.nodes[node].decided_at;
        died && !self.truth.is_current(node, volume)
    }

    fn write_answered(&mut self, asked: &Outstanding, result: Result<(), IoError>, fua: bool) {
        let Some(write) = asked.write else { return };
        if result.is_err() {
            return self.give_up_write(asked.node, write);
        }
        let zero = matches!(asked.op, ClientOp::Zero { .. });
        self.seen(if zero { Sometimes::ZeroAnswered } else { Sometimes::WriteAnswered });
        self.history.finish_write(write, fua || asked.stable);
        self.note_promised(asked.node, asked.volume);
        let sectors = Sectors { first: write.first, count: write.count };
        self.check_answered(asked.node, asked.volume, sectors, asked.at);
        if fua {
            self.flush_answered(asked.node, asked.volume, asked.began);
        } else if self.swarm.flushes_each_write {
            let flush = Step::Client { volume: asked.volume, client: asked.node as u32, op: ClientOp::Flush };
            self.after(US, Due::Scene(flush));
        }
    }

    fn flush_answered(&mut self, node: usize, volume: usize, began: Tick) {
        self.history.finish_flush(volume, began);
        self.check_flushed(node, volume);
    }

    /// A daemon died: its clients will never know.
    pub(crate) fn orphan_requests(&mut self, node: usize) {
        self.operator.handovers.forget_asked(1 - node);
        self.late_writes_are_done(1 - node);
        let orphans: Vec<u64> =
            self.clients.outstanding.iter().filter(|(_, asked)| asked.node == node).map(|(id, _)| *id).collect();
        for id in orphans {
            let Some(asked) = self.clients.outstanding.remove(&id) else { continue };
            self.seen(Sometimes::RequestOrphaned);
            match asked.write {
                Some(write) => self.give_up_write(node, write),
                None => self.history.drop_read(asked.began),
            }
        }
    }

    /// The device appeared: clients open it.
    pub(crate) fn open_device(&mut self, node: usize, volume: usize) {
        let count = 1 + (self.dice.misc.below(3) as u32);
        let state = &mut self.nodes[node];
        if state.is_up()
            && !state.closing
            && state.volumes[volume].exported.is_some()
            && state.volumes[volume].openers == 0
        {
            state.volumes[volume].openers = count;
            self.feed(node, Event::Openers { volume: Self::number(volume), count });
        }
    }
}
