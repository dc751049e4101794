//! Events: what happened, one JSON object a line.

use super::SplitBrainVolume;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// Something that happened.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Event {
    /// When, as RFC 3339 in UTC with milliseconds.
    pub time: String,
    /// Where.
    pub resource: String,
    /// Which volume, where it is about one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub volume: Option<u16>,
    /// What (`connection`, `disk`, `resync_finished`, …).
    pub kind: String,
    /// The state before, for a change of state.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub from: Option<String>,
    /// The state after.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub to: Option<String>,
    /// Why, or what else is worth knowing.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// Bytes it is about.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bytes: Option<u64>,
    /// Of a split brain that was found: who went on since when, and how far.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub split_brain: Option<SplitBrainVolume>,
}

impl fmt::Display for Event {
    /// One line: `TIME vz/0 disk: Attaching -> UpToDate (reason)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.time, self.resource)?;
        if let Some(volume) = self.volume {
            write!(f, "/{volume}")?;
        }
        write!(f, " {}", self.kind.replace('_', " "))?;
        if let (Some(from), Some(to)) = (&self.from, &self.to) {
            write!(f, ": {from} -> {to}")?;
        }
        if let Some(bytes) = self.bytes {
            write!(f, ": {bytes} bytes")?;
        }
        if let Some(reason) = &self.reason {
            write!(f, " ({reason})")?;
        }
        Ok(())
    }
}

/// A moment as RFC 3339 in UTC with milliseconds.
pub fn format_time(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86400, since.as_secs() % 86400);
    let (year, month, day) = rep_types::civil_date(days);
    let (h, m, s, ms) = (second / 3600, second / 60 % 60, second % 60, since.subsec_millis());
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{ms:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times_are_utc_with_milliseconds() {
        let at = |seconds, ms| format_time(UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_millis(ms));
        assert_eq!(at(0, 0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(951_782_400, 7), "2000-02-29T00:00:00.007Z");
        assert_eq!(at(1_795_261_079, 999), "2026-11-21T11:37:59.999Z");
        assert_eq!(at(4_107_542_400, 0), "2100-03-01T00:00:00.000Z");
    }

    #[test]
    fn an_event_is_one_line_either_way() {
        let event = Event {
            time: "T".into(),
            resource: "vz".into(),
            volume: Some(0),
            kind: "peer_disk".into(),
            from: Some("DUnknown".into()),
            to: Some("UpToDate".into()),
            reason: Some("handshake".into()),
            bytes: None,
            split_brain: None,
        };
        assert_eq!(event.to_string(), "T vz/0 peer disk: DUnknown -> UpToDate (handshake)");
        let json = serde_json::to_string(&event).unwrap();
        assert!(!json.contains("bytes") && !json.contains('\n'), "{json}");
        assert_eq!(serde_json::from_str::<Event>(&json).unwrap(), event);
    }
}
