//! `cargo xtask bench`: our figures beside other programs'. `--guest`: beside the in-kernel DRBD, in the lab's guest.

use crate::process::{Failure, Tool, cargo, output, release_binary, workspace_root};
use crate::{guest, packages, profiled, test};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Runs the comparison that is asked for.
pub fn run(rest: &[OsString]) -> Result<(), Failure> {
    let words: Vec<_> = rest.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    if words.iter().any(|word| word == "--guest") {
        return in_guest(&Options::parse(&words)?);
    }
    packages::install(packages::BENCHED)?;
    if words.iter().any(|word| word == "--flame") {
        packages::install(packages::SAMPLED)?;
    }
    test::build_daemons()?;
    cargo(["build", "--release", "--quiet", "-p", "rep-bench", "--bin", "rep-bench"]).run()?;
    Tool::new(release_binary("rep-bench")).args(rest).run()
}

/// What can be said of a run in the guest.
#[derive(Debug)]
struct Options {
    run: guest::Run,
    /// A third one beside them: the least that a mirror in user space does.
    bare: bool,
    /// Ours is the build that is laid out by a profile.
    profiled: bool,
}

impl Options {
    fn parse(words: &[String]) -> Result<Self, Failure> {
        let run = guest::Run { backing: "brd", rounds: 3, seconds: 6 };
        let mut options = Options { run, bare: false, profiled: false };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--guest" => {}
                "--virtio" => options.run.backing = "virtio",
                "--bare" => options.bare = true,
                "--profiled" => options.profiled = true,
                "--rounds" => options.run.rounds = number(words.next())?,
                "--seconds" => options.run.seconds = number(words.next())?,
                _ => return Err(misused()),
            }
        }
        Ok(options)
    }
}

fn number(word: Option<&String>) -> Result<u32, Failure> {
    word.and_then(|word| word.parse().ok()).filter(|number| (1..1000).contains(number)).ok_or_else(misused)
}

fn misused() -> Failure {
    Failure::usage(
        "'cargo xtask bench --guest' takes '--rounds N', '--seconds N' (a load), '--virtio', '--bare' and '--profiled'",
    )
}

/// Runs both in one guest and keeps the table.
fn in_guest(options: &Options) -> Result<(), Failure> {
    guest::prepare()?;
    test::build_daemons()?;
    let repd = if options.profiled { profiled::current()? } else { release_binary("repd") };
    // What is measured is what stands here now, and not what somebody makes of it meanwhile.
    let heading = heading(options)?;
    let out = crate::process::target_directory().join("guest-bench");
    let _ = std::fs::remove_dir_all(&out);
    let bare = options.bare.then(build_bare_mirror).transpose()?;
    guest::bench(&repd, &options.run, bare.as_deref(), &out)?;
    let table = std::fs::read_to_string(out.join("table.md")).map_err(|e| Failure::start("the guest's table", e))?;
    let build = if options.profiled { "-profiled" } else { "" };
    let path = workspace_root().join(format!("benches/results/guest-{}{build}.md", options.run.backing));
    std::fs::write(&path, heading + &table).map_err(|e| Failure::start(path.display().to_string(), e))?;
    println!("kept in {}", path.display());
    Ok(())
}

/// What a mirror in user space costs at the least, to be run beside ours.
fn build_bare_mirror() -> Result<PathBuf, Failure> {
    cargo(["build", "--release", "--quiet", "-p", "rep-ublk", "--example", "bare_mirror"]).run()?;
    Ok(release_binary("examples/bare_mirror"))
}

/// What stands above the table: without it no figure means anything.
fn heading(options: &Options) -> Result<String, Failure> {
    let say = |program: &str, words: &[&str]| output(program, words).map(|text| text.trim().to_owned());
    let root = workspace_root();
    let commit = say("git", &["-C", &root.to_string_lossy(), "describe", "--always", "--dirty"])?;
    let (kernel, date) = (say("uname", &["-sr"])?, say("date", &["-u", "+%Y-%m-%dT%H:%MZ"])?);
    let (disks, loads) = match options.run.backing {
        "brd" => ("RAM disks", "two RAM disks"),
        _ => ("virtio disks", "two virtio disks"),
    };
    let built = if options.profiled { ", laid out by a profile ('cargo xtask profiled')," } else { "" };
    let busy = std::fs::read_to_string(Path::new("/proc/loadavg")).unwrap_or_default();
    let busy = busy.split(' ').next().unwrap_or_default().to_owned();
    Ok(format!(
        "Commit {commit}, {date}. One guest, Debian's Linux 6.12 in software emulation on {kernel} (load of the host before it began: {busy}), \
         {disks}; ours{built} over ublk and the in-kernel DRBD 8.4, protocol C, each on {loads}, take turns: {} rounds of {} s a load, fio with \
         io_uring. The ratio is the median of the rounds' ratios. Processor time is the whole guest's: both nodes and fio.\n\n",
        options.run.rounds, options.run.seconds
    ))
}
