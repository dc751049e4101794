//! What the output goes to: colours on a terminal, plain text in a pipe; and numbers for people.

use std::io::IsTerminal;
use std::time::Duration;

/// Whether stdout may be coloured: a terminal, and `NO_COLOR` unset.
pub fn stdout_has_color() -> bool {
    std::io::stdout().is_terminal() && allows_color()
}

/// Whether stderr may be coloured.
pub fn stderr_has_color() -> bool {
    std::io::stderr().is_terminal() && allows_color()
}

fn allows_color() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// How a text is coloured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Color {
    /// All is well.
    Good,
    /// Under way, or not quite.
    Middling,
    /// Something is wrong.
    Bad,
    /// Less important.
    Faint,
    /// A heading.
    Strong,
}

/// The text in a colour, or as it is.
pub fn paint(text: &str, color: Color, on: bool) -> String {
    if !on || text.is_empty() {
        return text.to_owned();
    }
    let code = match color {
        Color::Good => "32",
        Color::Middling => "33",
        Color::Bad => "31",
        Color::Faint => "2",
        Color::Strong => "1",
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

pub use rep_control::api::format_bytes as bytes;

/// A short time for people.
pub fn length(length: Duration) -> String {
    match length.as_micros() {
        microseconds @ 0..1_000 => format!("{microseconds} µs"),
        microseconds @ 1_000..1_000_000 => format!("{:.1} ms", microseconds as f64 / 1e3),
        _ => format!("{:.1} s", length.as_secs_f64()),
    }
}

/// Seconds for people.
pub fn seconds(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{}:{:02} min", seconds / 60, seconds % 60),
        _ => format!("{}:{:02} h", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!([seconds(5), seconds(65), seconds(7260)], ["5 s", "1:05 min", "2:01 h"]);
        assert_eq!([7, 1_250, 2_500_000].map(|us| length(Duration::from_micros(us))), ["7 µs", "1.2 ms", "2.5 s"]);
    }

    #[test]
    fn colours_are_off_where_they_are_not_wanted() {
        assert_eq!(paint("x", Color::Bad, false), "x");
        assert_eq!(paint("x", Color::Bad, true), "\x1b[31mx\x1b[0m");
    }
}
