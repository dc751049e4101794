//! `repctl demo`: the main job, shown with two real daemons on this machine, and checked at every step.
//!
//! ```text
//! workload --NBD--> alpha (Primary) ==TCP, loopback==> beta (Secondary)
//!    |                 alpha.disk                         beta.disk
//!    `-- ledger: what was written where, and what a flush has covered
//! ```
//!
//! | file | what |
//! |---|---|
//! | `script` | the steps, in order |
//! | `node` | a daemon and how it is asked |
//! | `workload`, `ledger`, `pattern` | writes that can be verified |
//! | `compare` | both disks, byte for byte |
//! | `tale` | what is printed |
//! | `interrupt` | Ctrl-C leaves nothing behind |
//!
//! It isn't a test of the engine: those are the simulator and the scenarios. But it fails when a check fails.

mod compare;
mod interrupt;
mod ledger;
mod node;
mod pattern;
mod script;
mod tale;
mod workload;

use crate::Failure;
use crate::cli::{DemoArguments, Options};
use crate::output::print_json;
use interrupt::Cleanup;
use node::Node;
use rep_control::api::ApiError;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tale::Tale;

/// A check that failed, or something that kept the demo from going on: one sentence.
#[derive(Debug)]
pub struct Failed(pub String);

impl<E: std::error::Error> From<E> for Failed {
    fn from(error: E) -> Self {
        Failed(error.to_string())
    }
}

/// Turns a condition into a check.
fn check(condition: bool, otherwise: impl FnOnce() -> String) -> Result<(), Failed> {
    if condition { Ok(()) } else { Err(Failed(otherwise())) }
}

/// Where everything lies, and the two nodes.
struct Stage {
    directory: PathBuf,
    alpha: Node,
    beta: Node,
}

/// Runs the demo.
pub fn run(arguments: &DemoArguments, options: &Options) -> Result<(), Failure> {
    let cleanup = Arc::new(Cleanup::default());
    interrupt::watch(cleanup.clone());
    let mut tale = Tale::new(options.json);
    let result = perform(arguments, &cleanup, &mut tale);
    cleanup.run();
    let summary = result.map_err(|failed| {
        let error = ApiError::failed("DemoFailed", failed.0);
        let hint = match &arguments.keep {
            Some(directory) => format!("the logs are in {}", directory.display()),
            None => "run it again with --keep DIR to see the logs".to_owned(),
        };
        Failure::from(error.with_hint(hint))
    })?;
    if options.json { print_json(&summary) } else { Ok(()) }
}

/// What the demo found, for scripts.
#[derive(Clone, Copy, Default, Debug, serde::Serialize)]
struct Summary {
    /// Whether both disks held the same bytes at the end.
    identical: bool,
    /// Bytes compared.
    compared_bytes: u64,
    /// Bytes that both resyncs copied.
    resynced_bytes: u64,
    /// Bytes of the blocks that were marked before them.
    dirty_bytes: u64,
    /// Bytes of the extents that were hot when the Primary crashed.
    hot_extent_bytes: u64,
    /// From the Primary's death until the other node's device was usable, in milliseconds.
    failover_ms: u64,
    /// The longest a client waited for an answer when the peer died, in milliseconds.
    stall_ms: u64,
}

fn perform(arguments: &DemoArguments, cleanup: &Arc<Cleanup>, tale: &mut Tale) -> Result<Summary, Failed> {
    let mut stage = set_up(arguments, cleanup)?;
    let played = script::play(&mut stage, arguments.size, tale);
    if played.is_err() {
        for node in [&stage.alpha, &stage.beta] {
            tale.log_end(node.name(), &node.log_end());
        }
    }
    let summary = played?;
    tale.end(&stage.directory, arguments.keep.is_some());
    Ok(summary)
}

fn set_up(arguments: &DemoArguments, cleanup: &Arc<Cleanup>) -> Result<Stage, Failed> {
    let directory = directory(arguments.keep.as_deref())?;
    if arguments.keep.is_none() {
        cleanup.remove_at_end(&directory);
    }
    let repd = node::find_repd()?;
    for name in ["alpha", "beta"] {
        fs::create_dir(directory.join(name))?;
        let disk = directory.join(format!("{name}.disk"));
        fs::File::create(&disk)?.set_len(arguments.size)?;
    }
    write_secret(&directory.join("secret"))?;
    let config = directory.join("repd.toml");
    fs::write(&config, config_text(&directory)?)?;
    let node = |name: &str| Node::new(name, &repd, &directory, cleanup.clone());
    Ok(Stage { alpha: node("alpha"), beta: node("beta"), directory })
}

fn directory(keep: Option<&Path>) -> Result<PathBuf, Failed> {
    let Some(path) = keep else {
        return Ok(tempfile::Builder::new().prefix("repd-demo-").tempdir()?.keep());
    };
    fs::create_dir_all(path)?;
    let empty = fs::read_dir(path)?.next().is_none();
    check(empty, || format!("{} isn't empty; name a new directory with --keep", path.display()))?;
    Ok(path.canonicalize()?)
}

fn write_secret(path: &Path) -> Result<(), Failed> {
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes).map_err(|error| Failed(error.to_string()))?;
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(())
}

/// Two ports nobody uses at this moment.
fn free_ports() -> Result<[u16; 2], Failed> {
    let listeners = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
    Ok([listeners[0].local_addr()?.port(), listeners[1].local_addr()?.port()])
}

fn config_text(directory: &Path) -> Result<String, Failed> {
    let ports = free_ports()?;
    let directory = directory.display();
    let mut text =
        format!("[resource.demo.net]\nconnect-interval = \"500ms\"\nshared-secret-file = \"{directory}/secret\"\n");
    for (name, port) in ["alpha", "beta"].into_iter().zip(ports) {
        text += &format!(
            "\n[resource.demo.node.{name}]\naddress = \"127.0.0.1:{port}\"\n\
             [resource.demo.node.{name}.volume.0]\ndisk = \"{directory}/{name}.disk\"\n\
             device = \"nbd:unix:{directory}/{name}/nbd.sock\"\n"
        );
    }
    Ok(text)
}
