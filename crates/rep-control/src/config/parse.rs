//! Tables become values: one function a table of the contract. Every function tells all problems it meets and
//! returns something only when that something holds.

use super::check::{Claim, Claimed};
use super::problem::{Place, Problem};
use super::source::SourceFile;
use super::table::{Table, Value, clamp};
use super::types::{
    ArchiveBlocks, ArchiveConfig, CommandLine, Config, Device, Durability, Fencing, HandlersConfig, MetaDisk,
    NetConfig, NodeConfig, OnIoError, OnNoData, ResourceConfig, ResyncConfig, SplitBrainConfig, SplitBrainPolicy,
    StartMode, VolumeConfig,
};
use super::{links, value};
use rep_types::{NodeName, ResourceName, VolumeNumber};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use toml::de::DeTable;

/// The least a resync may be limited to; a smaller number is a forgotten unit.
const RATE_BYTES_PER_S_MIN: u64 = 64 << 10;

/// The least `disk-timeout`.
const DISK_TIMEOUT_MIN: Duration = Duration::from_secs(2);

/// Words of a handler's command line, the program included.
const HANDLER_WORDS_MAX: usize = 64;

/// What the files hold.
#[derive(Default)]
pub(super) struct Parsed {
    /// The resources that hold.
    pub config: Config,
    /// What every resource takes for itself, also those that don't hold.
    pub claims: Vec<Claim>,
    /// The files with shared secrets, and where they are named.
    pub secrets: Vec<(PathBuf, Place)>,
    /// Where each resource was first met.
    met: HashMap<String, Place>,
}

/// Parses every file.
pub(super) fn files(files: &[Arc<SourceFile>], problems: &mut Vec<Problem>) -> Parsed {
    let mut parsed = Parsed::default();
    for file in files {
        parsed.file(file, problems);
    }
    parsed.config.resources.sort_by(|a, b| a.name.cmp(&b.name));
    parsed
}

impl Parsed {
    fn file(&mut self, file: &Arc<SourceFile>, problems: &mut Vec<Problem>) {
        let (document, errors) = DeTable::parse_recoverable(file.text());
        for error in &errors {
            let span = clamp(&error.span().unwrap_or(0..0), file);
            let place = Place { file: file.clone(), span };
            problems.push(Problem::error(format!("not TOML: {}", error.message().trim_end())).at(place, "here"));
        }
        if !errors.is_empty() {
            // What was recovered around a syntax error misleads: its problems would hide the one that counts.
            return;
        }
        let mut root = Table::root(file, &document);
        for item in root.array("include", problems).unwrap_or_default() {
            item.string(problems);
        }
        if let Some(table) = root.table("resource", problems) {
            for (name, table) in table.tables(problems) {
                self.resource(&name, table, problems);
            }
        }
        root.finish(problems);
    }

    fn resource(&mut self, name: &Value<'_>, table: Table<'_>, problems: &mut Vec<Problem>) {
        if let Some(first) = self.met.get(&name.title) {
            let problem = Problem::error(format!("the resource \"{}\" stands in two files", name.title));
            problems.push(problem.at(table.place(), "again here").help(format!("it was met before at {first}")));
            return;
        }
        self.met.insert(name.title.clone(), table.place());
        if let Some(resource) = resource(&name.title, table, self, problems) {
            self.config.resources.push(resource);
        }
    }
}

