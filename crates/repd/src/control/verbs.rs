//! A verb of the control interface becomes commands of the engine.

use super::resource::{Report, Resource, Running};
use rep_control::api::{
    ApiError, PlanEntry, VERB_TIMEOUT_MS_DEFAULT, VERB_TIMEOUT_MS_MAX, Verb, VerbAnswer, VerbRequest,
};
use rep_engine::{Command, CommandOutcome, PlannedSync, Side};
use rep_types::{ByBitmapOrFull, Refusal, SyncVerdict, VolumeNumber};
use std::time::{Duration, Instant};

/// The pause between two looks at whether the device is usable.
const EXPORT_PAUSE: Duration = Duration::from_millis(10);

/// A verb that is being carried out.
struct Call<'a> {
    resource: &'a Resource,
    verb: Verb,
    request: &'a VerbRequest,
    volumes: Vec<VolumeNumber>,
    deadline: Instant,
}

/// Carries a verb out.
pub async fn run(resource: &Resource, verb: Verb, request: &VerbRequest) -> Result<VerbAnswer, ApiError> {
    let timeout_ms = request.timeout_ms.unwrap_or(VERB_TIMEOUT_MS_DEFAULT).clamp(1, VERB_TIMEOUT_MS_MAX);
    let deadline = Instant::now() + Duration::from_millis(timeout_ms);
    check_options(verb, request)?;
    let volumes = volumes(resource, verb, request)?;
    resource.forget_ended();
    Call { resource, verb, request, volumes, deadline }.run().await
}

/// Options that the verb has no use for are a misunderstanding, not to be passed over.
fn check_options(verb: Verb, request: &VerbRequest) -> Result<(), ApiError> {
    let misused = [
        ("force", request.force, matches!(verb, Verb::Primary | Verb::Disconnect)),
        ("discard_my_data", request.discard_my_data, verb == Verb::Connect),
        ("plan", request.plan, verb == Verb::Connect),
        ("full", request.full, verb == Verb::Resync),
        ("from", request.from.is_some(), verb == Verb::Resync && request.full),
        ("clear_bitmap", request.clear_bitmap, verb == Verb::NewGeneration),
        ("keep", request.keep.is_some(), verb == Verb::SplitBrainResolve),
        ("repair_from", request.repair_from.is_some(), verb == Verb::Verify),
    ];
    match misused.iter().find(|(_, given, useful)| *given && !useful) {
        Some((option, ..)) => {
            Err(ApiError::usage("BadOption", format!("{verb} has no use for the option \"{option}\"")))
        }
        None => Ok(()),
    }
}

/// The volumes a verb is about.
fn volumes(resource: &Resource, verb: Verb, request: &VerbRequest) -> Result<Vec<VolumeNumber>, ApiError> {
    let all = resource.volumes();
    let Some(number) = request.volume else { return Ok(all) };
    let whole = matches!(
        verb,
        Verb::Up
            | Verb::Down
            | Verb::Connect
            | Verb::Disconnect
            | Verb::Primary
            | Verb::Secondary
            | Verb::SuspendIo
            | Verb::ResumeIo
    );
    if !all.contains(&VolumeNumber(number)) {
        return Err(ApiError::refused(Refusal::NoSuchVolume, resource.name()));
    }
    if whole && all.len() > 1 {
        let message = format!("{verb} is about the whole resource, which has {} volumes", all.len());
        return Err(
            ApiError::usage("WholeResource", message).with_hint(format!("run 'repctl {verb} {}'", resource.name()))
        );
    }
    Ok(vec![VolumeNumber(number)])
}

