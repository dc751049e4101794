//! Joining the peer and leaving it, at the operator's word: connect, disconnect, the word on a split brain, and what
//! follows from a clean leave (R31).

use crate::Engine;
use crate::action::{Action, Why};
use crate::command::{CommandError, Side};
use crate::local_disk::SuperblockTicket;
use crate::operator::{Answer, Progress, Step, done, refused};
use crate::resync::{Resync, Stage};
use crate::volume::Volume;
use rep_meta::DataState;
use rep_types::planted;
use rep_types::{CommandId, ConnectionState, DiskState, LinkCause, Refusal, Role};
use rep_wire::{ControlMessage, OperatorWord};

impl Engine {
    pub(crate) fn connect(&mut self, word: OperatorWord) -> Option<Answer> {
        self.resync_refused = false;
        match self.connection {
            ConnectionState::Disconnecting => return refused(Refusal::Busy),
            ConnectionState::Connected => return done(),
            ConnectionState::Connecting if word == OperatorWord::None => return done(),
            _ => {}
        }
        // A meeting under way, as nodes in split brain have now and then, knows nothing of the word: what it comes to is no
        // answer to it.
        let late = planted!("meeting-undoes-command");
        if word != OperatorWord::None && !late {
            self.restart_handshake_if_under_way();
        }
        self.set_word(word);
        self.go_connecting();
        if late {
            self.restart_handshake_if_under_way();
        }
        done()
    }

    /// From whatever keeps the nodes apart.
    pub(crate) fn go_connecting(&mut self) {
        if self.connection != ConnectionState::Connecting {
            self.set_connection(ConnectionState::Connecting, Why::Command);
            self.out.push(Action::WantLink { wanted: true });
        }
    }

    pub(crate) fn set_word(&mut self, word: OperatorWord) {
        for volume in &mut self.volumes {
            volume.word = word;
        }
    }

    pub(crate) fn resolve_split_brain(&mut self, id: CommandId, keep: Side) -> Option<Answer> {
        let word = match keep {
            Side::Local => OperatorWord::DiscardPeers,
            Side::Peer if self.role == Role::Primary => return refused(Refusal::IsPrimary),
            Side::Peer => OperatorWord::DiscardMine,
        };
        if self.connection == ConnectionState::Connected {
            return done();
        }
        if let Some(Err(error)) = self.connect(word) {
            return Some(Err(error));
        }
        self.archive_refused = false;
        self.begin_transition(id, [Step::AwaitConnection { met: false }])
    }

    /// Resyncs that settle a split brain, and whose victim could still stay as it was.
    fn unbegun_settlements(&self) -> impl Iterator<Item = &Resync> {
        let resyncs = self.volumes.iter().filter_map(|volume| volume.resync.as_ref());
        resyncs.filter(|resync| resync.settles_split_brain && !resync.has_begun())
    }

    fn is_settling_split_brain(&self) -> bool {
        self.unbegun_settlements().next().is_some()
    }

    /// Whether this node is to give its data up in a split brain and has nothing else yet: they are archived first. Until its
    /// resync has begun the settlement can still come to nothing, and then it has its own data again.
    pub(crate) fn may_still_keep_its_data(&self) -> bool {
        self.unbegun_settlements().any(|resync| !resync.is_source())
    }

    pub(crate) fn poll_await_connection(&mut self, met: bool) -> Progress {
        match self.connection {
            ConnectionState::Connected if self.is_settling_split_brain() && met => Progress::Waits,
            ConnectionState::Connected if self.is_settling_split_brain() => {
                Progress::Moved(Step::AwaitConnection { met: true })
            }
            ConnectionState::Connected => Progress::Done,
            ConnectionState::Connecting => Progress::Waits,
            ConnectionState::SplitBrain if self.archive_refused => {
                Progress::Failed(CommandError::Refused(Refusal::ArchiveFailed))
            }
            ConnectionState::SplitBrain if met => Progress::Failed(CommandError::Refused(Refusal::NotSettled)),
            ConnectionState::SplitBrain => Progress::Failed(CommandError::Refused(Refusal::SplitBrain)),
            ConnectionState::UnrelatedData => Progress::Failed(CommandError::Refused(Refusal::UnrelatedData)),
            ConnectionState::StandAlone | ConnectionState::Disconnecting => Progress::Failed(CommandError::PeerLost),
        }
    }

