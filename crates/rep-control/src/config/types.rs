//! The configuration as values.

use super::links::LinkConfig;
use super::problem::Problem;
use rep_types::{AfterOnePrimary, AfterZeroPrimaries, NodeName, ResourceName, SplitBrainPolicies, VolumeNumber};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A whole, checked configuration.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The resources, by name.
    pub resources: Vec<ResourceConfig>,
    /// What is odd but no error.
    pub warnings: Vec<Problem>,
}

impl Config {
    /// The resource of that name.
    pub fn resource(&self, name: &str) -> Option<&ResourceConfig> {
        self.resources.iter().find(|resource| resource.name.as_str() == name)
    }

    /// Whether a volume is a block device of the kernel, on either node.
    pub fn has_kernel_devices(&self) -> bool {
        self.resources.iter().any(ResourceConfig::has_kernel_devices)
    }

    /// The resources that have a node of that name.
    pub fn resources_of<'a>(&'a self, node: &'a str) -> impl Iterator<Item = &'a ResourceConfig> {
        self.resources.iter().filter(move |resource| resource.node(node).is_some())
    }

    /// Every node's name, sorted, each once.
    pub fn node_names(&self) -> Vec<&NodeName> {
        let mut names: Vec<_> = self.resources.iter().flat_map(|r| r.nodes.iter().map(|node| &node.name)).collect();
        names.sort();
        names.dedup();
        names
    }

    /// The node this machine is: as told, or by host name, with or without its domain. The error is a sentence.
    pub fn choose_node(&self, told: Option<&str>) -> Result<NodeName, String> {
        let host = || nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
        let (name, origin) = match told {
            Some(name) => (name.to_owned(), "--node says so"),
            None => (host(), "the host name"),
        };
        let short = name.split('.').next().unwrap_or_default();
        let known = |candidate: &&&NodeName| candidate.as_str() == name || candidate.as_str() == short;
        let names = self.node_names();
        if let Some(found) = names.iter().find(known) {
            return Ok((*found).clone());
        }
        let names: Vec<_> = names.into_iter().map(NodeName::as_str).collect();
        let names = if names.is_empty() { "none".into() } else { names.join(", ") };
        Err(format!(
            "no resource has a node named \"{name}\" ({origin}); the configuration knows: {names}; name one with --node NAME"
        ))
    }
}

/// A resource.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ResourceConfig {
    /// Its name.
    pub name: ResourceName,
    /// Whether the daemon brings it up when it starts.
    pub start: StartMode,
    /// What an answered write means.
    pub durability: Durability,
    /// What must be known of an absent peer before promotion.
    pub fencing: Fencing,
    /// What becomes of a disk that answers a read or a write with an error.
    pub on_io_error: OnIoError,
    /// A disk that doesn't answer for so long counts as failed, if good data stay in reach; zero: never.
    pub disk_timeout: Duration,
    /// What becomes of client I/O while no good data is in reach.
    pub on_no_data: OnNoData,
    /// The link.
    pub net: NetConfig,
    /// Programs that are run when something happens.
    pub handlers: HandlersConfig,
    /// Resync.
    pub resync: ResyncConfig,
    /// Split brain.
    pub split_brain: SplitBrainConfig,
    /// What is saved of data that are given up in a split brain.
    pub archive: ArchiveConfig,
    /// What leads into the mounted volume on the active node, by path.
    pub links: Vec<LinkConfig>,
    /// The two nodes, by name.
    pub nodes: [NodeConfig; 2],
}

impl ResourceConfig {
    /// Whether a volume is a block device of the kernel, on either node.
    pub fn has_kernel_devices(&self) -> bool {
        self.nodes.iter().flat_map(|node| &node.volumes).any(|volume| volume.device.is_of_kernel())
    }

    /// The node of that name.
    pub fn node(&self, name: &str) -> Option<&NodeConfig> {
        self.nodes.iter().find(|node| node.name.as_str() == name)
    }

    /// The other node than the one of that name.
    pub fn peer_of(&self, name: &str) -> Option<&NodeConfig> {
        self.node(name)?;
        self.nodes.iter().find(|node| node.name.as_str() != name)
    }
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub enum $name {
            $($(#[$vdoc])* $variant,)+
        }

        impl $name {
            /// Every word of the configuration, in order.
            pub const WORDS: &'static [(&'static str, $name)] = &[$(($word, $name::$variant),)+];
        }

