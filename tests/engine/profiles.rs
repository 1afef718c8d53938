//! Profiles on an openpi checkpoint compute the same as openpi's own code.
//!
//! References: `src/openpi/policies/{aloha,droid,libero}_policy.py`, `src/openpi/transforms.py` and
//! `src/openpi/training/config.py` of Physical-Intelligence/openpi.

use std::fs;
use std::path::Path;

use crate::checkpoints;
use crate::checkpoints::{TempDir, edit_json, lerobot, messages, openpi};
use pi0rt::checkpoint::{Camera, Checkpoint, PROFILE_FILE, Profile, Quantity, Rate, RateSource, Transform};
use pi0rt::device::reference::ReferenceOptions;
use pi0rt::policy::{
    BadObservation, Chunk, Frame, Noise, Observation, PixelFormat, Policy, PolicyError, PolicyOptions, Steps,
};
use proptest::prelude::*;
use serde_json::json;

/// openpi's layout with statistics of these widths.
fn checkpoint(state: usize, action: usize) -> TempDir {
    let dir = openpi();
    let feature = |width: usize, first: f32| {
        let mean: Vec<f32> = (0..width).map(|i| first + 0.25 * i as f32).collect();
        let std: Vec<f32> = (0..width).map(|i| 0.5 + 0.125 * i as f32).collect();
        json!({ "mean": mean, "std": std, "q01": vec![-1.0; width], "q99": vec![1.0; width] })
    };
    let stats = json!({ "norm_stats": { "state": feature(state, -1.0), "actions": feature(action, -0.75) } });
    fs::write(dir.join("assets/trossen/norm_stats.json"), stats.to_string()).unwrap();
    fs::copy(checkpoints::golden().join("tokenizer.json"), dir.join("tokenizer.json")).unwrap();
    dir
}

fn steps(checkpoint: &Checkpoint) -> (Steps, Steps) {
    let (arch, processing) = (checkpoint.arch(), checkpoint.processing());
    let state = Steps::new("state", &processing.state_steps, processing.robot_state.len(), 0).unwrap();
    let action = Steps::new("action", &processing.action_steps, arch.action_dim, arch.state_dim).unwrap();
    (state, action)
}

fn close(got: &[f32], expected: &[f32]) {
    let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-6 * b.abs().max(1.0);
    assert!(got.len() == expected.len() && got.iter().zip(expected).all(near), "{got:?}\n{expected:?}");
}

/// Applies the profile's steps to one state and one unnormalized action.
fn apply(profile: &str, widths: [usize; 2], state: &[f32], action: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let checkpoint = Checkpoint::open_with(&checkpoint(widths[0], widths[1]), Some(profile)).unwrap();
    let (mut state_steps, mut action_steps) = steps(&checkpoint);
    let mut model = vec![f32::NAN; state_steps.output()];
    state_steps.apply(state, &[], &mut model);
    let mut command = vec![f32::NAN; action_steps.output()];
    action_steps.apply(action, &model, &mut command);
    (model, command)
}

const ALOHA_STATE: [f32; 14] =
    [0.1, -0.96, 1.16, 0.05, -0.3, 0.2, 0.25, -0.1, -1.5, 1.5, 0.02, 0.4, -0.15, 0.9];
const ALOHA_ACTION: [f32; 14] =
    [0.02, 0.1, -0.05, 0.0, 0.3, -0.2, 0.4, -0.01, 0.25, 0.125, -0.5, 0.06, 0.07, 0.8];
/// openpi's `_decode_state(ALOHA_STATE, adapt_to_pi=True)`, computed in f64: joints times `_joint_flip_mask` =
/// [1, -1, -1, 1, 1, 1, 1, 1, -1, -1, 1, 1, 1, 1]; grippers g through `_gripper_to_angular`:
/// x = g·(0.05800 - 0.01844) + 0.01844, (asin((0.022² + x² - 0.036²)/(2·0.022·x)) - 0.5476)/(1.6296 - 0.5476).
const ALOHA_DECODED: [f32; 14] =
    [0.1, 0.96, -1.16, 0.05, -0.3, 0.2, -0.513_077_6, -0.1, 1.5, -1.5, 0.02, 0.4, -0.15, 0.501_640_2];