impl Call<'_> {
    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
    }

    async fn run(self) -> Result<VerbAnswer, ApiError> {
        let force = self.request.force;
        match self.verb {
            Verb::Up => self.resource.up(self.left()).await.map(|()| VerbAnswer::default()),
            Verb::Down => self.resource.down(self.left()).await.map(|()| VerbAnswer::default()),
            Verb::Attach => self.resource.attach(&self.volumes, self.left()).await.map(|()| VerbAnswer::default()),
            Verb::Connect if self.request.plan => self.plan().await,
            Verb::Connect => self.one(Command::Connect { discard_my_data: self.request.discard_my_data }).await,
            Verb::Disconnect => self.one_if_up(Command::Disconnect { force }).await,
            Verb::Primary => self.promote().await,
            Verb::Secondary => self.demote().await,
            Verb::Detach => self.each_if_up(|volume| Command::Detach { volume }).await,
            Verb::Resync if self.request.full => {
                let from = self.side(self.request.from.as_deref())?;
                self.each(|volume| Command::ResyncFull { volume, from }).await
            }
            Verb::Resync => self.each(|volume| Command::Resync { volume }).await,
            Verb::PauseSync => self.each(|volume| Command::PauseSync { volume, paused: true }).await,
            Verb::ResumeSync => self.each(|volume| Command::PauseSync { volume, paused: false }).await,
            Verb::SuspendIo => self.one(Command::SuspendIo { suspended: true }).await,
            Verb::ResumeIo => self.one(Command::SuspendIo { suspended: false }).await,
            Verb::Invalidate => self.each(|volume| Command::Invalidate { volume }).await,
            Verb::InvalidatePeer => self.each(|volume| Command::InvalidatePeer { volume }).await,
            Verb::Outdate => self.each(|volume| Command::Outdate { volume }).await,
            Verb::NewGeneration => {
                let clear_bitmap = self.request.clear_bitmap;
                self.each(|volume| Command::NewGeneration { volume, clear_bitmap }).await
            }
            Verb::Verify | Verb::Resize | Verb::SplitBrainResolve => Err(self.not_supported()),
        }
    }

    fn not_supported(&self) -> ApiError {
        let name = self.resource.name();
        let (what, hint) = match self.verb {
            Verb::SplitBrainResolve => (
                "settling a split brain by one command",
                format!(
                    "on the node whose changes may go run 'repctl secondary {name}' and \
                     'repctl connect {name} --discard-my-data', on the other 'repctl connect {name}'"
                ),
            ),
            Verb::Verify => {
                ("online verify", format!("'repctl resync {name} --full --from NODE' makes the disks equal"))
            }
            _ => ("growing a volume", "the volume keeps the size both nodes agreed on".to_owned()),
        };
        let error = ApiError::refused(Refusal::NotSupported, name);
        ApiError { message: format!("{what} isn't supported by this version of repd"), ..error }.with_hint(hint)
    }

    /// A command about the whole resource.
    async fn one(&self, command: Command) -> Result<VerbAnswer, ApiError> {
        let running = match self.verb {
            // Wanting a connection is the link alone: it needs no disk, but a data thread.
            Verb::Connect => {
                let _turn = self.resource.turn.lock().await;
                self.resource.ensure_running().await?
            }
            _ => self.resource.running()?,
        };
        running.command(command, self.left(), self.resource.name()).await.map(|_| VerbAnswer::default())
    }

    /// A command that is without effect on a resource that is down.
    async fn one_if_up(&self, command: Command) -> Result<VerbAnswer, ApiError> {
        if self.resource.running().is_err() {
            return Ok(VerbAnswer::default());
        }
        self.one(command).await
    }

    /// A command for each volume, one after the other.
    async fn each(&self, command: impl Fn(VolumeNumber) -> Command) -> Result<VerbAnswer, ApiError> {
        let running = self.resource.running()?;
        for volume in &self.volumes {
            running.command(command(*volume), self.left(), self.resource.name()).await?;
        }
        Ok(VerbAnswer::default())
    }

    async fn each_if_up(&self, command: impl Fn(VolumeNumber) -> Command) -> Result<VerbAnswer, ApiError> {
        if self.resource.running().is_err() {
            return Ok(VerbAnswer::default());
        }
        self.each(command).await
    }

    /// Demotes, unless somebody has the device open.
    async fn demote(&self) -> Result<VerbAnswer, ApiError> {
        if let Ok(running) = self.resource.running() {
            self.resource.refuse_if_open(&running).await?;
        }
        self.one_if_up(Command::Demote).await
    }

    /// Promotes, and returns when the device is usable.
    async fn promote(&self) -> Result<VerbAnswer, ApiError> {
        let running = self.resource.running()?;
        let command = Command::Promote { force: self.request.force };
        running.command(command, self.left(), self.resource.name()).await?;
        loop {
            match export_state(&running).await {
                ExportState::Usable => return Ok(VerbAnswer::default()),
                ExportState::Failed(problem) => {
                    let message = format!("this node is Primary, but the device can't be offered: {problem}");
                    let hint = format!(
                        "mend that, then run 'repctl secondary {0}' and 'repctl primary {0}'",
                        self.resource.name()
                    );
                    return Err(ApiError::failed("ExportFailed", message).with_hint(hint));
                }
                ExportState::NotYet if Instant::now() >= self.deadline => {
                    return Err(ApiError::timed_out("this node is Primary, but the device isn't usable yet"));
                }
                ExportState::NotYet => tokio::time::sleep(EXPORT_PAUSE).await,
            }
        }
    }

    async fn plan(&self) -> Result<VerbAnswer, ApiError> {
        let running = self.resource.running()?;
        let outcome = running.command(Command::Plan, self.left(), self.resource.name()).await?;
        let CommandOutcome::Plan(plan) = outcome else {
            return Err(ApiError::failed("NoPlan", "the engine had no plan to tell"));
        };
        let peer = self.resource.config.peer_of(self.resource.node.as_str());
        let peer = peer.map_or("the peer", |peer| peer.name.as_str());
        Ok(VerbAnswer { message: None, plan: Some(plan.iter().map(|planned| plan_entry(planned, peer)).collect()) })
    }

    /// The side a node's name stands for.
    fn side(&self, node: Option<&str>) -> Result<Option<Side>, ApiError> {
        let Some(node) = node else { return Ok(None) };
        if node == self.resource.node.as_str() {
            return Ok(Some(Side::Local));
        }
        if self.resource.config.node(node).is_some() {
            return Ok(Some(Side::Peer));
        }
        let names: Vec<_> = self.resource.config.nodes.iter().map(|node| node.name.as_str()).collect();
        let message = format!("{} has no node \"{node}\"", self.resource.name());
        Err(ApiError::usage("NoSuchNode", message).with_hint(format!("name one of: {}", names.join(", "))))
    }
}

