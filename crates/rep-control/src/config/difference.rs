//! What differs between two configurations of a resource, as the node that runs it sees it: `repctl adjust`.

use super::types::ResourceConfig;
use crate::api::SettingChange;

/// Every setting that differs.
pub fn differences(old: &ResourceConfig, new: &ResourceConfig, node: &str) -> Vec<SettingChange> {
    let (before, after) = (old.settings(), new.settings());
    let keys: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let changed = keys.into_iter().filter(|key| before.get(*key) != after.get(*key));
    let change = |key: &String| SettingChange {
        key: key.clone(),
        from: before.get(key).cloned(),
        to: after.get(key).cloned(),
        needs_restart: needs_restart(key, node),
    };
    changed.map(change).collect()
}

/// What changes under way: it is looked up whenever it counts, and nothing else hangs on it.
const UNDER_WAY: [&str; 8] = [
    "start",
    "disk-timeout",
    "on-io-error",
    "net.timeout",
    "net.ping-interval",
    "net.ping-timeout",
    "net.ko-count",
    "resync.max-rate",
];

/// Whether the resource must go down and come up for a setting to count. What the other node does with its disks is
/// nothing to this one; where it can be reached is.
fn needs_restart(key: &str, node: &str) -> bool {
    let Some(of_node) = key.strip_prefix("node.") else {
        // Whether that one is asked at all the data thread is told when it starts.
        return key == "handlers.before-resync-target"
            || !UNDER_WAY.contains(&key) && !["handlers.", "links."].iter().any(|free| key.starts_with(free));
    };
    let own = of_node.strip_prefix(node).is_some_and(|rest| rest.starts_with('.'));
    own || of_node.ends_with(".address")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[resource.vz.net]\ntimeout='6s'\n\
                        [resource.vz.node.a]\naddress='10.0.0.1:1'\nvolume.0.disk='/a'\n\
                        [resource.vz.node.b]\naddress='10.0.0.2:1'\nvolume.0.disk='/b'\n";

    fn told(from: &str, to: &str) -> Vec<(String, bool)> {
        let parse = |text: &str| super::super::parse("x", text.as_bytes()).unwrap().resources.remove(0);
        let changes = differences(&parse(TEXT), &parse(&TEXT.replace(from, to)), "a");
        changes.into_iter().map(|change| (change.key, change.needs_restart)).collect()
    }

    #[test]
    fn what_differs_is_told_with_what_it_takes() {
        assert_eq!(told("x", "x"), []);
        assert_eq!(told("'6s'", "'7s'"), [("net.timeout".into(), false)]);
        assert_eq!(
            told("[resource.vz.net]", "[resource.vz]\nfencing='resource-only'\n[resource.vz.net]"),
            [("fencing".into(), true)]
        );
        assert_eq!(
            told("[resource.vz.net]", "[resource.vz]\nresync.max-rate='1M'\n[resource.vz.net]"),
            [("resync.max-rate".into(), false)]
        );
        assert_eq!(told("'/a'", "'/c'"), [("node.a.volume.0.disk".into(), true)]);
        assert_eq!(told("'/b'", "'/c'"), [("node.b.volume.0.disk".into(), false)]);
        assert_eq!(told("0.2:1", "0.3:1"), [("node.b.address".into(), true)]);
        assert_eq!(
            told("[resource.vz.net]", "[resource.vz]\nstart='down'\n[resource.vz.net]"),
            [("start".into(), false)]
        );
        assert_eq!(
            told("[resource.vz.net]", "[resource.vz.links]\n'/etc/a'='/vz/a'\n[resource.vz.net]"),
            [("links./etc/a".into(), false)]
        );
        assert_eq!(told("timeout='6s'", "shared-secret-file='/s'").len(), 1);
    }
}
