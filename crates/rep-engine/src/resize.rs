//! Growing a volume: the size is the smaller disk's, and both nodes come to it together (R34).
//!
//! ```text
//!  leader                              follower
//!   ├── ask ───────────────────────────►│  both measure their disks
//!   │◄───────────────────────── room ───┤
//!   ├── prepare(size) ─────────────────►│  both make their metadata fit (`relocation`)
//!   │◄───────────────────── prepared ───┤
//!   ├── commit(size) ──────────────────►│  the new area's marks, then the size, durable
//!   │◄────────────────── Size(size) ────┤
//!   │  the size, durable                │
//!   ├── Size(size), View ──────────────►│  a handshake: both take the size up, the marked area is resynced
//! ```
//!
//! The leader's transition only waits. What changes durable state goes on by itself, so nothing hangs on the leader's
//! operator, or on the connection, once it has begun.
//!
//! Invariants:
//! - GR-1 a node remembers a size only when the metadata of both have room for it. So whoever remembers less can
//!   always follow, and the larger of two remembered sizes is the one that counts, whatever was interrupted.
//! - GR-2 the first node to remember a size has the new area's marks durable before. Both take the union of their
//!   marks, so one set of them is enough.
//! - GR-3 clients are offered a size only when both nodes remember it durably; a promotion waits for that. Who becomes Primary
//!   without its peer, also with its device open since it forwarded, offers what it remembers itself: the peer may have
//!   remembered it and offered it to its own clients, and if not, it follows when it comes back (GR-1).

use crate::Engine;
use crate::action::{Action, Notice};
use crate::block_sizes::whole_blocks;
use crate::command::{CommandError, CommandOutcome};
use crate::event::Timestamp;
use crate::limits;
use crate::local_disk::{BitmapTicket, SuperblockTicket};
use crate::operator::{Progress, Step, refused};
use crate::relocation::Relocation;
use crate::volume::Volume;
use rep_meta::Superblock;
use rep_types::planted;
use rep_types::{
    BLOCK_SIZE, BlockIndex, BlockRange, CommandId, DiskState, Refusal, Role, Room, RoomLimit, VolumeNumber,
};
use rep_wire::{ControlMessage, ResizeAnswer, ResizeRefusal, ResizeStep, VolumeView};

/// What a volume knows of growing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Growth {
    /// The size the peer's durable metadata say; 0 while that isn't known.
    pub peer_agreed_bytes: u64,
    /// What the peer's disk has room for.
    pub peer_room: Option<Room>,
    /// The size in the view the peer was told last.
    pub viewed_bytes: u64,
    /// Size and room the peer was told last on this connection.
    told: Option<(u64, Room)>,
    /// The peer wants to know what the disk has room for, and it is being measured.
    asked: bool,
    /// The peer wants to know when the metadata have room.
    preparing: bool,
    /// A commit under way.
    committing: Option<Committing>,
    /// A size taken over from the peer is being made durable.
    adopting: Option<SuperblockTicket>,
    /// The new area is marked, and the handshake that makes a resync of that is still to come.
    marked: bool,
}

#[derive(Clone, Copy, Debug)]
enum Committing {
    Marks { size_bytes: u64, ticket: BitmapTicket },
    Size(SuperblockTicket),
}

/// How far the leader is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ResizeStage {
    /// Both disks are being measured.
    Measure { assume_clean: bool, measured: bool, peer_room: Option<Room> },
    /// The metadata of both are being made to fit.
    Prepare { assume_clean: bool, size_bytes: u64, prepared: bool },
    /// The follower commits, then this node.
    Commit { size_bytes: u64 },
    /// The follower won't.
    Refused(ResizeRefusal),
}

impl Growth {
    /// Whether there is nothing to record, tell or take over. `agreed_bytes` is what this node's metadata say, `room` what its
    /// disk has room for, with a peer to be told.
    pub fn is_at_rest(&self, agreed_bytes: u64, room: Option<Room>) -> bool {
        self.committing.is_none()
            && self.adopting.is_none()
            && !self.preparing
            && !self.marked
            && self.peer_agreed_bytes <= agreed_bytes
            && room.is_none_or(|room| self.told == Some((agreed_bytes, room)))
    }

