//! The command line.

use crate::target::Target;
use clap::{Args, Parser, Subcommand};
use rep_control::api::{Verb, VerbRequest};
use rep_control::client::Client;
use std::path::PathBuf;
use std::time::Duration;

/// Mirrors disks between two nodes: the operator's command.
#[derive(Parser)]
#[command(version, about, propagate_version = true, max_term_width = 100)]
pub struct Arguments {
    #[command(flatten)]
    pub options: Options,
    #[command(subcommand)]
    pub command: Command,
}

/// What every verb takes.
#[derive(Args)]
pub struct Options {
    /// The daemon's control socket
    #[arg(long, global = true, value_name = "PATH", env = "REPD_SOCKET", default_value = "/run/repd/control.sock")]
    pub socket: PathBuf,
    /// Answer as JSON on stdout
    #[arg(long, global = true)]
    pub json: bool,
    /// How long the verb may take ("500ms", "30s", "2min"; a bare number means seconds)
    #[arg(long, global = true, value_name = "DURATION", default_value = "30s", value_parser = parse_timeout)]
    pub timeout: Duration,
}

impl Options {
    /// The daemon.
    pub fn client(&self) -> Client {
        Client::new(&self.socket)
    }
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| *seconds <= 86_400).map(Duration::from_secs);
    seconds
        .or_else(|| rep_control::config::parse_duration(text))
        .filter(|timeout| !timeout.is_zero())
        .ok_or_else(|| "a duration up to 24h is expected, as \"500ms\", \"30s\" or \"2min\"".to_owned())
}

/// The verbs.
#[derive(Subcommand)]
pub enum Command {
    /// Show the main job: two nodes on this machine, no root, nothing to install
    Demo(DemoArguments),
    /// Write fresh metadata
    CreateMd(CreateMdArguments),
    /// Attach and connect
    Up(TargetArgument),
    /// Demote, disconnect and detach
    Down(DownArguments),
    /// Take the disk
    Attach(TargetArgument),
    /// Let go of the disk
    Detach(DetachArguments),
    /// Want a connection to the peer
    Connect(ConnectArguments),
    /// Leave the peer cleanly
    Disconnect(ForceArguments),
    /// Become Primary; returns when the device is usable
    Primary(PrimaryArguments),
    /// Become Secondary; refused while the device is open
    Secondary(TargetArgument),
    /// Hand the Primary role over to the other node while the device stays open here: its requests are forwarded
    ///
    /// Begun where the role is. What it gives and what not is in docs/STATES.md, "A device without the role". Where systemd keeps this
    /// node Primary, its unit goes along as with switchover; only for that the other node must be reached by a command.
    Handover(HandoverArguments),
    /// Change the roles of the two nodes, and move a mounted file system along
    ///
    /// Each step is shown; when one fails, or Ctrl-C ends it, those before it are undone. It may be run on either node.
    /// --timeout is for each step.
    Switchover(SwitchoverArguments),
    /// What a node does of a switchover; for repctl itself
    #[command(hide = true)]
    SwitchoverStep(StepArguments),
    /// Print whose volume a block device is, for udev's rule
    #[command(hide = true)]
    DeviceName(DeviceNameArguments),
    /// See, make or remove the links into the mounted volume ([resource.NAME.links])
    Links(LinksArguments),
    /// Make both replicas identical: start a resync or let it go on
    Resync(ResyncArguments),
    /// Pause a resync
    PauseSync(TargetArgument),
    /// Let a paused resync go on
    ResumeSync(TargetArgument),
    /// Hold client I/O back
    SuspendIo(TargetArgument),
    /// Let client I/O go on
    ResumeIo(TargetArgument),
    /// Give this node's data up and have it filled from the peer
    Invalidate(TargetArgument),
    /// Have the peer's data given up and filled from here
    InvalidatePeer(TargetArgument),
    /// Mark this node's data Outdated
    Outdate(TargetArgument),
    /// Compare both disks
    Verify(VerifyArguments),
    /// Grow the volume to the size of the smaller disk
    Resize(ResizeArguments),
    /// Start a generation on both nodes, which take the data they hold for equal
    NewGeneration(NewGenerationArguments),
    /// See or settle a split brain
    SplitBrain(SplitBrainArguments),
    /// See, write out or serve what was saved of data given up in a split brain
    Archive(ArchiveArguments),
    /// Wait for a state, for scripts; exits with 5 when it doesn't come in time
    Wait(WaitArguments),
    /// Show the state
    Status(StatusArguments),
    /// Show where the time of clients' requests goes, again and again, until interrupted
    Top(TopArguments),
    /// Show what happens, line by line, until interrupted
    Events(EventsArguments),
    /// Show the generations of the data, ours and the peer's
    ShowGi(TargetArgument),
    /// Show the metadata on the disk
    DumpMd(DumpMdArguments),
    /// Check or show the configuration
    Config(ConfigArguments),
    /// Apply the configuration's changes to the running daemon
    Adjust(AdjustArguments),
    /// Print completions for a shell
    #[command(hide = true)]
    Completions(CompletionsArguments),
    /// Print the manual page, or write one for each verb into a directory
    #[command(hide = true)]
    Man(ManArguments),
}