#[test]
fn aloha_is_openpis_adapt_to_pi_with_deltas() {
    let (model, command) = apply("aloha", [14, 14], &ALOHA_STATE, &ALOHA_ACTION);
    close(&model, &ALOHA_DECODED);
    // AbsoluteActions(make_bool_mask(6, -1, 6, -1)) adds the decoded state to the joints, then
    // _encode_actions(adapt_to_pi=True): joints times the flip mask, grippers
    // ((g + 0.5476) + 0.6213)/(1.4910 + 0.6213).
    let expected = [
        0.12,
        -1.06,
        1.21,
        0.05,
        0.0,
        0.0,
        0.742_744_9,
        -0.11,
        -1.75,
        1.375,
        -0.48,
        0.46,
        -0.08,
        0.932_111_9,
    ];
    close(&command, &expected);
}

#[test]
fn aloha_sim_is_openpis_adapt_to_pi_with_absolute_joints() {
    let (model, command) = apply("aloha_sim", [14, 14], &ALOHA_STATE, &ALOHA_ACTION);
    close(&model, &ALOHA_DECODED);
    // `_encode_actions` alone.
    let expected =
        [0.02, -0.1, 0.05, 0.0, 0.3, -0.2, 0.742_744_9, -0.01, -0.25, -0.125, -0.5, 0.06, 0.07, 0.932_111_9];
    close(&command, &expected);
}

#[test]
fn the_inverse_of_alohas_actions_is_openpis() {
    let checkpoint = Checkpoint::open_with(&checkpoint(14, 14), Some("aloha_sim")).unwrap();
    let steps: Vec<Transform> =
        checkpoint.processing().action_steps.iter().rev().map(|step| step.inverse().unwrap()).collect();
    let mut command = [f32::NAN; 14];
    Steps::new("action", &steps, 14, 14).unwrap().apply(&ALOHA_ACTION, &[0.0; 14], &mut command);
    // _encode_actions_inv: the flip mask, grippers g·(1.4910 + 0.6213) - 0.6213 - 0.5476.
    let expected =
        [0.02, -0.1, 0.05, 0.0, 0.3, -0.2, -0.323_98, -0.01, -0.25, -0.125, -0.5, 0.06, 0.07, 0.520_94];
    close(&command, &expected);
}

#[test]
fn droid_takes_and_gives_eight_numbers_as_they_are() {
    let state = [0.1, -0.6, 0.2, -2.2, 0.05, 1.7, 0.3, 0.4];
    let action = [0.5, -0.25, 0.125, 0.0, -1.5, 0.75, 0.02, 0.9];
    // DroidInputs concatenates, DroidOutputs cuts to 8; statistics may be padded, actions are those of joints.
    for width in [8, 32] {
        let (model, command) = apply("droid", [width, width], &state, &action);
        assert_eq!((&model[..], &command[..]), (&state[..], &action[..]));
    }
}

#[test]
fn libero_adds_the_state_where_openpis_configuration_does() {
    let state = [-0.05, 0.03, 0.76, 3.13, -0.04, -0.09, 0.02, -0.02];
    let action = [0.06, 0.02, -0.9, -3.1, 0.04, 0.1, -0.98];
    // pi0_libero has extra_delta_transform=True: AbsoluteActions(make_bool_mask(6, -1)).
    let (model, command) = apply("libero", [8, 7], &state, &action);
    assert_eq!(model, state);
    close(&command, &[0.01, 0.05, -0.14, 0.03, 0.0, 0.01, -0.98]);
    let (_, command) = apply("libero_no_extra_delta", [8, 7], &state, &action);
    assert_eq!(command, action);
}

#[test]
fn plain_is_the_statistics_own_numbers() {
    let (state, action) = ([0.5, -0.25, 3.0], [1.0, 2.0]);
    assert_eq!(apply("plain", [3, 2], &state, &action), (state.to_vec(), action.to_vec()));
}

