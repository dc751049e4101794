//! Planted bugs: the test of the test. Behind the feature `planted-bugs`, which no shipped build enables, the true code
//! has a place for each of these, and one of them at a time is made real by name. The simulator must catch every one.
//!
//! Without the feature `planted!` is the constant `false`, and nothing of this is in the program.

/// Whether this bug has been planted.
#[macro_export]
macro_rules! planted {
    ($name:literal) => {{
        const BUG: usize = $crate::planted::index_of($name);
        $crate::planted::is_chosen(BUG)
    }};
}

macro_rules! bugs {
    ($($name:literal: $what:literal,)*) => {
        /// Each bug: its name, and what it does.
        pub const BUGS: &[(&str, &str)] = &[$(($name, $what),)*];
    };
}

bugs! {
    // ---- the write path ----
    "answer-before-peer": "a write is answered when the local disk has it",
    "answer-before-disk": "a write is answered when the peer has it",
    "no-overlap-check": "overlapping requests run side by side",
    "lone-write-unmarked": "a write the peer doesn't get is not marked",
    "lone-write-without-generation": "writing alone starts no generation",
    "answer-not-held": "answers don't wait until a loss is recorded",
    "inconsistent-disk-counts": "a write on an Inconsistent disk alone is a success",
    "read-inconsistent": "reads come from blocks not resynced yet",
    "zero-not-mirrored": "discards aren't sent to the peer",
    // ---- block sizes ----
    "blocks-not-agreed": "clients are offered the blocks of the Primary's disk, whatever the peer's needs",
    "blocks-not-remembered": "what a handshake finds of the disks' blocks isn't recorded",
    "blocks-grow-in-use": "a disk with larger blocks than clients know of is joined",
    "size-not-whole-blocks": "the volume's size isn't cut to whole blocks",
    // ---- the activity log ----
    "skip-log-write": "writes go to cold extents",
    "forget-hot-extents": "an attach after a crash marks nothing",
    "evict-before-bitmap": "an extent leaves the log before its bits are durable",
    "evict-unsettled": "an extent leaves the log before its writes are flushed",
    "log-loses-newest": "the newest transaction of the log isn't read back",
    "attach-empties-log-first": "the log is emptied before the bitmap is written",
    // ---- the bitmap ----
    "bit-cleared-on-ack": "a bit clears when the target has written, not flushed",
    "partial-write-clears-bit": "a write of a part of a block clears its bit",
    "newer-write-keeps-proof": "a newer unmirrored write doesn't take back a bit about to clear",
    "bitmap-page-not-written": "the bitmap's pages stay in memory",
    "bitmap-durable-early": "the bitmap counts as durable when its write begins",
    // ---- epochs and flushes ----
    "flush-local-only": "a flush doesn't reach the peer",
    "flush-peer-only": "a flush doesn't reach the local disk",
    "fua-not-flushed": "FUA is ignored",
    "flush-answered-at-once": "a FLUSH is answered when it comes",
    "through-in-name-only": "a write that is to be written through isn't",
    "through-beside-unstable": "a write is written through while what completed before isn't stable",
    "promise-not-kept": "where clients are told of no volatile cache, answered writes may be in one",
    "left-promise-forgotten": "what a device that was left behind has told of caches is forgotten",
    "forwarded-promise-forgotten": "where clients are told of no volatile cache, their forwarded writes may be in one",
    "peer-flush-not-done": "the peer acknowledges a flush it hasn't done",
    "unflushed-forgotten": "losing the peer doesn't mark what it hadn't flushed",
    "peer-acks-on-receipt": "the peer acknowledges a write when it arrives",
    // ---- a device whose requests are forwarded ----
    "forwarded-twice": "what a Primary that has forgotten may have done is done again",
    "forwarded-flush-not-done": "a forwarded FLUSH is answered when it comes",
    "forwarded-again": "what became of a forwarded request isn't remembered: one that comes again is done again",
    "forwarder-s-blocks-grow": "the clients of a node that forwards don't count as such when blocks may become larger",
    "forwarded-answered-early": "a forwarded write is answered when it comes, before either disk has it",
    "handed-over-undrained": "the role is given with requests of its own clients under way",
    "told-once-for-both": "that writes are lost is told one client, of this node or of the peer that forwards",
    "told-again-unseen": "a peer that may have gone on alone and lost its disk is told again to be Primary",
    "role-taken-back": "a role that was given is taken back when the link goes",
    // ---- losing a replica ----
    "open-writes-forgotten": "losing the peer doesn't mark what is under way",
    "told-finish-forgotten": "a source that never heard of its resync's end begins no generation",
    "loss-without-generation": "losing the peer starts no generation",
    "lost-disk-not-recorded": "a Primary that loses its disk doesn't wait for the peer's word",
    "lost-peer-disk-unnoticed": "the peer's word that its disk is gone is passed over",
    "only-disk-unmarked": "the only disk doesn't mark what its Primary's disk lacks",
    // ---- the handshake ----
    "bits-dismissed": "equal generations are taken for equal data",
    "older-wins": "the older data fill the newer",
    "history-by-bitmap": "data older than what the peer's bitmap counts from are filled by that bitmap",
    "history-taken-for-equal": "data older than what the peer's bitmap counts from are taken for equal",
    "lost-cache-ignored": "a node that lost its cache may be the source",
    "clients-view-ignored": "a Primary without a disk is shown older data than its clients have seen",
    "node-crash-for-daemon-crash": "a crash of the node is taken for one of the daemon",
    "generation-in-handshake": "losing the peer's disk starts a generation in the middle of a handshake",
    "promote-inconsistent": "any disk will do to be promoted",
    "promoted-beside-handshake": "a promotion doesn't wait for a disk of the peer's that comes while it is recorded",
    "promoted-beside-own-newer": "a node whose own disk is ahead and isn't there is promoted on the peer's",
    "granted-while-attaching": "a node lets its peer be Primary while it attaches a disk that may be ahead",
    "split-brain-promotes": "a node in split brain is promoted without force",
    // ---- growing ----
    "grown-area-unmarked": "the new area of a volume that grew isn't marked",
    "grown-before-marked": "the new size is remembered before the marks of the new area are durable",
    "grows-without-peer": "a node grows before the peer's metadata have room",
    "former-end-not-wiped": "metadata that moved stay at their former place as well",
    "move-forgets-hot": "metadata that move lose the hot extents",
    "move-counts-early": "the metadata's new place counts before all of them are there",
    "grown-offered-early": "clients are offered the new size before both nodes remember it",
    // ---- resync ----
    "target-not-inconsistent": "a target isn't durably Inconsistent",
    "passed-on-write-answered": "a write the kept disk failed at is answered as done",
    "passed-on-write-unmarked": "a write the kept disk failed at and its target has is not marked",
    "resync-unasked": "a resync overwrites a disk before the handler that may mind was asked",
    "victim-not-archived": "what a split brain's victim loses is not archived",
    "meeting-undoes-command": "a meeting of nodes in split brain undoes the command that comes in its midst",
    "archive-skips-blocks": "an archive leaves blocks out",
    "source-unlocks-early": "the source unlocks a range when it has sent it",
    "told-blocks-forgotten": "the target forgets the blocks its source tells it of",
    "finish-with-bits": "a resync ends with bits left",
    "target-keeps-generation": "a target ends without its source's generations",
    "pacing-never-recovers": "a resync slowed down for the clients' sake is never faster again",
    "pacing-without-floor": "a resync is slowed down without end",
    "paced-request-forgotten": "a range kept back for the clients' sake gets no turn by itself",
    "compared-before-answer": "a range counts as equal when the source is asked, not when it has answered",
    "compared-wrong-block": "the block after the one that differs is copied",
    "lost-cache-compared": "what a failed flush has lost is compared with the peer's, as it is shown, and not written anew",
    "compared-not-flushed": "the bit of a block found equal clears at once, not with the next flush",
    "resync-of-everything": "a resync by bitmap copies all there is",
    "runs-from-payload-start": "each run of data of a range without its zeroes is written from where the first begins",
    "runs-acknowledged-early": "a range without its zeroes counts as written with the first of its disk operations",
    "runs-zeroes-left-out": "the zeroes of a range are taken for what the target's disk holds there",
    // ---- verify ----
    "verify-beside-writes": "a verify compares ranges with writes in flight",
    "verify-unlocks-early": "a verify's follower unlocks a range when it has told its digests",
    "verify-misses-last-block": "a verify passes over the last block of each range",
    "verify-marks-beside": "a verify marks the block before the one that differs",
    "verify-resumes-late": "a verify goes on behind the ranges that were under way when it was interrupted",
    "verify-unmarked-by-follower": "a verify's follower doesn't mark what differs",
    "verify-outlives-disk": "a verify goes on where it was although the peer's disk is another one",
    "repair-the-wrong-side": "a repair gives up the side it was to copy from",
    // ---- metadata ----
    "superblock-durable-early": "a superblock counts as durable when its write begins",
    "full-page-read-clean": "a page of which every block is marked is read as one without marks",
    "inconsistent-counts-as-outdated": "the word to outdate an Inconsistent disk is answered before that is durable",
    "superblock-crc-unchecked": "a rotten superblock is believed",
    "log-damage-ignored": "a log that can't be read is taken for an empty one",
    "bitmap-damage-ignored": "what a rotten part of the bitmap covers is taken for in sync",
    "work-left-at-rest": "a volume whose loss is being recorded is taken to have nothing to do",
    "superblock-one-copy": "the second copy of the superblock is never written",
    "not-marked-primary": "being Primary isn't recorded",
    "detach-left-out": "a disk is called let go of, and isn't",
    "detach-without-drain": "a disk is let go of with requests under way",
    "demote-without-settling": "a demotion doesn't flush the disks",
    // ---- fencing ----
    "stonith-does-not-suspend": "a Primary that lost its peer goes on before it is fenced",
    "unreachable-counts-as-fenced": "a peer that can't be reached counts as fenced",
    "promotes-without-fence": "a promotion without the peer asks nobody",
    "late-fence-answer-counts": "an answer counts that came after the peer was met",
    "fence-knowledge-kept": "what was known of the peer counts after it was met",
    "begins-anew-without-a-word": "a node that closes the connection to begin anew doesn't say so",
    "generation-before-fence": "losing the peer starts a generation before the peer is fenced",
    // ---- no data in reach ----
    "starved-forgotten": "what waits for data is not taken up when there is some",
    "starved-write-dropped": "a write that waited for data is answered without being written",
    "lost-cache-untold": "a flush succeeds after the only cache with what it covers died with the peer's node",
    "starved-answered": "a write no disk takes is a success",
    "held-for-another-answered": "an answer held for another volume goes out when its own volume's last data are gone",
    // ---- the link ----
    "payload-crc-unchecked": "the data in a frame are taken as they come",
    "body-crc-unchecked": "what a frame says is believed as it comes",
    "sequence-unchecked": "frames may be missing or come twice",
    // ---- a disk that hangs ----
    "attach-beside-old-operations": "a disk is attached while operations of its last attachment are under way",
    "only-disk-timed-out": "a disk that hangs is let go of although it holds the only good data",
    // ---- errors ----
    "failed-flush-ignored": "a failed flush counts as done",
    "failed-write-ignored": "a failed write counts as done",
    "failed-read-ignored": "a failed read returns what is in the buffer",
    "failed-meta-ignored": "a failed metadata write counts as done",
}

