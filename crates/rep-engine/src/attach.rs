//! Attaching and detaching a disk.
//!
//! Attach: what was hot in the activity log when the daemon or the node went down may differ from the peer, so it is
//! marked (R11), durably, before the log is emptied and the disk counts. What state the disk is in follows from the
//! metadata alone (R28): UpToDate only if the peer is known not to have gone on. One that was a Primary's all along, and that
//! its clients were served from last, is what it was.
//!
//! Detach on a Secondary is clean: nothing under way, the disk flushed, bitmap durable, log empty, attachment mark gone. A Primary that
//! detaches goes on through its peer, and its metadata stay as a crash would leave them: attaching the disk again
//! marks the hot extents.

use crate::Engine;
use crate::action::{Notice, Why};
use crate::block_sizes::whole_blocks;
use crate::command::{CommandError, CommandOutcome};
use crate::event::DiskTraits;
use crate::local_disk::{BitmapTicket, LocalDisk, LogResetTicket, SuperblockTicket};
use crate::operation::{IoPurpose, Leg};
use crate::operator::{Progress, Step};
use crate::volume::Volume;
use rep_meta::{BootId, DataState, Loaded, PrimaryMark};
use rep_types::planted;
use rep_types::{
    BLOCK_SIZE, CommandId, DiskState, GenerationId, LeftDevice, Refusal, ReplicationState, Role, VolumeNumber,
};
use rep_wire::PriorEnd;

/// An attach that isn't finished.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attaching {
    /// Who waits for it; `None` once he no longer does.
    pub id: Option<CommandId>,
    stage: AttachStage,
}

#[derive(Clone, Copy, Debug)]
enum AttachStage {
    /// The marks from the log are being made durable (R11).
    Bitmap(BitmapTicket),
    /// The superblock says that we are attached, and that we crashed as Primary if so.
    Superblock(SuperblockTicket),
    /// The log is being emptied.
    Log(LogResetTicket),
}

/// How far a detach is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum DetachStage {
    Begin,
    Drain,
    /// The disk is being flushed: a clean end says that nothing is in its cache only.
    Flush,
    Flushed,
    Bitmap(BitmapTicket),
    Log(LogResetTicket),
    Superblock(SuperblockTicket),
}

impl Engine {
    /// A disk's metadata has been read.
    #[allow(clippy::too_many_arguments)] // the event's own
    pub(crate) fn attached(
        &mut self,
        id: CommandId,
        number: VolumeNumber,
        loaded: Loaded,
        boot: BootId,
        traits: DiskTraits,
        left: Option<LeftDevice>,
    ) {
        let Some(index) = self.volume_index(number) else {
            return self.finish_command(id, Err(CommandError::Refused(Refusal::NoSuchVolume)));
        };
        // A disk that came to a daemon which ends would be left as if it had crashed.
        if self.volumes[index].local.is_some() || self.is_ending() {
            return self.finish_command(id, Err(CommandError::Refused(Refusal::Busy)));
        }
        if self.hangs_still(index) {
            return self.finish_command(id, Err(CommandError::Refused(Refusal::DiskHangs)));
        }
        self.restart_handshake_if_under_way();
        self.role_change_meets_new_disk();
        let superblock = &loaded.superblock;
        let size = if superblock.agreed_bytes > 0 { superblock.agreed_bytes } else { superblock.available_bytes };
        let refusal = self.blocks_refusal(index, traits.logical_block_bytes, superblock);
        let offered = self.offers_devices();
        let volume = &mut self.volumes[index];
        // What clients were told once stays, also if this disk was away when the volume grew.
        let size = if offered { size.max(volume.size_bytes) } else { size };
        if volume.size_bytes > 0 && superblock.available_bytes < volume.size_bytes && offered {
            return self.finish_command(id, Err(CommandError::Refused(Refusal::DiskTooSmall)));
        }
        if let Some(refusal) = refusal {
            return self.finish_command(id, Err(CommandError::Refused(refusal)));
        }
        let attached_boot = if volume.cache_lost { BootId::CACHE_LOST } else { superblock.attached_boot };
        volume.prior_end = prior_end(attached_boot, boot);
        volume.boot = boot;
        volume.attachment += 1;
        let attachment = volume.attachment;
        volume.detaching = false;
        volume.unmet = true;
        volume.adopting = None;
        volume.settling = None;
        (volume.disk_discards, volume.disk_volatile) = (traits.discards, traits.volatile_cache);
        volume.left = left.filter(|_| !offered);
        volume.take_blocks_of(traits.logical_block_bytes, superblock, offered);
        let size = whole_blocks(size, volume.block_bytes);
        volume.set_size(size);
        let mut local = LocalDisk::new(&loaded, size, attachment);
        let marked = mark_hot_extents(&mut local, &loaded);
        let stage = AttachStage::Bitmap(local.flush_bitmap());
        volume.local = Some(local);
        volume.attaching = Some(Attaching { id: Some(id), stage });
        self.set_disk(index, DiskState::Attaching, Why::Attached);
        self.report_recovery(index, &loaded, marked);
        let primary = self.role == Role::Primary;
        let unsettled = self.volumes[index].prior_end == PriorEnd::NodeCrash;
        let past = self.volumes[index].joined_without_disk;
        if let Some(local) = &mut self.volumes[index].local {
            local.update_superblock(|superblock| {
                superblock.peer_outdated &= !past;
                // What a failed flush has lost may be shown by the disk all the same, and no later flush makes it stable: only writing it does.
                superblock.every_block |= attached_boot == BootId::CACHE_LOST && !planted!("lost-cache-compared");
                // The boot that lost its cache stays on record until a handshake has settled what that means.
                superblock.attached_boot = if unsettled { attached_boot } else { boot };
                if primary {
                    (superblock.primary, superblock.last_primary) = (PrimaryMark::Primary, true);
                } else if superblock.primary == PrimaryMark::Primary {
                    superblock.primary = PrimaryMark::Crashed;
                }
            });
        }
    }

