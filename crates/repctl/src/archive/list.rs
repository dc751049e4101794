//! `archive list`.

use super::files_in;
use crate::Failure;
use crate::cli::{ArchiveListArguments, Options};
use crate::output::{print, print_json};
use crate::terminal::bytes;
use rep_archive::{Archive, Scope};
use rep_control::api::format_time;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

/// An archive, as scripts see it.
#[derive(Serialize)]
struct Entry {
    file: PathBuf,
    resource: String,
    volume: u16,
    /// Whose data are in it.
    node: String,
    /// Whose data stayed.
    survivor: String,
    time: String,
    size_bytes: u64,
    /// Bytes of the volume that are in it.
    archived_bytes: u64,
    blocks: &'static str,
    /// Whether an export or a server of it needs `--base`.
    needs_base: bool,
    generation: String,
}

/// A file that can't be read as one.
#[derive(Serialize)]
struct Unusable {
    file: PathBuf,
    problem: String,
}

pub fn run(arguments: &ArchiveListArguments, options: &Options) -> Result<(), Failure> {
    let (mut archives, mut unusable) = (Vec::new(), Vec::new());
    for path in files_in(&directories(arguments)?)? {
        match entry(&path) {
            Ok(entry) => archives.push(entry),
            Err(error) => unusable.push(Unusable { file: path, problem: error.to_string() }),
        }
    }
    if options.json {
        return print_json(&serde_json::json!({ "archives": archives, "unusable": unusable }));
    }
    print(&text(&archives, &unusable))
}

fn directories(arguments: &ArchiveListArguments) -> Result<Vec<PathBuf>, Failure> {
    if let Some(directory) = &arguments.dir {
        return Ok(vec![directory.clone()]);
    }
    let config = crate::commands::config::load(&arguments.file)?;
    Ok(config.resources.iter().filter_map(|resource| resource.archive.directory.clone()).collect())
}

fn entry(path: &Path) -> Result<Entry, rep_archive::ReadError> {
    let archive = Archive::open(path)?;
    let head = archive.head();
    Ok(Entry {
        file: path.to_owned(),
        resource: head.resource.to_string(),
        volume: head.volume.0,
        node: head.node.to_string(),
        survivor: head.survivor.to_string(),
        time: format_time(UNIX_EPOCH + Duration::from_millis(head.created_unix_ms)),
        size_bytes: head.size_bytes,
        archived_bytes: archive.bytes(),
        blocks: match head.scope {
            Scope::Differing => "differing",
            Scope::All => "all",
        },
        needs_base: head.scope == Scope::Differing,
        generation: format!("{:016x}", head.generations[0]),
    })
}

fn text(archives: &[Entry], unusable: &[Unusable]) -> String {
    let mut text: String = archives.iter().map(entry_text).collect();
    for file in unusable {
        text += &format!("{}\n    can't be used: {}\n", file.file.display(), file.problem);
    }
    if text.is_empty() { "no archives\n".to_owned() } else { text }
}

fn entry_text(entry: &Entry) -> String {
    let blocks = if entry.needs_base { "the blocks that could differ; needs --base" } else { "every block" };
    format!(
        "{}\n    {}/{}: what {} held at {}, given up for {}; {} of {}: {blocks}\n",
        entry.file.display(),
        entry.resource,
        entry.volume,
        entry.node,
        entry.time,
        entry.survivor,
        bytes(entry.archived_bytes),
        bytes(entry.size_bytes),
    )
}
