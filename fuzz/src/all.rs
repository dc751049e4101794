//! All targets, each in a process of its own (the counters are one to a process), as many at once as there are processors.

use crate::row::Row;
use crate::targets::{TARGETS, Target};
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

struct Running {
    target: &'static Target,
    child: Child,
}

/// Runs all targets with this process's arguments and prints the table; whether nothing was found. `counted`: so many
/// executions are asked for that slow targets get their time instead.
pub fn run(counted: bool) -> Result<bool, String> {
    let jobs = std::thread::available_parallelism().map_or(2, usize::from);
    let mut running = Vec::new();
    let mut rows = Vec::new();
    for target in TARGETS {
        while running.len() >= jobs {
            rows.push(reap(&mut running)?);
        }
        running.push(Running { target, child: start(target, counted)? });
    }
    while !running.is_empty() {
        rows.push(reap(&mut running)?);
    }
    println!("\n{}", Row::HEAD);
    rows.iter().for_each(|(row, _)| println!("{row}"));
    Ok(rows.iter().all(|(_, clean)| *clean))
}

fn start(target: &Target, counted: bool) -> Result<Child, String> {
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let mut words: Vec<_> = std::env::args_os().skip(1).collect();
    if let Some(at) = words.iter().position(|word| word == "--executions")
        && target.slow
        && counted
    {
        words.drain(at..(at + 2).min(words.len()));
    }
    let command = Command::new(&program).args(words).args(["--target", target.name]).stdout(Stdio::piped()).spawn();
    command.map_err(|e| e.to_string())
}

/// Waits until one has ended; its row, and whether it was clean.
fn reap(running: &mut Vec<Running>) -> Result<(String, bool), String> {
    loop {
        // A row is short enough for the pipe: nobody waits for this process to read it.
        if let Some(index) = running.iter_mut().position(|one| !matches!(one.child.try_wait(), Ok(None))) {
            let mut one = running.swap_remove(index);
            let clean = one.child.wait().is_ok_and(|status| status.success());
            let mut said = String::new();
            if let Some(mut stdout) = one.child.stdout.take() {
                stdout.read_to_string(&mut said).map_err(|e| e.to_string())?;
            }
            let row = said.lines().find(|line| line.starts_with(one.target.name)).map(str::to_owned);
            let row = row.unwrap_or_else(|| format!("{:<18} FAILED", one.target.name));
            println!("{row}");
            return Ok((row, clean));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
