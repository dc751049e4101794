//! `cargo xtask`: the one door to everything a developer or a CI machine runs.
//!
//! It only starts other programs (cargo, apt-get, the workspace's own binaries) and adds up how they ended; nothing
//! that is tested lives here. It has no dependencies, so that the first command of a fresh checkout begins at once.

mod bench;
mod check;
mod fuzz;
mod guest;
mod instructions;
mod packages;
mod process;
mod profiled;
mod sim;
mod summary;
mod test;
mod torture;

use process::{Failure, Tool, release_binary, workspace_root};
use std::ffi::OsString;
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask VERB [ARGUMENT]...

  demo  [ARGUMENT]...   two nodes on this machine show the main job (arguments go to 'repctl demo')
  check                 formatting, clippy with warnings denied, documentation
  test  [--only STEP]   installs what the tests drive, builds, runs every test; steps: unit, instructions, sim,
                        fuzz, daemons, torture, guest-short: block devices in an emulated machine; only by name,
                        guest: all of its scenarios
  sim   [ARGUMENT]...   the simulator (arguments go to it: --seeds N, --seed N, --planted, ...)
  torture [ARGUMENT]... real daemons, killed, cut, corrupted, without power (--minutes N, --seed N, --only KIND, ...)
  fuzz  [ARGUMENT]...   the fuzz targets (--seconds N, --target NAME, --replay, --list)
  bench [ARGUMENT]...   our figures beside nbdkit's and QEMU's (--quick, --json); --guest: beside the
                        in-kernel DRBD's, in an emulated machine (--rounds N, --seconds N, --virtio, --profiled)
  profiled              repd, laid out by what it was seen to do in an emulated machine (needs rustup's llvm-tools)
  instructions [--accept]
                        instructions of the data path's pieces, by callgrind, beside the committed ones; --accept
                        commits these instead
  guest [ARGUMENT]...   a script in an emulated machine whose kernel has ublk, nbd and DRBD (see tools/lab/README.md)
  ci                    check, then test";

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let verb = arguments.next().and_then(|v| v.into_string().ok()).unwrap_or_default();
    let rest: Vec<OsString> = arguments.collect();
    match run(&verb, &rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xtask: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(verb: &str, rest: &[OsString]) -> Result<(), Failure> {
    std::env::set_current_dir(workspace_root()).map_err(|e| Failure::start("the workspace's folder", e))?;
    match verb {
        "demo" => demo(rest),
        "check" => check::run(),
        "test" => test::run(rest),
        "sim" => sim::run(rest),
        "torture" => torture::run(rest),
        "fuzz" => fuzz::run(rest),
        "bench" => bench::run(rest),
        "instructions" => instructions::run(rest),
        "profiled" => profiled::run(rest),
        "guest" => guest::run(rest),
        "ci" => check::run().and_then(|()| test::run(rest)),
        "" | "help" | "--help" | "-h" => {
            println!("{USAGE}");
            Ok(())
        }
        other => Err(Failure::usage(format!("there is no verb '{other}'\n{USAGE}"))),
    }
}

/// The README's first command.
fn demo(rest: &[OsString]) -> Result<(), Failure> {
    test::build_daemons()?;
    Tool::new(release_binary("repctl")).arg("demo").args(rest).run()
}
