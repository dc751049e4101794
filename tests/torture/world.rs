//! The pair under torture: two daemons in two namespaces, their disks, a ledger and its clients.

use crate::plan::{Fault, Which};
use crate::tally::Tally;
use nix::errno::Errno;
use rep_tests::faulty_disk::{Faults, FaultyDisk};
use rep_tests::ledger::Lost;
use rep_tests::load::{ClientEnd, Load, LoadOptions};
use rep_tests::node::DaemonOptions;
use rep_tests::status::Resource;
use rep_tests::{Cluster, ClusterOptions, Ledger, NetworkKind, Node};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long anything may take that must come.
pub const SOON: Duration = Duration::from_secs(60);

const DISK_BYTES: u64 = 48 << 20;

/// What is tortured.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// The daemons.
    pub daemon: DaemonOptions,
    /// The disks answer flushes and don't do them.
    pub lying_disks: bool,
    /// A violation is what is hoped for: nothing is kept, no log shown.
    pub control: bool,
}

/// The pair.
#[derive(Debug)]
pub struct World {
    pub cluster: Cluster,
    pub disks: [FaultyDisk; 2],
    pub ledger: Arc<Ledger>,
    pub tally: Tally,
    /// Who is Primary, or was last: 0 is alpha.
    pub primary: usize,
    /// Nothing has happened since both were in sync.
    pub calm: bool,
    /// What the faults since the last look may have taken.
    pub lost: Lost,
    /// The Primary that has lived through it, with what its clients are owed.
    witness: Option<usize>,
    pub load_seed: u64,
    /// How often the Primary had lost the link when the cycle began.
    pub links_lost_before: usize,
    pub subject: Subject,
    load: Option<Load>,
    frozen: [bool; 2],
}

impl World {
    /// A pair in sync, with a Primary.
    pub fn new(subject: &Subject) -> World {
        let options = ClusterOptions {
            disk_bytes: [DISK_BYTES; 2],
            network: NetworkKind::Namespaces,
            daemon: DaemonOptions { own_boot: true, ..subject.daemon.clone() },
            net_lines: ["timeout = \"1500ms\"", "ping-interval = \"1s\"", "connect-interval = \"1s\""]
                .map(str::to_owned)
                .into(),
            ..ClusterOptions::default()
        };
        let mut cluster = Cluster::prepare(&options);
        // What a daemon says when its disk or its metadata fail under it.
        cluster.expect_log("was not left cleanly");
        cluster.expect_log("operations were under way");
        cluster.expect_log("answered with an error, so that clients know");
        if subject.control {
            // Daemons that are meant to go wrong, or whose disks are, may say whatever they notice of it.
            cluster.expect_log("");
        }
        let disks = [&cluster.alpha, &cluster.beta].map(|node| FaultyDisk::mount(&node.disk()));
        cluster.bring_in_sync();
        cluster.alpha.ok("primary");
        let ledger = Arc::new(Ledger::new(cluster.volume_bytes()));
        World {
            cluster,
            disks,
            ledger,
            tally: Tally::default(),
            primary: 0,
            calm: true,
            lost: Lost::OneNode,
            witness: None,
            load_seed: 0,
            links_lost_before: 0,
            subject: subject.clone(),
            load: None,
            frozen: [false; 2],
        }
    }

    /// A node.
    pub fn node(&self, side: usize) -> &Node {
        [&self.cluster.alpha, &self.cluster.beta][side]
    }

    /// A node, to start or end its daemon.
    pub fn node_mut(&mut self, side: usize) -> &mut Node {
        [&mut self.cluster.alpha, &mut self.cluster.beta][side]
    }

    /// Which node that is now.
    pub fn side(&self, which: Which) -> usize {
        match which {
            Which::Primary => self.primary,
            Which::Secondary => 1 - self.primary,
        }
    }

    /// Something is wrong.
    pub fn violation(&mut self, what: String) {
        self.tally.violations.push(format!("cycle {}: {what}", self.tally.cycles + 1));
    }

