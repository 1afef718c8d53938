//! Ctrl-C in commands with children or a terminal: they exit with 130, and leave nothing behind.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::daemons::{Directory, eventually};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::tcgetattr;

/// `pi0rt` with these arguments, without input or output.
fn pi0rt(directory: &Directory, args: &[&str]) -> Command {
    let mut command = directory.pi0rt();
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Children of a process.
fn children(parent: u32) -> Vec<u32> {
    let of = format!("/proc/{parent}/task/{parent}/children");
    let text = std::fs::read_to_string(of).unwrap_or_default();
    text.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// True if a process runs; one that has ended but has not been waited for doesn't.
fn runs(pid: u32) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['Z', 'X']))
}

fn interrupt(child: &Child) {
    kill_process(Pid::from_child(child), Signal::INT).unwrap();
}

/// Interrupts a command once it has a child, and checks that both end.
fn ends_with_its_children(directory: &Directory, mut command: Command) {
    let mut program = command.spawn().unwrap();
    let mut begun = Vec::new();
    eventually("a child", || {
        begun = children(program.id());
        assert!(program.try_wait().unwrap().is_none(), "it ended by itself");
        !begun.is_empty()
    });
    interrupt(&program);
    assert_eq!(program.wait().unwrap().code(), Some(130));
    eventually("the end of the children", || !begun.iter().any(|pid| runs(*pid)));
    assert_eq!(directory.left(), 0);
}

#[test]
fn bench_ipc() {
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        return println!("needs two cores: left out");
    }
    let directory = Directory::new();
    let args = ["bench", "ipc", "--rounds", "400000000", "--turns", "1", "--peer", "floor"];
    ends_with_its_children(&directory, pi0rt(&directory, &args));
}

#[test]
fn bench_model_with_a_peer() {
    let directory = Directory::new();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let args = ["bench", "model", "--runs", "1", "--steps", "1", "--threads", "1", "--peer"];
    let mut command = pi0rt(&directory, &args);
    command.args(["sleep 3600; true", "--checkpoint"]).arg(golden);
    ends_with_its_children(&directory, command);
}

#[test]
fn demo() {
    let directory = Directory::new();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut command = pi0rt(&directory, &["demo", "--seconds", "3600", "--checkpoint"]);
    command.arg(golden).args(["--", "--threads", "1"]);
    ends_with_its_children(&directory, command);
}

/// A new terminal: the program's side and the observer's.
fn terminal() -> (File, OwnedFd) {
    let outer = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&outer).unwrap();
    unlockpt(&outer).unwrap();
    let name = ptsname(&outer, Vec::new()).unwrap();
    let inner = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    (inner, outer)
}

#[test]
fn top_gives_the_terminal_back() {
    let directory = Directory::new();
    let (inner, outer) = terminal();
    let before = tcgetattr(inner.as_fd()).unwrap();
    let mut command = pi0rt(&directory, &["top", "--socket", "/nonexistent/pi0rt.sock"]);
    command.stdin(inner.try_clone().unwrap()).stdout(inner.try_clone().unwrap());
    let mut program = command.spawn().unwrap();
    let mut outer = File::from(outer);
    let mut seen = Vec::new();
    let mut see = |what: &str| {
        let mut bytes = [0; 4096];
        while !String::from_utf8_lossy(&seen).contains(what) {
            let count = outer.read(&mut bytes).unwrap();
            seen.extend_from_slice(&bytes[..count]);
        }
    };
    // Waits for the first frame.
    see("nonexistent");
    let during = tcgetattr(inner.as_fd()).unwrap();
    assert_ne!(during.local_modes, before.local_modes);
    interrupt(&program);
    see("\x1b[?1049l");
    assert_eq!(program.wait().unwrap().code(), Some(130));
    let after = tcgetattr(inner.as_fd()).unwrap();
    assert_eq!((after.local_modes, after.input_modes), (before.local_modes, before.input_modes));
}
