//! Durations, sizes, devices and addresses as text.

use super::types::Device;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The longest duration a configuration may name.
const DURATION_MAX: Duration = Duration::from_secs(24 * 3600);
/// The longest path a unix socket can have, in bytes, with its closing zero.
const UNIX_PATH_LENGTH_MAX: usize = 107;

/// Splits "500ms" into its number and its unit.
fn split_number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number = text[..end].parse().ok()?;
    Some((number, &text[end..]))
}

/// A duration: a whole number and `ms`, `s`, `min` (or `m`) or `h`. At most a day.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split_number(text)?;
    let duration = match unit {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" | "min" => Duration::from_secs(number.checked_mul(60)?),
        "h" => Duration::from_secs(number.checked_mul(3600)?),
        "" if number == 0 => Duration::ZERO,
        _ => return None,
    };
    (duration <= DURATION_MAX).then_some(duration)
}

/// A duration as the configuration writes it, in the largest unit that divides it.
pub fn format_duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    let units = [(3_600_000, "h"), (60_000, "min"), (1000, "s")];
    let unit = units.iter().find(|(length, _)| ms.is_multiple_of(*length));
    match unit {
        _ if ms == 0 => "0s".to_owned(),
        Some((length, name)) => format!("{}{name}", ms / length),
        None => format!("{ms}ms"),
    }
}

/// A size in bytes: a whole number, alone or with `K`, `M`, `G`, `T` (powers of 1024), which may be written `KiB` …
pub fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split_number(text)?;
    let shift = match unit {
        "" | "B" => 0,
        "K" | "KiB" => 10,
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        "T" | "TiB" => 40,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

/// A size as the configuration writes it.
pub(super) fn format_size(bytes: u64) -> String {
    let units = [(40, "T"), (30, "G"), (20, "M"), (10, "K")];
    let unit = units.iter().find(|(shift, _)| bytes > 0 && bytes.trailing_zeros() >= *shift);
    unit.map_or_else(|| bytes.to_string(), |(shift, name)| format!("{}{name}", bytes >> shift))
}

/// Why a value was refused: what was expected instead.
pub(super) type Expected = String;

/// An absolute path without a zero byte.
pub(super) fn parse_path(text: &str) -> Result<PathBuf, Expected> {
    if text.starts_with('/') && !text.contains('\0') && !text.ends_with('/') {
        Ok(PathBuf::from(text))
    } else {
        Err("an absolute path, as \"/dev/vg0/vz\" or \"/etc/repd/vz.secret\"".into())
    }
}

/// An address that can be listened on.
pub(super) fn parse_address(text: &str) -> Result<SocketAddr, Expected> {
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => Err("a port from 1 to 65535".into()),
        Ok(address) => Ok(address),
        Err(_) => Err("an IP address and a port, as \"192.168.255.1:7788\" or \"[fd00::1]:7788\"".into()),
    }
}

/// `device`.
pub(super) fn parse_device(text: &str) -> Result<Device, Expected> {
    if let Some(path) = text.strip_prefix("nbd:unix:") {
        let path = parse_path(path).map_err(|expected| format!("after \"nbd:unix:\" {expected}"))?;
        return check_socket_path(&path).map(|()| Device::NbdUnix(path));
    }
    if let Some(address) = text.strip_prefix("nbd:tcp:") {
        return parse_address(address).map(Device::NbdTcp).map_err(|expected| format!("after \"nbd:tcp:\" {expected}"));
    }
    match text {
        "ublk" => Ok(Device::Ublk),
        "nbd" => Ok(Device::NbdKernel),
        _ => Err("\"ublk\", \"nbd\", \"nbd:unix:/PATH\" or \"nbd:tcp:IP:PORT\"".into()),
    }
}

fn check_socket_path(path: &Path) -> Result<(), Expected> {
    if path.as_os_str().len() <= UNIX_PATH_LENGTH_MAX {
        Ok(())
    } else {
        Err(format!("a socket path of at most {UNIX_PATH_LENGTH_MAX} bytes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_have_a_unit_and_a_limit() {
        assert_eq!(parse_duration("6s"), Some(Duration::from_secs(6)));
        assert_eq!(parse_duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse_duration("2min"), Some(Duration::from_secs(120)));
        assert_eq!(parse_duration("0"), Some(Duration::ZERO));
        for wrong in ["", "6", "s", "-1s", "1.5s", "6 s", "99999999999999999999s", "25h", "18446744073709551615h"] {
            assert_eq!(parse_duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(parse_size("0"), Some(0));
        assert_eq!(parse_size("100M"), Some(100 << 20));
        assert_eq!(parse_size("1GiB"), Some(1 << 30));
        for wrong in ["", "M", "1.5G", "1 G", "1k", "1MB", "18446744073709551615K"] {
            assert_eq!(parse_size(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn devices_and_addresses() {
        assert_eq!(parse_device("nbd:unix:/run/repd/vz.sock"), Ok(Device::NbdUnix("/run/repd/vz.sock".into())));
        assert!(parse_device("nbd:tcp:127.0.0.1:10809").is_ok());
        assert!(parse_device(&format!("nbd:unix:/{}", "x".repeat(200))).is_err());
        assert!(parse_device("nbd:unix:relative").is_err());
        assert!(parse_address("127.0.0.1:0").is_err());
        assert!(parse_address("localhost:7788").is_err());
        assert!(parse_address("[::1]:7788").is_ok());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(ms in 0u64..86_400_000, bytes: u64) {
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Some(duration));
            prop_assert_eq!(parse_size(&format_size(bytes)), Some(bytes));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = (parse_duration(&text), parse_size(&text), parse_device(&text), parse_address(&text));
        }
    }
}
