//! Problems planted one at a time around a running daemon: `doctor` finds each, and only it, and names the
//! remedy.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::daemons;
use crate::daemons::*;
use pi0rt::daemon::Report;
use pi0rt::daemon::health;
use pi0rt::machine::{Root, User};
use pi0rt::service::Source;
use pi0rt::service::doctor::{Check, Probe, Verdict, examine, is_wrong};
use pi0rt::service::failure::LastFailure;
use pi0rt::tenstorrent::DeviceLock;
use rustix::process::{Pid, Signal, kill_process};

const LIMITS: &str = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max locked memory         unlimited            unlimited            bytes     \n\
                      Max realtime priority     99                   99                             \n";
const STATUS: &str = "Name:\tpi0rtd\nCapEff:\t0000000000000000\n";

/// A healthy machine: a directory tree in place of the system's files, a copy of the golden checkpoint, and
/// a daemon.
struct Machine {
    served: Option<Served>,
    directory: Directory,
    probe: Probe,
    /// The sections of the configuration, as text.
    policy: String,
    device: String,
    clients: String,
    more: String,
}

impl Machine {
    fn new() -> Machine {
        let directory = Directory::new();
        let checkpoint = directory.0.join("checkpoint");
        fs::create_dir(&checkpoint).unwrap();
        for file in fs::read_dir(daemons::checkpoint()).unwrap().map(|entry| entry.unwrap().path()) {
            let name = file.file_name().unwrap().to_str().unwrap();
            if !name.starts_with("golden_") {
                fs::copy(&file, checkpoint.join(name)).unwrap();
            }
        }
        let config = checkpoint.join("config.json");
        let mut settings: serde_json::Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
        settings["control_rate_hz"] = 50.into();
        fs::write(&config, settings.to_string()).unwrap();
        let served = serve();
        let tree = directory.0.join("tree");
        let probe = Probe {
            root: Root::at(&tree),
            last_failure: directory.0.join("last-failure"),
            locks: directory.0.clone(),
            least_free: 1 << 20,
            ..Probe::default()
        };
        let clients = format!("socket = {:?}\n", served.socket().to_str().unwrap());
        let machine = Machine {
            policy: format!("checkpoint = {:?}\n", checkpoint.to_str().unwrap()),
            device: String::new(),
            clients,
            more: "[scheduling]\nrealtime_priority = 50\nlock_memory = true\n".into(),
            served: Some(served),
            directory,
            probe,
        };
        for process in ["self".into(), std::process::id().to_string()] {
            machine.put(&format!("proc/{process}/limits"), LIMITS);
            machine.put(&format!("proc/{process}/status"), STATUS);
        }
        machine.put(&format!("proc/{}/cmdline", std::process::id()), "/usr/bin/pi0rtd\0--config\0x\0");
        machine.put("proc/meminfo", "MemTotal:       16000000 kB\nMemAvailable:    8000000 kB\n");
        machine.put("etc/passwd", "root:x:0:0::/root:/bin/sh\nann:x:4711:4711::/home/ann:/bin/sh\n");
        machine.put("etc/group", "root:x:0:\n");
        for cpu in 0..2 {
            machine.put(&governor(cpu), "performance\n");
        }
        machine.put("sys/devices/system/cpu/cpufreq/policy0/scaling_governor", "performance\n");
        machine.put(CLOCK, "tsc\n");
        fs::create_dir_all(machine.tree("dev/shm")).unwrap();
        machine
    }

