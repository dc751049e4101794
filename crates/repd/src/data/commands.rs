//! The operator's commands: taken from the control thread, answered when the engine has, or at their deadline.

use super::attach::{self, AttachOptions};
use super::ending::Ending;
use super::thread::DataThread;
use crate::resource::{AttachError, ControlRequest};
use rep_disk::DiskFacts;
use rep_engine::{Command, CommandError, CommandOutcome, DiskTraits, Event};
use rep_types::{CommandId, Refusal, VolumeNumber};
use std::sync::mpsc::TryRecvError;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

type CommandResult = Result<CommandOutcome, CommandError>;

/// Who waits for an answer. One who has gone is no error.
enum Reply {
    Command(oneshot::Sender<CommandResult>),
    /// The disk is being opened and read.
    Opening(VolumeNumber, oneshot::Sender<Result<(), AttachError>>),
    /// The engine has it.
    Attaching(VolumeNumber, oneshot::Sender<Result<(), AttachError>>),
    Stop(Option<oneshot::Sender<CommandResult>>),
}

struct Pending {
    id: CommandId,
    deadline: Instant,
    reply: Reply,
}

/// Commands that aren't answered.
pub(super) struct Commands {
    pending: Vec<Pending>,
    last: u64,
}

/// How long a leave may take when there is nobody left to say.
const ORPHAN_LEAVE: Duration = Duration::from_secs(5);

impl Commands {
    pub fn new() -> Self {
        Commands { pending: Vec::new(), last: 0 }
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.pending.iter().map(|pending| pending.deadline).min()
    }

    fn add(&mut self, deadline: Instant, reply: Reply) -> CommandId {
        self.last += 1;
        let id = CommandId(self.last);
        self.pending.push(Pending { id, deadline, reply });
        id
    }

    fn take(&mut self, id: CommandId) -> Option<Pending> {
        let index = self.pending.iter().position(|pending| pending.id == id)?;
        Some(self.pending.swap_remove(index))
    }

    fn attaches(&self, volume: VolumeNumber) -> bool {
        self.pending
            .iter()
            .any(|pending| matches!(pending.reply, Reply::Opening(of, _) | Reply::Attaching(of, _) if of == volume))
    }
}

impl DataThread {
    /// Takes what the control thread has sent.
    pub fn take_requests(&mut self) {
        loop {
            match self.inbox.try_recv() {
                Ok(request) => self.request(request),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {
                    if self.ending.is_none() && self.commands.pending.is_empty() {
                        self.stop(ORPHAN_LEAVE, None);
                    }
                    return;
                }
            }
        }
    }

    fn request(&mut self, request: ControlRequest) {
        match request {
            ControlRequest::Command { command, deadline, reply } => {
                let id = self.commands.add(self.now + deadline, Reply::Command(reply));
                self.events.push(Event::Command { id, command });
            }
            ControlRequest::Attach { volume, deadline, reply } => self.attach(volume, deadline, reply),
            ControlRequest::FenceAnswered { id, answer } => self.events.push(Event::FenceAnswered { id, answer }),
            ControlRequest::ResyncAnswered { id, allowed } => self.events.push(Event::ResyncAnswered { id, allowed }),
            ControlRequest::Snapshot { reply } => drop(reply.send(Box::new(self.report()))),
            ControlRequest::Stop { deadline, devices_left, reply } => {
                if devices_left {
                    self.leave_devices();
                }
                self.stop(deadline, Some(reply));
            }
        }
    }

    fn stop(&mut self, deadline: Duration, reply: Option<oneshot::Sender<CommandResult>>) {
        self.nbd.refuse_requests();
        let id = self.commands.add(self.now + deadline, Reply::Stop(reply));
        self.events.push(Event::Command { id, command: Command::Shutdown });
    }

    /// Devices of the kernel stay for the next daemon: no request is begun any more, and none is answered that can't be
    /// answered well, for the next daemon gets it again (R35).
    fn leave_devices(&mut self) {
        self.devices_left = true;
        self.ublk.leave();
        self.nbd.leave_devices();
    }

