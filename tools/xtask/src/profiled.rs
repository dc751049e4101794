//! `cargo xtask profiled`: repd, laid out by what it was seen to do (decision 44).
//!
//! ```text
//!  a build that counts ──► works in the guest (tools/lab/train.sh) ──► what it counted ──► the build
//! ```
//!
//! It does what every other build does. What it does often lies together, and what it hardly ever does lies elsewhere.

use crate::process::{Failure, Tool, cargo, output, release_binary, target_directory};
use crate::{guest, test};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What isn't done often is kept apart: functions, parts of functions, and what they read.
const LAID_OUT: &str = "-Clink-arg=-Wl,-z,keep-text-section-prefix -Cllvm-args=-split-machine-functions";

/// Builds it and says where it is.
pub fn run(rest: &[OsString]) -> Result<(), Failure> {
    if !rest.is_empty() {
        return Err(Failure::usage("'cargo xtask profiled' takes no arguments"));
    }
    let merge = profdata()?;
    guest::prepare()?;
    test::build_daemons()?;
    println!("built: {}", build(&merge)?.display());
    Ok(())
}

/// The daemon as it was built last, if nothing of the plain one, which is built already, has changed since; else it is built.
pub fn current() -> Result<PathBuf, Failure> {
    let of = |path: &Path| path.metadata().and_then(|known| known.modified()).ok();
    let (laid_out, plain) = (target_directory().join("profiled/built/release/repd"), release_binary("repd"));
    if of(&laid_out) > of(&plain) { Ok(laid_out) } else { build(&profdata()?) }
}

fn build(merge: &Path) -> Result<PathBuf, Failure> {
    let folder = target_directory().join("profiled");
    // Where the guest keeps what comes out of it; each daemon says itself in which file.
    let counting = compiled("-Cprofile-generate=/out", &folder.join("counting"))?;
    let counted = folder.join("counted");
    let _ = std::fs::remove_dir_all(&counted);
    guest::train(&counting, &counted)?;
    let profile = folder.join("repd.profdata");
    let parts = profiles(&counted)?;
    Tool::new(merge).args(["merge", "--sparse", "-o"]).arg(&profile).args(parts).run()?;
    // The compiler looks at the file's name only, and cargo not even at that: what was built by another profile goes.
    let built = folder.join("built");
    let _ = std::fs::remove_dir_all(&built);
    compiled(&format!("-Cprofile-use={} {LAID_OUT}", profile.display()), &built)
}

/// A build of the daemon with these flags besides.
fn compiled(flags: &str, folder: &Path) -> Result<PathBuf, Failure> {
    let others = std::env::var("RUSTFLAGS").unwrap_or_default();
    let build = cargo(["build", "--release", "--quiet", "-p", "repd", "--target-dir"]).arg(folder);
    build.env("RUSTFLAGS", format!("{others} {flags}")).run()?;
    Ok(folder.join("release/repd"))
}

/// What the daemons left.
fn profiles(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |error| Failure::start(folder.display().to_string(), error);
    let entries = std::fs::read_dir(folder).map_err(failed)?.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let paths = entries.into_iter().map(|entry| entry.path());
    let parts: Vec<_> = paths.filter(|path| path.extension().is_some_and(|end| end == "profraw")).collect();
    // Two nodes over two drivers.
    if parts.len() < 4 {
        return Err(Failure::Missing(format!(
            "{} of 4 daemons left what they counted in {}",
            parts.len(),
            folder.display()
        )));
    }
    Ok(parts)
}

/// The compiler's own tool for profiles: another version's may not read them.
fn profdata() -> Result<PathBuf, Failure> {
    let (root, version) = (output("rustc", &["--print", "sysroot"])?, output("rustc", &["-vV"])?);
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default();
    let tool = Path::new(root.trim()).join("lib/rustlib").join(host).join("bin/llvm-profdata");
    if tool.is_file() {
        return Ok(tool);
    }
    Err(Failure::NotHere(format!(
        "{} isn't there, and without it no profile can be made: 'rustup component add llvm-tools', then again",
        tool.display()
    )))
}