fn resource(name: &str, mut t: Table<'_>, all: &mut Parsed, problems: &mut Vec<Problem>) -> Option<ResourceConfig> {
    let before = problems.len();
    let parsed_name = ResourceName::new(name);
    if let Err(error) = &parsed_name {
        problems.push(Problem::error(format!("\"{name}\" can't name a resource: {error}")).at(t.place(), "this name"));
    }
    protocol(&mut t, problems);
    let start = word(&mut t, "start", StartMode::WORDS, problems);
    let durability = word(&mut t, "durability", Durability::WORDS, problems);
    let fencing = word(&mut t, "fencing", Fencing::WORDS, problems);
    let on_io_error = word(&mut t, "on-io-error", OnIoError::WORDS, problems);
    let disk_timeout =
        parsed(&mut t, "disk-timeout", parse_disk_timeout, problems).map_or(Duration::ZERO, |(it, _)| it);
    let on_no_data = word(&mut t, "on-no-data", OnNoData::WORDS, problems);
    let place = t.place();
    let handlers = t.table("handlers", problems).map(|table| handlers(table, problems)).unwrap_or_default();
    if fencing != Fencing::default() && handlers.fence_peer.is_empty() {
        let what = format!("\"{name}\" is fenced (\"{fencing}\") but has no fence-peer handler");
        let help = format!(
            "name one in [resource.{name}.handlers]: fence-peer = [\"/PROGRAM\", …]; without it no node goes on alone but by an operator's word"
        );
        all.config.warnings.push(Problem::error(what).warning().at(place, "of this resource").help(help));
    }
    let net = t.table("net", problems).map(|table| net(table, &mut all.secrets, problems)).unwrap_or_default();
    let resync = t.table("resync", problems).map(|table| resync(table, problems)).unwrap_or_default();
    let split_brain = t.table("split-brain", problems).map(|table| split_brain(table, problems)).unwrap_or_default();
    let archive = archive(&mut t, problems);
    let links = t.table("links", problems).map(|table| links::links(table, problems)).unwrap_or_default();
    let nodes = nodes(name, &mut t, &mut all.claims, problems);
    t.finish(problems);
    let nodes = nodes?;
    let name = parsed_name.ok()?;
    let resource = ResourceConfig {
        name,
        start,
        durability,
        fencing,
        on_io_error,
        disk_timeout,
        on_no_data,
        handlers,
        net,
        resync,
        split_brain,
        archive,
        links,
        nodes,
    };
    (problems.len() == before).then_some(resource)
}

fn handlers(mut table: Table<'_>, problems: &mut Vec<Problem>) -> HandlersConfig {
    let handlers = HandlersConfig {
        fence_peer: command_line(&mut table, "fence-peer", problems),
        unfence_peer: command_line(&mut table, "unfence-peer", problems),
        split_brain: command_line(&mut table, "split-brain", problems),
        before_resync_target: command_line(&mut table, "before-resync-target", problems),
        after_resync_target: command_line(&mut table, "after-resync-target", problems),
        local_io_error: command_line(&mut table, "local-io-error", problems),
        out_of_sync: command_line(&mut table, "out-of-sync", problems),
        pri_lost: command_line(&mut table, "pri-lost", problems),
        timeout: duration(&mut table, "timeout", HandlersConfig::default().timeout, problems),
    };
    table.finish(problems);
    handlers
}

/// A program with its arguments, each a string of its own: no shell takes it apart.
fn command_line(table: &mut Table<'_>, key: &'static str, problems: &mut Vec<Problem>) -> CommandLine {
    let Some(items) = table.array(key, problems) else { return Vec::new() };
    let words: Vec<String> = items.iter().filter_map(|item| item.string(problems)).map(str::to_owned).collect();
    let absolute = words.first().is_some_and(|program| program.starts_with('/') && !program.contains('\0'));
    let legal = absolute && words.len() <= HANDLER_WORDS_MAX && words.iter().all(|word| !word.contains('\0'));
    if !legal && let Some(value) = table.value(key) {
        let expected = "a program with its whole path, then its arguments: [\"/usr/local/sbin/fence\", \"now\"]";
        problems.push(value.problem("no command line", format!("expected: {expected}")));
    }
    words
}

fn protocol(table: &mut Table<'_>, problems: &mut Vec<Problem>) {
    if let Some(value) = table.value("protocol")
        && let Some(text) = value.string(problems)
        && text != "C"
    {
        let problem = value.problem(&format!("\"{text}\" is not supported"), "\"C\" is expected");
        problems.push(problem.help("protocol C is the only one so far: a write is answered when both disks have it"));
    }
}

