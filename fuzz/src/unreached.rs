//! Which lines a target never reached: where a seed is missing, or code that can't be reached from outside.

use crate::coverage::Reached;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};

/// Prints, for each file of the product in which something was reached, the lines that weren't. Needs `addr2line`.
pub fn print(reached: &Reached) {
    let places: Vec<(usize, bool)> = reached.places().collect();
    let lines = match lines_of(places.iter().map(|place| place.0)) {
        Ok(lines) => lines,
        Err(error) => return eprintln!("addr2line: {error}"),
    };
    let mut files: BTreeMap<String, [BTreeSet<u32>; 2]> = BTreeMap::new();
    for ((_, hit), line) in places.iter().zip(lines) {
        if let Some((file, line)) = product_line(&line) {
            files.entry(file).or_default()[usize::from(*hit)].insert(line);
        }
    }
    for (file, [not_hit, hit]) in files.iter().filter(|(_, [_, hit])| !hit.is_empty()) {
        let lines: Vec<String> = not_hit.difference(hit).map(u32::to_string).collect();
        println!("{file}: {} lines reached, {} not: {}", hit.len(), lines.len(), lines.join(" "));
    }
}

/// The line of the source at each place in the program.
fn lines_of(places: impl Iterator<Item = usize>) -> std::io::Result<Vec<String>> {
    let mut tool = Command::new("addr2line");
    tool.arg("-e").arg(std::env::current_exe()?).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = tool.spawn()?;
    let question: String = places.map(|place| format!("{place:#x}\n")).collect();
    let asking = child.stdin.take().map(|mut stdin| std::thread::spawn(move || stdin.write_all(question.as_bytes())));
    let answer = child.wait_with_output()?;
    if let Some(asking) = asking {
        asking.join().map_err(|_| std::io::Error::other("nobody asked"))??;
    }
    Ok(String::from_utf8_lossy(&answer.stdout).lines().map(str::to_owned).collect())
}

/// File and line, if it is the product's.
fn product_line(text: &str) -> Option<(String, u32)> {
    let (_, ours) = text.split_once("/crates/")?;
    let (file, line) = ours.split_once(':')?;
    let digits = line.split(|digit: char| !digit.is_ascii_digit()).next()?;
    Some((file.to_owned(), digits.parse().ok()?))
}
