//! Whether a thread looks for news for a moment before it sleeps.
//!
//! A thread that sleeps has to be woken, and where its processor has gone idle that takes longer than all the rest of a
//! small write: some 25 µs on virtual processors, on each side of the link, and the one that wakes it pays, too. So who
//! has just sent something to the peer first looks whether the answer comes at once: at a flag in memory that the kernel
//! sets, without a system call, and without anybody having to wake anybody.
//!
//! It must not be at the cost of others. Looks that find nothing use up a credit which those that find something renew;
//! when it is gone, waits are slept through, more of them each time. When a look finds that its processor was taken away for as long
//! as only somebody takes it who has much to do, there are none for a while, longer each time. One thread of a process looks at a
//! time. Who had large payloads to move doesn't look: there the wake-up isn't what takes the time (decision 29).

use super::limits::{LOOK_REST_MAX, LOOK_REST_MIN, LOOKS_SKIPPED_MAX, LOOKS_SKIPPED_MIN, LOOKS_SKIPPED_TIME_MAX};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What a thread begins with, and again after it has slept for a while.
const CREDIT_AT_FIRST: u32 = 8;
/// What looks that find news may bring together.
const CREDIT_MAX: u32 = 64;
/// What a look that finds nothing costs, in looks that find something.
const COST_OF_NOTHING: u32 = 4;

/// A thread of this process is looking.
static LOOKING: AtomicBool = AtomicBool::new(false);

/// How a look ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Look {
    /// There is news.
    News,
    /// There is none.
    Nothing,
    /// The processor was taken away meanwhile: somebody else needs it.
    TakenAway,
}

/// What a thread has learned of its looks.
#[derive(Debug)]
pub(super) struct Patience {
    /// Looks are worth it while this isn't 0.
    credit: u32,
    /// Waits that are still to be slept through...
    skip: u32,
    /// ...but none from then on.
    skip_until: Option<Instant>,
    /// How many will be when the credit is used up.
    skip_next: u32,
    /// No looks until then.
    rest_until: Option<Instant>,
    /// How long the next rest will be.
    rest_next: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience {
            credit: CREDIT_AT_FIRST,
            skip: 0,
            skip_until: None,
            skip_next: LOOKS_SKIPPED_MIN,
            rest_until: None,
            rest_next: LOOK_REST_MIN,
        }
    }
}

impl Patience {
    /// Whether this wait, which begins now, is worth a look: for a thread that has just sent something to the peer and
    /// had nothing large to move.
    pub fn wants(&mut self, now: Instant) -> bool {
        if self.rest_until.is_some_and(|until| now < until) {
            return false;
        }
        if self.skip_until.is_some_and(|until| now >= until) {
            (self.skip, self.skip_until) = (0, None);
        }
        let due = self.skip == 0;
        self.skip = self.skip.saturating_sub(1);
        due
    }

    /// Looks for news for a moment, and at most for `time_max`: `news` tells whether there is any. A pause of `gap` means that the
    /// processor was taken away.
    pub fn look(&mut self, time_max: Duration, gap: Duration, news: impl FnMut() -> bool) {
        if LOOKING.swap(true, Ordering::Relaxed) {
            return;
        }
        let (look, end) = look_for(time_max, gap, news);
        LOOKING.store(false, Ordering::Relaxed);
        self.learn(look, end);
    }

    fn learn(&mut self, look: Look, now: Instant) {
        match look {
            Look::News => self.credit = (self.credit + 1).min(CREDIT_MAX),
            Look::Nothing => self.credit = self.credit.saturating_sub(COST_OF_NOTHING),
            Look::TakenAway => self.rest(now),
        }
        if self.credit == CREDIT_MAX {
            self.skip_next = LOOKS_SKIPPED_MIN;
        }
        if self.credit == 0 {
            self.skip = self.skip_next;
            self.skip_until = Some(now + LOOKS_SKIPPED_TIME_MAX);
            self.skip_next = (self.skip_next * 2).min(LOOKS_SKIPPED_MAX);
            self.credit = CREDIT_AT_FIRST;
        }
    }

