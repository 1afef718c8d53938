//! Episodes with the demonstrator's rows in place of a policy.

use std::error::Error;

use pi0rt::control::{Dimension, Limits, PolicyDescription, Quantity, Rate, RateSource};
use pi0rt::daemon::CarryOver;
use pi0rt::model::Rtc;
use pi0rt::policy::{Chunk, Continuation};

use super::condition::{Settled, Telling};
use super::motion::Motion;
use super::options::{Device, DeviceList, Latency, Stitch};
use super::source::{ChunkSource, Seen};
use super::{Condition, delayed, lockstep};
use crate::tabletop::{CAMERAS, Camera, Episode, JOINTS, RATE_HZ, Scene, Task, demonstrations};

const ROWS: usize = 24;

/// Plays a recording: the chunk of a moment is its rows from there on.
struct Recording {
    rows: Vec<[f64; JOINTS]>,
    description: PolicyDescription,
    cameras: Vec<Camera>,
    /// Added to each second chunk, rad.
    off: f32,
    asked: u64,
    guided: u64,
    kept: u64,
    /// Greatest value of any frame.
    brightest: u8,
}

impl Recording {
    fn new(rows: Vec<[f64; JOINTS]>) -> Recording {
        let speeds = [3.0, 4.0, 5.0, 0.4];
        let ranges = [[-2.2, 2.2], [0.15, 2.75], [-3.2, 3.2], [0.008, 0.16]];
        let dimension = |(speed, range): (f32, [f32; 2])| {
            let limits =
                Limits { position: Some(range), velocity: Some(speed), acceleration: Some(20.0 * speed) };
            Dimension { quantity: Quantity::Position, limits, ..Dimension::default() }
        };
        let description = PolicyDescription {
            state_dim: JOINTS as u32,
            action_dim: JOINTS as u32,
            horizon: ROWS as u32,
            rate: Rate::new(RATE_HZ as f32, RateSource::Profile),
            action: speeds.into_iter().zip(ranges).map(dimension).collect(),
            ..PolicyDescription::default()
        };
        let cameras = CAMERAS.to_vec();
        Recording { rows, description, cameras, off: 0.0, asked: 0, guided: 0, kept: 0, brightest: 0 }
    }
}

impl ChunkSource for Recording {
    fn cameras(&self) -> &[Camera] {
        &self.cameras
    }

    fn description(&self) -> &PolicyDescription {
        &self.description
    }

    fn carry_over(&self) -> CarryOver {
        CarryOver { width: JOINTS, keeps_prefix: true, ..CarryOver::default() }
    }

    fn chunk(
        &mut self,
        seen: &Seen<'_>,
        noise: &[f32],
        rtc: Option<Rtc<'_>>,
        continuation: Continuation<'_>,
        chunk: &mut Chunk,
    ) -> Result<(), Box<dyn Error>> {
        assert!(noise.len() == self.noise_len() && noise.iter().any(|value| *value != 0.0));
        self.brightest = self.brightest.max(seen.frames.iter().flatten().copied().max().unwrap_or(0));
        self.asked += 1;
        self.guided += u64::from(rtc.is_some());
        self.kept += u64::from(continuation.keep_prefix);
        let at = seen.at_ns as f64 * 1e-9 * f64::from(RATE_HZ);
        for (row, values) in chunk.actions.chunks_exact_mut(JOINTS).enumerate() {
            let (index, part) = ((at + row as f64) as usize, (at + row as f64).fract());
            let [a, b] = [index, index + 1].map(|i| self.rows[i.min(self.rows.len() - 1)]);
            for (joint, value) in values.iter_mut().enumerate() {
                *value = (a[joint] + part * (b[joint] - a[joint])) as f32;
            }
            values[0] += self.off * (self.asked % 2) as f32;
        }
        chunk.normalized.copy_from_slice(&chunk.actions);
        Ok(())
    }

    fn noise_len(&self) -> usize {
        ROWS * JOINTS
    }

    fn room(&self) -> Chunk {
        Chunk::sized(ROWS * JOINTS, ROWS * JOINTS, 0)
    }
}

