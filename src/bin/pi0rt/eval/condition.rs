//! The conditions of an evaluation: all combinations of the options.

use clap::ValueEnum;
use pi0rt::daemon::Guidance;
use serde::Serialize;

use super::Args;
pub use super::options::Device;
use super::options::{Latency, Stitch};
use super::source::Loaded;
use crate::tabletop::{Camera, Task};

/// What the policy is told and shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Telling {
    /// The task that counts, and both cameras
    Plain,
    /// Another task about another block of the scene, which counts
    Swapped,
    /// Another task, while the first one counts: is not to succeed
    SwappedFirst,
    /// The front camera sees black
    CoveredFront,
    /// The wrist camera sees black
    CoveredWrist,
    /// Both cameras see black
    CoveredBoth,
}

impl Telling {
    /// The task that counts, and the one that is told.
    pub fn tasks(self, task: Task, other: Task) -> (Task, Task) {
        match self {
            Telling::Swapped => (other, other),
            Telling::SwappedFirst => (task, other),
            _ => (task, task),
        }
    }

    /// True if a camera sees black.
    pub fn covers(self, camera: Camera) -> bool {
        match self {
            Telling::CoveredFront => camera == Camera::Front,
            Telling::CoveredWrist => camera == Camera::Wrist,
            Telling::CoveredBoth => true,
            _ => false,
        }
    }
}

/// One combination of the options, before anything is loaded.
#[derive(Clone, Copy, Debug)]
pub struct Condition<'a> {
    pub device: &'a Device,
    pub steps: Option<u16>,
    execute: Option<u32>,
    latency: Latency,
    stitching: Stitch,
    lost: f64,
    frames_age_ms: u32,
    prefix_every: u32,
    outage_ms: u32,
    unlimited: bool,
    guidance_horizon: u32,
    telling: Telling,
}

/// A condition with the checkpoint's choices.
#[derive(Clone, Debug)]
pub struct Settled {
    /// Name of the device with its settings.
    pub device: String,
    /// Denoising steps of a chunk.
    pub steps: usize,
    /// Rows of a chunk that are played before the next observation.
    pub execute: u32,
    /// Time from an observation to its chunk.
    pub latency: Latency,
    /// How one chunk follows another.
    pub stitching: Stitch,
    /// Share of chunks that never arrive.
    pub lost: f64,
    /// Age of an observation's frames.
    pub frames_age_ms: u32,
    /// Chunks that one prefix is computed for.
    pub prefix_every: u32,
    /// Time without a daemon, from 0.2 s on; 0: none.
    pub outage_ms: u32,
    /// True to play without the profile's limits.
    pub unlimited: bool,
    /// Rows beyond the delay over which guidance falls.
    pub guidance_horizon: u32,
    /// What the policy is told and shown.
    pub telling: Telling,
}