#[derive(Args)]
pub struct TargetArgument {
    /// RESOURCE or RESOURCE/VOLUME
    #[arg(value_name = "RESOURCE[/VOLUME]")]
    pub target: Target,
}

#[derive(Args)]
pub struct DownArguments {
    /// RESOURCE or RESOURCE/VOLUME
    #[arg(value_name = "RESOURCE[/VOLUME]")]
    pub target: Target,
    /// Also end block devices that a daemon left behind and that can't be taken over: what waits on them fails with an I/O error
    #[arg(long)]
    pub give_up_device: bool,
}

#[derive(Args)]
pub struct ForceArguments {
    /// RESOURCE or RESOURCE/VOLUME
    #[arg(value_name = "RESOURCE[/VOLUME]")]
    pub target: Target,
    /// Also without the peer's answer
    #[arg(long)]
    pub force: bool,
}

#[derive(Args)]
pub struct DetachArguments {
    /// RESOURCE or RESOURCE/VOLUME
    #[arg(value_name = "RESOURCE[/VOLUME]")]
    pub target: Target,
    /// At once and as it is: one that hangs. Also the last good copy: clients then get errors, or what on-no-data says
    #[arg(long)]
    pub force: bool,
}

#[derive(Args)]
pub struct PrimaryArguments {
    /// RESOURCE or RESOURCE/VOLUME
    #[arg(value_name = "RESOURCE[/VOLUME]")]
    pub target: Target,
    /// Also without UpToDate data
    #[arg(long)]
    pub force: bool,
    /// Return only when each volume's device is there under its name and can be opened
    #[arg(long)]
    pub wait_device: bool,
}

#[derive(Args)]
pub struct SwitchoverArguments {
    /// RESOURCE, or RESOURCE/VOLUME for the volume that is mounted
    #[arg(value_name = "RESOURCE[/VOLUME]")]
    pub target: Target,
    /// Unmount this place before, mount it there afterwards, and move the configured links
    #[arg(long, value_name = "PATH")]
    pub mount: Option<PathBuf>,
    #[command(flatten)]
    pub reach: Reach,
}

#[derive(Args)]
pub struct HandoverArguments {
    /// RESOURCE
    #[arg(value_name = "RESOURCE")]
    pub target: Target,
    #[command(flatten)]
    pub reach: Reach,
}

/// How both nodes are reached, by a command that does something on each.
#[derive(Args)]
pub struct Reach {
    /// The command that runs another on the other node [default: "ssh NODE", without asking for passwords]
    #[arg(long, value_name = "COMMAND", env = "REPD_VIA")]
    pub via: Option<String>,
    /// The other daemon's control socket
    #[arg(long, value_name = "PATH", default_value = "/run/repd/control.sock")]
    pub peer_socket: PathBuf,
    #[command(flatten)]
    pub file: ConfigFile,
}

#[derive(Args)]
pub struct DeviceNameArguments {
    /// As the kernel calls it: ublkb0
    #[arg(value_name = "DEVICE")]
    pub device: String,
}