fn settled(latency: Latency) -> Settled {
    Settled {
        device: "recording".into(),
        steps: 10,
        execute: 8,
        latency,
        stitching: Stitch::Rtc,
        lost: 0.0,
        frames_age_ms: 0,
        prefix_every: 1,
        outage_ms: 0,
        unlimited: false,
        guidance_horizon: 10,
        telling: Telling::Plain,
    }
}

/// Plays a recorded episode under a condition.
fn play(index: usize, condition: &Settled, off: f32) -> (Episode, Motion, Recording) {
    let (seed, task, _) = demonstrations().swap_remove(index);
    play_for(task, Episode::begin(seed, task).unwrap(), index, condition, off)
}

/// Plays a recording in an episode.
fn play_for(
    task: Task,
    mut episode: Episode,
    index: usize,
    condition: &Settled,
    off: f32,
) -> (Episode, Motion, Recording) {
    let (_, _, mut rows) = demonstrations().swap_remove(index);
    // Its first row is where the arm goes from where it stands.
    rows.insert(0, episode.scene.joints);
    let (mut motion, mut source) = (Motion::default(), Recording::new(rows));
    source.off = off;
    motion.begin();
    match condition.latency {
        Latency::None => lockstep::play(&mut source, &mut episode, condition, task, &mut motion, None),
        Latency::Ms(ms) => delayed::play(&mut source, &mut episode, condition, ms, task, &mut motion, None),
    }
    .unwrap();
    (episode, motion, source)
}

#[test]
fn recorded_rows_succeed_without_latency() {
    for index in 0..3 {
        let (episode, motion, source) = play(index, &settled(Latency::None), 0.0);
        let success = episode.success_s.expect("success");
        // Chunks end with the first success, and join without a gap.
        assert_eq!(source.asked, (success * 20.0 / 8.0).ceil() as u64);
        assert!(motion.gaps.iter().all(|gap| *gap < 1e-6), "{:?}", motion.gaps);
        assert!(motion.jerk().unwrap() > 0.0);
    }
}

#[test]
fn they_succeed_through_the_player_at_any_latency() {
    for index in 0..3 {
        for ms in [0, 50, 160, 330] {
            let (episode, motion, source) = play(index, &settled(Latency::Ms(ms)), 0.0);
            assert!(episode.success_s.is_some(), "episode {index}, {ms} ms");
            assert_eq!(motion.outside, 0);
            assert_eq!(motion.refused + motion.lost, 0);
            // All but the first, and those that came before it was played.
            assert!(
                source.guided + 2 >= source.asked && source.asked > 2,
                "{} {}",
                source.guided,
                source.asked
            );
            assert_eq!(source.kept, 0);
        }
    }
}

#[test]
fn the_same_episode_goes_the_same_way_again() {
    let condition = Settled { lost: 0.6, ..settled(Latency::Ms(160)) };
    let [a, b] = [(); 2].map(|()| play(0, &condition, 0.01));
    assert_eq!((a.0.world, a.0.success_s), (b.0.world, b.0.success_s));
    assert!(a.1.lost > 0 && a.1.lost == b.1.lost);
}

/// Chunks that contradict each other: seams are gaps then, and stitching makes them smoother.
#[test]
fn gaps_are_measured_and_a_crossfade_is_smoother_than_none() {
    let jerk = |stitching| {
        let (_, motion, _) =
            play(1, &Settled { stitching, unlimited: true, ..settled(Latency::Ms(50)) }, 0.03);
        assert!(motion.gaps.iter().any(|gap| *gap > 0.02), "{:?}", motion.gaps);
        assert_eq!(motion.outside, 0);
        motion.jerk().unwrap()
    };
    let (replace, crossfade) = (jerk(Stitch::Replace), jerk(Stitch::Crossfade));
    assert!(replace > 1.3 * crossfade, "{replace} {crossfade}");
}

