//! Which faults a cycle meets, drawn from the seed: the same seed, the same faults in the same order.

use nix::errno::Errno;
use rep_tests::Cut;
use rep_tests::faulty_disk::Operations;
use rep_tests::random::Random;
use std::fmt;

/// Which of the two nodes, by what it is when the fault strikes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which {
    Primary,
    Secondary,
}

/// One fault. Those with a time are taken away after it, by themselves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// SIGKILL.
    Kill(Which),
    KillBoth,
    /// SIGKILL, and what the disk hadn't flushed is lost.
    PowerCut(Which),
    PowerCutBoth,
    /// SIGSTOP, for so many milliseconds.
    Freeze(Which, u64),
    /// SIGSTOP, then SIGKILL: a machine that hangs and is fenced.
    FreezeAndKill(u64),
    /// The link, in one of the ways links fail.
    CutLink(Cut, u64),
    /// Megabits a second.
    SlowLink(u32, u64),
    /// A packet to this node has four other bytes at this offset.
    Corrupt(Which, u32, u32),
    /// Operations of a disk fail, so many of them.
    DiskFails(Which, Operations, Errno, u32),
    /// Milliseconds each operation takes.
    SlowDisk(Which, u64, u64),
    HungDisk(Which, u64),
    /// SIGTERM and a new start: no fault, but it happens.
    Restart(Which),
    /// Demoted here, promoted there.
    SwitchOver,
}

/// Each kind of fault, and how often it is drawn in relation to the others.
const KINDS: &[(&str, u64)] = &[
    ("kill-primary", 12),
    ("kill-secondary", 8),
    ("kill-both", 6),
    ("power-cut-primary", 10),
    ("power-cut-secondary", 8),
    ("power-cut-both", 10),
    ("freeze-primary", 3),
    ("freeze-secondary", 4),
    ("freeze-and-kill-primary", 3),
    ("cut-link", 14),
    ("slow-link", 3),
    ("corrupt", 12),
    ("disk-fails", 14),
    ("slow-disk", 3),
    ("hung-disk", 3),
    ("restart-secondary", 2),
    ("switch-over", 3),
];

/// The names of the kinds.
pub fn kinds() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|(name, _)| *name)
}

/// What happens in a cycle.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub fault: Fault,
    /// How long the clients work before it.
    pub before_ms: u64,
    /// A second one: after so long; `true`: while the first is being mended.
    pub second: Option<(Fault, u64, bool)>,
    /// Where a disk fails, hangs or is slow: which volume's, in either.
    pub on: [usize; 2],
    /// Of how many.
    pub volumes: usize,
    /// The clients rest while it is mended, so that what is copied can be told.
    pub quiet: bool,
    /// Whence the clients' own choices come.
    pub load_seed: u64,
}

impl Plan {
    /// The plan of a cycle of a resource with so many volumes. `only`: the kinds to draw from; none: all.
    pub fn of(seed: u64, cycle: u64, volumes: usize, only: &[String]) -> Plan {
        // Both are mixed first: neighbouring numbers would give the same sequence, shifted.
        let random = &mut Random::new(Random::new(seed).next_u64() ^ Random::new(!cycle).next_u64());
        let fault = draw(random, only);
        let chained = random.percent(35);
        let mut second = (draw(random, only), 20 + random.below(1200), random.percent(60));
        let fits = |fault: Fault| only.is_empty() || only.iter().any(|kind| kind == fault.kind());
        let last_disk = Fault::PowerCut(Which::Secondary);
        if matches!(fault, Fault::DiskFails(Which::Primary, ..)) && fits(last_disk) && random.percent(50) {
            // Else what was written to the only disk left is hardly ever lost beside clients who live on.
            second = (last_disk, second.1, false);
        }
        let plan = Plan {
            fault,
            before_ms: random.below(700),
            second: chained.then_some(second),
            on: [0; 2],
            volumes,
            quiet: random.percent(50),
            load_seed: random.next_u64(),
        };
        // Last, so that the faults are the same with any number of volumes.
        Plan { on: [(); 2].map(|()| random.below(volumes as u64) as usize), ..plan }
    }
}

impl Plan {
    /// Whether a disk's errors reach a daemon.
    pub fn fails_a_disk(&self) -> bool {
        let fails = |fault: Fault| matches!(fault, Fault::DiskFails(..));
        fails(self.fault) || self.second.is_some_and(|(second, ..)| fails(second))
    }

    /// Whether a node crashes as Primary, so that whole hot extents are copied.
    pub fn crashes_a_primary(&self) -> bool {
        self.fault.crashes_a_primary() || self.second.is_some_and(|(second, ..)| second.crashes_a_primary())
    }
}

fn draw(random: &mut Random, only: &[String]) -> Fault {
    let wanted = |name: &str| only.is_empty() || only.iter().any(|one| one == name);
    let kinds: Vec<_> = KINDS.iter().filter(|(name, _)| wanted(name)).collect();
    let mut rest = random.below(kinds.iter().map(|(_, weight)| weight).sum());
    let mut chosen = kinds[0].0;
    for (name, weight) in kinds {
        chosen = name;
        if rest < *weight {
            break;
        }
        rest -= weight;
    }
    fault(chosen, random)
}

