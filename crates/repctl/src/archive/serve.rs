//! `archive serve`: the victim's view over NBD, read-only, on a unix socket for its owner, until interrupted.

use super::{file_failed, view};
use crate::Failure;
use crate::cli::ArchiveFile;
use crate::output::{print, tell};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::{Mode, umask};
use rep_archive::View;
use rep_control::api::ApiError;
use rep_nbd::{
    Command, Export, ExportCatalog, ExportFeatures, ExportId, FastZero, Frame, NbdError, Negotiated, Negotiation,
    NegotiationStep, Parsed, Request, TlsPolicy, Transmission,
};
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Clients at a time. Each may have an answer of the longest read in memory.
const CLIENTS_MAX: usize = 8;
/// How long a client may take to choose the export.
const NEGOTIATION_TIME_MAX: Duration = Duration::from_secs(10);
/// What is received at a time, in bytes.
const RECEIVE_BYTES: usize = 64 << 10;

/// What every client is served from.
struct Server {
    view: Mutex<View>,
    export: Export,
    catalog: ExportCatalog,
    clients: AtomicUsize,
}

pub fn run(file: &ArchiveFile, listen: &Path) -> Result<(), Failure> {
    let view = view(file)?;
    let export = export(&view)?;
    let catalog = ExportCatalog::new(vec![export.clone()], Some(export.id()));
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
    // Before any other thread starts, so that each leaves these signals to this one.
    let _ = signals.thread_block();
    let listener = bind(listen)?;
    let head = view.archive().head().clone();
    let server = Arc::new(Server { view: Mutex::new(view), export, catalog, clients: AtomicUsize::new(0) });
    std::thread::spawn(move || server.accept(&listener));
    let said = print(&format!(
        "what {} held of {}/{} is served, read-only, until interrupted: nbd+unix:///?socket={}\n",
        head.node,
        head.resource,
        head.volume,
        listen.display()
    ));
    if said.is_ok() {
        let _ = signals.wait();
    }
    let _ = std::fs::remove_file(listen);
    said
}

fn export(view: &View) -> Result<Export, Failure> {
    let head = view.archive().head();
    let name = format!("{}/{}", head.resource, head.volume);
    let features = ExportFeatures {
        read_only: true,
        volatile_cache: false,
        trim: false,
        fast_zero: FastZero::NotOffered,
        multi_conn: true,
        block_status: false,
    };
    let export = Export::new(ExportId(0), &name, view.size_bytes(), 512)
        .and_then(|export| export.with_description(&format!("what {} held before it was given up", head.node)));
    export
        .map(|export| export.with_features(features))
        .map_err(|error| ApiError::failed("NotServed", error.to_string()).into())
}

/// A socket for its owner alone; one that a killed server left behind is taken over.
fn bind(path: &Path) -> Result<UnixListener, Failure> {
    let left_behind = UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    if left_behind {
        let _ = std::fs::remove_file(path);
    }
    let before = umask(Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(path);
    umask(before);
    listener.map_err(|error| file_failed("SocketNotBound", path, &error))
}

impl Server {
    fn accept(self: Arc<Self>, listener: &UnixListener) {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { continue };
            let server = self.clone();
            if server.clients.fetch_add(1, Ordering::Relaxed) >= CLIENTS_MAX {
                server.clients.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            std::thread::spawn(move || {
                if let Err(error) = server.serve(stream) {
                    tell(format_args!("repctl: a client was hung up on: {error}"));
                }
                server.clients.fetch_sub(1, Ordering::Relaxed);
            });
        }
    }

    fn serve(&self, mut stream: UnixStream) -> io::Result<()> {
        stream.set_read_timeout(Some(NEGOTIATION_TIME_MAX))?;
        stream.write_all(&Negotiation::greeting())?;
        let mut received = Received { bytes: vec![0; RECEIVE_BYTES], from: 0, to: 0 };
        let Some(negotiated) = self.negotiate(&mut stream, &mut received)? else { return Ok(()) };
        stream.set_read_timeout(None)?;
        let mut transmission = Transmission::new(&self.export, &negotiated);
        loop {
            let mut input = received.rest();
            let before = input.len();
            let parsed = transmission.next(&mut input);
            let taken = before - input.len();
            match parsed {
                Parsed::NeedMore => {
                    if !received.receive(&mut stream)? {
                        return Ok(());
                    }
                    continue;
                }
                Parsed::Request(request) => self.answer(&mut stream, &request, transmission.structured())?,
                Parsed::Reject { frame, .. } => stream.write_all(frame.encode().as_ref())?,
                Parsed::Disconnect => return Ok(()),
                Parsed::Broken(error) => return Err(io::Error::other(error)),
                // A read-only export has no legal write.
                Parsed::Write(_) | Parsed::Payload { .. } => return Err(io::ErrorKind::InvalidData.into()),
            }
            received.from += taken;
        }
    }

    fn negotiate(&self, stream: &mut UnixStream, received: &mut Received) -> io::Result<Option<Negotiated>> {
        let mut negotiation = Negotiation::new(TlsPolicy::Off);
        loop {
            let mut input = received.rest();
            let (before, mut out) = (input.len(), Vec::new());
            let step = negotiation.receive(&self.catalog, &mut input, &mut out);
            received.from += before - input.len();
            stream.write_all(&out)?;
            match step {
                NegotiationStep::NeedMore if received.receive(stream)? => {}
                NegotiationStep::NeedMore | NegotiationStep::Aborted => return Ok(None),
                NegotiationStep::Replied => {}
                NegotiationStep::Transmission(negotiated) => return Ok(Some(negotiated)),
                NegotiationStep::StartTls => return Err(io::ErrorKind::InvalidData.into()),
                NegotiationStep::Failed(error) => return Err(io::Error::other(error)),
            }
        }
    }

    fn answer(&self, stream: &mut UnixStream, request: &Request, structured: bool) -> io::Result<()> {
        let cookie = request.cookie;
        let Command::Read { .. } = request.command else {
            // Flushes and hints: there is nothing to do.
            return stream.write_all(Frame::Simple { cookie, result: Ok(()) }.encode().as_ref());
        };
        let (offset, length) = (request.range.offset, request.range.length);
        let mut data = vec![0; length as usize];
        let read = self.view.lock().unwrap_or_else(PoisonError::into_inner).read_at(offset, &mut data);
        if let Err(error) = read {
            tell(format_args!("repctl: a read of {length} bytes at {offset} failed: {error}"));
            let frame = match structured {
                true => Frame::Error { cookie, error: NbdError::Io, message: "the archive or its base can't be read" },
                false => Frame::Simple { cookie, result: Err(NbdError::Io) },
            };
            return stream.write_all(frame.encode().as_ref());
        }
        let frame = match structured {
            true => Frame::Data { cookie, offset, length, done: true },
            false => Frame::Simple { cookie, result: Ok(()) },
        };
        stream.write_all(frame.encode().as_ref())?;
        stream.write_all(&data)
    }
}

/// Bytes received and not taken yet.
struct Received {
    bytes: Vec<u8>,
    from: usize,
    to: usize,
}

impl Received {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.from..self.to]
    }

    /// Receives more, once everything has been taken; false: the client has gone.
    fn receive(&mut self, stream: &mut UnixStream) -> io::Result<bool> {
        self.from = 0;
        self.to = stream.read(&mut self.bytes)?;
        Ok(self.to > 0)
    }
}
