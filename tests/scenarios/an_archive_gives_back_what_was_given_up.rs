//! ```text
//!   alpha Primary       beta Primary       apart; both wrote, also to the same blocks
//!   alpha Primary ..... beta archives      'split-brain resolve --keep alpha': first beta's blocks are saved
//!   alpha Primary ====> beta SyncTarget    only then are they overwritten
//!   archive + base  ==  what beta held     bit for bit, as an image and over NBD
//! ```

use rep_tests::nbd::{Address, Connection};
use rep_tests::process::Running;
use rep_tests::{Cluster, ClusterOptions, Node, binaries, compare, tools};
use std::path::{Path, PathBuf};
use std::time::Duration;

const MIB: u64 = 1 << 20;

/// Bytes of what the nodes wrote, by seed.
fn written(seed: u64, length: u64) -> Vec<u8> {
    rep_tests::random::bytes(seed, length as usize)
}

/// Both wrote apart, met, and see that; beta is Secondary. Each wrote where the other didn't, and where it did.
fn apart(options: &ClusterOptions) -> Cluster {
    let mut cluster = Cluster::with_primary(options);
    cluster.expect_log("plit brain");
    cluster.alpha.write(0, &written(1, 2 * MIB));
    cluster.alpha.write(20 * MIB, &written(2, MIB));
    cluster.alpha.ok("disconnect");
    cluster.beta.ok("disconnect");
    cluster.beta.ok("primary --force");
    for (node, seed) in [(&cluster.alpha, 10), (&cluster.beta, 20)] {
        node.write(4 * MIB, &written(seed, MIB + 4096));
        node.write(512 * 1024, &written(seed + 1, 8192));
    }
    cluster.alpha.write(9 * MIB + 512, &written(12, 512));
    cluster.beta.write(20 * MIB, &vec![0; MIB as usize]);
    cluster.beta.write(30 * MIB, &written(22, 3 * MIB));
    cluster.beta.ok("secondary");
    cluster
}

fn meet(cluster: &Cluster) {
    cluster.alpha.ok("connect");
    cluster.beta.ok("connect");
    cluster.alpha.wait_connection("SplitBrain");
    cluster.beta.wait_connection("SplitBrain");
}

/// A copy of what a node's volume holds; nobody writes to it.
pub(crate) fn copy(cluster: &Cluster, node: &Node) -> PathBuf {
    let to = cluster.path(&format!("{}-before", node.name()));
    std::fs::copy(node.disk(), &to).expect("a copy of the disk");
    to
}

fn archives(cluster: &Cluster, node: &Node) -> Vec<serde_json::Value> {
    let directory = cluster.archive_dir();
    let directory = directory.to_string_lossy();
    let told = node.ctl(["--json", "archive", "list", "--dir", &directory]).ok();
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(told["unusable"], serde_json::json!([]));
    told["archives"].as_array().expect("a list").clone()
}

/// The file of the one archive there is, which is of this node.
pub(crate) fn only_archive(cluster: &Cluster, of: &str) -> PathBuf {
    let found = archives(cluster, &cluster.alpha);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0]["node"], of);
    found[0]["file"].as_str().expect("a path").into()
}

pub(crate) fn export(cluster: &Cluster, node: &Node, archive: &Path, base: Option<&Path>) -> PathBuf {
    let image = cluster.path("image");
    let mut words = vec!["archive".as_ref(), "export".as_ref(), archive.as_os_str()];
    if let Some(base) = base {
        words.extend(["--base".as_ref(), base.as_os_str()]);
    }
    words.extend(["--force".as_ref(), "--to".as_ref(), image.as_os_str()]);
    node.ctl(words).ok();
    image
}

