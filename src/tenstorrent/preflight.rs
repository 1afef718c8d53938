//! Finds what would keep a card from opening, without opening it.
//!
//! Every check reads files: device nodes, sysfs as tt-kmd fills it, `/proc/mounts`, the SDK's compiler. UMD
//! and tt-metal use the same files when they open a card, and report less.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::board::{Architecture, PCI_VENDOR};
use crate::machine::{Root, User, Verdict};

/// The card to be opened, and the expectations on it.
#[derive(Clone, Debug)]
pub struct Expect {
    /// N of `/dev/tenstorrent/N`.
    pub node: u32,
    /// The architecture required by the configuration, if any.
    pub architecture: Option<Architecture>,
    /// The SDK's root, as in `TT_METAL_RUNTIME_ROOT` or else `TT_METAL_HOME`.
    pub metal_home: Option<PathBuf>,
    /// Directory of compiled kernels.
    pub cache: PathBuf,
    /// The user whose access is checked; `None`: this process's.
    pub user: Option<User>,
    /// A process that is expected to have the card open: the daemon that serves it.
    pub served_by: Option<u32>,
}

impl Expect {
    /// The expectations of a process with this one's environment.
    pub fn here(node: u32, architecture: Option<Architecture>) -> Self {
        let path = |name| std::env::var_os(name).map(PathBuf::from);
        let usual = || path("HOME").unwrap_or_else(|| "/tmp".into()).join(".cache/tt-metal-cache");
        Self {
            node,
            architecture,
            metal_home: path("TT_METAL_RUNTIME_ROOT").or_else(|| path("TT_METAL_HOME")),
            cache: path("TT_METAL_CACHE").unwrap_or_else(usual),
            user: None,
            served_by: None,
        }
    }
}

/// Severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// A fact worth showing.
    Note,
    /// Works, but not at its best, or not certainly.
    Warning,
    /// The card will not open.
    Error,
}

impl From<Severity> for Verdict {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Note => Self::Note,
            Severity::Warning => Self::Warning,
            Severity::Error => Self::Error,
        }
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its severity.
    pub severity: Severity,
    /// The finding, with its path.
    pub what: String,
    /// Advice on how to fix it; empty for a note.
    pub mend: String,
}

type Findings = Vec<Finding>;

fn add(findings: &mut Findings, severity: Severity, what: impl Into<String>, mend: impl Into<String>) {
    findings.push(Finding { severity, what: what.into(), mend: mend.into() });
}

/// Checks everything a card needs to open, in the order in which to fix it. Only reads.
pub fn preflight(root: &Root, expect: &Expect) -> Vec<Finding> {
    let mut findings = Vec::new();
    let device = PathBuf::from(format!("sys/class/tenstorrent/tenstorrent!{}", expect.node));
    if driver(root, &mut findings) && node(root, expect, &mut findings) {
        architecture(root, expect, &device, &mut findings);
        firmware(root, expect, &device, &mut findings);
        users(root, expect, &mut findings);
        host_memory(root, expect, &device, &mut findings);
    }
    findings.extend(kernels(root, expect));
    findings
}

/// Checks the compiler of kernels and their directory.
pub fn kernels(root: &Root, expect: &Expect) -> Vec<Finding> {
    let mut findings = Vec::new();
    compiler(root, expect, &mut findings);
    cache(expect, &mut findings);
    findings
}

/// Checks the driver; true if it is loaded.
fn driver(root: &Root, findings: &mut Findings) -> bool {
    if root.path("sys/module/tenstorrent").is_dir() {
        let version = root.text("sys/module/tenstorrent/version").unwrap_or("of unknown version".into());
        add(findings, Severity::Note, format!("driver tenstorrent {version}"), "");
        return true;
    }
    let cards = cards(root);
    if cards.is_empty() {
        add(
            findings,
            Severity::Error,
            format!("no Tenstorrent card (PCI vendor {PCI_VENDOR:#06x}) in /sys/bus/pci/devices"),
            "check slot and power; after a reset: echo 1 > /sys/bus/pci/rescan",
        );
    } else {
        add(
            findings,
            Severity::Error,
            format!("the driver tenstorrent is not loaded; cards at {}", cards.join(", ")),
            "modprobe tenstorrent; if there is no such module, install tt-kmd (dkms) for this kernel",
        );
    }
    false
}

