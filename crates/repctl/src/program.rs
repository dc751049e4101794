//! Other programs, run without a shell, each with a deadline.

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Bytes of a program's output that are kept; the rest is read and dropped.
const OUTPUT_BYTES_MAX: u64 = 1 << 20;
/// The pause between two looks at whether it has ended.
const PAUSE: Duration = Duration::from_millis(5);
/// How long output is waited for once it has ended: what it left running may hold the pipe open for ever.
const OUTPUT_PATIENCE: Duration = Duration::from_millis(500);

/// How it ended.
pub struct Ended {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

impl Ended {
    /// Whether it ended well.
    pub fn is_well(&self) -> bool {
        self.code == Some(0)
    }

    /// What it complained of, in one line.
    pub fn complaint(&self) -> String {
        let lines: Vec<_> = self.stderr.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        match (lines.as_slice(), self.code) {
            ([], Some(code)) => format!("exit code {code}"),
            ([], None) => "a signal ended it".to_owned(),
            (lines, _) => lines.join(" "),
        }
    }
}

/// Why there is no end to tell of.
#[derive(Debug)]
pub enum NoEnd {
    /// It can't be run.
    NotRun(std::io::Error),
    /// It was killed, for it wasn't done in time. What it did meanwhile isn't known.
    TimedOut,
}

/// Runs a program to its end, in a process group of its own: a Ctrl-C is for its caller.
pub fn run<S: AsRef<OsStr>>(words: &[S], deadline: Instant) -> Result<Ended, NoEnd> {
    let (program, arguments) = words.split_first().ok_or_else(|| NoEnd::NotRun(std::io::ErrorKind::NotFound.into()))?;
    let mut command = Command::new(program);
    command.args(arguments).process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(NoEnd::NotRun)?;
    let (stdout, stderr) = (reader(child.stdout.take()), reader(child.stderr.take()));
    loop {
        if let Some(status) = child.try_wait().map_err(NoEnd::NotRun)? {
            let text = |from: Receiver<String>| from.recv_timeout(OUTPUT_PATIENCE).unwrap_or_default();
            return Ok(Ended { code: status.code(), stdout: text(stdout), stderr: text(stderr) });
        }
        if Instant::now() >= deadline {
            kill(&mut child);
            return Err(NoEnd::TimedOut);
        }
        std::thread::sleep(PAUSE);
    }
}

fn reader(pipe: Option<impl Read + Send + 'static>) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let Some(mut pipe) = pipe else { return };
        let mut kept = Vec::new();
        let _ = pipe.by_ref().take(OUTPUT_BYTES_MAX).read_to_end(&mut kept);
        let _ = std::io::copy(&mut pipe, &mut std::io::sink());
        let _ = sender.send(String::from_utf8_lossy(&kept).into_owned());
    });
    receiver
}

/// Kills it with what it has started. One that hangs in the kernel isn't waited for.
fn kill(child: &mut Child) {
    if let Ok(group) = i32::try_from(child.id()) {
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
    for _ in 0..40 {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(120)
    }

    #[test]
    fn its_end_and_its_words_are_told() {
        let ended = run(&["/bin/sh", "-c", "echo out; echo 'not  here' >&2; exit 7"], soon()).unwrap();
        assert_eq!((ended.code, ended.stdout.as_str(), ended.complaint().as_str()), (Some(7), "out\n", "not  here"));
        let ended = run(&["/bin/sh", "-c", "exit 3"], soon()).unwrap();
        assert!(!ended.is_well() && ended.complaint() == "exit code 3");
    }

    #[test]
    fn one_that_takes_too_long_is_killed_and_one_that_is_not_there_is_told() {
        assert!(matches!(run(&["/bin/sleep", "600"], Instant::now()), Err(NoEnd::TimedOut)));
        assert!(matches!(run(&["/nonexistent/program"], soon()), Err(NoEnd::NotRun(_))));
        assert!(matches!(run::<&str>(&[], soon()), Err(NoEnd::NotRun(_))));
    }

    #[test]
    fn what_it_leaves_running_is_not_waited_for() {
        let ended = run(&["/bin/sh", "-c", "sleep 300 & exit 0"], soon()).unwrap();
        assert!(ended.is_well());
    }
}
