//! Two nodes, alpha and beta, with one resource, `vz`.

use crate::config::{ConfigFile, NodeSection, VolumeSection};
use crate::net::{Network, NetworkKind};
use crate::node::DaemonOptions;
use crate::process::Running;
use crate::scratch::{Scratch, sparse_file};
use crate::slots::{self, Slot};
use crate::{Node, compare, logs, tools};
use std::path::{Path, PathBuf};

pub use crate::scratch::Place;

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// Bytes of each disk: alpha's, beta's.
    pub disk_bytes: [u64; 2],
    /// Volumes of the resource, each with a disk of that size on either node.
    pub volumes: usize,
    /// Metadata in a file of its own instead of the disk's end.
    pub external_metadata: bool,
    /// What the disks lie on.
    pub place: Place,
    /// What lies between the nodes; usually two namespaces' cable, for root.
    pub network: NetworkKind,
    /// Whether the nodes prove a secret to each other.
    pub secret: bool,
    /// Further lines of the resource.
    pub resource_lines: Vec<String>,
    /// Lines of its net section.
    pub net_lines: Vec<String>,
    /// Lines of its resync section.
    pub resync_lines: Vec<String>,
    /// Further resources of the same two daemons, of one volume each, with the same lines ([`Cluster::beside`]).
    pub beside: Vec<String>,
    /// Whether the scenario needs the machine for itself.
    pub exclusive: bool,
    /// The daemons.
    pub daemon: DaemonOptions,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        ClusterOptions {
            disk_bytes: [64 << 20; 2],
            volumes: 1,
            external_metadata: false,
            place: Place::Disk,
            network: NetworkKind::default(),
            secret: true,
            resource_lines: Vec::new(),
            net_lines: ["timeout = \"2s\"", "ping-interval = \"2s\"", "connect-interval = \"1s\""]
                .map(str::to_owned)
                .into(),
            resync_lines: Vec::new(),
            beside: Vec::new(),
            exclusive: false,
            daemon: DaemonOptions::default(),
        }
    }
}

/// The cluster. Dropped, it looks through the logs and takes everything away.
#[derive(Debug)]
pub struct Cluster {
    /// The node that sorts first.
    pub alpha: Node,
    /// The other.
    pub beta: Node,
    /// What lies between them.
    pub network: Network,
    /// The configuration, changeable between a daemon's lives ([`Cluster::write_config`]).
    pub config: ConfigFile,
    /// The same of each further resource.
    pub beside: Vec<ConfigFile>,
    config_path: PathBuf,
    expected_logs: Vec<String>,
    scratch: Scratch,
    _slot: Slot,
}