    /// The state of a node, if its daemon answers.
    pub fn state(&self, side: usize) -> Option<Resource> {
        let status = self.node(side).try_status().ok()?;
        status.resources.into_iter().find(|resource| resource.name == "vz")
    }

    /// Sets a disk's faults, on top of what this subject's disks always do.
    pub fn set_faults(&self, side: usize, faults: Faults) {
        self.disks[side].set(Faults { lies: self.subject.lying_disks, ..faults });
    }

    // ---- clients ----

    /// Clients work on the Primary. Not after a loss of what wasn't flushed: the ledger must see first what is left, or
    /// it would take a later flush for one of what is gone.
    pub fn begin_load(&mut self) {
        if self.lost == Lost::Unflushed {
            return;
        }
        self.load_seed = self.load_seed.wrapping_add(1);
        // Mostly not as fast as they can: else every block is out-of-sync in a second, and no bit could be wrong.
        let pause = Duration::from_micros(if self.load_seed.is_multiple_of(4) { 0 } else { 700 });
        // Few flushes, so that a power cut finds something to take.
        let options =
            LoadOptions { seed: Some(self.load_seed), pause, flushes: 1, forced: 2, ..LoadOptions::default() };
        let address = self.node(self.primary).address();
        self.load = Some(Load::start(&self.ledger, &address, "vz", &options));
    }

    /// Whether clients work.
    pub fn has_load(&self) -> bool {
        self.load.is_some()
    }

    /// Waits for more answers.
    pub fn wait_for_answers(&self, more: u64) {
        if let Some(load) = &self.load {
            load.wait_for(more, SOON);
        }
    }

    /// The clients end. `fault`: the only one of this cycle, which must not have hurt them.
    pub fn end_load(&mut self, untroubled: Option<Fault>) {
        let Some(load) = self.load.take() else { return };
        let ends = load.end();
        for end in &ends {
            end.violations.iter().for_each(|violation| self.violation(format!("a read: {violation}")));
        }
        let Some(fault) = untroubled else { return };
        for ClientEnd { errors, first_error, longest_wait, cut_off, .. } in &ends {
            self.tally.stalled(fault, *longest_wait);
            if (*errors > 0 || cut_off.is_some()) && self.peer_was_there(fault) {
                let first = first_error.as_deref().unwrap_or("none");
                self.violation(format!(
                    "a client saw {errors} errors (first: {first}), cut off: {cut_off:?}, although the peer was there"
                ));
            }
        }
    }

    /// Whether the peer could have stood in: on a busy machine the link may be lost without our doing, and a Primary whose
    /// own disk fails has then none.
    pub fn peer_was_there(&self, fault: Fault) -> bool {
        let needed = matches!(fault, Fault::DiskFails(Which::Primary, ..));
        !needed || self.links_lost() == self.links_lost_before
    }

    /// How often the Primary has lost the link so far.
    pub fn links_lost(&self) -> usize {
        self.node(self.primary).log().matches("connection: Connected -> ").count()
    }

    // ---- daemons ----

    /// The other's disk is about to lose what wasn't flushed, and clients of a Primary that lives had no copy but that.
    pub fn unflushed_is_lost_beside(&mut self, side: usize) {
        self.lost = Lost::Unflushed;
        self.witness = self.answers(side).then(|| self.state(side)).flatten().and(Some(side));
    }

    /// Whether the Primary has lived through the loss that was just looked at; asked once.
    pub fn primary_is_witness(&mut self) -> bool {
        self.witness.take() == Some(self.primary)
    }

    /// This daemon ends: who is owed a word by it ends with it.
    pub fn forget_witness(&mut self, side: usize) {
        self.witness = self.witness.filter(|witness| *witness != side);
    }

