//! The steps.

use super::ledger::Ledger;
use super::node::{DEADLINE, Node};
use super::tale::Tale;
use super::workload::{Stopped, Workload};
use super::{Failed, Stage, Summary, check, compare};
use crate::commands::resync::{Progress, ProgressView};
use crate::commands::wait::is_synced;
use crate::terminal::bytes;
use rep_control::api::{Verb, VerbRequest};
use rep_types::{BLOCK_SIZE, ConnectionState, EXTENT_SIZE};
use std::time::{Duration, Instant};

/// Plays it.
pub fn play(stage: &mut Stage, disk_bytes: u64, tale: &mut Tale) -> Result<Summary, Failed> {
    set_up(stage, disk_bytes, tale)?;
    let mut play = begin(stage, tale)?;
    play.mirrored(stage, tale)?;
    play.peer_crashes(stage, tale)?;
    play.peer_returns(stage, tale)?;
    play.primary_crashes(stage, tale)?;
    play.old_primary_returns(stage, tale)?;
    play.end(stage, tale)
}

/// What runs through all steps.
struct Play {
    ledger: Ledger,
    workload: Workload,
    summary: Summary,
}

fn set_up(stage: &mut Stage, disk_bytes: u64, tale: &mut Tale) -> Result<(), Failed> {
    tale.step("Two nodes, alpha and beta: two repd processes, each with a disk of its own");
    tale.say("workload --NBD, unix socket--> alpha ==TCP, loopback==> beta");
    tale.say(format!("disks: sparse files of {} in {}", bytes(disk_bytes), stage.directory.display()));
    for node in [&stage.alpha, &stage.beta] {
        tale.say(format!("repctl create-md: {}", node.create_metadata()?));
    }
    for node in [&mut stage.alpha, &mut stage.beta] {
        node.start()?;
        tale.say(format!("repd of {} runs (process {})", node.name(), node.pid()));
    }
    stage.alpha.until("be connected", |node| Ok(node.status()?.connection == ConnectionState::Connected))?;
    tale.quote("alpha", &stage.alpha.status()?.verdict);
    stage.alpha.verb(Verb::NewGeneration, &VerbRequest { clear_bitmap: true, ..Default::default() })?;
    tale.say("repctl new-generation --clear-bitmap: both disks are blank, so there is nothing to copy");
    for node in [&stage.alpha, &stage.beta] {
        node.until("be in sync", |node| Ok(is_synced(&node.status()?)))?;
    }
    tale.quote("alpha", &stage.alpha.status()?.verdict);
    Ok(())
}

fn begin(stage: &Stage, tale: &mut Tale) -> Result<Play, Failed> {
    tale.step("alpha becomes Primary and offers the device");
    stage.alpha.verb(Verb::Primary, &VerbRequest::default())?;
    let workload = Workload::connect(&stage.alpha.export(), 1)?;
    let size = workload.size_bytes();
    tale.holds(format!("repctl primary: an NBD device of {} at {}", bytes(size), stage.alpha.export().display()));
    let refused = stage.beta.verb(Verb::Primary, &VerbRequest { timeout_ms: Some(2000), ..Default::default() });
    check(refused.is_err(), || "beta became Primary, too".into())?;
    tale.holds(format!("beta is refused the same: {}", refused.map_or_else(|error| error.0, |()| String::new())));
    Ok(Play { ledger: Ledger::new(size), workload, summary: Summary::default() })
}

impl Play {
    fn mirrored(&mut self, stage: &Stage, tale: &mut Tale) -> Result<(), Failed> {
        tale.step("Write 64 MiB through the device, 16 writes in flight, with flushes");
        let begun = Instant::now();
        self.work(64 << 20)?;
        let seconds = begun.elapsed().as_secs_f64();
        let status = stage.alpha.status()?;
        let volume = status.volumes.first().ok_or_else(|| Failed("no volume".into()))?;
        check(volume.io.written_bytes >= 64 << 20, || format!("only {} bytes were written", volume.io.written_bytes))?;
        check(volume.io.sent_bytes >= 64 << 20, || format!("only {} bytes went to beta", volume.io.sent_bytes))?;
        check(volume.out_of_sync_bytes == 0, || format!("{} bytes are out-of-sync", volume.out_of_sync_bytes))?;
        tale.holds(format!(
            "{} written in {seconds:.1} s, {} sent to beta, 0 bytes out-of-sync; longest wait for an answer {}",
            bytes(volume.io.written_bytes),
            bytes(volume.io.sent_bytes),
            milliseconds(self.workload.longest)
        ));
        tale.proves("a write is answered when both disks have it; a flush when it is stable on both");
        Ok(())
    }