/// Name and value of each option of a condition.
#[derive(Clone, Debug, Serialize)]
pub struct Named(pub Vec<(&'static str, String)>);

/// Function that writes an option's value.
type Shown<'f> = &'f dyn Fn(&Condition<'_>) -> String;

impl<'a> Condition<'a> {
    /// All combinations of the options, those of one policy next to each other.
    ///
    /// # Errors
    /// Options that have no meaning without a latency.
    pub fn all(args: &'a Args) -> Result<Vec<Condition<'a>>, String> {
        if args.latency_ms.is_empty() || args.latency_ms.contains(&Latency::None) {
            let given = [
                ("--stitching", !args.stitching.is_empty()),
                ("--lost", !args.lost.is_empty()),
                ("--frames-age-ms", !args.frames_age_ms.is_empty()),
                ("--prefix-every", !args.prefix_every.is_empty()),
                ("--outage-ms", !args.outage_ms.is_empty()),
                ("--unlimited", args.unlimited),
                ("--guidance-horizon", !args.guidance_horizon.is_empty()),
            ];
            if let Some((option, _)) = given.iter().find(|(_, given)| *given) {
                return Err(format!("{option} needs a latency: --latency-ms is none, 0 is the least"));
            }
        }
        let Some(device) = args.device.0.first() else { return Ok(Vec::new()) };
        let mut all = vec![Condition {
            device,
            steps: None,
            execute: None,
            latency: Latency::None,
            stitching: Stitch::Rtc,
            lost: 0.0,
            frames_age_ms: 0,
            prefix_every: 1,
            outage_ms: 0,
            unlimited: args.unlimited,
            guidance_horizon: Guidance::default().horizon,
            telling: Telling::Plain,
        }];
        all = vary(all, &args.device.0, |condition, device| condition.device = device);
        all = vary(all, &args.steps, |condition, steps| condition.steps = Some(*steps));
        all = vary(all, &args.execute, |condition, rows| condition.execute = Some(*rows));
        all = vary(all, &args.latency_ms, |condition, latency| condition.latency = *latency);
        all = vary(all, &args.stitching, |condition, stitching| condition.stitching = *stitching);
        all = vary(all, &args.guidance_horizon, |condition, rows| condition.guidance_horizon = *rows);
        all = vary(all, &args.lost, |condition, share| condition.lost = *share);
        all = vary(all, &args.frames_age_ms, |condition, ms| condition.frames_age_ms = *ms);
        all = vary(all, &args.prefix_every, |condition, every| condition.prefix_every = *every);
        all = vary(all, &args.outage_ms, |condition, ms| condition.outage_ms = *ms);
        all = vary(all, &args.telling, |condition, telling| condition.telling = *telling);
        Ok(all)
    }

    /// Names of the options in which some conditions differ; if none do, of those that say most.
    pub fn differing(all: &[Condition<'_>]) -> Vec<&'static str> {
        let varies = |of: Shown<'_>| all.iter().any(|other| of(other) != of(&all[0]));
        let options: [(&'static str, Shown<'_>); 11] = [
            ("device", &|c| c.device.to_string()),
            ("steps", &|c| format!("{:?}", c.steps)),
            ("execute", &|c| format!("{:?}", c.execute)),
            ("latency", &|c| c.latency.to_string()),
            ("stitching", &|c| format!("{:?}", c.stitching)),
            ("lost", &|c| c.lost.to_string()),
            ("frames' age", &|c| c.frames_age_ms.to_string()),
            ("prefix every", &|c| c.prefix_every.to_string()),
            ("outage", &|c| c.outage_ms.to_string()),
            ("guidance horizon", &|c| c.guidance_horizon.to_string()),
            ("telling", &|c| format!("{:?}", c.telling)),
        ];
        let names: Vec<_> = options.iter().filter(|(_, of)| varies(of)).map(|(name, _)| *name).collect();
        if names.is_empty() { vec!["device", "steps", "latency"] } else { names }
    }

    /// True if a chunk is guided by the previous one.
    pub fn is_guided(&self) -> bool {
        self.latency != Latency::None && self.stitching.is_guided()
    }

    /// True if chunks keep a prefix.
    pub fn keeps_prefix(&self) -> bool {
        self.prefix_every > 1
    }

    /// The condition with the checkpoint's choices.
    ///
    /// # Errors
    /// If the policy can't do what it asks for.
    pub fn settled(&self, source: &Loaded) -> Result<Settled, String> {
        let (declared, horizon) = (source.execution_horizon(), source.horizon());
        let execute = self.execute.or(declared).unwrap_or(horizon / 2).max(1);
        if execute >= horizon {
            return Err(format!("--execute {execute}: expected less than the chunk's {horizon} rows"));
        }
        if self.keeps_prefix() && !source.keeps_prefix() {
            let every = self.prefix_every;
            return Err(format!(
                "--prefix-every {every}: this policy can't keep a prefix: its prompt tells the state, or its device has \
                 recorded no such chunks"
            ));
        }
        Ok(Settled {
            device: self.device.to_string(),
            steps: source.steps(),
            execute,
            latency: self.latency,
            stitching: self.stitching,
            lost: self.lost,
            frames_age_ms: self.frames_age_ms,
            prefix_every: self.prefix_every,
            outage_ms: self.outage_ms,
            unlimited: self.unlimited,
            guidance_horizon: self.guidance_horizon,
            telling: self.telling,
        })
    }
}

/// Each condition with each of an option's values; the conditions as they are if the option isn't given.
fn vary<'a, T>(
    all: Vec<Condition<'a>>,
    values: &'a [T],
    set: impl Fn(&mut Condition<'a>, &'a T),
) -> Vec<Condition<'a>> {
    if values.is_empty() {
        return all;
    }
    let one = |mut condition: Condition<'a>, value: &'a T| {
        set(&mut condition, value);
        condition
    };
    all.into_iter()
        .flat_map(|condition| values.iter().map(move |value| (condition, value)))
        .map(|(condition, value)| one(condition, value))
        .collect()
}

impl Settled {
    /// Name and value of each option.
    pub fn named(&self) -> Named {
        let name = |of: &dyn Fn() -> Option<clap::builder::PossibleValue>| {
            of().map_or(String::new(), |value| value.get_name().to_owned())
        };
        let mut named = vec![
            ("device", self.device.clone()),
            ("steps", self.steps.to_string()),
            ("execute", self.execute.to_string()),
            ("latency", self.latency.to_string()),
            ("telling", name(&|| self.telling.to_possible_value())),
        ];
        if self.latency != Latency::None {
            named.extend([
                ("stitching", name(&|| self.stitching.to_possible_value())),
                ("lost", format!("{} %", 100.0 * self.lost)),
                ("frames' age", format!("{} ms", self.frames_age_ms)),
                ("prefix every", self.prefix_every.to_string()),
                ("outage", format!("{} ms", self.outage_ms)),
                ("guidance horizon", self.guidance_horizon.to_string()),
                ("limits", if self.unlimited { "none" } else { "profile" }.to_owned()),
            ]);
        }
        Named(named)
    }
}