#[test]
fn profiles_say_what_state_and_action_consist_of() {
    let open = |profile: &str, [state, action]: [usize; 2]| {
        let dir = checkpoint(state, action);
        Checkpoint::open_with(&dir, Some(profile)).unwrap().processing().clone()
    };
    let camera = |name: &str, key: &str, required| Camera { key: key.into(), required, ..Camera::new(name) };
    let rate = |hz| Some(Rate { hz, source: RateSource::Profile });

    let aloha = open("aloha", [14, 14]);
    assert_eq!((aloha.rate, aloha.execution_horizon), (rate(50.0), Some(25)));
    let cameras = |required| {
        vec![
            camera("cam_high", "base_0_rgb", true),
            camera("cam_left_wrist", "left_wrist_0_rgb", required),
            camera("cam_right_wrist", "right_wrist_0_rgb", required),
        ]
    };
    assert_eq!(aloha.cameras, cameras(true));
    assert_eq!(open("aloha_sim", [14, 14]).cameras, cameras(false));
    for dimensions in [&aloha.robot_state, &aloha.robot_action] {
        let grippers: Vec<usize> = (0..14).filter(|i| dimensions[*i].gripper).collect();
        assert_eq!(grippers, [6, 13]);
        assert!(dimensions.iter().all(|d| d.quantity == Quantity::Position && !d.name.is_empty()));
        assert_eq!((dimensions[8].name.as_str(), dimensions[8].unit.as_str()), ("right_shoulder", "rad"));
    }

    let droid = open("droid", [8, 8]);
    assert_eq!((droid.rate, droid.execution_horizon), (rate(15.0), Some(8)));
    let two = [
        camera("exterior_image_1_left", "base_0_rgb", true),
        camera("wrist_image_left", "left_wrist_0_rgb", true),
    ];
    assert_eq!(droid.cameras, two);
    let quantities: Vec<Quantity> = droid.robot_action.iter().map(|d| d.quantity).collect();
    assert_eq!((quantities[..7].to_vec(), quantities[7]), (vec![Quantity::Velocity; 7], Quantity::Position));
    assert!(droid.robot_action[7].gripper);

    let libero = open("libero", [8, 7]);
    assert_eq!((libero.robot_state.len(), libero.robot_action.len(), libero.cameras.len()), (8, 7, 2));
    let plain = open("plain", [3, 2]);
    assert_eq!((plain.rate, plain.execution_horizon, plain.cameras.len()), (None, None, 3));
    assert!(plain.cameras.iter().all(|camera| camera.required));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Each lossless step, forward and inverse, on vectors of robot scale.
    #[test]
    fn inverses_invert(
        profile in prop::sample::select(vec!["aloha", "aloha_sim", "droid", "libero", "plain"]),
        joints in prop::collection::vec(-3.0f32..3.0, 28),
        grippers in prop::collection::vec(0.0f32..1.0, 4),
    ) {
        let widths = match profile {
            "droid" => [8, 8],
            "libero" => [8, 7],
            _ => [14, 14],
        };
        let dir = checkpoint(widths[0], widths[1]);
        let checkpoint = Checkpoint::open_with(&dir, Some(profile)).unwrap();
        let processing = checkpoint.processing();
        let vector = |dimensions: &[pi0rt::checkpoint::Dimension], from: usize| -> Vec<f32> {
            (0..dimensions.len())
                .map(|i| if dimensions[i].gripper { grippers[(from + i) % 4] } else { joints[from + i] })
                .collect()
        };
        let back = |steps: &[Transform]| -> Vec<Transform> {
            steps.iter().rev().map(|step| step.inverse().expect("an inverse")).collect()
        };
        let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);

        let (mut there, mut action_there) = steps(&checkpoint);
        let state = vector(&processing.robot_state, 0);
        let mut model = vec![0.0; there.output()];
        there.apply(&state, &[], &mut model);
        let mut again = vec![0.0; state.len()];
        Steps::new("state", &back(&processing.state_steps), model.len(), 0).unwrap().apply(&model, &[], &mut again);
        prop_assert!(near(&again, &state), "{profile}: {state:?} {again:?}");

        let command = vector(&processing.robot_action, 14);
        let inverse = back(&processing.action_steps);
        let mut action = vec![0.0; action_there.input()];
        Steps::new("action", &inverse, command.len(), model.len()).unwrap().apply(&command, &model, &mut action);
        let mut again = vec![0.0; command.len()];
        action_there.apply(&action, &model, &mut again);
        prop_assert!(near(&again, &command), "{profile}: {command:?} {again:?}");
    }
}