    pub(crate) fn disconnect(&mut self, id: CommandId, force: bool) -> Option<Answer> {
        if self.connection == ConnectionState::Connected && self.link.is_some() {
            if !force && self.clients_live_off_one_disk() {
                return refused(Refusal::OnlyGoodCopy);
            }
            // A device that nobody has open any more goes with it.
            if !force && let Err(why) = self.close_forwarding() {
                return Some(Err(why));
            }
            if !force && self.role == Role::Primary && self.peer_forwards() {
                return refused(Refusal::PeerDeviceIsOpen);
            }
            return self.begin_transition(id, [Step::Leave { asked: false, force }]);
        }
        self.stand_alone();
        done()
    }

    /// Whether the Primary of the two has good data on the other's disk only: without the link its clients get errors.
    fn clients_live_off_one_disk(&self) -> bool {
        let good = DiskState::UpToDate;
        self.volumes.iter().any(|volume| match (self.role, self.peer_role) {
            (Role::Primary, _) => volume.disk != good && volume.peer_disk == good,
            (_, Some(Role::Primary)) => volume.disk == good && volume.peer_disk != good,
            _ => false,
        })
    }

    pub(crate) fn stand_alone(&mut self) {
        // What a meeting under way has found is told, but isn't where this node stands from now on.
        if self.handshake_under_way() && !planted!("meeting-undoes-command") {
            self.drop_link(LinkCause::Operator);
        }
        self.set_connection(ConnectionState::StandAlone, Why::Command);
        self.out.push(Action::WantLink { wanted: false });
        self.drop_link(LinkCause::Operator);
    }

    pub(crate) fn poll_leave(&mut self, asked: bool, force: bool) -> Progress {
        let alive = self.link.is_some()
            && matches!(self.connection, ConnectionState::Connected | ConnectionState::Disconnecting);
        if !alive || (asked && force) {
            if asked {
                self.leave_outdated();
            }
            self.stand_alone();
            return Progress::Done;
        }
        if asked {
            return Progress::Waits;
        }
        let abandoned = self.transition.as_ref().is_some_and(|transition| transition.abandoned);
        let unheard = self.primary_may_have_become_good();
        if unheard && abandoned {
            // Unsaid, the word misleads nobody: a Primary that loses us makes sure that we can't go on.
            self.stand_alone();
            return Progress::Done;
        }
        if self.handshake_under_way() || unheard {
            return Progress::Waits;
        }
        self.leave_outdated();
        self.send(ControlMessage::Leave, None);
        self.set_connection(ConnectionState::Disconnecting, Why::Command);
        Progress::Moved(Step::Leave { asked: true, force })
    }

    /// Whether a Primary's disk may be good, and we haven't heard yet: it was told our generations, or found equal to ours.
    /// By our word that we leave it takes us for Outdated, and by what we know we would still be the only good copy.
    fn primary_may_have_become_good(&self) -> bool {
        let perhaps = |volume: &Volume| {
            let told = volume.resync.as_ref().is_some_and(|resync| resync.stage == Stage::SourceAwaitsFinished);
            let good = volume.is_good() || volume.adopting.is_some();
            good && (told || volume.peer_disk == DiskState::Consistent)
        };
        self.leaves_a_primary() && self.volumes.iter().any(perhaps)
    }

    /// Whether the node we leave may be Primary, and takes us for Outdated by our word alone.
    fn leaves_a_primary(&self) -> bool {
        self.fences() && self.role == Role::Secondary && self.peer_may_be_primary()
    }

    /// A Primary we leave takes us for Outdated as soon as it hears of it, and we may never hear that it has: so we are
    /// from the moment we say so. Asked again at the end, since a resync may have ended meanwhile.
    pub(crate) fn leave_outdated(&mut self) {
        if self.leaves_a_primary() {
            self.become_outdated();
        }
    }

    /// The peer leaves cleanly: whoever isn't Primary of the two is Outdated from now on (R31).
    pub(crate) fn peer_leaves(&mut self) {
        let role = self.role;
        if self.peer_role == Some(Role::Primary) {
            self.become_outdated();
        } else if role == Role::Primary {
            self.note_peer_outdated();
        }
        self.promotion_meets_leave();
        self.send(ControlMessage::LeaveNoted { role }, None);
        self.drop_link(LinkCause::PeerLeft);
    }