        impl fmt::Display for $name {
            /// As the configuration writes it.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $word,)+ })
            }
        }
    };
}

words! {
    /// Whether the daemon brings a resource up when it starts.
    StartMode {
        /// Yes.
        #[default]
        Up = "up",
        /// No: `repctl up` does.
        Down = "down",
    }
}
words! {
    /// What an answered write means.
    Durability {
        /// Both disks took it; a flush makes it stable on both.
        #[default]
        Std = "std",
        /// It is stable on both.
        Stable = "stable",
    }
}
words! {
    /// What must be known of an absent peer before promotion (R29).
    Fencing {
        /// Nothing.
        #[default]
        DontCare = "dont-care",
        /// That it is Outdated.
        ResourceOnly = "resource-only",
        /// That it is Outdated or fenced; client I/O waits until then.
        ResourceAndStonith = "resource-and-stonith",
    }
}
impl Fencing {
    /// As the engine takes it.
    pub fn policy(self) -> rep_types::Fencing {
        match self {
            Self::DontCare => rep_types::Fencing::DontCare,
            Self::ResourceOnly => rep_types::Fencing::ResourceOnly,
            Self::ResourceAndStonith => rep_types::Fencing::ResourceAndStonith,
        }
    }
}

words! {
    /// What becomes of a disk that answers a read or a write with an error (R32).
    OnIoError {
        /// It is let go of.
        #[default]
        Detach = "detach",
        /// While it is the only good copy in reach it is kept, and who asked hears of the error.
        PassOn = "pass-on",
    }
}
impl OnIoError {
    /// As the engine takes it.
    pub fn policy(self) -> rep_types::OnIoError {
        match self {
            Self::Detach => rep_types::OnIoError::Detach,
            Self::PassOn => rep_types::OnIoError::PassOn,
        }
    }
}

words! {
    /// What becomes of client I/O while no good data is in reach (R32).
    OnNoData {
        /// It gets errors.
        #[default]
        IoError = "io-error",
        /// It waits until there is some, or for `resume-io`.
        SuspendIo = "suspend-io",
    }
}
impl OnNoData {
    /// As the engine takes it.
    pub fn policy(self) -> rep_types::OnNoData {
        match self {
            Self::IoError => rep_types::OnNoData::IoError,
            Self::SuspendIo => rep_types::OnNoData::SuspendIo,
        }
    }
}

/// A program and its arguments; never given to a shell.
pub type CommandLine = Vec<String>;

/// Programs that are run when something happens; an empty one isn't.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HandlersConfig {
    /// Makes sure that an absent peer can't go on, and says by its exit code whether that is so.
    pub fence_peer: CommandLine,
    /// Takes back what `fence-peer` did: the peer follows again, with the same data.
    pub unfence_peer: CommandLine,
    /// Both nodes went on apart.
    pub split_brain: CommandLine,
    /// This node's disk is about to be overwritten by a resync; says by its exit code whether it may be.
    pub before_resync_target: CommandLine,
    /// This node's disk has been filled.
    pub after_resync_target: CommandLine,
    /// This node's disk, or its metadata, failed.
    pub local_io_error: CommandLine,
    /// A verify found blocks that differ.
    pub out_of_sync: CommandLine,
    /// This node is Primary, and the peer's data are newer.
    pub pri_lost: CommandLine,
    /// How long one may take; then it is killed.
    pub timeout: Duration,
}

impl Default for HandlersConfig {
    fn default() -> Self {
        HandlersConfig {
            fence_peer: Vec::new(),
            unfence_peer: Vec::new(),
            split_brain: Vec::new(),
            before_resync_target: Vec::new(),
            after_resync_target: Vec::new(),
            local_io_error: Vec::new(),
            out_of_sync: Vec::new(),
            pri_lost: Vec::new(),
            timeout: Duration::from_secs(60),
        }
    }
}

