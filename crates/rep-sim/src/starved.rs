//! No good data in reach under `on-no-data = "suspend-io"`: who waits then, and that nobody hears of an error (R32).

use crate::client::Outstanding;
use crate::counters::Sometimes;
use crate::failure::Kind;
use crate::plan::ClientOp;
use crate::world::World;
use rep_engine::{Notice, Why};
use rep_types::{ConnectionState, DiskState, IoError, Role};

impl World {
    /// Looks who waits for data on a node.
    pub(crate) fn note_starved(&mut self, node: usize, notice: &Notice) {
        let Some(mine) = self.snapshot(node) else { return };
        if let Notice::Disk { to: DiskState::UpToDate, why: Why::Attached, .. } = notice
            && mine.role == Role::Primary
            && mine.connection != ConnectionState::Connected
        {
            self.seen(Sometimes::BackAlone);
        }
        let starved = |asked: &Outstanding| asked.node == node && mine.volumes[asked.volume].waits_for_data;
        let mut any = false;
        for asked in self.clients.outstanding.values_mut().filter(|asked| starved(asked)) {
            any |= !std::mem::replace(&mut asked.starved, true);
        }
        if any {
            self.seen(Sometimes::NoDataWaits);
        }
    }

    /// A success is of a disk that counts and is in reach when it is told, however long its answer was held (R32).
    pub(crate) fn check_answered_with_data(&mut self, asked: &Outstanding, result: Result<(), IoError>) {
        let Some(mine) = self.snapshot(asked.node) else { return };
        let volume = &mine.volumes[asked.volume];
        // A peer that is lost has a disk nobody knows of; one that is being left took part all the same.
        let there = volume.peer_disk == DiskState::UpToDate || self.parts_from_good_data(asked);
        let read = matches!(asked.op, ClientOp::Read { .. });
        if result.is_ok() && !read && !there && volume.disk != DiskState::UpToDate {
            let detail = format!("node {} answers {:?} well with no good data in reach", asked.node, asked.op);
            self.fail(Kind::WrongData, "I-F1", detail);
        }
    }

    /// Whether a node is still connected to a good disk, and ends that with what it is doing just now: its state is of after that.
    fn parts_from_good_data(&self, asked: &Outstanding) -> bool {
        let peer = self.snapshot(1 - asked.node);
        let good = peer.is_some_and(|shown| shown.volumes[asked.volume].disk == DiskState::UpToDate);
        good && self.nodes[asked.node].parts && self.network.session_of_engine(asked.node).is_some()
    }

    /// A client of a Primary hears of an error while its disk isn't good and nobody else's is in reach.
    pub(crate) fn note_refused_alone(&mut self, asked: &Outstanding) {
        let Some(mine) = self.snapshot(asked.node) else { return };
        let incomplete = mine.volumes[asked.volume].disk == DiskState::Inconsistent;
        let alone = mine.role == Role::Primary && mine.connection != ConnectionState::Connected;
        let wanted = self.nodes[asked.node].closing || asked.op == ClientOp::Flush || asked.passed_on;
        let takes_part = self.nodes[asked.node].volumes[asked.volume].exported.is_some();
        if incomplete && alone && takes_part && !wanted {
            self.nodes[asked.node].volumes[asked.volume].refused_alone = true;
        }
    }

    /// A disk that becomes good by itself had everything when the link went, and had but that to write down: who asked waits for it.
    pub(crate) fn check_refused_alone(&mut self, node: usize, notice: &Notice) {
        match notice {
            Notice::Connection { .. } => {
                self.nodes[node].volumes.iter_mut().for_each(|volume| volume.refused_alone = false);
            }
            Notice::Disk { volume, to: DiskState::UpToDate, why: Why::ResyncDone | Why::Handshake, .. } => {
                let volume = volume.0 as usize;
                if std::mem::take(&mut self.nodes[node].volumes[volume].refused_alone) && !self.is_connected(node) {
                    let detail =
                        format!("node {node} volume {volume}: a client heard of an error, and the disk had everything");
                    self.fail(Kind::WrongData, "I-F1", detail);
                }
            }
            _ => {}
        }
    }

    /// While clients wait for data none hears of an error. A flush may: one that failed is final; and who asked for what a
    /// disk that is kept failed at.
    pub(crate) fn check_starved_answer(&mut self, asked: &Outstanding, result: Result<(), IoError>) {
        let Some(mine) = self.snapshot(asked.node) else { return };
        let waits = mine.volumes[asked.volume].waits_for_data;
        if asked.starved {
            self.seen(if result.is_ok() { Sometimes::NoDataServed } else { Sometimes::NoDataFailed });
        }
        if waits && result == Err(IoError::Io) && asked.op != ClientOp::Flush && !asked.passed_on {
            let detail = format!("node {} answers {:?} with an error while its clients wait", asked.node, asked.op);
            self.fail(Kind::WrongData, "I-F1", detail);
        }
    }
}
