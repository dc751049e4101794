//! What the codec allocates: nothing for hot messages, and never by a length that only the wire claims.

mod support;

use rep_wire::limits::HEADER_LENGTH;
use rep_wire::{FrameReader, FrameWriter, Message, Parsed, PayloadSum};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use support::{SESSION, crc_of, frame_of, hot_samples};

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, counting per thread.
struct Counting;

// SAFETY: every call goes to the system's allocator unchanged; the counters are plain thread-local cells that neither
// allocate nor have destructors.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        LARGEST.set(LARGEST.get().max(layout.size()));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`; the pointer came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How many allocations, and the largest of them.
fn allocations(work: impl FnOnce()) -> (usize, usize) {
    COUNT.set(0);
    LARGEST.set(0);
    work();
    (COUNT.get(), LARGEST.get())
}

#[test]
fn the_counter_counts() {
    let (count, largest) = allocations(|| drop(std::hint::black_box(vec![0u8; 12345])));
    assert!(count == 1 && largest == 12345, "{count} {largest}");
}

#[test]
fn hot_messages_allocate_nothing_in_either_direction() {
    let messages = hot_samples();
    let mut out = Vec::with_capacity(4096);
    let (count, _) = allocations(|| {
        let mut writer = FrameWriter::new(1, SESSION, PayloadSum::Crc32);
        for (_, message) in &messages {
            writer.encode(message, 7, &mut out).expect("legal");
        }
    });
    assert_eq!(count, 0, "encoding");
    let (count, _) = allocations(|| {
        let (mut reader, mut rest) = (FrameReader::new(1, SESSION, PayloadSum::Crc32), out.as_slice());
        for (name, message) in &messages {
            let Ok(Parsed::Frame(frame)) = reader.parse(rest) else { panic!("{name}") };
            assert_eq!(&frame.message, message);
            rest = &rest[frame.consumed..];
        }
    });
    assert_eq!(count, 0, "decoding");
}

/// Control bodies whose lists claim to be as long as can be said, behind right CRCs.
#[test]
fn lengths_claimed_by_control_messages_allocate_no_more_than_a_mebibyte() {
    let header = frame_of(&Message::Ping { id: rep_wire::TransferId(0) })[..HEADER_LENGTH].to_vec();
    let claims: [&[u8]; 3] =
        [&[0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f], &[0xfc, 0xff, 0xff, 0xff, 0x7f], &[250]];
    for number in 0..=30u8 {
        for claim in claims {
            for place in 0..12 {
                let body = [&[number], [1u8; 12][..place].as_ref(), claim, &[1u8; 64]].concat();
                let mut frame = header.clone();
                frame[6] = 32;
                frame[8..12].copy_from_slice(&(body.len() as u32).to_le_bytes());
                frame[36..40].copy_from_slice(&crc_of(&body).to_le_bytes());
                let crc = crc_of(&frame[..44]);
                frame[44..48].copy_from_slice(&crc.to_le_bytes());
                frame.extend_from_slice(&body);
                let (_, largest) = allocations(|| drop(FrameReader::new(1, SESSION, PayloadSum::Crc32).parse(&frame)));
                assert!(largest <= 1 << 20, "{largest} bytes for control message {number}");
            }
        }
    }
}

#[test]
fn an_opening_allocates_little_whatever_it_is_sent() {
    for byte in 0..=255u8 {
        let mut data = vec![byte; 4096];
        data[1..5].copy_from_slice(b"REPO");
        let (_, largest) = allocations(|| rep_wire::fuzz_opening(&data));
        assert!(largest <= 1024, "{largest}");
    }
}
