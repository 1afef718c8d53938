//! The program with `--device ttnn` on the emulation, as a user runs it.
#![cfg(feature = "ttnn-emulated")]

use std::process::{Command, Output};

fn run(emulation: &str, args: &[&str]) -> (bool, String) {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    let mut command = Command::new(env!("CARGO_BIN_EXE_pi0rt"));
    let args = args.iter().map(|arg| arg.replace("GOLDEN", dir));
    let output: Output =
        command.args(args).args(["--device", "ttnn"]).env("PI0RT_EMULATION", emulation).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn lerobots_tensors_pass_on_both_architectures() {
    for board in ["board=n150", "board=p150"] {
        let (passed, text) = run(board, &["golden", "GOLDEN"]);
        assert!(passed && text.contains("golden: PASS 4 files"), "{text}");
    }
}

#[test]
fn nothing_runs_on_the_host() {
    let (passed, text) = run("", &["coverage", "--checkpoint", "GOLDEN"]);
    let total = text.lines().find(|line| line.starts_with("production path")).unwrap_or_default();
    assert!(passed && total.contains("100.0 %"), "{text}");
}

#[test]
fn what_is_wrong_with_a_card_is_said() {
    let cases = [
        ("boards=0", "0 devices were found"),
        ("board=grayskull", "Wormhole or Blackhole is needed"),
        ("dram_mib=1", "Out of Memory"),
    ];
    for (emulation, message) in cases {
        let (passed, text) = run(emulation, &["golden", "GOLDEN"]);
        assert!(!passed && text.contains(message), "{emulation}: {text}");
    }
}

#[test]
fn a_card_that_stops_answering_is_lost_and_nothing_hangs() {
    let (passed, text) = run("hang_after=100", &["golden", "GOLDEN", "--ttnn", "timeout_ms=300"]);
    assert!(!passed && text.contains("device lost") && text.contains("no answer within"), "{text}");
}
