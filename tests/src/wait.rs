//! Waiting: by asking again until a deadline.

use std::time::{Duration, Instant};

/// Asks every 20 ms until the answer is `Ok`; panics with the last `Err` when `deadline` has passed.
#[track_caller]
pub fn until<T>(what: &str, deadline: Duration, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        let last = match ask() {
            Ok(answer) => return answer,
            Err(last) => last,
        };
        assert!(began.elapsed() < deadline, "{what}: not within {deadline:?}; last seen: {last}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The same for a condition that needs no explaining.
#[track_caller]
pub fn until_true(what: &str, deadline: Duration, mut ask: impl FnMut() -> bool) {
    until(what, deadline, || if ask() { Ok(()) } else { Err("false".to_owned()) });
}
