//! `pi0rt demo` as a user runs it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// A directory for the program's temporary files, removed when dropped.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("pi0rt-demo-test-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    fn demo(&self, checkpoint: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pi0rt"));
        command.env("TMPDIR", &self.0).env_remove("PI0RT_SOCKET").env_remove("RUST_LOG");
        command.args(["demo", "--checkpoint"]).arg(checkpoint);
        command
    }

    /// What the program has left behind.
    fn left(&self) -> usize {
        std::fs::read_dir(&self.0).unwrap().count()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn text(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn shows_a_policy_at_work_and_leaves_nothing_behind() {
    let directory = Directory::new("run");
    // Long enough for a chunk also where the machine is busy with other tests.
    let output = directory.demo(&golden()).args(["--seconds", "3", "--", "--threads", "1"]).output().unwrap();
    let (out, err) = text(&output);
    assert!(output.status.success(), "{out}{err}");
    for line in
        ["model          golden: ", "device         cpu ", "chunk latency  ", "submit ", "poll ", "ticks "]
    {
        assert!(out.lines().any(|printed| printed.starts_with(line)), "no {line:?} in\n{out}");
    }
    assert!(out.ends_with("demo           ok\n"), "{out}");
    assert!(out.contains(", 0 failed\n") && out.contains(" 0 not finite\n"), "{out}");
    assert_eq!(directory.left(), 0);
}

#[test]
fn an_interrupt_ends_the_daemon_too() {
    let directory = Directory::new("interrupt");
    let mut command = directory.demo(&golden());
    command.args(["--seconds", "3600", "--", "--threads", "1"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Its directory is there before the daemon is started.
    while directory.left() == 0 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let (out, err) = text(&output);
    // Before the first chunk there is nothing to be shown: either end is a good one.
    assert!(out.contains("\ndemo  ") || err == "pi0rt: interrupted\n", "{out}{err}");
    assert_eq!(directory.left(), 0);
}

#[test]
fn a_daemon_that_can_not_start_is_said() {
    let directory = Directory::new("bad");
    let nothing = directory.0.join("nothing-here");
    let output = directory.demo(&nothing).output().unwrap();
    let (_, err) = text(&output);
    assert!(!output.status.success());
    assert!(err.contains("nothing-here") && err.contains("the daemon has ended"), "{err}");
    assert_eq!(directory.left(), 0);
}
