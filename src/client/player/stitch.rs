//! How one chunk follows another, and how motion is taken up again after a fall-back.

use super::chunks::{Chunks, Kept, sample};
use super::limits::Target;
use super::settings::{MAX_BLENDED, Stitching};
use crate::control::Interpolation;

/// Weight of a new trajectory, and its derivative per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Weight {
    pub value: f64,
    slope: f64,
}

impl Weight {
    /// The weight at `t_ns` of a trajectory that takes over within `ns` from `since_ns` on: 3s² − 2s³.
    pub fn at(t_ns: u64, since_ns: u64, ns: u64) -> Weight {
        let passed_ns = t_ns.saturating_sub(since_ns);
        if passed_ns >= ns {
            return Weight { value: 1.0, slope: 0.0 };
        }
        let s = passed_ns as f64 / ns as f64;
        Weight { value: s * s * (3.0 - 2.0 * s), slope: 6.0 * s * (1.0 - s) / (ns as f64 * 1e-9) }
    }

    /// Between an old and a new trajectory. What switches does so in the middle.
    #[inline]
    pub fn between(self, old: Target, new: Target, switches: bool) -> Target {
        if switches {
            return if self.value < 0.5 { old } else { new };
        }
        let apart = new.value - old.value;
        Target {
            value: old.value + self.value * apart,
            slope: old.slope + self.value * (new.slope - old.slope) + self.slope * apart,
        }
    }
}

/// A stitching with the chunks it needs and its weights.
#[derive(Clone, Debug)]
pub(super) struct Stitcher {
    stitching: Stitching,
    /// Weights of an ensemble's chunks, from the oldest.
    weights: [f64; MAX_BLENDED],
}

impl Stitcher {
    pub fn new(stitching: Stitching) -> Stitcher {
        let m = if let Stitching::Ensemble { m } = stitching { m } else { 0.0 };
        Stitcher { stitching, weights: std::array::from_fn(|i| (-m * i as f64).exp()) }
    }

    /// Number of chunks to be kept.
    pub fn chunks(&self) -> usize {
        match self.stitching {
            Stitching::Replace => 1,
            Stitching::Crossfade { .. } | Stitching::Ensemble { .. } => MAX_BLENDED,
        }
    }

    /// Plays a chunk from `t_ns` on, stitched to those that are played.
    pub fn play(&self, chunks: &mut Chunks, mut kept: Kept, t_ns: u64) {
        kept.played_ns = t_ns;
        match self.stitching {
            Stitching::Replace => chunks.clear(),
            Stitching::Ensemble { .. } if chunks.is_full() => chunks.drop_oldest(1),
            Stitching::Ensemble { .. } => {}
            Stitching::Crossfade { ns } => {
                kept.fade_ns = ns;
                let whole = chunks.played().iter().rposition(|kept| weight(kept, t_ns).value == 1.0);
                chunks.drop_oldest(whole.unwrap_or(0));
                if chunks.is_full() {
                    // It has begun less than a 15th of its time ago: of all it has the smallest weight.
                    chunks.drop_newest();
                }
            }
        }
        chunks.play(kept);
    }

    /// Writes what the chunks say of a moment, after their stitching. There is at least one chunk.
    pub fn evaluate(
        &self,
        chunks: &Chunks,
        interpolations: &[Interpolation],
        t_ns: u64,
        targets: &mut [Target],
    ) {
        match self.stitching {
            Stitching::Ensemble { .. } => self.ensemble(chunks, interpolations, t_ns, targets),
            _ => fade(chunks, interpolations, t_ns, targets),
        }
    }

    /// The weighted mean over the chunks that have a row for the moment.
    #[inline(never)]
    fn ensemble(&self, chunks: &Chunks, interpolations: &[Interpolation], t_ns: u64, targets: &mut [Target]) {
        let covering = || chunks.played().iter().filter(|kept| t_ns <= kept.end_ns);
        let count = covering().count();
        let sum: f64 = self.weights[..count].iter().sum();
        targets.fill(Target::default());
        for (kept, weight) in covering().zip(&self.weights) {
            let (rows, at, part) = (chunks.rows(kept), chunks.moment(kept, t_ns), weight / sum);
            for (column, (target, &interpolation)) in targets.iter_mut().zip(interpolations).enumerate() {
                let new = sample(rows, interpolations.len(), column, &at, interpolation);
                target.value += part * new.value;
                target.slope += part * new.slope;
            }
        }
        // The mean decides on which side a gripper is, the newest chunk on that side where it is.
        for (column, (target, &interpolation)) in targets.iter_mut().zip(interpolations).enumerate() {
            let Interpolation::Switch { threshold } = interpolation else { continue };
            let above = target.value >= f64::from(threshold);
            let values = covering().rev().map(|kept| {
                let at = chunks.moment(kept, t_ns);
                sample(chunks.rows(kept), interpolations.len(), column, &at, interpolation)
            });
            if let Some(side) = { values }.find(|new| (new.value >= f64::from(threshold)) == above) {
                *target = side;
            }
        }
    }
}

/// Weight of a chunk over those before it.
fn weight(kept: &Kept, t_ns: u64) -> Weight {
    Weight::at(t_ns, kept.played_ns, kept.fade_ns)
}

/// The newest chunk, or, while it takes over, between it and those before it.
fn fade(chunks: &Chunks, interpolations: &[Interpolation], t_ns: u64, targets: &mut [Target]) {
    let width = interpolations.len();
    let first = chunks.played().iter().rposition(|kept| weight(kept, t_ns).value == 1.0).unwrap_or(0);
    for (index, kept) in chunks.played()[first..].iter().enumerate() {
        let (rows, at, weight) = (chunks.rows(kept), chunks.moment(kept, t_ns), weight(kept, t_ns));
        for (column, (target, &interpolation)) in targets.iter_mut().zip(interpolations).enumerate() {
            let new = sample(rows, width, column, &at, interpolation);
            let switches = matches!(interpolation, Interpolation::Switch { .. });
            *target = if index == 0 { new } else { weight.between(*target, new, switches) };
        }
    }
}