    fn report_recovery(&mut self, index: usize, loaded: &Loaded, marked: u64) {
        let volume = self.volumes[index].number;
        if loaded.log.damaged || !loaded.bitmap.damaged_pages.is_empty() {
            self.report_damage(index);
        }
        if marked > 0 {
            let out_of_sync_bytes = self.volumes[index].out_of_sync_blocks() * BLOCK_SIZE;
            self.notice(Notice::CrashRecovered { volume, hot_extents: marked, out_of_sync_bytes });
        }
    }

    pub(crate) fn progress_attach(&mut self, index: usize) -> bool {
        let volume = &mut self.volumes[index];
        let (Some(attaching), Some(local)) = (&mut volume.attaching, &mut volume.local) else { return false };
        match attaching.stage {
            AttachStage::Bitmap(ticket) if local.bitmap_durable(ticket) || planted!("attach-empties-log-first") => {
                attaching.stage = AttachStage::Superblock(local.update_superblock(|_| {}));
            }
            AttachStage::Superblock(ticket) if local.superblock_durable(ticket) => {
                attaching.stage = AttachStage::Log(local.reset_log());
            }
            AttachStage::Log(ticket) if local.log_is_reset(ticket) => self.attach_ends(index),
            _ => return false,
        }
        true
    }

    fn attach_ends(&mut self, index: usize) {
        let alone = !self.is_connected();
        let volume = &mut self.volumes[index];
        let Some(attaching) = volume.attaching.take() else { return };
        let Some(local) = &volume.local else { return };
        let superblock = local.superblock();
        let shown = self.role == Role::Primary && volume.is_what_clients_saw(superblock.generations.current);
        // A peer that didn't go on may still hold what was in the cache this node has lost, unless this one has gone on (I-D1).
        let lost = volume.prior_end == PriorEnd::NodeCrash && superblock.generations.bitmap.is_none();
        let ahead = superblock.peer_outdated && !lost;
        let state = match superblock.data {
            DataState::Inconsistent => DiskState::Inconsistent,
            DataState::Outdated => DiskState::Outdated,
            // A peer that is there will say itself what its data are.
            DataState::Consistent if (ahead || shown) && alone => DiskState::UpToDate,
            DataState::Consistent => DiskState::Consistent,
        };
        if self.role == Role::Primary && state == DiskState::UpToDate && volume.prior_end == PriorEnd::NodeCrash {
            volume.starved.cache_lost();
        }
        (volume.served_last, volume.joined_without_disk) = (GenerationId::NONE, false);
        volume.let_go_good = None;
        self.set_disk(index, state, Why::Attached);
        // What it was given before it went may still be in its cache: the next FLUSH covers that, too (R4).
        self.epochs.touch(self.now);
        if let Some(id) = attaching.id {
            self.finish_command(id, Ok(CommandOutcome::Done));
        }
        if self.is_connected() {
            self.begin_handshake();
        }
    }

    // ---- detach ----

    pub(crate) fn detach_command(
        &mut self,
        id: CommandId,
        index: usize,
    ) -> Option<Result<CommandOutcome, CommandError>> {
        let volume = &self.volumes[index];
        if volume.local.is_none() {
            return Some(Ok(CommandOutcome::Done));
        }
        let refused = |refusal| Some(Err(CommandError::Refused(refusal)));
        if volume.attaching.is_some() {
            return refused(Refusal::Busy);
        }
        if self.role == Role::Primary {
            if !self.is_connected() || volume.peer_disk != DiskState::UpToDate || self.handshake_under_way() {
                return refused(Refusal::OnlyGoodCopy);
            }
            self.let_go_of_disk(index, Why::Command);
            return Some(Ok(CommandOutcome::Done));
        }
        let only_good = self.peer_role == Some(Role::Primary) && volume.peer_disk != DiskState::UpToDate;
        if only_good && volume.disk == DiskState::UpToDate {
            return refused(Refusal::OnlyGoodCopy);
        }
        self.begin_transition(id, [Step::Detach { index, stage: DetachStage::Begin }])
    }

