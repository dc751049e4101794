//! ```text
//!   fio, nbdcopy, nbdinfo, nbdsh, qemu-io, qemu-img ---> alpha Primary ===== beta Secondary
//!   afterwards both disks are the same, byte by byte
//! ```

use rep_tests::scratch::sparse_file;
use rep_tests::tools::run;
use rep_tests::{Cluster, ClusterOptions};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(120);
const MIB: u64 = 1 << 20;

fn pair() -> Cluster {
    Cluster::with_primary(&ClusterOptions { external_metadata: true, ..ClusterOptions::default() })
}

fn ends_identical(cluster: &Cluster) {
    cluster.alpha.wait_in_sync();
    cluster.beta.wait_in_sync();
    cluster.assert_identical();
}

#[test]
fn fio_verifies_what_it_wrote() {
    let cluster = pair();
    let uri = format!("--uri={}", cluster.alpha.uri());
    for pattern in ["randwrite", "write", "randrw"] {
        for block in ["4k", "512", "64k"] {
            let line = [
                "--name=verify",
                "--ioengine=nbd",
                &uri,
                &format!("--rw={pattern}"),
                &format!("--bs={block}"),
                "--iodepth=16",
                "--size=16M",
                "--io_size=8M",
                "--verify=crc32c",
                "--verify_fatal=1",
                "--do_verify=1",
                "--fsync=37",
                "--verify_state_save=0",
            ];
            run("fio", line, PATIENCE).ok();
        }
    }
    ends_identical(&cluster);
}

#[test]
fn fio_trims_and_the_rest_stays() {
    let cluster = pair();
    let uri = format!("--uri={}", cluster.alpha.uri());
    let line = ["--name=trim", "--ioengine=nbd", &uri, "--rw=randtrimwrite", "--bs=16k", "--iodepth=8", "--size=32M"];
    run("fio", line, PATIENCE).ok();
    ends_identical(&cluster);
}

#[test]
fn nbdcopy_copies_in_and_out_with_four_connections() {
    let cluster = pair();
    let image = cluster.path("image");
    let mut content = rep_tests::random::bytes(11, 20 * MIB as usize);
    content.resize(64 * MIB as usize, 0);
    content[40 * MIB as usize..41 * MIB as usize].fill(0xA5);
    std::fs::write(&image, &content).expect("the image");
    let image = image.to_str().expect("a path in UTF-8");
    let copy = |from: &str, to: &str| run("nbdcopy", ["--connections=4", "--flush", from, to], PATIENCE).ok();
    copy(image, &cluster.alpha.uri());
    let back = cluster.path("back");
    sparse_file(&back, 64 * MIB);
    copy(&cluster.alpha.uri(), back.to_str().expect("a path in UTF-8"));
    assert!(std::fs::read(&back).expect("the copy") == content, "what came out isn't what went in");
    ends_identical(&cluster);
}

#[test]
fn nbdinfo_sees_size_flags_and_map() {
    let cluster = pair();
    cluster.alpha.write(8 * MIB, &rep_tests::random::bytes(2, MIB as usize));
    let json = run("nbdinfo", ["--json", &cluster.alpha.uri()], PATIENCE).ok();
    let info: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let export = &info["exports"][0];
    assert_eq!(export["export-size"], cluster.volume_bytes());
    for (flag, value) in [
        ("is_read_only", false),
        ("can_flush", true),
        ("can_fua", true),
        ("can_multi_conn", true),
        ("can_trim", true),
        ("can_zero", true),
        ("can_df", true),
        ("can_cache", true),
    ] {
        assert_eq!(export[flag], value, "{flag} in {json}");
    }
    assert_eq!(info["structured"], true, "{json}");
    let list =
        run("nbdinfo", ["--list", &format!("nbd+unix:///?socket={}", cluster.alpha.socket().display())], PATIENCE).ok();
    assert!(list.contains("export=\"vz\""), "{list}");

    let map = run("nbdinfo", ["--map", "--json", &cluster.alpha.uri()], PATIENCE).ok();
    let map: serde_json::Value = serde_json::from_str(&map).expect("JSON");
    let extents: Vec<(u64, u64, u64)> = map.as_array().expect("a list").iter().map(extent).collect();
    assert_eq!(extents.iter().map(|(_, length, _)| length).sum::<u64>(), cluster.volume_bytes());
    let kind_at =
        |at: u64| extents.iter().find(|(start, length, _)| (*start..start + length).contains(&at)).map(|e| e.2);
    assert_eq!(kind_at(8 * MIB + 4096), Some(0), "data: {extents:?}");
    assert_eq!(kind_at(32 * MIB), Some(3), "a hole: {extents:?}");
}