    fn rest(&mut self, now: Instant) {
        if self.rest_until.is_none_or(|until| now > until + LOOK_REST_MAX) {
            self.rest_next = LOOK_REST_MIN;
        }
        self.rest_until = Some(now + self.rest_next);
        self.rest_next = (self.rest_next * 2).min(LOOK_REST_MAX);
    }
}

/// How a look ended, and when.
fn look_for(time_max: Duration, gap: Duration, mut news: impl FnMut() -> bool) -> (Look, Instant) {
    let begun = Instant::now();
    let mut last = begun;
    loop {
        for _ in 0..16 {
            if news() {
                return (Look::News, last);
            }
            std::hint::spin_loop();
        }
        let now = Instant::now();
        if now - last > gap {
            return (Look::TakenAway, now);
        }
        if now - begun > time_max {
            return (Look::Nothing, now);
        }
        last = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of so many waits are looked through, 10 µs apart, when each look ends like this.
    fn looks(patience: &mut Patience, now: &mut Instant, waits: u32, look: Look) -> u32 {
        looks_apart(Duration::from_micros(10), patience, now, waits, look)
    }

    fn looks_apart(apart: Duration, patience: &mut Patience, now: &mut Instant, waits: u32, look: Look) -> u32 {
        let mut looks = 0;
        for _ in 0..waits {
            *now += apart;
            if patience.wants(*now) {
                looks += 1;
                patience.learn(look, *now);
            }
        }
        looks
    }

    #[test]
    fn looks_that_find_news_go_on() {
        let (mut patience, mut now) = (Patience::default(), Instant::now());
        assert_eq!(looks(&mut patience, &mut now, 1000, Look::News), 1000);
    }

    #[test]
    fn looks_in_vain_become_rare_and_come_back_with_news() {
        let (mut patience, mut now) = (Patience::default(), Instant::now());
        let vain = looks(&mut patience, &mut now, 100_000, Look::Nothing);
        assert!((5..=30 + 2 * 100_000 / LOOKS_SKIPPED_MAX).contains(&vain), "{vain} looks");
        let later = looks(&mut patience, &mut now, 100_000, Look::News);
        assert!(later > 90_000, "{later} looks");
    }

    /// Where a write takes milliseconds, 4096 waits would be ten seconds.
    #[test]
    fn looks_in_vain_come_back_in_time_where_waits_are_long() {
        let (mut patience, mut now) = (Patience::default(), Instant::now());
        let apart = Duration::from_millis(2);
        let vain = looks_apart(apart, &mut patience, &mut now, 5000, Look::Nothing);
        assert!((100..=300).contains(&vain), "{vain} looks in ten seconds");
        let later = looks_apart(apart, &mut patience, &mut now, 1000, Look::News);
        assert!(later >= 950, "{later} looks");
    }

    #[test]
    fn a_few_looks_in_vain_among_many_change_nothing() {
        let (mut patience, mut now) = (Patience::default(), Instant::now());
        for _ in 0..100 {
            assert_eq!(looks(&mut patience, &mut now, 10, Look::News), 10);
            assert_eq!(looks(&mut patience, &mut now, 1, Look::Nothing), 1);
        }
    }

    #[test]
    fn who_needs_the_processor_gets_it() {
        let (mut patience, mut now) = (Patience::default(), Instant::now());
        // Ten seconds, every look of which is taken away.
        let taken = looks(&mut patience, &mut now, 1_000_000, Look::TakenAway);
        assert!((10..=20).contains(&taken), "{taken} looks");
        // One alone isn't held against it for long.
        now += LOOK_REST_MAX * 3;
        assert_eq!(looks(&mut patience, &mut now, 1, Look::TakenAway), 1);
        now += LOOK_REST_MIN;
        assert_eq!(looks(&mut patience, &mut now, 100, Look::News), 100);
    }

    #[test]
    fn a_look_ends_with_news_or_in_time() {
        let mut asked = 0;
        let (news, _) = look_for(Duration::from_secs(3600), Duration::from_secs(3600), || {
            asked += 1;
            asked == 100
        });
        assert_eq!(news, Look::News);
        assert_ne!(look_for(Duration::from_micros(5), Duration::from_millis(1), || false).0, Look::News);
    }
}
