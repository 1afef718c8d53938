//! A model's needs of a Tenstorrent board, and the time a chunk can be expected to take,
//! before a card is opened.
//!
//! The list of operations is the model's own: [`Pi0`] is loaded onto a device that computes nothing
//! and writes down what it is asked (`trace.rs`), so a plan can't drift from the forward pass.
//! [`memory`] adds up DRAM and L1, [`cost`] holds the operations against the board's rates, [`program`] tells how long one
//! program takes.
//!
//! ```
//! use pi0rt::{checkpoint::Arch, plan::{Config, fits}, tenstorrent::Board};
//! let plan = fits(&Board::P150, &Arch::full(), &Config::default())?;
//! assert!(plan.total.bound_ms < plan.total.expected_ms);
//! # Ok::<(), pi0rt::device::DeviceError>(())
//! ```

pub mod cost;
mod ours;
mod phase;
mod port;
pub mod program;
mod published;
mod recordings;
mod trace;

use serde::Serialize;

pub use crate::checkpoint::Part;
use crate::checkpoint::{Arch, Checkpoint, StateInput};
pub use crate::device::ttnn::memory::{self, Format};
use crate::device::{Demand, DeviceError};
use crate::model::{Inputs, Ledger, ModelError, Pi0};
use crate::tenstorrent::Board;
use cost::{Cost, Line};
use memory::{Formats, Memory, Room};
pub use phase::Phase;
pub use port::Port;
pub use published::Published;
pub use recordings::Recordings;
use trace::{Trace, TracedChunk};

/// Shape of the chunk to plan, and its formats.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Config {
    /// Number of cameras present.
    pub cameras: usize,
    /// Text tokens; `None`: as many as a prompt may have.
    pub tokens: Option<usize>,
    /// Euler steps; `None`: the model's.
    pub steps: Option<usize>,
    /// Bytes of DRAM kept for captured traces.
    pub trace_region: u64,
    /// Chunks are recorded with guidance too: the daemon's default.
    pub guided: bool,
    /// Chunks are recorded with a kept prefix too: `policy.prefix_every` above 1. The prefix of a model whose prompt tells
    /// the state is never kept.
    pub keeps_prefix: bool,
    formats: Formats,
}

impl Default for Config {
    /// Three cameras, bfp8 weights at HiFi2; the embedding table in bf16, the suffix in f32.
    fn default() -> Self {
        let formats = Formats::default();
        Self {
            cameras: 3,
            tokens: None,
            steps: None,
            trace_region: memory::TRACE_REGION,
            guided: true,
            keeps_prefix: false,
            formats,
        }
    }
}

impl Config {
    /// The formats of a part.
    pub fn format(&self, part: Part) -> Format {
        self.formats.of(part)
    }

    /// The formats of a part, to change.
    pub fn format_mut(&mut self, part: Part) -> &mut Format {
        self.formats.of_mut(part)
    }
}

/// A model on a board.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// The board.
    pub board: Board,
    /// Number of cameras present.
    pub cameras: usize,
    /// Number of text tokens.
    pub tokens: usize,
    /// Number of Euler steps.
    pub steps: usize,
    /// Use of DRAM and L1.
    pub memory: Memory,
    /// Costs of one chunk, by phase and part, in the order of the forward pass.
    pub lines: Vec<Line>,
    /// Cost of a whole chunk.
    pub total: Cost,
    /// Cost of one Euler step.
    pub step: Cost,
    /// Recordings that the device makes.
    pub recordings: Recordings,
    /// The maker's published times of this chunk; None: none is known here.
    pub published: Option<Published>,
}

impl Plan {
    /// Everything before the Euler steps and the state.
    pub fn prefix(&self) -> Cost {
        self.sum(|phase| !matches!(phase, Phase::State | Phase::Denoise))
    }

    /// Cost of these phases.
    pub fn of(&self, phases: &[Phase]) -> Cost {
        self.sum(|phase| phases.contains(&phase))
    }

    fn sum(&self, which: impl Fn(Phase) -> bool) -> Cost {
        self.lines.iter().filter(|line| which(line.phase)).fold(Cost::default(), |sum, line| sum + line.cost)
    }
}

