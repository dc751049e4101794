//! Installs the Debian packages that hold the programs the tests drive: only what is missing, never a replacement of
//! what is there (a newer qemu-utils stays).

use crate::process::{Failure, Tool, find};

/// How to see whether something is there.
#[derive(Clone, Copy, Debug)]
pub enum Probe {
    /// A program of this name can be found.
    Program(&'static str),
    /// `nbdsh` starts: it needs the Python of the distribution, which isn't always the first in the PATH.
    Nbdsh,
}

/// A thing the tests drive, and the packages that may hold it, likeliest first: releases of Debian differ.
#[derive(Clone, Copy, Debug)]
pub struct Need {
    probe: Probe,
    packages: &'static [&'static str],
}

const fn program(name: &'static str, packages: &'static [&'static str]) -> Need {
    Need { probe: Probe::Program(name), packages }
}

/// What `cargo xtask test` drives.
pub const TESTED: &[Need] = &[
    program("fio", &["fio"]),
    program("nbdinfo", &["libnbd-bin"]),
    program("nbdcopy", &["libnbd-bin"]),
    program("nbdfuse", &["libnbd-bin", "nbdfuse"]),
    Need { probe: Probe::Nbdsh, packages: &["python3-libnbd"] },
    program("nbdkit", &["nbdkit"]),
    program("qemu-io", &["qemu-utils"]),
    program("qemu-img", &["qemu-utils"]),
    program("mkfs.ext4", &["e2fsprogs"]),
    program("mkfs.xfs", &["xfsprogs"]),
    program("fusermount3", &["fuse3"]),
    program("nft", &["nftables"]),
    program("ip", &["iproute2"]),
    program("tc", &["iproute2"]),
    program("losetup", &["mount", "util-linux"]),
    program("mount", &["mount"]),
];

/// What `cargo xtask bench` drives.
pub const BENCHED: &[Need] = &[
    program("fio", &["fio"]),
    program("nbdkit", &["nbdkit"]),
    program("nbdcopy", &["libnbd-bin"]),
    program("qemu-storage-daemon", &["qemu-system-common", "qemu-utils"]),
];

/// What `cargo xtask bench --flame` samples with, besides.
pub const SAMPLED: &[Need] = &[program("perf", &["linux-perf"])];

/// What `cargo xtask instructions` counts with.
pub const COUNTED: &[Need] = &[program("valgrind", &["valgrind"])];

/// What `tools/lab/guest-run` makes its guest with; the guest's own programs are fetched by itself and not installed.
pub const GUEST: &[Need] = &[
    program("apt-cache", &["apt"]),
    program("dpkg-deb", &["dpkg"]),
    program("mke2fs", &["e2fsprogs"]),
    program("flock", &["util-linux"]),
    program("xz", &["xz-utils"]),
];

impl Need {
    fn is_met(&self) -> bool {
        match self.probe {
            Probe::Program(name) => find(name).is_some(),
            Probe::Nbdsh => {
                Tool::new("/usr/bin/python3").args(["-c", "import nbd"]).succeeds() && find("nbdsh").is_some()
            }
        }
    }

    fn name(&self) -> &'static str {
        match self.probe {
            Probe::Program(name) => name,
            Probe::Nbdsh => "nbdsh",
        }
    }
}

/// Installs what is missing of these. Fails with a sentence that says what to install by hand where it can't.
pub fn install(needs: &[Need]) -> Result<(), Failure> {
    let missing = || needs.iter().filter(|need| !need.is_met()).collect::<Vec<_>>();
    if missing().is_empty() {
        return Ok(());
    }
    println!("installing what the tests drive: {}", names(&missing()));
    let can_install = find("apt-get").is_some() && (is_root() || find("sudo").is_some());
    if can_install {
        apt_get(&["update", "--quiet"])?;
        let tries = needs.iter().map(|need| need.packages.len()).max().unwrap_or(0);
        (0..tries).for_each(|nth| install_candidates(&missing(), nth));
    }
    match missing().as_slice() {
        [] => Ok(()),
        still => Err(Failure::Missing(what_to_do(still, can_install))),
    }
}

/// Installs the `nth` candidate package of each need, one by one: a name this release doesn't know must not keep the
/// others from being installed. What is still missing afterwards is told by the caller.
fn install_candidates(missing: &[&Need], nth: usize) {
    let mut packages: Vec<_> = missing.iter().filter_map(|need| need.packages.get(nth)).collect();
    packages.sort_unstable();
    packages.dedup();
    for package in packages {
        let _ = apt_get(&["install", "--yes", "--quiet", "--no-install-recommends", "--no-remove", package]);
    }
}

fn apt_get(arguments: &[&str]) -> Result<(), Failure> {
    let tool = if is_root() { Tool::new("apt-get") } else { Tool::new("sudo").arg("apt-get") };
    tool.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").run()
}

fn what_to_do(missing: &[&Need], could_install: bool) -> String {
    let packages: Vec<_> = missing.iter().map(|need| need.packages[0]).collect();
    let reason = if could_install { "apt-get could not install it" } else { "there is no apt-get, or no root or sudo" };
    format!(
        "missing: {} ({reason}); install these packages, then run this again: {}",
        names(missing),
        packages.join(" ")
    )
}

fn names(needs: &[&Need]) -> String {
    needs.iter().map(|need| need.name()).collect::<Vec<_>>().join(" ")
}

/// Whether this process may install packages and make network namespaces itself.
pub fn is_root() -> bool {
    // The owner of a process's own folder in /proc is its effective user.
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|status| status.uid() == 0)
}
