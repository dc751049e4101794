//! Memory, as the kernel counts it.

/// Bytes of a process that lie in memory.
pub fn resident_bytes(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    let kibibytes = line.trim().trim_end_matches(" kB").parse::<f64>();
    kibibytes.unwrap_or_else(|e| panic!("process {pid}'s memory: {e} in '{line}'")) * 1024.0
}

#[cfg(test)]
mod tests {
    #[test]
    fn ours_grows_with_what_we_touch() {
        let before = super::resident_bytes(std::process::id());
        let touched = std::hint::black_box(vec![1_u8; 64 << 20]);
        assert!(super::resident_bytes(std::process::id()) - before > 32e6);
        drop(touched);
    }
}
