//! What a data thread reports, in the contract's words.

use super::resource::{Life, Report, Resource};
use super::{VERSION, holders, refusal, split_brain, verdict};
use rep_control::api::{
    ApiError, ComparedStatus, DecisionDetail, Detail, DriverStatus, ForwardingStatus, Histogram, Histograms, IoStatus,
    LatencyStatus, PacingStatus, PeerStatus, ResourceStatus, ResyncRole, ResyncStatus, Status, Verb, VerifyRunDetail,
    VerifyRunState, VerifyStatus, VolumeDetail, VolumeStatus,
};
use rep_control::config::{NodeConfig, VolumeConfig};
use rep_engine::{
    ForwardingSnapshot, IoSuspension, Latencies, PacingSnapshot, Timestamp, VerifyRun, VerifySnapshot, VerifyState,
    VolumeSnapshot, Why, explain,
};
use rep_types::{ConnectionState, DiskState, NodeName, Refusal, ReplicationState, Role, SyncDecision};
use repd::resource::{DriverReport, ResourceReport, VolumeReport};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// The state of resources, asked for side by side: one that is stuck doesn't hold up the others.
pub async fn status(node: &NodeName, resources: &[Arc<Resource>]) -> Status {
    let mut tasks = JoinSet::new();
    for resource in resources {
        let resource = Arc::clone(resource);
        tasks.spawn(async move { resource_status(&resource).await });
    }
    let mut resources = tasks.join_all().await;
    resources.sort_by(|a, b| a.name.cmp(&b.name));
    Status { node: node.to_string(), version: VERSION.to_owned(), resources }
}

async fn resource_status(resource: &Resource) -> ResourceStatus {
    resource.forget_ended();
    let seen = Seen::of(resource).await;
    let (role, peer_role, connection) = match &seen.report {
        Some(report) => (report.engine.role, report.engine.peer_role, report.engine.connection),
        None => (Role::Secondary, None, ConnectionState::StandAlone),
    };
    let peer = peer_config(resource);
    let mut volumes = volumes(resource, seen.report.as_deref());
    holders::mark_open(&mut volumes).await;
    let refused = promotion_refused(&seen, resource.name());
    let names = split_brain::Names::of(resource);
    ResourceStatus {
        name: resource.name().to_owned(),
        role,
        peer: PeerStatus {
            name: peer.as_ref().map(|peer| peer.name.to_string()).unwrap_or_default(),
            role: peer_role,
            address: peer.map(|peer| peer.address.to_string()).unwrap_or_default(),
        },
        connection,
        verdict: verdict::sentence(&seen, resource),
        safe_to_promote: refused.is_none(),
        promotion_refused: refused,
        device_left_behind: seen.device_waits,
        io_suspended: seen.report.as_ref().and_then(|report| report.engine.io_suspended).map(suspension_words),
        forwarding: seen.report.as_ref().and_then(|report| report.engine.forwarding).map(forwarding),
        peer_forwards: seen.report.as_ref().is_some_and(|report| report.engine.peer_forwards),
        split_brain: seen.report.as_ref().and_then(|report| split_brain::status(&report.engine, &names)),
        latency: seen.report.as_deref().map(|report| in_short(&link_histograms(report))).unwrap_or_default(),
        volumes,
    }
}

fn forwarding(shown: ForwardingSnapshot) -> ForwardingStatus {
    ForwardingStatus { waits: shown.waits, requests: shown.requests as u64 }
}

/// What is known of a resource at this moment.
pub struct Seen {
    /// The last report of its data thread, if it has one.
    pub report: Option<Arc<ResourceReport>>,
    /// Whether that report is of this moment.
    pub fresh: bool,
    /// Why it is down.
    pub down: Option<Option<String>>,
    /// Why volumes have no disk.
    pub problems: BTreeMap<u16, String>,
    /// Whether requests to a device that was left behind wait.
    pub device_waits: bool,
}

impl Seen {
    async fn of(resource: &Resource) -> Seen {
        let device_waits = resource.device_waits().await;
        match resource.life() {
            Life::Down(reason) => {
                Seen { report: None, fresh: true, down: Some(reason), problems: BTreeMap::new(), device_waits }
            }
            Life::Up(running) => {
                let (report, fresh) = match running.report().await {
                    Report::Fresh(report) => (Some(report), true),
                    Report::Stale(report) => (report, false),
                };
                // A Primary's is answered, or waits for what the rest of the status tells.
                let device_waits = device_waits && report.as_ref().is_none_or(|seen| seen.engine.role != Role::Primary);
                Seen { report, fresh, down: None, problems: resource.problems(), device_waits }
            }
        }
    }
}

