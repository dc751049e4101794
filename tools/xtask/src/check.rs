//! `cargo xtask check`: what needs no daemon and no other program.

use crate::process::{Failure, cargo};
use crate::summary::Summary;

/// Formatting, clippy with warnings denied, documentation with warnings denied.
pub fn run() -> Result<(), Failure> {
    let mut summary = Summary::new("check");
    summary.step("formatting", || cargo(["fmt", "--all", "--check"]).run());
    summary.step("formatting (fuzz)", || cargo(["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"]).run());
    summary.step("clippy", || {
        cargo(["clippy", "--workspace", "--all-targets", "--quiet", "--", "--deny", "warnings"]).run()
    });
    summary.step("clippy (fuzz)", || {
        cargo(["clippy", "--manifest-path", "fuzz/Cargo.toml", "--all-targets", "--quiet", "--", "--deny", "warnings"])
            .run()
    });
    summary.step("documentation", || {
        cargo(["doc", "--workspace", "--no-deps", "--quiet"]).env("RUSTDOCFLAGS", "--deny warnings").run()
    });
    summary.end()
}
