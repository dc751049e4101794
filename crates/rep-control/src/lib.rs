//! What the daemon and the operator's command share: the configuration, the words of the control interface, and the
//! client that speaks it.
//!
//! It isn't the daemon's side of the control socket (that is `repd`), and it decides nothing about replication.
//!
//! Invariants: every byte of a configuration file and of an HTTP answer ends in a value or in a typed error, never
//! in a panic; a secret never appears in any `Debug` or `Display`.

pub mod api;
pub mod client;
pub mod config;

/// The configuration file that is read when none is named.
pub const CONFIG_PATH_DEFAULT: &str = "/etc/repd/repd.toml";
/// The directory of the control socket when none is named.
pub const RUNTIME_DIR_DEFAULT: &str = "/run/repd";
/// The control socket's name in the runtime directory.
pub const CONTROL_SOCKET_NAME: &str = "control.sock";

/// Where the names lie that stay, a folder each resource.
pub const DEVICE_LINKS: &str = "/dev/repd/by-res";

/// The name of a volume's block device that stays, a link to whatever number the kernel gave.
pub fn device_link(resource: &str, volume: u16) -> std::path::PathBuf {
    std::path::Path::new(DEVICE_LINKS).join(resource).join(volume.to_string())
}