fn net(mut table: Table<'_>, secrets: &mut Vec<(PathBuf, Place)>, problems: &mut Vec<Problem>) -> NetConfig {
    let default = NetConfig::default();
    let secret = parsed(&mut table, "shared-secret-file", value::parse_path, problems);
    let net = NetConfig {
        timeout: duration(&mut table, "timeout", default.timeout, problems),
        ping_interval: duration(&mut table, "ping-interval", default.ping_interval, problems),
        ping_timeout: duration(&mut table, "ping-timeout", default.ping_timeout, problems),
        connect_interval: duration(&mut table, "connect-interval", default.connect_interval, problems),
        ko_count: table.value("ko-count").and_then(|value| value.count(problems)).unwrap_or(default.ko_count),
        shared_secret_file: secret.as_ref().map(|(path, _)| path.clone()),
    };
    secrets.extend(secret);
    table.finish(problems);
    net
}

fn resync(mut table: Table<'_>, problems: &mut Vec<Problem>) -> ResyncConfig {
    let rate = |text: &str| {
        value::parse_size(text).filter(|rate| *rate == 0 || *rate >= RATE_BYTES_PER_S_MIN).ok_or_else(|| {
            "bytes a second, at least 64K, with K, M, G or T, as \"100M\"; \"0\" means no limit".to_owned()
        })
    };
    let max_rate_bytes_per_s = parsed(&mut table, "max-rate", rate, problems).map_or(0, |(rate, _)| rate);
    table.finish(problems);
    ResyncConfig { max_rate_bytes_per_s }
}

fn split_brain(mut table: Table<'_>, problems: &mut Vec<Problem>) -> SplitBrainConfig {
    let config = SplitBrainConfig {
        after_0_primaries: policy(&mut table, "after-0-primaries", SplitBrainPolicy::AFTER_0, problems),
        after_1_primary: policy(&mut table, "after-1-primary", SplitBrainPolicy::AFTER_1, problems),
        after_2_primaries: policy(&mut table, "after-2-primaries", SplitBrainPolicy::AFTER_2, problems),
    };
    table.finish(problems);
    config
}

/// A split-brain policy. Who brings one of DRBD's that isn't offered is told why.
fn policy(
    table: &mut Table<'_>,
    key: &'static str,
    words: &[(&str, SplitBrainPolicy)],
    problems: &mut Vec<Problem>,
) -> SplitBrainPolicy {
    let Some(value) = table.value(key) else { return SplitBrainPolicy::default() };
    let Some(text) = value.string(problems) else { return SplitBrainPolicy::default() };
    if let Some((_, policy)) = words.iter().find(|(word, _)| *word == text) {
        return *policy;
    }
    let names: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
    let problem = value.problem(&format!("\"{text}\" can't stand here"), format!("expected: {}", names.join(", ")));
    problems.push(match SplitBrainPolicy::why_not_offered(text) {
        Some(why) => problem.help(why),
        None => problem,
    });
    SplitBrainPolicy::default()
}

fn archive(table: &mut Table<'_>, problems: &mut Vec<Problem>) -> ArchiveConfig {
    let parse = |text: &str| match text {
        "none" => Ok(None),
        path => value::parse_path(path).map(Some).map_err(|expected| format!("\"none\" or {expected}")),
    };
    let default = ArchiveConfig::default();
    ArchiveConfig {
        directory: parsed(table, "archive-dir", parse, problems).map_or(default.directory, |(directory, _)| directory),
        blocks: word(table, "archive-blocks", ArchiveBlocks::WORDS, problems),
    }
}

