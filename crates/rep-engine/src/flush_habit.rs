//! Whether clients flush after each write, as databases and whoever opens a file with `O_SYNC` do.
//!
//! Such a write and its flush are two ways to the peer and back. Where a flush is expected, the write is written through on both disks
//! and the flush finds nothing to do: one way. A guess that fails costs one write through.

use crate::operation::OperationKind;

/// So many flushes in a row must each have followed a single write.
const FLUSHES_IN_A_ROW: u8 = 3;

/// What flushes followed lately.
#[derive(Default, Debug)]
pub(crate) struct FlushHabit {
    /// Writes since the last flush that didn't ask to be stable themselves.
    writes: u32,
    /// Flushes in a row that followed one write each.
    in_a_row: u8,
}

impl FlushHabit {
    pub fn write_completed(&mut self, kind: OperationKind) {
        if !kind.is_fua() {
            self.writes = self.writes.saturating_add(1);
        }
    }

    pub fn flush_came(&mut self) {
        match std::mem::take(&mut self.writes) {
            0 => {}
            1 => self.in_a_row = self.in_a_row.saturating_add(1),
            _ => self.in_a_row = 0,
        }
    }

    /// Whether the next write will likely be followed by a flush.
    pub fn expects_flush(&self) -> bool {
        self.in_a_row >= FLUSHES_IN_A_ROW && self.writes == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: OperationKind = OperationKind::Write { fua: false };

    fn after(steps: &str) -> bool {
        let mut habit = FlushHabit::default();
        for step in steps.chars() {
            match step {
                'w' => habit.write_completed(PLAIN),
                's' => habit.write_completed(OperationKind::Write { fua: true }),
                _ => habit.flush_came(),
            }
        }
        habit.expects_flush()
    }

    #[test]
    fn a_flush_is_expected_once_three_have_followed_a_write_each() {
        assert!(!after(""));
        assert!(!after("wfwf"));
        assert!(after("wfwfwf"));
        assert!(after("wfwfwfwfwfwf"));
    }

    #[test]
    fn a_flush_after_several_writes_ends_it_and_one_after_none_tells_nothing() {
        assert!(!after("wfwfwfwwf"));
        assert!(!after("wfwfwfwwfwfwf"));
        assert!(after("wfwfwfwwfwfwfwf"));
        assert!(after("wffwfffwff"));
        assert!(!after("ffff"));
    }

    #[test]
    fn none_is_expected_before_the_flush_that_is_due() {
        assert!(!after("wfwfwfw"));
    }

    #[test]
    fn a_write_that_asks_to_be_stable_is_followed_by_no_flush_of_its_own() {
        assert!(!after("sfsfsf"));
        assert!(after("wsfwsfwf"));
    }
}
