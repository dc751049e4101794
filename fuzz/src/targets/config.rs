//! The configuration file.

use super::Target;

/// The file's text.
pub const CONFIG: Target = Target {
    name: "config",
    about: "the configuration file",
    run,
    seeds,
    length_max: 8 << 10,
    memory_max: 16 << 20,
    ..Target::USUAL
};

fn run(data: &[u8]) {
    match rep_control::config::parse("repd.toml", data) {
        Ok(config) => drop(format!("{config:?}")),
        Err(errors) => {
            assert!(!errors.0.is_empty(), "an error says what is wrong");
            drop(errors.to_string());
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let whole = r#"include = ["more/*.toml"]
[resource.vz]
protocol = "C"
start = "down"
durability = "stable"
fencing = "resource-only"
[resource.vz.net]
timeout = "6s"
ping-interval = "10s"
ping-timeout = "500ms"
connect-interval = "10s"
ko-count = 7
shared-secret-file = "/etc/repd/vz.secret"
[resource.vz.resync]
max-rate = "100M"
[resource.vz.split-brain]
after-0-primaries = "disconnect"
after-1-primary = "consensus"
after-2-primaries = "disconnect"
[resource.vz.node.alpha]
address = "192.168.255.1:7788"
[resource.vz.node.alpha.volume.0]
disk = "/dev/vg0/vz"
meta-disk = "internal"
device = "ublk"
[resource.vz.node.beta]
address = "[::1]:7788"
[resource.vz.node.beta.volume.0]
disk = "/dev/vg0/vz"
meta-disk = "/dev/vg0/meta"
device = "nbd:unix:/run/repd/vz.sock"
"#;
    let without_include = whole.split_once('\n').map_or("", |(_, rest)| rest);
    vec![whole.as_bytes().to_vec(), without_include.as_bytes().to_vec(), b"[resource.vz]\nprotocol = 3\nx".to_vec()]
}