/// A policy on the reference device, with a profile.
fn policy(dir: &Path, profile: Option<&str>) -> Result<Policy, String> {
    let (device, profile) = (ReferenceOptions.into(), profile.map(String::from));
    Policy::load(dir, &PolicyOptions { device, profile, ..PolicyOptions::default() })
        .map_err(|e| e.to_string())
}

fn infer(policy: &mut Policy, state: &[f32]) -> Result<Chunk, BadObservation> {
    let data: Vec<u8> = (0..64 * 48 * 3).map(|i| (i * i % 251) as u8).collect();
    let frame = Frame { data: &data, width: 64, height: 48, stride: 64 * 3, format: PixelFormat::Rgb8 };
    let frames = vec![Some(frame); policy.info().cameras.len()];
    let prompt = policy.prompt("open the top drawer").unwrap();
    let mut chunk = Chunk::new(policy.info());
    let observation = Observation { frames: &frames, state, prompt: &prompt, rtc: None };
    match policy.infer(&observation, Noise::Seed(5), &mut chunk) {
        Ok(()) => Ok(chunk),
        Err(PolicyError::BadObservation(bad)) => Err(bad),
        Err(error) => panic!("{error}"),
    }
}

/// The whole path: adapt, normalize, compute, unnormalize, add the adapted state, adapt back.
#[test]
fn a_policy_with_alohas_profile_computes_what_openpi_does() {
    let dir = checkpoint(14, 14);
    let mut aloha = policy(&dir, Some("aloha")).unwrap();
    let chunk = infer(&mut aloha, &ALOHA_STATE).unwrap();
    // The model sees the adapted state: the plain profile, given that state, gives the same numbers.
    let mut plain = policy(&dir, Some("plain")).unwrap();
    let same = infer(&mut plain, &ALOHA_DECODED).unwrap();
    close(&chunk.normalized, &same.normalized);
    for (row, normalized) in chunk.actions.chunks_exact(14).zip(chunk.normalized.chunks_exact(32)) {
        let expected: Vec<f32> = (0..14)
            .map(|i| {
                let (mean, std) = (-0.75 + 0.25 * i as f64, 0.5 + 0.125 * i as f64);
                let action = f64::from(normalized[i]) * (std + 1e-6) + mean;
                let flip = if [1, 2, 8, 9].contains(&i) { -1.0 } else { 1.0 };
                let command = match i {
                    6 | 13 => (action + 0.5476 + 0.6213) / (1.4910 + 0.6213),
                    _ => flip * (action + f64::from(ALOHA_DECODED[i])),
                };
                command as f32
            })
            .collect();
        let near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-5;
        assert!(row.iter().zip(&expected).all(near), "{row:?}\n{expected:?}");
    }
    // The next observation is not relative to the previous one's state.
    let mut moved = ALOHA_STATE;
    moved[0] += 0.5;
    infer(&mut aloha, &moved).unwrap();
    assert_eq!(infer(&mut aloha, &ALOHA_STATE).unwrap().actions, chunk.actions);
    aloha.warm_up().unwrap();
    assert_eq!(infer(&mut aloha, &ALOHA_STATE).unwrap().actions, chunk.actions);
}