    /// The connection is gone.
    pub fn forget_peer(&mut self) {
        (self.peer_agreed_bytes, self.peer_room, self.told) = (0, None, None);
        (self.asked, self.preparing) = (false, false);
    }

    /// The disk is gone.
    pub fn forget_disk(&mut self) {
        (self.committing, self.adopting, self.marked) = (None, None, false);
        (self.told, self.asked, self.preparing) = (None, false, false);
    }

    /// A handshake has ended well: what is marked is part of its verdict. `mine`: what this node's metadata say, which the
    /// peer was told, or has just agreed to.
    pub fn met(&mut self, peer: &VolumeView, mine: Option<&Superblock>) {
        self.peer_agreed_bytes = peer.agreed_bytes;
        self.peer_room = (peer.available_bytes > 0).then_some(whole(peer.available_bytes));
        let now_or_first = |told: u64, now: u64| if told == 0 { now } else { told };
        self.told = mine.map(|mine| (now_or_first(self.viewed_bytes, mine.agreed_bytes), whole(mine.available_bytes)));
        self.marked = false;
    }

    /// Whether the view would change under a handshake.
    pub fn is_recording(&self) -> bool {
        self.committing.is_some() || self.adopting.is_some()
    }

    /// Whether the new area may be marked on disks that are equal but for that.
    pub fn is_under_way(&self) -> bool {
        self.committing.is_some() || self.marked
    }
}

impl Engine {
    // ---- the leader ----

    pub(crate) fn resize_command(
        &mut self,
        id: CommandId,
        index: usize,
        assume_clean: bool,
    ) -> Option<Result<CommandOutcome, CommandError>> {
        if let Some(refusal) = self.resync_refusal(index) {
            return refused(refusal);
        }
        let volume = &self.volumes[index];
        if volume.verify_snapshot(self.now).is_some() || volume.follows.is_some() {
            return refused(Refusal::VerifyUnderWay);
        }
        if !volume.peer_disk.takes_writes() {
            return refused(Refusal::Diskless);
        }
        if !volume.both_are_good() {
            return refused(Refusal::NoUpToDateDisk);
        }
        let number = volume.number;
        self.out.push(Action::MeasureDisk { volume: number });
        self.send(ControlMessage::Resize { volume: number, step: ResizeStep::Ask }, None);
        let stage = ResizeStage::Measure { assume_clean, measured: false, peer_room: None };
        self.begin_transition(id, [Step::Resize { index, stage }])
    }

    pub(crate) fn poll_resize(&mut self, index: usize, stage: ResizeStage) -> Progress {
        if !self.is_connected() {
            return Progress::Failed(CommandError::PeerLost);
        }
        if self.volumes[index].local.is_none() {
            return Progress::Failed(CommandError::DiskFailed);
        }
        let next = match stage {
            ResizeStage::Refused(refusal) => return Progress::Failed(CommandError::Refused(of_the_peer(refusal))),
            ResizeStage::Measure { assume_clean, measured: true, peer_room: Some(peer) } => {
                match self.prepare_resize(index, peer) {
                    Ok(size_bytes) => ResizeStage::Prepare { assume_clean, size_bytes, prepared: false },
                    Err(refusal) => return Progress::Failed(CommandError::Refused(refusal)),
                }
            }
            ResizeStage::Prepare { assume_clean, size_bytes, prepared } if self.is_prepared(index, prepared) => {
                if let Some(refusal) = self.step_refusal(index) {
                    return Progress::Failed(CommandError::Refused(of_this_node(refusal)));
                }
                self.commit_resize(index, size_bytes, assume_clean);
                ResizeStage::Commit { size_bytes }
            }
            ResizeStage::Commit { size_bytes } if self.volumes[index].has_grown_to(size_bytes, self.role) => {
                return Progress::Done;
            }
            ResizeStage::Measure { .. } | ResizeStage::Prepare { .. } | ResizeStage::Commit { .. } => {
                return Progress::Waits;
            }
        };
        Progress::Moved(Step::Resize { index, stage: next })
    }

