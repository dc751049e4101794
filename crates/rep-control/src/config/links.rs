//! `[resource.NAME.links]`: paths of a node that are links into the mounted volume while the node has it, so that
//! configuration, state and the like follow the active node.
//!
//! ```toml
//! [resource.vz.links]
//! "/etc/lxc" = "/vz/etc/lxc"          # the path on every node = where it leads on the active one
//! ```

use super::problem::Problem;
use super::table::{Table, Value};
use std::path::{Component, Path, PathBuf};

/// A link into the mounted volume.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct LinkConfig {
    /// The path that becomes a link.
    pub path: PathBuf,
    /// Where it leads.
    pub target: PathBuf,
}

/// Reads the table; the links come sorted by path.
pub(super) fn links(mut table: Table<'_>, problems: &mut Vec<Problem>) -> Vec<LinkConfig> {
    let mut links: Vec<LinkConfig> = Vec::new();
    for (name, value) in table.values() {
        let Some(link) = link(&name, &value, problems) else { continue };
        let leads_into = |a: &LinkConfig, b: &LinkConfig| a.target.starts_with(&b.path);
        let clash = |other: &&LinkConfig| {
            overlap(&other.path, &link.path) || leads_into(other, &link) || leads_into(&link, other)
        };
        match links.iter().find(clash) {
            Some(other) => {
                let what = format!("\"{name}\" and \"{}\" get into each other's way", other.path.display());
                let expected = "no link lies inside another, or leads into one";
                problems.push(Problem::error(what).at(value.place(), expected));
            }
            None => links.push(link),
        }
    }
    table.finish(problems);
    links.sort();
    links
}

fn link(name: &str, value: &Value<'_>, problems: &mut Vec<Problem>) -> Option<LinkConfig> {
    let target = value.string(problems)?;
    let (path, target) = (Path::new(name), Path::new(target));
    let expected = if !is_plain(path) {
        "a name that is a whole path, as \"/etc/lxc\""
    } else if !is_plain(target) {
        "a whole path on the mounted volume, as \"/vz/etc/lxc\""
    } else if overlap(path, target) {
        "a path that is neither inside the other nor around it"
    } else {
        return Some(LinkConfig { path: path.to_owned(), target: target.to_owned() });
    };
    problems.push(value.problem("no link can be made of this", format!("expected: {expected}")));
    None
}

/// A whole path of a file or folder without detours, written in the one way there is.
fn is_plain(path: &Path) -> bool {
    let parts: Vec<_> = path.components().collect();
    let normal = parts.iter().skip(1).all(|part| matches!(part, Component::Normal(_)));
    let written: PathBuf = parts.iter().collect();
    let text = path.to_string_lossy();
    parts.first() == Some(&Component::RootDir)
        && parts.len() > 1
        && normal
        && written.as_os_str() == path.as_os_str()
        && !text.chars().any(char::is_control)
}

fn overlap(a: &Path, b: &Path) -> bool {
    a.starts_with(b) || b.starts_with(a)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_plain_paths_are_taken() {
        for good in ["/etc/lxc", "/a", "/etc/a b"] {
            assert!(is_plain(Path::new(good)), "{good}");
        }
        for bad in ["", "/", "etc/lxc", "/etc/../lxc", "/etc/lxc/", "//etc", "/etc/./lxc", "/etc/a\nb"] {
            assert!(!is_plain(Path::new(bad)), "{bad}");
        }
    }
}
