//! The simulator against `training/tests/vectors.json`, which `python -m tabletop.vectors` writes.

use serde_json::Value;

use super::arm::{HIGH, LOW, SPEED};
use super::exact::{ln, normal, sin_cos};
use super::scene::{HALF, HEIGHT};
use super::world::push;
use super::*;

const VECTORS: &str = include_str!("../../../../training/tests/vectors.json");

fn vectors() -> Value {
    serde_json::from_str(VECTORS).unwrap()
}

/// A number as Python's `float.hex` writes it.
fn number(value: &Value) -> f64 {
    let text = value.as_str().unwrap();
    let (sign, text) = text.strip_prefix('-').map_or((1.0, text), |text| (-1.0, text));
    let (mantissa, exponent) = text.strip_prefix("0x").unwrap().split_once('p').unwrap();
    let (whole, fraction) = mantissa.split_once('.').unwrap();
    let digits = u64::from_str_radix(&format!("{whole}{fraction}"), 16).unwrap();
    let exponent: i32 = exponent.parse().unwrap();
    sign * digits as f64 * 2f64.powi(exponent - 4 * fraction.len() as i32)
}

fn numbers<const N: usize>(value: &Value) -> [f64; N] {
    std::array::from_fn(|i| number(&value[i]))
}

fn list<'a>(of: &'a Value, key: &str) -> &'a Vec<Value> {
    of[key].as_array().unwrap()
}

fn image(camera: Camera, world: &World, scene: &Scene, side: usize) -> Vec<u8> {
    let mut out = vec![0; side * side * 3];
    render(camera, world, scene, side, &mut Vec::new(), &mut out);
    out
}

/// Seed, task and rows of each recorded episode.
pub fn demonstrations() -> Vec<(u64, Task, Vec<[f64; JOINTS]>)> {
    let vectors = vectors();
    let recorded = list(&vectors, "episodes").iter().map(|recorded| {
        let task = recorded["task"].as_str().unwrap().parse().unwrap();
        let rows = list(recorded, "moments").iter().flat_map(|moment| list(moment, "rows"));
        (recorded["seed"].as_u64().unwrap(), task, rows.map(numbers).collect())
    });
    recorded.collect()
}

#[test]
fn functions_have_the_bits_of_the_vectors() {
    let vectors = vectors();
    for case in list(&vectors, "sin_cos") {
        let [x, s, c] = numbers(case);
        let (sine, cosine) = sin_cos(x);
        assert_eq!([sine, cosine].map(f64::to_bits), [s, c].map(f64::to_bits), "{x}");
    }
    for case in list(&vectors, "ln") {
        let [x, expected] = numbers(case);
        assert_eq!(ln(x).to_bits(), expected.to_bits(), "{x}");
    }
    for (name, function) in [("uniform", uniform as fn(u64, u64) -> f64), ("normal", normal)] {
        for case in list(&vectors, name) {
            let (seed, index) = (case[0].as_u64().unwrap(), case[1].as_u64().unwrap());
            assert_eq!(function(seed, index).to_bits(), number(&case[2]).to_bits(), "{name} {index}");
        }
    }
}

/// The first outputs for the seed 1234567 of Vigna's splitmix64.c.
#[test]
fn random_numbers_are_splitmix64s() {
    let expected = [6457827717110365317, 3203168211198807973, 9817491932198370423];
    assert_eq!([0, 1, 2].map(|index| mix(1_234_567, index)), expected);
}

#[test]
fn states_and_images_have_the_bits_of_the_vectors() {
    let vectors = vectors();
    let episodes = list(&vectors, "episodes");
    assert_eq!(episodes.len(), 3);
    for episode in episodes {
        let scene = Scene::of(episode["seed"].as_u64().unwrap());
        let task: Task = episode["task"].as_str().unwrap().parse().unwrap();
        assert!(scene.tasks().any(|other| other == task));
        assert_eq!(scene.light, episode["light"].as_i64().unwrap());
        let colours: Vec<u64> = scene.colours.iter().map(|colour| *colour as u64).collect();
        assert_eq!(episode["colours"], serde_json::json!(colours));
        let (mut world, mut command) = (World::new(&scene), scene.joints);
        for moment in list(episode, "moments") {
            let at = format!("seed {}, tick {}", episode["seed"], moment["tick"]);
            let expected: [f64; JOINTS] = numbers(&moment["joints"]);
            assert_eq!(world.joints.map(f64::to_bits), expected.map(f64::to_bits), "{at}");
            for (block, expected) in world.blocks.iter().zip(list(moment, "blocks")) {
                assert_eq!(block.map(f64::to_bits), numbers::<3>(expected).map(f64::to_bits), "{at}");
            }
            for camera in CAMERAS {
                let pixels = image(camera, &world, &scene, SIDE);
                let expected = &moment[camera.name()];
                let row: Vec<_> = pixels[40 * SIDE * 3..][..SIDE * 3].chunks(3).step_by(4).collect();
                assert_eq!(expected["row_40"], serde_json::json!(row), "{at}, {}", camera.name());
                assert_eq!(expected["sha256"], sha256::hex(&pixels), "{at}, {}", camera.name());
            }
            for row in list(moment, "rows") {
                let next = numbers(row);
                world.play(&command, &next, ROW_STEPS);
                command = next;
            }
        }
    }
}

