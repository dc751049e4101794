//! Whether to look out for news for a while before sleeping.
//!
//! At depth one a write is a chain of short waits: for the peer, for the client. Falling asleep and being woken costs more
//! than most of them last, and on a virtual machine, where an idle processor is given back, several times more. So after a
//! turn with little to do the thread looks for news itself, for [`SPIN_TIME_MAX`] at most.
//!
//! It takes nothing from its neighbours for long: only while a single request is under way, and each look in vain doubles
//! the number of waits that are slept through from the start, up to [`SLEEPS_MAX`]. One that succeeds sets it back. Where
//! the processor was taken from the thread during a look, others want it: then it sleeps that often at once.

use std::time::{Duration, Instant};

/// How long one look lasts, at most.
const SPIN_TIME_MAX: Duration = Duration::from_micros(60);
/// A look that stands still for so long was interrupted by somebody who wanted the processor.
const INTERRUPTION_TIME_MIN: Duration = Duration::from_micros(15);
/// A turn with more events than this was one of many requests: the next come in time without a look.
const EVENTS_MAX: usize = 2;
/// With more than this in buffers, bulk data is on its way: its work fills the time.
const BYTES_MAX: usize = 16 << 10;
/// Waits slept through after looks in vain, at most.
const SLEEPS_MAX: u32 = 1024;

#[derive(Debug, Default)]
pub(super) struct Spin {
    /// Waits to be slept through.
    sleeps: u32,
    /// How many of them the next look in vain brings.
    penalty: u32,
}

impl Spin {
    /// Asked before each wait, with the number of events since the last and the bytes in buffers: whether to look.
    pub fn begins(&mut self, events: usize, bytes: usize) -> bool {
        if self.sleeps > 0 {
            self.sleeps -= 1;
            return false;
        }
        (1..=EVENTS_MAX).contains(&events) && bytes <= BYTES_MAX
    }

    /// Looks until there is news or it has taken long enough; true with news.
    pub fn look(&mut self, mut has_news: impl FnMut() -> bool, mut clock: impl FnMut() -> Instant) -> bool {
        let begun = clock();
        let mut last = begun;
        loop {
            let news = has_news();
            let now = clock();
            if now - last >= INTERRUPTION_TIME_MIN {
                self.penalty = SLEEPS_MAX;
            } else if news {
                self.penalty = 0;
            } else if now - begun >= SPIN_TIME_MAX {
                self.penalty = (self.penalty * 2).clamp(1, SLEEPS_MAX);
            } else {
                last = now;
                std::hint::spin_loop();
                continue;
            }
            self.sleeps = self.penalty;
            return news;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of so many waits begin with a look, each of whose steps takes `step`.
    fn looks(spin: &mut Spin, waits: usize, with_news: bool, step: Duration) -> usize {
        let mut now = Instant::now();
        let mut count = 0;
        for _ in 0..waits {
            if spin.begins(1, 4096) {
                count += 1;
                let clock = || {
                    now += step;
                    now
                };
                assert_eq!(spin.look(|| with_news, clock), with_news);
            }
        }
        count
    }

    const MICROSECOND: Duration = Duration::from_micros(1);

    #[test]
    fn looks_in_vain_become_rare() {
        assert!(looks(&mut Spin::default(), 10_000, false, MICROSECOND) < 25);
    }

    #[test]
    fn a_look_with_news_is_followed_by_another() {
        let mut spin = Spin::default();
        looks(&mut spin, 1 << 20, false, MICROSECOND);
        let slept = (0..).take_while(|_| !spin.begins(1, 4096)).count();
        assert!(slept <= SLEEPS_MAX as usize);
        spin.sleeps = 0;
        assert_eq!(looks(&mut spin, 100, true, MICROSECOND), 100);
    }

    #[test]
    fn where_others_want_the_processor_looks_are_rare_even_with_news() {
        assert!(looks(&mut Spin::default(), 10_000, true, INTERRUPTION_TIME_MIN) < 12);
    }

    #[test]
    fn nobody_looks_while_idle_or_busy() {
        let mut spin = Spin::default();
        assert!(!spin.begins(0, 0));
        assert!(!spin.begins(EVENTS_MAX + 1, 0));
        assert!(!spin.begins(1, BYTES_MAX + 1));
        assert!(spin.begins(EVENTS_MAX, BYTES_MAX));
    }
}
