//! The configuration: one TOML file, the same on both nodes, parsed once into types that can't be wrong.
//!
//! The way of a file: `source` reads it and what it includes, `table` walks its tables with their places in the text,
//! `parse` makes values of them, `check` compares resources with each other, and every problem met on the way
//! is a [`Problem`] that knows file, line and text. All problems are told at once; with one error there is no
//! [`Config`].
//!
//! Invariant: whatever the bytes, [`parse`] returns. It is the entry point of the fuzzer.

mod check;
mod difference;
mod links;
mod parse;
mod problem;
mod secret;
mod show;
mod source;
mod table;
mod types;
mod value;

pub use difference::differences;
pub use links::LinkConfig;
pub use problem::{ConfigErrors, Problem, Severity};
pub use secret::{Secret, SecretError, read_secret};
pub use types::{
    ARCHIVE_DIR_DEFAULT, ArchiveBlocks, ArchiveConfig, CommandLine, Config, Device, Durability, Fencing,
    HandlersConfig, MetaDisk, NetConfig, NodeConfig, OnNoData, ResourceConfig, ResyncConfig, SplitBrainConfig,
    SplitBrainPolicy, StartMode, VolumeConfig,
};
pub use value::{format_duration, parse_duration, parse_size};

use source::SourceFile;
use std::path::Path;
use std::sync::Arc;

/// Reads a configuration file and everything it includes.
pub fn load(path: &Path) -> Result<Config, ConfigErrors> {
    let mut problems = Vec::new();
    let files = source::read_all(path, &mut problems);
    let parsed = parse::files(&files, &mut problems);
    for (path, place) in &parsed.secrets {
        // A secret that can't be read is told by the daemon that needs it; the peer's operator may well not have it.
        if let Ok((_, Some(warning))) = read_secret(path) {
            problems.push(Problem::error(warning).at(place.clone(), "named here").warning());
        }
    }
    finish(parsed, problems)
}

/// Parses a configuration that stands in memory; `include` is an error there. `name` is what problems call it.
pub fn parse(name: &str, text: &[u8]) -> Result<Config, ConfigErrors> {
    let mut problems = Vec::new();
    let files: Vec<_> = SourceFile::from_bytes(name, text, &mut problems).into_iter().map(Arc::new).collect();
    for file in &files {
        source::refuse_includes(file, &mut problems);
    }
    let parsed = parse::files(&files, &mut problems);
    finish(parsed, problems)
}

fn finish(parsed: parse::Parsed, mut problems: Vec<Problem>) -> Result<Config, ConfigErrors> {
    let parse::Parsed { mut config, claims, .. } = parsed;
    check::claims(&claims, &mut problems);
    if problems.iter().any(|problem| problem.severity == Severity::Error) {
        return Err(ConfigErrors(problems));
    }
    config.warnings = problems;
    Ok(config)
}

#[cfg(test)]
mod tests;
