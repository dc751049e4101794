//! Where the programs under test are. They are built in release mode, once, before the first is asked for.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The daemon.
pub fn repd() -> PathBuf {
    directory().join("repd")
}

/// The operator's command.
pub fn repctl() -> PathBuf {
    directory().join("repctl")
}

/// The workspace's root folder.
pub fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace").to_path_buf()
}

/// `REP_TESTS_BIN_DIR` names a folder with finished binaries; without it they are built, so that a scenario never
/// judges yesterday's daemon.
fn directory() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| match std::env::var_os("REP_TESTS_BIN_DIR") {
        Some(directory) => PathBuf::from(directory),
        None => build(),
    })
}

fn build() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--release", "--quiet", "-p", "repd", "-p", "repctl"])
        .current_dir(workspace_root())
        .status()
        .expect("cargo starts");
    assert!(built.success(), "the daemons did not build");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace_root().join("target"), PathBuf::from);
    target.join("release")
}