fn own_config(resource: &Resource) -> Option<NodeConfig> {
    resource.config().node(resource.node.as_str()).cloned()
}

fn peer_config(resource: &Resource) -> Option<NodeConfig> {
    resource.config().peer_of(resource.node.as_str()).cloned()
}

/// Why a promotion would be refused now, in the words in which it would be; `None`: it is safe.
fn promotion_refused(seen: &Seen, name: &str) -> Option<String> {
    match &seen.report {
        _ if seen.down.is_some() => Some(ApiError::refused(Refusal::ResourceIsDown, name).sentence()),
        Some(report) if seen.fresh => {
            let refused = ApiError::refused(report.engine.promotion_refused?, name);
            Some(refusal::explained(refused, Verb::Primary, name, &report.engine).sentence())
        }
        // What was is no answer: meanwhile the peer may have gone on.
        _ => Some("its data thread doesn't answer, so nobody knows whether it may be promoted".to_owned()),
    }
}

/// What a handshake decided, and why.
fn decision(decision: &SyncDecision) -> DecisionDetail {
    DecisionDetail::new(decision, explain(*decision))
}

/// Why client I/O waits, in words.
pub fn suspension_words(suspension: IoSuspension) -> String {
    match suspension {
        IoSuspension::Operator => "suspended by the operator",
        IoSuspension::Fencing => "the peer is gone and isn't known to be unable to go on",
        IoSuspension::NoData => "no good data is in reach",
        IoSuspension::RecordingLoss => "the loss of the peer or of a disk is being made durable",
        IoSuspension::Forwarding => "the role was handed over, and no Primary is in reach that takes requests",
        IoSuspension::Metadata => "the metadata is being written",
    }
    .to_owned()
}

fn volumes(resource: &Resource, report: Option<&ResourceReport>) -> Vec<VolumeStatus> {
    let configs = own_config(resource).map(|node| node.volumes).unwrap_or_default();
    configs.iter().map(|config| volume(config, report)).collect()
}

fn volume(config: &VolumeConfig, report: Option<&ResourceReport>) -> VolumeStatus {
    let engine = report.and_then(|report| report.engine.volumes.iter().find(|volume| volume.number == config.number));
    let shell = report.and_then(|report| report.volumes.iter().find(|volume| volume.number == config.number));
    let device = shell.map_or_else(|| config.device.to_string(), |shell| shell.device.clone());
    match engine {
        Some(engine) => {
            let pacing = report.and_then(|report| report.engine.pacing).map(pacing);
            volume_status(engine, shell, device, pacing, report.map(|report| report.now).unwrap_or_default())
        }
        None => VolumeStatus {
            number: config.number.0,
            device,
            size_bytes: 0,
            block_bytes: None,
            discards: None,
            volatile_cache: None,
            can_grow_to_bytes: None,
            open: false,
            disk: DiskState::Diskless,
            disk_unanswered_ms: None,
            old_operations: 0,
            peer_disk: DiskState::DUnknown,
            replication: ReplicationState::Off,
            out_of_sync_bytes: 0,
            last_decision: None,
            resync: None,
            verify: None,
            driver: None,
            device_problem: None,
            io: IoStatus::default(),
            latency: BTreeMap::new(),
        },
    }
}

fn pacing(pacing: PacingSnapshot) -> PacingStatus {
    let microseconds = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
    PacingStatus {
        limit_bytes_per_s: pacing.limit_bytes_per_s,
        measuring: pacing.measuring,
        clients_p99_us: pacing.clients_p99.map(microseconds),
        alone_p99_us: pacing.alone_p99.map(microseconds),
        yields: pacing.yields,
        recoveries: pacing.recoveries,
    }
}

fn driver(driver: &DriverReport) -> DriverStatus {
    DriverStatus {
        name: driver.name.to_owned(),
        features: driver.features.iter().map(|&name| name.to_owned()).collect(),
        grows: driver.grows,
        memory_locked: driver.memory_locked,
        memory_reserve: driver.memory_reserve,
    }
}