fn assert_served(cluster: &Cluster, archive: &Path, base: &Path, expected: &Path) {
    let socket = cluster.path("archive.sock");
    let mut command = tools::server(&binaries::repctl().to_string_lossy());
    command.args(["archive", "serve"]).arg(archive).arg("--base").arg(base).arg("--listen").arg(&socket);
    let server = Running::start(command, "archive serve", &cluster.path("serve.log"));
    let mut connection = rep_tests::until("the archive is served", Duration::from_secs(30), || {
        Connection::open(&Address::Unix(socket.clone()), "vz/0", Duration::from_secs(30)).map_err(|e| e.to_string())
    });
    let expected = std::fs::read(expected).expect("the copy");
    let mut part = vec![0; MIB as usize];
    for at in (0..cluster.volume_bytes() - MIB).step_by(MIB as usize) {
        connection.read(at, &mut part).expect("a read");
        assert!(part[..] == expected[at as usize..][..MIB as usize], "what is served differs in MiB {}", at / MIB);
    }
    assert!(connection.write(0, &[1; 512], 0).is_err(), "it is read-only");
    // Somebody else's client thinks so too.
    let uri = format!("nbd+unix:///?socket={}", socket.display());
    let image = cluster.path("nbdcopied");
    tools::run("nbdcopy", [uri.as_str(), &image.to_string_lossy()], Duration::from_secs(60)).ok();
    assert!(std::fs::read(&image).expect("the image") == expected[..cluster.volume_bytes() as usize]);
    let _ = connection.close();
    assert!(server.terminate(Duration::from_secs(30)).success());
    assert!(!socket.exists(), "the socket is taken away");
}

#[test]
fn each_way_the_victim_s_view_comes_back_bit_for_bit() {
    for (keep, given_up) in [("alpha", "beta"), ("beta", "alpha")] {
        let mut cluster = apart(&ClusterOptions::default());
        meet(&cluster);
        if given_up == "alpha" {
            cluster.alpha.ok("secondary");
        }
        let [alphas, betas] = [copy(&cluster, &cluster.alpha), copy(&cluster, &cluster.beta)];
        let (base, held) = if keep == "alpha" { (alphas, betas) } else { (betas, alphas) };
        assert!(archives(&cluster, &cluster.alpha).is_empty(), "nothing is archived before it must be");

        cluster.node(keep).ok(&format!("split-brain resolve --keep {keep}"));
        cluster.alpha.wait_in_sync();
        cluster.beta.wait_in_sync();
        cluster.assert_identical();

        let archive = only_archive(&cluster, given_up);
        // What the survivor's clients write later is none of the archive's business: the base is from before.
        if keep == "alpha" {
            cluster.alpha.write(0, &written(77, 3 * MIB));
            cluster.alpha.write(40 * MIB, &written(78, MIB));
        }
        let image = export(&cluster, &cluster.alpha, &archive, Some(&base));
        compare::assert_identical(&image, &held, cluster.volume_bytes());
        assert_served(&cluster, &archive, &base, &held);
        // Without a base it can't be exact, and says so.
        let refused = cluster.alpha.ctl(["archive", "export", &archive.to_string_lossy(), "--to", "/nowhere"]);
        assert!(refused.failed_with(2).contains("BaseNeeded"));
    }
}

#[test]
fn an_archive_of_every_block_needs_no_base() {
    let lines = vec!["archive-blocks = \"all\"".to_owned()];
    let cluster = apart(&ClusterOptions { resource_lines: lines, ..ClusterOptions::default() });
    meet(&cluster);
    let held = copy(&cluster, &cluster.beta);
    cluster.beta.ok("split-brain resolve --keep alpha");
    cluster.alpha.wait_in_sync();
    cluster.alpha.write(0, &written(99, 40 * MIB));
    let image = export(&cluster, &cluster.beta, &only_archive(&cluster, "beta"), None);
    compare::assert_identical(&image, &held, cluster.volume_bytes());
}