    /// The peer has noted that we leave.
    pub(crate) fn leave_noted(&mut self, role: Role) {
        if self.connection != ConnectionState::Disconnecting {
            return;
        }
        if role == Role::Primary {
            self.become_outdated();
        } else if self.role == Role::Primary {
            self.note_peer_outdated();
        }
        self.stand_alone();
    }

    fn become_outdated(&mut self) {
        for index in 0..self.volumes.len() {
            // Where the Primary has no good disk of its own, this one holds the newest data and goes on doing so.
            if self.volumes[index].peer_disk == DiskState::UpToDate {
                self.mark_outdated(index, Why::Peer);
            }
        }
    }

    pub(crate) fn mark_outdated(&mut self, index: usize, why: Why) {
        let volume = &mut self.volumes[index];
        // Data about to become UpToDate are as good as that: the word holds for them too.
        let consistent = volume.disk.is_consistent() || volume.adopting.is_some();
        let Some(local) = volume.local.as_mut().filter(|_| consistent && volume.attaching.is_none()) else { return };
        volume.adopting = None;
        local.update_superblock(|superblock| superblock.data = DataState::Outdated);
        self.set_disk(index, DiskState::Outdated, why);
    }

    fn note_peer_outdated(&mut self) {
        for volume in &mut self.volumes {
            if let Some(local) = &mut volume.local
                && volume.disk == DiskState::UpToDate
            {
                local.update_superblock(|superblock| superblock.peer_outdated = true);
            }
        }
    }

    pub(crate) fn outdate(&mut self, id: CommandId, index: usize) -> Option<Answer> {
        if self.role == Role::Primary {
            return refused(Refusal::IsPrimary);
        }
        if self.is_connected() {
            // Who has lost us may have this done while we haven't noticed yet: the link is looked at first.
            return self.begin_transition(id, [Step::AskBeforeOutdate { index, asked: false }]);
        }
        if self.volumes[index].local.is_none() {
            return refused(Refusal::Diskless);
        }
        if self.volumes[index].attaching.is_some() {
            return refused(Refusal::Busy);
        }
        match self.outdate_durably(index) {
            Some(step) => self.begin_transition(id, [step]),
            None => refused(Refusal::Diskless),
        }
    }

    /// Whoever promotes the peer on our word relies on its being durable, also where the data were worth less already: an
    /// Inconsistent disk may have become so a moment ago (R31).
    fn outdate_durably(&mut self, index: usize) -> Option<Step> {
        self.restart_handshake_if_under_way();
        self.mark_outdated(index, Why::Command);
        let local = self.volumes[index].local.as_mut()?;
        let ticket = local.update_superblock(|superblock| {
            if superblock.data == DataState::Consistent {
                superblock.data = DataState::Outdated;
            }
        });
        Some(Step::Outdate { index, ticket })
    }

    /// A peer that answers needs no outdating; one that doesn't is gone within `ping-timeout`.
    pub(crate) fn poll_ask_before_outdate(&mut self, index: usize, asked: bool) -> Progress {
        if self.is_connected() {
            if !asked {
                self.ping();
                return Progress::Moved(Step::AskBeforeOutdate { index, asked: true });
            }
            let answered = self.link.as_ref().is_some_and(|link| !link.is_pinged());
            return if answered {
                Progress::Failed(CommandError::Refused(Refusal::IsConnected))
            } else {
                Progress::Waits
            };
        }
        let volume = &self.volumes[index];
        if volume.local.is_none() {
            return Progress::Failed(CommandError::Refused(Refusal::Diskless));
        }
        if volume.attaching.is_some() {
            return Progress::Waits;
        }
        match self.outdate_durably(index) {
            Some(step) => Progress::Moved(step),
            None => Progress::Failed(CommandError::Refused(Refusal::Diskless)),
        }
    }

    pub(crate) fn poll_outdate(&mut self, index: usize, ticket: SuperblockTicket) -> Progress {
        let volume = &self.volumes[index];
        let counts_already = planted!("inconsistent-counts-as-outdated") && volume.disk == DiskState::Inconsistent;
        match &volume.local {
            Some(local) if local.superblock_durable(ticket) || counts_already => Progress::Done,
            Some(_) => Progress::Waits,
            None => Progress::Failed(CommandError::DiskFailed),
        }
    }
}
