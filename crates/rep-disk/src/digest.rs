//! Digests of blocks: what tells two disks' blocks apart without sending them.

use rep_types::{BLOCK_SIZE, DIGEST_LENGTH, DigestKey};

/// The digest of each block of `bytes`, one after another: the first `DIGEST_LENGTH` bytes of its BLAKE3 under this
/// key. The last block may be shorter than the others.
pub fn block_digests(bytes: &[u8], key: &DigestKey) -> Vec<u8> {
    let mut digests = Vec::with_capacity(bytes.len().div_ceil(BLOCK_SIZE as usize) * DIGEST_LENGTH);
    for block in bytes.chunks(BLOCK_SIZE as usize) {
        digests.extend_from_slice(&blake3::keyed_hash(key, block).as_bytes()[..DIGEST_LENGTH]);
    }
    digests
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_differ_by_their_bytes_their_length_and_the_key() {
        let mut bytes = vec![7; 3 * BLOCK_SIZE as usize + 512];
        let digests = block_digests(&bytes, &[1; 32]);
        assert_eq!(digests.len(), 4 * DIGEST_LENGTH);
        let of = |digests: &[u8], block: usize| digests[block * DIGEST_LENGTH..][..DIGEST_LENGTH].to_vec();
        assert_eq!(of(&digests, 0), of(&digests, 2));
        assert_ne!(of(&digests, 0), of(&digests, 3), "a shorter block");
        bytes[BLOCK_SIZE as usize] = 8;
        let changed = block_digests(&bytes, &[1; 32]);
        assert_ne!(of(&changed, 1), of(&digests, 1));
        assert_eq!(of(&changed, 2), of(&digests, 2));
        assert_ne!(block_digests(&bytes, &[2; 32]), changed, "another key");
    }
}
