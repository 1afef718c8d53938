//! Options of `pi0rt bench player`.

use std::path::PathBuf;

use clap::ValueEnum;

/// Measure the seams between chunks, for each way in which one chunk follows another
///
/// Chunks of a known, smooth trajectory of six joints and a gripper, each with an offset and noise of its own,
/// arrive late, irregularly, or not at all. The client's player plays them in simulated time: the same options
/// always give the same figures. All modes get chunks of the same noise. Guidance is the daemon's and the
/// model's own: ten Euler steps of the exact flow of such a policy, towards what is left of the previous chunk.
#[derive(clap::Args)]
pub struct Args {
    /// Rows of a chunk per second
    #[arg(long, value_name = "HZ", default_value_t = 50.0, value_parser = number::<1, 1000>)]
    pub rate: f64,
    /// Commands per second
    #[arg(long, value_name = "HZ", default_value_t = 1000.0, value_parser = number::<1, 10_000>)]
    pub control_hz: f64,
    /// Time from an observation to its chunk
    #[arg(long, value_name = "MS", default_value_t = 160.0, value_parser = number::<0, 10_000>)]
    pub delay_ms: f64,
    /// Largest deviation from that time, uniformly distributed
    #[arg(long, value_name = "MS", default_value_t = 20.0, value_parser = number::<0, 10_000>)]
    pub jitter_ms: f64,
    /// Standard deviation of the policy's chunks from the trajectory; a row's own noise is a 20th of it
    #[arg(long, value_name = "RAD", default_value_t = 0.02, value_parser = number::<0, 10>)]
    pub noise: f64,
    /// Share of chunks that never arrive
    #[arg(long, value_name = "SHARE", default_value_t = 0.05, value_parser = number::<0, 1>)]
    pub lost: f64,
    /// Simulated time
    #[arg(long, value_name = "S", default_value_t = 60.0, value_parser = number::<1, 600>)]
    pub seconds: f64,
    /// Seed of all that is random
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Values between two rows
    #[arg(long, value_enum, default_value_t = Between::Linear)]
    pub interpolation: Between,
    /// Limits of the joints' velocity and acceleration, rad/s and rad/s^2 [default: none]
    #[arg(long, value_name = "V,A", value_parser = bounds)]
    pub limits: Option<Bounds>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Write two seconds of the first joint as a picture
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Between {
    /// The earlier row
    Hold,
    /// The straight line
    Linear,
    /// A spline with continuous velocity
    Cubic,
}

/// Upper bounds of a joint's motion.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Bounds {
    pub velocity: f32,
    pub acceleration: f32,
}

/// Parses a number from `LOW` to `HIGH`.
fn number<const LOW: u32, const HIGH: u32>(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|e| format!("{e}"))?;
    match (f64::from(LOW)..=f64::from(HIGH)).contains(&number) {
        true => Ok(number),
        false => Err(format!("expected {LOW} to {HIGH}")),
    }
}

fn bounds(text: &str) -> Result<Bounds, String> {
    let expected = || "expected two numbers above 0, such as 2,20".to_string();
    let (velocity, acceleration) = text.split_once(',').ok_or_else(expected)?;
    let bound = |text: &str| {
        text.parse().ok().filter(|bound: &f32| bound.is_finite() && *bound > 0.0).ok_or_else(expected)
    };
    Ok(Bounds { velocity: bound(velocity)?, acceleration: bound(acceleration)? })
}
