//! ```text
//!   client ──► alpha Primary ===== beta Secondary    over a link a resync could fill
//!   client ──► alpha Primary ====> beta SyncTarget   the client's p99 grows, the resync slows down, and ends
//!   client ──► alpha SyncTarget <==== beta           the same where the client's own node is filled
//!              alpha Primary ====> beta SyncTarget   without a client it isn't held
//! ```
//!
//! Nothing is judged by time; the figures are printed:
//! `cargo test -p rep-tests --test scenarios a_resync_yields -- --nocapture`.

use rep_tests::nbd::Address;
use rep_tests::net::NetworkKind;
use rep_tests::random::Random;
use rep_tests::status::Pacing;
use rep_tests::{Cluster, ClusterOptions, Node};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
const SOON: Duration = Duration::from_secs(60);
/// What is copied: it can't be told from zeroes by a glance.
const DATA: u64 = 48 * MIB;
/// Where the client writes, one block after another's answer.
const CLIENT: std::ops::Range<u64> = 50 * MIB..58 * MIB;
const BLOCK: usize = 4096;
/// Of the link: 25 MB a second, which both disks can do without trouble.
const MEGABITS_PER_S: u32 = 200;

/// A client that writes block after block, and how long each took.
struct Client {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Duration>>,
}

impl Client {
    fn start(address: Address) -> Client {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut connection = rep_tests::nbd::Connection::open(&address, "vz", SOON).expect("a connection");
            let (mut random, mut waits) = (Random::new(5), Vec::new());
            while !told.load(Ordering::Relaxed) {
                let block = random.below((CLIENT.end - CLIENT.start) / BLOCK as u64);
                let at = CLIENT.start + block * BLOCK as u64;
                let began = Instant::now();
                connection.write(at, &filled(block), 0).expect("a write");
                waits.push(began.elapsed());
            }
            connection.flush().expect("a flush");
            let _ = connection.close();
            waits
        });
        Client { stop, thread }
    }

    fn stop(self) -> Vec<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("every write is answered well")
    }
}

/// What a block holds once the client wrote it.
fn filled(block: u64) -> Vec<u8> {
    block.to_le_bytes().repeat(BLOCK / 8)
}

fn tell(what: &str, mut waits: Vec<Duration>) {
    waits.sort_unstable();
    let at = |share: usize| waits.get(waits.len() * share / 100).or(waits.last()).copied().unwrap_or_default();
    let longest = waits.last().copied().unwrap_or_default();
    println!("{what}: {} writes, median {:?}, p99 {:?}, longest {longest:?}", waits.len(), at(50), at(99));
}

/// Looks at the node while its resync runs; returns what was seen of the pacing last, and how long it took.
fn watch(node: &Node) -> (Pacing, Duration) {
    let began = Instant::now();
    let mut seen = None;
    rep_tests::until("the resync's end", Duration::from_secs(180), || {
        let resource = node.resource();
        let resync = resource.volume().resync.clone();
        seen = resync.and_then(|resync| resync.pacing).or(seen);
        if resource.is_in_sync() { Ok(()) } else { Err(format!("{resource:?}")) }
    });
    (seen.expect("its pacing is shown"), began.elapsed())
}

fn cluster() -> (Cluster, Vec<u8>) {
    let options = ClusterOptions {
        disk_bytes: [64 * MIB; 2],
        network: NetworkKind::Namespaces,
        exclusive: true,
        ..ClusterOptions::default()
    };
    let cluster = Cluster::with_primary(&options);
    let data = rep_tests::random::bytes(8, DATA as usize);
    cluster.alpha.write(0, &data);
    cluster.network.slow(MEGABITS_PER_S);
    (cluster, data)
}

/// A client at work at alpha, without the resync this begins and with it.
fn yields(cluster: &Cluster, what: &str, begin: impl Fn()) {
    let client = Client::start(cluster.alpha.address());
    std::thread::sleep(Duration::from_secs(3));
    tell(&format!("{what}: without it"), client.stop());
    let client = Client::start(cluster.alpha.address());
    std::thread::sleep(Duration::from_secs(1));
    begin();
    let (pacing, took) = watch(&cluster.alpha);
    let waits = client.stop();
    println!("{what}: {DATA} bytes in {took:?}; {pacing:?}");
    tell(&format!("{what}: with it"), waits);
    assert!(pacing.yields > 0, "{what}: it had the link for itself: {pacing:?}");
}

fn ends_well(cluster: &Cluster, data: &[u8]) {
    cluster.alpha.wait_in_sync();
    cluster.beta.wait_in_sync();
    assert!(cluster.alpha.read(0, data.len()) == data, "what nobody wrote anew is what it was");
    let read = cluster.alpha.read(CLIENT.start, (CLIENT.end - CLIENT.start) as usize);
    for (block, bytes) in read.chunks(BLOCK).enumerate() {
        assert!(bytes == filled(block as u64) || bytes.iter().all(|byte| *byte == 0), "block {block} of the client's");
    }
    cluster.assert_identical();
}

#[test]
fn who_fill_the_peer_and_use_an_idle_link_fully() {
    let (cluster, data) = cluster();
    yields(&cluster, "alpha fills beta", || drop(cluster.alpha.ok("resync --full --from alpha")));
    ends_well(&cluster, &data);
    cluster.alpha.ok("resync --full --from alpha");
    cluster.alpha.wait_until("it isn't held", SOON, |resource| {
        let pacing = resource.volume().resync.as_ref().and_then(|resync| resync.pacing);
        pacing.is_some_and(|pacing| pacing.limit_bytes_per_s.is_none() && !pacing.measuring)
    });
    let (_, took) = watch(&cluster.alpha);
    println!("without clients: {DATA} bytes in {took:?}");
    ends_well(&cluster, &data);
}

#[test]
fn whose_own_node_is_filled() {
    let (cluster, data) = cluster();
    yields(&cluster, "alpha is filled", || drop(cluster.alpha.ok("invalidate")));
    ends_well(&cluster, &data);
}
