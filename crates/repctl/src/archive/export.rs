//! `archive export`: the victim's view as an image.

use super::{file_failed, unreadable, view};
use crate::Failure;
use crate::cli::{ArchiveFile, Options};
use crate::output::{print, print_json};
use crate::terminal::bytes;
use rep_archive::View;
use rep_control::api::ApiError;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Bytes written at a time.
const PART_BYTES: usize = 1 << 20;

pub fn run(file: &ArchiveFile, to: &Path, force: bool, options: &Options) -> Result<(), Failure> {
    let mut view = view(file)?;
    let image = create(to, force)?;
    let written = write(&mut view, &image, file, to);
    if let Err(failure) = written {
        // Half an image must not pass for one.
        let _ = std::fs::remove_file(to);
        return Err(failure);
    }
    let head = view.archive().head();
    if options.json {
        return print_json(&serde_json::json!({ "image": to, "size_bytes": head.size_bytes }));
    }
    let origin = match &file.base {
        None => "all of it from the archive".to_owned(),
        Some(base) => format!(
            "{} from the archive, the rest from {}; exact if that was {}'s volume at a moment between the split and its \
             resolution",
            bytes(view.archive().bytes()),
            base.display(),
            head.survivor
        ),
    };
    print(&format!("{}: what {} held, {}: {origin}\n", to.display(), head.node, bytes(head.size_bytes)))
}

fn create(to: &Path, force: bool) -> Result<File, Failure> {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    if force {
        options.create(true).truncate(true)
    } else {
        options.create_new(true)
    };
    // What an image may overwrite is a file; a device is too easily the wrong one.
    if force && std::fs::metadata(to).is_ok_and(|found| !found.is_file()) {
        return Err(ApiError::usage("NotAFile", format!("{} is no file", to.display()))
            .with_hint("export to a file, then copy it to where it is wanted")
            .into());
    }
    options.open(to).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => ApiError::failed("ImageExists", format!("{} exists", to.display()))
            .with_hint("name another file, or overwrite it with --force")
            .into(),
        _ => file_failed("ImageNotWritten", to, &error),
    })
}

fn write(view: &mut View, image: &File, file: &ArchiveFile, to: &Path) -> Result<(), Failure> {
    let failed = |error: std::io::Error| file_failed("ImageNotWritten", to, &error);
    let size = view.size_bytes();
    image.set_len(size).map_err(failed)?;
    let mut part = vec![0; PART_BYTES];
    let mut offset = 0;
    while offset < size {
        let length = (size - offset).min(PART_BYTES as u64) as usize;
        let part = &mut part[..length];
        view.read_at(offset, part).map_err(|error| unreadable(&blamed(&error, file), &error))?;
        // What is zero already is a hole of the image.
        if part.iter().any(|byte| *byte != 0) {
            image.write_all_at(part, offset).map_err(failed)?;
        }
        offset += length as u64;
    }
    image.sync_all().map_err(failed)
}

/// The file that could not be read.
fn blamed(error: &rep_archive::ReadError, file: &ArchiveFile) -> PathBuf {
    match (error, &file.base) {
        (rep_archive::ReadError::Io(_), Some(base)) => base.clone(),
        _ => file.archive.clone(),
    }
}
