//! `pi0rt infer` from the command line, on generated image files.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

const STATE: &str = "-0.1,0.2,0.3,-0.4,0.5,0.6,0,0,1e-1,0,0,0.25,0,1";

fn checkpoint() -> &'static str {
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden")
}

/// A directory for one test.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("infer-{name}"));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, content: &str) -> String {
        std::fs::write(self.0.join(name), content).unwrap();
        self.path(name)
    }

    /// Writes a wave pattern as PNG, with or without an alpha channel.
    fn png(&self, name: &str, width: u32, height: u32, alpha: bool) -> String {
        let mut encoder = png::Encoder::new(File::create(self.0.join(name)).unwrap(), width, height);
        encoder.set_color(if alpha { png::ColorType::Rgba } else { png::ColorType::Rgb });
        let mut pixels = Vec::new();
        for i in 0..width * height {
            let (x, y) = (i % width, i / width);
            pixels.extend([x * 3, y * 5, x + y].map(|v| (v % 256) as u8));
            pixels.extend(alpha.then_some(17));
        }
        encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
        self.path(name)
    }
}

/// Runs with default checkpoint, state and prompt; later options override them where clap allows it.
fn infer(args: &[&str]) -> Output {
    let mut all = vec!["--state", STATE, "--prompt", "open the top drawer"];
    all.extend(args);
    run(&all)
}

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pi0rt"))
        .args(["infer", "--checkpoint", checkpoint()])
        .args(args)
        .env_remove("RUST_LOG")
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Asserts that the run fails with exit code 1 and `message`, and prints no chunk.
fn refuse(output: &Output, message: &str) {
    assert_eq!(output.status.code(), Some(1), "{}", stderr(output));
    assert!(stderr(output).contains(message), "expected {message:?} in {:?}", stderr(output));
    assert!(output.stdout.is_empty());
}

fn actions(json: &Value) -> Vec<Vec<f32>> {
    let rows = json["actions"].as_array().unwrap().iter();
    let number = |value: &Value| value.as_f64().unwrap() as f32;
    rows.map(|row| row.as_array().unwrap().iter().map(number).collect()).collect()
}

#[test]
fn all_formats_hold_the_same_chunk() {
    let dir = Dir::new("formats");
    let image = |camera, file, w, h, alpha| format!("{camera}={}", dir.png(file, w, h, alpha));
    let images = [
        image("base_0_rgb", "base.png", 64, 48, false),
        image("observation.images.left_wrist_0_rgb", "left.png", 48, 64, true),
        format!("right_wrist_0_rgb={}/tests/images/frame.jpg", env!("CARGO_MANIFEST_DIR")),
    ];
    let mut args = vec!["--device", "reference", "--seed", "7"];
    args.extend(images.iter().flat_map(|image| ["--image", image]));
    let format = |format| {
        let mut args = args.clone();
        args.extend(["--format", format]);
        let output = infer(&args);
        assert_eq!(stderr(&output), "");
        stdout(&output)
    };

    let json: Value = serde_json::from_str(&format("json")).unwrap();
    assert_eq!(json["model"], "golden");
    assert!(json["device"].as_str().unwrap().contains("reference"));
    assert_eq!(json["seed"], 7);
    assert_eq!(json["steps"], 10);
    assert_eq!(json["prompt"], "open the top drawer");
    assert_eq!(json["absent_cameras"], serde_json::json!([]));
    assert_eq!(json["names"].as_array().unwrap().len(), 14);
    assert!(json["timings_ms"]["total"].as_f64().unwrap() > 0.0);
    let actions = actions(&json);
    assert_eq!(actions.len(), 50);
    assert!(actions.iter().all(|row| row.len() == 14));

    let csv = format("csv");
    let mut lines = csv.lines();
    assert!(lines.next().unwrap().starts_with("row,action_0,action_1,"));
    let rows: Vec<Vec<f32>> =
        lines.map(|line| line.split(',').skip(1).map(|n| n.parse().unwrap()).collect()).collect();
    assert_eq!(rows, actions);

    let table = format("table");
    assert!(table.starts_with("model    golden on reference"), "{table}");
    let last: Vec<&str> = table.lines().last().unwrap().split_whitespace().collect();
    assert_eq!(last[0], "49");
    assert_eq!(last[14], format!("{:.4}", actions[49][13]));
}

#[test]
fn the_seed_alone_decides() {
    let dir = Dir::new("seed");
    let image = format!("base_0_rgb={}", dir.png("base.png", 64, 48, false));
    let alpha = format!("base_0_rgb={}", dir.png("alpha.png", 64, 48, true));
    let csv = |image: &str, seed| {
        let args = ["--image", image, "--seed", seed, "--format", "csv", "--threads", "1"];
        stdout(&infer(&args))
    };
    let first = csv(&image, "1");
    assert_eq!(first, csv(&image, "1"));
    assert_eq!(first, csv(&alpha, "1"), "alpha is ignored");
    assert_ne!(first, csv(&image, "2"));
}

#[test]
fn absent_cameras_are_warned_of() {
    let dir = Dir::new("absent");
    let image = format!("left_wrist_0_rgb={}", dir.png("left.png", 64, 48, false));
    let output = infer(&["--image", &image, "--format", "json", "--steps", "2"]);
    let json: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(json["absent_cameras"], serde_json::json!(["base_0_rgb", "right_wrist_0_rgb"]));
    assert_eq!(json["steps"], 2);
    for camera in ["base_0_rgb", "right_wrist_0_rgb"] {
        let warning = format!("camera {camera}: no image given, treated as absent");
        assert!(stderr(&output).contains(&warning), "{}", stderr(&output));
    }
}

