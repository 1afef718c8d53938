//! Embeddings of the suffix: the state token, and the noisy actions with the time of the step.
//!
//! These small products run in f32: x and v of the integration stay exact to f32.

use std::time::Instant;

use super::common::{time_bias, time_embedding, time_of_step};
use super::error::ModelError;
use super::ledger::{HostWork, Ledger};
use super::load::{Loader, Slot};
use super::ops::Ops;
use super::tap::{Source, Stage};
use crate::checkpoint::StateInput;
use crate::device::{Epilogue, Role, Vector, View, Weight};

/// Suffix embedding and its buffers.
pub struct Suffix {
    state: Option<StateToken>,
    action_in: (Weight, Vector),
    /// The columns of `action_time_mlp_in` that the action meets.
    mlp_in: Weight,
    mlp_out: (Weight, Vector),
    steps: Vec<Step>,
    action: Slot,
    hidden: Slot,
    x: Slot,
}

/// The state as a token, of the members of the family that see it so.
struct StateToken {
    proj: (Weight, Vector),
    state: Slot,
    x: Slot,
}

/// Embedding of a step's time, and its share of a product.
struct Step {
    embedding: Vec<f32>,
    /// Time's share of `action_time_mlp_in`, bias included.
    bias: Vector,
}

impl Suffix {
    /// Loads the projections and computes everything that depends on the times of `steps` steps.
    pub fn load(loader: &mut Loader<'_>, steps: usize, ledger: &mut Ledger) -> Result<Self, ModelError> {
        let arch = loader.checkpoint.arch().clone();
        let (width, rows) = (arch.expert_width, arch.chunk_size);
        let mlp_in = loader.checkpoint.tensor("action_time_mlp_in.weight")?;
        let mlp_in_bias = loader.values("action_time_mlp_in.bias")?;
        let start = Instant::now();
        let mut table = Vec::with_capacity(steps);
        for step in 0..steps {
            let embedding = time_embedding(time_of_step(step, steps), width);
            let bias = loader.device.vector(&time_bias(mlp_in, &mlp_in_bias, &embedding))?;
            table.push(Step { embedding, bias });
        }
        ledger.enter_host(HostWork::TimeEmbedding, steps, start);
        let linear = |loader: &mut Loader<'_>, name: &str| -> Result<_, ModelError> {
            Ok((loader.weight(&[name])?, loader.vector(&[&format!("{name}.bias")])?))
        };
        let state = match arch.variant.state {
            StateInput::Token => Some(StateToken {
                proj: linear(loader, "state_proj")?,
                state: loader.buffer(Role::Stream, 1, arch.max_state_dim)?,
                x: loader.buffer(Role::Stream, 1, width)?,
            }),
            StateInput::Text => None,
        };
        Ok(Self {
            state,
            action_in: linear(loader, "action_in_proj")?,
            mlp_in: loader.columns("action_time_mlp_in", 0..width)?,
            mlp_out: linear(loader, "action_time_mlp_out")?,
            steps: table,
            action: loader.buffer(Role::Stream, rows, width)?,
            hidden: loader.buffer(Role::Stream, rows, width)?,
            x: loader.buffer(Role::Stream, rows, width)?,
        })
    }

    /// The state of a chunk onto the device, where it is a token.
    pub fn write(&self, ops: &mut Ops<'_>, state: &[f32]) -> Result<(), ModelError> {
        self.state.as_ref().map_or(Ok(()), |token| Ok(ops.write(state, token.state.all())?))
    }

    /// `state_proj(state)`, `[1, expert_width]`; `None` where the state is text.
    pub fn embed_state(&self, mut ops: Ops<'_>) -> Result<Option<View>, ModelError> {
        let Some(StateToken { proj, state, x }) = &self.state else { return Ok(None) };
        let x = x.all();
        ops.linear(state.all(), proj.0, Some(proj.1), Epilogue::Store, x)?;
        ops.stage(Stage::StateEmbedding, Source::View(x))?;
        Ok(Some(x))
    }

    /// `W_out·silu(W_in·[action_in(x_t) ; time])`, `[chunk, expert_width]`.
    pub fn embed_actions(&self, mut ops: Ops<'_>, x_t: View, step: usize) -> Result<View, ModelError> {
        let (action, hidden, x) = (self.action.all(), self.hidden.all(), self.x.all());
        let time = &self.steps[step];
        ops.stage(Stage::TimeEmbedding(step), Source::Host(&time.embedding))?;
        ops.linear(x_t, self.action_in.0, Some(self.action_in.1), Epilogue::Store, action)?;
        ops.linear(action, self.mlp_in, Some(time.bias), Epilogue::Silu, hidden)?;
        ops.linear(hidden, self.mlp_out.0, Some(self.mlp_out.1), Epilogue::Store, x)?;
        ops.stage(Stage::ActionEmbedding(step), Source::View(x))?;
        Ok(x)
    }
}