/// PCI addresses of Tenstorrent devices.
pub(crate) fn cards(root: &Root) -> Vec<String> {
    let mut cards: Vec<String> = fs::read_dir(root.path("sys/bus/pci/devices"))
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| hex(root, entry.path().join("vendor")) == Some(PCI_VENDOR))
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    cards.sort();
    cards
}

fn hex(root: &Root, path: impl AsRef<Path>) -> Option<u16> {
    u16::from_str_radix(root.text(path)?.strip_prefix("0x")?, 16).ok()
}

/// Names of the device nodes.
fn nodes(root: &Root) -> Vec<String> {
    let mut nodes: Vec<String> = fs::read_dir(root.path("dev/tenstorrent"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|node| node.file_name().to_string_lossy().into_owned())
        .filter(|name| name.parse::<u32>().is_ok())
        .collect();
    nodes.sort();
    nodes
}

/// Checks the device node; true if it exists and may be opened.
fn node(root: &Root, expect: &Expect, findings: &mut Findings) -> bool {
    let name = format!("/dev/tenstorrent/{}", expect.node);
    let path = root.path(&name[1..]);
    let metadata = match fs::metadata(&path) {
        Ok(metadata) => metadata,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let nodes = nodes(root);
            let there = if nodes.is_empty() {
                "no nodes at all".into()
            } else {
                format!("only {}", nodes.join(", "))
            };
            let mend = if nodes.is_empty() {
                "see dmesg for why the driver found no card"
            } else {
                "choose one of these in the configuration"
            };
            add(findings, Severity::Error, format!("{name} is missing; /dev/tenstorrent has {there}"), mend);
            return false;
        }
        Err(e) => {
            let mend = "check the rights of /dev/tenstorrent";
            add(findings, Severity::Error, format!("{name}: cannot look at it: {e}"), mend);
            return false;
        }
    };
    let allowed = match &expect.user {
        None => access(&path, Access::READ_OK | Access::WRITE_OK).is_ok(),
        Some(user) => user.may(&metadata, 6),
    };
    if !allowed {
        let (owner, group) =
            (root.named("etc/passwd", metadata.uid()), root.named("etc/group", metadata.gid()));
        let mode = metadata.mode() & 0o777;
        add(
            findings,
            Severity::Error,
            format!("{name} may not be opened: owner {owner}, group {group}, mode {mode:04o}"),
            match mode & 0o060 {
                0o060 => format!("add the user to group {group} and log in again"),
                _ => "install a udev rule that gives a group of yours read and write: \
                     SUBSYSTEM==\"tenstorrent\", GROUP=\"pi0rt\", MODE=\"0660\""
                    .into(),
            },
        );
    }
    allowed
}

fn architecture(root: &Root, expect: &Expect, device: &Path, findings: &mut Findings) {
    let id = device.join("device/device");
    let Some(found) = hex(root, &id) else {
        let what = format!("/{} can't be read, so the card's architecture is unknown", id.display());
        add(findings, Severity::Warning, what, "update tt-kmd");
        return;
    };
    let wanted = expect.architecture;
    match (Architecture::of_pci_device(found), wanted) {
        (None, _) => {
            let known = Architecture::ALL.map(|a| format!("{} {:#06x}", a.name(), a.pci_device())).join(", ");
            let what = format!("the card's PCI id {found:#06x} is none that runs here ({known})");
            add(findings, Severity::Error, what, "use another card");
        }
        (Some(found), Some(wanted)) if found != wanted => {
            add(
                findings,
                Severity::Error,
                format!(
                    "the card is a {} ({:#06x}), the configuration asks for {} ({:#06x})",
                    found.name(),
                    found.pci_device(),
                    wanted.name(),
                    wanted.pci_device()
                ),
                "choose another device node or change the configuration",
            );
        }
        (Some(found), _) => {
            let card = root.text(device.join("tt_card_type")).unwrap_or("card".into());
            add(findings, Severity::Note, format!("{card}, {}", found.name()), "");
        }
    }
}

fn firmware(root: &Root, expect: &Expect, device: &Path, findings: &mut Findings) {
    match root.text(device.join("tt_fw_bundle_ver")) {
        Some(version) => add(findings, Severity::Note, format!("firmware bundle {version}"), ""),
        None => add(
            findings,
            Severity::Warning,
            format!("card {} does not say its firmware's version (tt_fw_bundle_ver)", expect.node),
            "update tt-kmd, then the firmware with tt-flash, if the SDK refuses the card",
        ),
    }
}