#[test]
fn the_chunk_can_go_to_a_file() {
    let dir = Dir::new("out");
    let image = format!("base_0_rgb={}", dir.png("base.png", 64, 48, false));
    let out = dir.path("chunk.csv");
    let args = ["--image", &image, "--format", "csv"];
    let output = infer(&[&args[..], &["--out", &out]].concat());
    assert_eq!(stdout(&output), "");
    assert_eq!(std::fs::read_to_string(&out).unwrap(), stdout(&infer(&args)));
    let missing = dir.path("no/such/dir.csv");
    refuse(&infer(&[&args[..], &["--out", &missing]].concat()), &missing);
}

#[test]
fn the_state_can_come_from_a_file() {
    let dir = Dir::new("state");
    let image = format!("base_0_rgb={}", dir.png("base.png", 64, 48, false));
    let run = |state: &[&str]| {
        let args = ["--prompt", "open the top drawer", "--image", &image, "--format", "csv"];
        run(&[&args[..], state].concat())
    };
    let expected = stdout(&run(&["--state", STATE]));
    for (name, content) in [
        ("commas.txt", format!("{STATE}\n")),
        ("lines.txt", STATE.replace(',', "\n")),
        ("array.json", format!("[{}]", STATE.replace(',', ", "))),
    ] {
        assert_eq!(stdout(&run(&["--state-file", &dir.write(name, &content)])), expected, "{name}");
    }
    let bad = dir.write("bad.txt", "1 2 three");
    refuse(&run(&["--state-file", &bad]), &format!("{bad}: state[2] is \"three\", expected a number"));
    refuse(&run(&["--state-file", "/nonexistent/state"]), "/nonexistent/state: No such file");
    refuse(&run(&["--state", "1,2"]), "state has 2 values, expected 14");
    refuse(&run(&["--state", ""]), "state has 0 values, expected 14");
    let nan = STATE.replacen("0.2", "nan", 1);
    refuse(&run(&["--state", &nan]), "state[1] is NaN, expected a number");
}

#[test]
fn unusable_images_are_named() {
    let dir = Dir::new("images");
    let good = dir.png("base.png", 64, 48, false);
    let with = |image: &str| infer(&["--image", image]);
    refuse(&with("base_0_rgb=/nonexistent.png"), "image /nonexistent.png: No such file");
    let text = dir.write("text.png", "not a picture");
    refuse(&with(&format!("base_0_rgb={text}")), &format!("image {text}: neither a PNG nor a JPEG file"));
    refuse(&with(&format!("base_0_rgb={}", dir.0.display())), "not a regular file");
    let narrow = dir.png("narrow.png", 200, 2, false);
    refuse(&with(&format!("base_0_rgb={narrow}")), "camera base_0_rgb: frame is 200x2 pixels");
    refuse(
        &with(&format!("wrist={good}")),
        "camera wrist: unknown, the policy has base_0_rgb, left_wrist_0_rgb, right_wrist_0_rgb",
    );
    let twice = format!("base_0_rgb={good}");
    refuse(&infer(&["--image", &twice, "--image", &twice]), "camera base_0_rgb: given twice");
}

#[test]
fn unusable_prompts_are_named() {
    let dir = Dir::new("prompts");
    let image = format!("base_0_rgb={}", dir.png("base.png", 64, 48, false));
    let with = |prompt: &str, more: &[&str]| {
        let args = ["--state", STATE, "--image", &image, "--format", "json", "--prompt", prompt];
        run(&[&args[..], more].concat())
    };
    refuse(&with(" \n", &[]), "prompt is empty");
    refuse(&with("x", &["--tokenizer", "/nonexistent.json"]), "tokenizer /nonexistent.json: No such file");
    let long = "pick up the red block and ".repeat(12);
    refuse(&with(&long, &[]), "prompt has 86 tokens, expected at most 48");
}

#[test]
fn wrong_usage_exits_with_2() {
    let dir = Dir::new("usage");
    let image = format!("base_0_rgb={}", dir.png("base.png", 64, 48, false));
    for args in [
        &["--state", STATE, "--prompt", "x"][..],
        &["--image", &image, "--prompt", "x"],
        &["--image", &image, "--state", STATE],
        &["--image", "base.png", "--state", STATE, "--prompt", "x"],
        &["--image", &image, "--state", STATE, "--prompt", "x", "--steps", "0"],
        &["--image", &image, "--state", STATE, "--prompt", "x", "--device", "abacus"],
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
    }
    let output = infer(&["--image", &image, "--device", "reference", "--precision", "bf16"]);
    refuse(&output, "precision bf16: not supported by device reference");
}

#[test]
fn unusable_checkpoints_are_named() {
    let dir = Dir::new("checkpoint");
    let image = format!("base_0_rgb={}", dir.png("base.png", 64, 48, false));
    let output = Command::new(env!("CARGO_BIN_EXE_pi0rt"))
        .args(["infer", "--checkpoint", "/nonexistent/policy", "--state", STATE, "--prompt", "x"])
        .args(["--image", &image])
        .output()
        .unwrap();
    refuse(&output, "/nonexistent/policy");
}
