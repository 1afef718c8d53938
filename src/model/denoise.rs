//! Flow matching: Euler integration from noise to actions, and real-time chunking guidance.

use super::attention::Sequence;
use super::common::time_of_step;
use super::error::ModelError;
use super::ledger::Module;
use super::load::{Loader, Slot};
use super::ops::Ops;
use super::paligemma::Backbone;
use super::suffix::Suffix;
use super::tap::{Source, Stage};
use super::time::RowTimes;
use super::{Rtc, RtcMode, RtcSchedule};
use crate::device::{Blend, Epilogue, Role, Vector, View, Weight};

/// The integration loop, its state and the projection of the expert's output to velocities.
pub struct Denoise {
    action_out: (Weight, Vector),
    steps: usize,
    x: Slot,
    v: Slot,
    noise: Slot,
    left_over: Slot,
    row_weights: Slot,
    /// Staging for the padded left-over and its weights, so that writing them allocates nothing.
    padded: Vec<f32>,
    weights: Vec<f32>,
}

impl Denoise {
    /// Loads the output projection; `steps` Euler steps.
    pub fn load(loader: &mut Loader<'_>, steps: usize) -> Result<Self, ModelError> {
        let arch = loader.checkpoint.arch().clone();
        let (rows, width) = (arch.chunk_size, arch.max_action_dim);
        Ok(Self {
            action_out: (loader.weight(&["action_out_proj"])?, loader.vector(&["action_out_proj.bias"])?),
            steps,
            x: loader.buffer(Role::Stream, rows, width)?,
            v: loader.buffer(Role::Stream, rows, width)?,
            noise: loader.buffer(Role::Stream, rows, width)?,
            left_over: loader.buffer(Role::Stream, rows, width)?,
            row_weights: loader.buffer(Role::Stream, rows, 1)?,
            padded: vec![0.0; rows * width],
            weights: vec![0.0; rows],
        })
    }

    /// The integration's state: noise before the first step, actions after the last.
    pub fn x(&self) -> View {
        self.x.all()
    }

    /// Noise and guidance of a chunk onto the device.
    pub fn write(
        &mut self,
        ops: &mut Ops<'_>,
        noise: &[f32],
        rtc: Option<&Rtc<'_>>,
    ) -> Result<(), ModelError> {
        ops.write(noise, self.noise.all())?;
        rtc.map_or(Ok(()), |rtc| self.write_guidance(ops, rtc))
    }

    /// The left-over of a chunk before onto the device, and its weights. It is padded with its last row: zero
    /// would be the data set's mean action.
    fn write_guidance(&mut self, ops: &mut Ops<'_>, rtc: &Rtc<'_>) -> Result<(), ModelError> {
        let width = self.left_over.cols;
        let rows = rtc.left_over.len() / width;
        let last = &rtc.left_over[(rows - 1) * width..];
        for (r, row) in self.padded.chunks_exact_mut(width).enumerate() {
            row.copy_from_slice(rtc.left_over.get(r * width..(r + 1) * width).unwrap_or(last));
        }
        row_weights(rtc.schedule, rtc.delay, rtc.horizon.min(rows), &mut self.weights);
        ops.write(&self.padded, self.left_over.all())?;
        ops.write(&self.weights, self.row_weights.all())?;
        Ok(())
    }

