//! Paths that lead into the mounted volume while this node has it (`[resource.NAME.links]`).
//!
//! ```text
//!            /etc/lxc                 /etc/lxc.repd-aside
//!  removed   the node's own           -
//!  made      -> /vz/etc/lxc           the node's own
//! ```
//! What stood at the path is put aside, never lost, and comes back. Each change of the path is one step of the file
//! system's: whoever looks at it at any moment, or after a loss of power, finds the one or the other.

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use rep_control::config::LinkConfig;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Behind the name of what was put aside.
const ASIDE: &str = ".repd-aside";

/// Why a link can't be made or removed.
#[derive(Debug)]
pub enum LinkError {
    /// There is nothing where it would lead.
    NoTarget(PathBuf),
    /// Something stands at the path, and something was put aside from there before.
    Both(PathBuf),
    /// The file system says no.
    Io(PathBuf, io::Error),
}

impl LinkError {
    /// The reason's name, what is wrong, and what to do.
    pub fn words(&self) -> (&'static str, String, String) {
        match self {
            Self::NoTarget(target) => (
                "NoLinkTarget",
                format!("{} isn't on the volume, so no link can lead there", target.display()),
                "put it there (for the first time: 'cp -a' of what the node has), or take the link out of the configuration"
                    .to_owned(),
            ),
            Self::Both(path) => (
                "LinkInTheWay",
                format!("{0} isn't the link, and {0}{ASIDE} holds what was put aside from there", path.display()),
                "see which of the two is wanted, and move the other away".to_owned(),
            ),
            Self::Io(path, error) => {
                ("LinkFailed", format!("{}: {error}", path.display()), "mend that, then try again".to_owned())
            }
        }
    }
}

/// How a link stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkState {
    /// The path leads into the volume.
    Made,
    /// It doesn't.
    Removed,
    /// Neither can be told: see [`LinkError::Both`].
    InTheWay,
}

fn aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ASIDE);
    name.into()
}

