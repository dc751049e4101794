//! One run of a program: no shell, a process group of its own, a deadline, and output of bounded size in the log.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::io::{PipeReader, Read};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Bytes of a program's output that are logged; the rest is read and dropped.
const OUTPUT_BYTES_MAX: usize = 16 << 10;
/// How often a program that says nothing is looked at.
const LOOK_INTERVAL_MS: u16 = 20;

/// What to run.
pub struct Program {
    /// The program and its arguments.
    pub words: Vec<String>,
    /// What it is told besides: `REPD_…`.
    pub environment: Vec<(&'static str, String)>,
    /// Then it is killed, with everything it has started.
    pub timeout: Duration,
    /// Set when nobody wants its answer any more: it is killed.
    pub cancelled: Arc<AtomicBool>,
}

/// How it ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ending {
    /// With this exit code.
    Exited(i32),
    /// By this signal.
    Killed(i32),
    /// It wasn't done in time.
    TimedOut,
    /// Nobody wanted its answer any more.
    Cancelled,
    /// It could not be run.
    NotRun(String),
}

/// How a program ended, and what it had to say.
pub struct Run {
    /// How.
    pub ending: Ending,
    /// The beginning of what it printed.
    pub output: Vec<u8>,
    /// Bytes that were dropped.
    pub dropped_bytes: usize,
}

/// Variables by which the daemon's own service manager speaks to it: not for others.
const NOT_PASSED_ON: [&str; 4] = ["NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];

/// Runs a program to its end. Blocks for its timeout at most.
pub fn run(program: &Program) -> Run {
    let mut run = Run { ending: Ending::Cancelled, output: Vec::new(), dropped_bytes: 0 };
    match start(program) {
        Ok((child, output)) => run.ending = follow(program, child, output, &mut run.output, &mut run.dropped_bytes),
        Err(error) => run.ending = Ending::NotRun(error.to_string()),
    }
    run
}

fn start(program: &Program) -> std::io::Result<(Child, PipeReader)> {
    let (reader, writer) = std::io::pipe()?;
    let mut command = Command::new(program.words.first().map_or("", String::as_str));
    command.args(program.words.iter().skip(1)).envs(program.environment.iter().map(|(name, value)| (name, value)));
    for name in NOT_PASSED_ON {
        command.env_remove(name);
    }
    command.process_group(0).current_dir("/").stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    Ok((command.spawn()?, reader))
}

fn follow(
    program: &Program,
    mut child: Child,
    mut pipe: PipeReader,
    output: &mut Vec<u8>,
    dropped_bytes: &mut usize,
) -> Ending {
    let deadline = Instant::now() + program.timeout;
    let mut open = true;
    loop {
        open = open && read_some(&mut pipe, output, dropped_bytes);
        if !open {
            // All that was to be said has been; the end can't be far, but it may be.
            std::thread::sleep(Duration::from_millis(5));
        }
        match child.try_wait() {
            Ok(Some(status)) => {
                while open && is_readable(&pipe, 0) && read_some(&mut pipe, output, dropped_bytes) {}
                return ended(status);
            }
            Ok(None) => {}
            Err(error) => return Ending::NotRun(error.to_string()),
        }
        let early = match (program.cancelled.load(Ordering::Relaxed), Instant::now() >= deadline) {
            (true, _) => Ending::Cancelled,
            (_, true) => Ending::TimedOut,
            _ => continue,
        };
        kill(&mut child);
        return early;
    }
}

/// Kills it, and what it has started and not put into a group of its own.
fn kill(child: &mut Child) {
    let group = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
    // Gone already is as good.
    let _ = killpg(group, Signal::SIGKILL);
    let _ = child.kill();
    // A process in uninterruptible sleep would keep us: its end isn't waited for long.
    for _ in 0..50 {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn ended(status: ExitStatus) -> Ending {
    match status.code() {
        Some(code) => Ending::Exited(code),
        None => Ending::Killed(status.signal().unwrap_or_default()),
    }
}

fn is_readable(pipe: &PipeReader, timeout_ms: u16) -> bool {
    let mut fds = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::from(timeout_ms)).is_ok_and(|ready| ready > 0)
}

/// Waits a moment for output and takes it; false when there will be no more.
fn read_some(pipe: &mut PipeReader, output: &mut Vec<u8>, dropped_bytes: &mut usize) -> bool {
    if !is_readable(pipe, LOOK_INTERVAL_MS) {
        return true;
    }
    let mut buffer = [0; 4096];
    match pipe.read(&mut buffer) {
        Ok(0) => false,
        Ok(length) => {
            let kept = length.min(OUTPUT_BYTES_MAX - output.len());
            output.extend_from_slice(&buffer[..kept]);
            *dropped_bytes += length - kept;
            true
        }
        Err(error) => error.kind() == std::io::ErrorKind::Interrupted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, timeout: Duration) -> Run {
        run(&Program {
            words: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            environment: vec![("REPD_RESOURCE", "vz; exit 9".to_owned())],
            timeout,
            cancelled: Arc::default(),
        })
    }

    const LONG: Duration = Duration::from_secs(120);

    #[test]
    fn its_exit_code_and_its_output_are_told() {
        let run = shell("echo out; echo err >&2; echo \"$REPD_RESOURCE\"; exit 7", LONG);
        assert_eq!(run.ending, Ending::Exited(7));
        assert_eq!(String::from_utf8(run.output).unwrap(), "out\nerr\nvz; exit 9\n");
        assert_eq!(shell("kill -9 $$", LONG).ending, Ending::Killed(9));
    }

    #[test]
    fn output_without_end_is_bounded() {
        let run = shell("head -c 1000000 /dev/zero; exit 4", LONG);
        assert_eq!((run.ending, run.output.len()), (Ending::Exited(4), OUTPUT_BYTES_MAX));
        assert_eq!(run.dropped_bytes, 1_000_000 - OUTPUT_BYTES_MAX);
    }

    #[test]
    fn one_that_does_not_end_is_killed_with_what_it_started() {
        let marker = tempfile::tempdir().unwrap();
        let path = marker.path().join("pid").display().to_string();
        let run = shell(&format!("sleep 600 & echo $! > {path}; echo begun; wait"), Duration::from_millis(1500));
        assert_eq!(run.ending, Ending::TimedOut);
        let pid: i32 = std::fs::read_to_string(&path).unwrap().trim().parse().unwrap();
        let lives = || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with('Z'))
        };
        let patience = Instant::now() + LONG;
        while lives() {
            assert!(Instant::now() < patience, "what it started lives on");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn one_that_leaves_something_behind_is_not_waited_for_beyond_its_own_end() {
        let run = shell("sleep 300 & exit 5", LONG);
        assert_eq!(run.ending, Ending::Exited(5));
    }

    #[test]
    fn one_that_is_not_there_is_told() {
        let run = run(&Program {
            words: vec!["/nonexistent/fence".to_owned()],
            environment: Vec::new(),
            timeout: LONG,
            cancelled: Arc::default(),
        });
        assert!(matches!(run.ending, Ending::NotRun(_)));
    }

    #[test]
    fn one_whose_answer_nobody_wants_is_killed() {
        let cancelled = Arc::new(AtomicBool::new(false));
        let words = ["/bin/sleep", "600"].map(str::to_owned).to_vec();
        let program = Program { words, environment: Vec::new(), timeout: LONG * 5, cancelled: cancelled.clone() };
        let running = std::thread::spawn(move || run(&program).ending);
        cancelled.store(true, Ordering::Relaxed);
        assert_eq!(running.join().unwrap(), Ending::Cancelled);
    }
}
