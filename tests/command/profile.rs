//! Profiles on the command line: their listing, and that no program commands a robot without one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::checkpoints;
use crate::checkpoints::{TempDir, edit_json, messages, openpi};
use serde_json::json;

fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).env_remove("RUST_LOG").output().unwrap()
}

fn pi0rt(arguments: &[&str]) -> Output {
    run(env!("CARGO_BIN_EXE_pi0rt"), arguments)
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// An openpi checkpoint for seven joints, with these action means and a standard deviation of 0.2.
fn checkpoint(means: [f32; 7]) -> (TempDir, String) {
    let dir = openpi();
    edit_json(&dir.join("assets/trossen/norm_stats.json"), |stats| {
        let state = json!({ "mean": [1.5, -1.4, 1.6, -1.7, -1.6, -0.5, 0.1], "std": vec![0.2; 7] });
        let actions = json!({ "mean": means, "std": vec![0.2; 7] });
        *stats = json!({ "norm_stats": { "state": state, "actions": actions } });
    });
    fs::copy(checkpoints::golden().join("tokenizer.json"), dir.join("tokenizer.json")).unwrap();
    let path = dir.to_str().unwrap().to_owned();
    (dir, path)
}

const POSITIONS: [f32; 7] = [1.4, -1.3, 1.5, -1.6, -1.5, -0.4, 0.3];
const OFFSETS: [f32; 7] = [0.002, -0.01, 0.004, 0.0, 0.001, 0.003, 0.3];
const STATE: &str = "1.5,-1.3,1.5,-1.8,-1.565,0.1,0.05";

fn infer(checkpoint: &str, more: &[&str]) -> Output {
    let image = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo/base_0_rgb.png");
    let image = format!("base_0_rgb={}", image.display());
    let state = format!("--state={STATE}");
    let mut all = vec!["infer", "--checkpoint", checkpoint, "--image", &image, &state];
    all.extend([
        "--prompt",
        "open the top drawer",
        "--precision",
        "f32",
        "--threads",
        "1",
        "--format",
        "csv",
    ]);
    all.extend(more);
    pi0rt(&all)
}

fn rows(text: &str) -> Vec<Vec<f32>> {
    let row = |line: &str| line.split(',').skip(1).map(|value| value.parse().unwrap()).collect();
    text.lines().skip(1).map(row).collect()
}

#[test]
fn one_chunk_without_a_profile_only_where_nothing_is_in_doubt() {
    let (_dir, path) = checkpoint(POSITIONS);
    let guessed = infer(&path, &[]);
    let said = stderr(&guessed);
    messages(&said, &[&path, "no profile: taken as plain", "a daemon will ask for one"]);
    let plain = infer(&path, &["--profile", "plain"]);
    assert!(!stderr(&plain).contains("no profile"), "{}", stderr(&plain));
    assert_eq!(stdout(&guessed), stdout(&plain));

    let (dir, path) = checkpoint(OFFSETS);
    let refused = infer(&path, &[]);
    assert!(!refused.status.success() && refused.stdout.is_empty());
    messages(
        &stderr(&refused),
        &[&path, "choose a profile", "6 of 7 actions have a mean near 0", "\n  aloha "],
    );
    // When named, it is the user's decision.
    let plain = rows(&stdout(&infer(&path, &["--profile", "plain"])));
    fs::write(dir.join("pi0rt.toml"), "rate_hz = 20\naction.steps = [{ add_state = [6, -1] }]\n").unwrap();
    let absolute = rows(&stdout(&infer(&path, &[])));
    let state: Vec<f32> = STATE.split(',').map(|value| value.parse().unwrap()).collect();
    for (absolute, offsets) in absolute.iter().zip(&plain) {
        for (i, (absolute, offset)) in absolute.iter().zip(offsets).enumerate() {
            let expected = if i < 6 { offset + state[i] } else { *offset };
            assert!((absolute - expected).abs() < 1e-5, "{absolute} {expected}");
        }
    }
}

#[test]
fn a_daemon_never_serves_without_a_profile() {
    for means in [POSITIONS, OFFSETS] {
        let (dir, path) = checkpoint(means);
        let file: PathBuf = dir.join("pi0rtd.toml");
        let configure = |more: &str| {
            let socket = dir.join("pi0rt.sock");
            let text = format!("[policy]\ncheckpoint = {path:?}\n{more}[clients]\nsocket = {socket:?}\n");
            fs::write(&file, text).unwrap();
        };
        configure("");
        let file = file.to_str().unwrap();
        let demo = ["demo", "--checkpoint", &path, "--seconds", "0.1"];
        for (program, arguments) in [
            (env!("CARGO_BIN_EXE_pi0rtd"), &["--config", file, "--check-config"][..]),
            (env!("CARGO_BIN_EXE_pi0rtd"), &["--config", file]),
            (env!("CARGO_BIN_EXE_pi0rt"), &["serve", "--config", file]),
            (env!("CARGO_BIN_EXE_pi0rt"), &demo),
        ] {
            let output = run(program, arguments);
            assert!(!output.status.success(), "{arguments:?}");
            messages(&stderr(&output), &["choose a profile", "\n  aloha ", "\n  plain "]);
            if program.ends_with("pi0rtd") {
                // A restart doesn't help.
                assert_eq!(output.status.code(), Some(78));
            }
        }
        configure("profile = \"alohaa\"\n");
        let output = run(env!("CARGO_BIN_EXE_pi0rtd"), &["--config", file, "--check-config"]);
        assert_eq!(output.status.code(), Some(78));
        messages(&stderr(&output), &["profile \"alohaa\" is not built in"]);
        configure("profile = \"plain\"\ncontrol_rate_hz = 20\n");
        let output = run(env!("CARGO_BIN_EXE_pi0rtd"), &["--config", file, "--check-config"]);
        assert_eq!(stdout(&output), format!("{file}: right\n"));
        let output =
            run(env!("CARGO_BIN_EXE_pi0rtd"), &["--config", file, "--profile", "aloha", "--check-config"]);
        messages(&stderr(&output), &["state: has 7 dimensions, but profile aloha needs 14"]);
    }
}

#[test]
fn profiles_are_listed_shown_and_checked() {
    let list = stdout(&pi0rt(&["profile", "list"]));
    for name in ["aloha", "aloha_sim", "droid", "libero", "libero_no_extra_delta", "plain"] {
        assert!(list.lines().any(|line| line.split_whitespace().next() == Some(name)), "{list}");
        let shown = stdout(&pi0rt(&["profile", "show", name]));
        assert!(shown.contains("summary = "), "{shown}");
        assert_eq!(stdout(&pi0rt(&["profile", "check", name])), format!("{name}: right\n"));
    }
    let unknown = pi0rt(&["profile", "show", "ur5"]);
    messages(&stderr(&unknown), &["profile \"ur5\" is not built in", "\n  droid "]);

    let (dir, path) = checkpoint(OFFSETS);
    let file = dir.join("robot.toml");
    let name = file.to_str().unwrap();
    // The output is a file to start from.
    let text = stdout(&pi0rt(&["profile", "show", "aloha"]));
    fs::write(&file, &text).unwrap();
    assert_eq!(stdout(&pi0rt(&["profile", "check", name])), format!("{name}: right\n"));
    fs::write(&file, text.replacen("[1, 2, 8, 9]", "[1, 2, 8, 14]", 1)).unwrap();
    let line = text.lines().position(|line| line.contains("[1, 2, 8, 9]")).unwrap() + 1;
    let wrong = pi0rt(&["profile", "check", name]);
    assert!(!wrong.status.success());
    messages(&stderr(&wrong), &[&format!("{name}:{line}:5: flip: dimension 14 of a vector of 14")]);

    fs::write(
        &file,
        "rate_hz = 20\nexecution_horizon = 10\n[action]\nsteps = [{ add_state = [6, -1] }]\n\
         [[action.dimensions]]\nnames = [\"a\", \"b\", \"c\", \"d\", \"e\", \"f\"]\nquantity = \"position\"\n\
         unit = \"rad\"\nvelocity = 1.5\n[[action.dimensions]]\nnames = [\"hand\"]\ngripper = true\n\
         position = [0, 1]\n[[cameras]]\nname = \"front\"\nslot = \"base_0_rgb\"\n\
         [motion]\nstitching = \"crossfade\"\ncrossfade_ms = 80\nhold_ms = 200\nsafe_pose = \"stay\"\n\
         [motion.dimensions.hand]\ninterpolation = \"switch\"\nthreshold = 0.5\n[motion.dimensions.a]\nstart_jump = 0.2\n",
    )
    .unwrap();
    let contract = stdout(&pi0rt(&["profile", "check", name, "--checkpoint", &path]));
    for says in [
        "front -> base_0_rgb (required)\n",
        "20 Hz (profile)",
        "10 of the 50 actions of a chunk",
        "- add state 0..6\n",
        "0 a                    position [rad], at most 1.5 per s\n",
        "6 hand                 gripper, 0 to 1\n",
        "motion      stitching: crossfade over 80 ms\n            without a chunk held for 200 ms\n",
        "safe pose: stay\n              0 a                    start jump: 0.2\n",
        "6 hand                 interpolation: switch at 0.5\n",
    ] {
        assert!(contract.contains(says), "{says:?}: {contract}");
    }
    // `inspect` shows the same.
    let inspect = stdout(&pi0rt(&["inspect", &path, "--profile", name]));
    assert!(inspect.ends_with(&contract), "{inspect}");
    let json: serde_json::Value =
        serde_json::from_str(&stdout(&pi0rt(&["inspect", &path, "--profile", name, "--json"]))).unwrap();
    assert_eq!(json["action_steps"], json!(["add state 0..6"]));
    assert_eq!(json["robot_action"][6]["position"], json!([0.0, 1.0]));
    let motion = &json["motion"];
    assert_eq!((&motion["stitching"], &motion["crossfade_ms"]), (&json!("crossfade"), &json!(80)));
    assert_eq!((&motion["hold_ms"], &motion["decelerate_ms"]), (&json!(200), &json!(null)));
    assert_eq!(motion["dimensions"][0], json!({ "interpolation": null, "start_jump": 0.2 }));
    assert_eq!(motion["dimensions"][6]["interpolation"], json!("switch at 0.5"));
    assert_eq!(
        (json["control_rate_hz"].clone(), json["control_rate_source"].clone()),
        (json!(20.0), json!("profile"))
    );
    // Without a profile, it reports that nothing is commanded.
    let bare = stdout(&pi0rt(&["inspect", &path]));
    assert!(bare.contains("refused     ") && bare.contains("choose a profile"), "{bare}");
}
