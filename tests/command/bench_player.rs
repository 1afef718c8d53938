//! `pi0rt bench player` as a user runs it: all of it is simulated, so its figures are always the same.
use std::process::{Command, Output};

use serde_json::Value;

fn bench(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pi0rt"));
    command.args(["bench", "player"]).args(args).output().unwrap()
}

#[track_caller]
fn shown(args: &[&str]) -> String {
    crate::printed(bench(args))
}

#[track_caller]
fn report(args: &[&str]) -> Value {
    let text = shown(&[args, &["--json"]].concat());
    assert_eq!(text.lines().count(), 1);
    serde_json::from_str(&text).unwrap()
}

fn mode<'a>(report: &'a Value, name: &str) -> &'a Value {
    report["modes"].as_array().unwrap().iter().find(|mode| mode["mode"] == name).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

const MODES: [&str; 5] = ["replace", "crossfade", "ensemble", "guided", "guided-crossfade"];

#[test]
fn guided_and_crossfaded_seams_are_at_least_five_times_smaller_than_replaced_ones() {
    let report = report(&[]);
    let replace = mode(&report, "replace");
    assert!(number(&replace["median_jump_steps"]) > 10.0);
    for name in ["crossfade", "guided", "guided-crossfade"] {
        let other = mode(&report, name);
        for key in ["median_jump", "largest_jump"] {
            let ratio = number(&replace[key]) / number(&other[key]);
            assert!(ratio >= 5.0, "{name}: {key} is {ratio} times smaller");
        }
        let ratio = number(&replace["at_seams"]["jerk"]) / number(&other["at_seams"]["jerk"]);
        assert!(ratio >= 5.0, "{name}: jerk is {ratio} times smaller");
    }
}

#[test]
fn all_modes_play_the_same_chunks_and_every_tick_has_a_stage() {
    let report = report(&["--seconds", "20", "--lost", "0.2"]);
    let first = mode(&report, "replace");
    for name in MODES {
        let mode = mode(&report, name);
        for key in ["chunks", "lost", "seams"] {
            assert_eq!(mode[key], first[key], "{name}: {key}");
        }
        assert!(number(&mode["lost"]) > 5.0 && mode["seams"] == number(&mode["chunks"]) as u64 - 1);
        let ticks: f64 = mode["stages"].as_object().unwrap().values().map(number).sum();
        assert_eq!(ticks, 20_000.0);
        // All but the first chunk are guided, or none.
        let guided = if name.starts_with("guided") { number(&mode["chunks"]) - 1.0 } else { 0.0 };
        assert_eq!(number(&mode["guided"]), guided, "{name}");
        // The offset itself is played, whatever the seams.
        assert!((0.002..0.03).contains(&number(&mode["rms"])), "{name}: {mode}");
    }
}

#[test]
fn without_noise_the_trajectory_is_played() {
    let report = report(&["--noise", "0", "--interpolation", "cubic", "--seconds", "10"]);
    for name in MODES {
        let mode = mode(&report, name);
        // An ensemble contains chunks whose last row is held for a period.
        let most = if name == "ensemble" { 1e-3 } else { 2e-4 };
        assert!(number(&mode["rms"]) < most, "{name}: {}", mode["rms"]);
        assert!(number(&mode["largest_jump_steps"]) < 3.0, "{name}: {}", mode["largest_jump_steps"]);
    }
}

#[test]
fn limits_hold_at_every_seam() {
    let report = report(&["--limits", "2,40", "--seconds", "20"]);
    for name in MODES {
        let mode = mode(&report, name);
        let anywhere = &mode["anywhere"];
        // A rounding of two commands each: half the last bit of 0.5.
        assert!(number(&anywhere["step"]) <= 2e-3 + 6e-8, "{name}: {anywhere}");
        assert!(number(&anywhere["acceleration"]) <= 40.0 + 0.2, "{name}: {anywhere}");
    }
    assert!(number(&mode(&report, "replace")["limited"]) > 0.0);
}

#[test]
fn chunks_that_come_too_late_or_never_end_in_the_stages() {
    let late = report(&["--delay-ms", "1500", "--jitter-ms", "0", "--seconds", "10"]);
    let never = report(&["--lost", "1", "--seconds", "2"]);
    for name in MODES {
        let (late, never) = (mode(&late, name), mode(&never, name));
        assert_eq!(late["stages"]["empty"], 10_000, "{name}: {late}");
        assert_eq!((&never["chunks"], &never["stages"]["empty"]), (&Value::from(0), &Value::from(2000)));
        assert_eq!((&never["median_jump"], &never["rms"]), (&Value::Null, &Value::Null));
    }
    let slow = report(&["--delay-ms", "700", "--jitter-ms", "200", "--seconds", "30"]);
    let stages = &mode(&slow, "replace")["stages"];
    assert!(number(&stages["play"]) > 0.0 && number(&stages["hold"]) > 0.0, "{stages}");
    assert!(shown(&["--lost", "1", "--seconds", "1"]).contains(" - "));
}

