//! What the demo prints: numbered steps, what happened, what that shows. Plain text in a pipe.

use crate::output::tell;
use crate::terminal::{Color, paint, stderr_has_color, stdout_has_color};
use std::fmt::Display;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

/// The tale so far.
pub struct Tale {
    color: bool,
    /// stdout is for JSON: the tale goes to stderr.
    aside: bool,
    step: u32,
    begun: Instant,
}

impl Tale {
    pub fn new(aside: bool) -> Self {
        let color = if aside { stderr_has_color() } else { stdout_has_color() };
        Tale { color, aside, step: 0, begun: Instant::now() }
    }

    /// A reader that left doesn't end the demo: its checks still count.
    fn line(&self, text: &str) {
        if self.aside {
            tell(text);
        } else {
            let _ = writeln!(std::io::stdout(), "{text}");
        }
    }

    /// A step begins.
    pub fn step(&mut self, title: impl Display) {
        self.step += 1;
        self.line(&format!("\n{}", paint(&format!("{}. {title}", self.step), Color::Strong, self.color)));
    }

    /// Something happened.
    pub fn say(&self, text: impl Display) {
        self.line(&format!("   {text}"));
    }

    /// What the daemon says of itself.
    pub fn quote(&self, node: &str, verdict: &str) {
        self.say(format!("{node} says: {}", paint(verdict, Color::Middling, self.color)));
    }

    /// Something was checked and holds.
    pub fn holds(&self, text: impl Display) {
        self.say(format!("{} {text}", paint("ok", Color::Good, self.color)));
    }

    /// What the step proves.
    pub fn proves(&self, text: impl Display) {
        self.say(paint(&format!("=> {text}"), Color::Faint, self.color));
    }

    /// The end of a log, when something failed.
    pub fn log_end(&self, node: &str, text: &str) {
        tell(format_args!("--- the end of {node}'s log ---\n{text}"));
    }

    /// All went well.
    pub fn end(&self, directory: &Path, kept: bool) {
        let seconds = self.begun.elapsed().as_secs_f64();
        let well = paint("Every check held.", Color::Good, self.color);
        self.line(&format!("\n{well} ({seconds:.1} s)\n\nWhat to try next"));
        if kept {
            let directory = directory.display();
            self.line(&format!(
                "  less {directory}/repd.toml {directory}/alpha.log      the configuration, and what alpha logged"
            ));
            self.line(&format!("  repd --config {directory}/repd.toml --node alpha --runtime-dir {directory}/alpha    a node of your own"));
            self.line(&format!("  repctl --socket {directory}/alpha/control.sock status --watch"));
        } else {
            self.line("  repctl demo --keep DIR     the same, leaving configuration, disks and logs to look at");
        }
        self.line("  repctl config check        write /etc/repd/repd.toml for two machines (README, \"Two nodes\"), then check it");
        self.line("  cargo xtask test           everything that is claimed, tested with real clients and file systems");
    }
}
