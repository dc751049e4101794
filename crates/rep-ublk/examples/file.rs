//! The port by itself: a file as a block device, one request at a time. Not a product: it shows what a data path has
//! to do, and tells in the lab whether a kernel's driver and this crate understand each other.
//!
//! `file PATH`: makes a device over the file or takes over the one an earlier run left behind, prints `ready N`, and
//! serves until it is killed, or until its standard input ends: then the device is removed.

mod common;

use io_uring::IoUring;
use rep_types::IoError;
use rep_ublk::lifecycle::{self, DeviceOptions, Prepared};
use rep_ublk::{Device, DeviceLimits, Fingerprint, Operation, Request, Tag, errno_of, limits};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

static ENDING: AtomicBool = AtomicBool::new(false);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: file PATH")?;
    let file = File::options().read(true).write(true).open(&path)?;
    let size_bytes = file.metadata()?.len();
    let options = DeviceOptions {
        fingerprint: Fingerprint::new("example", &path, 0),
        limits: DeviceLimits { size_bytes, logical_block_bytes: 512, volatile_cache: true, discards: true },
        queues: 2,
        depth: limits::QUEUE_DEPTH,
    };
    let Prepared { device, origin, .. } = lifecycle::prepare(&options)?;
    let id = device.id();
    common::live_until_input_ends(id, origin, || ENDING.store(true, Ordering::Relaxed));
    serve(&device, &file, size_bytes)?;
    drop(device);
    lifecycle::delete(id)?;
    println!("removed {id}");
    Ok(())
}

fn serve(device: &Device, file: &File, size_bytes: u64) -> io::Result<()> {
    let mut ring = IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(512)?;
    let mut waiting = 0;
    let mut buffer = vec![0; limits::ZERO_BYTES_MAX as usize];
    let push = |ring: &mut IoUring, entry: io_uring::squeue::Entry, tag: Tag| {
        let entry = entry.user_data(u64::from(tag.queue) << 16 | u64::from(tag.tag));
        // SAFETY: fetches and commits name no memory, and the device lives until all have come back.
        while unsafe { ring.submission().push(&entry) }.is_err() {
            let _ = ring.submit();
        }
    };
    for tag in device.tags() {
        push(&mut ring, device.fetch(tag), tag);
        waiting += 1;
    }
    while waiting > 0 {
        ring.submit_and_wait(1)?;
        let completions: Vec<_> = ring.completion().collect();
        for completion in completions {
            let tag = Tag { queue: (completion.user_data() >> 16) as u16, tag: completion.user_data() as u16 };
            if completion.result() != 0 {
                waiting -= 1;
                if !ENDING.load(Ordering::Relaxed) {
                    eprintln!("{tag:?} ended with {}", completion.result());
                }
                continue;
            }
            let result = match Request::parse(&device.descriptor(tag), size_bytes) {
                Ok(request) => answer(device, file, tag, &request, &mut buffer),
                Err(fault) => -fault.errno(),
            };
            push(&mut ring, device.commit(tag, result), tag);
        }
    }
    Ok(())
}

fn answer(device: &Device, file: &File, tag: Tag, request: &Request, buffer: &mut [u8]) -> i32 {
    let data = &mut buffer[..request.range.length as usize];
    let offset = request.range.offset;
    let done = match request.operation {
        Operation::Read => file.read_exact_at(data, offset).and_then(|()| device.give_data(tag, data)),
        Operation::Write { .. } => device.take_data(tag, data).and_then(|()| file.write_all_at(data, offset)),
        Operation::Zero { .. } => {
            data.fill(0);
            file.write_all_at(data, offset)
        }
        Operation::Flush => file.sync_data(),
    };
    done.map_or(-errno_of(IoError::Io), |()| request.done())
}