/// The place of a bug in [`BUGS`]; a name that isn't there doesn't compile.
pub const fn index_of(name: &str) -> usize {
    let mut index = 0;
    while index < BUGS.len() {
        if is_same(BUGS[index].0.as_bytes(), name.as_bytes()) {
            return index;
        }
        index += 1;
    }
    panic!("no planted bug has this name")
}

const fn is_same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut at = 0;
    while at < a.len() {
        if a[at] != b[at] {
            return false;
        }
        at += 1;
    }
    true
}

#[cfg(not(feature = "planted-bugs"))]
#[doc(hidden)]
#[inline(always)]
pub const fn is_chosen(_bug: usize) -> bool {
    false
}

#[cfg(feature = "planted-bugs")]
mod choice {
    use std::sync::atomic::{AtomicUsize, Ordering};

    static CHOSEN: AtomicUsize = AtomicUsize::new(usize::MAX);

    #[doc(hidden)]
    #[inline]
    pub fn is_chosen(bug: usize) -> bool {
        CHOSEN.load(Ordering::Relaxed) == bug
    }

    /// Plants a bug in this process, or with `None` none. Says whether there is one of that name.
    pub fn plant(name: Option<&str>) -> bool {
        let index = name.map_or(Some(usize::MAX), |name| super::BUGS.iter().position(|(known, _)| *known == name));
        CHOSEN.store(index.unwrap_or(usize::MAX), Ordering::Relaxed);
        index.is_some()
    }
}

#[cfg(feature = "planted-bugs")]
pub use choice::{is_chosen, plant};
