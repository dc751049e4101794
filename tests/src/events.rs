//! What a daemon tells as it happens: `repctl --json events`.

use crate::node::SOON;
use crate::process::Running;
use crate::{Node, binaries, tools};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A listener, until it is dropped.
#[derive(Debug)]
pub struct Events {
    _listener: Running,
    log: PathBuf,
}

impl Events {
    /// Listens to a node, into this file. `stir` makes something happen there: it is repeated until that is heard, since what
    /// happens before passes unheard.
    #[track_caller]
    pub fn of(node: &Node, log: &Path, stir: impl Fn()) -> Events {
        let mut command = tools::server("env");
        command.arg(binaries::repctl()).arg("--socket").arg(node.control_socket()).args(["--json", "events"]);
        let events = Events { _listener: Running::start(command, "repctl events", log), log: log.to_owned() };
        crate::until(&format!("{}'s events are heard", node.name()), SOON, || {
            stir();
            if events.all().is_empty() { Err("silence".to_owned()) } else { Ok(()) }
        });
        events
    }

    /// Everything heard so far.
    pub fn all(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        whole.map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
    }

    /// Those of a kind.
    pub fn of_kind(&self, kind: &str) -> Vec<Value> {
        self.all().into_iter().filter(|event| event["kind"] == kind).collect()
    }

    /// The first of a kind, once there is one.
    #[track_caller]
    pub fn wait_for(&self, kind: &str) -> Value {
        crate::until(&format!("an event '{kind}'"), SOON, || {
            let found = self.of_kind(kind).into_iter().next();
            found.ok_or_else(|| format!("{:?}", self.all().last()))
        })
    }
}