#[test]
fn without_a_daemon_the_arm_stops_and_goes_on() {
    let condition = Settled { outage_ms: 3000, ..settled(Latency::Ms(50)) };
    // Another task counts, so the episode lasts until its end.
    let (seed, task, _) = demonstrations().swap_remove(0);
    let other = Scene::of(seed).tasks().find(|other| other.colour != task.colour).unwrap();
    let episode = Episode::begin(seed, other).unwrap();
    let (episode, motion, _) = play_for(other, episode, 0, &condition, 0.0);
    assert_eq!(episode.success_s, None);
    let [_, play, hold, decelerate, safe_stop] = motion.stages;
    assert!(hold > 300 && decelerate > 300 && safe_stop > 300 && play > 1000, "{:?}", motion.stages);
    assert_eq!(motion.outside, 0);
    let (_, motion, _) = self::play(0, &settled(Latency::Ms(50)), 0.0);
    // Until the first chunk has come, the arm is held where it stands.
    assert_eq!(motion.stages[2..], [50, 0, 0]);
}

#[test]
fn conditions_change_what_the_policy_gets() {
    let of = |condition: Settled| play(2, &condition, 0.0).2;
    let base = settled(Latency::Ms(50));
    assert!(of(base.clone()).brightest > 100);
    assert_eq!(of(Settled { telling: Telling::CoveredBoth, ..base.clone() }).brightest, 0);
    assert_eq!(of(Settled { stitching: Stitch::Replace, ..base.clone() }).guided, 0);
    let source = of(Settled { prefix_every: 3, ..base.clone() });
    assert_eq!(source.kept, source.asked - source.asked.div_ceil(3));
    let source = of(Settled { lost: 1.0, ..base });
    assert!(source.asked > 100 && source.guided == 0);
}

#[test]
fn other_tasks_are_told_or_counted() {
    let [task, other]: [Task; 2] =
        ["reach the red block", "reach the blue block"].map(|text| text.parse().unwrap());
    assert_eq!(Telling::Plain.tasks(task, other), (task, task));
    assert_eq!(Telling::Swapped.tasks(task, other), (other, other));
    assert_eq!(Telling::SwappedFirst.tasks(task, other), (task, other));
    assert!(Telling::CoveredWrist.covers(Camera::Wrist) && !Telling::CoveredWrist.covers(Camera::Front));
}

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    args: super::Args,
}

fn conditions(line: &[&str]) -> Result<Vec<String>, String> {
    use clap::Parser;
    let line = ["eval", "--checkpoint", "dir"].iter().chain(line);
    let Line { args } = Line::try_parse_from(line).map_err(|error| error.to_string())?;
    let all = Condition::all(&args)?;
    Ok(all.iter().map(|condition| format!("{condition:?}")).collect())
}

#[test]
fn lists_are_combined_and_devices_come_first() {
    assert_eq!(conditions(&[]).unwrap().len(), 1);
    let all =
        conditions(&["--device", "cpu:bf16,reference", "--steps", "10,5,1", "--telling", "plain,swapped"]);
    let all = all.unwrap();
    assert_eq!(all.len(), 12);
    assert!(all[..6].iter().all(|condition| condition.contains("cpu:bf16")));
    assert!(all[0].contains("Some(10)") && all[1].contains("Some(10)") && all[2].contains("Some(5)"));
    let delayed = conditions(&["--latency-ms", "0,330", "--stitching", "rtc,replace", "--lost", "0,0.05"]);
    assert_eq!(delayed.unwrap().len(), 8);
}

#[test]
fn options_that_go_nowhere_are_refused() {
    let refused = |line: &[&str]| conditions(line).unwrap_err();
    let error = refused(&["--stitching", "replace"]);
    assert_eq!(error, "--stitching needs a latency: --latency-ms is none, 0 is the least");
    assert!(refused(&["--latency-ms", "none,50", "--lost", "0.1"]).starts_with("--lost needs a latency"));
    assert!(
        refused(&["--device", "gpu"]).contains("no device \"gpu\", expected one of cpu, reference, ttnn")
    );
    assert!(refused(&["--device", "cpu:fp4"]).contains("precision fp4: not supported by device cpu"));
    assert!(refused(&["--latency-ms", "99999"]).contains("expected none, or a number from 0 to 10000"));
    assert!(refused(&["--lost", "1.5"]).contains("expected 0 to 1"));
    let device: Device = "cpu:precision=int8:threads=1".parse().unwrap();
    assert!(device.choose().is_ok());
    let DeviceList(list) = "cpu,reference".parse().unwrap();
    assert_eq!(list.len(), 2);
}