#[test]
fn a_state_that_is_longer_than_the_models_is_sliced_and_permuted() {
    let dir = checkpoint(3, 3);
    let text =
        "[state]\nwidth = 6\nsteps = [{ select = [5, \"1..3\"] }]\n[action]\nsteps = [{ select = [2, 0] }]\n";
    fs::write(dir.join(PROFILE_FILE), text).unwrap();
    let mut policy = policy(&dir, None).unwrap();
    assert_eq!((policy.info().state_dim, policy.info().action_dim), (6, 2));
    let chunk = infer(&mut policy, &[9.0, 0.5, -0.5, 9.0, 9.0, 0.25]).unwrap();
    let mut plain = self::policy(&dir, Some("plain")).unwrap();
    let same = infer(&mut plain, &[0.25, 0.5, -0.5]).unwrap();
    assert_eq!(chunk.normalized, same.normalized);
    for (row, whole) in chunk.actions.chunks_exact(2).zip(same.actions.chunks_exact(3)) {
        assert_eq!(row, [whole[2], whole[0]]);
    }
    match infer(&mut policy, &[9.0, 0.5, f32::NAN, 9.0, 9.0, 0.25]) {
        Err(BadObservation::StateValue { index: 2, .. }) => {}
        other => panic!("{other:?}"),
    }
    // Overflows after selection: the error has the robot's own number and index.
    match infer(&mut policy, &[9.0, 0.5, -0.5, 9.0, 9.0, f32::MAX]) {
        Err(BadObservation::StateValue { index: 5, value: f32::MAX }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_state_beyond_the_profiles_limits_is_a_bad_observation() {
    let dir = checkpoint(14, 14);
    let mut aloha = policy(&dir, Some("aloha")).unwrap();
    let refused = |policy: &mut Policy, index: usize, value: f32| {
        let mut state = ALOHA_STATE;
        state[index] = value;
        match infer(policy, &state) {
            Err(bad) => bad.to_string(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused(&mut aloha, 3, 1e30), "state[3] (left_forearm_roll) is 1e30, expected -6.3 to 6.3");
    // A value in degrees.
    assert_eq!(refused(&mut aloha, 8, -85.9), "state[8] (right_shoulder) is -85.9, expected -6.3 to 6.3");
    assert_eq!(refused(&mut aloha, 13, 57.3), "state[13] (right_gripper) is 57.3, expected -1.0 to 2.0");
    // Bounds are the robot's, whatever the statistics: warming up needs no state within them.
    fs::write(dir.join(PROFILE_FILE), "state.width = 14\n[state.limits]\n4 = { position = [100, 200] }\n")
        .unwrap();
    let mut policy = self::policy(&dir, None).unwrap();
    policy.warm_up().unwrap();
    assert_eq!(refused(&mut policy, 4, 99.5), "state[4] is 99.5, expected 100.0 to 200.0");
    let mut state = ALOHA_STATE;
    state[4] = 150.0;
    infer(&mut policy, &state).unwrap();
}

#[test]
fn without_a_profile_no_command_is_given() {
    let dir = checkpoint(14, 14);
    let Err(error) = policy(&dir, None) else { panic!("loaded") };
    messages(
        &error,
        &[&dir.display().to_string(), "--profile NAME", "[policy]", "pi0rt.toml", "\n  aloha ", "\n  plain "],
    );
    // Callers that use only the model's numbers need no profile.
    let bare = Checkpoint::open(&dir).unwrap();
    assert!(bare.profile().is_none() && bare.check_commands().is_err());
    fs::write(dir.join(PROFILE_FILE), "").unwrap();
    assert!(Checkpoint::open(&dir).unwrap().check_commands().is_ok());
    // A named profile replaces the one beside the weights.
    fs::write(dir.join(PROFILE_FILE), "rate_hz = 20").unwrap();
    let own = Checkpoint::open(&dir).unwrap();
    assert_eq!(own.processing().rate, Some(Rate { hz: 20.0, source: RateSource::Profile }));
    assert_eq!(own.profile().unwrap().path(), Some(dir.join(PROFILE_FILE).as_path()));
    let named = Checkpoint::open_with(&dir, Some("plain")).unwrap();
    assert_eq!((named.processing().rate, named.profile().unwrap().name()), (None, "plain"));
    let file = dir.join("other.toml");
    fs::write(&file, "base = \"aloha\"").unwrap();
    let named = Checkpoint::open_with(&dir, file.to_str()).unwrap();
    assert_eq!(named.processing().action_steps.len(), 3);
}

#[test]
fn what_statistics_tell_of_offsets() {
    let look = |mean: &[f32], std: &[f32]| {
        let dir = checkpoint(14, 14);
        let path = dir.join("assets/trossen/norm_stats.json");
        edit_json(&path, |stats| {
            stats["norm_stats"]["actions"]["mean"] = json!(mean);
            stats["norm_stats"]["actions"]["std"] = json!(std);
        });
        let checkpoint = Checkpoint::open(&dir).unwrap();
        let ruled_out = checkpoint.rules_out_offsets();
        let refusal = checkpoint.check_commands().unwrap_err().to_string();
        (ruled_out, refusal.contains("look like those of offsets"))
    };
    // Joints as offsets, grippers absolute.
    let mut offsets = [0.002f32; 14];
    (offsets[6], offsets[13]) = (0.6, 0.4);
    assert_eq!(look(&offsets, &[0.2; 14]), (false, true));
    // Joint positions, some near 0.
    let mut positions = [0.0f32; 14];
    positions[..8].copy_from_slice(&[-0.9, 1.1, -0.3, 0.2, 0.5, -0.8, 0.6, 0.1]);
    assert_eq!(look(&positions, &[0.4; 14]), (true, false));
    // Velocities: no conclusion possible.
    assert!(!look(&[0.01; 14], &[0.2; 14]).0);
    // Most joints never moved: three that did and are far from 0 suffice, two don't.
    let mut std = [0.0f32; 14];
    std[..3].copy_from_slice(&[0.3; 3]);
    assert!(look(&positions, &std).0);
    std[2] = 0.0;
    assert!(!look(&positions, &std).0);
}

#[test]
fn rates_have_an_order_and_say_where_they_come_from() {
    let dir = checkpoint(14, 14);
    let config = r#"{"action_horizon": 50, "control_rate_hz": 30}"#;
    fs::write(dir.join("config.json"), config).unwrap();
    let declared = |hz, source| Some(Rate { hz, source });
    let open = |profile: &str| {
        let checkpoint = Checkpoint::open_with(&dir, Some(profile)).unwrap();
        (checkpoint.processing().rate, checkpoint.processing().overruled_rate)
    };
    assert_eq!(open("plain"), (declared(30.0, RateSource::Checkpoint), None));
    let both = (declared(50.0, RateSource::Profile), declared(30.0, RateSource::Checkpoint));
    assert_eq!(open("aloha"), both);
    let options = PolicyOptions {
        device: ReferenceOptions.into(),
        profile: Some("aloha".into()),
        control_rate_hz: Some(25.0),
        ..PolicyOptions::default()
    };
    let policy = Policy::load(&dir, &options).unwrap();
    assert_eq!(policy.info().rate, declared(25.0, RateSource::Configuration));
    assert_eq!(policy.info().execution_horizon, Some(25));
}

#[test]
fn a_profile_that_does_not_fit_is_named_with_both_sides() {
    let refuse = |dir: &TempDir, profile: &str, says: &[&str]| {
        let opened = Checkpoint::open_with(dir, Some(profile)).and_then(Checkpoint::check_commands);
        messages(&opened.unwrap_err().to_string(), says);
    };
    let dir = checkpoint(7, 7);
    let stats = "assets/trossen/norm_stats.json: state: has 7 dimensions, but profile aloha needs 14";
    refuse(&dir, "aloha", &[stats]);
    refuse(&dir, "droid", &["norm_stats.json: state: has 7 dimensions, but profile droid needs 8"]);
    refuse(&checkpoint(8, 6), "libero", &["actions: has 6 dimensions, but profile libero needs 7"]);
    let own = |text: &str| {
        let file = dir.join("own.toml");
        fs::write(&file, text).unwrap();
        (file.to_str().unwrap().to_owned(), format!("{}:", file.display()))
    };
    let (file, place) = own("[[cameras]]\nname = \"front\"\nslot = \"top\"\n");
    refuse(
        &dir,
        &file,
        &[&place, "1:1: slot \"top\": the model has base_0_rgb, left_wrist_0_rgb, right_wrist_0_rgb"],
    );
    let (file, place) = own("execution_horizon = 51\n");
    refuse(&dir, &file, &[&place, "1:21: execution_horizon is 51, but a chunk has 50 rows"]);
    let (file, place) = own("asset = \"ur5e\"\n");
    refuse(&dir, &file, &[&place, "1:9: asset \"ur5e\": the checkpoint has \"trossen\""]);
    let (file, place) = own("action.steps = [{ add_state = [8] }]\n");
    refuse(&dir, &file, &[&place, "1:17: add_state: a mask of 8 dimensions for a vector of 7"]);
    let (file, _) = own("state.width = 33\n");
    refuse(&dir, &file, &["has 7 dimensions", "needs 33"]);

    let (file, _) = own("asset = \"trossen\"\n");
    fs::write(dir.join("config.json"), r#"{"action_horizon": 50, "asset_id": "droid"}"#).unwrap();
    refuse(&dir, &file, &["asset is \"trossen\", but config.json asks for \"droid\""]);
    let asset = dir.join("assets/other");
    fs::create_dir(&asset).unwrap();
    fs::copy(dir.join("assets/trossen/norm_stats.json"), asset.join("norm_stats.json")).unwrap();
    fs::write(dir.join("config.json"), r#"{"action_horizon": 50}"#).unwrap();
    refuse(&dir, "plain", &["statistics of several assets", "\"other\", \"trossen\"", "asset in a profile"]);
    assert!(Checkpoint::open_with(&dir, Some(&file)).is_ok());
}

#[test]
fn a_profile_may_tell_a_lerobot_checkpoint_more_and_nothing_else() {
    let dir = lerobot();
    let own = |text: &str| {
        fs::write(dir.join(PROFILE_FILE), text).unwrap();
        Checkpoint::open(&dir).map_err(|error| error.to_string())
    };
    let text = r#"
        rate_hz = 30
        execution_horizon = 12
        [[cameras]]
        name = "left_wrist_0_rgb"
        required = false
        [[action.dimensions]]
        names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n"]
        quantity = "velocity"
        unit = "rad/s"
        [state.limits]
        3 = { position = [-1, 1] }
    "#;
    let checkpoint = own(text).unwrap();
    let processing = checkpoint.processing();
    assert_eq!(processing.rate, Some(Rate { hz: 30.0, source: RateSource::Profile }));
    assert_eq!(processing.execution_horizon, Some(12));
    let required: Vec<bool> = processing.cameras.iter().map(|camera| camera.required).collect();
    assert_eq!(required, [true, false, true]);
    assert_eq!(
        (processing.robot_action[13].name.as_str(), processing.robot_action[0].unit.as_str()),
        ("n", "rad/s")
    );
    assert_eq!(processing.robot_state[3].limits.position, Some([-1.0, 1.0]));
    let bare = Checkpoint::open(&checkpoints::golden()).unwrap();
    assert_eq!(processing.state, bare.processing().state);

    let processors = "lerobot's processors beside the weights declare that";
    for (text, says) in [
        ("base = \"aloha\"", vec!["profile aloha:", "step flip", processors]),
        ("action.steps = [{ add_state = [6, -1] }]", vec!["1:17: step add_state", processors]),
        ("asset = \"trossen\"", vec!["1:9: asset", processors]),
        ("prompt = \"clean\"", vec!["1:10: prompt", processors]),
        ("resize = \"antialiased\"", vec!["1:10: resize", processors]),
        ("state.width = 7", vec!["width of the state", "the profile says 7", "the checkpoint says 14"]),
        ("[[cameras]]\nname = \"front\"", vec!["1:1: camera \"front\"", "base_0_rgb"]),
        (
            "[[cameras]]\nname = \"base_0_rgb\"\nslot = \"left_wrist_0_rgb\"",
            vec!["slot \"left_wrist_0_rgb\"", "\"base_0_rgb\""],
        ),
    ] {
        messages(&own(text).unwrap_err(), &says);
    }
    for text in ["prompt = \"verbatim\"\nresize = \"bilinear\"", "state.width = 14", "base = \"plain\""] {
        own(text).unwrap();
    }

    // Names given by the checkpoint can't be changed.
    let names: Vec<String> = (0..14).map(|i| format!("joint_{i}")).collect();
    edit_json(&dir.join("config.json"), |config| config["action_feature_names"] = json!(names));
    let error = own(text).unwrap_err();
    messages(&error, &["dimension \"a\" is \"joint_0\" to the checkpoint"]);
    let checkpoint = own("[action.limits]\njoint_2 = { velocity = 0.5 }").unwrap();
    assert_eq!(checkpoint.processing().robot_action[2].limits.velocity, Some(0.5));
}

#[test]
fn shipped_profiles_are_listed_with_what_they_are_for() {
    let choices = Profile::choices();
    for name in ["aloha", "aloha_sim", "droid", "libero", "plain"] {
        assert!(choices.lines().any(|line| line.split_whitespace().next() == Some(name)), "{choices}");
    }
}