fn is_there(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// What is found at a path and beside it.
struct Found {
    made: bool,
    path: bool,
    /// Something of the node's own was put aside.
    aside: bool,
    /// A change was interrupted: the link stands beside the path.
    leftover: bool,
}

fn look(link: &LinkConfig) -> Result<Found, LinkError> {
    let failed = |error| LinkError::Io(link.path.clone(), error);
    let leads = |path: &Path| fs::read_link(path).is_ok_and(|to| to == link.target);
    let beside = aside(&link.path);
    let leftover = leads(&beside);
    Ok(Found {
        made: leads(&link.path),
        path: is_there(&link.path).map_err(failed)?,
        aside: !leftover && is_there(&beside).map_err(failed)?,
        leftover,
    })
}

/// How a link stands.
pub fn state(link: &LinkConfig) -> Result<LinkState, LinkError> {
    Ok(match look(link)? {
        Found { made: true, .. } => LinkState::Made,
        Found { path: true, aside: true, .. } => LinkState::InTheWay,
        _ => LinkState::Removed,
    })
}

/// Makes a link. True: it wasn't there before.
pub fn make(link: &LinkConfig) -> Result<bool, LinkError> {
    let found = look(link)?;
    if found.made {
        return Ok(false);
    }
    if !link.target.exists() {
        return Err(LinkError::NoTarget(link.target.clone()));
    }
    let beside = aside(&link.path);
    let done = match found {
        Found { path: true, aside: true, .. } => return Err(LinkError::Both(link.path.clone())),
        Found { path: true, leftover, .. } => {
            let placed = if leftover { Ok(()) } else { symlink(&link.target, &beside) };
            placed.and_then(|()| exchange(&link.path, &beside).inspect_err(|_| drop(fs::remove_file(&beside))))
        }
        Found { leftover: true, .. } => fs::rename(&beside, &link.path),
        _ => symlink(&link.target, &link.path),
    };
    done.map(|()| true).map_err(|error| LinkError::Io(link.path.clone(), error))
}

/// Removes a link and brings back what stood there. True: it was there.
pub fn remove(link: &LinkConfig) -> Result<bool, LinkError> {
    let found = look(link)?;
    let beside = aside(&link.path);
    let done = match found {
        Found { made: true, aside: true, .. } => exchange(&link.path, &beside).and_then(|()| fs::remove_file(&beside)),
        Found { made: true, .. } => fs::remove_file(&link.path),
        Found { path: true, aside: true, .. } => return Err(LinkError::Both(link.path.clone())),
        Found { aside: true, .. } => fs::rename(&beside, &link.path),
        Found { leftover: true, .. } => fs::remove_file(&beside),
        _ => Ok(()),
    };
    done.map(|()| found.made).map_err(|error| LinkError::Io(link.path.clone(), error))
}

/// Makes every link, or none: those made are removed again if one can't be.
pub fn make_all(links: &[LinkConfig]) -> Result<(), LinkError> {
    let mut made = Vec::new();
    for link in links {
        match make(link) {
            Ok(true) => made.push(link),
            Ok(false) => {}
            Err(error) => {
                // The first error is the one to be told; `show` has the rest.
                made.into_iter().rev().for_each(|link| drop(remove(link)));
                return Err(error);
            }
        }
    }
    Ok(())
}

/// Removes every link that can be; tells the first that can't.
pub fn remove_all(links: &[LinkConfig]) -> Result<(), LinkError> {
    let errors: Vec<_> = links.iter().rev().filter_map(|link| remove(link).err()).collect();
    errors.into_iter().next().map_or(Ok(()), Err)
}

/// Two names change places, at once.
fn exchange(a: &Path, b: &Path) -> io::Result<()> {
    Ok(renameat2(AT_FDCWD, a, AT_FDCWD, b, RenameFlags::RENAME_EXCHANGE)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    /// A folder with a volume that has something at `target`.
    fn world() -> (TempDir, LinkConfig) {
        let folder = tempfile::tempdir().unwrap();
        let link = LinkConfig { path: folder.path().join("lxc"), target: folder.path().join("vz") };
        fs::create_dir(&link.target).unwrap();
        fs::write(link.target.join("conf"), "shared").unwrap();
        (folder, link)
    }

    fn own(link: &LinkConfig) {
        fs::create_dir(&link.path).unwrap();
        fs::write(link.path.join("conf"), "own").unwrap();
    }

    fn conf(link: &LinkConfig) -> String {
        fs::read_to_string(link.path.join("conf")).unwrap()
    }

    #[test]
    fn what_stood_there_comes_back() {
        let (folder, link) = world();
        own(&link);
        assert!(make(&link).unwrap() && conf(&link) == "shared" && state(&link).unwrap() == LinkState::Made);
        assert!(!make(&link).unwrap(), "made already");
        assert!(remove(&link).unwrap() && conf(&link) == "own" && state(&link).unwrap() == LinkState::Removed);
        assert!(!remove(&link).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left behind");
    }

    #[test]
    fn where_nothing_stood_nothing_comes_back() {
        let (folder, link) = world();
        assert!(make(&link).unwrap() && conf(&link) == "shared");
        assert!(remove(&link).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn no_link_leads_nowhere() {
        let (_folder, link) = world();
        own(&link);
        let nowhere = LinkConfig { target: link.target.join("missing"), ..link.clone() };
        assert!(matches!(make(&nowhere), Err(LinkError::NoTarget(_))) && conf(&link) == "own");
        // A volume that isn't mounted any more keeps nobody from removing the link.
        make(&link).unwrap();
        fs::remove_dir_all(&link.target).unwrap();
        assert!(remove(&link).unwrap() && conf(&link) == "own");
    }

    #[test]
    fn what_somebody_put_in_the_links_place_is_not_touched() {
        let (_folder, link) = world();
        own(&link);
        make(&link).unwrap();
        fs::remove_file(&link.path).unwrap();
        fs::write(&link.path, "new").unwrap();
        assert!(matches!(make(&link), Err(LinkError::Both(_))) && matches!(remove(&link), Err(LinkError::Both(_))));
        assert_eq!(state(&link).unwrap(), LinkState::InTheWay);
        assert_eq!(fs::read_to_string(&link.path).unwrap(), "new");
        // Somebody removed the link by hand: what was put aside comes back all the same.
        fs::remove_file(&link.path).unwrap();
        remove(&link).unwrap();
        assert_eq!(conf(&link), "own");
    }

    #[test]
    fn a_change_that_was_interrupted_is_finished() {
        let (folder, link) = world();
        own(&link);
        symlink(&link.target, aside(&link.path)).unwrap();
        assert!(make(&link).unwrap() && conf(&link) == "shared");
        // Removed, up to the last step.
        exchange(&link.path, &aside(&link.path)).unwrap();
        remove(&link).unwrap();
        assert!(conf(&link) == "own" && fs::read_dir(folder.path()).unwrap().count() == 2);
    }

    #[test]
    fn all_or_none_are_made() {
        let (folder, link) = world();
        own(&link);
        let broken = LinkConfig { path: folder.path().join("other"), target: folder.path().join("missing") };
        assert!(make_all(&[link.clone(), broken.clone()]).is_err() && conf(&link) == "own");
        make_all(std::slice::from_ref(&link)).unwrap();
        remove_all(&[link.clone(), broken]).unwrap();
        assert_eq!(conf(&link), "own");
    }
}