enum ExportState {
    Usable,
    NotYet,
    Failed(String),
}

async fn export_state(running: &Running) -> ExportState {
    let Report::Fresh(report) = running.report().await else { return ExportState::NotYet };
    let problem = report.volumes.iter().find_map(|volume| volume.export_problem.clone());
    match problem {
        Some(problem) => ExportState::Failed(problem),
        None if report.volumes.iter().all(|volume| volume.exported) => ExportState::Usable,
        None => ExportState::NotYet,
    }
}

fn plan_entry(planned: &PlannedSync, peer: &str) -> PlanEntry {
    let (verdict, extent) = match planned.decision.verdict {
        SyncVerdict::Nothing => ("nothing", None),
        SyncVerdict::Source(extent) => ("source", Some(extent_word(extent).to_owned())),
        SyncVerdict::Target(extent) => ("target", Some(extent_word(extent).to_owned())),
        SyncVerdict::Refuse(refusal) => ("refused", Some(format!("{refusal:?}"))),
    };
    PlanEntry {
        volume: planned.volume.0,
        rule: planned.decision.rule.to_string(),
        verdict: verdict.to_owned(),
        extent,
        bytes_at_most: planned.bytes_at_most,
        local_dirty_bytes: planned.local_dirty_bytes,
        peer_dirty_bytes: planned.peer_dirty_bytes,
        sentence: plan_sentence(planned, peer),
    }
}

fn extent_word(extent: ByBitmapOrFull) -> &'static str {
    match extent {
        ByBitmapOrFull::ByBitmap => "by-bitmap",
        ByBitmapOrFull::Full => "full",
    }
}

fn plan_sentence(planned: &PlannedSync, peer: &str) -> String {
    let (rule, bytes) = (planned.decision.rule, planned.bytes_at_most);
    match planned.decision.verdict {
        SyncVerdict::Nothing => format!("rule {rule}: both disks are equal, nothing would be copied or lost"),
        SyncVerdict::Source(_) => format!(
            "rule {rule}: this node would fill {peer}, at most {bytes} bytes; {} bytes written on {peer} alone would be lost",
            planned.peer_dirty_bytes
        ),
        SyncVerdict::Target(_) => format!(
            "rule {rule}: {peer} would fill this node, at most {bytes} bytes; {} bytes written here alone would be lost",
            planned.local_dirty_bytes
        ),
        SyncVerdict::Refuse(refusal) => format!(
            "rule {rule}: both would refuse each other ({refusal:?}); {} bytes were written here alone, {} on {peer}",
            planned.local_dirty_bytes, planned.peer_dirty_bytes
        ),
    }
}