    /// Both rooms are known: the size that follows, or why it isn't larger. Both begin to make their metadata fit.
    fn prepare_resize(&mut self, index: usize, peer: Room) -> Result<u64, Refusal> {
        if let Some(refusal) = self.step_refusal(index) {
            return Err(of_this_node(refusal));
        }
        let volume = &self.volumes[index];
        let Some(local) = &volume.local else { return Err(Refusal::Diskless) };
        let (mine, agreed) = (local.room(), local.superblock().agreed_bytes);
        let size_bytes = whole_blocks(mine.bytes.min(peer.bytes), volume.block_bytes);
        let too_small = |room: Room| whole_blocks(room.bytes, volume.block_bytes) <= agreed;
        let in_metadata = |room: Room| matches!(room.limit, RoomLimit::MetadataDevice { .. });
        if size_bytes <= agreed {
            return Err(match (too_small(mine), too_small(peer)) {
                (true, _) if in_metadata(mine) => Refusal::MetadataTooSmall,
                (_, true) if in_metadata(peer) => Refusal::PeerMetadataTooSmall,
                (true, true) => Refusal::DisksNotGrown,
                (true, false) => Refusal::DiskNotGrown,
                _ => Refusal::PeerDiskNotGrown,
            });
        }
        let volume = volume.number;
        if !planted!("grows-without-peer") {
            self.send(ControlMessage::Resize { volume, step: ResizeStep::Prepare { size_bytes } }, None);
        }
        self.make_room(index, size_bytes);
        Ok(size_bytes)
    }

    fn is_prepared(&self, index: usize, peer: bool) -> bool {
        let peer = peer || planted!("grows-without-peer");
        peer && self.volumes[index].local.as_ref().is_some_and(|local| local.relocation.is_none())
    }

    fn commit_resize(&mut self, index: usize, size_bytes: u64, assume_clean: bool) {
        let volume = self.volumes[index].number;
        if planted!("grows-without-peer") {
            return self.begin_commit(index, size_bytes, assume_clean);
        }
        let step = ResizeStep::Commit { size_bytes, assume_clean };
        self.send(ControlMessage::Resize { volume, step }, None);
    }

    fn resize_stage(&mut self, index: usize) -> Option<&mut ResizeStage> {
        match self.transition.as_mut()?.steps.front_mut()? {
            Step::Resize { index: led, stage } if *led == index => Some(stage),
            _ => None,
        }
    }

    pub(crate) fn resize_answered(&mut self, number: VolumeNumber, answer: ResizeAnswer) {
        let Some(index) = self.volume_index(number) else { return };
        if let ResizeAnswer::Room(room) = answer {
            self.volumes[index].growth.peer_room = Some(room);
        }
        let Some(stage) = self.resize_stage(index) else { return };
        match (answer, stage) {
            (ResizeAnswer::Room(room), ResizeStage::Measure { peer_room, .. }) => *peer_room = Some(room),
            (ResizeAnswer::Prepared, ResizeStage::Prepare { prepared, .. }) => *prepared = true,
            (ResizeAnswer::Refused(refusal), stage) => *stage = ResizeStage::Refused(refusal),
            _ => {}
        }
    }

    // ---- the follower ----

    /// What a step needs, on either node.
    fn step_refusal(&self, index: usize) -> Option<ResizeRefusal> {
        let volume = &self.volumes[index];
        if volume.local.is_none() || volume.detaching || volume.attaching.is_some() || !volume.both_are_good() {
            Some(ResizeRefusal::NoUpToDateDisk)
        } else if self.view_is_told() {
            Some(ResizeRefusal::HandshakeUnderWay)
        } else if volume.resync.is_some() {
            Some(ResizeRefusal::ResyncUnderWay)
        } else {
            None
        }
    }