    pub(crate) fn poll_detach(&mut self, index: usize, stage: DetachStage) -> Progress {
        if planted!("detach-left-out") {
            return Progress::Done;
        }
        if self.volumes[index].local.is_none() {
            return Progress::Done;
        }
        let next = match stage {
            DetachStage::Begin => {
                // What came after the daemon's end would be left as if it had crashed.
                if self.volumes[index].attaching.is_some() {
                    return Progress::Waits;
                }
                self.stop_resync(index, Why::Command);
                if self.volumes[index].replication.is_resync() {
                    self.set_replication(index, ReplicationState::Established, Why::Command);
                }
                self.volumes[index].detaching = true;
                self.restart_handshake_if_under_way();
                if self.is_connected() {
                    self.send_state();
                }
                Some(DetachStage::Drain)
            }
            DetachStage::Drain if self.disk_is_idle(index) || planted!("detach-without-drain") => {
                self.flush_disk(index, IoPurpose::DetachFlush);
                Some(DetachStage::Flush)
            }
            DetachStage::Drain | DetachStage::Flush => None,
            DetachStage::Flushed => {
                let local = self.volumes[index].local.as_mut();
                local.map(|local| DetachStage::Bitmap(local.flush_bitmap()))
            }
            _ => self.poll_detach_recording(index, stage),
        };
        if self.volumes[index].local.is_none() {
            return Progress::Done;
        }
        match next {
            Some(stage) => Progress::Moved(Step::Detach { index, stage }),
            None => Progress::Waits,
        }
    }

    /// The disk has been flushed for a detach.
    pub(crate) fn detach_flushed(&mut self, flushed: usize) {
        let step = self.transition.as_mut().and_then(|transition| transition.steps.front_mut());
        match step {
            Some(Step::Detach { index, stage: stage @ DetachStage::Flush }) if *index == flushed => {
                *stage = DetachStage::Flushed;
            }
            _ => {}
        }
    }

    fn poll_detach_recording(&mut self, index: usize, stage: DetachStage) -> Option<DetachStage> {
        let unsettled = self.volumes[index].prior_end == PriorEnd::NodeCrash;
        let local = self.volumes[index].local.as_mut()?;
        match stage {
            DetachStage::Bitmap(ticket) if local.bitmap_durable(ticket) => Some(DetachStage::Log(local.reset_log())),
            DetachStage::Log(ticket) if local.log_is_reset(ticket) => {
                let ticket = local.update_superblock(|superblock| {
                    if !unsettled {
                        superblock.attached_boot = BootId::NONE;
                    }
                });
                Some(DetachStage::Superblock(ticket))
            }
            DetachStage::Superblock(ticket) if local.superblock_durable(ticket) => {
                self.let_go_of_disk(index, Why::Command);
                None
            }
            _ => None,
        }
    }

    /// Whether nothing is under way on the disk, and no log transaction either.
    fn disk_is_idle(&self, index: usize) -> bool {
        let ops = self.ops.iter().any(|(_, op)| op.volume == index && (op.local == Leg::Open || op.holds_log));
        let requests = self.peer_requests.iter().any(|(_, request)| request.volume == index && request.submitted);
        let log = self.volumes[index].local.as_ref().is_some_and(|local| local.log_job.is_some());
        !ops && !requests && !log && self.volumes[index].recording.is_none()
    }
}

impl Volume {
    /// Whether a disk of this generation, attached under a Primary, is the one its clients were served from last, and lacks
    /// nothing they were answered: nobody has gone on without it.
    fn is_what_clients_saw(&self, current: GenerationId) -> bool {
        self.prior_end != PriorEnd::NodeCrash && current.is_real() && current == self.served_last
    }
}

/// What ended the attachment before this one.
fn prior_end(attached: BootId, now: BootId) -> PriorEnd {
    if attached == BootId::NONE {
        PriorEnd::Clean
    } else if attached == now || planted!("node-crash-for-daemon-crash") {
        PriorEnd::DaemonCrash
    } else {
        PriorEnd::NodeCrash
    }
}

/// Marks every hot extent (R11); returns how many there were. A log that can't be read may have held any.
fn mark_hot_extents(local: &mut LocalDisk, loaded: &Loaded) -> u64 {
    if loaded.log.damaged {
        local.mark_all_out_of_sync();
        return u64::from(loaded.layout.extents());
    }
    for extent in loaded.log.hot.iter().filter(|_| !planted!("forget-hot-extents")) {
        local.mark_out_of_sync(extent.blocks());
    }
    loaded.log.hot.len() as u64
}
