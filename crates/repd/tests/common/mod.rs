//! Two data threads in one process, on files, linked over loopback: everything between the control thread's interface
//! and the sockets is real.

use rep_disk::{BlockingStorage, Disk};
use rep_engine::{Command, CommandError, CommandOutcome, EngineConfig};
use rep_meta::{CreateParameters, Identity, Placement, create};
use rep_nbd::blocking_client::BlockingClient;
use rep_nbd::client::ClientOptions;
use rep_types::{ConnectionState, DiskState, NodeName, ResourceName, VolumeNumber};
use repd::resource::{
    AttachError, ControlRequest, DeviceOptions, MetaPlacement, ResourceHandle, ResourceOptions, ResourceReport,
    VolumeOptions, spawn,
};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

pub const VOLUME: VolumeNumber = VolumeNumber(0);
const PATIENCE: Duration = Duration::from_secs(20);

/// What a node is made of, running or not.
pub struct Node {
    pub name: &'static str,
    peer: &'static str,
    pub disk: PathBuf,
    pub socket: PathBuf,
    address: SocketAddr,
    peer_address: SocketAddr,
    running: Option<(ResourceHandle, JoinHandle<()>)>,
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("its address")
}

fn identity(name: &str) -> Identity {
    Identity {
        resource: ResourceName::new("vz").expect("a name"),
        node: NodeName::new(name).expect("a name"),
        volume: VOLUME,
    }
}

/// Two nodes with fresh metadata on disks of `size_bytes`.
pub fn pair(directory: &tempfile::TempDir, size_bytes: u64) -> [Node; 2] {
    // RUST_LOG=trace shows every event and every action.
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
    let address = free_address();
    [("alpha", "beta"), ("beta", "alpha")].map(|(name, peer)| {
        let disk = directory.path().join(format!("{name}.disk"));
        std::fs::File::create(&disk).and_then(|file| file.set_len(size_bytes)).expect("a file");
        let socket = directory.path().join(format!("{name}.sock"));
        let node = Node { name, peer, disk, socket, address, peer_address: address, running: None };
        node.create_metadata();
        node
    })
}

impl Node {
    pub fn create_metadata(&self) {
        let mut disk = Disk::open(&self.disk, 0, PATIENCE).expect("open");
        let device_bytes = disk.facts.size_bytes;
        let mut storage = BlockingStorage::new(&mut disk).expect("memory");
        let parameters = CreateParameters {
            identity: identity(self.name),
            device_uuid: 7,
            placement: Placement::Internal,
            device_bytes,
            options: Default::default(),
            bitmap: Default::default(),
        };
        create(&mut storage, &parameters).expect("metadata");
    }

    pub fn start(&mut self) {
        let options = ResourceOptions {
            name: ResourceName::new("vz").expect("a name"),
            node: NodeName::new(self.name).expect("a name"),
            peer: NodeName::new(self.peer).expect("a name"),
            engine: EngineConfig::new(true, 0),
            secret: None,
            listen: if self.name == "beta" { self.address } else { free_address() },
            peer_address: self.peer_address,
            connect_interval: Duration::from_millis(300),
            volumes: vec![VolumeOptions {
                number: VOLUME,
                disk: self.disk.clone(),
                meta: MetaPlacement::Internal,
                device: DeviceOptions::NbdUnix(self.socket.clone()),
                listen_fd: None,
            }],
            archive_dir: None,
            memory_bytes_max: 0,
        };
        self.running = Some(spawn(options).expect("a data thread"));
    }

    /// Where the node that listens does so.
    #[allow(dead_code)] // not every test has something in between
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next start dials this address instead.
    #[allow(dead_code)] // as above
    pub fn reach_peer_at(&mut self, address: SocketAddr) {
        self.peer_address = address;
    }

    fn handle(&self) -> &ResourceHandle {
        &self.running.as_ref().expect("a running node").0
    }

    pub fn try_command(&self, command: Command) -> Result<CommandOutcome, CommandError> {
        let (reply, answer) = oneshot::channel();
        self.handle().request(ControlRequest::Command { command, deadline: PATIENCE, reply });
        answer.blocking_recv().expect("the thread lives")
    }

    pub fn command(&self, command: Command) {
        let result = self.try_command(command.clone());
        assert!(result.is_ok(), "{}: {command:?}: {result:?}: {:#?}", self.name, self.report());
    }

    pub fn attach(&self) -> Result<(), AttachError> {
        let (reply, answer) = oneshot::channel();
        self.handle().request(ControlRequest::Attach { volume: VOLUME, deadline: PATIENCE, reply });
        answer.blocking_recv().expect("the thread lives")
    }

    pub fn report(&self) -> Box<ResourceReport> {
        let (reply, answer) = oneshot::channel();
        self.handle().request(ControlRequest::Snapshot { reply });
        answer.blocking_recv().expect("the thread lives")
    }

    /// Starts, attaches, and wants a connection.
    pub fn up(&mut self) {
        self.start();
        self.attach().expect("attach");
        self.command(Command::Connect { discard_my_data: false });
    }

    pub fn stop(&mut self) -> Result<CommandOutcome, CommandError> {
        let (handle, thread) = self.running.take().expect("a running node");
        let (reply, answer) = oneshot::channel();
        handle.request(ControlRequest::Stop { deadline: PATIENCE, devices_left: false, reply });
        let result = answer.blocking_recv().expect("the thread lives");
        thread.join().expect("no panic");
        result
    }

    pub fn client(&self) -> BlockingClient<UnixStream> {
        let stream = UnixStream::connect(&self.socket).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        BlockingClient::connect(stream, ClientOptions::new("vz")).expect("negotiation")
    }

    #[allow(dead_code)] // not every test reads
    pub fn read(client: &mut BlockingClient<UnixStream>, offset: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0xEE; length];
        client.read(offset, &mut bytes).expect("read");
        bytes
    }

    /// The data on this node's disk, as far as the volume goes.
    #[allow(dead_code)] // not every test compares
    pub fn data(&self, size_bytes: u64) -> Vec<u8> {
        let mut bytes = std::fs::read(&self.disk).expect("read");
        bytes.truncate(size_bytes as usize);
        bytes
    }
}

pub fn wait_for(what: &str, nodes: &[&Node], mut done: impl FnMut(&[Box<ResourceReport>]) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let reports: Vec<_> = nodes.iter().map(|node| node.report()).collect();
        if done(&reports) {
            return;
        }
        assert!(Instant::now() < deadline, "not in time: {what}: {reports:#?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Until both are connected and hold the same data.
pub fn wait_in_sync(nodes: [&Node; 2]) {
    wait_for("in sync", &nodes, |reports| {
        reports.iter().all(|report| {
            let volume = &report.engine.volumes[0];
            report.engine.connection == ConnectionState::Connected
                && volume.disk == DiskState::UpToDate
                && volume.peer_disk == DiskState::UpToDate
                && volume.out_of_sync_bytes == 0
        })
    });
}
