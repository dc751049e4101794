//! The ledger against a disk of bytes in memory, honest and lying.

use super::*;

struct Disk(Vec<u8>);

impl Disk {
    fn write(&mut self, ledger: &Ledger, write: &Pending) {
        let at = write.sectors.start as usize * SECTOR;
        let bytes = if write.zeroes { vec![0; write.sectors.len() * SECTOR] } else { ledger.bytes(write) };
        self.0[at..at + bytes.len()].copy_from_slice(&bytes);
    }

    fn verify(&self, ledger: &Ledger, lost: Lost) -> Report {
        ledger.verify(lost, |at, buffer| {
            buffer.copy_from_slice(&self.0[at as usize..at as usize + buffer.len()]);
            Ok(())
        })
    }
}

fn pair() -> (Ledger, Disk) {
    (Ledger::new(64 * SECTOR as u64), Disk(vec![0; 64 * SECTOR]))
}

fn written(ledger: &Ledger, disk: &mut Disk, sectors: Range<u32>) {
    let write = ledger.begin_write(sectors, false).expect("free");
    disk.write(ledger, &write);
    ledger.end_write(write, true, false);
}

fn flushed(ledger: &Ledger) {
    let flush = ledger.begin_flush();
    ledger.end_flush(flush, true);
}

#[test]
fn an_honest_disk_passes() {
    let (ledger, mut disk) = pair();
    written(&ledger, &mut disk, 0..8);
    written(&ledger, &mut disk, 4..12);
    disk.verify(&ledger, Lost::OneNode).assert_clean();
}

#[test]
fn a_lost_answered_write_is_told_and_an_unflushed_one_may_go_with_the_power() {
    let (ledger, mut disk) = pair();
    written(&ledger, &mut disk, 0..8);
    flushed(&ledger);
    let before = disk.0.clone();
    written(&ledger, &mut disk, 0..8);
    disk.0 = before;
    assert_eq!(disk.verify(&ledger, Lost::OneNode).violations.len(), 8);
    let report = disk.verify(&ledger, Lost::Unflushed);
    report.assert_clean();
    assert_eq!(report.unstable_lost, 8);
}

#[test]
fn a_lost_flushed_write_is_told() {
    let (ledger, mut disk) = pair();
    written(&ledger, &mut disk, 0..8);
    flushed(&ledger);
    disk.0[..SECTOR].fill(0);
    assert_eq!(disk.verify(&ledger, Lost::Unflushed).violations.len(), 1);
}

#[test]
fn a_flush_covers_only_what_was_answered_before_it_was_sent() {
    let (ledger, mut disk) = pair();
    let flush = ledger.begin_flush();
    written(&ledger, &mut disk, 0..1);
    ledger.end_flush(flush, true);
    disk.0.fill(0);
    disk.verify(&ledger, Lost::Unflushed).assert_clean();
}

#[test]
fn an_answered_flush_covers_what_an_unanswered_one_before_it_would_have() {
    let (ledger, mut disk) = pair();
    written(&ledger, &mut disk, 0..1);
    let _never_answered = ledger.begin_flush();
    flushed(&ledger);
    disk.0.fill(0);
    assert_eq!(disk.verify(&ledger, Lost::Unflushed).violations.len(), 1);
}

#[test]
fn a_loss_is_untold_until_a_flush_fails() {
    for told in [false, true] {
        let (ledger, mut disk) = pair();
        written(&ledger, &mut disk, 0..1);
        let before = disk.0.clone();
        written(&ledger, &mut disk, 0..1);
        if told {
            ledger.end_flush(ledger.begin_flush(), false);
        }
        disk.0 = before;
        let report = disk.verify(&ledger, Lost::Unflushed);
        report.assert_clean();
        assert_eq!((report.unstable_lost, report.untold_lost), (1, u64::from(!told)));
        assert_eq!(disk.verify(&ledger, Lost::Unflushed).untold_lost, 0, "a look settled it");
    }
}

#[test]
fn a_write_that_is_lost_unanswered_needs_no_word() {
    let (ledger, disk) = pair();
    let write = ledger.begin_write(0..1, false).expect("free");
    ledger.end_write(write, false, false);
    let report = disk.verify(&ledger, Lost::Unflushed);
    assert_eq!((report.unstable_lost, report.untold_lost), (1, 0));
}

#[test]
fn no_later_flush_covers_what_a_failed_one_was_to_cover() {
    let (ledger, mut disk) = pair();
    written(&ledger, &mut disk, 0..1);
    ledger.end_flush(ledger.begin_flush(), false);
    flushed(&ledger);
    disk.0.fill(0);
    disk.verify(&ledger, Lost::Unflushed).assert_clean();
}

#[test]
fn what_a_look_settled_is_covered_by_the_next_flush() {
    let (ledger, mut disk) = pair();
    written(&ledger, &mut disk, 0..1);
    disk.verify(&ledger, Lost::OneNode).assert_clean();
    flushed(&ledger);
    disk.0.fill(0);
    assert_eq!(disk.verify(&ledger, Lost::Unflushed).violations.len(), 1);
}

#[test]
fn an_unanswered_write_may_be_there_but_once_seen_it_stays() {
    let (ledger, mut disk) = pair();
    written(&ledger, &mut disk, 0..1);
    let before = disk.0.clone();
    let write = ledger.begin_write(0..1, false).expect("free");
    disk.write(&ledger, &write);
    ledger.end_write(write, false, false);
    assert_eq!(disk.verify(&ledger, Lost::OneNode).unanswered_found, 1);
    disk.0 = before;
    assert_eq!(disk.verify(&ledger, Lost::OneNode).violations.len(), 1, "it went back in time");
}

#[test]
fn an_unseen_unanswered_write_must_not_come_back() {
    let (ledger, mut disk) = pair();
    written(&ledger, &mut disk, 0..1);
    let write = ledger.begin_write(0..1, false).expect("free");
    disk.verify(&ledger, Lost::OneNode).assert_clean();
    disk.write(&ledger, &write);
    assert_eq!(disk.verify(&ledger, Lost::OneNode).violations.len(), 1);
}

#[test]
fn torn_misplaced_and_foreign_bytes_are_told() {
    let (ledger, mut disk) = pair();
    written(&ledger, &mut disk, 0..8);
    disk.0[100] ^= 1;
    let (left, right) = disk.0.split_at_mut(2 * SECTOR);
    left[SECTOR..].copy_from_slice(&right[..SECTOR]);
    disk.0[3 * SECTOR..4 * SECTOR].fill(7);
    let report = disk.verify(&ledger, Lost::OneNode);
    assert_eq!(report.violations.len(), 3, "{report}");
}

#[test]
fn zeroes_count_as_a_write() {
    let (ledger, mut disk) = pair();
    written(&ledger, &mut disk, 0..8);
    let zero = ledger.begin_write(0..4, true).expect("free");
    disk.write(&ledger, &zero);
    ledger.end_write(zero, true, true);
    disk.verify(&ledger, Lost::OneNode).assert_clean();
    written(&ledger, &mut disk, 0..4);
    disk.0[..4 * SECTOR].fill(0);
    assert_eq!(disk.verify(&ledger, Lost::OneNode).violations.len(), 4, "older zeroes are no excuse");
}

#[test]
fn two_requests_never_meet_on_a_sector() {
    let (ledger, _) = pair();
    let write = ledger.begin_write(0..8, false).expect("free");
    assert!(ledger.begin_write(7..9, false).is_none());
    assert!(ledger.begin_read(0..1).is_none());
    ledger.end_write(write, false, false);
    assert!(ledger.begin_read(0..1).is_some());
}
