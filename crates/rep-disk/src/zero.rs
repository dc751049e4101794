//! Zeroes: telling whether bytes are all zero, and memory that is.

use nix::libc;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use std::num::NonZeroUsize;
use std::sync::OnceLock;

/// Bytes of [`zeroes`].
pub(crate) const ZEROES_LENGTH: usize = 1 << 20;

/// Whether every byte is zero. Ends early at the first that isn't, and runs at memory speed otherwise.
pub fn is_all_zero(bytes: &[u8]) -> bool {
    // SAFETY: every bit pattern of 16 bytes is a `u128`.
    let (head, middle, tail) = unsafe { bytes.align_to::<u128>() };
    let edges = head.iter().chain(tail).all(|byte| *byte == 0);
    edges && middle.chunks(16).all(|chunk| chunk.iter().fold(0, |all, word| all | word) == 0)
}

/// Memory full of zeroes for the life of the process, aligned for direct I/O. All its pages are the kernel's one
/// page of zeroes: it costs nothing. `None`: no address space is left.
pub(crate) fn zeroes() -> Option<*const u8> {
    static ZEROES: OnceLock<Option<usize>> = OnceLock::new();
    let address = ZEROES.get_or_init(|| {
        let length = NonZeroUsize::new(ZEROES_LENGTH)?;
        // SAFETY: a new read-only anonymous mapping at an address of the kernel's choice; it is never unmapped.
        let memory = unsafe { mmap_anonymous(None, length, ProtFlags::PROT_READ, MapFlags::MAP_PRIVATE) }.ok()?;
        Some(memory.as_ptr().cast::<libc::c_void>() as usize)
    });
    address.map(|address| address as *const u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_set_bit_anywhere_is_seen() {
        let mut bytes = vec![0u8; 5000];
        assert!(is_all_zero(&bytes));
        assert!(is_all_zero(&[]));
        for at in [0, 1, 15, 16, 17, 255, 256, 4095, 4999] {
            bytes[at] = 1;
            assert!(!is_all_zero(&bytes));
            assert!(!is_all_zero(&bytes[at..]));
            bytes[at] = 0;
        }
    }
}