#[test]
fn the_same_options_give_the_same_figures() {
    let first = shown(&["--seconds", "5"]);
    assert_eq!(shown(&["--seconds", "5"]), first);
    assert_ne!(shown(&["--seconds", "5", "--seed", "2"]), first);
    for name in MODES {
        assert_eq!(first.lines().filter(|line| line.starts_with(&format!("{name} "))).count(), 2, "{first}");
    }
}

#[test]
fn the_plot_is_an_svg_with_a_line_for_each_mode() {
    let path = std::env::temp_dir().join(format!("pi0rt-bench-player-{}.svg", std::process::id()));
    for args in [&["--seconds", "5"][..], &["--seconds", "1", "--lost", "1"]] {
        shown(&[args, &["--plot", path.to_str().unwrap()]].concat());
        let svg = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let tags = tags(&svg);
        assert_eq!(tags[0].0, "svg");
        let lines: Vec<_> = tags.iter().filter(|(name, _)| *name == "polyline").collect();
        assert_eq!(lines.len(), if args.len() == 2 { 11 } else { 0 });
        for (_, attributes) in lines {
            let points = attributes.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
            assert!(points.split_whitespace().count() > 1000);
            for point in points.split_whitespace() {
                let (x, y) = point.split_once(',').unwrap();
                let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
                assert!((0.0..=1000.0).contains(&x) && (0.0..=680.0).contains(&y), "{point}");
            }
        }
        let named = |name: &str| svg.matches(&format!(">{name}<")).count();
        assert_eq!(named("guided-crossfade"), if args.len() == 2 { 2 } else { 0 });
        assert_eq!((named("time (s)"), svg.contains("(mrad)")), (2, true));
    }
}

/// The elements of an XML text in order, with their attributes. Panics if it isn't well formed.
fn tags(xml: &str) -> Vec<(&str, &str)> {
    let (mut open, mut tags): (Vec<&str>, Vec<_>) = (Vec::new(), Vec::new());
    for part in xml.split('<').skip(1) {
        let (tag, text) = part.split_once('>').expect("a tag ends");
        assert!(
            !text.contains('>')
                && !text.contains('&')
                && (!open.is_empty() || text.trim().is_empty() || !tags.is_empty())
        );
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name));
            continue;
        }
        let empty = tag.ends_with('/');
        let (name, attributes) = tag.trim_end_matches('/').split_once(' ').unwrap_or((tag, ""));
        let mut rest = attributes.trim();
        while let Some((key, after)) = rest.split_once("=\"") {
            assert!(key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'), "{key}");
            rest = after.split_once('"').expect("a value ends").1.trim_start();
        }
        assert!(rest.is_empty(), "{rest}");
        tags.push((name, attributes));
        if !empty {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
    tags
}

#[test]
fn bad_options_are_refused_by_name() {
    let refused = [
        (&["--rate", "0"][..], "--rate", "1 to 1000"),
        (&["--rate", "NaN"], "--rate", "1 to 1000"),
        (&["--control-hz", "0"], "--control-hz", "1 to 10000"),
        (&["--delay-ms=-1"], "--delay-ms", "0 to 10000"),
        (&["--delay-ms", "soon"], "--delay-ms", "invalid float"),
        (&["--delay-ms", "10", "--jitter-ms", "20"], "--jitter-ms 20", "--delay-ms, which is 10"),
        (&["--noise=-0.1"], "--noise", "0 to 10"),
        (&["--lost", "1.5"], "--lost", "0 to 1"),
        (&["--seconds", "inf"], "--seconds", "1 to 600"),
        (&["--seed=-1"], "--seed", "invalid digit"),
        (&["--interpolation", "quintic"], "--interpolation", "cubic"),
        (&["--limits", "2"], "--limits", "two numbers above 0"),
        (&["--limits", "2,0"], "--limits", "two numbers above 0"),
        (&["--limits", "2,inf"], "--limits", "two numbers above 0"),
        (&["--seconds", "1", "--plot", "/nowhere/plot.svg"], "--plot /nowhere/plot.svg", "No such file"),
    ];
    for (args, name, says) in refused {
        let output = bench(args);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && output.stdout.is_empty(), "{args:?}");
        assert!(error.contains(name) && error.contains(says), "{args:?}: {error}");
    }
}
