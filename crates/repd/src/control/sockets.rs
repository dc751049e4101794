//! Listening sockets passed by systemd (`LISTEN_FDS`), told apart by their names: `RESOURCE` or `RESOURCE/N`.

use rep_control::config::ResourceConfig;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::fd::{FromRawFd, OwnedFd};

/// The sockets, by name.
#[derive(Debug, Default)]
pub struct Sockets {
    by_name: RefCell<BTreeMap<String, OwnedFd>>,
}

impl Sockets {
    /// Takes over what systemd passed. Must run before any thread starts.
    pub fn from_systemd() -> Self {
        // SAFETY: called first in main, before any thread exists, so nobody reads the environment meanwhile.
        let passed = unsafe { sd_notify::listen_fds_with_names_and_unset_env() };
        let sockets = Sockets::default();
        for (fd, name) in passed.into_iter().flatten() {
            // SAFETY: systemd passed this descriptor to this process and nobody else in it knows the number.
            let fd = unsafe { OwnedFd::from_raw_fd(fd) };
            let name = name.strip_suffix(".socket").unwrap_or(&name).to_owned();
            sockets.by_name.borrow_mut().insert(name, fd);
        }
        sockets
    }

    /// Hands out the sockets of a resource, by volume number.
    pub fn of(&self, resource: &ResourceConfig) -> BTreeMap<u16, OwnedFd> {
        let mut by_name = self.by_name.borrow_mut();
        let numbers = resource.nodes[0].volumes.iter().map(|volume| volume.number.0);
        let mut taken = BTreeMap::new();
        for number in numbers {
            let long = by_name.remove(&format!("{}/{number}", resource.name));
            let short = || (number == 0).then(|| by_name.remove(resource.name.as_str())).flatten();
            if let Some(fd) = long.or_else(short) {
                taken.insert(number, fd);
            }
        }
        taken
    }

    /// Tells the sockets nobody took.
    pub fn warn_unused(&self) {
        for name in self.by_name.borrow().keys() {
            tracing::warn!(
                "systemd passed a socket named \"{name}\", which is no RESOURCE or RESOURCE/VOLUME of this node"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_go_to_their_volumes() {
        let text = "[resource.vz.node.a]\naddress='127.0.0.1:1'\nvolume.0.disk='/a'\nvolume.1.disk='/b'\n\
                    [resource.vz.node.b]\naddress='127.0.0.1:2'\nvolume.0.disk='/a'\nvolume.1.disk='/b'\n";
        let config = rep_control::config::parse("x", text.as_bytes()).unwrap();
        let fd = || OwnedFd::from(std::os::unix::net::UnixStream::pair().unwrap().0);
        let by_name = [("vz", fd()), ("vz/1", fd()), ("other", fd())];
        let sockets = Sockets { by_name: RefCell::new(by_name.map(|(name, fd)| (name.to_owned(), fd)).into()) };
        assert_eq!(sockets.of(&config.resources[0]).into_keys().collect::<Vec<_>>(), [0, 1]);
        assert_eq!(sockets.by_name.into_inner().into_keys().collect::<Vec<_>>(), ["other"]);
    }
}
