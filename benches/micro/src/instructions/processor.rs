//! What the workloads see of a processor. The C library's copies and the checksum's loop are chosen by it, so instruction
//! counts of two that differ don't compare.

/// The processor this process sees. Under valgrind that is not the machine's own but one valgrind makes up from the
/// instructions it can emulate there, much the same on all machines: `GenuineIntel 000306c3, features 7ffafbff ...`.
pub fn seen() -> String {
    told().unwrap_or_else(|| format!("{}, features not known", std::env::consts::ARCH))
}

#[cfg(target_arch = "x86_64")]
fn told() -> Option<String> {
    use std::arch::x86_64::__cpuid_count;
    // SAFETY: every processor of this architecture has the instruction. Safe to call since Rust 1.94.
    #[allow(unused_unsafe)]
    let leaf = |leaf| unsafe { __cpuid_count(leaf, 0) };
    let (vendor, basic, extended) = (leaf(0), leaf(1), leaf(0x8000_0001));
    // A processor without leaf 7 answers with its last one, which marks it as well.
    let more = leaf(7);
    let name = [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).concat();
    let name = String::from_utf8_lossy(&name).into_owned();
    // Of leaf 1 not `ebx`: it tells which of the processors asked.
    let features = [basic.ecx, basic.edx, more.ebx, more.ecx, more.edx, extended.ecx, extended.edx];
    let features: Vec<String> = features.iter().map(|word| format!("{word:08x}")).collect();
    Some(format!("{name} {:08x}, features {}", basic.eax, features.join(" ")))
}

#[cfg(not(target_arch = "x86_64"))]
fn told() -> Option<String> {
    None
}
