//! What a model will need of a Tenstorrent board, and how long a chunk can be expected to take,
//! before a card is opened.
//!
//! The list of operations is the model's own: [`Pi0`] is loaded onto a device that computes nothing
//! and writes down what it is asked (`trace.rs`), so a plan can't drift from the forward pass.
//! [`memory`] adds up DRAM and L1, [`cost`] holds the operations against the board's rates.
//!
//! ```
//! use pi0rt::{checkpoint::Arch, plan::{Config, fits}, tenstorrent::Board};
//! let plan = fits(&Board::P150, &Arch::full(), &Config::default())?;
//! assert!(plan.total.bound_ms < plan.total.expected_ms);
//! # Ok::<(), pi0rt::device::DeviceError>(())
//! ```

pub mod cost;
pub mod memory;
mod phase;
mod trace;

use serde::Serialize;

pub use crate::checkpoint::Part;
use crate::checkpoint::{Arch, Checkpoint};
use crate::device::{Capacity, DeviceError, HeadSide, PrecisionClass};
use crate::model::{Inputs, Ledger, ModelError, Pi0};
use crate::tenstorrent::{Board, Fidelity, WeightDtype};
use cost::{Cost, Line};
use memory::Memory;
pub use phase::Phase;
use trace::{Record, Trace};

/// What is to run, and with which formats.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Config {
    /// Cameras present.
    pub cameras: usize,
    /// Text tokens; `None`: as many as a prompt may have.
    pub tokens: Option<usize>,
    /// Euler steps; `None`: the model's.
    pub steps: Option<usize>,
    /// Bytes of DRAM kept for captured traces.
    pub trace_region: u64,
    formats: [Format; Part::ALL.len()],
}

/// How one part's products are computed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Format {
    /// Weights in DRAM.
    pub weights: WeightDtype,
    /// Passes of the matrix engine.
    pub fidelity: Fidelity,
}

impl Default for Config {
    /// Three cameras, bfp8 weights at HiFi2; the embedding table in bf16, the suffix in f32.
    fn default() -> Self {
        let format = Format { weights: WeightDtype::Bfp8, fidelity: Fidelity::HiFi2 };
        let mut formats = [format; Part::ALL.len()];
        formats[Part::Text as usize].weights = WeightDtype::Bf16;
        formats[Part::Suffix as usize] = Format { weights: WeightDtype::F32, fidelity: Fidelity::HiFi4 };
        Self { cameras: 3, tokens: None, steps: None, trace_region: 64 << 20, formats }
    }
}

impl Config {
    /// The formats of a part.
    pub fn format(&self, part: Part) -> Format {
        self.formats[part as usize]
    }

    /// The formats of a part, to change.
    pub fn format_mut(&mut self, part: Part) -> &mut Format {
        &mut self.formats[part as usize]
    }
}

/// A model on a board.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// The board.
    pub board: Board,
    /// Cameras present.
    pub cameras: usize,
    /// Text tokens.
    pub tokens: usize,
    /// Euler steps.
    pub steps: usize,
    /// DRAM and L1.
    pub memory: Memory,
    /// Costs of one chunk, by phase and part, in the order of the forward pass.
    pub lines: Vec<Line>,
    /// Everything.
    pub total: Cost,
    /// One Euler step.
    pub step: Cost,
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

/// As [`fits`], with the board and the formats of a device that is open.
///
/// # Errors
/// As [`fits`].
pub fn fits_into(capacity: &Capacity, arch: &Arch, cameras: usize) -> Result<Plan, DeviceError> {
    let mut config = Config { cameras, trace_region: capacity.trace_region, ..Config::default() };
    for &(of, weights, fidelity) in &capacity.formats {
        let parts = Part::ALL.iter().filter(|part| class(**part) == Some(of));
        parts.for_each(|part| *config.format_mut(*part) = Format { weights, fidelity });
    }
    fits(&capacity.board, arch, &config)
}

/// What a part needs of precision; `None`: the embedding table, which is looked up in bf16.
fn class(part: Part) -> Option<PrecisionClass> {
    match part {
        Part::Patches | Part::VisionAttention | Part::VisionMlp | Part::Projector => {
            Some(PrecisionClass::Encoder)
        }
        Part::PrefixAttention | Part::PrefixMlp => Some(PrecisionClass::Context),
        Part::ExpertAttention | Part::ExpertMlp => Some(PrecisionClass::Iterated),
        Part::Suffix => Some(PrecisionClass::Exact),
        Part::Text => None,
    }
}

/// As [`fits`], for a model that need not fit.
///
/// # Errors
/// [`DeviceError::Unsupported`] if the model can't be run as `config` says.
pub fn plan(board: &Board, arch: &Arch, config: &Config) -> Result<Plan, DeviceError> {
    let tokens = config.tokens.unwrap_or(arch.tokenizer_max_length);
    let steps = config.steps.unwrap_or(arch.num_inference_steps);
    let chunk = Checkpoint::blank(arch, config.cameras)
        .map_err(Box::from)
        .and_then(|checkpoint| trace(&checkpoint, config.cameras, tokens, steps).map_err(Box::from));
    let (record, _) = chunk.map_err(|why: Box<dyn std::error::Error>| refuse(board, &*why))?;
    let sizes = Sizes { board, config };
    let lines = cost::lines(&sizes, &record);
    let sum = |phase: Option<Phase>| {
        let chosen = lines.iter().filter(|l| phase.is_none_or(|p| p == l.phase));
        chosen.fold(Cost::default(), |sum, line| sum + line.cost)
    };
    Ok(Plan {
        board: *board,
        cameras: config.cameras,
        tokens,
        steps,
        memory: memory::memory(&sizes, &record),
        total: sum(None),
        step: sum(Some(Phase::Denoise)) / steps,
        lines,
    })
}

fn refuse(board: &Board, why: &dyn std::error::Error) -> DeviceError {
    let device = board.name.to_string();
    DeviceError::Unsupported { what: "this model".into(), device, why: why.to_string() }
}

/// What every part of a plan looks things up in.
struct Sizes<'a> {
    board: &'a Board,
    config: &'a Config,
}

impl Sizes<'_> {
    /// Rows and columns of a matrix as stored: heads padded to whole tiles (SDPA takes no other),
    /// then the matrix.
    fn stored(&self, matrix: &trace::Matrix) -> (usize, usize) {
        use crate::tenstorrent::board::tiled;
        let (mut rows, mut cols) = (matrix.rows, matrix.cols);
        if let Some((side, head)) = matrix.heads {
            let n = if side == HeadSide::Output { &mut rows } else { &mut cols };
            *n = *n / head * tiled(head);
        }
        (tiled(rows), tiled(cols))
    }
}

/// One chunk of a checkpoint's model, written down, and its ledger.
fn trace(
    checkpoint: &Checkpoint,
    cameras: usize,
    tokens: usize,
    steps: usize,
) -> Result<(Record, Ledger), ModelError> {
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
