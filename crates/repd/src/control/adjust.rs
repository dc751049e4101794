//! The configuration read anew, and the difference to what runs told or applied: `repctl adjust`, SIGHUP.
//!
//! Some settings change under way (`differences` says which). For the others a resource goes down and comes up again; one that
//! is Primary is left as it is and told, for that would take the device away from its clients. A configuration that doesn't hold changes nothing.

use super::resource::{Life, Report, Resource};
use super::{Daemon, options};
use rep_control::api::{
    AdjustAnswer, AdjustRequest, ApiError, ChangeKind, ErrorKind, ResourceChange, VERB_TIMEOUT_MS_DEFAULT,
    VERB_TIMEOUT_MS_MAX,
};
use rep_control::config::{self, ConfigErrors, ResourceConfig, StartMode, differences};
use rep_engine::Command;
use rep_types::{Refusal, Role};
use repd::memory;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// A difference, and what it takes.
enum Step {
    Add(Box<ResourceConfig>),
    Remove(Arc<Resource>),
    Change(Arc<Resource>, Box<ResourceConfig>),
}

/// SIGHUP: what `repctl adjust` does, told in the log.
pub async fn on_hangup(daemon: Arc<Daemon>) {
    match run(&daemon, &AdjustRequest::default()).await {
        Ok(answer) if answer.changes.is_empty() => tracing::info!("the configuration was read anew: nothing differs"),
        Ok(answer) => answer.changes.iter().for_each(tell),
        Err(error) => tracing::warn!("the configuration is left as it was: {}", words(&error)),
    }
}

fn tell(change: &ResourceChange) {
    let kind = match change.kind {
        ChangeKind::Added => "added",
        ChangeKind::Removed => "removed",
        ChangeKind::Changed => "changed",
    };
    match &change.error {
        None => tracing::info!(resource = change.resource, "configuration: {kind}"),
        Some(error) => tracing::warn!(resource = change.resource, "configuration: not {kind}: {}", error.sentence()),
    }
}

fn words(error: &ApiError) -> String {
    let problems = error.problems.iter().map(|problem| match (&problem.file, problem.line) {
        (Some(file), Some(line)) => format!("{file}:{line}: {}", problem.message),
        _ => problem.message.clone(),
    });
    let problems: Vec<_> = problems.collect();
    if problems.is_empty() { error.sentence() } else { problems.join("; ") }
}

/// Reads the configuration and tells or applies the difference.
pub async fn run(daemon: &Arc<Daemon>, request: &AdjustRequest) -> Result<AdjustAnswer, ApiError> {
    let _one_at_a_time = daemon.adjusting.lock().await;
    let timeout_ms = request.timeout_ms.unwrap_or(VERB_TIMEOUT_MS_DEFAULT).clamp(1, VERB_TIMEOUT_MS_MAX);
    let wanted = wanted(daemon).await?;
    if !request.dry_run && wanted.values().any(ResourceConfig::has_kernel_devices) {
        // As at the start; of the threads there are already, this one can be marked by itself alone.
        let _ = memory::flusher();
    }
    let mut changes = Vec::new();
    for step in steps(daemon, wanted) {
        let mut change = describe(daemon, &step);
        if !request.dry_run {
            let result = apply(daemon, step, &change, Duration::from_millis(timeout_ms)).await;
            change.done = result.is_ok();
            change.error = result.err();
        }
        changes.push(change);
    }
    Ok(AdjustAnswer { dry_run: request.dry_run, changes })
}

/// This node's resources as the configuration has them now.
async fn wanted(daemon: &Daemon) -> Result<BTreeMap<String, ResourceConfig>, ApiError> {
    let path = daemon.config_path.clone();
    let loaded: Result<_, ConfigErrors> = tokio::task::spawn_blocking(move || config::load(&path))
        .await
        .map_err(|error| ApiError::failed("Internal", error.to_string()))?;
    let config = loaded.map_err(|errors| ApiError::from(&errors))?;
    // A file without this node is more likely the wrong file than the wish to remove everything.
    config
        .choose_node(Some(daemon.node.as_str()))
        .map_err(|sentence| ApiError::new(ErrorKind::Config, "NoSuchNode", sentence))?;
    let own = config.resources_of(daemon.node.as_str()).cloned();
    Ok(own.map(|resource| (resource.name.to_string(), resource)).collect())
}