    fn tree(&self, path: &str) -> PathBuf {
        self.directory.0.join("tree").join(path)
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.tree(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn checkpoint(&self) -> PathBuf {
        self.directory.0.join("checkpoint")
    }

    fn socket(&self) -> PathBuf {
        self.served.as_ref().unwrap().socket()
    }

    /// The path of the configuration file, which is rewritten.
    fn file(&self) -> PathBuf {
        let file = self.directory.0.join("pi0rtd.toml");
        let Machine { policy, device, clients, more, .. } = self;
        fs::write(&file, format!("[policy]\n{policy}[device]\n{device}[clients]\n{clients}{more}")).unwrap();
        file
    }

    fn checks(&self) -> Vec<Check> {
        examine(&self.probe, &Source { file: Some(self.file()), overrides: Vec::new() })
    }

    fn findings(&self) -> Vec<Check> {
        let mut checks = self.checks();
        checks.retain(Check::is_finding);
        checks
    }

    /// Asserts that there is exactly one finding, with this topic, verdict, words and remedy.
    #[track_caller]
    fn finds(&self, topic: &str, verdict: Verdict, says: &[&str], remedy: &str) {
        let findings = self.findings();
        let [finding] = &findings[..] else { panic!("expected one finding: {findings:#?}") };
        assert_eq!((finding.topic, finding.verdict), (topic, verdict), "{finding:#?}");
        for part in says {
            assert!(finding.what.contains(part), "{part}: {finding:#?}");
        }
        assert!(finding.remedy.contains(remedy), "{remedy}: {finding:#?}");
        assert_eq!(is_wrong(&findings), verdict != Verdict::Note);
    }

    /// Ends the daemon by a regular stop.
    fn end(&mut self) {
        self.served.as_mut().unwrap().end().unwrap();
    }
}

fn governor(cpu: u32) -> String {
    format!("sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor")
}

const CLOCK: &str = "sys/devices/system/clocksource/clocksource0/current_clocksource";

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn nothing_is_wrong_with_a_machine_that_is_right() {
    let mut machine = Machine::new();
    assert_eq!(machine.findings(), []);
    machine.device = format!("[device.cpu]\nweight_cache = {:?}\n", machine.directory.0.to_str().unwrap());
    let tokenizer = machine.checkpoint().join("tokenizer.json");
    machine.policy.push_str(&format!("tokenizer = {:?}\n", tokenizer.to_str().unwrap()));
    assert_eq!(machine.findings(), []);
}

#[test]
fn everything_that_was_checked_is_listed() {
    let mut machine = Machine::new();
    machine.device = format!("[device.cpu]\nweight_cache = {:?}\n", machine.directory.0.to_str().unwrap());
    let group = rustix::process::getgid().as_raw();
    machine.clients.push_str(&format!("group = {group}\n"));
    let checks = machine.checks();
    assert!(
        checks.iter().all(|check| check.verdict == Verdict::Ok && check.remedy.is_empty()),
        "{checks:#?}"
    );
    let said = [
        ("configuration", "every key is known"),
        ("configuration", "section device"),
        ("configuration", "clients.group is there"),
        ("checkpoint", "lerobot layout"),
        ("checkpoint", "every processing step is understood"),
        ("checkpoint", "unchanged since the daemon loaded it"),
        ("cameras", "required: base_0_rgb, left_wrist_0_rgb, right_wrist_0_rgb"),
        ("rate", "50 Hz (config.json)"),
        ("tokenizer", "tokens"),
        ("weight cache", "has room"),
        ("memory", "1793 KiB of weights fit into"),
        ("memory", "clients may take"),
        ("limits", "allow what section scheduling asks for"),
        ("socket", "may connect to"),
        ("daemon", "serves sums"),
        ("daemon", "no failure is on record"),
        ("processor", "frequency governor"),
        ("processor", "the clock source, tsc,"),
    ];
    assert_eq!(checks.len(), said.len(), "{checks:#?}");
    for (check, (topic, says)) in checks.iter().zip(said) {
        assert!(check.topic == topic && check.what.contains(says), "{topic} {says}: {check:#?}");
    }
}

#[test]
fn configuration() {
    let mut machine = Machine::new();
    machine.clients.push_str("max_client = 3\n");
    let place = format!("{}:6:1: unknown field `max_client`", machine.file().display());
    machine.finds("configuration", Verdict::Error, &[&place], "mend that line");

    let mut machine = Machine::new();
    machine.clients.push_str("group = \"no-such-group\"\n");
    machine.finds("configuration", Verdict::Error, &["clients.group", "no-such-group"], "groupadd");

    let mut machine = Machine::new();
    machine.device = "name = \"reference\"\nprecision = \"int8\"\n".into();
    machine.finds("configuration", Verdict::Error, &["precision int8", "reference"], "change one of them");

    let mut machine = Machine::new();
    machine.device = "threads = 1\n".into();
    let place = "device.threads is now threads in section [device.cpu]";
    machine.finds("configuration", Verdict::Warning, &[place], "--print-config");

    let machine = Machine::new();
    mode(&machine.file(), 0o666);
    machine.finds("configuration", Verdict::Warning, &["written by every user"], "chmod o-w");

    let machine = Machine::new();
    let missing = Source { file: Some("/nonexistent/pi0rtd.toml".into()), overrides: Vec::new() };
    let mut findings = examine(&machine.probe, &missing);
    findings.retain(Check::is_finding);
    let [finding] = &findings[..] else { panic!("{findings:#?}") };
    assert!(finding.what.contains("/nonexistent/pi0rtd.toml: No such file"), "{finding:#?}");
}

#[test]
fn checkpoint_not_set_missing_truncated_wrong() {
    let mut machine = Machine::new();
    machine.policy.clear();
    machine.finds("checkpoint", Verdict::Error, &["policy.checkpoint is not set"], "[policy]");
    machine.policy = "checkpoint = \"/nonexistent/pi0\"\n".into();
    machine.finds(
        "checkpoint",
        Verdict::Error,
        &["/nonexistent/pi0: cannot open"],
        "put the checkpoint there",
    );

    let machine = Machine::new();
    let model = machine.checkpoint().join("model.safetensors");
    let bytes = fs::metadata(&model).unwrap().len();
    fs::File::options().write(true).open(&model).unwrap().set_len(bytes - 4096).unwrap();
    machine.finds("checkpoint", Verdict::Error, &["model.safetensors"], "copy it again");

    let machine = Machine::new();
    let config = machine.checkpoint().join("config.json");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("\"pi0\"", "\"act\"")).unwrap();
    machine.finds("checkpoint", Verdict::Error, &["config.json", "act"], "pi0rt inspect");
}

#[test]
fn checkpoint_written_to_while_it_is_served() {
    let mut machine = Machine::new();
    let model =
        fs::File::options().append(true).open(machine.checkpoint().join("model.safetensors")).unwrap();
    model.set_modified(SystemTime::now() + Duration::from_secs(20)).unwrap();
    let pid = format!("process {}", std::process::id());
    machine.finds(
        "checkpoint",
        Verdict::Warning,
        &["model.safetensors was written", &pid],
        "systemctl restart",
    );
    // No daemon has loaded it.
    machine.end();
    assert!(machine.findings().iter().all(|finding| finding.topic == "daemon"));

    let machine = Machine::new();
    mode(&machine.checkpoint().join("model.safetensors"), 0o646);
    machine.finds("checkpoint", Verdict::Warning, &["model.safetensors", "every user"], "chmod o-w");
}

#[test]
fn tokenizer() {
    let mut machine = Machine::new();
    fs::remove_file(machine.checkpoint().join("tokenizer.json")).unwrap();
    machine.finds("tokenizer", Verdict::Error, &["tokenizer.json"], "policy.tokenizer");
    machine.policy.push_str("tokenizer = \"/nonexistent/tokenizer.json\"\n");
    machine.finds("tokenizer", Verdict::Error, &["/nonexistent/tokenizer.json"], "policy.tokenizer");
    let machine = Machine::new();
    fs::write(machine.checkpoint().join("tokenizer.json"), "{\"version\": \"1.0\"").unwrap();
    machine.finds("tokenizer", Verdict::Error, &["checkpoint/tokenizer.json"], "policy.tokenizer");
}

#[test]
fn weight_cache() {
    let mut machine = Machine::new();
    machine.device = "[device.cpu]\nweight_cache = \"/nonexistent/cache\"\n".into();
    machine.finds("weight cache", Verdict::Warning, &["/nonexistent/cache"], "install -d");
    machine.device = format!("[device.cpu]\nweight_cache = {:?}\n", machine.directory.0.to_str().unwrap());
    machine.probe.least_free = u64::MAX;
    machine.finds("weight cache", Verdict::Warning, &["are free on the file system"], "make room");
}

#[test]
fn memory() {
    let mut machine = Machine::new();
    machine.put("proc/meminfo", "MemTotal: 16000000 kB\nMemAvailable: 700000 kB\n");
    machine.finds(
        "memory",
        Verdict::Warning,
        &["clients.max_memory_mb", "683 MiB"],
        "lower clients.max_memory_mb",
    );
    machine.clients.push_str("max_memory_mb = 600\n");
    assert_eq!(machine.findings(), []);
    machine.put("proc/meminfo", "MemTotal: 1000 kB\nMemAvailable: 700000 kB\n");
    machine.finds("memory", Verdict::Error, &["1793 KiB of weights", "1000 KiB"], "pi0rt convert");
}

#[test]
fn limits_of_the_daemon() {
    let limits = format!("proc/{}/limits", std::process::id());
    let machine = Machine::new();
    machine.put(&limits, &LIMITS.replace("99    ", "50    "));
    let whose = format!("the daemon (process {}) is 50", std::process::id());
    machine.finds("limits", Verdict::Error, &["RLIMIT_RTPRIO 51", &whose], "LimitRTPRIO=51");
    // CAP_SYS_NICE overrides the limit.
    machine.put(&format!("proc/{}/status", std::process::id()), "CapEff:\t0000000000800000\n");
    assert_eq!(machine.findings(), []);

    let mut machine = Machine::new();
    machine.put(&limits, &LIMITS.replace("unlimited            unlimited", "65536                65536    "));
    machine.finds("limits", Verdict::Error, &["RLIMIT_MEMLOCK", "64 KiB"], "LimitMEMLOCK=infinity");
    // Nothing requires the permission now.
    machine.more.clear();
    assert_eq!(machine.findings(), []);
}

#[test]
fn processor_and_clock_are_notes() {
    let machine = Machine::new();
    machine.put(&governor(1), "powersave\n");
    machine.finds("processor", Verdict::Note, &["1 CPUs", "powersave"], "performance");
    machine.put(&governor(1), "performance\n");
    machine.put(CLOCK, "hpet\n");
    machine.finds("processor", Verdict::Note, &["clock source is hpet"], "tsc=reliable");
}

#[test]
fn the_sockets_path() {
    let mut machine = Machine::new();
    machine.end();
    // Without a daemon there is a finding for that as well.
    let only = |machine: &Machine, says: &str, remedy: &str| {
        let mut findings = machine.findings();
        findings.retain(|finding| finding.topic != "daemon");
        let [finding] = &findings[..] else { panic!("{findings:#?}") };
        assert_eq!((finding.topic, finding.verdict), ("socket", Verdict::Error));
        assert!(finding.what.contains(says) && finding.remedy.contains(remedy), "{finding:#?}");
    };
    let long = machine.directory.0.join("s".repeat(100));
    machine.clients = format!("socket = {:?}\n", long.to_str().unwrap());
    only(&machine, "107 at most", "shorter");
    machine.clients = "socket = \"/nonexistent/pi0rt.sock\"\n".into();
    only(&machine, "/nonexistent, where the socket belongs", "systemctl start");
    let file = machine.directory.0.join("file");
    fs::write(&file, "").unwrap();
    machine.clients = format!("socket = {:?}\n", file.to_str().unwrap());
    only(&machine, "not a socket", "rm ");
    machine.clients = format!("socket = {:?}\n", file.join("pi0rt.sock").to_str().unwrap());
    let findings = machine.findings();
    let finding = findings.iter().find(|finding| finding.topic == "socket").unwrap();
    assert_eq!(finding.verdict, Verdict::Error);
    assert!(finding.what.contains("is not a directory"), "{finding:#?}");
    assert!(finding.remedy.contains("correct clients.socket"), "{finding:#?}");
    // Nor can the daemon's activity be told.
    let finding = findings.iter().find(|finding| finding.topic == "daemon").unwrap();
    assert!(finding.remedy.contains("why it can't be read"), "{finding:#?}");
}

#[test]
fn who_may_connect() {
    let machine = Machine::new();
    mode(&machine.socket(), 0o666);
    machine.finds("socket", Verdict::Warning, &["every user may connect"], "SocketMode=0660");

    let machine = Machine::new();
    mode(machine.socket().parent().unwrap(), 0o777);
    machine.finds("socket", Verdict::Warning, &["every user may put files into"], "chmod o-w");

    let mut machine = Machine::new();
    machine.probe.user = User { uid: 4711, gids: vec![4711] };
    let group = rustix::process::getegid().as_raw();
    machine.put("etc/group", &format!("robots:x:{group}:\n"));
    let socket = machine.socket();
    let says = format!("user ann may not connect to {}: it is for group robots", socket.display());
    machine.finds("socket", Verdict::Error, &[&says], "usermod -aG robots ann");
    mode(socket.parent().unwrap(), 0o750);
    machine.finds("socket", Verdict::Error, &["user ann may not enter"], "usermod -aG robots ann");
    machine.probe.user.gids.push(group);
    assert_eq!(machine.findings(), []);
}

#[test]
fn no_daemon_and_what_one_has_left() {
    let mut machine = Machine::new();
    let socket = machine.socket();
    machine.end();
    machine.finds("daemon", Verdict::Warning, &["no daemon serves"], "systemctl start pi0rtd");
    assert!(health::check(&socket).unwrap_err().starts_with("no daemon serves"));

    // A service manager would listen like this: connecting would start the daemon.
    let listening = listen(&socket);
    let table = format!(
        "Num RefCount Protocol Flags Type St Inode Path\n0: 2 0 00010000 0005 01 7 {}\n",
        socket.display()
    );
    machine.put("proc/net/unix", &table);
    machine.finds("daemon", Verdict::Note, &["no daemon runs; the first client of"], "");
    drop(listening);
    machine.put("proc/net/unix", &table.replace("00010000", "00000000"));
    let findings = machine.findings();
    let topics: Vec<_> = findings.iter().map(|finding| finding.topic).collect();
    assert_eq!(topics, ["socket", "daemon"], "{findings:#?}");
    assert!(findings[0].what.contains("nobody listens on it"), "{findings:#?}");
    assert!(findings[0].remedy.contains("takes it over"), "{findings:#?}");
}

#[test]
fn two_daemons() {
    let machine = Machine::new();
    machine.put("proc/4000000/cmdline", "pi0rt\0serve\0--checkpoint\0x\0");
    machine.put("proc/4000001/cmdline", "vi\0pi0rtd\0");
    let pids = format!("{}, 4000000", std::process::id());
    machine.finds("daemon", Verdict::Warning, &["several daemons", &pids], "kill PID");
}

#[test]
fn the_last_failure_is_a_note() {
    let machine = Machine::new();
    LastFailure::now(77, "device lost: it fell off the bus").write(&machine.probe.last_failure).unwrap();
    machine.finds("daemon", Verdict::Note, &["process 77: device lost: it fell off the bus"], "journalctl");
    fs::write(&machine.probe.last_failure, "rubbish").unwrap();
    machine.finds("daemon", Verdict::Note, &["last-failure: expected time="], "as root");
}

#[test]
fn a_chunk_that_does_not_get_done() {
    let mut machine = Machine::new();
    let mut client = machine.served.as_ref().unwrap().open();
    client.set_prompt("sleep 4000").unwrap();
    submit(&mut client, 0, [1.0; 3], None);
    machine.probe.unlimited = Duration::from_secs(1);
    eventually("it counts as hung", || !machine.findings().is_empty());
    let says = ["has been at one operation of a chunk for", "at most 1 s"];
    machine.finds("daemon", Verdict::Error, &says, "systemctl restart");
}

#[test]
fn a_daemon_that_is_kept_from_running() {
    let directory = Directory::new();
    let socket = directory.socket();
    let process = Process::serving(&directory);
    eventually("it serves", || Report::read(&socket).is_ok());
    let client = open(&socket);
    eventually("its page says so", || health::check(&socket).unwrap().contains("to 1 client, "));
    kill_process(Pid::from_child(&process.0), Signal::STOP).unwrap();
    eventually("its page is old", || health::check(&socket).is_err());
    let why = health::check(&socket).unwrap_err();
    assert!(why.contains("does not run: it has 1 client, and has not written its page for"), "{why}");
    let mut program = Command::new(env!("CARGO_BIN_EXE_pi0rt"));
    let output = program.arg("health").arg("--socket").arg(&socket).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stdout).unwrap().starts_with("not healthy: process "));
    drop(client);
}

