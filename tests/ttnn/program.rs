//! The program with `--device ttnn` on the emulation, as a user runs it.

use crate::checkpoints;
use std::process::{Command, Output};

const BOARDS: [&str; 2] = ["board=n150", "board=p150"];
/// PI0's golden checkpoint and PI0.5's.
const CHECKPOINTS: [&str; 2] = ["GOLDEN", "GOLDEN_PI05"];

fn run(emulation: &str, args: &[&str]) -> (bool, String) {
    let dir = checkpoints::golden();
    let pi05 = dir.with_file_name("golden_pi05");
    let mut command = Command::new(env!("CARGO_BIN_EXE_pi0rt"));
    let (dir, pi05) = (dir.to_str().unwrap(), pi05.to_str().unwrap());
    let args = args.iter().map(|arg| arg.replace("GOLDEN_PI05", pi05).replace("GOLDEN", dir));
    let output: Output =
        command.args(args).args(["--device", "ttnn"]).env("PI0RT_EMULATION", emulation).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn lerobots_tensors_pass_on_both_architectures() {
    for (board, dir) in BOARDS.into_iter().flat_map(|board| CHECKPOINTS.map(|dir| (board, dir))) {
        let (passed, text) = run(board, &["golden", dir]);
        assert!(passed && text.contains("golden: PASS 4 files"), "{text}");
    }
}

/// Measures the accuracy lost by a Wormhole's 8-bit weights.
#[test]
fn every_module_is_close_with_the_formats_an_architecture_is_given() {
    for (board, dir) in BOARDS.into_iter().flat_map(|board| CHECKPOINTS.map(|dir| (board, dir))) {
        let (passed, text) = run(board, &["pcc", "--checkpoint", dir, "--least", "0.999"]);
        assert!(passed && text.contains("pcc: PASS"), "{text}");
    }
}

#[test]
fn a_model_of_middling_size_is_close_to_the_reference() {
    let directory = checkpoints::TempDir::new();
    let checkpoint = directory.join("small");
    let mut synth = Command::new(env!("CARGO_BIN_EXE_pi0rt"));
    let output = synth.args(["synth", "--preset", "small", "--out"]).arg(&checkpoint).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for board in ["board=n150", "board=p150"] {
        let at = checkpoint.to_str().unwrap();
        let (passed, text) = run(board, &["pcc", "--checkpoint", at, "--least", "0.999"]);
        assert!(passed && text.contains("pcc: PASS"), "{text}");
    }
}

#[test]
#[ignore = "needs golden files of another size in the directory PI0RT_GOLDEN"]
fn golden_files_of_another_size_pass() {
    let dir = std::env::var("PI0RT_GOLDEN").expect("PI0RT_GOLDEN is a checkpoint with golden files");
    for board in ["board=n150", "board=p150"] {
        let (passed, text) = run(board, &["golden", &dir]);
        assert!(passed, "{text}");
    }
}

#[test]
fn nothing_runs_on_the_host() {
    for dir in CHECKPOINTS {
        let (passed, text) = run("", &["coverage", "--checkpoint", dir]);
        let total = text.lines().find(|line| line.starts_with("production path")).unwrap_or_default();
        assert!(passed && total.contains("100.0 %"), "{text}");
        for module in pi0rt::model::Module::ALL {
            let line = text.lines().find(|line| line.starts_with(module.name())).unwrap_or_default();
            // What depends on time alone is computed at load.
            assert!(line.contains("100.0 %") || line.ends_with("at load"), "{}: {text}", module.name());
        }
    }
}

#[test]
fn inspect_says_what_it_was_built_with() {
    let (passed, text) = run("", &["inspect", "GOLDEN"]);
    assert!(passed && text.contains("device ttnn: emulation of TTNN 0.66"), "{text}");
}

#[test]
fn what_is_wrong_with_a_card_is_said() {
    let directory = checkpoints::TempDir::new();
    let preflight = format!("preflight={}", directory.display());
    let cases = [
        ("boards=0", "", "device unavailable: card 0: TT_FATAL", "0 devices were found"),
        ("board=grayskull", "", "its architecture is unknown", "Wormhole or Blackhole is needed"),
        ("board=n150", "architecture=blackhole", "card 0", "it is a Wormhole, a Blackhole is wanted"),
        ("", preflight.as_str(), "no Tenstorrent card (PCI vendor 0x1e52)", "check slot and power"),
        (
            "board=p150,dram_mib=8",
            "",
            "DRAM of p150: could not allocate",
            "the chip has 8388608; weights take",
        ),
        // With pi0rt's own memory check off, the card itself refuses.
        ("dram_mib=1", "check_memory=off", "Out of Memory", "1048576 B are free"),
        ("hang_open", "open_timeout_ms=200", "device lost: opening the card", "no answer within 200ms"),
    ];
    for (emulation, setting, one, other) in cases {
        let mut args = vec!["golden", "GOLDEN"];
        if !setting.is_empty() {
            args.extend(["--ttnn", setting]);
        }
        let (passed, text) = run(emulation, &args);
        assert!(!passed && text.contains(one) && text.contains(other), "{emulation} {setting}: {text}");
    }
}

#[test]
fn a_card_that_stops_answering_is_lost_and_nothing_hangs() {
    let args = ["golden", "GOLDEN", "--ttnn", "trace=off", "--ttnn", "compile_timeout_ms=5000"];
    let (passed, text) = run("hang_after=100", &args);
    assert!(!passed && text.contains("device lost") && text.contains("no answer within"), "{text}");
    let (passed, text) = run("lose_after=100", &args[..4]);
    assert!(!passed && text.contains("device lost") && text.contains("device timeout"), "{text}");
}