/// What differs: what goes first, so that what comes finds disks and addresses free.
fn steps(daemon: &Daemon, mut wanted: BTreeMap<String, ResourceConfig>) -> Vec<Step> {
    let (mut gone, mut changed) = (Vec::new(), Vec::new());
    for resource in daemon.resources() {
        match wanted.remove(resource.name()) {
            None => gone.push(Step::Remove(resource)),
            Some(config) if config != *resource.config() => changed.push(Step::Change(resource, Box::new(config))),
            Some(_) => {}
        }
    }
    gone.extend(changed);
    gone.extend(wanted.into_values().map(|config| Step::Add(Box::new(config))));
    gone
}

fn describe(daemon: &Daemon, step: &Step) -> ResourceChange {
    let (resource, kind, settings) = match step {
        Step::Add(config) => (config.name.to_string(), ChangeKind::Added, Vec::new()),
        Step::Remove(resource) => (resource.name().to_owned(), ChangeKind::Removed, Vec::new()),
        Step::Change(resource, config) => {
            let settings = differences(&resource.config(), config, daemon.node.as_str());
            (resource.name().to_owned(), ChangeKind::Changed, settings)
        }
    };
    let needs_restart = settings.iter().any(|setting| setting.needs_restart);
    ResourceChange { resource, kind, settings, needs_restart, done: false, error: None }
}

async fn apply(daemon: &Arc<Daemon>, step: Step, change: &ResourceChange, deadline: Duration) -> Result<(), ApiError> {
    match step {
        Step::Add(config) => add(daemon, *config, deadline).await,
        Step::Remove(resource) => remove(daemon, &resource, deadline).await,
        Step::Change(resource, config) => resource.reconfigure(*config, change.needs_restart, deadline).await,
    }
}

async fn add(daemon: &Arc<Daemon>, config: ResourceConfig, deadline: Duration) -> Result<(), ApiError> {
    let (name, start) = (config.name.to_string(), config.start);
    let resource = Resource::new(config, daemon.node.clone(), BTreeMap::new(), daemon.events.clone());
    daemon.resources.write().unwrap_or_else(PoisonError::into_inner).insert(name, resource.clone());
    if start == StartMode::Up { resource.up(deadline).await } else { Ok(()) }
}

async fn remove(daemon: &Daemon, resource: &Resource, deadline: Duration) -> Result<(), ApiError> {
    let _turn = resource.take_turn(deadline).await?;
    resource.refuse_primary("it is still Primary, and the configuration has it no more").await?;
    resource.down_in_turn(deadline).await?;
    resource.retire();
    daemon.resources.write().unwrap_or_else(PoisonError::into_inner).remove(resource.name());
    Ok(())
}

impl Resource {
    /// Takes another configuration. What was down because of an error is tried again.
    async fn reconfigure(&self, config: ResourceConfig, restart: bool, deadline: Duration) -> Result<(), ApiError> {
        let _turn = self.take_turn(deadline).await?;
        self.forget_ended();
        let comes_up = match self.life() {
            Life::Up(running) if !restart => {
                running.command(Command::Tune(options::tunables(&config)), deadline, self.name()).await?;
                self.set_config(config);
                return Ok(());
            }
            Life::Up(_) => {
                self.refuse_primary("it is Primary, and these changes take its device away for a moment").await?;
                self.down_in_turn(deadline).await?;
                true
            }
            Life::Down(reason) => reason.is_some() && config.start == StartMode::Up,
        };
        self.set_config(config);
        if comes_up { self.up_in_turn(deadline).await } else { Ok(()) }
    }

    /// Refuses to go on with a Primary, whose clients would lose the device, and with one that doesn't say.
    async fn refuse_primary(&self, message: &str) -> Result<(), ApiError> {
        let Life::Up(running) = self.life() else { return Ok(()) };
        match running.report().await {
            Report::Fresh(report) if report.engine.role == Role::Secondary => Ok(()),
            Report::Fresh(_) => {
                let error = ApiError::refused(Refusal::IsPrimary, self.name());
                Err(ApiError { message: message.to_owned(), ..error }
                    .with_hint(format!("run 'repctl secondary {0}', then 'repctl adjust'", self.name())))
            }
            Report::Stale(_) => Err(ApiError::timed_out("its data thread doesn't answer")
                .with_hint("its disk may hang; look at the kernel's log")),
        }
    }
}