/// Reports the processes that have the node open.
fn users(root: &Root, expect: &Expect, findings: &mut Findings) {
    let node = PathBuf::from(format!("/dev/tenstorrent/{}", expect.node));
    for process in fs::read_dir(root.path("proc")).into_iter().flatten().flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
        let mut open = fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        let has = open.any(|fd| fs::read_link(fd.path()).is_ok_and(|target| target == node));
        if has && pid != std::process::id() && Some(pid) != expect.served_by {
            let command =
                root.text(format!("proc/{pid}/comm")).unwrap_or_default().escape_debug().to_string();
            let what = format!("{} is open in process {pid} ({command})", node.display());
            add(
                findings,
                Severity::Warning,
                what,
                "stop it first: two programs on one card disturb each other",
            );
        }
    }
}

/// Checks for memory the card can reach: an IOMMU, or else one page of 1 GiB.
fn host_memory(root: &Root, expect: &Expect, device: &Path, findings: &mut Findings) {
    let group = root.text(device.join("device/iommu_group/type"));
    // UMD checks the same prefix: DMA, DMA-FQ.
    if group.as_deref().is_some_and(|kind| kind.starts_with("DMA")) {
        let what = format!("IOMMU in use ({}); no huge pages needed", group.unwrap_or_default());
        add(findings, Severity::Note, what, "");
        return;
    }
    let off = group.map_or("no IOMMU".into(), |kind| format!("IOMMU in mode {kind}"));
    let count = root.text("sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages");
    let pages: u32 = count.and_then(|n| n.parse().ok()).unwrap_or(0);
    let nodes = nodes(root).len().max(1);
    let boot = "tt-system-tools' hugepages-setup, or boot with hugepagesz=1G hugepages=";
    if (pages as usize) < nodes {
        add(
            findings,
            Severity::Error,
            format!(
                "card {} needs a huge page of 1 GiB ({off}): {pages} for {nodes} cards in \
                 /sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages",
                expect.node
            ),
            format!("{boot}{nodes}, or turn the IOMMU on"),
        );
        return;
    }
    let mounts = root.text("proc/mounts").unwrap_or_default();
    let mounted = mounts.lines().any(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        matches!(words[..], [_, "/dev/hugepages-1G", "hugetlbfs", options, ..] if options.contains("pagesize=1024M"))
    });
    if mounted {
        add(findings, Severity::Note, format!("{pages} huge pages of 1 GiB ({off})"), "");
    } else {
        add(
            findings,
            Severity::Error,
            "huge pages of 1 GiB are not mounted at /dev/hugepages-1G (/proc/mounts)",
            "systemctl enable --now dev-hugepages\\x2d1G.mount, or: mount -t hugetlbfs -o \
             pagesize=1G,mode=0777 none /dev/hugepages-1G",
        );
    }
}

fn compiler(root: &Root, expect: &Expect, findings: &mut Findings) {
    const COMPILER: &str = "compiler/bin/riscv-tt-elf-g++";
    let home = expect.metal_home.as_ref().map(|home| home.join("runtime/sfpi"));
    let places: Vec<PathBuf> = home.into_iter().chain([root.path("opt/tenstorrent/sfpi")]).collect();
    if places.iter().any(|place| access(place.join(COMPILER), Access::EXEC_OK).is_ok()) {
        return;
    }
    let places: Vec<String> = places.iter().map(|p| p.join(COMPILER).display().to_string()).collect();
    let unset = if expect.metal_home.is_none() { " (TT_METAL_HOME is not set)" } else { "" };
    add(
        findings,
        Severity::Error,
        format!("the kernel compiler sfpi is at none of {}{unset}", places.join(", ")),
        "install the package sfpi, or set TT_METAL_HOME to an SDK that has it",
    );
}

fn cache(expect: &Expect, findings: &mut Findings) {
    // The SDK creates the directory, so the nearest existing one is checked.
    let there = expect.cache.ancestors().find(|path| path.exists());
    let writable =
        there.is_some_and(|path| path.is_dir() && access(path, Access::WRITE_OK | Access::EXEC_OK).is_ok());
    if !writable {
        add(
            findings,
            Severity::Error,
            format!(
                "compiled kernels can't be kept in {}: {} is not a directory this process can write to",
                expect.cache.display(),
                there.unwrap_or(&expect.cache).display()
            ),
            "set TT_METAL_CACHE to one it can",
        );
    }
}
