//! What a data thread asks of the kernel's scheduler: real time while memory is short (R36, decision 36), and short turns where it
//! looks long for news (decision 29).
//!
//! Whatever somebody has chosen for this daemon on purpose (`chrt`, a unit's `CPUSchedulingPolicy=`) stays.

use crate::shortage;
use nix::errno::Errno;
use nix::libc;
use std::time::Duration;

/// In real time, the least there is: above all others, below whatever was set on purpose.
const PRIORITY: libc::c_int = 1;

/// How long a thread that looks long may keep its processor from one that wakes up. Kernels that know turns by thread (Linux 6.12) give
/// some 3 ms otherwise; who wakes up in such a turn waits for its end.
const SHORT_TURN: Duration = Duration::from_micros(500);

/// How a data thread runs.
#[derive(Debug, Default)]
pub(crate) struct Scheduling {
    in_real_time: bool,
    /// It may not, or was made to run otherwise on purpose: it isn't tried again.
    fixed: bool,
    /// Short turns were asked for.
    asked: bool,
}

impl Scheduling {
    /// Has the calling thread run as memory demands, and tells whether it is short. Costs nothing as long as nothing changes.
    pub fn follow(&mut self) -> bool {
        let short = shortage::is_short();
        if short != self.in_real_time && !self.fixed {
            self.change(short);
        }
        short
    }

    /// Has the calling thread give way soon to those who wake up, where the kernel can do that. Costs nothing but the first time.
    pub fn give_way_soon(&mut self) {
        if !std::mem::replace(&mut self.asked, true) {
            // Without it others wait a little longer.
            let _ = short_turns();
        }
    }

    fn change(&mut self, short: bool) {
        if short && policy() != libc::SCHED_OTHER {
            // Somebody has chosen how this daemon runs.
            self.fixed = true;
            return;
        }
        let changed = if short { in_real_time() } else { ordinary() };
        match changed {
            Ok(()) => self.in_real_time = short,
            // That it may not is told by the watch, which doesn't look on then.
            Err(_) => self.fixed = true,
        }
    }
}

/// Of the calling thread.
fn policy() -> libc::c_int {
    // SAFETY: takes a number alone.
    unsafe { libc::sched_getscheduler(0) & !libc::SCHED_RESET_ON_FORK }
}

/// Has the calling thread run in real time. What it starts doesn't.
pub(crate) fn in_real_time() -> Result<(), Errno> {
    schedule(libc::SCHED_RR | libc::SCHED_RESET_ON_FORK, PRIORITY)
}

/// Has the calling thread run as others do.
fn ordinary() -> Result<(), Errno> {
    // Who isn't privileged may not take the mark away again that keeps what it starts ordinary.
    schedule(libc::SCHED_OTHER, 0).or_else(|_| schedule(libc::SCHED_OTHER | libc::SCHED_RESET_ON_FORK, 0))
}

fn schedule(policy: libc::c_int, priority: libc::c_int) -> Result<(), Errno> {
    // SAFETY: a structure of numbers, for which zeroes are good values.
    let mut parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    parameters.sched_priority = priority;
    // SAFETY: the structure lives through the call.
    Errno::result(unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) }).map(drop)
}

/// Whether the calling thread has short turns now. Everything else of it stays as it is.
fn short_turns() -> Result<bool, Errno> {
    let mut attributes = attributes()?;
    // An ordinary thread's turn; 0 where the kernel knows none, and shorter where somebody wanted that.
    let turn = Duration::from_nanos(attributes.sched_runtime);
    if attributes.sched_policy != libc::SCHED_OTHER as u32 || turn.is_zero() {
        return Ok(false);
    }
    if turn > SHORT_TURN {
        attributes.sched_runtime = SHORT_TURN.as_nanos() as u64;
        set_attributes(&attributes)?;
    }
    Ok(true)
}

/// Of the calling thread.
fn attributes() -> Result<libc::sched_attr, Errno> {
    // SAFETY: a structure of numbers, for which zeroes are good values.
    let mut attributes: libc::sched_attr = unsafe { std::mem::zeroed() };
    let length = size_of::<libc::sched_attr>();
    // SAFETY: the structure lives through the call, which writes no more than its length.
    Errno::result(unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, length, 0) })?;
    Ok(attributes)
}

/// Of the calling thread.
fn set_attributes(attributes: &libc::sched_attr) -> Result<(), Errno> {
    // SAFETY: the structure lives through the call, and says how long it is.
    Errno::result(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const *attributes, 0) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn a_thread_follows_and_what_it_starts_does_not() {
        let followed = thread::spawn(|| {
            let mut scheduling = Scheduling::default();
            scheduling.change(true);
            if !scheduling.in_real_time {
                assert_eq!(policy(), libc::SCHED_OTHER);
                eprintln!("\n*** NOT RUN: this needs CAP_SYS_NICE or RLIMIT_RTPRIO ***\n");
                return;
            }
            assert_eq!(policy(), libc::SCHED_RR);
            assert_eq!(short_turns(), Ok(false), "there are no turns in real time");
            let started = thread::spawn(policy).join().expect("a thread");
            assert_eq!(started, libc::SCHED_OTHER);
            scheduling.change(false);
            assert!(!scheduling.in_real_time);
            assert_eq!(policy(), libc::SCHED_OTHER);
        });
        followed.join().expect("the thread");
    }

    #[test]
    fn turns_are_short_where_the_kernel_knows_turns_and_nothing_else_changes() {
        let tried = thread::spawn(|| {
            let before = attributes().expect("the kernel tells");
            let mut scheduling = Scheduling::default();
            scheduling.give_way_soon();
            let after = attributes().expect("the kernel tells");
            assert_eq!((after.sched_policy, after.sched_nice), (before.sched_policy, before.sched_nice));
            if before.sched_runtime == 0 {
                assert_eq!(after.sched_runtime, 0);
                eprintln!("\n*** NOT RUN: turns by thread need Linux 6.12 ***\n");
                return;
            }
            let turn = SHORT_TURN.as_nanos() as u64;
            assert_eq!(after.sched_runtime, turn.min(before.sched_runtime));

            // And are so after a time of need, too.
            scheduling.change(true);
            scheduling.change(false);
            assert_eq!(attributes().expect("the kernel tells").sched_runtime, turn.min(before.sched_runtime));
        });
        tried.join().expect("the thread");
    }

    #[test]
    fn turns_that_somebody_made_shorter_stay() {
        let tried = thread::spawn(|| {
            let mut chosen = attributes().expect("the kernel tells");
            if chosen.sched_runtime == 0 {
                eprintln!("\n*** NOT RUN: turns by thread need Linux 6.12 ***\n");
                return;
            }
            chosen.sched_runtime = 200_000;
            set_attributes(&chosen).expect("set");
            assert_eq!(short_turns(), Ok(true));
            assert_eq!(attributes().expect("the kernel tells").sched_runtime, 200_000);
        });
        tried.join().expect("the thread");
    }
}