/// The two nodes, sorted by name.
fn nodes(
    resource: &str,
    parent: &mut Table<'_>,
    claims: &mut Vec<Claim>,
    problems: &mut Vec<Problem>,
) -> Option<[NodeConfig; 2]> {
    let place = parent.place();
    let table = parent.table("node", problems);
    let tables = table.map(|table| table.tables(problems)).unwrap_or_default();
    let count = tables.len();
    if count != 2 {
        let nodes = if count == 1 { "node" } else { "nodes" };
        let problem =
            Problem::error(format!("the resource \"{resource}\" has {count} {nodes}; exactly two are expected"));
        let help = format!("give each node a table [resource.{resource}.node.NAME] with its address");
        problems.push(problem.at(place, "of this resource").help(help));
    }
    let mut nodes: Vec<_> =
        tables.into_iter().filter_map(|(name, table)| node(resource, &name.title, table, claims, problems)).collect();
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    let nodes: [NodeConfig; 2] = nodes.try_into().ok()?;
    if nodes[0].address.is_ipv4() != nodes[1].address.is_ipv4() {
        let problem = Problem::error(format!("the nodes of \"{resource}\" can't reach each other"));
        let help = format!(
            "{} and {} are of different families: use IPv4 or IPv6 on both",
            nodes[0].address, nodes[1].address
        );
        problems.push(problem.at(parent.place(), "of this resource").help(help));
    }
    let numbers = |node: &NodeConfig| node.volumes.iter().map(|volume| volume.number).collect::<Vec<_>>();
    // A volume that doesn't hold, or none at all, has been told already.
    let both = nodes.iter().all(|node| !node.volumes.is_empty());
    if both && numbers(&nodes[0]) != numbers(&nodes[1]) {
        let problem = Problem::error(format!("the nodes of \"{resource}\" have different volumes"));
        problems.push(problem.at(parent.place(), "of this resource").help("each volume needs a disk on both nodes"));
        return None;
    }
    Some(nodes)
}

fn node(
    resource: &str,
    name: &str,
    mut table: Table<'_>,
    claims: &mut Vec<Claim>,
    problems: &mut Vec<Problem>,
) -> Option<NodeConfig> {
    let parsed_name = NodeName::new(name);
    if let Err(error) = &parsed_name {
        problems.push(Problem::error(format!("\"{name}\" can't name a node: {error}")).at(table.place(), "this name"));
    }
    let owner = Owner { resource, node: name, volume: None };
    let address = required(&mut table, "address", parse_link_address, problems);
    if let Some((address, place)) = &address {
        claims.push(owner.claims(Claimed::LinkAddress(*address), place.clone()));
    }
    let place = table.place();
    let tables = table.table("volume", problems).map(|table| table.tables(problems)).unwrap_or_default();
    if tables.is_empty() {
        let help = format!("add [resource.{resource}.node.{name}.volume.0] with its disk");
        problems.push(Problem::error(format!("{} has no volume", table.title)).at(place, "of this node").help(help));
    }
    let mut volumes: Vec<_> = tables
        .into_iter()
        .filter_map(|(number, table)| volume(owner, &number.title, table, claims, problems))
        .collect();
    volumes.sort_by_key(|volume| volume.number);
    table.finish(problems);
    Some(NodeConfig { name: parsed_name.ok()?, address: address?.0, volumes })
}

fn volume(
    owner: Owner<'_>,
    number: &str,
    mut table: Table<'_>,
    claims: &mut Vec<Claim>,
    problems: &mut Vec<Problem>,
) -> Option<VolumeConfig> {
    let parsed_number = number.parse::<u16>().ok().filter(|parsed| parsed.to_string() == number);
    if parsed_number.is_none() {
        let problem = Problem::error(format!("\"{number}\" is no volume number"));
        problems.push(problem.at(table.place(), "a number from 0 to 65535 is expected"));
    }
    let owner = Owner { volume: Some(number), ..owner };
    let disk = required(&mut table, "disk", value::parse_path, problems);
    let meta = parsed(&mut table, "meta-disk", parse_meta_disk, problems);
    let device = parsed(&mut table, "device", value::parse_device, problems);
    table.finish(problems);
    if let Some((path, place)) = &disk {
        claims.push(owner.claims(Claimed::Disk(path.clone()), place.clone()));
    }
    if let Some((MetaDisk::External(path), place)) = &meta {
        claims.push(owner.claims(Claimed::Disk(path.clone()), place.clone()));
    }
    if let Some((device, place)) = &device {
        claims.extend(Claimed::of_device(device).map(|claimed| owner.claims(claimed, place.clone())));
    }
    Some(VolumeConfig {
        number: VolumeNumber(parsed_number?),
        disk: disk?.0,
        meta_disk: meta.map_or_else(MetaDisk::default, |(meta, _)| meta),
        device: device.map_or_else(Device::default, |(device, _)| device),
    })
}

