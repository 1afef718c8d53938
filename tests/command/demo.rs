//! `pi0rt demo` as a user runs it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::daemons::Directory;
use rustix::process::{Pid, Signal, kill_process};

fn demo(directory: &Directory, checkpoint: &Path) -> Command {
    let mut command = directory.pi0rt();
    command.args(["demo", "--checkpoint"]).arg(checkpoint);
    command
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
    shows("golden");
}

#[test]
fn shows_a_policy_of_the_other_model_too() {
    shows("golden_pi05");
}

fn shows(name: &str) {
    let (directory, checkpoint) = (Directory::new(), golden().with_file_name(name));
    // Long enough for a chunk even if the machine is busy with other tests.
    let output =
        demo(&directory, &checkpoint).args(["--seconds", "3", "--", "--threads", "1"]).output().unwrap();
    let (out, err) = text(&output);
    assert!(output.status.success(), "{out}{err}");
    for line in [
        &format!("model          {name}: "),
        "device         cpu ",
        "chunk latency  ",
        "submit ",
        "poll ",
        "stage ",
        "PLAY ",
        "seams ",
        "guided ",
        "limited        0 of ",
        "submit now ",
        "ticks ",
    ] {
        assert!(out.lines().any(|printed| printed.starts_with(line)), "no {line:?} in\n{out}");
    }
    assert!(out.ends_with("demo           ok\n"), "{out}");
    assert!(out.contains(", 0 failed\n") && out.contains(" 0 not finite\n"), "{out}");
    // Without --restart, the daemon of one's own checkpoint is left alone.
    assert!(!out.contains("daemon killed"), "{out}");
    assert_eq!(directory.left(), 0);
}

/// Without a daemon the robot is brought to rest by stages, and goes on with the next one.
#[test]
fn a_restarted_daemon_is_survived_by_stages() {
    let directory = Directory::new();
    let output = demo(&directory, &golden())
        .args(["--seconds", "3", "--restart", "--", "--threads", "1"])
        .output()
        .unwrap();
    let (out, err) = text(&output);
    assert!(output.status.success(), "{out}{err}");
    let line = out.lines().find(|line| line.starts_with("daemon killed ")).expect(&out);
    let mut rest = line;
    for stage in [" HOLD ", " DECELERATE ", " SAFE_STOP ", " reconnected ", " PLAY "] {
        let at = rest.find(stage).unwrap_or_else(|| panic!("no {stage:?} in its turn in {line:?}"));
        rest = &rest[at + 1..];
    }
    for stage in ["PLAY ", "HOLD ", "DECELERATE ", "SAFE_STOP "] {
        assert!(out.lines().any(|printed| printed.starts_with(stage)), "no {stage:?} in\n{out}");
    }
    // It starts from its present command: no tick is without one.
    assert!(!out.contains("EMPTY"), "{out}");
    assert_eq!(directory.left(), 0);
}

#[test]
fn an_interrupt_ends_the_daemon_too() {
    let directory = Directory::new();
    let mut command = demo(&directory, &golden());
    command.args(["--seconds", "3600", "--", "--threads", "1"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The directory exists before the daemon is started.
    while directory.left() == 0 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let (out, err) = text(&output);
    // Before the first chunk there is nothing to report: both endings are valid.
    assert!(out.contains("\ndemo  ") || err == "pi0rt: interrupted\n", "{out}{err}");
    assert_eq!(directory.left(), 0);
}

#[test]
fn a_daemon_that_can_not_start_is_said() {
    let directory = Directory::new();
    let nothing = directory.0.join("nothing-here");
    let output = demo(&directory, &nothing).output().unwrap();
    let (_, err) = text(&output);
    assert!(!output.status.success());
    assert!(err.contains("nothing-here") && err.contains("the daemon has ended"), "{err}");
    assert_eq!(directory.left(), 0);
}
