//! `dump-md`: the metadata as text. Reads only, so it works while the daemon has the disk, too.

use super::file::ReadOnlyDisk;
use super::{metadata_path, placement, volumes};
use crate::cli::{DumpMdArguments, Options};
use crate::{Failure, print_json};
use rep_control::api::ApiError;

pub fn dump(arguments: &DumpMdArguments, options: &Options) -> Result<(), Failure> {
    let found = volumes(&arguments.target, &arguments.file, arguments.node.as_deref())?;
    let mut dumps = Vec::new();
    for volume in &found.volumes {
        let path = metadata_path(volume);
        let mut disk = ReadOnlyDisk::open(path).map_err(|error| {
            ApiError::failed("Unreadable", format!("{} can't be read: {error}", path.display()))
                .with_hint("look at the disk's path in the configuration")
        })?;
        let text = rep_meta::dump(&mut disk, placement(volume));
        dumps.push((volume.number.0, path.display().to_string(), text));
    }
    for (number, path, text) in dumps {
        if options.json {
            print_json(&serde_json::json!({ "volume": number, "path": path, "dump": text }));
        } else {
            println!("{}/{number} on {path}\n{}", found.resource, text.trim_end());
        }
    }
    Ok(())
}