    /// Ends a daemon like a crash; its disk keeps what it has.
    pub fn kill(&mut self, side: usize) {
        self.frozen[side] = false;
        self.forget_witness(side);
        if self.node(side).is_started() {
            self.node_mut(side).kill9();
        }
    }

    /// Ends a daemon and takes from its disk what wasn't flushed.
    pub fn cut_power(&mut self, side: usize, random: &mut rep_tests::random::Random) {
        self.kill(side);
        self.tally.sectors_lost_by_power_cuts += self.disks[side].lose_power(random);
        self.node(side).reboot();
    }

    /// SIGSTOP.
    pub fn freeze(&mut self, side: usize) {
        if self.node(side).is_started() && !self.frozen[side] {
            self.node(side).freeze();
            self.frozen[side] = true;
        }
    }

    /// SIGCONT.
    pub fn thaw(&mut self, side: usize) {
        if std::mem::take(&mut self.frozen[side]) {
            self.node(side).thaw();
        }
    }

    /// Whether the daemon can be asked.
    pub fn answers(&self, side: usize) -> bool {
        self.node(side).is_started() && !self.frozen[side]
    }

    /// The Primary is dead; whether the other has all that clients were told, so that an operator may promote it: nothing
    /// had happened to the pair, and the dead one's metadata, which must say so before it answers alone (R14), doesn't
    /// say that it went on alone.
    pub fn other_is_good(&self) -> bool {
        let other = 1 - self.primary;
        self.calm && self.answers(other) && self.generation_on_disk(self.primary) == self.generation_on_disk(other)
    }

    fn generation_on_disk(&self, side: usize) -> String {
        let dumped = self.node(side).verb("dump-md");
        let found = dumped.stdout.lines().find(|line| line.starts_with("current ")).map(str::to_owned);
        found.unwrap_or_else(|| panic!("no generation in {dumped:?}"))
    }

    /// Counts lines of both logs that tell of damage found on the wire.
    pub fn damages_told(&self) -> usize {
        let told = |line: &&str| line.contains("damaged") || line.contains("broke the protocol");
        [0, 1].iter().map(|&side| self.node(side).log().lines().filter(told).count()).sum()
    }

    /// Bytes that resyncs have copied, as the Primary's log tells.
    pub fn copied_bytes(&self) -> u64 {
        let of = |line: &str| line.split("copied_bytes=").nth(1)?.split_whitespace().next()?.parse::<u64>().ok();
        let sum = |side: usize| self.node(side).log().lines().filter_map(of).sum::<u64>();
        sum(0).max(sum(1))
    }

    /// Promotes another than the dead Primary and has clients work on it; counts the time since `death`.
    pub fn fail_over(&mut self, death: Instant) -> Result<(), String> {
        let other = 1 - self.primary;
        self.node(other).wait_until("the loss is noticed", SOON, |resource| resource.connection != "Connected");
        let promoted = self.node(other).verb("primary");
        if promoted.code != 0 {
            return Err(promoted.stderr);
        }
        self.primary = other;
        self.begin_load();
        if self.has_load() {
            self.wait_for_answers(1);
            self.tally.failovers.push(death.elapsed());
        }
        Ok(())
    }

    /// The faults of a failing disk.
    pub fn failing(operations: rep_tests::faulty_disk::Operations, errno: Errno, times: u32) -> Faults {
        Faults { failing: Some((operations, errno, times)), ..Faults::NONE }
    }
}

impl World {
    /// Ends everything in the order in which it can be ended; with violations, the folder is kept.
    pub fn close(mut self) -> Tally {
        self.load.take().map(Load::end);
        for side in [0, 1] {
            self.thaw(side);
            self.set_faults(side, Faults::NONE);
            self.kill(side);
        }
        if !self.tally.violations.is_empty() && !self.subject.control {
            self.cluster.keep();
        }
        let World { cluster, disks, mut tally, ledger, .. } = self;
        tally.ledger = ledger.counts();
        drop(disks);
        drop(cluster);
        tally
    }
}
