//! The results of `pi0rt bench player` as JSON (docs/benchmarking.md explains the keys).

use serde::Serialize;

use super::super::spread::Spread;
use super::args::{Args, Between, Bounds};
use super::measure::Largest;
use super::simulation::Run;

#[derive(Serialize)]
pub struct Report {
    pub settings: Settings,
    pub modes: Vec<ModeReport>,
}

#[derive(Serialize)]
pub struct Settings {
    pub rate_hz: f64,
    pub control_hz: f64,
    pub delay_ms: f64,
    pub jitter_ms: f64,
    pub noise: f64,
    pub lost: f64,
    pub seconds: f64,
    pub seed: u64,
    pub interpolation: Between,
    pub limits: Option<Bounds>,
}

/// The results of one mode; None where there was nothing to measure.
#[derive(Serialize)]
pub struct ModeReport {
    pub mode: &'static str,
    pub chunks: u64,
    pub guided: u64,
    pub lost: u64,
    pub seams: usize,
    pub median_step: Option<f64>,
    pub median_jump: Option<f64>,
    pub largest_jump: Option<f64>,
    /// In median steps.
    pub median_jump_steps: Option<f64>,
    pub largest_jump_steps: Option<f64>,
    pub at_seams: Largest,
    pub anywhere: Largest,
    pub rms: Option<f64>,
    pub switches: u64,
    pub limited: u64,
    pub stages: Stages,
}

/// Ticks by stage.
#[derive(Clone, Copy, Serialize)]
pub struct Stages {
    pub empty: u64,
    pub play: u64,
    pub hold: u64,
    pub decelerate: u64,
    pub safe_stop: u64,
}

impl Report {
    pub fn new(args: &Args, runs: &[(&'static str, Run)]) -> Report {
        let settings = Settings {
            rate_hz: args.rate,
            control_hz: args.control_hz,
            delay_ms: args.delay_ms,
            jitter_ms: args.jitter_ms,
            noise: args.noise,
            lost: args.lost,
            seconds: args.seconds,
            seed: args.seed,
            interpolation: args.interpolation,
            limits: args.limits,
        };
        Report { settings, modes: runs.iter().map(|(mode, run)| ModeReport::new(mode, run)).collect() }
    }
}

impl ModeReport {
    fn new(mode: &'static str, run: &Run) -> ModeReport {
        let measured = &run.measured;
        let spread = |values: &[f64]| (!values.is_empty()).then(|| Spread::of(values.iter().copied()));
        let (steps, jumps) = (spread(&measured.steps), spread(&measured.jumps));
        let median_step = steps.map(|steps| steps.median);
        let in_steps = |jump: f64| median_step.filter(|step| *step > 0.0).map(|step| jump / step);
        let [empty, play, hold, decelerate, safe_stop] = measured.stages;
        ModeReport {
            mode,
            chunks: run.chunks,
            guided: run.guided,
            lost: run.lost,
            seams: measured.jumps.len(),
            median_step,
            median_jump: jumps.map(|jumps| jumps.median),
            largest_jump: jumps.map(|jumps| jumps.max),
            median_jump_steps: jumps.and_then(|jumps| in_steps(jumps.median)),
            largest_jump_steps: jumps.and_then(|jumps| in_steps(jumps.max)),
            at_seams: measured.at_seams,
            anywhere: measured.anywhere,
            rms: measured.rms(),
            switches: measured.switches,
            limited: measured.limited,
            stages: Stages { empty, play, hold, decelerate, safe_stop },
        }
    }
}