/// The program's output and exit code.
#[test]
fn the_program_says_what_is_found() {
    let machine = Machine::new();
    let file = machine.file();
    let pi0rt = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pi0rt"));
        command.args(arguments).env_remove("PI0RT_SOCKET");
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let socket = machine.socket();
    let (code, line) = pi0rt(&["health", "--socket", socket.to_str().unwrap()]);
    assert_eq!(code, Some(0));
    assert!(line.starts_with("healthy: process ") && line.contains("serves sums on none"), "{line}");

    fs::write(&file, "[policy]\nsteps = 0\n").unwrap();
    let (code, text) = pi0rt(&["doctor", "--config", file.to_str().unwrap()]);
    assert_eq!(code, Some(1));
    let place =
        format!("error    configuration: {}:2:9: 0 is out of range, expected 1 to 1000\n", file.display());
    assert!(text.starts_with(&place), "{text}");
    assert!(text.contains("\n         to mend it: mend that line"), "{text}");
    let (code, json) = pi0rt(&["doctor", "--json", "--config", file.to_str().unwrap()]);
    assert_eq!(code, Some(1));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["healthy"], false);
    assert_eq!(json["findings"][0]["topic"], "configuration");
    assert_eq!(json["findings"][0]["severity"], "error");
}

/// A machine with a card. A build without device ttnn reports that; it is not tested here.
fn with_card() -> Machine {
    const CLASS: &str = "sys/class/tenstorrent/tenstorrent!0";
    let mut machine = Machine::new();
    machine.device = "name = \"ttnn\"\n[device.ttnn]\ndevice = 0\n".into();
    machine.put("dev/tenstorrent/0", "");
    machine.put("sys/module/tenstorrent/version", "2.4.1\n");
    machine.put("sys/bus/pci/devices/0000:01:00.0/vendor", "0x1e52\n");
    machine.put(&format!("{CLASS}/device/device"), "0x401e\n");
    machine.put(&format!("{CLASS}/device/iommu_group/type"), "DMA-FQ\n");
    machine.put(&format!("{CLASS}/tt_fw_bundle_ver"), "18.12.0.0\n");
    let compiler = "opt/tenstorrent/sfpi/compiler/bin/riscv-tt-elf-g++";
    machine.put(compiler, "");
    mode(&machine.tree(compiler), 0o755);
    machine
}