#[derive(Args)]
pub struct StepArguments {
    #[arg(value_name = "RESOURCE[/VOLUME]")]
    pub target: Target,
    #[arg(value_enum)]
    pub step: StepWord,
    /// Where it is mounted, if it is
    #[arg(long, value_name = "PATH")]
    pub mount: Option<PathBuf>,
    #[command(flatten)]
    pub file: ConfigFile,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum StepWord {
    /// Tell how things stand
    Facts,
    /// Mount
    Mount,
    /// Unmount
    Unmount,
    /// Make the links
    MakeLinks,
    /// Remove the links
    RemoveLinks,
    /// Start the unit that keeps this node Primary
    StartUnit,
    /// Stop it
    StopUnit,
    /// Hand the role over
    Handover,
}

#[derive(Args)]
pub struct LinksArguments {
    /// RESOURCE
    #[arg(value_name = "RESOURCE")]
    pub target: Target,
    /// What to do
    #[arg(value_enum)]
    pub verb: LinksVerb,
    #[command(flatten)]
    pub file: ConfigFile,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum LinksVerb {
    /// Show each and whether it is made
    Show,
    /// Make them: the volume is mounted here
    Make,
    /// Remove them and bring back what stood there
    Remove,
}

#[derive(Args)]
pub struct ConnectArguments {
    /// RESOURCE
    #[arg(value_name = "RESOURCE")]
    pub target: Target,
    /// Give this node's data up if it diverged from the peer's; for the next handshake only
    #[arg(long)]
    pub discard_my_data: bool,
    /// Only tell what a connection would do
    #[arg(long)]
    pub plan: bool,
}

#[derive(Args)]
pub struct ResyncArguments {
    /// RESOURCE or RESOURCE/VOLUME
    #[arg(value_name = "RESOURCE[/VOLUME]")]
    pub target: Target,
    /// Copy every block
    #[arg(long)]
    pub full: bool,
    /// The node whose data stays
    #[arg(long, value_name = "NODE", requires = "full")]
    pub from: Option<String>,
    /// Wait until both replicas are identical; gives up when nothing moves for --timeout
    #[arg(long)]
    pub wait: bool,
}

#[derive(Args)]
pub struct VerifyArguments {
    /// RESOURCE or RESOURCE/VOLUME
    #[arg(value_name = "RESOURCE[/VOLUME]")]
    pub target: Target,
    /// The node whose data repairs the other's
    #[arg(long, value_name = "NODE")]
    pub repair_from: Option<String>,
    /// Stop the one that runs; asked for again, it goes on where it was
    #[arg(long, conflicts_with_all = ["repair_from", "wait"])]
    pub stop: bool,
    /// Wait for its end, with a progress bar on a terminal; exits with 1 when the disks differ or it was interrupted,
    /// with 5 when nothing moves for --timeout
    #[arg(long)]
    pub wait: bool,
    /// For timers that run on both nodes: only on the Primary or, of two Secondaries, on the one whose name sorts first; without
    /// effect elsewhere, and while the other node compares
    #[arg(long, conflicts_with = "stop")]
    pub on_one_node: bool,
}

#[derive(Args)]
pub struct ResizeArguments {
    /// RESOURCE or RESOURCE/VOLUME
    #[arg(value_name = "RESOURCE[/VOLUME]")]
    pub target: Target,
    /// Don't resync the new area: it is the same on both disks already, for instance all zeroes
    #[arg(long)]
    pub assume_clean: bool,
}

#[derive(Args)]
pub struct NewGenerationArguments {
    /// RESOURCE or RESOURCE/VOLUME
    #[arg(value_name = "RESOURCE[/VOLUME]")]
    pub target: Target,
    /// Clear both bitmaps: no initial sync. Only for disks whose content is equal or doesn't matter
    #[arg(long, required = true)]
    pub clear_bitmap: bool,
}

#[derive(Args)]
pub struct SplitBrainArguments {
    /// RESOURCE
    #[arg(value_name = "RESOURCE")]
    pub target: Target,
    #[command(subcommand)]
    pub verb: SplitBrainVerb,
}

#[derive(Subcommand)]
pub enum SplitBrainVerb {
    /// Show who diverged and by how much
    Show,
    /// Settle it on both nodes
    Resolve {
        /// The node whose data stays
        #[arg(long, value_name = "NODE")]
        keep: String,
    },
}

#[derive(Args)]
pub struct ArchiveArguments {
    #[command(subcommand)]
    pub verb: ArchiveVerb,
}

#[derive(Subcommand)]
pub enum ArchiveVerb {
    /// Show the archives on this node
    List(ArchiveListArguments),
    /// Write what the node held to an image, bit for bit
    ///
    /// An archive of every block (archive-blocks = "all") says by itself what the node held. One of the blocks that
    /// could differ needs --base for the others, and the image is exact if the base is the survivor's volume as it
    /// was at one moment between the split and its resolution: a snapshot or backup of then. A copy made later is as
    /// good for every block the survivor's clients have not written to since; whether they have, nobody can tell
    /// afterwards.
    Export {
        #[command(flatten)]
        file: ArchiveFile,
        /// The image
        #[arg(long, value_name = "IMAGE")]
        to: PathBuf,
        /// Overwrite the image
        #[arg(long)]
        force: bool,
    },
    /// Offer what the node held over NBD, read-only, until interrupted; --base as for export
    Serve {
        #[command(flatten)]
        file: ArchiveFile,
        /// The unix socket to offer it on
        #[arg(long, value_name = "SOCKET")]
        listen: PathBuf,
    },
}

#[derive(Args)]
pub struct ArchiveListArguments {
    /// Look in this directory instead of the configuration's archive-dir
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    #[command(flatten)]
    pub file: ConfigFile,
}

#[derive(Args)]
pub struct ArchiveFile {
    /// The archive
    #[arg(value_name = "ARCHIVE")]
    pub archive: PathBuf,
    /// Where blocks come from that aren't in the archive
    #[arg(long, value_name = "FILE")]
    pub base: Option<PathBuf>,
}

#[derive(Args)]
pub struct WaitArguments {
    /// RESOURCE
    #[arg(value_name = "RESOURCE")]
    pub target: Target,
    /// What to wait for
    #[arg(value_enum)]
    pub state: WaitState,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum WaitState {
    /// The handshake with the peer is done
    Connected,
    /// Both replicas are UpToDate and nothing is out-of-sync
    Synced,
}

#[derive(Args)]
pub struct StatusArguments {
    /// One resource; all of them when left out
    #[arg(value_name = "RESOURCE")]
    pub target: Option<Target>,
    /// Go on showing it
    #[arg(long)]
    pub watch: bool,
}

#[derive(Args)]
pub struct TopArguments {
    /// One resource, or one of its volumes (RESOURCE/VOLUME); all of them when left out
    #[arg(value_name = "RESOURCE")]
    pub target: Option<Target>,
    /// The time between two looks, which is what each is about
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_timeout)]
    pub interval: Duration,
    /// End after so many
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
}

/// Where the configuration is, for verbs that work without the daemon.
#[derive(Args)]
pub struct ConfigFile {
    /// The configuration, the same on both nodes
    #[arg(long, value_name = "FILE", default_value = rep_control::CONFIG_PATH_DEFAULT)]
    pub config: PathBuf,
}

#[derive(Args)]
pub struct CreateMdArguments {
    /// RESOURCE or RESOURCE/VOLUME
    #[arg(value_name = "RESOURCE[/VOLUME]")]
    pub target: Target,
    /// Also over valid metadata or a file system
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub file: ConfigFile,
    /// This node's name in the configuration [default: the host name]
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
}

#[derive(Args)]
pub struct DumpMdArguments {
    /// RESOURCE or RESOURCE/VOLUME
    #[arg(value_name = "RESOURCE[/VOLUME]")]
    pub target: Target,
    #[command(flatten)]
    pub file: ConfigFile,
    /// This node's name in the configuration [default: the host name]
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
}

#[derive(Args)]
pub struct ConfigArguments {
    #[command(subcommand)]
    pub verb: ConfigVerb,
}

#[derive(Subcommand)]
pub enum ConfigVerb {
    /// Tell every error in the configuration
    Check(ConfigFile),
    /// Print the configuration as one file
    Show {
        #[command(flatten)]
        file: ConfigFile,
        /// With every key that has its default value
        #[arg(long)]
        defaults: bool,
    },
}

/// Events that are of interest.
#[derive(Args)]
pub struct EventsArguments {
    /// One resource or volume; all of them when left out
    #[arg(value_name = "RESOURCE[/VOLUME]")]
    pub target: Option<Target>,
    /// Only events of this kind ("connection", "disk", "resync_finished", ...); may be given several times
    #[arg(long = "kind", value_name = "KIND")]
    pub kinds: Vec<String>,
}

#[derive(Args)]
pub struct CompletionsArguments {
    /// The shell
    pub shell: clap_complete::Shell,
}

#[derive(Args)]
pub struct ManArguments {
    /// Where to write the pages
    #[arg(value_name = "DIR")]
    pub directory: Option<PathBuf>,
}

#[derive(Args)]
pub struct AdjustArguments {
    /// Only tell the difference
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Args)]
pub struct DemoArguments {
    /// Leave disks, logs and configuration in this directory
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
    /// Size of each disk
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = parse_demo_size, hide = true)]
    pub size: u64,
}