fn extent(value: &serde_json::Value) -> (u64, u64, u64) {
    let number = |name: &str| value[name].as_u64().unwrap_or_else(|| panic!("{name} in {value}"));
    (number("offset"), number("length"), number("type"))
}

#[test]
fn nbdsh_tries_what_the_others_dont() {
    let cluster = pair();
    let script = r#"
assert h.can_multi_conn() and h.can_flush() and h.can_fua() and h.can_cache() and h.can_df()
assert h.can_zero() and h.can_fast_zero() is not None
h.pwrite(b"\x5a" * 65536, 0, nbd.CMD_FLAG_FUA)
h.zero(4096, 4096)
h.zero(4096, 16384, nbd.CMD_FLAG_NO_HOLE)
h.trim(4096, 32768)
h.cache(65536, 0)
h.flush()
b = h.pread(65536, 0)
assert b[0:4096] == b"\x5a" * 4096 and b[4096:8192] == b"\0" * 4096 and b[8192:16384] == b"\x5a" * 8192
assert b[16384:20480] == b"\0" * 4096
assert h.pread(512, h.get_size() - 512) == b"\0" * 512
h.set_strict_mode(0)
def fails(errno, what, *arguments):
    try:
        what(*arguments)
    except nbd.Error as error:
        assert error.errnum == errno, (error.string, errno)
    else:
        assert False, "no error"
import errno
size = h.get_size()
fails(errno.EINVAL, h.pread, 4096, size)
fails(errno.ENOSPC, h.pwrite, b"x" * 4096, size)
fails(errno.EINVAL, h.pread, 512, size - 256)
fails(errno.EINVAL, h.trim, 4096, size)
assert h.pread(512, 0) == b"\x5a" * 512, "the connection lives on"
"#;
    run("nbdsh", ["-u", &cluster.alpha.uri(), "-c", script], PATIENCE).ok();
    ends_identical(&cluster);
}

#[test]
fn qemu_io_and_qemu_img_agree() {
    let cluster = pair();
    let uri = cluster.alpha.uri();
    let commands = [
        "write -P 0x11 0 1M",
        "write -P 0x22 -f 1M 64k",
        "write -z 512k 64k",
        "write -z -u 2M 1M",
        "discard 4M 1M",
        "aio_write -P 0x33 8M 256k",
        "aio_flush",
        "flush",
        "read -P 0x11 0 512k",
        "read -P 0 512k 64k",
        "read -P 0x22 1M 64k",
        "read -P 0x33 8M 256k",
    ];
    let mut line = vec!["-f", "raw", uri.as_str()];
    commands.iter().for_each(|command| line.extend(["-c", command]));
    let said = run("qemu-io", line, PATIENCE).ok();
    assert!(!said.contains("Pattern verification failed"), "{said}");

    let image = cluster.path("image");
    let image = image.to_str().expect("UTF-8");
    run("qemu-img", ["convert", "-f", "raw", "-O", "raw", &uri, image], PATIENCE).ok();
    run("qemu-img", ["compare", "-f", "raw", "-F", "raw", &uri, image], PATIENCE).ok();
    cluster.alpha.write(5 * MIB + 77 * 512, &[1; 512]);
    run("qemu-img", ["compare", "-f", "raw", "-F", "raw", &uri, image], PATIENCE).failed_with(1);
    run("qemu-img", ["convert", "-n", "-f", "raw", "-O", "raw", image, &uri], PATIENCE).ok();
    run("qemu-img", ["compare", "-f", "raw", "-F", "raw", &uri, image], PATIENCE).ok();
    ends_identical(&cluster);
}

#[test]
fn a_secondary_exports_nothing() {
    let cluster = pair();
    run("nbdinfo", ["--size", &cluster.alpha.uri()], PATIENCE).ok();
    let outcome = run("nbdinfo", ["--size", &cluster.beta.uri()], PATIENCE);
    assert_ne!(outcome.code, 0, "{outcome:?}");
    assert_ne!(outcome.code, 124, "it is refused, not left hanging: {outcome:?}");
    cluster.alpha.ok("secondary");
    assert_ne!(run("nbdinfo", ["--size", &cluster.alpha.uri()], PATIENCE).code, 0);
}