fn volume_status(
    engine: &VolumeSnapshot,
    shell: Option<&VolumeReport>,
    device: String,
    pacing: Option<PacingStatus>,
    now: Timestamp,
) -> VolumeStatus {
    VolumeStatus {
        number: engine.number.0,
        device,
        size_bytes: engine.size_bytes,
        block_bytes: (engine.size_bytes > 0).then_some(engine.block_bytes),
        discards: (engine.size_bytes > 0).then_some(engine.discards),
        volatile_cache: engine.volatile_cache,
        can_grow_to_bytes: engine.can_grow_to_bytes(),
        open: engine.openers > 0,
        disk: engine.disk,
        disk_unanswered_ms: engine.disk_unanswered.map(|silent| u64::try_from(silent.as_millis()).unwrap_or(u64::MAX)),
        old_operations: engine.old_operations,
        peer_disk: engine.peer_disk,
        replication: engine.replication,
        out_of_sync_bytes: engine.out_of_sync_bytes,
        last_decision: engine.last_decision.as_ref().map(decision),
        resync: resync(engine, pacing, now),
        verify: engine.verify.map(verify),
        driver: shell.and_then(|shell| shell.driver.as_ref()).map(driver),
        device_problem: shell.and_then(|shell| shell.size_problem.clone()),
        io: IoStatus {
            read_bytes: engine.counters.read_bytes,
            written_bytes: engine.counters.written_bytes,
            sent_bytes: engine.counters.sent_bytes,
            received_bytes: engine.counters.received_bytes,
        },
        latency: shell.map(|shell| in_short(&histograms(shell))).unwrap_or_default(),
    }
}

/// The histograms of a volume that have anything in them.
fn histograms(shell: &VolumeReport) -> Histograms {
    let named = shell.stages.by_name().map(|(name, latencies)| (name.to_owned(), histogram(latencies)));
    named.into_iter().filter(|(_, histogram)| histogram.count() > 0).collect()
}

fn histogram(latencies: &Latencies) -> Histogram {
    let nanoseconds = |longest: Duration| u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX);
    Histogram::new(latencies.buckets().map(|(longest, count)| (nanoseconds(longest), count)))
}

/// Those of the link.
fn link_histograms(report: &ResourceReport) -> Histograms {
    let sent = histogram(&report.link.sent);
    (sent.count() > 0).then(|| ("sent".to_owned(), sent)).into_iter().collect()
}

fn in_short(histograms: &Histograms) -> BTreeMap<String, LatencyStatus> {
    histograms.iter().filter_map(|(name, histogram)| Some((name.clone(), histogram.summary()?))).collect()
}

fn verify(verify: VerifySnapshot) -> VerifyStatus {
    let left = verify.total_bytes.saturating_sub(verify.done_bytes);
    VerifyStatus {
        total_bytes: verify.total_bytes,
        done_bytes: verify.done_bytes,
        different_bytes: verify.different_bytes,
        rate_bytes_per_s: verify.rate_bytes_per_s,
        eta_s: left.checked_div(verify.rate_bytes_per_s).filter(|_| verify.halted_by.is_none()),
        halted: verify.halted_by.is_some(),
    }
}

fn verify_run(run: &VerifyRun) -> VerifyRunDetail {
    let (state, reason) = match run.state {
        VerifyState::Running => (VerifyRunState::Running, None),
        VerifyState::Completed => (VerifyRunState::Completed, None),
        VerifyState::Stopped(why) => (VerifyRunState::Stopped, Some(stop_words(why))),
    };
    VerifyRunDetail {
        run: run.run,
        state,
        reason,
        compared_bytes: run.compared_bytes,
        resumed_at_bytes: run.resumed_at_bytes,
        different_bytes: run.different_bytes,
        marked_bytes: run.marked_bytes,
    }
}

/// What stopped a verify.
fn stop_words(why: Why) -> String {
    match why {
        Why::Command => "an operator stopped it".into(),
        Why::Peer => "the peer no longer takes part, or leads one itself".into(),
        Why::Handshake => "the nodes settled anew how their disks stand".into(),
        Why::LinkLost(cause) => format!("the connection was lost: {cause}"),
        other => other.to_string(),
    }
}

fn since(divergence: Option<rep_meta::Divergence>) -> Option<u64> {
    divergence.map(|divergence| divergence.since_unix_ms).filter(|since| *since > 0)
}

fn resync(engine: &VolumeSnapshot, pacing: Option<PacingStatus>, now: Timestamp) -> Option<ResyncStatus> {
    let resync = engine.resync?;
    let role = if engine.replication.is_target() { ResyncRole::SyncTarget } else { ResyncRole::SyncSource };
    let left = resync.total_bytes.saturating_sub(resync.done_bytes);
    // Over the whole resync where the last seconds say nothing yet; what a burst at the start did says nothing either.
    let elapsed_ms = now.since(resync.started).as_millis().max(1000);
    let mean = u64::try_from(u128::from(resync.done_bytes) * 1000 / elapsed_ms).unwrap_or(u64::MAX);
    let rate = if resync.rate_bytes_per_s > 0 { resync.rate_bytes_per_s } else { mean };
    Some(ResyncStatus {
        role,
        total_bytes: resync.total_bytes,
        done_bytes: resync.done_bytes,
        rate_bytes_per_s: rate,
        eta_s: left.checked_div(rate),
        compared: resync.compared.map(|compared| ComparedStatus {
            compared_bytes: compared.compared_bytes,
            equal_bytes: compared.equal_bytes,
            copied_bytes: resync.copied_bytes,
        }),
        pacing,
    })
}

