//! Time of the Euler steps, in the form in which the action expert takes it; all of it computed at load.
//!
//! π0: the time embedding, which [`suffix`](super::suffix) joins to the actions. π0.5: a condition made of it, from
//! which every norm of the expert takes scale, shift and gate ([`norm`](super::norm)): "adaRMS", `pi_gemma.py:
//! PiGemmaRMSNorm` and `modeling_pi05.py: embed_suffix` of lerobot.

use std::time::Instant;

use super::common::{time_embedding, time_of_step};
use super::error::ModelError;
use super::ledger::{HostWork, Ledger};
use super::load::Loader;
use crate::checkpoint::{Conditioning, Tensor};

/// The times of a chunk's steps.
pub struct Times {
    /// Sinusoidal embedding of every step, `[expert_width]` each; behind them that of time 0, if the model was trained to
    /// continue actions (training-time real-time chunking).
    pub embeddings: Vec<Vec<f32>>,
    /// Conditions of the expert's norms; `None`: they have none.
    pub conditions: Option<Conditions>,
}

/// Conditions of the expert's norms, `[expert_width]` each.
pub struct Conditions {
    /// Of every embedding.
    pub rows: Vec<Vec<f32>>,
    /// Steps.
    pub steps: usize,
}

/// The times of a chunk's rows in one step.
#[derive(Clone, Copy, Debug)]
pub struct RowTimes {
    /// The step, whose time rows have.
    pub step: usize,
    /// How many of the first rows are actions already: their time is 0.
    pub finished: usize,
}

impl RowTimes {
    /// All rows have a step's.
    pub fn step(step: usize) -> Self {
        Self { step, finished: 0 }
    }
}

impl Times {
    /// Computes the embeddings or conditions of `steps` Euler steps.
    pub fn load(loader: &mut Loader<'_>, steps: usize, ledger: &mut Ledger) -> Result<Self, ModelError> {
        let start = Instant::now();
        let arch = loader.checkpoint.arch();
        let embed = |step| time_embedding(time_of_step(step, steps), arch.expert_width);
        let mut embeddings: Vec<Vec<f32>> = (0..steps).map(embed).collect();
        if arch.trained_delay > 0 {
            embeddings.push(time_embedding(0.0, arch.expert_width));
        }
        let conditions = match arch.variant.conditioning {
            Conditioning::Concatenated => None,
            Conditioning::AdaptiveNorms => Some(Conditions { rows: conditions(loader, &embeddings)?, steps }),
        };
        ledger.enter_host(HostWork::TimeEmbedding, steps, start);
        Ok(Self { embeddings, conditions })
    }
}

/// `silu(W_out·silu(W_in·e + b_in) + b_out)` of every embedding e.
fn conditions(loader: &mut Loader<'_>, embeddings: &[Vec<f32>]) -> Result<Vec<Vec<f32>>, ModelError> {
    let mut rows = embeddings.to_vec();
    for name in ["time_mlp_in", "time_mlp_out"] {
        let bias = loader.values(&format!("{name}.bias"))?;
        rows = dense(loader.tensor(&format!("{name}.weight"))?, &bias, &rows);
        rows.iter_mut().flatten().for_each(|y| *y /= 1.0 + (-*y).exp());
    }
    Ok(rows)
}

/// `x·Wᵀ + b` of every row x, in f32 on the host. `weight` is `[outputs, inputs]`; it is read once, by all cores.
pub fn dense(weight: &Tensor, bias: &[f32], rows: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let (outputs, inputs) = (weight.rows(), weight.cols());
    // Rows of weights that are worth a thread.
    const LEAST: usize = 256;
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let share = outputs.div_ceil(cores).max(LEAST);
    let part = |from: usize| -> Vec<Vec<f32>> {
        let to = (from + share).min(outputs);
        let mut y = vec![Vec::with_capacity(to - from); rows.len()];
        let mut w = vec![0.0; inputs];
        for (n, bias) in (from..to).zip(&bias[from..to]) {
            weight.read_f32(n * inputs..(n + 1) * inputs, &mut w);
            for (y, x) in y.iter_mut().zip(rows) {
                y.push(dot(&w, x) + bias);
            }
        }
        y
    };
    let parts: Vec<Vec<Vec<f32>>> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..outputs).step_by(share).map(|from| scope.spawn(move || part(from))).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(join).collect()
    });
    (0..rows.len()).map(|r| parts.iter().flat_map(|part| &part[r]).copied().collect()).collect()
}

/// Sum of products, in as many strands as fill vectors.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    const STRANDS: usize = 16;
    let (a, a_rest) = a.as_chunks::<STRANDS>();
    let (b, b_rest) = b.as_chunks::<STRANDS>();
    let mut sums = [0.0; STRANDS];
    for (a, b) in a.iter().zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}
