//! The pair under torture: two daemons in two namespaces, and their volumes.

use crate::plan::{Fault, Which};
use crate::tally::Tally;
use crate::volume::Volume;
use nix::errno::Errno;
use rep_tests::faulty_disk::{Faults, FaultyDisk};
use rep_tests::ledger::Lost;
use rep_tests::load::ClientEnd;
use rep_tests::node::DaemonOptions;
use rep_tests::status::Resource;
use rep_tests::{Cluster, ClusterOptions, NetworkKind, Node};
use std::time::{Duration, Instant};

/// How long anything may take that must come.
pub const SOON: Duration = Duration::from_secs(60);

const DISK_BYTES: u64 = 48 << 20;

/// What is tortured.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The daemons.
    pub daemon: DaemonOptions,
    /// How many the resource has.
    pub volumes: usize,
    /// The disks of this volume answer flushes and don't do them.
    pub lying_disks: Option<usize>,
    /// A violation is what is hoped for: nothing is kept, no log shown.
    pub control: bool,
}

impl Default for Subject {
    fn default() -> Self {
        Subject { daemon: DaemonOptions::default(), volumes: 1, lying_disks: None, control: false }
    }
}

/// The pair.
#[derive(Debug)]
pub struct World {
    pub cluster: Cluster,
    pub volumes: Vec<Volume>,
    pub tally: Tally,
    /// Who is Primary, or was last: 0 is alpha.
    pub primary: usize,
    /// Nothing has happened since both were in sync.
    pub calm: bool,
    pub load_seed: u64,
    /// How often the Primary had lost the link when the cycle began.
    pub links_lost_before: usize,
    pub subject: Subject,
    frozen: [bool; 2],
}

