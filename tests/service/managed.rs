//! `pi0rtd` under a service manager, which the test simulates with the real protocol: a datagram socket for
//! notifications, inherited descriptors, and a descriptor store.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::daemons::*;
use crate::manager::{self, Manager};
use pi0rt::client::ClientError;
use pi0rt::control::Status;
use pi0rt::daemon::{DaemonError, Limits, Options, Report};
use pi0rt::service::failure::LastFailure;
use pi0rt::shm::clock::now_ns;
use rustix::process::{Pid, Signal, kill_process};

fn signal(process: &Process, signal: Signal) {
    kill_process(Pid::from_child(&process.0), signal).unwrap();
}

/// A configuration file for the golden checkpoint.
fn configuration(directory: &Directory, more: &str) -> std::path::PathBuf {
    let file = directory.0.join("pi0rtd.toml");
    let text = format!(
        "[policy]\ncheckpoint = {:?}\n[device.cpu]\nprecision = \"f32\"\nthreads = 1\n{more}",
        checkpoint().to_str().unwrap()
    );
    std::fs::write(&file, text).unwrap();
    file
}

/// The installed program, without settings from the test's environment.
fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pi0rtd"));
    command.args(arguments).env_remove("RUST_LOG").stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Flags for a daemon whose chunks take seconds.
