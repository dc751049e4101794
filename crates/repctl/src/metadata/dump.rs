//! `dump-md`: the metadata as text. Reads only, so it works while the daemon has the disk, too.

use super::{metadata_path, placement, volumes};
use crate::Failure;
use crate::cli::{DumpMdArguments, Options};
use crate::output::{print, print_json, tell};
use rep_control::api::{ApiError, ExitCode};
use rep_disk::ReadOnlyDisk;
use rep_meta::Probe;

pub fn dump(arguments: &DumpMdArguments, options: &Options) -> Result<(), Failure> {
    let found = volumes(&arguments.target, &arguments.file, arguments.node.as_deref())?;
    let mut bare = None;
    for volume in &found.volumes {
        let path = metadata_path(volume);
        let unreadable = |error: String| {
            ApiError::failed("Unreadable", format!("{} can't be read: {error}", path.display()))
                .with_hint("look at the disk's path in the configuration, and at who may read it")
        };
        let mut disk = ReadOnlyDisk::open(path).map_err(|error| unreadable(error.to_string()))?;
        let text = rep_meta::dump(&mut disk, placement(volume));
        let number = volume.number.0;
        if options.json {
            print_json(&serde_json::json!({ "volume": number, "path": path.display().to_string(), "dump": text }))?;
        } else {
            print(&format!("{}/{number} on {}\n{}\n", found.resource, path.display(), text.trim_end()))?;
        }
        let probed = rep_meta::probe(&mut disk, placement(volume)).map_err(|error| unreadable(error.to_string()))?;
        if !matches!(probed, Probe::Metadata(_)) {
            bare = Some(path);
        }
    }
    match bare {
        Some(path) => {
            // What was found has been printed; stdout stays as it is.
            tell(format_args!(
                "repctl: NoMetadata: there is no valid metadata on {}; see what the dump says",
                path.display()
            ));
            Err(Failure::Code(ExitCode::Failed))
        }
        None => Ok(()),
    }
}