/// Plans a model of these sizes on a board.
///
/// # Errors
/// [`DeviceError::Memory`], with the figures, if DRAM or a core's L1 is too small;
/// [`DeviceError::Unsupported`] if the model can't be run as `config` says.
pub fn fits(board: &Board, arch: &Arch, config: &Config) -> Result<Plan, DeviceError> {
    let plan = plan(board, arch, config)?;
    plan.memory.check(board)?;
    Ok(plan)
}

/// The demand of a model of these sizes on a device whose hardware has that name.
///
/// # Errors
/// [`DeviceError::Unsupported`] if no device can run it.
pub fn demand(hardware: &str, arch: &Arch, cameras: usize) -> Result<Demand, DeviceError> {
    record(hardware, arch, &Config { cameras, ..Config::default() }).map(|record| record.demand)
}

/// Boards that a model can be held against without having one, by the name of their device.
pub fn boards(device: &str) -> &'static [Board] {
    match device {
        "ttnn" => &[Board::N150, Board::N300, Board::P150],
        _ => &[],
    }
}

/// As [`fits`], for a model that need not fit.
///
/// # Errors
/// [`DeviceError::Unsupported`] if the model can't be run as `config` says.
pub fn plan(board: &Board, arch: &Arch, config: &Config) -> Result<Plan, DeviceError> {
    let tokens = config.tokens.unwrap_or(arch.tokenizer_max_length);
    let steps = config.steps.unwrap_or(arch.num_inference_steps);
    let record = record(board.name, arch, config)?;
    let room = Room { board: *board, trace_region: config.trace_region, formats: config.formats };
    let lines = cost::lines(&room, &record);
    let sum = |phase: Option<Phase>| {
        let chosen = lines.iter().filter(|l| phase.is_none_or(|p| p == l.phase));
        chosen.fold(Cost::default(), |sum, line| sum + line.cost)
    };
    let (total, denoise) = (sum(None), sum(Some(Phase::Denoise)));
    let keeps_prefix = config.keeps_prefix && arch.variant.state == StateInput::Token;
    Ok(Plan {
        board: *board,
        cameras: config.cameras,
        tokens,
        steps,
        memory: room.memory(&record.demand),
        recordings: Recordings::of(
            (total, denoise + sum(Some(Phase::State))),
            (config.cameras, steps),
            (config.guided, keeps_prefix),
            config.trace_region,
        ),
        published: published::published(board, arch, config.cameras, steps),
        total,
        step: denoise / steps,
        lines,
    })
}

/// One chunk of a model of these sizes, written down.
fn record(hardware: &str, arch: &Arch, config: &Config) -> Result<TracedChunk, DeviceError> {
    let tokens = config.tokens.unwrap_or(arch.tokenizer_max_length);
    let steps = config.steps.unwrap_or(arch.num_inference_steps);
    let chunk = Checkpoint::blank(arch, config.cameras)
        .map_err(Box::from)
        .and_then(|checkpoint| trace(&checkpoint, config.cameras, tokens, steps).map_err(Box::from));
    let refuse = |why: Box<dyn std::error::Error>| DeviceError::Unsupported {
        what: "this model".into(),
        device: hardware.into(),
        why: why.to_string(),
    };
    chunk.map(|(record, _)| record).map_err(refuse)
}

/// One chunk of a checkpoint's model, written down, and its ledger.
fn trace(
    checkpoint: &Checkpoint,
    cameras: usize,
    tokens: usize,
    steps: usize,
) -> Result<(TracedChunk, Ledger), ModelError> {
    let arch = checkpoint.arch();
    let mut trace = Trace::new(arch);
    let mut model = Pi0::load(checkpoint, Box::new(trace.clone()), steps)?;
    let images = vec![0.0; cameras * 3 * arch.image_size * arch.image_size];
    let mut actions = vec![0.0; arch.chunk_size * arch.max_action_dim];
    let inputs = Inputs {
        images: &images,
        tokens: &vec![0; tokens],
        state: &vec![0.0; arch.state_input()],
        noise: &actions.clone(),
        rtc: None,
    };
    model.sample_with(&inputs, &mut actions, Some(&mut trace))?;
    Ok((std::mem::take(&mut *trace.record()), model.ledger().clone()))
}

#[cfg(test)]
mod tests;