    pub(crate) fn resize_asked(&mut self, number: VolumeNumber, step: ResizeStep) {
        let Some(index) = self.volume_index(number) else { return };
        let refusal = self.step_refusal(index).or_else(|| match step {
            ResizeStep::Ask => {
                self.volumes[index].growth.asked = true;
                self.out.push(Action::MeasureDisk { volume: number });
                None
            }
            ResizeStep::Prepare { size_bytes } => {
                let has_room = self.make_room(index, size_bytes);
                self.volumes[index].growth.preparing = has_room;
                (!has_room).then_some(ResizeRefusal::NoRoom)
            }
            ResizeStep::Commit { size_bytes, assume_clean } => self.commit_asked(index, size_bytes, assume_clean),
        });
        if let Some(refusal) = refusal {
            let answer = ResizeAnswer::Refused(refusal);
            self.send(ControlMessage::ResizeAnswer { volume: number, answer }, None);
        }
    }

    fn commit_asked(&mut self, index: usize, size_bytes: u64, assume_clean: bool) -> Option<ResizeRefusal> {
        let volume = &mut self.volumes[index];
        let local = volume.local.as_ref()?;
        let whole = size_bytes.is_multiple_of(u64::from(volume.block_bytes));
        if local.relocation.is_some() || size_bytes > local.layout.available_bytes || !whole {
            return Some(ResizeRefusal::NoRoom);
        }
        if size_bytes <= local.superblock().agreed_bytes {
            volume.growth.told = None;
        } else if !volume.growth.is_recording() {
            self.begin_commit(index, size_bytes, assume_clean);
        }
        None
    }

    /// Begins to make the metadata fit a volume of this size; false: there is no room for it.
    fn make_room(&mut self, index: usize, size_bytes: u64) -> bool {
        let Some(local) = &mut self.volumes[index].local else { return false };
        if size_bytes <= local.layout.available_bytes || local.relocation.is_some() {
            return true;
        }
        let grown = local.layout.grown(local.device_bytes, local.metadata_device_bytes);
        let Some(layout) = grown.ok().filter(|layout| layout.available_bytes >= size_bytes) else { return false };
        local.relocation = Some(Relocation::new(layout, local.layout.device_bytes));
        true
    }

    /// The new area is marked first, then the size is remembered (GR-2).
    fn begin_commit(&mut self, index: usize, size_bytes: u64, assume_clean: bool) {
        let volume = &mut self.volumes[index];
        let Some(local) = &mut volume.local else { return };
        let first = local.superblock().agreed_bytes / BLOCK_SIZE;
        local.set_size(size_bytes);
        if !assume_clean && !planted!("grown-area-unmarked") {
            let end = size_bytes.div_ceil(BLOCK_SIZE);
            local.mark_out_of_sync(BlockRange { first: BlockIndex(first), count: end - first });
        }
        let ticket = local.flush_bitmap();
        volume.growth.committing = Some(Committing::Marks { size_bytes, ticket });
    }

    // ---- both ----

    /// A disk has been measured.
    pub(crate) fn disk_measured(&mut self, number: VolumeNumber, device_bytes: u64, metadata_device_bytes: u64) {
        let Some(index) = self.volume_index(number) else { return };
        let Some(local) = &mut self.volumes[index].local else { return };
        local.measured(device_bytes, metadata_device_bytes);
        let room = local.room();
        if std::mem::take(&mut self.volumes[index].growth.asked) {
            let answer = ResizeAnswer::Room(room);
            self.send(ControlMessage::ResizeAnswer { volume: number, answer }, None);
        }
        if let Some(ResizeStage::Measure { measured, .. }) = self.resize_stage(index) {
            *measured = true;
        }
    }

    /// When disks are measured again.
    pub(crate) fn measure_timeout(&self) -> Option<Timestamp> {
        let any = self.volumes.iter().any(|volume| volume.local.is_some());
        any.then_some(self.next_measure.max(Timestamp(1)))
    }

    pub(crate) fn check_measures(&mut self) {
        if self.next_measure > self.now {
            return;
        }
        self.next_measure = self.now.after(limits::MEASURE_INTERVAL);
        for volume in self.volumes.iter().filter(|volume| volume.local.is_some()) {
            self.out.push(Action::MeasureDisk { volume: volume.number });
        }
    }

