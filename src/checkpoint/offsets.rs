//! Tells from statistics whether actions are commands or offsets from the state.
//!
//! openpi trains on offsets if `DeltaActions` is part of a robot's transforms, and its statistics are then
//! those of the offsets. Nothing else in its directory tells the two apart.

use super::normalization::{NormMode, Normalization};
use super::processing::Processing;

/// Distance from 0, in standard deviations, at which a mean can't be that of an offset.
const FAR: f64 = 0.25;

/// Mean and standard deviation of each dimension; empty for other statistics.
fn means(normalization: &Normalization) -> impl Iterator<Item = (f64, f64)> {
    let [mean, std] = &normalization.statistics;
    let pairs = mean.iter().copied().zip(std.iter().copied());
    pairs.filter(|_| normalization.mode == NormMode::MeanStd)
}

/// See [`Checkpoint::rules_out_offsets`](super::Checkpoint::rules_out_offsets).
pub(super) fn ruled_out(processing: &Processing) -> bool {
    let Some(action) = &processing.action else { return false };
    let (mut moving, mut far) = (0, 0);
    // Dimensions that never moved give no evidence.
    for (mean, std) in means(action).filter(|(_, std)| *std > 0.0) {
        moving += 1;
        far += usize::from(mean.abs() >= FAR * std);
    }
    far >= 3 && 2 * far >= moving
}

/// A suggestion for a message, if the statistics look like those of offsets.
pub(super) fn hint(processing: &Processing) -> Option<String> {
    let (state, action) = (processing.state.as_ref()?, processing.action.as_ref()?);
    // Most joints are far from 0, and the actions' means are close to 0.
    let dimensions = means(state).zip(means(action));
    let mut moving = 0;
    let offsets = dimensions
        .filter(|((_, state), (_, action))| *state > 0.0 && *action > 0.0)
        .inspect(|_| moving += 1)
        .filter(|((mean, std), (offset, spread))| mean.abs() >= FAR * std && offset.abs() < 0.1 * spread);
    let offsets = offsets.count();
    (offsets >= 3 && 2 * offsets > moving).then(|| {
        format!(
            "; its statistics look like those of offsets from the state: {offsets} of {moving} actions have a mean \
             near 0 where the state's is not (add_state in the profile's action.steps)"
        )
    })
}
