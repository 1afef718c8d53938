//! Tests of the player as a client uses it.

mod bad_input;
mod commands;
mod entries;
mod going_on;
mod interpolations;
mod random;
mod seams;
mod stages;
mod starts;
mod submits;

use super::*;
use crate::control::{Limits, Quantity};

const MS: u64 = 1_000_000;
/// When the chunks of most tests were observed.
const T0: u64 = 5_000 * MS;

/// Dimensions of this quantity without limits.
fn dimensions<const N: usize>(quantity: Quantity) -> Vec<DimensionSettings> {
    vec![DimensionSettings { quantity, ..DimensionSettings::default() }; N]
}

/// Limits of a dimension; NaN: none.
fn limits(position: [f32; 2], velocity: f32, acceleration: f32) -> Limits {
    let some = |limit: f32| (!limit.is_nan()).then_some(limit);
    Limits {
        position: (!position[0].is_nan()).then_some(position),
        velocity: some(velocity),
        acceleration: some(acceleration),
    }
}

const NONE: f32 = f32::NAN;
const ANYWHERE: [f32; 2] = [f32::NAN; 2];

/// One position with these limits, chunks at 50 Hz.
fn one(limits: Limits) -> Settings {
    let dimension =
        DimensionSettings { quantity: Quantity::Position, limits, ..DimensionSettings::default() };
    Settings { resume_ns: 0, ..Settings::new(50.0, 10, vec![dimension]) }
}

fn player(settings: &Settings) -> Player {
    Player::new(settings).expect("settings are right")
}

/// Adopts a chunk with its number as its ticket.
fn adopt(player: &mut Player, chunk: u64, observed_ns: u64, actions: &[f32]) {
    let width = player.settings().dimensions.len();
    let header = ChunkHeader {
        ticket: chunk,
        chunk,
        observed_ns,
        horizon: (actions.len() / width) as u32,
        action_dim: width as u32,
        ..ChunkHeader::default()
    };
    player.adopt(&header, None, actions).expect("chunk is right");
}

/// The answer at a moment, with command and derivative.
fn at<const N: usize>(player: &mut Player, t_ns: u64) -> (Answer, [f32; N], [f32; N]) {
    let (mut action, mut velocity) = ([f32::NAN; N], [f32::NAN; N]);
    let answer = player.answer(t_ns, false, &mut action, Some(&mut velocity));
    (answer, action, velocity)
}

/// The answer and the command of the only dimension.
fn at1(player: &mut Player, t_ns: u64) -> (Answer, f32) {
    let (answer, [action], _) = at(player, t_ns);
    (answer, action)
}

fn near(got: f64, expected: f64, within: f64) {
    assert!((got - expected).abs() <= within, "{got} is not {expected} within {within}");
}