fn parse_demo_size(text: &str) -> Result<u64, String> {
    let fits = |bytes: &u64| (64 << 20..=1 << 40).contains(bytes) && bytes.is_multiple_of(1 << 20);
    rep_control::config::parse_size(text).filter(fits).ok_or_else(|| "from 64M to 1T, in whole MiB".to_owned())
}

impl Command {
    /// The verb of the control interface, where that is all there is to it.
    pub fn into_verb(self) -> Option<(Target, Verb, VerbRequest)> {
        let plain = |argument: TargetArgument, verb| Some((argument.target, verb, VerbRequest::default()));
        let forced = |argument: ForceArguments, verb| {
            Some((argument.target, verb, VerbRequest { force: argument.force, ..Default::default() }))
        };
        match self {
            Self::Up(argument) => plain(argument, Verb::Up),
            Self::Down(argument) => {
                let request = VerbRequest { give_up_device: argument.give_up_device, ..Default::default() };
                Some((argument.target, Verb::Down, request))
            }
            Self::Attach(argument) => plain(argument, Verb::Attach),
            Self::Detach(DetachArguments { target, force }) => forced(ForceArguments { target, force }, Verb::Detach),
            Self::Disconnect(argument) => forced(argument, Verb::Disconnect),
            Self::Secondary(argument) => plain(argument, Verb::Secondary),
            Self::PauseSync(argument) => plain(argument, Verb::PauseSync),
            Self::ResumeSync(argument) => plain(argument, Verb::ResumeSync),
            Self::SuspendIo(argument) => plain(argument, Verb::SuspendIo),
            Self::ResumeIo(argument) => plain(argument, Verb::ResumeIo),
            Self::Invalidate(argument) => plain(argument, Verb::Invalidate),
            Self::InvalidatePeer(argument) => plain(argument, Verb::InvalidatePeer),
            Self::Outdate(argument) => plain(argument, Verb::Outdate),
            Self::Resize(argument) => {
                let request = VerbRequest { assume_clean: argument.assume_clean, ..Default::default() };
                Some((argument.target, Verb::Resize, request))
            }
            Self::NewGeneration(argument) => {
                let request = VerbRequest { clear_bitmap: argument.clear_bitmap, ..Default::default() };
                Some((argument.target, Verb::NewGeneration, request))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_holds_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn options_may_stand_before_or_behind_the_verb() {
        let before = Arguments::try_parse_from(["repctl", "--json", "--timeout", "5", "status", "vz"]).unwrap();
        let behind = Arguments::try_parse_from(["repctl", "status", "vz", "--timeout=5s", "--json"]).unwrap();
        for arguments in [before, behind] {
            assert!(arguments.options.json);
            assert_eq!(arguments.options.timeout, Duration::from_secs(5));
        }
    }

    #[test]
    fn misuse_is_told() {
        let wrong: [&[&str]; 6] = [
            &["repctl"],
            &["repctl", "primary"],
            &["repctl", "resync", "vz", "--from", "alpha"],
            &["repctl", "wait", "vz", "drunk"],
            &["repctl", "status", "--timeout", "0"],
            &["repctl", "split-brain", "vz", "resolve"],
        ];
        for words in wrong {
            assert!(Arguments::try_parse_from(words).is_err(), "{words:?}");
        }
    }
}
