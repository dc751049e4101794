//! The pause between two attempts: short at first, growing up to a limit, short again after a success.

use crate::limits::RETRY_PAUSE_MIN;
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    pub fn new(longest: Duration) -> Self {
        Backoff { next: RETRY_PAUSE_MIN.min(longest), longest }
    }

    /// The pause before the next attempt.
    pub fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 3 / 2).min(self.longest);
        pause
    }

    pub fn reset(&mut self) {
        self.next = RETRY_PAUSE_MIN.min(self.longest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_limit_and_start_over() {
        let mut backoff = Backoff::new(Duration::from_secs(10));
        let pauses: Vec<_> = (0..30).map(|_| backoff.pause()).collect();
        assert_eq!(pauses[0], RETRY_PAUSE_MIN);
        assert!(pauses.is_sorted());
        assert_eq!(pauses[29], Duration::from_secs(10));
        assert!(pauses.iter().sum::<Duration>() > Duration::from_secs(60), "a dead peer isn't hammered");
        backoff.reset();
        assert_eq!(backoff.pause(), RETRY_PAUSE_MIN);
    }
}