/// Plays the vectors' rows, which are the demonstrator's, as evaluation does.
#[test]
fn the_demonstrators_rows_succeed() {
    for (seed, task, rows) in demonstrations() {
        let success = |task: Task| {
            let mut episode = Episode::begin(seed, task).unwrap();
            let mut command = episode.scene.joints;
            for row in &rows {
                episode.world.play(&command, row, ROW_STEPS);
                episode.judge();
                command = *row;
            }
            episode.success_s
        };
        assert!(success(task).is_some_and(|s| (0.5..3.1).contains(&s)), "{task}: {:?}", success(task));
        // The same motion is no success of another task.
        let other = Scene::of(seed).tasks().find(|other| other.colour != task.colour).unwrap();
        assert_eq!(success(other), None, "{other} by {task}");
    }
}

#[test]
fn joints_keep_their_speeds_and_positions() {
    let scene = Scene::of(1);
    let mut world = World::new(&scene);
    for _ in 0..3000 {
        let before = world.joints;
        world.step(&[9.0, -9.0, 9.0, 9.0]);
        for j in 0..JOINTS {
            assert!((world.joints[j] - before[j]).abs() <= SPEED[j] * 0.001 + 1e-15);
        }
    }
    for (joint, limit) in world.joints.iter().zip([HIGH[0], LOW[1], HIGH[2], HIGH[3]]) {
        assert!((joint - limit).abs() < 1e-6);
    }
}

#[test]
fn a_push_in_the_middle_moves_a_block_straight_and_one_at_a_corner_turns_it() {
    let mut block = [0.0; 3];
    push(&mut block, (HALF + 0.006, 0.0));
    assert!((block[0] + 0.002).abs() < 1e-12 && block[1..] == [0.0, 0.0], "{block:?}");
    let mut block = [0.0; 3];
    push(&mut block, (HALF + 0.006, 0.02));
    assert!(-0.002 < block[0] && block[0] < 0.0 && block[2] > 0.0, "{block:?}");
}

#[test]
fn the_fork_stands_on_a_block() {
    let mut scene = Scene::of(2);
    let (x, y) = super::arm::tool(&scene.joints);
    scene.blocks[0] = [x, y, 0.0];
    let mut world = World::new(&scene);
    let command = [scene.joints[0], scene.joints[1], scene.joints[2], 0.01];
    (0..1000).for_each(|_| world.step(&command));
    assert_eq!((world.joints[3], &world.blocks), (HEIGHT, &scene.blocks));
}

#[test]
fn images_of_any_size_show_the_scene_and_light_dims_them() {
    let mut scene = Scene::of(3);
    let world = World::new(&scene);
    let mean = |pixels: &[u8]| pixels.iter().map(|p| f64::from(*p)).sum::<f64>() / pixels.len() as f64;
    let (small, large) =
        (mean(&image(Camera::Front, &world, &scene, 64)), mean(&image(Camera::Front, &world, &scene, 200)));
    assert!((small - large).abs() < 1.0, "{small} {large}");
    scene.light = 128;
    assert!(mean(&image(Camera::Front, &world, &scene, 64)) < 0.7 * small);
}

#[test]
fn tasks_are_read_as_they_are_written() {
    for task in Scene::of(7).tasks() {
        assert_eq!(task.to_string().parse(), Ok(task));
    }
    let error = "fly to the moon".parse::<Task>().unwrap_err();
    assert!(error.starts_with("\"fly to the moon\" is no task of the simulated arm, expected"), "{error}");
}

#[test]
fn each_episode_has_two_tasks_about_different_blocks() {
    for kind in [Kind::Reach, Kind::Push] {
        let all: Vec<_> = episodes(FIRST_SEED, 50, kind).collect();
        assert_eq!(all.len(), 50);
        for (seed, task, other) in all {
            assert!(task.kind() == kind && other.side == task.side && other.colour != task.colour, "{seed}");
            assert!(Episode::begin(seed, task).is_some() && Episode::begin(seed, other).is_some());
        }
    }
}