    fn work(&mut self, bytes: u64) -> Result<(), Failed> {
        match self.workload.write(bytes, &mut self.ledger, |_| Ok(()))? {
            Stopped::Done => Ok(()),
            Stopped::Gone => Err(Failed("the device went away under the workload".into())),
        }
    }

    fn peer_crashes(&mut self, stage: &mut Stage, tale: &mut Tale) -> Result<(), Failed> {
        tale.step("SIGKILL beta in the middle of writing, and write on");
        self.ledger.forget_touched();
        self.workload.longest = Duration::ZERO;
        let beta = &mut stage.beta;
        let mut at_kill = None;
        let stopped = self.workload.write(32 << 20, &mut self.ledger, |sent| {
            if at_kill.is_none() && sent >= 8 << 20 {
                beta.kill()?;
                at_kill = Some(sent);
            }
            Ok(())
        })?;
        check(matches!(stopped, Stopped::Done), || "the device went away with the peer".into())?;
        let alone = (32 << 20) - at_kill.unwrap_or_default();
        stage.alpha.until("have noticed", |node| Ok(node.status()?.connection != ConnectionState::Connected))?;
        let status = stage.alpha.status()?;
        let marked = status.volumes.iter().map(|volume| volume.out_of_sync_bytes).sum::<u64>();
        tale.holds(format!("the workload wrote on, {} alone, without an error", bytes(alone)));
        tale.say(format!("longest wait for an answer: {}", milliseconds(self.workload.longest)));
        self.summary.stall_ms = self.workload.longest.as_millis() as u64;
        tale.quote("alpha", &status.verdict);
        let most = self.ledger.touched().len() as u64 * BLOCK_SIZE;
        check(marked > 0 && marked <= most, || format!("{marked} bytes are marked, at most {most} can differ"))?;
        tale.holds(format!(
            "out-of-sync on alpha: {} ({} blocks of 4 KiB; {} were touched in this step)",
            bytes(marked),
            marked / BLOCK_SIZE,
            self.ledger.touched().len()
        ));
        tale.proves("what beta lacks is on alpha's disk as marks before a write beta lacks is answered");
        Ok(())
    }

    fn peer_returns(&mut self, stage: &mut Stage, tale: &mut Tale) -> Result<(), Failed> {
        tale.step("beta returns, and is resynced while the workload goes on");
        let before = stage.alpha.detail()?;
        stage.beta.start()?;
        self.until_synced(&stage.alpha, true)?;
        let copied = stage.alpha.detail()?.resynced_bytes - before.resynced_bytes;
        self.summary.resynced_bytes += copied;
        self.summary.dirty_bytes += before.out_of_sync_bytes;
        check(copied <= before.out_of_sync_bytes, || {
            format!("{copied} bytes were copied, {} were marked", before.out_of_sync_bytes)
        })?;
        tale.holds(format!(
            "copied {} of {}: at most the {} that were marked ({} blocks)",
            bytes(copied),
            bytes(self.workload.size_bytes()),
            bytes(before.out_of_sync_bytes),
            before.out_of_sync_bytes / BLOCK_SIZE
        ));
        let decision = stage.alpha.detail()?.last_decision;
        if let Some(decision) = decision {
            tale.say(format!("how the nodes agreed on it: rule {}: {}", decision.rule, decision.verdict));
        }
        tale.quote("alpha", &stage.alpha.status()?.verdict);
        tale.proves("a resync copies what differs and nothing else, and clients don't wait for its end");
        Ok(())
    }

