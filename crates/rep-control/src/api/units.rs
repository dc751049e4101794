//! Numbers as people read them: the daemon's sentences and the command's tables say the same.

/// Bytes for people: three digits and a binary unit.
pub fn format_bytes(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let step = (0..units.len() - 1).find(|step| bytes >> (10 * step) < 1000).unwrap_or(units.len() - 1);
    let value = bytes as f64 / (1u64 << (10 * step)) as f64;
    match step {
        0 => format!("{bytes} B"),
        _ if value < 10.0 => format!("{value:.2} {}", units[step]),
        _ if value < 100.0 => format!("{value:.1} {}", units[step]),
        _ => format!("{value:.0} {}", units[step]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_and_a_unit() {
        let told = [(0, "0 B"), (999, "999 B"), (1000, "0.98 KiB"), (4096, "4.00 KiB"), (100 << 20, "100 MiB")];
        for (number, text) in told {
            assert_eq!(format_bytes(number), text);
        }
        assert_eq!(format_bytes(u64::MAX), "16384 PiB");
    }
}