fn mended(machine: &Machine) -> Vec<Check> {
    let mut findings = machine.findings();
    findings.retain(|finding| finding.verdict > Verdict::Note && finding.topic != "configuration");
    findings
}

#[test]
fn card() {
    let one = |machine: &Machine, says: &str, remedy: &str| {
        let findings = mended(machine);
        let [finding] = &findings[..] else { panic!("{findings:#?}") };
        assert!(finding.what.contains(says) && finding.remedy.contains(remedy), "{finding:#?}");
    };
    let mut machine = with_card();
    assert_eq!(mended(&machine), []);
    // The daemon may have the card open; other processes may not.
    let open_in = |pid: u32| {
        fs::create_dir_all(machine.tree(&format!("proc/{pid}/fd"))).unwrap();
        symlink("/dev/tenstorrent/0", machine.tree(&format!("proc/{pid}/fd/9"))).unwrap();
    };
    open_in(std::process::id());
    assert_eq!(mended(&machine), []);
    open_in(4_000_000);
    one(&machine, "open in process 4000000", "stop it first");
    fs::remove_dir_all(machine.tree("proc/4000000")).unwrap();

    machine.put("sys/class/tenstorrent/tenstorrent!0/device/iommu_group/type", "identity\n");
    one(&machine, "huge page of 1 GiB", "hugepages-setup");
    machine.put("sys/class/tenstorrent/tenstorrent!0/device/iommu_group/type", "DMA\n");
    fs::remove_dir(machine.tree("dev/shm")).unwrap();
    one(&machine, "/dev/shm", "tmpfs");
    fs::create_dir(machine.tree("dev/shm")).unwrap();

    // The lock is held by this process, which is the daemon; then, without a daemon, by another process.
    let lock = DeviceLock::take(&machine.probe.locks, 0, Duration::ZERO).unwrap();
    assert_eq!(mended(&machine), []);
    machine.end();
    let findings = mended(&machine);
    let held = findings.iter().find(|finding| finding.topic == "card").expect("the lock's holder");
    assert!(held.what.contains(&format!("in use by process {}", std::process::id())), "{held:#?}");
    assert!(held.remedy.contains("kill"), "{held:#?}");
    drop(lock);

    let mut machine = with_card();
    fs::remove_dir_all(machine.tree("sys/module")).unwrap();
    one(&machine, "driver tenstorrent is not loaded", "modprobe tenstorrent");
    // No device uses the card.
    machine.device.clear();
    assert_eq!(mended(&machine), []);
    assert!(machine.findings().iter().any(|finding| finding.topic == "card"));
}
