//! `repd`: the daemon of one node. Arguments, configuration, runtime directory; then the control thread runs.
//!
//! Everything that can be wrong before the first thread starts is told here, on stderr, with the contract's exit
//! codes (2 usage, 3 configuration, 1 the rest).

mod control;

use clap::Parser;
use control::{Daemon, RuntimeDir, Sockets, StartError, log};
use rep_control::api::ExitCode;
use rep_control::config::{self, Config, ConfigErrors};
use rep_types::NodeName;
use repd::memory;
use std::io::IsTerminal;
use std::path::PathBuf;

/// Mirrors disks between two nodes: the daemon of one node.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    /// The configuration, the same on both nodes
    #[arg(long, value_name = "FILE", default_value = rep_control::CONFIG_PATH_DEFAULT)]
    config: PathBuf,
    /// This node's name in the configuration [default: the host name]
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Where the control socket lies; one daemon a directory
    #[arg(long, value_name = "DIR", default_value = rep_control::RUNTIME_DIR_DEFAULT)]
    runtime_dir: PathBuf,
}

fn main() -> std::process::ExitCode {
    let arguments = Arguments::parse();
    // Before any thread: systemd's variables are read and forgotten, and the mask of new files is changed for a moment.
    let sockets = Sockets::from_systemd();
    // Whoever started this daemon may have had signals blocked, which it would inherit.
    let _ = nix::sys::signal::SigSet::all().thread_unblock();
    let config = config::load(&arguments.config);
    // Inherited by every thread there will be. Whether it may, a data thread that has a device finds out again, and tells.
    if config.as_ref().is_ok_and(Config::has_kernel_devices) {
        let _ = memory::flusher();
    }
    start_logging();
    #[cfg(feature = "planted-bugs")]
    plant_a_bug();
    let result = run(config, arguments, sockets);
    log::flush();
    // Threads that are stuck in the kernel must not keep the process: what had to be left cleanly has been.
    std::process::exit(result as i32)
}

fn run(config: Result<Config, ConfigErrors>, arguments: Arguments, sockets: Sockets) -> ExitCode {
    let config = match config {
        Ok(config) => config,
        Err(errors) => {
            log::tell(errors.render(std::io::stderr().is_terminal()).trim_end());
            return ExitCode::Config;
        }
    };
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let node = match config.choose_node(arguments.node.as_deref()) {
        Ok(node) => node,
        Err(sentence) => {
            log::tell(format_args!("repd: {sentence}"));
            return ExitCode::Config;
        }
    };
    match serve(&config, node, &arguments, sockets) {
        Ok(()) => ExitCode::Done,
        Err(error) => {
            log::flush();
            log::tell(format_args!("repd: {error}"));
            ExitCode::Failed
        }
    }
}

fn serve(config: &Config, node: NodeName, arguments: &Arguments, sockets: Sockets) -> Result<(), StartError> {
    let runtime_dir = RuntimeDir::lock(&arguments.runtime_dir)?;
    let listener = runtime_dir.bind_control_socket()?;
    let runtime = tokio_uring::Runtime::new(&tokio_uring::builder()).map_err(StartError::Ring)?;
    runtime.block_on(async {
        let daemon = Daemon::new(config, arguments.config.clone(), node, sockets);
        control::run(daemon, listener).await
    })
}

/// Plants the bug that `REPD_PLANTED_BUG` names: the torture's negative control.
#[cfg(feature = "planted-bugs")]
fn plant_a_bug() {
    let Ok(name) = std::env::var("REPD_PLANTED_BUG") else { return };
    assert!(rep_types::planted::plant(Some(&name)), "no planted bug is named '{name}'");
    log::tell(format_args!("repd: with the planted bug '{name}': for tests only"));
}

fn start_logging() {
    log::start();
    let filter = tracing_subscriber::EnvFilter::try_from_env("REPD_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(log::Line::default)
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    // The journal has a clock of its own.
    if std::env::var_os("JOURNAL_STREAM").is_some() { builder.without_time().init() } else { builder.init() }
}