impl HandlersConfig {
    /// Each handler's name and command line.
    pub fn all(&self) -> [(&'static str, &CommandLine); 8] {
        [
            ("fence-peer", &self.fence_peer),
            ("unfence-peer", &self.unfence_peer),
            ("split-brain", &self.split_brain),
            ("before-resync-target", &self.before_resync_target),
            ("after-resync-target", &self.after_resync_target),
            ("local-io-error", &self.local_io_error),
            ("out-of-sync", &self.out_of_sync),
            ("pri-lost", &self.pri_lost),
        ]
    }
}

words! {
    /// What is done about a split brain without asking.
    SplitBrainPolicy {
        /// Nothing: the operator decides.
        #[default]
        Disconnect = "disconnect",
        /// The node that became Primary later gives its data up.
        DiscardYoungerPrimary = "discard-younger-primary",
        /// The node that became Primary earlier gives its data up.
        DiscardOlderPrimary = "discard-older-primary",
        /// The node that wrote nothing gives its data up; if both wrote, nothing is done.
        DiscardZeroChanges = "discard-zero-changes",
        /// The node that wrote less gives its data up.
        DiscardLeastChanges = "discard-least-changes",
        /// As `after-0-primaries` decides, unless it is the Primary's data that would go.
        Consensus = "consensus",
        /// The Secondary gives its data up.
        DiscardSecondary = "discard-secondary",
    }
}

const NOT_BY_NAME: &str = "a node's name says nothing of whose data are worth more; see 'repctl split-brain RES show' for what each wrote, \
    then run 'repctl split-brain RES resolve --keep NODE'";

impl SplitBrainPolicy {
    /// What `after-0-primaries` can be.
    pub const AFTER_0: &'static [(&'static str, SplitBrainPolicy)] = &[
        ("disconnect", Self::Disconnect),
        ("discard-younger-primary", Self::DiscardYoungerPrimary),
        ("discard-older-primary", Self::DiscardOlderPrimary),
        ("discard-zero-changes", Self::DiscardZeroChanges),
        ("discard-least-changes", Self::DiscardLeastChanges),
    ];
    /// What `after-1-primary` can be.
    pub const AFTER_1: &'static [(&'static str, SplitBrainPolicy)] = &[
        ("disconnect", Self::Disconnect),
        ("consensus", Self::Consensus),
        ("discard-secondary", Self::DiscardSecondary),
    ];
    /// What `after-2-primaries` can be: a Primary's data is never given up without the operator.
    pub const AFTER_2: &'static [(&'static str, SplitBrainPolicy)] = &[("disconnect", Self::Disconnect)];

    /// Why a policy of DRBD's isn't offered (decision 28); `None`: it is no name of DRBD's, or it is.
    pub fn why_not_offered(name: &str) -> Option<&'static str> {
        match name {
            "violently-as0p" => Some(
                "it may give up a Primary's data, in use and read by its clients; that is never done. \"consensus\" does as \
                 after-0-primaries says where that gives up the Secondary's",
            ),
            "call-pri-lost-after-sb" => Some(
                "it takes a Primary down to give up its data; that is never done without you: run 'repctl secondary RES' on the \
                 one whose data may go, then 'repctl split-brain RES resolve --keep NODE'",
            ),
            "discard-local" | "discard-remote" => Some(NOT_BY_NAME),
            name if name.starts_with("discard-node-") => Some(NOT_BY_NAME),
            _ => None,
        }
    }
}

/// The link to the peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NetConfig {
    /// The peer is asked for a sign of life when an answer is due for so long.
    pub timeout: Duration,
    /// An idle link is pinged this often.
    pub ping_interval: Duration,
    /// A ping is answered within this.
    pub ping_timeout: Duration,
    /// How long to wait at most between two attempts to connect.
    pub connect_interval: Duration,
    /// A peer whose disk answers nothing for this many `timeout`s is dropped.
    pub ko_count: u32,
    /// Both nodes prove to each other that they know what stands in this file.
    pub shared_secret_file: Option<PathBuf>,
}

impl Default for NetConfig {
    fn default() -> Self {
        NetConfig {
            timeout: Duration::from_secs(6),
            ping_interval: Duration::from_secs(10),
            ping_timeout: Duration::from_millis(500),
            connect_interval: Duration::from_secs(10),
            ko_count: 7,
            shared_secret_file: None,
        }
    }
}

/// Resync.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ResyncConfig {
    /// In bytes a second; 0: as fast as application latency allows.
    pub max_rate_bytes_per_s: u64,
}

