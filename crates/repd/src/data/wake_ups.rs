//! How long it takes to wake a thread on this machine, and how long a look for news of the peer is worth it for that.
//!
//! A look saves a wake-up, and costs the processor for as long as it takes. A wake-up is some microseconds on bare metal, some 25 on
//! a virtual machine whose processor has gone idle, 100 and more where the machine is emulated (decision 29).

use super::limits::{LOOK_GAP, LOOK_GAP_MAX, LOOK_TIME, LOOK_TIME_MAX, LOOK_WAKE_UPS};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// So many wake-ups are timed, and the median counts.
const ROUNDS: usize = 24;
/// Before each, so that the processor has gone idle.
const PAUSE: Duration = Duration::from_micros(500);

const STACK_BYTES: usize = 64 << 10;

/// What a wake-up takes, in nanoseconds; 0: not known yet.
static WAKE_UP: AtomicU64 = AtomicU64::new(0);

/// Has it measured, once, by two threads of their own: some 15 ms, most of which they sleep.
pub(super) fn measure() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let measured = small_thread().spawn(|| {
            if let Some(time) = median() {
                tracing::debug!(?time, "a thread is woken in");
                WAKE_UP.store(time.as_nanos().try_into().unwrap_or(u64::MAX), Ordering::Relaxed);
            }
        });
        // Without it looks are as short as anywhere.
        drop(measured);
    });
}

/// How long who has sent something to the peer looks for news before it sleeps.
pub(super) fn look_time() -> Duration {
    worth(Duration::from_nanos(WAKE_UP.load(Ordering::Relaxed)))
}

/// How long a pause of such a look means that its processor was taken away. Where a look is long all that others do takes long, too.
pub(super) fn gap_of(look_time: Duration) -> Duration {
    LOOK_GAP.mul_f64(look_time.div_duration_f64(LOOK_TIME)).clamp(LOOK_GAP, LOOK_GAP_MAX)
}

fn worth(wake_up: Duration) -> Duration {
    wake_up.saturating_mul(LOOK_WAKE_UPS).clamp(LOOK_TIME, LOOK_TIME_MAX)
}

/// Memory is locked: a stack takes what it may take.
fn small_thread() -> thread::Builder {
    thread::Builder::new().name("wake-ups".into()).stack_size(STACK_BYTES)
}

fn median() -> Option<Duration> {
    let (told, woken) = mpsc::channel();
    let sleeper = small_thread().spawn(move || {
        // It ends when nobody listens any more.
        while told.send(Instant::now()).is_ok() {
            thread::park();
        }
    });
    let sleeper = sleeper.ok()?;
    // That it has begun.
    woken.recv().ok()?;
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map_while(|_| {
            thread::sleep(PAUSE);
            let began = Instant::now();
            sleeper.thread().unpark();
            woken.recv().ok().map(|at| at.saturating_duration_since(began))
        })
        .collect();
    drop(woken);
    sleeper.thread().unpark();
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_longer_where_waking_takes_longer_and_never_shorter_than_anywhere() {
        let of = |micros| worth(Duration::from_micros(micros));
        assert_eq!([0, 5, 12].map(of), [LOOK_TIME; 3]);
        assert_eq!(of(60), Duration::from_micros(1440));
        assert_eq!(of(90), LOOK_TIME_MAX);
        assert_eq!(worth(Duration::MAX), LOOK_TIME_MAX);
    }

    #[test]
    fn a_pause_is_as_long_as_the_look_it_is_of_and_shorter_than_a_turn() {
        let of = |micros| gap_of(Duration::from_micros(micros)).as_micros();
        assert_eq!([300, 600, 750, 2000].map(of), [1000, 2000, 2500, 2500]);
    }

    #[test]
    fn a_wake_up_is_measured() {
        assert!(median().expect("two threads") > Duration::ZERO);
    }
}