    /// Integrates the noise that was written to actions in [`x`](Self::x). A prefix stays as it is, at time 0
    /// (`flow_matching.py: euler_integrate` of lerobot).
    pub fn integrate(
        &self,
        mut ops: Ops<'_>,
        backbone: &Backbone,
        suffix: &Suffix,
        sequence: Sequence,
        rtc: RtcMode,
    ) -> Result<(), ModelError> {
        let (x, v) = (self.x.all(), self.v.all());
        let dt = -1.0 / self.steps as f32;
        let finished = rtc.prefix_rows();
        ops.copy(self.noise.all(), x)?;
        self.restore(&mut ops, finished)?;
        let mut ops = ops.within(Module::Denoise);
        for step in 0..self.steps {
            ops.stage(Stage::X(step), Source::View(x))?;
            let times = RowTimes { step, finished };
            let suffix = suffix.embed_actions(ops.within(Module::Suffix), x, times)?;
            let out = backbone.actions(ops.within(Module::Backbone), suffix, times, sequence)?;
            ops.linear(out, self.action_out.0, Some(self.action_out.1), Epilogue::Store, v)?;
            ops.stage(Stage::Velocity(step), Source::View(v))?;
            if let RtcMode::Guided { max_weight } = rtc {
                let time = time_of_step(step, self.steps);
                // With x̂ = x - t·v, where v leads: v -= g·w_row·(left_over - x̂).
                let args = Blend { alpha: time, beta: guidance_weight(time, max_weight) };
                ops.blend(v, x, self.left_over.all(), self.row_weights.all(), args)?;
            }
            ops.euler_step(x, v, dt)?;
            self.restore(&mut ops, finished)?;
        }
        ops.stage(Stage::Actions, Source::View(x))?;
        Ok(())
    }

    /// The first `rows` rows of x become the left-over's.
    fn restore(&self, ops: &mut Ops<'_>, rows: usize) -> Result<(), ModelError> {
        if rows == 0 {
            return Ok(());
        }
        Ok(ops.copy(self.left_over.first(rows), self.x.first(rows))?)
    }
}

/// g(t) of real-time chunking: with τ = 1 - t, `min(max, (1-τ)/τ · ((1-τ)² + τ²)/(1-τ)²)`,
/// `max` at τ = 0. Black, Galliker and Levine, "Real-Time Execution of Action Chunking Flow
/// Policies", 2025, eq. 2-4, as lerobot computes it.
pub fn guidance_weight(time: f32, max: f32) -> f32 {
    let (t, tau) = (f64::from(time), 1.0 - f64::from(time));
    if tau <= 0.0 {
        return max;
    }
    let r2 = (t * t + tau * tau) / (t * t);
    ((t / tau * r2) as f32).min(max)
}

/// Weight of every row of the left-over: 1 before `delay`, the schedule up to `horizon`, then 0.
pub fn row_weights(schedule: RtcSchedule, delay: usize, horizon: usize, out: &mut [f32]) {
    let delay = delay.min(horizon);
    for (j, w) in out.iter_mut().enumerate() {
        let linear = || (horizon - j) as f64 / (horizon - delay + 1) as f64;
        let weight = match schedule {
            _ if j < delay => 1.0,
            _ if j >= horizon => 0.0,
            RtcSchedule::Zeros => 0.0,
            RtcSchedule::Ones => 1.0,
            RtcSchedule::Linear => linear(),
            RtcSchedule::Exp => linear() * linear().exp_m1() / 1f64.exp_m1(),
        };
        *w = weight as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_weights_fall_from_delay_to_horizon() {
        let mut w = [9.0; 8];
        row_weights(RtcSchedule::Linear, 2, 5, &mut w);
        assert_eq!(w, [1.0, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0, 0.0]);
        row_weights(RtcSchedule::Ones, 2, 5, &mut w);
        assert_eq!(w, [1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0]);
        row_weights(RtcSchedule::Zeros, 2, 5, &mut w);
        assert_eq!(w, [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn exponential_weights_lie_below_the_linear_ones() {
        let (mut linear, mut exp) = ([0.0; 8], [0.0; 8]);
        row_weights(RtcSchedule::Linear, 1, 6, &mut linear);
        row_weights(RtcSchedule::Exp, 1, 6, &mut exp);
        assert!(linear[1..6].iter().zip(&exp[1..6]).all(|(l, e)| *e < *l && *e > 0.0));
    }

    #[test]
    fn a_delay_beyond_the_horizon_is_cut_to_it() {
        let mut w = [9.0; 4];
        row_weights(RtcSchedule::Linear, 7, 3, &mut w);
        assert_eq!(w, [1.0, 1.0, 1.0, 0.0]);
    }

    #[test]
    fn guidance_is_bounded_at_the_start_and_falls() {
        assert_eq!(guidance_weight(1.0, 10.0), 10.0);
        // τ = ½: 1 · (¼ + ¼)/¼
        assert_eq!(guidance_weight(0.5, 10.0), 2.0);
    }
}