impl Cluster {
    /// Disks and configuration; no daemon runs yet, there is no metadata.
    pub fn prepare(options: &ClusterOptions) -> Cluster {
        let slot = if options.exclusive { slots::exclusive() } else { slots::shared() };
        let scratch = Scratch::new(options.place);
        let network = Network::new(options.network);
        let config_path = scratch.path().join("repd.toml");
        let node = |index: usize, name: &str| {
            let node = Node::new(name, scratch.path().join(name), config_path.clone(), network.namespace(index), "vz")
                .with_daemon(options.daemon.clone());
            (0..options.volumes).for_each(|number| sparse_file(&node.disk_of(number), options.disk_bytes[index]));
            node
        };
        let (alpha, beta) = (node(0, "alpha"), node(1, "beta"));
        let volume = |node: &Node, number| VolumeSection {
            disk: node.disk_of(number),
            meta_disk: options.external_metadata.then(|| node.meta_disk_of(number)),
            socket: node.socket_of(number),
        };
        let section = |index: usize, node: &Node| NodeSection {
            name: node.name().to_owned(),
            address: network.address(index),
            volumes: (0..options.volumes).map(|number| volume(node, number)).collect(),
        };
        let mut net_lines = options.net_lines.clone();
        if options.secret {
            let path = scratch.path().join("secret");
            write_secret(&path, "a secret of this scenario only");
            net_lines.push(format!("shared-secret-file = \"{}\"", path.display()));
        }
        let config = ConfigFile {
            resource: "vz".to_owned(),
            resource_lines: resource_lines(options, &archive_dir(scratch.path())),
            net_lines,
            resync_lines: options.resync_lines.clone(),
            nodes: vec![section(0, &alpha), section(1, &beta)],
        };
        let one_more = |(number, name): (usize, &String)| {
            let section = |(node, address): (&Node, String)| {
                let node = node.beside(name);
                sparse_file(&node.disk(), options.disk_bytes[0]);
                let (disk, socket) = (node.disk(), node.socket());
                let volumes = vec![VolumeSection { disk, meta_disk: None, socket }];
                NodeSection { name: node.name().to_owned(), address, volumes }
            };
            let nodes = [&alpha, &beta].into_iter().zip(network.more_addresses(number)).map(section).collect();
            ConfigFile { resource: name.clone(), nodes, ..config.clone() }
        };
        let beside = options.beside.iter().enumerate().map(one_more).collect();
        // A resource without metadata stays down, and that is told.
        let expected_logs = vec!["stays down".to_owned()];
        let cluster =
            Cluster { alpha, beta, network, config, beside, config_path, expected_logs, scratch, _slot: slot };
        cluster.write_config();
        cluster
    }

    /// Both daemons run; there is no metadata.
    pub fn start(options: &ClusterOptions) -> Cluster {
        let mut cluster = Cluster::prepare(options);
        cluster.alpha.start();
        cluster.beta.start();
        cluster
    }

    /// Both nodes are up and in sync, the disks taken as equal without a first copy; both are Secondary.
    pub fn in_sync(options: &ClusterOptions) -> Cluster {
        let mut cluster = Cluster::prepare(options);
        cluster.bring_in_sync();
        cluster
    }

    /// Starts what was prepared: after it both nodes are up and in sync.
    pub fn bring_in_sync(&mut self) {
        self.alpha.start();
        self.beta.start();
        bring_in_sync([&self.alpha, &self.beta]);
        for other in &self.beside {
            let [alpha, beta] = self.beside(&other.resource);
            bring_in_sync([&alpha, &beta]);
        }
    }

    /// Both nodes, for a further resource of theirs.
    pub fn beside(&self, resource: &str) -> [Node; 2] {
        [&self.alpha, &self.beta].map(|node| node.beside(resource))
    }

    /// As [`Cluster::in_sync`], and alpha is Primary.
    pub fn with_primary(options: &ClusterOptions) -> Cluster {
        let cluster = Cluster::in_sync(options);
        cluster.alpha.ok("primary");
        cluster
    }

    /// Writes the configuration file anew.
    pub fn write_config(&self) {
        let texts: Vec<_> = std::iter::once(&self.config).chain(&self.beside).map(ConfigFile::text).collect();
        std::fs::write(&self.config_path, texts.concat()).expect("the config file");
    }

    /// Where the configuration file is.
    pub fn config_path(&self) -> &std::path::Path {
        &self.config_path
    }

    /// A path in the scenario's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Where the nodes archive what is given up in a split brain.
    pub fn archive_dir(&self) -> PathBuf {
        archive_dir(self.scratch.path())
    }

    /// A WARN or ERROR with this text is part of the scenario.
    pub fn expect_log(&mut self, text: &str) {
        self.expected_logs.push(text.to_owned());
    }

    /// Leaves the scenario's folder where it is.
    pub fn keep(&mut self) {
        self.scratch.keep();
    }

    /// Bytes of the volume.
    #[track_caller]
    pub fn volume_bytes(&self) -> u64 {
        self.alpha.resource().volume().size_bytes
    }

