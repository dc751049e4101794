//! The configuration as TOML again: `repctl config show`.

use super::types::{
    ArchiveBlocks, ArchiveConfig, Device, Durability, Fencing, MetaDisk, OnIoError, OnNoData, StartMode,
};
use super::types::{
    Config, HandlersConfig, NetConfig, NodeConfig, ResourceConfig, ResyncConfig, SplitBrainConfig, VolumeConfig,
};
use super::value::{format_duration, format_size};
use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::time::Duration;

impl Config {
    /// The configuration as one TOML file. Keys that have their default value are left out unless `defaults`.
    pub fn to_toml(&self, defaults: bool) -> String {
        let mut out = Writer { text: String::new(), defaults };
        for resource in &self.resources {
            out.resource(resource);
        }
        out.text
    }

    /// The same as JSON.
    pub fn to_json(&self, defaults: bool) -> serde_json::Value {
        // What is written here is TOML; were it not, a test would have said so.
        toml::from_str(&self.to_toml(defaults)).unwrap_or_default()
    }
}

impl ResourceConfig {
    /// Every setting of the resource with its dotted key, defaults included: `net.timeout`, `node.alpha.address`.
    pub(super) fn settings(&self) -> BTreeMap<String, String> {
        let mut out = Writer { text: String::new(), defaults: true };
        out.resource(self);
        let document: toml::Table = toml::from_str(&out.text).unwrap_or_default();
        let mut settings = BTreeMap::new();
        let own = document.get("resource").and_then(|resources| resources.get(self.name.as_str()));
        if let Some(own) = own {
            flatten(own, String::new(), &mut settings);
        }
        settings
    }
}

fn flatten(value: &toml::Value, path: String, settings: &mut BTreeMap<String, String>) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten(value, path, settings);
            }
        }
        toml::Value::String(text) => drop(settings.insert(path, text.clone())),
        other => drop(settings.insert(path, other.to_string())),
    }
}

struct Writer {
    text: String,
    defaults: bool,
}

impl Writer {
    fn resource(&mut self, resource: &ResourceConfig) {
        let name = key(resource.name.as_str());
        self.section(&format!("resource.{name}"), |out| {
            out.key("protocol", "C", None);
            out.key("start", resource.start, Some(&StartMode::default()));
            out.key("durability", resource.durability, Some(&Durability::default()));
            out.key("fencing", resource.fencing, Some(&Fencing::default()));
            out.key("on-io-error", resource.on_io_error, Some(&OnIoError::default()));
            out.key("disk-timeout", format_duration(resource.disk_timeout), Some(&format_duration(Duration::ZERO)));
            out.key("on-no-data", resource.on_no_data, Some(&OnNoData::default()));
            let default = ArchiveConfig::default().directory_words();
            out.key("archive-dir", resource.archive.directory_words(), Some(&default));
            out.key("archive-blocks", resource.archive.blocks, Some(&ArchiveBlocks::default()));
        });
        self.section(&format!("resource.{name}.net"), |out| out.net(&resource.net));
        self.section(&format!("resource.{name}.handlers"), |out| out.handlers(&resource.handlers));
        let rate = resource.resync.max_rate_bytes_per_s;
        let rate_default = format_size(ResyncConfig::default().max_rate_bytes_per_s);
        self.section(&format!("resource.{name}.resync"), |out| {
            out.key("max-rate", format_size(rate), Some(&rate_default));
        });
        self.section(&format!("resource.{name}.split-brain"), |out| out.split_brain(resource.split_brain));
        self.section(&format!("resource.{name}.links"), |out| {
            for link in &resource.links {
                let path = toml::Value::String(link.path.display().to_string());
                out.key(&path.to_string(), link.target.display(), None);
            }
        });
        for node in &resource.nodes {
            self.node(&name, node);
        }
    }

    fn net(&mut self, net: &NetConfig) {
        let default = NetConfig::default();
        let durations = [
            ("timeout", net.timeout, default.timeout),
            ("ping-interval", net.ping_interval, default.ping_interval),
            ("ping-timeout", net.ping_timeout, default.ping_timeout),
            ("connect-interval", net.connect_interval, default.connect_interval),
        ];
        for (key, value, default) in durations {
            self.key(key, format_duration(value), Some(&format_duration(default)));
        }
        if self.defaults || net.ko_count != default.ko_count {
            let _ = writeln!(self.text, "ko-count = {}", net.ko_count);
        }
        if let Some(path) = &net.shared_secret_file {
            self.key("shared-secret-file", path.display(), None);
        }
    }

    fn handlers(&mut self, handlers: &HandlersConfig) {
        for (name, words) in handlers.all().into_iter().filter(|(_, words)| !words.is_empty()) {
            let words: Vec<_> = words.iter().map(|word| toml::Value::String(word.clone())).collect();
            let _ = writeln!(self.text, "{name} = {}", toml::Value::Array(words));
        }
        let default = HandlersConfig::default().timeout;
        self.key("timeout", format_duration(handlers.timeout), Some(&format_duration(default)));
    }

    fn split_brain(&mut self, policies: SplitBrainConfig) {
        let default = SplitBrainConfig::default();
        self.key("after-0-primaries", policies.after_0_primaries, Some(&default.after_0_primaries));
        self.key("after-1-primary", policies.after_1_primary, Some(&default.after_1_primary));
        self.key("after-2-primaries", policies.after_2_primaries, Some(&default.after_2_primaries));
    }

    fn node(&mut self, resource: &str, node: &NodeConfig) {
        let path = format!("resource.{resource}.node.{}", key(node.name.as_str()));
        self.section(&path, |out| out.key("address", node.address, None));
        for volume in &node.volumes {
            self.section(&format!("{path}.volume.{}", volume.number), |out| out.volume(volume));
        }
    }

    fn volume(&mut self, volume: &VolumeConfig) {
        self.key("disk", volume.disk.display(), None);
        self.key("meta-disk", &volume.meta_disk, Some(&&MetaDisk::default()));
        self.key("device", &volume.device, Some(&&Device::default()));
    }

    /// A table; left out when nothing stands in it.
    fn section(&mut self, title: &str, body: impl FnOnce(&mut Self)) {
        let before = self.text.len();
        let separator = if before == 0 { "" } else { "\n" };
        let _ = writeln!(self.text, "{separator}[{title}]");
        let empty = self.text.len();
        body(self);
        if self.text.len() == empty {
            self.text.truncate(before);
        }
    }

    /// A key with a string.
    fn key<V: fmt::Display>(&mut self, key: &str, value: V, default: Option<&V>) {
        let value = value.to_string();
        if self.defaults || default.is_none_or(|default| default.to_string() != value) {
            let _ = writeln!(self.text, "{key} = {}", toml::Value::String(value));
        }
    }
}

/// A name as a key: quoted where it isn't a bare one.
fn key(name: &str) -> String {
    if name.contains('.') { format!("\"{name}\"") } else { name.to_owned() }
}
