//! The results of an evaluation, as JSON has them (docs/evaluation.md explains the keys).

use std::time::Duration;

use pi0rt::control::PolicyDescription;
use serde::Serialize;

use super::condition::{Named, Settled};
use super::motion::Motion;
use super::statistics::{Share, quantile};
use crate::tabletop::Kind;

#[derive(Serialize)]
pub struct Report {
    version: &'static str,
    model: String,
    first_seed: u64,
    episodes: u64,
    runs: Vec<Run>,
}

/// The results of one kind of task under one condition.
#[derive(Clone, Serialize)]
pub struct Run {
    pub kind: Kind,
    pub condition: std::collections::BTreeMap<&'static str, String>,
    pub successes: usize,
    pub episodes: usize,
    #[serde(flatten)]
    pub share: Share,
    /// Median and 90th percentile of the times to success, s; None without one.
    pub median_s: Option<f64>,
    pub p90_s: Option<f64>,
    /// Root of the mean square, and median over episodes of the largest, rad/s³.
    pub jerk_rms: Option<f64>,
    pub jerk_peak: Option<f64>,
    /// From the last command to the new chunk, rad.
    pub gap_median: Option<f64>,
    pub gap_largest: Option<f64>,
    pub chunks: u64,
    pub guided: u64,
    pub lost: u64,
    pub refused: u64,
    /// Commands beyond a limit of the robot's profile.
    pub outside: u64,
    pub stages: Stages,
    pub computing_s: f64,
    pub outcomes: Vec<Outcome>,
    #[serde(skip)]
    pub named: Named,
}

/// Steps of the simulation, of 1 ms, by the player's stage.
#[derive(Clone, Copy, Serialize)]
pub struct Stages {
    pub play: u64,
    pub hold: u64,
    pub decelerate: u64,
    pub safe_stop: u64,
}

/// How one episode went.
#[derive(Clone, Serialize)]
pub struct Outcome {
    pub seed: u64,
    pub task: String,
    pub told: String,
    /// None without success.
    pub success_s: Option<f64>,
}

impl Run {
    pub fn new(
        condition: &Settled,
        kind: Kind,
        outcomes: Vec<Outcome>,
        motion: &Motion,
        computing: Duration,
    ) -> Run {
        let times: Vec<f64> = outcomes.iter().filter_map(|outcome| outcome.success_s).collect();
        let named = condition.named();
        let [_, play, hold, decelerate, safe_stop] = motion.stages;
        Run {
            kind,
            condition: named.0.iter().cloned().collect(),
            successes: times.len(),
            episodes: outcomes.len(),
            share: Share::of(times.len(), outcomes.len()),
            median_s: quantile(times.iter().copied(), 0.5),
            p90_s: quantile(times, 0.9),
            jerk_rms: motion.jerk(),
            jerk_peak: quantile(motion.peaks().iter().copied(), 0.5),
            gap_median: quantile(motion.gaps.iter().copied(), 0.5),
            gap_largest: quantile(motion.gaps.iter().copied(), 1.0),
            chunks: motion.chunks,
            guided: motion.guided,
            lost: motion.lost,
            refused: motion.refused,
            outside: motion.outside,
            stages: Stages { play, hold, decelerate, safe_stop },
            computing_s: computing.as_secs_f64(),
            outcomes,
            named,
        }
    }

    /// Values of the options in which the conditions differ.
    pub fn label(&self, differing: &[&str]) -> String {
        let values = self.named.0.iter().filter(|(name, _)| differing.contains(name));
        let words: Vec<String> = values
            .map(|(name, value)| match *name {
                "device" | "stitching" | "telling" => value.clone(),
                name => format!("{name} {value}"),
            })
            .collect();
        words.join(", ")
    }
}

impl Report {
    pub fn new(first_seed: u64, episodes: u64, policy: Option<&PolicyDescription>, runs: Vec<Run>) -> Report {
        let model = policy.map(|policy| policy.model.clone()).unwrap_or_default();
        Report { version: env!("CARGO_PKG_VERSION"), model, first_seed, episodes, runs }
    }
}
