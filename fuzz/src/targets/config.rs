//! The configuration file.

use super::Target;

/// The file's text.
pub const CONFIG: Target = Target {
    name: "config",
    about: "the configuration file",
    run,
    seeds,
    length_max: 2 << 10,
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
on-no-data = "suspend-io"
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
    // Two resources that want the same things, nodes that can't be a pair, every other word.
    let two = r#"[resource.a]
archive-dir = "none"
archive-blocks = "differing"
[resource.a.node.x]
address = "10.0.0.1:1"
volume.0 = { disk = "/d/1", device = "nbd:10.0.0.1:1" }
volume.1 = { disk = "/d/../d/1", device = "nbd:unix:/d/1" }
[resource.a.node.y]
address = "10.0.0.2:1"
volume.0 = { disk = "/d/1", device = "none" }
[resource.b]
archive-dir = "/var/a"
resync.max-rate = "1K"
[resource.b.node.x]
address = "0.0.0.0:1"
volume.0 = { disk = "/d/2", meta-disk = "/d/1", device = "nbd:unix:/d/2" }
[resource.b.node.y]
address = "[::2]:1"
volume.0 = { disk = "/d/2", device = "nbd:0.0.0.0:1" }
[resource.c.node.x]
address = "10.0.0.1:2"
volume.0 = { disk = "/d/3", device = "nbd:unix:/d/2" }
volume.00 = { disk = "d", device = "?" }
"#;
    vec![
        whole.as_bytes().to_vec(),
        without_include.as_bytes().to_vec(),
        two.as_bytes().to_vec(),
        b"[resource.vz]\nprotocol = 3\nx".to_vec(),
    ]
}
