//! Preflight on directory trees in which something is missing, and the lock between processes.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::checkpoints::{TempDir, messages};
use pi0rt::machine::{Root, User};
use pi0rt::tenstorrent::preflight::{Expect, Finding, Severity, preflight};
use pi0rt::tenstorrent::{Architecture, DeviceLock, LockError};

const CLASS: &str = "sys/class/tenstorrent/tenstorrent!0";
const PAGES: &str = "sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages";

fn put(dir: &Path, path: &str, text: &str) {
    let path = dir.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A healthy machine with a Wormhole card.
fn machine() -> TempDir {
    let dir = TempDir::new();
    put(&dir, "dev/tenstorrent/0", "");
    put(&dir, "sys/module/tenstorrent/version", "2.4.1\n");
    put(&dir, "sys/bus/pci/devices/0000:01:00.0/vendor", "0x1e52\n");
    put(&dir, &format!("{CLASS}/device/device"), "0x401e\n");
    put(&dir, &format!("{CLASS}/tt_card_type"), "n150\n");
    put(&dir, &format!("{CLASS}/tt_fw_bundle_ver"), "18.12.0.0\n");
    put(&dir, PAGES, "1\n");
    put(
        &dir,
        "proc/mounts",
        "proc /proc proc rw 0 0\nnodev /dev/hugepages-1G hugetlbfs rw,pagesize=1024M 0 0\n",
    );
    put(&dir, "etc/passwd", "root:x:0:0::/root:/bin/sh\n");
    put(&dir, "etc/group", "root:x:0:\nrender:x:105:\n");
    let compiler = "opt/tenstorrent/sfpi/compiler/bin/riscv-tt-elf-g++";
    put(&dir, compiler, "");
    fs::set_permissions(dir.join(compiler), fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

fn expect(dir: &Path) -> Expect {
    let architecture = Some(Architecture::Wormhole);
    let cache = dir.join("var/cache/kernels");
    Expect { architecture, metal_home: None, cache, ..Expect::here(0, None) }
}

fn found(dir: &Path, expect: &Expect) -> Vec<Finding> {
    preflight(&Root::at(dir), expect)
}

/// Asserts that the only finding that is no note has this severity and these words, and names a remedy.
#[track_caller]
fn only(findings: &[Finding], severity: Severity, says: &[&str]) {
    let problems: Vec<_> = findings.iter().filter(|f| f.severity != Severity::Note).collect();
    assert_eq!(problems.len(), 1, "{findings:#?}");
    assert_eq!(problems[0].severity, severity, "{findings:#?}");
    messages(&problems[0].what, says);
    assert!(!problems[0].mend.is_empty());
}

#[track_caller]
fn error(dir: &Path, says: &[&str]) {
    only(&found(dir, &expect(dir)), Severity::Error, says);
}

#[test]
fn nothing_is_wrong() {
    let dir = machine();
    let findings = found(&dir, &expect(&dir));
    assert!(findings.iter().all(|f| f.severity == Severity::Note), "{findings:#?}");
    let notes: Vec<_> = findings.iter().map(|f| f.what.as_str()).collect();
    messages(
        &notes.join("\n"),
        &["driver tenstorrent 2.4.1", "n150, Wormhole", "bundle 18.12.0.0", "1 huge pages"],
    );
}

#[test]
fn no_card_and_no_driver_are_told_apart() {
    let dir = machine();
    fs::remove_dir_all(dir.join("sys/module")).unwrap();
    error(&dir, &["driver tenstorrent is not loaded", "0000:01:00.0"]);
    fs::write(dir.join("sys/bus/pci/devices/0000:01:00.0/vendor"), "0x10de\n").unwrap();
    error(&dir, &["no Tenstorrent card", "0x1e52"]);
}

#[test]
fn a_missing_node_is_named_with_those_there_are() {
    let dir = machine();
    only(
        &found(&dir, &Expect { node: 3, ..expect(&dir) }),
        Severity::Error,
        &["/dev/tenstorrent/3 is missing", "only 0"],
    );
    fs::remove_file(dir.join("dev/tenstorrent/0")).unwrap();
    error(&dir, &["/dev/tenstorrent/0 is missing", "no nodes at all"]);
}

#[test]
fn rights_are_told_with_owner_and_group() {
    let dir = machine();
    let node = dir.join("dev/tenstorrent/0");
    let user = |gids| Expect { user: Some(User { uid: 4711, gids }), ..expect(&dir) };
    fs::set_permissions(&node, fs::Permissions::from_mode(0o660)).unwrap();
    let gid = std::os::unix::fs::MetadataExt::gid(&fs::metadata(&node).unwrap());
    put(&dir, "etc/group", &format!("cards:x:{gid}:\n"));
    let findings = found(&dir, &user(vec![]));
    only(&findings, Severity::Error, &["/dev/tenstorrent/0 may not be opened", "group cards", "0660"]);
    assert!(findings.iter().any(|f| f.mend.contains("add the user to group cards")));
    assert!(found(&dir, &user(vec![gid])).iter().all(|f| f.severity == Severity::Note));
    fs::set_permissions(&node, fs::Permissions::from_mode(0o600)).unwrap();
    let findings = found(&dir, &user(vec![gid]));
    assert!(findings.iter().any(|f| f.mend.contains("udev rule")), "{findings:#?}");
}

#[test]
fn another_architecture_is_named_beside_the_one_asked_for() {
    let dir = machine();
    put(&dir, &format!("{CLASS}/device/device"), "0xb140\n");
    error(&dir, &["Blackhole (0xb140)", "asks for Wormhole (0x401e)"]);
    put(&dir, &format!("{CLASS}/device/device"), "0xfaca\n");
    error(&dir, &["0xfaca", "none that runs here"]);
    fs::remove_file(dir.join(CLASS).join("device/device")).unwrap();
    only(&found(&dir, &expect(&dir)), Severity::Warning, &["architecture is unknown"]);
}

#[test]
fn huge_pages_have_to_be_there_and_mounted_unless_an_iommu_is() {
    let dir = machine();
    put(&dir, PAGES, "0\n");
    error(&dir, &["needs a huge page of 1 GiB", "no IOMMU", "0 for 1 cards"]);
    put(&dir, &format!("{CLASS}/device/iommu_group/type"), "identity\n");
    error(&dir, &["IOMMU in mode identity"]);
    put(&dir, PAGES, "1\n");
    put(&dir, "proc/mounts", "hugetlbfs /dev/hugepages hugetlbfs rw,pagesize=2M 0 0\n");
    error(&dir, &["not mounted at /dev/hugepages-1G"]);
    put(&dir, &format!("{CLASS}/device/iommu_group/type"), "DMA-FQ\n");
    assert!(found(&dir, &expect(&dir)).iter().all(|f| f.severity == Severity::Note));
}

#[test]
fn firmware_that_does_not_say_its_version_is_a_warning() {
    let dir = machine();
    fs::remove_file(dir.join(CLASS).join("tt_fw_bundle_ver")).unwrap();
    only(&found(&dir, &expect(&dir)), Severity::Warning, &["firmware", "tt_fw_bundle_ver"]);
}

#[test]
fn who_has_the_card_open_is_named() {
    let dir = machine();
    put(&dir, "proc/99999999/comm", "python3\n");
    fs::create_dir_all(dir.join("proc/99999999/fd")).unwrap();
    symlink("/dev/tenstorrent/0", dir.join("proc/99999999/fd/7")).unwrap();
    only(
        &found(&dir, &expect(&dir)),
        Severity::Warning,
        &["/dev/tenstorrent/0 is open", "99999999 (python3)"],
    );
    let findings = found(&dir, &Expect { served_by: Some(99999999), ..expect(&dir) });
    assert!(findings.iter().all(|f| f.severity == Severity::Note), "{findings:#?}");
}

#[test]
fn the_kernel_compiler_is_looked_for_in_both_places() {
    let dir = machine();
    fs::remove_dir_all(dir.join("opt")).unwrap();
    error(&dir, &["sfpi is at none of", "opt/tenstorrent/sfpi", "TT_METAL_HOME is not set"]);
    let with_home = Expect { metal_home: Some(dir.join("sdk")), ..expect(&dir) };
    only(&found(&dir, &with_home), Severity::Error, &["sdk/runtime/sfpi/compiler", "opt/tenstorrent/sfpi"]);
    let compiler = "sdk/runtime/sfpi/compiler/bin/riscv-tt-elf-g++";
    put(&dir, compiler, "");
    fs::set_permissions(dir.join(compiler), fs::Permissions::from_mode(0o755)).unwrap();
    assert!(found(&dir, &with_home).iter().all(|f| f.severity == Severity::Note));
}

#[test]
fn a_cache_that_can_not_be_written_is_named() {
    let dir = machine();
    put(&dir, "var/cache", "a file");
    error(&dir, &["var/cache/kernels", "var/cache is not a directory"]);
}

#[test]
fn a_lock_names_its_holder_and_is_given_up_when_dropped() {
    let dir = TempDir::new();
    let lock = DeviceLock::take(&dir, 0, Duration::ZERO).unwrap();
    let Err(LockError::Busy { node: 0, holder: Some(holder), .. }) =
        DeviceLock::take(&dir, 0, Duration::ZERO)
    else {
        panic!("a second lock")
    };
    assert_eq!(DeviceLock::holder(&dir, 0).unwrap(), Some(holder.clone()));
    assert_eq!(DeviceLock::holder(&dir, 1).unwrap(), None);
    assert_eq!(holder.pid, std::process::id());
    assert!(holder.command.contains("engine"), "{holder}");
    DeviceLock::take(&dir, 1, Duration::ZERO).expect("another card is free");
    let path = lock.path().to_path_buf();
    drop(lock);
    assert_eq!(DeviceLock::holder(&dir, 0).unwrap(), None);
    assert_eq!(fs::read(path).unwrap(), b"");
    drop(DeviceLock::take(&dir, 0, Duration::ZERO).unwrap());
}

#[test]
fn a_lock_is_waited_for() {
    let dir = TempDir::new();
    let lock = DeviceLock::take(&dir, 0, Duration::ZERO).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| DeviceLock::take(&dir, 0, Duration::from_secs(600)));
        drop(lock);
        waiting.join().unwrap().unwrap();
    });
    let _lock = DeviceLock::take(&dir, 0, Duration::ZERO).unwrap();
    let waited = Duration::from_millis(50);
    let error = DeviceLock::take(&dir, 0, waited).unwrap_err();
    assert!(matches!(&error, LockError::Busy { waited: w, .. } if *w >= waited), "{error}");
}

