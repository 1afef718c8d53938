//! The emulation of TTNN refuses the same as a card: every rule is broken once.

use crate::checkpoints;
use crate::native;
use std::collections::BTreeMap;
use std::fs::read_to_string;
use std::path::PathBuf;
use std::process::Command;

/// Compiler options of the sanitizers, if this was built with them.
const SANITIZER: Option<&str> = option_env!("PI0RT_SANITIZED");

/// Compiles `emulation/tests/rules.cc` and links it with the emulation this test was built with.
fn program(directory: &checkpoints::TempDir) -> PathBuf {
    let program = directory.join("rules");
    let mut command = Command::new("c++");
    command.args(["-std=c++20", "-O1", "-g", "-Wall", "-Wextra", "-Werror"]).args(SANITIZER);
    command.arg(native::root().join("ttnn-bridge/emulation/tests/rules.cc"));
    command.arg(concat!(env!("OUT_DIR"), "/libpi0rt-ttnn.a")).arg("-o").arg(&program);
    native::run(&mut command);
    program
}

/// First and last line of every `DEMAND(…)` and `FATAL(…)` of a source.
fn rules(source: &str) -> Vec<(usize, usize)> {
    let mut rules = Vec::new();
    for name in ["DEMAND(", "FATAL("] {
        for (at, _) in source.match_indices(name) {
            let (mut depth, mut quoted, mut end) = (0, false, at);
            for (i, c) in source[at..].char_indices() {
                match c {
                    '"' => quoted = !quoted,
                    '(' if !quoted => depth += 1,
                    ')' if !quoted => depth -= 1,
                    _ => continue,
                }
                if depth == 0 && !quoted {
                    end = at + i;
                    break;
                }
            }
            let line = |at: usize| source[..at].matches('\n').count() + 1;
            rules.push((line(at), line(end)));
        }
    }
    rules
}

#[test]
fn every_rule_is_broken_and_says_so() {
    let directory = checkpoints::TempDir::new();
    let output = native::run(&mut Command::new(program(&directory)));
    let mut broken: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for place in native::stdout(&output).lines() {
        let (file, line) = place.rsplit_once(':').unwrap();
        let file = file.rsplit('/').next().unwrap();
        broken.entry(file.into()).or_default().push(line.parse().unwrap());
    }
    let mut count = 0;
    for file in ["attention.cc", "data_movement.cc", "device.cc", "ops.cc", "tensor.cc"] {
        let path = native::root().join("ttnn-bridge/emulation").join(file);
        let lines = broken.get(file).map_or(&[][..], |lines| lines);
        for (first, last) in rules(&read_to_string(&path).unwrap()) {
            let tested = lines.iter().any(|line| (first..=last).contains(line));
            assert!(tested, "{}:{first}: no test in rules.cc breaks this rule", path.display());
            count += 1;
        }
    }
    assert!(count > 80, "{count}");
}

/// A build with sanitizers (PI0RT_SANITIZE) finds a write past the end of a vector: in the emulation alone,
/// and in the program that reaches it through the bridge.
#[test]
fn sanitizers_find_a_planted_defect() {
    let golden = checkpoints::golden();
    let directory = checkpoints::TempDir::new();
    let mut alone = Command::new(program(&directory));
    alone.arg("open");
    let mut bridged = Command::new(env!("CARGO_BIN_EXE_pi0rt"));
    bridged.args(["coverage", "--device", "ttnn", "--checkpoint"]).arg(&golden);
    for command in [&mut alone, &mut bridged] {
        let output = command.env("PI0RT_EMULATION", "defect").output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        let found = errors.contains("heap-buffer-overflow");
        assert_eq!(found, SANITIZER.is_some(), "{command:?}: {errors}");
        assert!(!found || !output.status.success());
    }
}