    /// Beta gets another disk, full of what somebody else had there, and is filled. Its metadata lie in a file of their own.
    #[track_caller]
    pub fn fill_another_disk_of_beta(&mut self) {
        self.beta.kill9();
        self.alpha.wait_connection("Connecting");
        let bytes = std::fs::metadata(self.beta.disk()).expect("the disk").len();
        std::fs::write(self.beta.disk(), crate::random::bytes(10, bytes as usize)).expect("the other disk");
        std::fs::remove_file(self.beta.meta_disk()).expect("the metadata");
        self.beta.start();
        self.beta.ok("create-md");
        self.beta.ok("up");
        self.beta.wait_in_sync();
        self.alpha.wait_in_sync();
        self.assert_identical();
    }

    /// Panics unless both replicas of every volume hold the same bytes. Both must be in sync, nothing in flight.
    #[track_caller]
    pub fn assert_identical(&self) {
        for (number, volume) in self.alpha.resource().volumes.iter().enumerate() {
            compare::assert_identical(&self.alpha.disk_of(number), &self.beta.disk_of(number), volume.size_bytes);
        }
    }

    /// fio at alpha's export until it is dropped: random reads and writes of 4 KiB with a flush after each 64, in the 32 MiB
    /// from 64 MiB on.
    pub fn start_fio(&self, depth: u32) -> Running {
        let mut fio = tools::server("fio");
        fio.args(["--name=load", "--ioengine=nbd", "--rw=randrw", "--bs=4k", "--fsync=64"]);
        // Without a process of its own the job ends with the fio that is killed.
        fio.args(["--thread", "--time_based", "--runtime=900", "--offset=64M", "--size=32M"]);
        fio.arg(format!("--iodepth={depth}")).arg(format!("--uri={}", self.alpha.uri()));
        Running::start(fio, "fio", &self.path("fio.log"))
    }

    /// The node of that name.
    pub fn node(&mut self, name: &str) -> &mut Node {
        if name == "alpha" { &mut self.alpha } else { &mut self.beta }
    }

    fn unexpected_logs(&self) -> Vec<String> {
        let of = |node: &Node| {
            let log = node.log();
            let lines = logs::unexpected(&log, &self.expected_logs);
            lines.into_iter().map(|line| format!("{}: {line}", node.name())).collect::<Vec<_>>()
        };
        [of(&self.alpha), of(&self.beta)].concat()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let unexpected = self.unexpected_logs();
        if std::thread::panicking() || !unexpected.is_empty() {
            for node in [&self.alpha, &self.beta] {
                eprintln!("--- the end of {}'s log\n{}", node.name(), logs::tail(&node.log(), 40));
            }
            self.scratch.keep();
        }
        if !std::thread::panicking() {
            assert!(unexpected.is_empty(), "unlisted warnings or errors:\n{}", unexpected.join("\n"));
        }
    }
}

/// Brings a resource up that both daemons know: after it both nodes are in sync.
fn bring_in_sync([alpha, beta]: [&Node; 2]) {
    for node in [alpha, beta] {
        node.ok("create-md");
        node.ok("up");
    }
    alpha.ok("wait connected");
    alpha.ok("new-generation --clear-bitmap");
    alpha.wait_in_sync();
    beta.wait_in_sync();
}

/// Where a scenario's nodes archive what is given up in a split brain.
fn archive_dir(scratch: &Path) -> PathBuf {
    scratch.join("archive")
}

/// The lines asked for, and where archives go.
fn resource_lines(options: &ClusterOptions, archive_dir: &Path) -> Vec<String> {
    let mut lines = options.resource_lines.clone();
    if !lines.iter().any(|line| line.starts_with("archive-dir")) {
        lines.push(format!("archive-dir = \"{}\"", archive_dir.display()));
    }
    lines
}

/// Writes a secret as the daemon wants it: for its owner's eyes only.
pub fn write_secret(path: &std::path::Path, secret: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, secret).expect("the secret");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("its mode");
}