/// Another process: util-linux's `flock` holds the file, as a daemon of another version might.
#[test]
fn a_process_that_dies_gives_its_lock_up() {
    let dir = TempDir::new();
    drop(DeviceLock::take(&dir, 0, Duration::ZERO).unwrap());
    let file = dir.join("pi0rt-tenstorrent-0.lock");
    let mut other = Command::new("flock")
        .args([file.as_os_str(), "sh".as_ref(), "-c".as_ref(), "echo held; exec cat".as_ref()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("flock of util-linux");
    let mut said = String::new();
    BufReader::new(other.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "held\n");
    let error = DeviceLock::take(&dir, 0, Duration::ZERO).unwrap_err();
    messages(&error.to_string(), &["/dev/tenstorrent/0 is in use", "has not given its name"]);
    // flock waits for its child, which ends with its input; both have the file open.
    drop(other.stdin.take());
    other.wait().unwrap();
    DeviceLock::take(&dir, 0, Duration::from_secs(600)).unwrap();
}

#[test]
fn a_lock_file_that_can_not_be_made_is_named() {
    let error = DeviceLock::take("/nowhere/at/all".as_ref(), 0, Duration::ZERO).unwrap_err();
    messages(&error.to_string(), &["/nowhere/at/all/pi0rt-tenstorrent-0.lock", "cannot open"]);
    let dir = TempDir::new();
    symlink("elsewhere", dir.join("pi0rt-tenstorrent-0.lock")).unwrap();
    let error = DeviceLock::take(&dir, 0, Duration::ZERO).unwrap_err();
    assert!(matches!(error, LockError::Io { .. }), "{error}");
    assert!(!dir.join("elsewhere").exists(), "links are not followed");
}
