//! Why a disk can't be had, and what to do about it. Metadata that isn't where it should be is looked for elsewhere
//! before anything is recommended: `create-md` over a disk that has merely grown would destroy what it knows.

use super::resource::command_error;
use rep_control::api::ApiError;
use rep_disk::{OpenError, ReadOnlyDisk};
use rep_meta::{FormerEnd, LoadError, find_former_end};
use rep_types::Refusal;
use repd::resource::AttachError;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long metadata may be looked for elsewhere on the disk.
const SEARCH_DEADLINE: Duration = Duration::from_secs(2);

/// A failed attach in words.
pub async fn words(error: AttachError, name: &str) -> ApiError {
    match error {
        AttachError::NoSuchVolume => ApiError::refused(Refusal::NoSuchVolume, name),
        AttachError::Busy => ApiError::refused(Refusal::Busy, name),
        AttachError::Refused(error) => command_error(error, name),
        AttachError::TimedOut => {
            ApiError::timed_out("the disk didn't answer in time").with_hint("it may hang; look at the kernel's log")
        }
        AttachError::Disk { path, source } => disk(&path, &source, name),
        AttachError::Metadata { path, source } => match source.downcast_ref::<LoadError>() {
            Some(LoadError::NotMetadata) => not_metadata(&path, former_end(path.clone()).await.as_ref(), name),
            Some(error) => metadata(&path, error, name),
            None => {
                ApiError::failed("DiskFailed", format!("the metadata on {} can't be used: {source}", path.display()))
                    .with_hint("look at the kernel's log")
            }
        },
    }
}

fn disk(path: &Path, error: &OpenError, name: &str) -> ApiError {
    let again = format!("then run 'repctl up {name}'");
    let (reason, hint) = match error {
        OpenError::Missing => ("DiskMissing", format!("look at its path in the configuration, {again}")),
        OpenError::WrongKind => ("WrongKind", format!("look at its path in the configuration, {again}")),
        OpenError::InUse => ("DiskInUse", format!("find who has it with 'lsof' or 'lsblk', {again}")),
        OpenError::Mounted => ("DiskMounted", format!("unmount it, {again}: clients mount the device, never the disk")),
        OpenError::TooSmall { .. } => ("DiskTooSmall", format!("give it a larger disk, {again}")),
        OpenError::BlocksTooLarge(_) => {
            ("DiskUnusable", format!("give it a disk with smaller logical blocks, {again}"))
        }
        OpenError::Permission => ("PermissionDenied", format!("let repd's user read and write it, {again}")),
        OpenError::ReadOnly => ("ReadOnly", format!("make it writable, {again}")),
        OpenError::System(_) => ("DiskUnusable", "look at the kernel's log".to_owned()),
    };
    ApiError::failed(reason, format!("the disk {} can't be used: {error}", path.display())).with_hint(hint)
}

/// Looks for metadata where the disk may have ended before. What can't be read, or takes too long, is not found.
async fn former_end(path: PathBuf) -> Option<FormerEnd> {
    let search = tokio::task::spawn_blocking(move || find_former_end(&mut ReadOnlyDisk::open(&path).ok()?));
    tokio::time::timeout(SEARCH_DEADLINE, search).await.ok()?.ok()?
}

fn not_metadata(path: &Path, former: Option<&FormerEnd>, name: &str) -> ApiError {
    let path = path.display();
    match former {
        Some(FormerEnd { superblock, device_bytes }) => {
            let (resource, volume, node) = (&superblock.resource, superblock.volume, &superblock.node);
            let message = format!(
                "no metadata at the end of {path}, but that of {resource}/{volume} on node {node} where a disk of \
                 {device_bytes} bytes ended: it has grown since"
            );
            let hint = format!(
                "make it {device_bytes} bytes again and run 'repctl up {name}'; create-md would destroy what the \
                 metadata knows, and have the peer's data copied over this disk"
            );
            ApiError::failed("DiskHasGrown", message).with_hint(hint)
        }
        None => {
            let message = format!("no metadata on {path}: it is new, or it grew or shrank since its metadata was made");
            let hint = format!(
                "if it is new, or what is on it may go, run 'repctl create-md {name}': the peer's data is then copied \
                 over it; if its size changed, give it its old size again instead"
            );
            ApiError::failed("NoMetadata", message).with_hint(hint)
        }
    }
}

fn metadata(path: &Path, error: &LoadError, name: &str) -> ApiError {
    let replace = format!(
        "if what is on this disk may go, run 'repctl create-md {name} --force': the peer's data is then copied over it"
    );
    let (reason, hint) = match error {
        LoadError::NotMetadata => ("NoMetadata", replace),
        LoadError::Unsupported(_) => ("UnsupportedMetadata", "run the version of repd that made it".to_owned()),
        LoadError::BothDamaged => ("MetadataDamaged", replace),
        LoadError::CopiesContradict => ("MetadataDamaged", replace),
        LoadError::Truncated { .. } => ("MetadataTruncated", "give the metadata device its old size again".to_owned()),
        LoadError::OtherResource(_) => ("OtherResource", "look at the disk's path in the configuration".to_owned()),
        LoadError::OtherNode(_) => ("OtherNode", "look at the disk's path, and at --node of repd".to_owned()),
        LoadError::OtherVolume(_) => ("OtherVolume", "look at the volume's number in the configuration".to_owned()),
        LoadError::OtherPlacement => ("OtherPlacement", "look at meta-disk in the configuration".to_owned()),
        LoadError::DeviceSizeChanged { expected_bytes, .. } => {
            ("DeviceSizeChanged", format!("make the disk {expected_bytes} bytes again"))
        }
        LoadError::Io(_) => ("DiskFailed", "look at the kernel's log".to_owned()),
    };
    ApiError::failed(reason, format!("the metadata on {} can't be used: {error}", path.display())).with_hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_metadata_is_told_with_both_possibilities_and_what_create_md_destroys() {
        let sentence = not_metadata(Path::new("/dev/vg0/vz"), None, "vz").sentence();
        for word in ["it is new", "grew or shrank", "copied over it", "its old size"] {
            assert!(sentence.contains(word), "{word}: {sentence}");
        }
    }

    #[test]
    fn every_disk_error_says_what_to_do() {
        let errors = [
            OpenError::Missing,
            OpenError::WrongKind,
            OpenError::InUse,
            OpenError::Mounted,
            OpenError::TooSmall { size_bytes: 1, needed_bytes: 2 },
            OpenError::BlocksTooLarge(8192),
            OpenError::Permission,
            OpenError::ReadOnly,
            OpenError::System(std::io::Error::other("odd")),
        ];
        for error in errors {
            let told = disk(Path::new("/d"), &error, "vz");
            assert!(told.hint.is_some() && told.exit_code == 1, "{told:?}");
        }
    }
}
