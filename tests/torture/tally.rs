//! What a run counts, and how it is told.

use crate::plan::Fault;
use rep_tests::ledger::Counts;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// The counts of a run.
#[derive(Debug, Default)]
pub struct Tally {
    pub cycles: u64,
    /// What must not be, one sentence each, with the cycle it was seen in.
    pub violations: Vec<String>,
    /// What the ledger counted.
    pub ledger: Counts,
    /// Sectors that were written and looked at again, over all cycles.
    pub sectors_checked: u64,
    /// Bytes compared between the disks.
    pub bytes_compared: u64,
    /// From the death of a Primary to the first answer of the next.
    pub failovers: Vec<Duration>,
    /// Bytes that differed, and bytes that were copied: after losing a link or a peer, after the crash of a Primary.
    pub resynced: [Resynced; 2],
    pub corruptions_injected: u64,
    pub corruptions_detected: u64,
    /// Those nobody noticed, with what the nodes said meanwhile.
    pub unseen_corruptions: Vec<String>,
    /// Sectors that power cuts took from caches.
    pub sectors_lost_by_power_cuts: u64,
    /// Flushes that told clients of a Primary that lived of what its peer's power cut had taken.
    pub losses_told: u64,
    kinds: BTreeMap<&'static str, Kind>,
}

/// Bytes that differed when a resync began, and bytes it copied.
#[derive(Clone, Copy, Debug, Default)]
pub struct Resynced {
    pub differing_bytes: u64,
    pub copied_bytes: u64,
}

#[derive(Debug, Default)]
struct Kind {
    times: u64,
    longest_stall: Duration,
    stops_the_primary: bool,
}

impl Tally {
    /// A fault struck.
    pub fn struck(&mut self, fault: Fault) {
        let kind = self.kinds.entry(fault.kind()).or_default();
        kind.times += 1;
    }

    /// A client that wasn't cut off waited so long, in a cycle with this fault alone.
    pub fn stalled(&mut self, fault: Fault, wait: Duration) {
        // A frozen Primary can't answer: what it kept clients waiting says nothing.
        let name = if fault.stops_the_primary() { "(the Primary stood still)" } else { fault.kind() };
        let kind = self.kinds.entry(name).or_default();
        kind.longest_stall = kind.longest_stall.max(wait);
        kind.stops_the_primary = fault.stops_the_primary();
    }

    fn longest_stall(&self) -> Duration {
        let counted = self.kinds.values().filter(|kind| !kind.stops_the_primary);
        counted.map(|kind| kind.longest_stall).max().unwrap_or_default()
    }

    fn faults(&self) -> u64 {
        self.kinds.values().map(|kind| kind.times).sum()
    }
}

/// The value below which this share of a sorted list lies.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let at = (sorted.len() * percent).div_ceil(100).clamp(1, sorted.len().max(1)) - 1;
    sorted.get(at).copied().unwrap_or_default()
}

fn amplification(resynced: Resynced) -> String {
    match resynced {
        Resynced { differing_bytes: 0, copied_bytes: 0 } => "nothing to copy".to_owned(),
        Resynced { differing_bytes: 0, copied_bytes } => format!("{copied_bytes} bytes copied where nothing differed"),
        Resynced { differing_bytes, copied_bytes } => {
            let (copied, differed) = (copied_bytes >> 10, differing_bytes >> 10);
            format!(
                "{:.2} ({copied} KiB copied, {differed} KiB differed)",
                copied_bytes as f64 / differing_bytes as f64
            )
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut failovers = self.failovers.clone();
        failovers.sort_unstable();
        writeln!(f, "cycles                      {:>10}   ({} faults)", self.cycles, self.faults())?;
        writeln!(f, "acknowledged writes checked {:>10}", self.ledger.acknowledged)?;
        writeln!(f, "answered flushes            {:>10}", self.ledger.flushes)?;
        writeln!(f, "sectors judged              {:>10}", self.sectors_checked)?;
        writeln!(f, "bytes compared              {:>10} MiB", self.bytes_compared >> 20)?;
        writeln!(
            f,
            "lost by power cuts          {:>10} sectors that weren't flushed",
            self.sectors_lost_by_power_cuts
        )?;
        writeln!(f, "losses told by a flush      {:>10}", self.losses_told)?;
        writeln!(f, "longest client stall        {:>10.2} s", self.longest_stall().as_secs_f64())?;
        writeln!(
            f,
            "failover time               {:>10.3} s p50, {:.3} s p99 ({} failovers)",
            percentile(&failovers, 50).as_secs_f64(),
            percentile(&failovers, 99).as_secs_f64(),
            failovers.len()
        )?;
        writeln!(f, "resync amplification        after a lost link or peer: {}", amplification(self.resynced[0]))?;
        writeln!(f, "                            after a Primary's crash: {}", amplification(self.resynced[1]))?;
        writeln!(
            f,
            "corruptions                 {:>10} detected of {} injected",
            self.corruptions_detected, self.corruptions_injected
        )?;
        self.unseen_corruptions.iter().take(10).try_for_each(|unseen| writeln!(f, "  nobody read: {unseen}"))?;
        for (name, kind) in &self.kinds {
            let stall = kind.longest_stall.as_secs_f64();
            writeln!(f, "  {name:<25} {:>10} times, longest stall {stall:.2} s", kind.times)?;
        }
        write!(f, "violations                  {:>10}", self.violations.len())?;
        self.violations.iter().take(20).try_for_each(|violation| write!(f, "\n  {violation}"))
    }
}