/// Each policy that gives data up saves them too; what differs is who gives them up.
#[test]
fn what_a_policy_gives_up_is_archived() {
    let policies = [
        ("after-0-primaries = \"discard-younger-primary\"", "beta", false),
        ("after-0-primaries = \"discard-older-primary\"", "alpha", false),
        ("after-0-primaries = \"discard-least-changes\"", "alpha", false),
        ("after-1-primary = \"discard-secondary\"", "beta", true),
        ("after-0-primaries = \"discard-younger-primary\", after-1-primary = \"consensus\"", "beta", true),
    ];
    for (policy, victim, alpha_is_primary) in policies {
        let lines = vec![format!("split-brain = {{ {policy} }}")];
        let cluster = apart(&ClusterOptions { resource_lines: lines, ..ClusterOptions::default() });
        if !alpha_is_primary {
            cluster.alpha.ok("secondary");
        }
        let [alphas, betas] = [copy(&cluster, &cluster.alpha), copy(&cluster, &cluster.beta)];
        let (held, base) = if victim == "alpha" { (&alphas, &betas) } else { (&betas, &alphas) };
        cluster.alpha.ok("connect");
        cluster.beta.ok("connect");
        cluster.alpha.wait_in_sync();
        cluster.beta.wait_in_sync();
        cluster.assert_identical();
        let archive = only_archive(&cluster, victim);
        let image = export(&cluster, &cluster.beta, &archive, Some(base));
        compare::assert_identical(&image, held, cluster.volume_bytes());
    }
}

#[test]
fn what_cannot_be_saved_is_not_given_up() {
    let mut cluster = apart(&ClusterOptions::default());
    cluster.expect_log("could not be archived");
    meet(&cluster);
    let [alphas, betas] = [copy(&cluster, &cluster.alpha), copy(&cluster, &cluster.beta)];
    // Where the archive is to be there is a file.
    std::fs::write(cluster.archive_dir(), "in the way").expect("a file");
    cluster.beta.refused("split-brain resolve --keep alpha", "ArchiveFailed");
    let told = cluster.beta.wait_connection("SplitBrain").verdict;
    assert!(told.contains("could not be archived") && told.contains("archive-dir"), "{told}");
    cluster.alpha.wait_connection("SplitBrain");
    cluster.alpha.refused("split-brain resolve --keep alpha", "NotSettled");
    cluster.beta.wait_connection("SplitBrain");
    for (node, before) in [(&cluster.alpha, &alphas), (&cluster.beta, &betas)] {
        compare::assert_identical(&node.disk(), before, cluster.volume_bytes());
    }
    // It is promotable as it was: nothing was given up.
    cluster.beta.ok("primary --force");
    assert_eq!(cluster.beta.read(30 * MIB, 3 * MIB as usize), written(22, 3 * MIB));
    cluster.beta.ok("secondary");

    std::fs::remove_file(cluster.archive_dir()).expect("the file");
    cluster.alpha.ok("split-brain resolve --keep alpha");
    cluster.alpha.wait_in_sync();
    cluster.assert_identical();
    let image = export(&cluster, &cluster.alpha, &only_archive(&cluster, "beta"), Some(&alphas));
    compare::assert_identical(&image, &betas, cluster.volume_bytes());
}

#[test]
fn a_full_file_system_under_the_archive_refuses_the_resolution() {
    if !tools::root_or_not_run("a small file system") {
        return;
    }
    let mut cluster = apart(&ClusterOptions::default());
    cluster.expect_log("could not be archived");
    meet(&cluster);
    let directory = cluster.archive_dir();
    std::fs::create_dir_all(&directory).expect("the directory");
    let place = directory.to_string_lossy().into_owned();
    tools::run("mount", ["-t", "tmpfs", "-o", "size=1m", "none", &place], Duration::from_secs(30)).ok();
    let betas = copy(&cluster, &cluster.beta);
    cluster.beta.refused("split-brain resolve --keep alpha", "ArchiveFailed");
    let told = cluster.beta.wait_connection("SplitBrain").verdict;
    let left = std::fs::read_dir(&directory).expect("the directory").count();
    tools::run("umount", [&place], Duration::from_secs(30)).ok();
    assert!(told.to_lowercase().contains("no space left"), "{told}");
    assert_eq!(left, 0, "half an archive is left behind");
    compare::assert_identical(&cluster.beta.disk(), &betas, cluster.volume_bytes());
}

#[test]
fn without_an_archive_dir_nothing_is_saved() {
    let lines = vec!["archive-dir = \"none\"".to_owned()];
    let cluster = apart(&ClusterOptions { resource_lines: lines, ..ClusterOptions::default() });
    meet(&cluster);
    cluster.alpha.ok("split-brain resolve --keep alpha");
    cluster.alpha.wait_in_sync();
    cluster.assert_identical();
    assert!(!cluster.archive_dir().exists());
}
