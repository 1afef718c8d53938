//! Checks of what a chunk is computed from, and of the chunk.

use super::error::{BadObservation, PolicyError};
use crate::model::Rtc;

/// A number of values, all finite.
pub fn check_values(what: &'static str, values: &[f32], expected: usize) -> Result<(), BadObservation> {
    let error = |got, expected| Err(BadObservation::Input { what, got, expected });
    if values.len() != expected {
        return error(format!("has {} values", values.len()), expected.to_string());
    }
    match values.iter().position(|value| !value.is_finite()) {
        Some(i) => error(format!("has {:?} at {i}", values[i]), "finite numbers".into()),
        None => Ok(()),
    }
}

/// A left-over, and the weight of guidance by it.
pub fn check_guidance(rtc: &Rtc<'_>, horizon: usize, width: usize) -> Result<(), BadObservation> {
    check_left_over(rtc.left_over, horizon, width)?;
    if !(rtc.max_weight >= 0.0 && rtc.max_weight.is_finite()) {
        let got = format!("is {:?}", rtc.max_weight);
        return Err(BadObservation::Input { what: "guidance weight", got, expected: "0 or more".into() });
    }
    Ok(())
}

/// Whole rows of finite values, no more than a chunk has.
pub fn check_left_over(left_over: &[f32], horizon: usize, width: usize) -> Result<(), BadObservation> {
    let (what, rows) = ("left-over chunk", left_over.len() / width);
    if !(1..=horizon).contains(&rows) || left_over.len() != rows * width {
        let got = format!("has {} values", left_over.len());
        return Err(BadObservation::Input { what, got, expected: format!("1 to {horizon} rows of {width}") });
    }
    check_values(what, left_over, rows * width)
}

/// A chunk of finite values.
pub fn check_chunk(actions: &[f32], width: usize) -> Result<(), PolicyError> {
    match actions.iter().position(|value| !value.is_finite()) {
        Some(i) => Err(PolicyError::InvalidChunk { row: i / width, dimension: i % width, value: actions[i] }),
        None => Ok(()),
    }
}