fn fault(kind: &str, random: &mut Random) -> Fault {
    let which = if random.percent(50) { Which::Primary } else { Which::Secondary };
    let time_ms = if random.percent(30) { 100 + random.below(900) } else { 1500 + random.below(2500) };
    match kind {
        "kill-primary" => Fault::Kill(Which::Primary),
        "kill-secondary" => Fault::Kill(Which::Secondary),
        "kill-both" => Fault::KillBoth,
        "power-cut-primary" => Fault::PowerCut(Which::Primary),
        "power-cut-secondary" => Fault::PowerCut(Which::Secondary),
        "power-cut-both" => Fault::PowerCutBoth,
        "freeze-primary" => Fault::Freeze(Which::Primary, time_ms),
        "freeze-secondary" => Fault::Freeze(Which::Secondary, time_ms),
        "freeze-and-kill-primary" => Fault::FreezeAndKill(time_ms),
        "cut-link" => Fault::CutLink(cut(random), time_ms),
        "slow-link" => Fault::SlowLink(5 + random.below(60) as u32, time_ms),
        // Headers, small bodies, and deep inside payloads.
        "corrupt" => {
            let reach = [30, 200, 1400, 4000][random.below(4) as usize];
            Fault::Corrupt(which, random.below(reach) as u32, random.next_u64() as u32)
        }
        "disk-fails" => disk_fails(which, random),
        "slow-disk" => Fault::SlowDisk(which, 1 + random.below(40), time_ms),
        "hung-disk" => Fault::HungDisk(which, time_ms),
        "restart-secondary" => Fault::Restart(Which::Secondary),
        "switch-over" => Fault::SwitchOver,
        other => unreachable!("a kind of fault named '{other}'"),
    }
}

fn cut(random: &mut Random) -> Cut {
    [Cut::Both, Cut::ToAlpha, Cut::ToBeta, Cut::Reset, Cut::LinkDown][random.below(5) as usize]
}

fn disk_fails(which: Which, random: &mut Random) -> Fault {
    let operations = [Operations::Reads, Operations::Writes, Operations::Writes, Operations::Flushes, Operations::All]
        [random.below(5) as usize];
    // What a full file system under the disk answers.
    let errno = if operations == Operations::Writes && random.percent(50) { Errno::ENOSPC } else { Errno::EIO };
    let times = [1, 1, 3, u32::MAX][random.below(4) as usize];
    Fault::DiskFails(which, operations, errno, times)
}

impl Fault {
    fn is_a_disk_s(self) -> bool {
        matches!(self, Fault::DiskFails(..) | Fault::SlowDisk(..) | Fault::HungDisk(..))
    }

    /// Whether the clients' daemon lives through it.
    pub fn spares_clients(self) -> bool {
        !matches!(
            self,
            Fault::Kill(Which::Primary)
                | Fault::KillBoth
                | Fault::PowerCut(Which::Primary)
                | Fault::PowerCutBoth
                | Fault::FreezeAndKill(_)
                | Fault::Restart(Which::Primary)
                | Fault::SwitchOver
        )
    }

    /// Whether the Primary itself, or its disk, stands still, so that no mirror could answer its clients.
    pub fn stops_the_primary(self) -> bool {
        matches!(
            self,
            Fault::Freeze(Which::Primary, _) | Fault::SlowDisk(Which::Primary, ..) | Fault::HungDisk(Which::Primary, _)
        )
    }

    fn crashes_a_primary(self) -> bool {
        !self.spares_clients() && self != Fault::SwitchOver
    }

    /// The name of its kind.
    pub fn kind(self) -> &'static str {
        match self {
            Fault::Kill(Which::Primary) => "kill-primary",
            Fault::Kill(Which::Secondary) => "kill-secondary",
            Fault::KillBoth => "kill-both",
            Fault::PowerCut(Which::Primary) => "power-cut-primary",
            Fault::PowerCut(Which::Secondary) => "power-cut-secondary",
            Fault::PowerCutBoth => "power-cut-both",
            Fault::Freeze(Which::Primary, _) => "freeze-primary",
            Fault::Freeze(Which::Secondary, _) => "freeze-secondary",
            Fault::FreezeAndKill(_) => "freeze-and-kill-primary",
            Fault::CutLink(..) => "cut-link",
            Fault::SlowLink(..) => "slow-link",
            Fault::Corrupt(..) => "corrupt",
            Fault::DiskFails(..) => "disk-fails",
            Fault::SlowDisk(..) => "slow-disk",
            Fault::HungDisk(..) => "hung-disk",
            Fault::Restart(_) => "restart-secondary",
            Fault::SwitchOver => "switch-over",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind())?;
        match self {
            Fault::CutLink(how, ms) => write!(f, "({how:?}, {ms} ms)"),
            Fault::SlowLink(rate, ms) => write!(f, "({rate} Mbit/s, {ms} ms)"),
            Fault::Corrupt(to, offset, _) => write!(f, "(to {to:?}, offset {offset})"),
            Fault::DiskFails(which, operations, errno, u32::MAX) => write!(f, "({which:?} {operations:?} {errno:?})"),
            Fault::DiskFails(which, operations, errno, times) => {
                write!(f, "({which:?} {operations:?} {errno:?} x{times})")
            }
            Fault::SlowDisk(which, delay_ms, ms) => write!(f, "({which:?} {delay_ms} ms each, {ms} ms)"),
            Fault::HungDisk(which, ms) => write!(f, "({which:?}, {ms} ms)"),
            Fault::Freeze(_, ms) | Fault::FreezeAndKill(ms) => write!(f, "({ms} ms)"),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = |fault: Fault, on: usize| match fault.is_a_disk_s() && self.volumes > 1 {
            true => format!("{fault} of volume {on}"),
            false => fault.to_string(),
        };
        write!(f, "{}", told(self.fault, self.on[0]))?;
        let Some((second, after_ms, mending)) = self.second else { return Ok(()) };
        let second = told(second, self.on[1]);
        match mending {
            true => write!(f, ", {after_ms} ms into its mending {second}"),
            false => write!(f, ", {after_ms} ms later {second}"),
        }
    }
}
