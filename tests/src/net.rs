//! The network between the two nodes: the loopback interface, or two namespaces joined by a virtual cable that can be
//! cut in every way a real one fails.

use crate::tools::{is_root, words};
use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

/// Which.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NetworkKind {
    /// Both nodes in our own namespace; needs no root.
    Loopback,
    /// Two namespaces and a veth pair; needs root.
    Namespaces,
}

impl Default for NetworkKind {
    /// Two namespaces, as two machines are, for who may make them.
    fn default() -> Self {
        if is_root() { NetworkKind::Namespaces } else { NetworkKind::Loopback }
    }
}

/// How the link fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cut {
    /// Every packet is lost, both ways, silently.
    Both,
    /// What alpha should receive is lost.
    ToAlpha,
    /// What beta should receive is lost.
    ToBeta,
    /// Every packet is answered with a TCP reset.
    Reset,
    /// The interface goes down.
    LinkDown,
}

/// The network of one cluster.
#[derive(Debug)]
pub enum Network {
    /// Ports on 127.0.0.1.
    Loopback([u16; 2]),
    /// Namespaces.
    Namespaces(Namespaces),
}

/// Two namespaces, gone when dropped.
#[derive(Debug)]
pub struct Namespaces {
    names: [String; 2],
}

impl Network {
    /// Sets it up.
    pub fn new(kind: NetworkKind) -> Network {
        match kind {
            NetworkKind::Loopback => Network::Loopback(free_ports()),
            NetworkKind::Namespaces => Network::Namespaces(Namespaces::new()),
        }
    }

    /// The address of a node: 0 is alpha, 1 is beta.
    pub fn address(&self, node: usize) -> String {
        match self {
            Network::Loopback(ports) => format!("127.0.0.1:{}", ports[node]),
            Network::Namespaces(_) => format!("192.168.255.{}:7788", node + 1),
        }
    }

    /// Addresses of the nodes for one more resource between them.
    pub fn more_addresses(&self, number: usize) -> [String; 2] {
        match self {
            Network::Loopback(_) => free_ports().map(|port| format!("127.0.0.1:{port}")),
            Network::Namespaces(_) => [1, 2].map(|node| format!("192.168.255.{node}:{}", 7789 + number)),
        }
    }

    /// The namespace of a node, if it has one.
    pub fn namespace(&self, node: usize) -> Option<String> {
        match self {
            Network::Loopback(_) => None,
            Network::Namespaces(namespaces) => Some(namespaces.names[node].clone()),
        }
    }

    /// Breaks the link.
    pub fn cut(&self, how: Cut) {
        let namespaces = self.namespaces();
        match how {
            Cut::Both => [0, 1].iter().for_each(|&node| namespaces.filter(node, "drop")),
            Cut::ToAlpha => namespaces.filter(0, "drop"),
            Cut::ToBeta => namespaces.filter(1, "drop"),
            Cut::Reset => {
                [0, 1].iter().for_each(|&node| namespaces.filter(node, "meta l4proto tcp reject with tcp reset"))
            }
            Cut::LinkDown => drop(words(&format!("ip -n {} link set veth0 down", namespaces.names[0])).ok()),
        }
    }

    /// Makes the link slow, both ways.
    pub fn slow(&self, megabits_per_s: u32) {
        for name in &self.namespaces().names {
            let shape = format!("tbf rate {megabits_per_s}mbit burst 64k latency 400ms");
            words(&format!("ip netns exec {name} tc qdisc replace dev veth0 root {shape}")).ok();
        }
    }

    /// Changes four bytes, at this offset, of the next packet to a node that reaches so far. It isn't noticed by the kernel:
    /// packets on a virtual cable are never checked.
    pub fn corrupt_one(&self, node: usize, offset: u32, bytes: u32) {
        let far_enough = 20 + 60 + offset + 4;
        let once = "limit rate 1/day burst 1 packets counter";
        let change = format!("@ih,{},32 set {bytes:#x}", offset * 8);
        self.namespaces().filter(node, &format!("meta l4proto tcp meta length >= {far_enough} {once} {change}"));
    }

    /// How many packets to a node were corrupted since [`Network::corrupt_one`].
    pub fn corrupted(&self, node: usize) -> u64 {
        let listed = words(&format!("ip netns exec {} nft list ruleset", self.namespaces().names[node])).ok();
        let counts = listed.split("counter packets ").skip(1);
        counts.filter_map(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).sum()
    }

    /// Mends the link, however it was broken.
    pub fn heal(&self) {
        for name in &self.namespaces().names {
            words(&format!("ip netns exec {name} nft flush ruleset")).ok();
            // Complains where the link isn't slow.
            let _ = words(&format!("ip netns exec {name} tc qdisc delete dev veth0 root"));
            words(&format!("ip -n {name} link set veth0 up")).ok();
        }
    }

    fn namespaces(&self) -> &Namespaces {
        match self {
            Network::Namespaces(namespaces) => namespaces,
            Network::Loopback(_) => panic!("the loopback interface can't be cut; take NetworkKind::Namespaces"),
        }
    }
}

impl Namespaces {
    fn new() -> Namespaces {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        remove_left_over();
        let stem = format!("rept-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let namespaces = Namespaces { names: [format!("{stem}-a"), format!("{stem}-b")] };
        let [a, b] = &namespaces.names;
        for name in [a, b] {
            words(&format!("ip netns add {name}")).ok();
            words(&format!("ip -n {name} link set lo up")).ok();
        }
        words(&format!("ip -n {a} link add veth0 type veth peer name veth0 netns {b}")).ok();
        for (node, name) in [(1, a), (2, b)] {
            words(&format!("ip -n {name} address add 192.168.255.{node}/24 dev veth0")).ok();
            words(&format!("ip -n {name} link set veth0 up")).ok();
        }
        namespaces
    }

    fn filter(&self, node: usize, verdict: &str) {
        let nft = |rest: &str| words(&format!("ip netns exec {} nft {rest}", self.names[node])).ok();
        nft("add table inet fault");
        nft("add chain inet fault in { type filter hook input priority 0 ; }");
        nft(&format!("add rule inet fault in iifname veth0 {verdict}"));
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = words(&format!("ip netns delete {name}"));
        }
    }
}

/// Removes the namespaces of test processes that were killed.
fn remove_left_over() {
    for line in words("ip netns list").stdout.lines() {
        let name = line.split_whitespace().next().unwrap_or_default();
        let owner = name.strip_prefix("rept-").and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|pid| !std::path::Path::new("/proc").join(pid).exists()) {
            let _ = words(&format!("ip netns delete {name}"));
        }
    }
}

/// Two ports nobody listens on now.
pub fn free_ports() -> [u16; 2] {
    let listen = || TcpListener::bind("127.0.0.1:0").expect("a free port");
    let both = [listen(), listen()];
    both.map(|listener| listener.local_addr().expect("its address").port())
}