/// A resource's details.
pub async fn detail(resource: &Resource) -> Result<Detail, ApiError> {
    let running = resource.running()?;
    let Report::Fresh(report) = running.report().await else {
        return Err(ApiError::timed_out("the resource's data thread doesn't answer")
            .with_hint("its disk may hang; look at the kernel's log"));
    };
    let peer = peer_config(resource).map(|peer| peer.name.to_string()).unwrap_or_default();
    let shells: BTreeMap<_, _> = report.volumes.iter().map(|volume| (volume.number, volume)).collect();
    Ok(Detail {
        name: resource.name().to_owned(),
        node: resource.node.to_string(),
        peer,
        role: report.engine.role,
        connection: report.engine.connection,
        link_problem: report.link.problem.clone(),
        promotion_refused: report.engine.promotion_refused.map(|refusal| format!("{refusal:?}")),
        split_brain: split_brain::status(&report.engine, &split_brain::Names::of(resource)),
        latencies: link_histograms(&report),
        volumes: report
            .engine
            .volumes
            .iter()
            .map(|engine| volume_detail(engine, shells.get(&engine.number).copied()))
            .collect(),
    })
}

fn volume_detail(engine: &VolumeSnapshot, shell: Option<&VolumeReport>) -> VolumeDetail {
    VolumeDetail {
        number: engine.number.0,
        generations: engine.generations.as_ref().map(Into::into),
        peer_generations: engine.peer_generations.as_ref().map(Into::into),
        last_decision: engine.last_decision.as_ref().map(decision),
        out_of_sync_bytes: engine.out_of_sync_bytes,
        peer_out_of_sync_bytes: engine.peer_out_of_sync_bytes,
        diverged_since_unix_ms: since(engine.divergence),
        peer_diverged_since_unix_ms: since(engine.peer_divergence),
        verify_found_bytes: engine.verify_run.map_or(0, |run| run.different_bytes),
        verify_run: engine.verify_run.as_ref().map(verify_run),
        hot_extents: engine.hot_extents,
        hot_extents_max: engine.hot_extents_max,
        resynced_bytes: engine.counters.resynced_bytes,
        log_transactions: engine.counters.log_transactions,
        clients: shell.map_or(0, |shell| shell.clients),
        exported: shell.is_some_and(|shell| shell.exported),
        export_problem: shell.and_then(|shell| shell.export_problem.clone()),
        direct_io: shell.and_then(|shell| shell.disk).map(|disk| disk.direct),
        latencies: shell.map(histograms).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::fixture::{engine, volume};

    #[test]
    fn whether_it_may_be_promoted_has_a_reason_in_every_state() {
        let report = |promotion_refused| {
            let mut engine = engine(Role::Secondary, ConnectionState::Connecting, volume());
            engine.promotion_refused = promotion_refused;
            let (link, volumes, pool) = Default::default();
            Some(Arc::new(ResourceReport { engine, now: Timestamp(0), link, volumes, pool }))
        };
        let seen = |report, fresh, down| Seen { report, fresh, down, problems: BTreeMap::new(), device_waits: false };
        let refused = |seen: &Seen| promotion_refused(seen, "vz");
        assert_eq!(refused(&seen(report(None), true, None)), None);
        let split = refused(&seen(report(Some(Refusal::SplitBrain)), true, None)).expect("a reason");
        assert!(split.starts_with("split brain: ") && split.contains("repctl split-brain vz resolve"), "{split}");
        // In the words in which it would be refused.
        let waits = refused(&seen(report(Some(Refusal::NoUpToDateDisk)), true, None)).expect("a reason");
        assert!(waits.contains("newer data; wait for it with 'repctl wait vz connected'"), "{waits}");
        // What it said last may be past, and what it never said is nothing to go by.
        for report in [report(None), None] {
            let stale = refused(&seen(report, false, None)).expect("a reason");
            assert!(stale.contains("doesn't answer"), "{stale}");
        }
        for why in [None, Some("no metadata".to_owned())] {
            let down = refused(&seen(None, true, Some(why)));
            assert_eq!(down.as_deref(), Some("the resource is down; run 'repctl up vz' first"));
        }
    }
}
