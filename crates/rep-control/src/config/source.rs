//! Files: reading them, with limits, and following `include`.

use super::problem::{Place, Problem};
use super::table::{Table, Value};
use miette::{NamedSource, SourceCode};
use std::collections::{HashSet, VecDeque};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The largest configuration file, in bytes.
const FILE_LENGTH_MAX: u64 = 1 << 20;
/// The most files a configuration is made of.
const FILE_COUNT_MAX: usize = 1000;

/// A file's name and text.
#[derive(Debug)]
pub(super) struct SourceFile {
    code: NamedSource<String>,
}

impl SourceFile {
    /// Takes bytes for text.
    pub fn from_bytes(name: &str, bytes: &[u8], problems: &mut Vec<Problem>) -> Option<Self> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Some(SourceFile { code: NamedSource::new(name, text.to_owned()) }),
            Err(error) => {
                let line = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
                problems.push(Problem::error(format!("{name}:{line}: not UTF-8 text")));
                None
            }
        }
    }

    pub fn name(&self) -> &str {
        self.code.name()
    }

    pub fn text(&self) -> &str {
        self.code.inner()
    }

    pub fn code(&self) -> &dyn SourceCode {
        &self.code
    }
}

/// Reads a file and everything it includes, each file once, in the order met.
pub(super) fn read_all(path: &Path, problems: &mut Vec<Problem>) -> Vec<Arc<SourceFile>> {
    let mut files = Vec::new();
    let mut seen = HashSet::new();
    let mut due = VecDeque::from([(path.to_owned(), None)]);
    while let Some((path, included_at)) = due.pop_front() {
        if !seen.insert(path.canonicalize().unwrap_or_else(|_| path.clone())) {
            continue;
        }
        if seen.len() > FILE_COUNT_MAX {
            problems.push(Problem::error(format!("more than {FILE_COUNT_MAX} configuration files are included")));
            break;
        }
        if let Some(file) = read(&path, included_at, problems) {
            let file = Arc::new(file);
            due.extend(included(&file, &path, problems));
            files.push(file);
        }
    }
    files
}

fn read(path: &Path, included_at: Option<Place>, problems: &mut Vec<Problem>) -> Option<SourceFile> {
    match read_limited(path) {
        Ok(bytes) => SourceFile::from_bytes(&path.display().to_string(), &bytes, problems),
        Err(error) => {
            let mut problem = Problem::error(format!("{} can't be read: {error}", path.display()));
            problem = match included_at {
                Some(place) => problem.at(place, "included here"),
                None => problem.help("name the configuration file with --config FILE"),
            };
            problems.push(problem);
            None
        }
    }
}

/// Opens a file that is one: a pipe or a terminal would keep its reader waiting.
pub(super) fn open_regular(path: &Path) -> std::io::Result<std::fs::File> {
    let mut options = std::fs::OpenOptions::new();
    let file = options.read(true).custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY).open(path)?;
    let kind = file.metadata()?.file_type();
    match (kind.is_file(), kind.is_dir()) {
        (true, _) => Ok(file),
        (_, true) => Err(std::io::Error::other("it is a directory")),
        _ => Err(std::io::Error::other("it is not a regular file")),
    }
}

fn read_limited(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = open_regular(path)?;
    file.take(FILE_LENGTH_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_LENGTH_MAX {
        return Err(std::io::Error::other(format!("it is larger than {FILE_LENGTH_MAX} bytes")));
    }
    Ok(bytes)
}

/// The texts of `include` with their places. Wrong types are told by `parse`, which walks the same tables.
fn include_patterns(file: &Arc<SourceFile>) -> Vec<(String, Place)> {
    let mut silent = Vec::new();
    let (document, _) = toml::de::DeTable::parse_recoverable(file.text());
    let mut table = Table::root(file, &document);
    table
        .array("include", &mut silent)
        .unwrap_or_default()
        .iter()
        .filter_map(|item: &Value<'_>| Some((item.string(&mut silent)?.to_owned(), item.place())))
        .collect()
}

fn included(file: &Arc<SourceFile>, path: &Path, problems: &mut Vec<Problem>) -> Vec<(PathBuf, Option<Place>)> {
    let mut found = Vec::new();
    for (pattern, place) in include_patterns(file) {
        let full = path.parent().unwrap_or(Path::new(".")).join(&pattern);
        match glob::glob(&full.display().to_string()) {
            Ok(paths) => {
                let before = found.len();
                found.extend(paths.flatten().map(|path| (path, Some(place.clone()))));
                let is_pattern = pattern.contains(['*', '?', '[']);
                if found.len() == before && !is_pattern {
                    let problem = Problem::error(format!("{} doesn't exist", full.display()));
                    problems.push(problem.at(place, "no such file"));
                }
            }
            Err(error) => {
                let problem = Problem::error(format!("\"{pattern}\" is no pattern for files: {}", error.msg));
                problems.push(problem.at(place, "a path is expected, in which * and ? may stand"));
            }
        }
    }
    found
}

/// Tells that a configuration in memory can't include files.
pub(super) fn refuse_includes(file: &Arc<SourceFile>, problems: &mut Vec<Problem>) {
    for (_, place) in include_patterns(file) {
        problems.push(Problem::error("files can't be included here").at(place, "remove this"));
    }
}
