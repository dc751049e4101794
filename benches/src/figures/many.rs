//! Many resources between the same two daemons.

use super::{Bar, Effort, Figure, in_memory, words};
use crate::fio::{self, Target};
use rep_tests::{Cluster, Node, net};
use std::fmt::Write;
use std::path::PathBuf;

const RESOURCES: usize = 16;
const BYTES: u64 = 256 << 20;

struct Resource {
    name: String,
    socket: PathBuf,
}

/// Two daemons with all resources, alpha Primary of each.
fn start() -> (Cluster, Vec<Resource>) {
    let mut cluster = Cluster::prepare(&in_memory(BYTES));
    let (mut text, mut resources) = (String::new(), Vec::new());
    for number in 0..RESOURCES {
        let mut config = cluster.config.clone();
        config.resource = format!("r{number}");
        let ports = net::free_ports();
        for (node, port) in config.nodes.iter_mut().zip(ports) {
            let place = |what: &str| cluster.path(&format!("{}/{what}{number}", node.name));
            node.address = format!("127.0.0.1:{port}");
            let (disk, meta, socket) = (place("many"), place("many-meta"), place("many.sock"));
            rep_tests::scratch::sparse_file(&disk, BYTES);
            let volume = &mut node.volumes[0];
            (volume.disk, volume.meta_disk, volume.socket) = (disk, Some(meta), socket);
        }
        let _ = writeln!(text, "{}", config.text());
        resources.push(Resource { name: config.resource.clone(), socket: config.nodes[0].volumes[0].socket.clone() });
    }
    std::fs::write(cluster.config_path(), text).expect("the config file");
    cluster.expect_log("stays down");
    cluster.alpha.start();
    cluster.beta.start();
    let config = cluster.config_path().display().to_string();
    for Resource { name, .. } in &resources {
        let both = [&cluster.alpha, &cluster.beta];
        let all = |words: &[&str]| both.iter().for_each(|node| drop(node.ctl(words).ok()));
        let create = |node: &Node| node.ctl(["create-md", name, "--config", &config, "--node", node.name()]).ok();
        both.iter().for_each(|node| drop(create(node)));
        all(&["up", name]);
        all(&["wait", name, "connected"]);
        cluster.alpha.ctl(["new-generation", name, "--clear-bitmap"]).ok();
        cluster.alpha.ctl(["primary", name]).ok();
    }
    (cluster, resources)
}

pub fn measure(effort: Effort) -> Vec<Figure> {
    let (cluster, resources) = start();
    let export = |resource: &Resource| {
        Target::Export(format!("nbd+unix:///{}?socket={}", resource.name, resource.socket.display()))
    };
    let all: Vec<Target> = resources.iter().map(export).collect();
    all.iter().for_each(|target| fio::fill(target, BYTES));
    let mut figure =
        Figure::against("4k randwrite, depth 8, 16 resources at once", "one alone", "IOPS", Bar::AtLeast(0.8));
    let load = words(&format!("rw=randwrite bs=4k iodepth=8 size={BYTES}"));
    for _ in 0..effort.rounds {
        let [many, one] = [&all[..], &all[..1]].map(|targets| fio::measure(targets, &load, effort.seconds));
        figure.add_pair(many.iops, one.iops);
    }
    drop(cluster);
    vec![figure]
}
