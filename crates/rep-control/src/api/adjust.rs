//! `adjust`: the difference between the configuration on disk and the running daemon, and what was done about it.

use super::ApiError;
use serde::{Deserialize, Serialize};

/// What is asked for.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdjustRequest {
    /// Only tell the difference.
    pub dry_run: bool,
    /// How long it may take, for each resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// The difference.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct AdjustAnswer {
    /// Whether nothing was done on purpose.
    pub dry_run: bool,
    /// The resources that differ, by name.
    pub changes: Vec<ResourceChange>,
}

/// How a resource differs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ResourceChange {
    /// The resource.
    pub resource: String,
    /// How.
    pub kind: ChangeKind,
    /// The settings that differ, for a changed one.
    pub settings: Vec<SettingChange>,
    /// Whether it must go down and come up.
    pub needs_restart: bool,
    /// Whether it was done.
    pub done: bool,
    /// Why not, if it was tried.
    pub error: Option<ApiError>,
}

/// How a resource differs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// Settings differ.
    Changed,
}

/// A setting that differs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SettingChange {
    /// Its dotted key within the resource: `net.timeout`.
    pub key: String,
    /// What it was.
    pub from: Option<String>,
    /// What it is to be.
    pub to: Option<String>,
    /// Whether the resource must go down and come up for it.
    pub needs_restart: bool,
}