/// Whose volume, for claims.
#[derive(Clone, Copy)]
struct Owner<'a> {
    resource: &'a str,
    node: &'a str,
    volume: Option<&'a str>,
}

impl Owner<'_> {
    fn claims(&self, claimed: Claimed, place: Place) -> Claim {
        let volume = self.volume.map(|number| format!("/{number}")).unwrap_or_default();
        Claim {
            claimed,
            place,
            resource: self.resource.to_owned(),
            node: self.node.to_owned(),
            owner: format!("{}{volume} on {}", self.resource, self.node),
        }
    }
}

fn parse_meta_disk(text: &str) -> Result<MetaDisk, String> {
    match text {
        "internal" => Ok(MetaDisk::Internal),
        path => {
            value::parse_path(path).map(MetaDisk::External).map_err(|expected| format!("\"internal\" or {expected}"))
        }
    }
}

fn parse_link_address(text: &str) -> Result<SocketAddr, String> {
    let address = value::parse_address(text)?;
    if address.ip().is_unspecified() || address.ip().is_multicast() {
        return Err("the address of one network interface, which the peer connects to".into());
    }
    Ok(address)
}

/// A string that is parsed; told and left out when it doesn't parse.
fn parsed<T>(
    table: &mut Table<'_>,
    key: &'static str,
    parse: impl Fn(&str) -> Result<T, String>,
    problems: &mut Vec<Problem>,
) -> Option<(T, Place)> {
    let value = table.value(key)?;
    let text = value.string(problems)?;
    match parse(text) {
        Ok(parsed) => Some((parsed, value.place())),
        Err(expected) => {
            problems.push(value.problem(&format!("\"{text}\" can't stand here"), format!("expected: {expected}")));
            None
        }
    }
}

/// A string that must be there.
fn required<T>(
    table: &mut Table<'_>,
    key: &'static str,
    parse: impl Fn(&str) -> Result<T, String>,
    problems: &mut Vec<Problem>,
) -> Option<(T, Place)> {
    if table.value(key).is_none() {
        let problem = Problem::error(format!("{} lacks \"{key}\"", table.title));
        problems.push(problem.at(table.place(), format!("{key} = \"…\" is expected in this table")));
        return None;
    }
    parsed(table, key, parse, problems)
}

/// Whole disks are busy for moments: less than the least would be a trap.
fn parse_disk_timeout(text: &str) -> Result<Duration, String> {
    value::parse_duration(text).filter(|timeout| timeout.is_zero() || *timeout >= DISK_TIMEOUT_MIN).ok_or_else(|| {
        "\"0\": never; or a duration from 2s to 24h, longer than the disk ever takes, as \"60s\"".to_owned()
    })
}

/// A duration that isn't 0.
fn duration(table: &mut Table<'_>, key: &'static str, default: Duration, problems: &mut Vec<Problem>) -> Duration {
    let parse = |text: &str| {
        value::parse_duration(text)
            .filter(|duration| !duration.is_zero())
            .ok_or_else(|| "a duration from 1ms to 24h, as \"6s\", \"500ms\" or \"2min\"".to_owned())
    };
    parsed(table, key, parse, problems).map_or(default, |(duration, _)| duration)
}

/// One of several words.
fn word<T: Copy + Default>(
    table: &mut Table<'_>,
    key: &'static str,
    words: &[(&str, T)],
    problems: &mut Vec<Problem>,
) -> T {
    let parse = |text: &str| {
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        let names: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        found.ok_or_else(|| names.join(", "))
    };
    parsed(table, key, parse, problems).map_or_else(T::default, |(value, _)| value)
}
