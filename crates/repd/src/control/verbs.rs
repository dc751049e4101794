//! A verb of the control interface becomes commands of the engine.

use super::lifecycle::with_volume;
use super::resource::{Report, Resource, Running};
use super::{handover, plan, refusal};
use rep_control::api::{
    ApiError, ErrorKind, VERB_TIMEOUT_MS_DEFAULT, VERB_TIMEOUT_MS_MAX, Verb, VerbAnswer, VerbRequest,
};
use rep_engine::{Command, CommandOutcome, Side};
use rep_types::{ConnectionState, Refusal, Role, VolumeNumber};
use repd::resource::VolumeReport;
use std::time::{Duration, Instant};

/// The pause between two looks at whether the device is usable.
const EXPORT_PAUSE: Duration = Duration::from_millis(10);

/// How long a plan waits for a peer that can't be reached.
const PLAN_PATIENCE: Duration = Duration::from_secs(7);
/// The pause between two looks at the link meanwhile.
const PLAN_PAUSE: Duration = Duration::from_millis(100);

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
        ("force", request.force, matches!(verb, Verb::Primary | Verb::Disconnect | Verb::Detach)),
        ("discard_my_data", request.discard_my_data, verb == Verb::Connect),
        ("plan", request.plan, verb == Verb::Connect),
        ("full", request.full, verb == Verb::Resync),
        ("from", request.from.is_some(), verb == Verb::Resync && request.full),
        ("clear_bitmap", request.clear_bitmap, verb == Verb::NewGeneration),
        ("stop", request.stop, verb == Verb::Verify),
        ("keep", request.keep.is_some(), verb == Verb::SplitBrainResolve),
        ("assume_clean", request.assume_clean, verb == Verb::Resize),
        ("give_up_device", request.give_up_device, verb == Verb::Down),
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
            | Verb::Handover
            | Verb::SuspendIo
            | Verb::ResumeIo
    );
    if !all.contains(&VolumeNumber(number)) {
        let known: Vec<_> = all.iter().map(ToString::to_string).collect();
        let error = ApiError::refused(Refusal::NoSuchVolume, resource.name());
        let message = format!("{} has no volume {number}", resource.name());
        return Err(ApiError { message, ..error }.with_hint(format!("it has: {}", known.join(", "))));
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
            Verb::Down => self.down().await,
            Verb::Attach => self.resource.attach(&self.volumes, self.left()).await.map(|()| VerbAnswer::default()),
            Verb::Connect if self.request.plan => self.plan().await,
            Verb::Connect => self.one(Command::Connect { discard_my_data: self.request.discard_my_data }).await,
            Verb::Disconnect => self.one_if_up(Command::Disconnect { force }).await,
            Verb::Primary => self.promote().await,
            Verb::Secondary => self.demote().await,
            Verb::Handover => self.hand_over().await,
            Verb::Detach => self.detach(force).await,
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
            Verb::Outdate => self.outdate().await,
            Verb::NewGeneration if !self.request.clear_bitmap => Err(ApiError::usage(
                "BadOption",
                format!("{} needs the option \"clear_bitmap\": both disks are taken for equal as they are", self.verb),
            )),
            Verb::NewGeneration => {
                let clear_bitmap = self.request.clear_bitmap;
                self.each(|volume| Command::NewGeneration { volume, clear_bitmap }).await
            }
            Verb::Verify if self.request.stop => self.each(|volume| Command::StopVerify { volume }).await,
            Verb::Verify => {
                let repair_from = self.side(self.request.repair_from.as_deref())?;
                self.each(|volume| Command::Verify { volume, repair_from }).await
            }
            Verb::SplitBrainResolve => match self.side(self.request.keep.as_deref())? {
                Some(keep) => self.one(Command::ResolveSplitBrain { keep }).await,
                None => Err(ApiError::usage("BadOption", format!("{} needs the option \"keep\": a node", self.verb))),
            },
            Verb::Resize => {
                let assume_clean = self.request.assume_clean;
                self.resize(|volume| Command::Resize { volume, assume_clean }).await
            }
        }
    }

    /// Grows each volume, and says how large it is then.
    async fn resize(&self, command: impl Fn(VolumeNumber) -> Command) -> Result<VerbAnswer, ApiError> {
        let running = self.resource.running()?;
        let done = self.each(command).await;
        if let Err(error) = done {
            running.report().await;
            return Err(self.explained(error, &running));
        }
        let report = loop {
            let Report::Fresh(report) = running.report().await else { return Ok(VerbAnswer::default()) };
            // The driver of a block device may take a moment, or not be able to.
            let waits = report.engine.role == Role::Primary && !report.volumes.iter().all(|volume| volume.exported);
            let told = |volume: &VolumeReport| volume.export_problem.clone().or_else(|| volume.size_problem.clone());
            match report.volumes.iter().find_map(told) {
                Some(problem) if report.engine.role == Role::Primary => return Err(self.device_not_grown(&problem)),
                _ if waits && Instant::now() < self.deadline => tokio::time::sleep(EXPORT_PAUSE).await,
                _ => break report,
            }
        };
        let grown = report.engine.volumes.iter().filter(|volume| self.volumes.contains(&volume.number));
        let sizes = grown.map(|volume| format!("volume {} has {} bytes", volume.number, volume.size_bytes));
        Ok(VerbAnswer { message: Some(sizes.collect::<Vec<_>>().join(", ")), ..VerbAnswer::default() })
    }

    fn device_not_grown(&self, problem: &str) -> ApiError {
        let message = format!("the volume has grown on both nodes, but not the device here: {problem}");
        ApiError::failed("DeviceNotGrown", message).with_hint(format!(
            "at the next opportunity run 'repctl secondary {0}' and 'repctl primary {0}': the device is made anew then",
            self.resource.name()
        ))
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
        let done = running.command(command, self.left(), self.resource.name()).await;
        done.map(|_| VerbAnswer::default()).map_err(|error| self.explained(error, &running))
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
            self.of_volume(&running, *volume, command(*volume)).await?;
        }
        Ok(VerbAnswer::default())
    }

    /// A command of one of the volumes that are meant; its error names it where they are several.
    async fn of_volume(&self, running: &Running, volume: VolumeNumber, command: Command) -> Result<(), ApiError> {
        let done = running.command(command, self.left(), self.resource.name()).await;
        done.map(drop).map_err(|error| with_volume(self.explained(error, running), volume, self.volumes.len()))
    }

    /// A resource is promoted with all of its volumes: where one has recorded that its data are old, one that has no disk attached need
    /// not, and a handler that asks for this has fenced this node (R29, R31).
    async fn outdate(&self) -> Result<VerbAnswer, ApiError> {
        let running = self.resource.running()?;
        let (mut recorded, mut without) = (false, None);
        for volume in &self.volumes {
            match self.of_volume(&running, *volume, Command::Outdate { volume: *volume }).await {
                Ok(()) => recorded = true,
                Err(error) if error.is_refusal(Refusal::Diskless) => without = Some(error),
                Err(error) => return Err(error),
            }
        }
        match without {
            Some(error) if !recorded => Err(error),
            _ => Ok(VerbAnswer::default()),
        }
    }

    /// A refusal in the words of how things stand.
    fn explained(&self, error: ApiError, running: &Running) -> ApiError {
        match running.last_report() {
            Some(report) => refusal::explained(error, self.verb, self.resource.name(), &report.engine),
            None => error,
        }
    }

    async fn each_if_up(&self, command: impl Fn(VolumeNumber) -> Command) -> Result<VerbAnswer, ApiError> {
        if self.resource.running().is_err() {
            return Ok(VerbAnswer::default());
        }
        self.each(command).await
    }

    /// Lets go of disks: of a Secondary's when they have come to rest, or when nobody waits for that any more.
    async fn detach(&self, force: bool) -> Result<VerbAnswer, ApiError> {
        let done = self.each_if_up(|volume| Command::Detach { volume, force }).await;
        done.map_err(|error| match error.error {
            ErrorKind::TimedOut => ApiError {
                message: "the disk didn't come to rest in time; it was let go of as it is".to_owned(),
                ..error
            }
            .with_hint(format!("see 'repctl status {}'; --force doesn't wait for it", self.resource.name())),
            _ => error,
        })
    }

    /// Takes the resource down. A device that was left behind stays for the next daemon, unless it is given up.
    async fn down(&self) -> Result<VerbAnswer, ApiError> {
        let given_up = match self.request.give_up_device {
            true => self.resource.give_up_devices().await?,
            false => Vec::new(),
        };
        self.resource.down(self.left()).await?;
        let message = (!given_up.is_empty()).then(|| {
            format!(
                "given up: {}; what waited there has failed, and who still has it open or mounted lets go of it now",
                given_up.join(", ")
            )
        });
        Ok(VerbAnswer { message, ..VerbAnswer::default() })
    }

    /// Demotes, unless somebody has the device open.
    async fn demote(&self) -> Result<VerbAnswer, ApiError> {
        if let Ok(running) = self.resource.running() {
            self.resource.refuse_if_open(&running).await?;
        }
        self.one_if_up(Command::Demote).await
    }

    /// Hands the role over, and tells what became of the device.
    async fn hand_over(&self) -> Result<VerbAnswer, ApiError> {
        let begun = Instant::now();
        let done = self.one(Command::Handover).await;
        let took = begun.elapsed();
        let Report::Fresh(report) = self.resource.running()?.report().await else { return done };
        let config = self.resource.config();
        let peer = config.peer_of(self.resource.node.as_str());
        let names = (self.resource.name(), peer.map_or("the peer", |peer| peer.name.as_str()));
        match done {
            Ok(_) => {
                Ok(VerbAnswer { message: Some(handover::words(names, &report.engine, took)), ..VerbAnswer::default() })
            }
            Err(error) => Err(handover::failed(error, names, &report.engine)),
        }
    }

    /// Promotes, and returns when the device is usable.
    async fn promote(&self) -> Result<VerbAnswer, ApiError> {
        let running = {
            // What is only just coming up is waited for: its disk is about to be there.
            let _turn = self.resource.take_turn(self.left()).await?;
            let running = self.resource.running()?;
            let command = Command::Promote { force: self.request.force };
            let done = running.command(command, self.left(), self.resource.name()).await;
            if let Err(error) = done {
                running.report().await;
                return Err(self.explained(error, &running));
            }
            running
        };
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
        let connected = |report: &Report| matches!(report, Report::Fresh(report) if report.engine.connection == ConnectionState::Connected);
        let already = connected(&running.report().await);
        let CommandOutcome::Plan(plan) = self.ask_for_plan(&running).await? else {
            return Err(ApiError::failed("NoPlan", "the engine had no plan to tell"));
        };
        let config = self.resource.config();
        let peer = config.peer_of(self.resource.node.as_str());
        let peer = peer.map_or("the peer", |peer| peer.name.as_str());
        let message =
            already.then(|| format!("already connected with {peer}: this is what the last handshake decided"));
        let plan = plan.iter().map(|planned| plan::entry(planned, peer)).collect();
        Ok(VerbAnswer { message, plan: Some(plan), ..VerbAnswer::default() })
    }

    /// Has the engine meet the peer and tell the plan. A peer that can't be reached is told as soon as that is clear.
    async fn ask_for_plan(&self, running: &Running) -> Result<CommandOutcome, ApiError> {
        let (outcome, problem) = self.try_plan(running, self.left().min(PLAN_PATIENCE)).await;
        match (outcome, problem) {
            (Err(error), Some(problem)) if error.error == ErrorKind::TimedOut => {
                let hint =
                    format!("see to that, run 'repctl connect {}' on the peer, then try again", self.resource.name());
                Err(ApiError { message: format!("no plan without the peer: {problem}"), ..error }.with_hint(hint))
            }
            (Err(error), None) if error.error == ErrorKind::TimedOut && Instant::now() < self.deadline => {
                self.try_plan(running, self.left()).await.0
            }
            (Err(error), _) => Err(self.explained(error, running)),
            (outcome, _) => outcome,
        }
    }

    /// One try, and the last problem of the link that was seen meanwhile.
    async fn try_plan(
        &self,
        running: &Running,
        deadline: Duration,
    ) -> (Result<CommandOutcome, ApiError>, Option<String>) {
        let mut problem = None;
        let discard_my_data = self.request.discard_my_data;
        let command = running.command(Command::Plan { discard_my_data }, deadline, self.resource.name());
        tokio::pin!(command);
        loop {
            tokio::select! {
                outcome = &mut command => return (outcome, problem),
                () = tokio::time::sleep(PLAN_PAUSE) => {
                    if let Report::Fresh(report) = running.report().await {
                        problem = report.link.problem.clone().or(problem);
                    }
                }
            }
        }
    }

    /// The side a node's name stands for.
    fn side(&self, node: Option<&str>) -> Result<Option<Side>, ApiError> {
        let Some(node) = node else { return Ok(None) };
        if node == self.resource.node.as_str() {
            return Ok(Some(Side::Local));
        }
        let config = self.resource.config();
        if config.node(node).is_some() {
            return Ok(Some(Side::Peer));
        }
        let names: Vec<_> = config.nodes.iter().map(|node| node.name.as_str()).collect();
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
