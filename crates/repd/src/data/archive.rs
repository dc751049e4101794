//! Archives of what a split brain's victim is about to lose: read from the disk and written to files by a thread of
//! their own, so that a directory that hangs or is slow hangs nobody.
//!
//! The engine says what is copied and when it counts; here is only how. Why one failed is kept for the status.

use super::thread::DataThread;
use crate::waking::{self, WakingSender};
use rep_archive::{Head, Scope, Writer};
use rep_disk::{Disk, DiskReader};
use rep_engine::{ArchiveError, ArchiveHead, ArchiveScope, ArchiveStep, Event};
use rep_types::{ByteRange, Generations, IoId, NodeName, ResourceName, VolumeNumber};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::{SystemTime, UNIX_EPOCH};
use tracing::info;

/// Whose archives, and where they go.
#[derive(Clone, Debug)]
pub(super) struct ArchiveOptions {
    pub resource: ResourceName,
    pub node: NodeName,
    pub peer: NodeName,
    pub directory: Option<PathBuf>,
}

/// A step for the thread.
enum Job {
    Copy(IoId, ByteRange),
    Finish(IoId),
}

/// How a step ended; on failure with the reason in words.
struct Outcome {
    io: IoId,
    volume: VolumeNumber,
    result: Result<(), (ArchiveError, String)>,
}

pub(super) struct Archives {
    options: ArchiveOptions,
    reports: WakingSender<Outcome>,
    outcomes: mpsc::Receiver<Outcome>,
    /// The threads at work. One that is let go of takes its unfinished file away.
    open: Vec<(VolumeNumber, mpsc::Sender<Job>)>,
    problems: BTreeMap<VolumeNumber, String>,
}

impl Archives {
    pub fn new(options: ArchiveOptions, wake: Arc<OwnedFd>) -> Self {
        let (reports, outcomes) = waking::channel(wake);
        Archives { options, reports, outcomes, open: Vec::new(), problems: BTreeMap::new() }
    }

    /// Why the last archive of a volume failed.
    pub fn problem(&self, volume: VolumeNumber) -> Option<String> {
        self.problems.get(&volume).cloned()
    }

    /// Begins a step; its end is told by an event.
    pub fn step(&mut self, io: IoId, volume: VolumeNumber, step: ArchiveStep, disk: Option<&Disk>) {
        let failed = match step {
            ArchiveStep::Begin(head) => self.begin(io, volume, &head, disk),
            ArchiveStep::Copy(range) => self.hand_over(volume, Job::Copy(io, range)),
            ArchiveStep::Finish => self.hand_over(volume, Job::Finish(io)),
        };
        if let Err(why) = failed {
            self.reports.send(Outcome { io, volume, result: Err((ArchiveError::Archive, why)) });
        }
    }

    fn hand_over(&mut self, volume: VolumeNumber, job: Job) -> Result<(), String> {
        let thread = self.open.iter().find(|(number, _)| *number == volume);
        thread.and_then(|(_, jobs)| jobs.send(job).ok()).ok_or_else(|| "it ended early".to_owned())
    }

    fn begin(&mut self, io: IoId, volume: VolumeNumber, head: &ArchiveHead, disk: Option<&Disk>) -> Result<(), String> {
        self.drop_archive(volume);
        self.problems.remove(&volume);
        let directory = self.options.directory.clone().ok_or("there is no archive-dir")?;
        let disk = disk.ok_or("the disk is gone")?;
        let disk = DiskReader::new(disk).map_err(|error| error.to_string())?;
        let head = self.file_head(volume, head);
        let (sender, jobs) = mpsc::channel();
        let reports = self.reports.clone();
        let name = format!("archive-{}-{volume}", self.options.resource);
        let thread = std::thread::Builder::new().name(name);
        let work = move || Work { directory, head, disk, jobs, reports }.run(io);
        thread.spawn(work).map_err(|error| error.to_string())?;
        self.open.push((volume, sender));
        Ok(())
    }

    fn file_head(&self, volume: VolumeNumber, head: &ArchiveHead) -> Head {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let pair = |generations: &Generations| [generations.current.0, generations.bitmap.0];
        Head {
            resource: self.options.resource.clone(),
            volume,
            node: self.options.node.clone(),
            survivor: self.options.peer.clone(),
            created_unix_ms: u64::try_from(now.as_millis()).unwrap_or(0),
            size_bytes: head.size_bytes,
            scope: match head.scope {
                ArchiveScope::Differing => Scope::Differing,
                ArchiveScope::All => Scope::All,
            },
            generations: pair(&head.generations),
            survivor_generations: pair(&head.survivor),
        }
    }

    /// An archive isn't wanted any more.
    pub fn drop_archive(&mut self, volume: VolumeNumber) {
        self.open.retain(|(number, _)| *number != volume);
    }
}

impl DataThread {
    /// Takes what the threads told.
    pub fn take_archive_outcomes(&mut self) {
        while let Ok(Outcome { io, volume, result }) = self.archives.outcomes.try_recv() {
            let result = result.map_err(|(error, why)| {
                self.archives.problems.entry(volume).or_insert(why);
                error
            });
            self.events.push(Event::Archived { io, result });
        }
    }
}

/// A thread's work.
struct Work {
    directory: PathBuf,
    head: Head,
    disk: DiskReader,
    jobs: mpsc::Receiver<Job>,
    reports: WakingSender<Outcome>,
}

impl Work {
    fn run(mut self, begin: IoId) {
        let place = self.directory.display().to_string();
        let in_words = |error: std::io::Error| (ArchiveError::Archive, format!("{place}: {error}"));
        let created = Writer::create(&self.directory, &self.head);
        let mut writer = match created.map_err(in_words) {
            Ok(writer) => writer,
            Err(failure) => return self.tell(begin, Err(failure)),
        };
        self.tell(begin, Ok(()));
        while let Ok(job) = self.jobs.recv() {
            let (io, result) = match job {
                Job::Copy(io, range) => (io, copy(&mut self.disk, &mut writer, range)),
                Job::Finish(io) => {
                    let finished = writer.finish().map_err(in_words);
                    let result = finished.map(|path| info!("archived: {}", path.display()));
                    return self.tell(io, result);
                }
            };
            let result = result.map_err(|(error, why)| (error, format!("{place}: {why}")));
            let failed = result.is_err();
            self.tell(io, result);
            if failed {
                return;
            }
        }
    }

    fn tell(&self, io: IoId, result: Result<(), (ArchiveError, String)>) {
        self.reports.send(Outcome { io, volume: self.head.volume, result });
    }
}

fn copy(disk: &mut DiskReader, writer: &mut Writer, range: ByteRange) -> Result<(), (ArchiveError, String)> {
    let data = disk.read(range).map_err(|error| (ArchiveError::Disk, format!("the disk can't be read: {error}")))?;
    writer.add(range.offset, data).map_err(|error| (ArchiveError::Archive, error.to_string()))
}