    /// Waits until both are identical; the workload may go on meanwhile.
    fn until_synced(&mut self, node: &Node, works: bool) -> Result<(), Failed> {
        let mut view = ProgressView::new("resync", false);
        let deadline = Instant::now() + 2 * DEADLINE;
        loop {
            let status = node.status()?;
            if is_synced(&status) {
                view.finish();
                return Ok(());
            }
            if let Some(progress) = Progress::of(&status) {
                view.show(&progress);
            }
            check(Instant::now() < deadline, || format!("{} isn't in sync by now: {}", node.name(), status.verdict))?;
            // Before that, writes would still be alone and add to what is marked.
            if works && status.connection == ConnectionState::Connected {
                self.work(1 << 20)?;
            } else {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    fn primary_crashes(&mut self, stage: &mut Stage, tale: &mut Tale) -> Result<(), Failed> {
        tale.step("SIGKILL alpha, the Primary, in the middle of writing; beta takes over");
        let alpha = &mut stage.alpha;
        let mut killed = None;
        let stopped = self.workload.write(64 << 20, &mut self.ledger, |sent| {
            if killed.is_none() && sent >= 16 << 20 {
                alpha.kill()?;
                killed = Some(Instant::now());
            }
            Ok(())
        })?;
        check(matches!(stopped, Stopped::Gone), || "the device outlived its daemon".into())?;
        let unflushed = self.ledger.unflushed().len();
        stage.beta.verb_soon(Verb::Primary)?;
        self.workload = Workload::connect(&stage.beta.export(), 2)?;
        let failover = killed.map(|killed| killed.elapsed()).unwrap_or_default();
        self.summary.failover_ms = failover.as_millis() as u64;
        tale.holds(format!("repctl primary on beta: its device was usable {} after the kill", milliseconds(failover)));
        let verified = self.workload.verify(&mut self.ledger)?;
        tale.holds(format!(
            "read all of it through beta: {} blocks, {} of them written and flushed, all there; {unflushed} blocks \
             were not flushed yet and hold their old or their new version",
            verified.blocks, verified.flushed_blocks
        ));
        tale.proves("nothing that a flush had covered is lost with the node that answered it");
        Ok(())
    }

    fn old_primary_returns(&mut self, stage: &mut Stage, tale: &mut Tale) -> Result<(), Failed> {
        tale.step("Write 16 MiB on beta alone; then alpha returns, as Secondary");
        self.ledger.forget_touched();
        self.work(16 << 20)?;
        let dirty = stage.beta.detail()?;
        stage.alpha.start()?;
        self.until_synced(&stage.beta, false)?;
        let copied = stage.beta.detail()?.resynced_bytes - dirty.resynced_bytes;
        // The workload keeps to its extents: no others can have been hot on alpha when it crashed.
        let hot = super::workload::EXTENTS;
        let most = dirty.out_of_sync_bytes + hot * EXTENT_SIZE;
        self.summary.resynced_bytes += copied;
        self.summary.dirty_bytes += dirty.out_of_sync_bytes;
        self.summary.hot_extent_bytes += hot * EXTENT_SIZE;
        check(copied <= most, || format!("{copied} bytes were copied, at most {most} can differ"))?;
        tale.holds(format!(
            "copied {}: no more than {} of blocks marked on beta, and the {hot} extents of 4 MiB that could be hot in alpha's \
             activity log when it crashed ({})",
            bytes(copied), bytes(dirty.out_of_sync_bytes), bytes(hot * EXTENT_SIZE)
        ));
        let verified = self.workload.verify(&mut self.ledger)?;
        tale.holds(format!("read all {} blocks through beta again: as they were", verified.blocks));
        tale.proves("a crashed Primary rejoins by itself; its unanswered writes are made equal, not guessed");
        Ok(())
    }

    fn end(self, stage: &mut Stage, tale: &mut Tale) -> Result<Summary, Failed> {
        tale.step("A clean end, and both disks byte for byte");
        let Play { mut ledger, workload, mut summary } = self;
        let refused = stage.beta.verb(Verb::Secondary, &VerbRequest { timeout_ms: Some(2000), ..Default::default() });
        check(refused.is_err(), || "beta was demoted under an open device".into())?;
        tale.holds(format!("while the device is open: {}", refused.map_or_else(|error| error.0, |()| String::new())));
        workload.leave()?;
        stage.beta.verb_soon(Verb::Secondary)?;
        for node in [&mut stage.beta, &mut stage.alpha] {
            let status = node.terminate()?;
            check(status.success(), || format!("repd of {} ended with {status}", node.name()))?;
        }
        tale.holds("both daemons ended cleanly on SIGTERM");
        let same = compare::compare(&stage.alpha.disk(), &stage.beta.disk(), &mut ledger)?;
        tale.holds(format!(
            "{} bytes on each disk: identical, and every block is what the workload wrote",
            same.blocks * BLOCK_SIZE
        ));
        tale.proves("two crashes later, two equal disks");
        (summary.identical, summary.compared_bytes) = (true, same.blocks * BLOCK_SIZE);
        Ok(summary)
    }
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}