impl World {
    /// A pair in sync, with a Primary.
    pub fn new(subject: &Subject) -> World {
        let options = ClusterOptions {
            disk_bytes: [DISK_BYTES; 2],
            volumes: subject.volumes,
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
        let mount = |number| [&cluster.alpha, &cluster.beta].map(|node| FaultyDisk::mount(&node.disk_of(number)));
        let disks: Vec<_> = (0..subject.volumes).map(mount).collect();
        cluster.bring_in_sync();
        cluster.alpha.ok("primary");
        let told = cluster.alpha.resource().volumes;
        let with_bytes = disks.into_iter().zip(told).enumerate();
        let volumes = with_bytes.map(|(number, (disks, told))| Volume::new(number, disks, told.size_bytes)).collect();
        World {
            cluster,
            volumes,
            tally: Tally::default(),
            primary: 0,
            calm: true,
            load_seed: 0,
            links_lost_before: 0,
            subject: subject.clone(),
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

    /// What is said of a volume, with its number where there are several.
    fn of_volume(&self, volume: usize, what: String) -> String {
        if self.volumes.len() > 1 { format!("volume {volume}: {what}") } else { what }
    }

    /// Something is wrong with a volume.
    pub fn volume_violation(&mut self, volume: usize, what: String) {
        let what = self.of_volume(volume, what);
        self.violation(what);
    }

    /// Sets the faults of a node's disk, on top of what this subject's disks always do.
    pub fn set_faults(&self, side: usize, volume: usize, faults: Faults) {
        let lies = self.subject.lying_disks == Some(volume);
        self.volumes[volume].disks[side].set(Faults { lies, ..faults });
    }

    /// All of a node's disks are as good as this subject's ever are.
    pub fn mend_disks(&self, side: usize) {
        self.volumes.iter().for_each(|volume| self.set_faults(side, volume.number, Faults::NONE));
    }

    // ---- clients ----

    /// Clients work on the Primary, on every volume on which they may and none do.
    pub fn begin_load(&mut self) {
        self.load_seed = self.load_seed.wrapping_add(1);
        let node = [&self.cluster.alpha, &self.cluster.beta][self.primary];
        self.volumes.iter_mut().for_each(|volume| volume.begin_load(node, self.load_seed));
    }

    /// Whether clients work on every volume.
    pub fn has_load(&self) -> bool {
        self.volumes.iter().all(Volume::has_load)
    }

    /// Waits for more answers, on each volume.
    pub fn wait_for_answers(&self, more: u64) {
        self.volumes.iter().for_each(|volume| volume.wait_for_answers(more, SOON));
    }

    /// The clients end. `untroubled`: the only fault of this cycle, which must not have hurt them.
    pub fn end_load(&mut self, untroubled: Option<Fault>) {
        (0..self.volumes.len()).for_each(|volume| self.end_load_of(volume, untroubled));
    }

    /// The same, on one volume.
    pub fn end_load_of(&mut self, volume: usize, untroubled: Option<Fault>) {
        let ends = self.volumes[volume].end_load();
        for end in &ends {
            for violation in &end.violations {
                self.volume_violation(volume, format!("a read: {violation}"));
            }
        }
        let Some(fault) = untroubled else { return };
        for ClientEnd { errors, first_error, longest_wait, cut_off, .. } in &ends {
            self.tally.stalled(fault, *longest_wait);
            if (*errors > 0 || cut_off.is_some()) && self.peer_was_there(fault) {
                let first = first_error.as_deref().unwrap_or("none");
                self.volume_violation(
                    volume,
                    format!("a client saw {errors} errors (first: {first}), cut off: {cut_off:?}, although the peer was there"),
                );
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

    /// The other's disk of this volume is about to lose what wasn't flushed, and clients of a Primary that lives had no copy but that.
    pub fn unflushed_is_lost_beside(&mut self, side: usize, volume: usize) {
        let witness = self.answers(side).then(|| self.state(side)).flatten().and(Some(side));
        let volume = &mut self.volumes[volume];
        (volume.lost, volume.witness) = (Lost::Unflushed, witness);
    }

    /// What wasn't flushed may be gone, of every volume.
    pub fn unflushed_is_lost(&mut self) {
        self.volumes.iter_mut().for_each(|volume| volume.lost = Lost::Unflushed);
    }

    /// This daemon ends: who is owed a word by it ends with it.
    pub fn forget_witness(&mut self, side: usize) {
        self.volumes.iter_mut().for_each(|volume| volume.witness = volume.witness.filter(|witness| *witness != side));
    }

    /// Ends a daemon like a crash; its disk keeps what it has.
    pub fn kill(&mut self, side: usize) {
        self.frozen[side] = false;
        self.forget_witness(side);
        if self.node(side).is_started() {
            self.node_mut(side).kill9();
        }
    }

    /// Ends a daemon and takes from its disks what wasn't flushed.
    pub fn cut_power(&mut self, side: usize, random: &mut rep_tests::random::Random) {
        self.kill(side);
        let lost = self.volumes.iter().map(|volume| volume.disks[side].lose_power(random)).sum::<u64>();
        self.tally.sectors_lost_by_power_cuts += lost;
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

    fn generation_on_disk(&self, side: usize) -> Vec<String> {
        let node = self.node(side);
        let config = self.cluster.config_path().to_string_lossy();
        let of = |volume: &Volume| {
            let named = format!("vz/{}", volume.number);
            let dumped = node.ctl(["dump-md", &named, "--config", &config, "--node", node.name()]);
            let found = dumped.stdout.lines().find(|line| line.starts_with("current ")).map(str::to_owned);
            found.unwrap_or_else(|| panic!("no generation in {dumped:?}"))
        };
        self.volumes.iter().map(of).collect()
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
        if self.volumes.iter().any(Volume::has_load) {
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
        self.volumes.iter_mut().for_each(|volume| drop(volume.end_load()));
        for side in [0, 1] {
            self.thaw(side);
            self.mend_disks(side);
            self.kill(side);
        }
        if !self.tally.violations.is_empty() && !self.subject.control {
            self.cluster.keep();
        }
        let World { cluster, volumes, mut tally, .. } = self;
        volumes.iter().for_each(|volume| tally.ledger += volume.ledger.counts());
        drop(volumes);
        drop(cluster);
        tally
    }
}
