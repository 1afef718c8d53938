//! `pi0rt synth` and `pi0rt convert` as a user runs them.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::checkpoints::{TempDir, golden, lerobot, messages};

fn pi0rt(args: &[&str], out: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pi0rt")).args(args).arg("--out").arg(out).output().unwrap()
}

#[track_caller]
fn succeeds(args: &[&str], out: &Path) {
    let output = pi0rt(args, out);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[track_caller]
fn fails(args: &[&str], out: &Path, code: i32, says: &[&str]) {
    let output = pi0rt(args, out);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{errors}");
    messages(&errors, says);
}

#[track_caller]
fn same_files(one: &Path, other: &Path) {
    let names = |dir: &Path| {
        let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.retain(|name| !name.to_string_lossy().starts_with("golden_") && name != "README.md");
        names.sort();
        names
    };
    assert_eq!(names(one), names(other));
    for name in names(one) {
        assert!(fs::read(one.join(&name)).unwrap() == fs::read(other.join(&name)).unwrap(), "{name:?}");
    }
}

#[test]
fn synth_makes_the_golden_checkpoint_and_convert_brings_it_to_bf16() {
    let dir = TempDir::new();
    let (f32s, bf16s, converted) = (dir.join("f32"), dir.join("bf16"), dir.join("converted"));
    let synth = ["synth", "--preset", "tiny", "--seed", "1", "--weights"];
    succeeds(&[&synth[..], &["f32"]].concat(), &f32s);
    same_files(&f32s, &golden());
    succeeds(&[&synth[..], &["bf16"]].concat(), &bf16s);
    succeeds(&["convert", f32s.to_str().unwrap(), "--dtype", "bf16"], &converted);
    same_files(&converted, &bf16s);
}

#[test]
fn what_can_not_be_made_is_named() {
    for (size, code, says) in [
        ("depth=0", 1, "depth is 0"),
        ("vocab_size=511", 1, "512 ids"),
        ("breadth=3", 1, "vision_width"),
        ("width", 2, "expected FIELD=N"),
        ("width=-1", 2, "invalid digit"),
    ] {
        let dir = TempDir::new();
        fails(&["synth", "--set", size], &dir.join("out"), code, &[says]);
        assert_eq!(fs::read_dir(&*dir).unwrap().count(), 0, "{size}");
    }
    let huge = ["width=16777216", "head_dim=16777216", "heads=1024", "depth=1024"];
    let args: Vec<_> = huge.iter().flat_map(|size| ["--set", size]).collect();
    let dir = TempDir::new();
    fails(&[&["synth"][..], &args].concat(), &dir.join("out"), 1, &["longer than a file can be"]);
    assert_eq!(fs::read_dir(&*dir).unwrap().count(), 0);
}

#[test]
fn outputs_that_are_taken_are_refused() {
    let (dir, out) = (lerobot(), TempDir::new());
    fs::write(out.join("mine"), "x").unwrap();
    let convert = ["convert", dir.to_str().unwrap(), "--dtype", "bf16"];
    for args in [&["synth"][..], &convert] {
        fails(args, &out, 1, &["already exists", "--force"]);
        assert_eq!(fs::read_dir(&*out).unwrap().count(), 1);
        fails(args, &out.join("mine"), 1, &["mine", "Not a directory"]);
    }
    fails(&[&convert[..], &["--force"]].concat(), &dir, 1, &["is the checkpoint itself"]);
    succeeds(&[&convert[..], &["--force"]].concat(), &out);
    assert_eq!(fs::read(out.join("mine")).unwrap(), b"x");
}