fn slow(steps: u32) -> Vec<String> {
    let checkpoint = checkpoint();
    let flags = ["--device", "reference", "--checkpoint", checkpoint.to_str().unwrap(), "--steps"];
    flags.into_iter().map(str::to_owned).chain([steps.to_string()]).collect()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_configuration_can_be_checked_and_shown_without_serving() {
    let directory = Directory::new();
    let file = configuration(&directory, "[clients]\nmax_clients = 3\n");
    let path = file.to_str().unwrap();
    let output = program(&["--config", path, "--check-config"]).output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{path}: right\n"));
    // The output is a configuration with the values in effect.
    let output = program(&["--config", path, "--print-config", "--max-age-ms", "7"])
        .env("PI0RTD_LOG_LEVEL", "warn")
        .output()
        .unwrap();
    std::fs::write(&file, &output.stdout).unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    for line in ["max_clients = 3", "max_age_ms = 7", "level = \"warn\"", "precision = \"f32\""] {
        assert!(shown.lines().any(|shown| shown == line), "{line}: {shown}");
    }
    let again = program(&["--config", path, "--print-config"]).output().unwrap();
    assert_eq!(again.stdout, output.stdout);

    std::fs::write(&file, "[clients]\nmax_client = 3\n").unwrap();
    let output = program(&["--config", path, "--check-config"]).output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert!(stderr(&output).starts_with(&format!("pi0rtd: {path}:2:1: unknown field `max_client`")));
    let missing = directory.0.join("none.toml");
    let output = program(&["--config", missing.to_str().unwrap()]).output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert!(stderr(&output).contains("none.toml: No such file or directory"));
}

#[test]
fn a_configuration_without_a_checkpoint_says_what_is_missing() {
    let directory = Directory::new();
    let file = directory.0.join("pi0rtd.toml");
    std::fs::write(&file, "").unwrap();
    let output = program(&["--config", file.to_str().unwrap()]).output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    let expected = format!(
        "pi0rtd: policy.checkpoint is not set: say in {} what to serve, or give --checkpoint DIR\n",
        file.display()
    );
    assert_eq!(stderr(&output), expected);
    // RUST_LOG takes precedence if set.
    let said = |level| {
        stderr(&program(&["--config", file.to_str().unwrap()]).env("RUST_LOG", level).output().unwrap())
    };
    assert_eq!(said(""), expected);
    assert!(said("loud").starts_with("pi0rtd: RUST_LOG: \"loud\" is no level"), "{}", said("loud"));
    let file = configuration(&directory, "[clients]\ngroup = \"no-such-group\"\n");
    let output = program(&["--config", file.to_str().unwrap()]).output().unwrap();
    assert!(
        stderr(&output).starts_with("pi0rtd: clients.group: group \"no-such-group\" is not in /etc/group")
    );
}

#[test]
fn the_manager_is_told_of_starting_serving_life_and_stopping() {
    let directory = Directory::new();
    let file = configuration(&directory, "");
    let manager = Manager::new(&directory);
    let mut daemon = manager.start(&["--config", file.to_str().unwrap()], &[("WATCHDOG_USEC", "200000")]);
    let before = manager.until(|message| message.lines().any(|line| line == "READY=1"));
    assert!(!before.iter().any(|message| message.contains("WATCHDOG=1")), "{before:?}");
    assert!(before.last().unwrap().contains("\nSTATUS=ready: model golden on cpu"), "{before:?}");
    // It serves as soon as it reports ready, and stays alive without clients.
    let mut client = open(&directory.socket());
    manager.until(|message| {
        message.starts_with("WATCHDOG=1\nSTATUS=serving: 0 clients") || message.contains(": 1 clients")
    });
    ask(&mut client);
    manager.until(|message| message.starts_with("WATCHDOG=1\nSTATUS=serving: 1 clients, 1 chunks, "));
    signal(&daemon, Signal::TERM);
    manager.until(|message| message.starts_with("STOPPING=1"));
    assert!(daemon.0.wait().unwrap().success());
}

#[test]
fn a_daemon_that_is_told_to_end_while_it_loads_ends() {
    let directory = Directory::new();
    let manager = Manager::new(&directory);
    let mut daemon = manager.start(&slow(1000), &[]);
    manager.until(|message| message.contains("EXTEND_TIMEOUT_USEC=60000000\nSTATUS=warming up: 0 of 1"));
    signal(&daemon, Signal::TERM);
    assert_eq!(daemon.0.wait().unwrap().code(), Some(143));
    assert!(!directory.socket().exists());
}

#[test]
fn sessions_outlive_daemons_that_are_killed_and_the_socket_outlives_all() {
    let directory = Directory::new();
    let file = configuration(&directory, "");
    let mut manager = Manager::new(&directory);
    manager.listen();
    let state = [("STATE_DIRECTORY", directory.0.to_str().unwrap())];
    let arguments = ["--config", file.to_str().unwrap()];
    let mut daemon = manager.start(&arguments, &state);
    // Connects before the daemon is ready, and waits.
    let mut client = open(&directory.socket());
    let first = ask(&mut client);
    manager.until(|message| message.contains("FDSTORE=1"));
    let killed = daemon.0.id();
    for round in 0..3 {
        daemon.kill();
        daemon = manager.start(&arguments, &state);
        manager.until(|message| message.contains("READY=1"));
        let mut told = 0;
        eventually("the client is told of the next daemon", || {
            match client.poll() {
                Err(ClientError::Restarted) => told += 1,
                Err(ClientError::Empty | ClientError::Gone | ClientError::Stale) => {}
                other => panic!("{other:?}"),
            }
            told == 1
        });
        assert_eq!(ask(&mut client), first, "{round}");
    }
    // A killed daemon leaves no message; the next one notices.
    let failure = LastFailure::read(&directory.0.join("last-failure")).unwrap().unwrap();
    assert_ne!(failure.pid, killed);
    assert_eq!(failure.reason, "ended without having time to clean up: killed, or crashed");
    drop(client);
    manager.until(|message| message.contains("FDSTOREREMOVE=1"));
    eventually("the store is empty", || manager.kept() == 0);
    signal(&daemon, Signal::TERM);
    assert!(daemon.0.wait().unwrap().success());
    assert!(directory.socket().exists(), "it is the manager's");
}

#[test]
fn a_socket_that_is_not_the_configured_one_is_refused() {
    let directory = Directory::new();
    let file = configuration(&directory, "");
    let mut manager = Manager::new(&directory);
    manager.listen();
    let other = directory.0.join("other.sock");
    let daemon =
        manager.start(&["--config", file.to_str().unwrap(), "--socket", other.to_str().unwrap()], &[]);
    let expected =
        format!("socket {}: the one that was given is {}\n", other.display(), directory.socket().display());
    assert!(manager::last_words(daemon).ends_with(&expected));
}

#[test]
fn a_reload_changes_limits_and_a_wrong_file_changes_nothing() {
    let directory = Directory::new();
    let file = configuration(&directory, "[clients]\nmax_clients = 1\n[log]\nlevel = \"warn\"\n");
    let manager = Manager::new(&directory);
    let started = now_ns() as f64 / 1e9;
    let daemon = manager.start(&["--config", file.to_str().unwrap()], &[]);
    manager.until(|message| message.contains("READY=1"));
    let _first = open(&directory.socket());
    let refused = pi0rt::client::Client::open(&patient(&directory.socket())).err().unwrap();
    assert!(refused.to_string().contains("1 clients are connected, the most allowed"), "{refused}");
    let most = || Report::read(&directory.socket()).unwrap().max_clients;
    configuration(
        &directory,
        "[clients]\nmax_clients = 2\n[supervision]\nhang_after_s = 0\n[log]\nlevel = \"info\"\n",
    );
    signal(&daemon, Signal::HUP);
    eventually("the limit is raised", || most() == 2);
    let _second = open(&directory.socket());
    configuration(&directory, "[clients]\nmax_clients = 0\n");
    signal(&daemon, Signal::HUP);
    configuration(
        &directory,
        "[clients]\nmax_clients = 2\nsocket = \"/elsewhere\"\n[log]\nlevel = \"loud\"\n",
    );
    signal(&daemon, Signal::HUP);
    signal(&daemon, Signal::TERM);
    let words = manager::last_words(daemon);
    let wrong = "not reloaded: ";
    assert!(words.contains(wrong), "{words}");
    // A record at the level in effect since then, timestamped by the common clock.
    let line = words.lines().find(|line| line.ends_with("configuration reloaded"));
    let time = line.and_then(|line| line.strip_prefix('[')?.split(']').next()?.trim().parse::<f64>().ok());
    let time = time.unwrap_or_else(|| panic!("{words}"));
    assert!((started - 1e-6..=now_ns() as f64 / 1e9 + 1e-6).contains(&time), "{started}, then {words}");
    assert!(!words.contains("clients.socket has changed"), "{words}");
}

#[test]
fn limits_that_forbid_real_time_are_named() {
    let directory = Directory::new();
    let root = rustix::process::getuid().is_root();
    let refused = |flag: &[&str], limit: &str| {
        let mut command = match root {
            // Root may do everything, and has to give that up first.
            true => {
                let mut command = Command::new("setpriv");
                command.args(["--bounding-set=-all", "--inh-caps=-all", "prlimit", limit]);
                command.arg(env!("CARGO_BIN_EXE_pi0rtd"));
                command
            }
            false => {
                let mut command = Command::new("prlimit");
                command.args([limit, env!("CARGO_BIN_EXE_pi0rtd")]);
                command
            }
        };
        command.args(["--threads", "1", "--checkpoint"]).arg(checkpoint());
        let output = command.arg("--socket").arg(directory.socket()).args(flag).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        stderr(&output).lines().find(|line| line.starts_with("pi0rtd: ")).unwrap_or_default().to_owned()
    };
    let words = refused(&["--realtime-priority", "50"], "--rtprio=0:0");
    assert!(words.starts_with("pi0rtd: scheduling.realtime_priority: SCHED_FIFO 51: "), "{words}");
    assert!(words.contains("RLIMIT_RTPRIO is 0, expected at least 51"), "{words}");
    let words = refused(&["--lock-memory"], "--memlock=1048576:1048576");
    assert!(words.starts_with("pi0rtd: scheduling.lock_memory: mlockall: "), "{words}");
    assert!(words.contains("RLIMIT_MEMLOCK is 1 MB, expected at least the "), "{words}");
}

#[test]
fn a_checkpoint_that_is_cut_short_while_it_is_served_ends_the_daemon_with_a_word() {
    let directory = Directory::new();
    let copy = directory.0.join("checkpoint");
    std::fs::create_dir(&copy).unwrap();
    for entry in std::fs::read_dir(checkpoint()).unwrap().flatten().filter(|entry| entry.path().is_file()) {
        std::fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    let socket = directory.socket();
    let manager = Manager::new(&directory);
    let arguments = ["--threads", "1", "--precision", "f32", "--recompute", "--checkpoint"];
    let arguments =
        [&arguments[..], &[copy.to_str().unwrap(), "--socket", socket.to_str().unwrap()]].concat();
    let state = [("STATE_DIRECTORY", directory.0.to_str().unwrap())];
    let daemon = manager.start(&arguments, &state);
    manager.until(|message| message.contains("READY=1"));
    let process = daemon.0.id();
    let mut client = open(&socket);
    ask(&mut client);
    let model = copy.join("model.safetensors");
    std::fs::File::options().write(true).open(&model).unwrap().set_len(4096).unwrap();
    look(&mut client, 0);
    let words = manager::last_words(daemon);
    assert!(
        words.contains("SIGBUS: mapped memory can't be read: a checkpoint's file was cut short"),
        "{words}"
    );
    let failure = LastFailure::read(&directory.0.join("last-failure")).unwrap().unwrap();
    assert_eq!(failure.pid, process);
    assert!(failure.reason.starts_with("SIGBUS: mapped memory can't be read: "), "{}", failure.reason);
    assert!(failure.at.elapsed().unwrap() < Duration::from_secs(3600));
}

/// The device hangs in the middle of a chunk: every request is answered, and the daemon ends.
#[test]
fn a_device_that_hangs_is_noticed_and_everybody_is_answered() {
    let limits = Limits { hang_after: Some(Duration::from_millis(300)), ..Limits::default() };
    let mut served = serve_with(Options { limits, ..Options::default() });
    let (mut first, mut second) = (served.open(), served.open());
    first.set_prompt("sleep 1000000").unwrap();
    second.set_prompt("stack the cups").unwrap();
    let hung = submit(&mut first, 0, [1.0; 3], None);
    let waiting = submit(&mut second, 0, [1.0; 3], None);
    for (client, ticket) in [(&mut first, hung), (&mut second, waiting)] {
        let completion = client.wait(Some(ticket), LONG).unwrap();
        assert_eq!(completion.status, Status::DeviceLost as i32);
    }
    let error = served.end().unwrap_err();
    assert!(matches!(&error, DaemonError::Lost(why) if why == "no progress within 0.3 s"), "{error}");
}

/// A slow device that makes progress is left alone: chunks longer than the limit, each of many operations.
#[test]
fn a_device_that_is_slow_does_not_count_as_hung() {
    let directory = Directory::new();
    let manager = Manager::new(&directory);
    let limit = ["--hang-after-s".to_owned(), "1".to_owned()];
    let daemon = manager.start(&[slow(400), limit.to_vec()].concat(), &[]);
    manager.until(|message| message.contains("READY=1"));
    let mut client = open(&directory.socket());
    ask(&mut client);
    let published = || Report::read(&directory.socket()).unwrap().stats.count(pi0rt::shm::Count::Published);
    eventually("the chunk is counted", || published() == 1);
    signal(&daemon, Signal::TERM);
}

#[test]
fn two_daemons_do_not_share_a_socket_nor_does_a_path_that_is_too_long_serve() {
    let directory = Directory::new();
    let file = configuration(&directory, "");
    let manager = Manager::new(&directory);
    let daemon = manager.start(&["--config", file.to_str().unwrap()], &[]);
    manager.until(|message| message.contains("READY=1"));
    let refused = |socket: &Path| {
        let output = program(&["--config", file.to_str().unwrap(), "--socket", socket.to_str().unwrap()]);
        stderr(&{ output }.output().unwrap())
    };
    let second = refused(&directory.socket());
    assert!(second.ends_with(&format!("another daemon serves it, process {}\n", daemon.0.id())), "{second}");
    let long = directory.0.join("x".repeat(100));
    assert!(refused(&long).contains(": address: "));
    assert!(refused(&directory.0.join("none/pi0rt.sock")).contains("open lock: No such file or directory"));
}

#[test]
fn figures_are_in_a_file_and_at_an_address_for_as_long_as_there_is_a_daemon() {
    let directory = Directory::new();
    let figures = directory.0.join("pi0rt.prom");
    // The port is most likely still free when the daemon listens.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let file = configuration(
        &directory,
        &format!("[metrics]\nfile = {figures:?}\nlisten = \"{free}\"\nevery_s = 1\n"),
    );
    let manager = Manager::new(&directory);
    let daemon = manager.start(&["--config", file.to_str().unwrap()], &[]);
    manager.until(|message| message.contains("READY=1"));
    ask(&mut open(&directory.socket()));
    let read = || std::fs::read_to_string(&figures).unwrap_or_default();
    eventually("the chunk is in the file", || read().lines().any(|line| line == "pi0rt_chunks_total 1"));
    let get = |path: &str| {
        let mut stream = std::net::TcpStream::connect(free).unwrap();
        std::io::Write::write_all(&mut stream, format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
        answer
    };
    let page = get("/metrics");
    assert!(
        page.starts_with("HTTP/1.1 200 OK") && page.contains("\npi0rt_inference_seconds_count 1\n"),
        "{page}"
    );
    assert!(get("/healthz").starts_with("HTTP/1.1 200 OK"));
    signal(&daemon, Signal::TERM);
    manager::last_words(daemon);
    assert!(!figures.exists());

    let taken = std::net::TcpListener::bind(free).unwrap();
    let daemon = manager.start(&["--config", file.to_str().unwrap()], &[]);
    let words = manager::last_words(daemon);
    assert!(
        words.ends_with(&format!("pi0rtd: metrics.listen {free}: Address already in use (os error 98)\n")),
        "{words}"
    );
    drop(taken);
}

/// A descriptor store may hold descriptors of another program, or of another version.
#[test]
fn a_descriptor_of_an_unknown_name_is_closed_and_said() {
    let directory = Directory::new();
    let file = configuration(&directory, "");
    let mut manager = Manager::new(&directory);
    manager.listen();
    manager.put("left by somebody", std::fs::File::open("/dev/null").unwrap().into());
    let daemon = manager.start(&["--config", file.to_str().unwrap()], &[]);
    manager.until(|message| message.contains("READY=1"));
    ask(&mut open(&directory.socket()));
    eventually("the manager need not keep it", || manager.kept() == 0);
    signal(&daemon, Signal::TERM);
    let words = manager::last_words(daemon);
    assert!(
        words.contains("a descriptor called \"left by somebody\", which is not this daemon's"),
        "{words}"
    );
}

/// The log's reader doesn't read, and its pipe is full.
#[test]
fn a_log_that_nobody_reads_keeps_nobody_waiting() {
    use std::os::fd::AsFd;
    let directory = Directory::new();
    let (reader, writer) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    while rustix::io::write(&writer, &[b'x'; 512]).is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false).unwrap();
    let mut command = pi0rtd(&directory.socket());
    command.stderr(Stdio::from(writer.as_fd().try_clone_to_owned().unwrap()));
    let daemon = Process(command.spawn().unwrap());
    eventually("it serves", || pi0rt::client::Client::open(&patient(&directory.socket())).is_ok());
    for _ in 0..30 {
        // Each connection causes a log line.
        drop(open(&directory.socket()));
    }
    ask(&mut open(&directory.socket()));
    drop(reader);
    drop(daemon);
}

/// Priorities of all threads: a thread that others wait for runs no lower than those.
#[test]
fn the_threads_of_a_real_time_daemon_are_under_the_right_priorities() {
    let allowed = Command::new("chrt").args(["-f", "11", "true"]).stderr(Stdio::null()).status();
    if !allowed.is_ok_and(|status| status.success()) {
        eprintln!("skipped: this user may not use SCHED_FIFO here");
        return;
    }
    let directory = Directory::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_pi0rtd"));
    command.args(["--device", "cpu", "--threads", "2", "--realtime-priority", "10", "--checkpoint"]);
    command.arg(checkpoint()).arg("--socket").arg(directory.socket());
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut daemon = Process(command.spawn().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(daemon.0.stdout.take().unwrap()), &mut line)
        .unwrap();
    assert!(line.starts_with("pi0rtd: ready"), "{line}");
    let priorities = || -> std::collections::BTreeMap<String, u32> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.0.id())).unwrap();
        let stats = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap());
        let read = |stat: String| {
            let (head, tail) = stat.rsplit_once(") ").unwrap();
            let name = head.split_once('(').unwrap().1.to_owned();
            // Fields 40 and 41 of proc(5): priority and policy; the text after the name starts at field 3.
            let fields: Vec<_> = tail.split(' ').collect();
            assert_eq!(fields[38] == "1", fields[37] != "0", "{stat}");
            (name, fields[37].parse().unwrap())
        };
        stats.map(read).collect()
    };
    let expected = [
        ("heart", 11),
        ("pi0rtd", 11),
        ("pi0rt-cpu-1", 10),
        ("inference", 10),
        ("instructions", 0),
        ("sessions", 0),
        ("log", 0),
    ];
    // A thread starts with its process's name and priority.
    eventually("each thread has its priority", || {
        let priorities = priorities();
        expected.iter().all(|(thread, priority)| priorities.get(*thread) == Some(priority))
    });
}

/// With the unit's own numbers: a device that hangs a second after each start keeps the service down no
/// longer than a restart takes.
#[test]
fn the_unit_starts_a_daemon_again_whose_device_hangs() {
    let unit = include_str!("../../packaging/systemd/pi0rtd.service");
    let value = |key: &str| {
        let line = unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap();
        line.strip_suffix('s').unwrap_or(line).parse::<u64>().unwrap()
    };
    // The minimum of supervision.hang_after_s is a second.
    assert!(value("StartLimitBurst") >= value("StartLimitIntervalSec"));
}
