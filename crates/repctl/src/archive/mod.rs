//! `archive`: what was saved of data that were given up in a split brain. Works on files, without the daemon.

mod export;
mod list;
mod serve;

use crate::Failure;
use crate::cli::{ArchiveArguments, ArchiveFile, ArchiveVerb, Options};
use rep_archive::{Archive, Base, ReadError, View};
use rep_control::api::ApiError;
use std::fs::File;
use std::path::{Path, PathBuf};

pub fn run(arguments: &ArchiveArguments, options: &Options) -> Result<(), Failure> {
    match &arguments.verb {
        ArchiveVerb::List(list) => list::run(list, options),
        ArchiveVerb::Export { file, to, force } => export::run(file, to, *force, options),
        ArchiveVerb::Serve { file, listen } => serve::run(file, listen),
    }
}

fn unreadable(path: &Path, error: &ReadError) -> Failure {
    let message = format!("{} can't be used: {error}", path.display());
    let hint = match error {
        ReadError::Io(_) => "see 'repctl archive list'",
        _ => "the copy on another medium, if there is one, may be whole",
    };
    ApiError::failed("ArchiveUnreadable", message).with_hint(hint).into()
}

/// The victim's view: the archive, over its base where it needs one.
fn view(file: &ArchiveFile) -> Result<View, Failure> {
    let archive = Archive::open(&file.archive).map_err(|error| unreadable(&file.archive, &error))?;
    let survivor = archive.head().survivor.clone();
    let base = match &file.base {
        None => Base::None,
        Some(path) => Base::File(base(path, archive.head().size_bytes)?),
    };
    View::new(archive, base).ok_or_else(|| {
        let message = format!(
            "{} holds the blocks in which the nodes could differ, and no others: --base is needed",
            file.archive.display()
        );
        let hint = format!(
            "give --base FILE: {survivor}'s volume as it was at one moment between the split and its resolution, from a \
             snapshot or backup; or a copy made later, if nothing was written to other blocks since"
        );
        ApiError::usage("BaseNeeded", message).with_hint(hint).into()
    })
}

fn base(path: &Path, needed_bytes: u64) -> Result<File, Failure> {
    let failed = |error: String| -> Failure {
        ApiError::failed("BaseUnusable", format!("{}: {error}", path.display()))
            .with_hint("--base takes a file or block device with a whole copy of the volume")
            .into()
    };
    let mut file = File::open(path).map_err(|error| failed(error.to_string()))?;
    // A block device has no length of its own; its end does.
    let size = std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0)).map_err(|error| failed(error.to_string()))?;
    if size < needed_bytes {
        return Err(failed(format!("it has {size} bytes, the volume {needed_bytes}")));
    }
    Ok(file)
}

/// What couldn't be done with a file.
fn file_failed(reason: &str, path: &Path, error: &std::io::Error) -> Failure {
    ApiError::failed(reason, format!("{}: {error}", path.display())).with_hint("name another place").into()
}

/// Every archive in these directories, by name; directories that aren't there have none.
fn files_in(directories: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    for directory in directories {
        let entries = match std::fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(file_failed("DirectoryUnreadable", directory, &error)),
        };
        let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
        found.extend(paths.filter(|path| path.extension().is_some_and(|found| found == rep_archive::EXTENSION)));
    }
    found.sort();
    found.dedup();
    Ok(found)
}