    /// The peer tells the size it remembers and its room.
    pub(crate) fn peer_size(&mut self, number: VolumeNumber, agreed_bytes: u64, room: Room) {
        let Some(index) = self.volume_index(number) else { return };
        let growth = &mut self.volumes[index].growth;
        (growth.peer_agreed_bytes, growth.peer_room) = (agreed_bytes, Some(room));
    }

    pub(crate) fn progress_growth(&mut self, index: usize) -> bool {
        self.progress_commit(index)
            | self.follow_peer(index)
            | self.progress_adopting(index)
            | self.tell_prepared(index)
            | self.tell_size(index)
            | self.meet_about_marks(index)
            | self.offer_size(index)
    }

    fn progress_commit(&mut self, index: usize) -> bool {
        let volume = &mut self.volumes[index];
        let Some(local) = &mut volume.local else { return false };
        match volume.growth.committing {
            Some(Committing::Marks { size_bytes, ticket })
                if local.bitmap_durable(ticket) || planted!("grown-before-marked") =>
            {
                let ticket = local.update_superblock(|superblock| superblock.agreed_bytes = size_bytes);
                volume.growth.committing = Some(Committing::Size(ticket));
            }
            Some(Committing::Size(ticket)) if local.superblock_durable(ticket) => {
                volume.growth.committing = None;
                volume.growth.marked = true;
            }
            _ => return false,
        }
        true
    }

    /// The peer remembers more than this node: so does this one, since it has room (GR-1).
    fn follow_peer(&mut self, index: usize) -> bool {
        let connected = self.is_connected();
        let volume = &mut self.volumes[index];
        let idle = volume.attaching.is_none() && !volume.detaching && volume.resync.is_none();
        let Some(local) = volume.local.as_mut().filter(|_| connected && idle) else { return false };
        let (mine, size_bytes) = (local.superblock().agreed_bytes, volume.growth.peer_agreed_bytes);
        let has_room = local.relocation.is_none() && size_bytes <= local.layout.available_bytes;
        let has_room = has_room && size_bytes.is_multiple_of(u64::from(volume.block_bytes));
        if mine == 0 || mine >= size_bytes || !has_room || volume.growth.is_recording() {
            return false;
        }
        local.set_size(size_bytes);
        let ticket = local.update_superblock(|superblock| superblock.agreed_bytes = size_bytes);
        volume.growth.adopting = Some(ticket);
        if planted!("grown-offered-early") {
            volume.set_size(size_bytes);
        }
        true
    }

    fn progress_adopting(&mut self, index: usize) -> bool {
        let volume = &mut self.volumes[index];
        let durable = |ticket| volume.local.as_ref().is_some_and(|local| local.superblock_durable(ticket));
        if !volume.growth.adopting.is_some_and(durable) {
            return false;
        }
        volume.growth.adopting = None;
        // The peer hears of it before the handshake.
        self.tell_size(index);
        if self.is_connected() {
            self.begin_handshake();
        }
        true
    }

    /// Both remember the size: what is marked of it takes a handshake to become a resync. Where both operators said so at
    /// once, both have marks and neither has anything to take over.
    fn meet_about_marks(&mut self, index: usize) -> bool {
        let volume = &self.volumes[index];
        let mine = volume.local.as_ref().map_or(0, |local| local.superblock().agreed_bytes);
        let both = volume.growth.marked && volume.growth.peer_agreed_bytes >= mine && volume.resync.is_none();
        if !both || !self.is_connected() || self.handshake_under_way() {
            return false;
        }
        self.begin_handshake();
        true
    }

    fn tell_prepared(&mut self, index: usize) -> bool {
        let volume = &mut self.volumes[index];
        let ready = volume.local.as_ref().is_some_and(|local| local.relocation.is_none());
        if !volume.growth.preparing || !ready {
            return false;
        }
        volume.growth.preparing = false;
        let answer = ResizeAnswer::Prepared;
        let volume = volume.number;
        self.send(ControlMessage::ResizeAnswer { volume, answer }, None);
        true
    }