/// What is done about a split brain, by how many nodes are Primary when it is found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SplitBrainConfig {
    /// Neither.
    pub after_0_primaries: SplitBrainPolicy,
    /// One.
    pub after_1_primary: SplitBrainPolicy,
    /// Both.
    pub after_2_primaries: SplitBrainPolicy,
}

impl SplitBrainConfig {
    /// As the engine takes them.
    pub fn policies(&self) -> SplitBrainPolicies {
        SplitBrainPolicies {
            after_0_primaries: match self.after_0_primaries {
                SplitBrainPolicy::DiscardYoungerPrimary => AfterZeroPrimaries::DiscardYoungerPrimary,
                SplitBrainPolicy::DiscardOlderPrimary => AfterZeroPrimaries::DiscardOlderPrimary,
                SplitBrainPolicy::DiscardZeroChanges => AfterZeroPrimaries::DiscardZeroChanges,
                SplitBrainPolicy::DiscardLeastChanges => AfterZeroPrimaries::DiscardLeastChanges,
                _ => AfterZeroPrimaries::Disconnect,
            },
            after_1_primary: match self.after_1_primary {
                SplitBrainPolicy::Consensus => AfterOnePrimary::Consensus,
                SplitBrainPolicy::DiscardSecondary => AfterOnePrimary::DiscardSecondary,
                _ => AfterOnePrimary::Disconnect,
            },
        }
    }
}

words! {
    /// Which blocks of the data given up in a split brain are archived.
    ArchiveBlocks {
        /// Those in which the two nodes may differ. What else the victim held is the survivor's, as it was at the
        /// resolution.
        #[default]
        Differing = "differing",
        /// Every block: the archive says by itself what the victim held.
        All = "all",
    }
}

/// Where archives are unless it is said.
pub const ARCHIVE_DIR_DEFAULT: &str = "/var/lib/repd/archive";

/// What is saved of data that are given up in a split brain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ArchiveConfig {
    /// Where archives go; `None` (`archive-dir = "none"`): nothing is saved.
    pub directory: Option<PathBuf>,
    /// What is in them.
    pub blocks: ArchiveBlocks,
}

impl Default for ArchiveConfig {
    fn default() -> Self {
        ArchiveConfig { directory: Some(ARCHIVE_DIR_DEFAULT.into()), blocks: ArchiveBlocks::default() }
    }
}

impl ArchiveConfig {
    /// The directory as the configuration writes it.
    pub fn directory_words(&self) -> String {
        self.directory.as_ref().map_or_else(|| "none".to_owned(), |path| path.display().to_string())
    }
}

/// A node of a resource.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeConfig {
    /// Its name.
    pub name: NodeName,
    /// Its address of the peer link.
    pub address: SocketAddr,
    /// Its volumes, by number.
    pub volumes: Vec<VolumeConfig>,
}

/// A volume of a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VolumeConfig {
    /// Its number.
    pub number: VolumeNumber,
    /// The backing device.
    pub disk: PathBuf,
    /// Where the metadata lies.
    pub meta_disk: MetaDisk,
    /// What clients see.
    pub device: Device,
}

/// Where a volume's metadata lies.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum MetaDisk {
    /// At the end of the disk.
    #[default]
    Internal,
    /// In a file or on a device of its own.
    External(PathBuf),
}

impl fmt::Display for MetaDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Internal => f.write_str("internal"),
            Self::External(path) => write!(f, "{}", path.display()),
        }
    }
}

/// What clients see of a volume.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Device {
    /// `/dev/ublkbN`.
    #[default]
    Ublk,
    /// The kernel's `/dev/nbdN`.
    NbdKernel,
    /// An NBD export on a unix socket.
    NbdUnix(PathBuf),
    /// An NBD export on a TCP address.
    NbdTcp(SocketAddr),
}

impl Device {
    /// Whether it is a block device of this kernel, which outlives the daemon.
    pub fn is_of_kernel(&self) -> bool {
        matches!(self, Device::Ublk | Device::NbdKernel)
    }
}

impl fmt::Display for Device {
    /// As the configuration writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ublk => f.write_str("ublk"),
            Self::NbdKernel => f.write_str("nbd"),
            Self::NbdUnix(path) => write!(f, "nbd:unix:{}", path.display()),
            Self::NbdTcp(address) => write!(f, "nbd:tcp:{address}"),
        }
    }
}
