//! What a data thread does while memory is short (R36): it runs in real time.
//!
//! The kernel keeps the last of its memory (`vm.min_free_kbytes`) for those without whom none would come free. A thread that
//! writes back for it gets none of that: when it needs a page to send a write to the peer, and all memory but the reserve waits
//! to be written to this daemon's own device, it looks for a page for ever, and the device stands still. A thread that runs
//! in real time may take half of the reserve, and then writes, and so frees the rest.
//!
//! It must not be at the cost of others: so it does only while little is left that could be had without writing. A
//! watch looks at that several times a second, long before there is none, since a thread that already looks for a page isn't helped any more.
//! Meanwhile nobody looks for news without sleeping (decision 36).

use crate::scheduling;
use nix::errno::Errno;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// What is looked at.
const MEMINFO: &str = "/proc/meminfo";
/// More than the kernel tells there; what counts stands in the first half.
const MEMINFO_BYTES_MAX: usize = 4096;
/// How often. Programs take some 100 MiB in that time.
const INTERVAL: Duration = Duration::from_millis(50);
/// Memory is short when less than one in so many bytes can be had without writing,
const SHORT_PART: u64 = 8;
/// or less than this, in KiB: enough for whatever programs take between two looks.
const SHORT_KIB_MAX: u64 = 4 << 20;
/// It stays short for so long after that.
const LINGER: Duration = Duration::from_secs(5);

/// What the watch saw last.
static SHORT: AtomicBool = AtomicBool::new(false);

/// Whether memory is short.
pub fn is_short() -> bool {
    SHORT.load(Ordering::Relaxed)
}

/// Starts the watch, once for the process; whether threads may run in real time. Takes `CAP_SYS_NICE`, or a limit
/// `RLIMIT_RTPRIO` of 1.
pub fn watch() -> Result<(), Errno> {
    static STARTED: OnceLock<Result<(), Errno>> = OnceLock::new();
    *STARTED.get_or_init(|| {
        let errno = |error| Errno::try_from(error).unwrap_or(Errno::EIO);
        let file = File::open(MEMINFO).map_err(errno)?;
        let (tell, told) = std::sync::mpsc::channel();
        let watching = std::thread::Builder::new().name("shortage".to_owned()).spawn(move || {
            // Itself always: it must see that there is no shortage any more.
            let may = scheduling::in_real_time();
            let _ = tell.send(may);
            if may.is_ok() {
                look_on(&file);
            }
        });
        watching.map_err(errno)?;
        told.recv().unwrap_or(Err(Errno::EIO))
    })
}

/// Looks at the memory for as long as the process lives.
fn look_on(file: &File) {
    let mut watch = Watch::default();
    let mut buffer = [0; MEMINFO_BYTES_MAX];
    loop {
        let read = file.read_at(&mut buffer, 0);
        match read.ok().and_then(|length| Memory::parse(buffer.get(..length)?)) {
            Some(memory) => tell(watch.look(memory, Instant::now()), memory),
            // What can't be known is taken for the worse; the next look may know.
            None => SHORT.store(true, Ordering::Relaxed),
        }
        std::thread::sleep(INTERVAL);
    }
}

fn tell(short: bool, memory: Memory) {
    if SHORT.swap(short, Ordering::Relaxed) == short {
        return;
    }
    let left = memory.left_kib >> 10;
    if short {
        warn!(
            "memory is short, {left} MiB can be had without writing: data threads run in real time until there is more"
        );
    } else {
        info!("memory isn't short any more, {left} MiB can be had without writing");
    }
}

/// The machine's memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Memory {
    total_kib: u64,
    /// What can be had without writing to a disk.
    left_kib: u64,
}

impl Memory {
    /// From what the kernel tells; `None` where it doesn't.
    fn parse(text: &[u8]) -> Option<Memory> {
        let text = std::str::from_utf8(text).ok()?;
        let kib = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.trim().strip_suffix(" kB")?.parse::<u64>().ok()
        };
        // The kernel counts as available what is in its page cache, whether it has to be written first or not.
        let unwritten = kib("Dirty")?.checked_add(kib("Writeback")?)?;
        Some(Memory { total_kib: kib("MemTotal")?, left_kib: kib("MemAvailable")?.saturating_sub(unwritten) })
    }

    fn is_short(self) -> bool {
        self.left_kib < (self.total_kib / SHORT_PART).min(SHORT_KIB_MAX)
    }
}

/// What was seen.
#[derive(Debug, Default)]
struct Watch {
    /// Until then it counts as short, whatever is seen.
    short_until: Option<Instant>,
}

impl Watch {
    /// Whether memory counts as short.
    fn look(&mut self, memory: Memory, now: Instant) -> bool {
        if memory.is_short() {
            self.short_until = Some(now + LINGER);
        }
        self.short_until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "MemTotal:        2021708 kB\nMemFree:           52688 kB\nMemAvailable:     400000 kB\n\
                        Cached:           334596 kB\nDirty:             38912 kB\nWriteback:         61088 kB\n\
                        WritebackTmp:          7 kB\n";

    fn memory(left_kib: u64) -> Memory {
        Memory { total_kib: 2_000_000, left_kib }
    }

    #[test]
    fn what_waits_to_be_written_is_not_there_to_be_had() {
        assert_eq!(Memory::parse(TEXT.as_bytes()), Some(Memory { total_kib: 2_021_708, left_kib: 300_000 }));
        let drowned = TEXT.replace("Dirty:             38912", "Dirty:            900000");
        assert_eq!(Memory::parse(drowned.as_bytes()).map(|memory| memory.left_kib), Some(0));
    }

    #[test]
    fn what_the_kernel_does_not_tell_is_not_guessed() {
        for missing in ["MemTotal", "MemAvailable", "Dirty:", "Writeback:"] {
            assert_eq!(Memory::parse(TEXT.replace(missing, "Other").as_bytes()), None, "{missing}");
        }
        assert_eq!(Memory::parse(TEXT.replace(" 38912 kB", " 18446744073709551615 kB").as_bytes()), None);
        assert_eq!(Memory::parse(&[0xff; 4096]), None);
        assert_eq!(Memory::parse(b""), None);
    }

    #[test]
    fn this_machine_s_memory_is_understood() {
        let text = std::fs::read(MEMINFO).expect("the kernel's file");
        let memory = Memory::parse(&text[..text.len().min(MEMINFO_BYTES_MAX)]).expect("understood");
        assert!(memory.left_kib <= memory.total_kib && memory.total_kib > 0, "{memory:?}");
    }

    #[test]
    fn a_large_machine_is_not_short_of_a_large_part() {
        assert!(memory(249_999).is_short() && !memory(250_000).is_short());
        let large = |left_kib| Memory { total_kib: 512 << 20, left_kib };
        assert!(large((4 << 20) - 1).is_short() && !large(4 << 20).is_short());
    }

    #[test]
    fn a_shortage_lingers() {
        let (mut watch, now) = (Watch::default(), Instant::now());
        assert!(!watch.look(memory(1_000_000), now));
        assert!(watch.look(memory(1000), now));
        assert!(watch.look(memory(1_000_000), now + LINGER / 2));
        assert!(watch.look(memory(1000), now + LINGER / 2));
        assert!(watch.look(memory(1_000_000), now + LINGER), "it was seen again");
        assert!(!watch.look(memory(1_000_000), now + LINGER * 2));
    }
}