    /// Tells the peer what is durable, if it hasn't heard.
    fn tell_size(&mut self, index: usize) -> bool {
        let connected = self.is_connected();
        let volume = &mut self.volumes[index];
        let idle = volume.attaching.is_none() && !volume.detaching && !volume.growth.is_recording();
        let Some(local) = volume.local.as_ref().filter(|_| connected && idle) else { return false };
        let (agreed_bytes, room) = (local.superblock().agreed_bytes, local.room());
        let settled = local.superblock_settled() && local.relocation.is_none();
        if !settled || volume.growth.told == Some((agreed_bytes, room)) {
            return false;
        }
        volume.growth.told = Some((agreed_bytes, room));
        let volume = volume.number;
        self.send(ControlMessage::Size { volume, agreed_bytes, room }, None);
        true
    }

    /// Clients get the size once both nodes remember it (GR-3).
    fn offer_size(&mut self, index: usize) -> bool {
        let serving = self.role == Role::Primary && !self.demoting && self.is_connected();
        let volatile_cache = !self.answers_stable();
        let volume = &mut self.volumes[index];
        let (number, to_bytes) = (volume.number, volume.size_bytes);
        let Some(from_bytes) = volume.offered_bytes.filter(|offered| serving && *offered < to_bytes) else {
            return false;
        };
        let here = volume
            .local
            .as_ref()
            .is_none_or(|local| local.superblock_settled() && local.superblock().agreed_bytes >= to_bytes);
        let there = volume.growth.peer_agreed_bytes >= to_bytes;
        let both_remember = (here && there) || planted!("grown-offered-early");
        if !both_remember {
            return false;
        }
        volume.offered_bytes = Some(to_bytes);
        let offer = volume.offer(to_bytes, volatile_cache);
        self.out.push(Action::Export { volume: number, offer: Some(offer) });
        self.notice(Notice::Grown { volume: number, from_bytes, to_bytes });
        true
    }

    /// Whether the peer remembers as much as this node would offer clients (GR-3). One that has just learnt of a size may still be
    /// writing it down.
    pub(crate) fn peer_remembers_sizes(&self) -> bool {
        let connected = self.is_connected();
        self.volumes.iter().all(|volume| {
            let there = volume.growth.peer_agreed_bytes;
            // One that has no size yet says nothing of the first it is given.
            let remembers = there == 0 || there >= volume.size_bytes;
            remembers || !(connected && volume.peer_disk.takes_writes())
        })
    }

    /// A node that becomes Primary alone offers the size it remembers, also if it grew and hasn't met its peer since (GR-3).
    pub(crate) fn take_up_remembered_size(&mut self) {
        if self.is_connected() {
            return;
        }
        for volume in &mut self.volumes {
            let remembered = volume.local.as_ref().map_or(0, |local| local.superblock().agreed_bytes);
            if remembered > volume.size_bytes {
                volume.set_size(remembered);
            }
        }
    }
}

impl Volume {
    fn both_are_good(&self) -> bool {
        self.disk == DiskState::UpToDate && self.peer_disk == DiskState::UpToDate
    }

    fn has_grown_to(&self, size_bytes: u64, role: Role) -> bool {
        let remembered = self
            .local
            .as_ref()
            .is_some_and(|local| local.superblock_settled() && local.superblock().agreed_bytes >= size_bytes);
        let offered = role == Role::Secondary || self.offered_bytes.is_some_and(|offered| offered >= size_bytes);
        remembered && self.size_bytes >= size_bytes && offered
    }
}

/// Room for what is laid out for data, and no more: what a view says without words.
fn whole(available_bytes: u64) -> Room {
    Room { bytes: available_bytes, limit: RoomLimit::Disk }
}

fn of_this_node(refusal: ResizeRefusal) -> Refusal {
    match refusal {
        ResizeRefusal::NoUpToDateDisk => Refusal::NoUpToDateDisk,
        ResizeRefusal::HandshakeUnderWay => Refusal::HandshakeUnderWay,
        ResizeRefusal::ResyncUnderWay => Refusal::ResyncUnderWay,
        ResizeRefusal::NoRoom => Refusal::DiskNotGrown,
    }
}

fn of_the_peer(refusal: ResizeRefusal) -> Refusal {
    match refusal {
        ResizeRefusal::NoRoom => Refusal::PeerDiskNotGrown,
        other => of_this_node(other),
    }
}
