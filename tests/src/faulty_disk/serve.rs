//! The disk's side: each request meets the faults that are set, then the content.

use super::fuse::{self, Ask};
use super::{Operations, Shared, State};
use nix::errno::Errno;
use nix::libc;
use std::fs::File;
use std::time::Duration;

/// Serves requests until the mount is gone.
pub(super) fn serve(device: &File, shared: &Shared) {
    let mut buffer = vec![0; fuse::REQUEST_MAX];
    while let Some((request, payload)) = fuse::next(device, &mut buffer) {
        if request.ask == Ask::Silent {
            continue;
        }
        let result = meet_faults(shared, request.ask).and_then(|()| done(shared, request.ask, payload));
        match &result {
            Ok(body) => fuse::answer(device, request, Ok(body)),
            Err(errno) => fuse::answer(device, request, Err(*errno)),
        }
    }
}

fn kind(ask: Ask) -> Option<Operations> {
    match ask {
        Ask::Read { .. } => Some(Operations::Reads),
        Ask::Write { .. } | Ask::Allocate { .. } => Some(Operations::Writes),
        Ask::Flush => Some(Operations::Flushes),
        _ => None,
    }
}

/// Waits and fails as the faults say. What isn't I/O is never met.
fn meet_faults(shared: &Shared, ask: Ask) -> Result<(), Errno> {
    let Some(kind) = kind(ask) else { return Ok(()) };
    let delay = shared.state().faults.delay;
    if delay > Duration::ZERO {
        std::thread::sleep(delay);
    }
    let mut state = shared.state();
    while state.faults.hung {
        state = shared.changed.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
    }
    match &mut state.faults.failing {
        Some((which, errno, left)) if *left > 0 && (*which == kind || *which == Operations::All) => {
            *left -= 1;
            Err(*errno)
        }
        _ => Ok(()),
    }
}

fn done(shared: &Shared, ask: Ask, payload: &[u8]) -> Result<Vec<u8>, Errno> {
    let State { content, faults } = &mut *shared.state();
    match ask {
        Ask::Init => Ok(fuse::init().to_vec()),
        Ask::Attributes => Ok(fuse::attributes(content.len()).to_vec()),
        Ask::Open => Ok(fuse::open().to_vec()),
        Ask::Statistics => Ok(fuse::statistics().to_vec()),
        Ask::Nod => Ok(Vec::new()),
        Ask::Read { at, length } => {
            // A read beyond the end is short, as from any file.
            let length = u64::from(length).min(content.len().saturating_sub(at));
            content.read(at, length as usize).map(<[u8]>::to_vec).ok_or(Errno::EIO)
        }
        Ask::Write { at } => {
            content.write(at, payload).ok_or(Errno::ENOSPC)?;
            Ok(fuse::written(payload.len()).to_vec())
        }
        Ask::Flush => {
            if !faults.lies {
                content.flush();
            }
            Ok(Vec::new())
        }
        Ask::Allocate { at, length, mode } => {
            let zeroes = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_ZERO_RANGE;
            if mode & zeroes == 0 {
                return Err(Errno::EOPNOTSUPP);
            }
            content.zero(at, length).ok_or(Errno::ENOSPC)?;
            Ok(Vec::new())
        }
        Ask::Silent | Ask::Unknown => Err(Errno::ENOSYS),
    }
}
