//! A policy whose flow is known exactly: its chunks are normally distributed around a trajectory.

use std::f64::consts::{PI, TAU};

use pi0rt::model::Rtc;
use pi0rt::model::common::{noise, time_of_step};
use pi0rt::model::denoise::{guidance_weight, row_weights};

use super::args::Args;

/// Rows of a chunk.
pub const ROWS: usize = 50;
/// Joints, in rad.
pub const JOINTS: usize = 6;
/// Values of a row: the joints and the gripper, which is open from 0.5 on.
pub const WIDTH: usize = JOINTS + 1;
/// Standard deviation of an action, which is 1 for the model.
pub const SCALE: f64 = 0.28;
/// Euler steps of a chunk.
const STEPS: usize = 10;

/// Where the robot should be after so many seconds.
pub fn trajectory(seconds: f64) -> [f64; WIDTH] {
    const PERIODS: [f64; WIDTH] = [2.0, 2.7, 3.3, 4.1, 5.2, 6.1, 7.3];
    std::array::from_fn(|i| match (seconds / PERIODS[i] + i as f64 / 7.0).fract() * TAU {
        angle if i < JOINTS => 0.4 * angle.sin(),
        angle => 0.5 + 0.45 * angle.sin(),
    })
}

/// Random fate of one request.
#[derive(Clone, Copy, Debug)]
pub struct Fate {
    /// Time from the observation to the chunk, ns.
    pub delay_ns: u64,
    /// True if the chunk never arrives.
    pub lost: bool,
}

impl Fate {
    /// That of the given request.
    pub fn of(args: &Args, request: u64) -> Fate {
        let mut state = stream(args.seed, request, 0);
        let mut uniform = || {
            // splitmix64.
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 11) as f64 * 2f64.powi(-53)
        };
        let delay_ms = args.delay_ms + args.jitter_ms * (2.0 * uniform() - 1.0);
        Fate { delay_ns: (delay_ms * 1e6) as u64, lost: uniform() < args.lost }
    }
}

/// Another seed for each use of chance in each request.
fn stream(seed: u64, request: u64, of: u64) -> u64 {
    seed.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(request).wrapping_mul(4).wrapping_add(of)
}

/// Computes the chunk of an observation taken after so many seconds, `[ROWS, WIDTH]`: Euler steps of the flow
/// from noise, as the model takes them.
pub fn chunk(args: &Args, request: u64, seconds: f64, rtc: Option<&Rtc<'_>>) -> Vec<f32> {
    let rows = (0..ROWS).flat_map(|row| trajectory(seconds + row as f64 / args.rate));
    let mean: Vec<f32> = rows.map(|value| (value / SCALE) as f32).collect();
    let mut weights = vec![0.0; ROWS];
    if let Some(rtc) = rtc {
        let rows = rtc.left_over.len() / WIDTH;
        row_weights(rtc.schedule, rtc.delay, rtc.horizon.min(rows), &mut weights);
    }
    let (mut x, mut expected) = (vec![0.0; ROWS * WIDTH], vec![0.0; ROWS * WIDTH]);
    noise(stream(args.seed, request, 1), &mut x);
    let dt = -1.0 / STEPS as f32;
    for step in 0..STEPS {
        let t = time_of_step(step, STEPS);
        expect(args.noise / SCALE, &x, &mean, t.into(), &mut expected);
        for (i, (x, expected)) in x.iter_mut().zip(&expected).enumerate() {
            let mut v = (*x - expected) / t;
            if let Some(rtc) = rtc {
                let last = rtc.left_over.len() - WIDTH + i % WIDTH;
                let left_over = rtc.left_over.get(i).unwrap_or(&rtc.left_over[last]);
                let x_hat = *x - t * v;
                v -= guidance_weight(t, rtc.max_weight) * weights[i / WIDTH] * (left_over - x_hat);
            }
            *x += dt * v;
        }
    }
    x
}

/// Writes E[chunk | x], x being `t·noise + (1 - t)·chunk`. Chunks are normally distributed around `mean`: for each
/// value of a row an offset c₀ + c₁·cos(πr/(ROWS - 1)) over the rows r, of standard deviation `sigma`, and a
/// 20th of it for each row.
fn expect(sigma: f64, x: &[f32], mean: &[f32], t: f64, out: &mut [f32]) {
    let offset = |r: usize| (PI * r as f64 / (ROWS - 1) as f64).cos();
    let norms = [ROWS as f64, (0..ROWS).map(|r| offset(r).powi(2)).sum()];
    let own = (sigma / 20.0).powi(2);
    // Part of a deviation of x that is the chunk's, by the variance of the chunk in that direction.
    let gain = |variance: f64| (1.0 - t) * variance / ((1.0 - t).powi(2) * variance + t * t);
    let rest = gain(own);
    // The mean of 1 + cos² is 1.5.
    let gains = norms.map(|norm| gain(sigma * sigma / 1.5 * norm + own) - rest);
    for i in 0..WIDTH {
        let away = |r: usize| f64::from(x[r * WIDTH + i]) - (1.0 - t) * f64::from(mean[r * WIDTH + i]);
        let along = |shape: &dyn Fn(usize) -> f64, norm: f64| {
            (0..ROWS).map(|r| shape(r) * away(r)).sum::<f64>() / norm
        };
        let (level, slope) = (along(&|_| 1.0, norms[0]), along(&offset, norms[1]));
        for r in 0..ROWS {
            let shape = gains[0] * level + gains[1] * slope * offset(r);
            out[r * WIDTH + i] = (f64::from(mean[r * WIDTH + i]) + rest * away(r) + shape) as f32;
        }
    }
}
