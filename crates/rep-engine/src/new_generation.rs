//! Starting a generation on both nodes at the operator's word: new disks are taken for equal (decision 41).

use crate::Engine;
use crate::action::Why;
use crate::command::CommandError;
use crate::local_disk::{BitmapTicket, SuperblockTicket};
use crate::operator::{Answer, Progress, Step, refused};
use crate::role::take_for_good;
use crate::volume::settle_crash;
use rep_types::{CommandId, DiskState, GenerationId, Refusal, Role, VolumeNumber};
use rep_wire::ControlMessage;

/// How far a generation started on both nodes is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NewGenerationState {
    id: GenerationId,
    clear_bitmap: bool,
    /// We are the node that was asked by the other.
    answers: bool,
    /// What the other said that we asked.
    peer: Option<PeerGeneration>,
    tickets: Option<(BitmapTicket, SuperblockTicket)>,
}

/// What the peer says that was to begin a generation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum PeerGeneration {
    /// It has begun it, durably.
    Begun,
    /// It can't now, and hasn't.
    Refused,
}

impl Engine {
    pub(crate) fn new_generation(&mut self, id: CommandId, index: usize, clear_bitmap: bool) -> Option<Answer> {
        let volume = &self.volumes[index];
        if !self.is_connected() {
            return refused(Refusal::NotConnected);
        }
        if self.handshake_under_way() {
            return refused(Refusal::HandshakeUnderWay);
        }
        if volume.resync.is_some() {
            return refused(Refusal::ResyncUnderWay);
        }
        let Some(local) = &volume.local else { return refused(Refusal::Diskless) };
        if !volume.peer_disk.takes_writes() {
            return refused(Refusal::Diskless);
        }
        // A bit clears by proof only (I-B2): nodes that hold data already are made equal by a resync.
        let fresh = local.superblock().generations.current == GenerationId::JUST_CREATED
            && volume.peer_told.is_some_and(|peer| peer.generations.current == GenerationId::JUST_CREATED)
            && self.role == Role::Secondary
            && self.peer_role == Some(Role::Secondary);
        if !fresh || !clear_bitmap {
            return refused(Refusal::NotJustCreated);
        }
        let generation = self.generations.make();
        let message = ControlMessage::NewGeneration { volume: volume.number, id: generation, clear_bitmap };
        self.send(message, None);
        let state = NewGenerationState { id: generation, clear_bitmap, answers: false, peer: None, tickets: None };
        self.begin_transition(id, [Step::NewGeneration { index, state }])
    }

    /// The peer's operator starts a generation on both nodes; or, without one, the peer can't begin the one it was told.
    pub(crate) fn peer_starts_generation(&mut self, number: VolumeNumber, id: GenerationId, clear_bitmap: bool) {
        if !id.is_real() {
            return self.note_peer_generation(number, PeerGeneration::Refused);
        }
        let Some(index) = self.volume_index(number) else { return };
        let local = self.volumes[index].local.as_ref();
        let fresh = local.is_some_and(|local| local.superblock().generations.current == GenerationId::JUST_CREATED);
        // A view that was told is decided by: nothing of it changes until then (R17).
        if !fresh || self.role == Role::Primary || self.transition.is_some() || self.view_is_told() {
            let id = GenerationId::NONE;
            return self.send(ControlMessage::NewGeneration { volume: number, id, clear_bitmap: false }, None);
        }
        let state = NewGenerationState { id, clear_bitmap, answers: true, peer: None, tickets: None };
        self.begin_transition(CommandId(0), [Step::NewGeneration { index, state }]);
        self.nobody_waits();
    }

    /// The peer has begun the generation this node's operator asked for.
    pub(crate) fn peer_started_generation(&mut self, number: VolumeNumber) {
        self.note_peer_generation(number, PeerGeneration::Begun);
    }

    fn note_peer_generation(&mut self, number: VolumeNumber, said: PeerGeneration) {
        let wanted = self.volume_index(number);
        let step = self.transition.as_mut().and_then(|transition| transition.steps.front_mut());
        if let Some(Step::NewGeneration { index, state }) = step
            && wanted == Some(*index)
        {
            state.peer = Some(said);
        }
    }

    pub(crate) fn poll_new_generation(&mut self, index: usize, mut state: NewGenerationState) -> Progress {
        let peer_gone = !self.is_connected() || !self.volumes[index].peer_disk.takes_writes();
        if state.tickets.is_none() {
            // The peer goes first: what it can't follow isn't begun here.
            match state.peer {
                _ if peer_gone => return Progress::Failed(CommandError::PeerLost),
                Some(PeerGeneration::Refused) => return Progress::Failed(CommandError::Refused(Refusal::PeerBusy)),
                None if !state.answers => return Progress::Waits,
                Some(PeerGeneration::Begun) | None => {}
            }
        }
        let volume = &mut self.volumes[index];
        let boot = volume.boot;
        let Some(local) = &mut volume.local else { return Progress::Failed(CommandError::DiskFailed) };
        let Some((bitmap, superblock)) = state.tickets else {
            if state.clear_bitmap {
                local.clear_all_out_of_sync();
            }
            let bitmap = local.flush_bitmap();
            let superblock = local.update_superblock(|superblock| {
                take_for_good(superblock, state.id);
                superblock.generations.bitmap = GenerationId::NONE;
                // The operator took the disks for equal as they are: what a crash before that cost is no longer of interest.
                settle_crash(superblock, boot);
            });
            volume.settling = Some(superblock);
            state.tickets = Some((bitmap, superblock));
            return Progress::Moved(Step::NewGeneration { index, state });
        };
        let durable = local.bitmap_durable(bitmap) && local.superblock_durable(superblock);
        if durable && peer_gone {
            // The generation is ours now; whether it is the peer's too the next handshake finds.
            self.set_disk(index, DiskState::Consistent, Why::Command);
            return Progress::Failed(CommandError::PeerLost);
        }
        if !durable {
            return Progress::Waits;
        }
        let number = volume.number;
        self.set_disk(index, DiskState::UpToDate, Why::Command);
        if state.answers {
            self.send(ControlMessage::NewGenerationDone { volume: number }, None);
        }
        self.send_state();
        Progress::Done
    }
}