    fn attach(&mut self, volume: VolumeNumber, deadline: Duration, reply: oneshot::Sender<Result<(), AttachError>>) {
        let Some(config) = self.volumes.iter().find(|config| config.number == volume) else {
            return drop(reply.send(Err(AttachError::NoSuchVolume)));
        };
        if self.commands.attaches(volume) {
            return drop(reply.send(Err(AttachError::Busy)));
        }
        if self.disks.get(volume).is_some() {
            return drop(reply.send(Ok(())));
        }
        let options = AttachOptions {
            identity: config.identity.clone(),
            disk: config.disk.clone(),
            meta: config.meta.clone(),
            device: config.device_options.clone(),
        };
        let path = options.disk.clone();
        let id = self.commands.add(self.now + deadline, Reply::Opening(volume, reply));
        if let Err(error) = attach::start(id, options, self.attach_sender.clone())
            && let Some(Pending { reply: Reply::Opening(_, reply), .. }) = self.commands.take(id)
        {
            let _ = reply.send(Err(AttachError::Disk { path, source: rep_disk::OpenError::System(error) }));
        }
    }

    /// Takes disks that were opened and read.
    pub fn take_attach_results(&mut self) {
        while let Ok(attach::AttachResult { id, volume, result }) = self.attach_results.try_recv() {
            // One that nobody waits for any more is closed right here.
            let Some(pending) = self.commands.take(id) else { continue };
            let Reply::Opening(_, reply) = pending.reply else { continue };
            match result {
                // The lock is this thread's own: what the disk was asked for before it was let go of is still under way there.
                Err(AttachError::Disk { source: rep_disk::OpenError::InUse, .. }) if self.disks.is_closing(volume) => {
                    drop(reply.send(Err(AttachError::Refused(CommandError::Refused(Refusal::DiskHangs)))));
                }
                Err(error) => drop(reply.send(Err(error))),
                Ok(attach::Attachable { data, meta, loaded, boot, left }) => {
                    let DiskFacts { logical_block_bytes, discards, volatile_cache, .. } = data.facts;
                    let traits = DiskTraits { logical_block_bytes, discards, volatile_cache };
                    self.disks.put(volume, data, meta);
                    let reply = Reply::Attaching(volume, reply);
                    self.commands.pending.push(Pending { reply, ..pending });
                    self.events.push(Event::Attached { id, volume, loaded, boot, traits, left });
                }
            }
        }
    }

    /// The engine answered a command.
    pub fn command_done(&mut self, id: CommandId, result: CommandResult) {
        let Some(Pending { reply, .. }) = self.commands.take(id) else { return };
        match reply {
            Reply::Command(reply) => drop(reply.send(result)),
            Reply::Attaching(volume, reply) => {
                if result.is_err() {
                    self.disks.close(volume);
                }
                let _ = reply.send(result.map(drop).map_err(AttachError::Refused));
            }
            Reply::Stop(reply) => self.end(reply, result),
            Reply::Opening(..) => unreachable!("the engine hasn't heard of it"),
        }
    }

    fn end(&mut self, reply: Option<oneshot::Sender<CommandResult>>, result: CommandResult) {
        self.ending.get_or_insert_with(|| Ending::new(self.now));
        if let Some(reply) = reply {
            let _ = reply.send(result);
        }
    }

    /// Answers those whose time is up.
    pub fn check_command_deadlines(&mut self) {
        while let Some(index) = self.commands.pending.iter().position(|pending| pending.deadline <= self.now) {
            let Pending { id, reply, .. } = self.commands.pending.swap_remove(index);
            match reply {
                Reply::Opening(_, reply) => drop(reply.send(Err(AttachError::TimedOut))),
                Reply::Attaching(_, reply) => {
                    self.events.push(Event::CommandAbandoned { id });
                    let _ = reply.send(Err(AttachError::TimedOut));
                }
                Reply::Command(reply) => {
                    self.events.push(Event::CommandAbandoned { id });
                    let _ = reply.send(Err(CommandError::TimedOut));
                }
                Reply::Stop(reply) => {
                    self.events.push(Event::CommandAbandoned { id });
                    self.end(reply, Err(CommandError::TimedOut));
                }
            }
        }
    }
}
