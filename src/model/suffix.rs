//! Embeddings of the suffix: the state token, if there is one, and the noisy actions of a step.
//!
//! These small products run in f32: x and v of the integration stay exact to f32.

use super::common::time_bias;
use super::error::ModelError;
use super::load::{Loader, Slot};
use super::ops::Ops;
use super::tap::{Source, Stage};
use super::time::{RowTimes, Times};
use crate::checkpoint::StateInput;
use crate::device::{Epilogue, Role, Vector, View, Weight};

/// Suffix embedding and its buffers.
pub struct Suffix {
    /// None where text tells the state.
    state: Option<StateToken>,
    action_in: (Weight, Vector),
    action: Slot,
    /// None where time reaches the expert through its norms.
    action_time: Option<ActionTime>,
    times: Times,
}

/// The state as a token.
struct StateToken {
    proj: (Weight, Vector),
    state: Slot,
    x: Slot,
}

/// The MLP that joins actions and time.
struct ActionTime {
    /// The columns of `action_time_mlp_in` that the action meets.
    mlp_in: Weight,
    /// Time's share of `action_time_mlp_in` in every step, bias included.
    time: Vec<Vector>,
    mlp_out: (Weight, Vector),
    hidden: Slot,
    x: Slot,
}

impl Suffix {
    /// Loads the projections, and computes everything that depends on the steps' times.
    pub fn load(loader: &mut Loader<'_>, times: Times) -> Result<Self, ModelError> {
        let arch = loader.checkpoint.arch().clone();
        let state = match arch.variant.state {
            StateInput::Token => Some(StateToken {
                proj: linear(loader, "state_proj")?,
                state: loader.buffer(Role::Stream, 1, arch.max_state_dim)?,
                x: loader.buffer(Role::Stream, 1, arch.expert_width)?,
            }),
            StateInput::Text => None,
        };
        Ok(Self {
            state,
            action_in: linear(loader, "action_in_proj")?,
            action: loader.buffer(Role::Stream, arch.chunk_size, arch.expert_width)?,
            action_time: match times.conditions {
                None => Some(ActionTime::load(loader, &times.embeddings, arch.chunk_size)?),
                Some(_) => None,
            },
            times,
        })
    }

    /// The state of a chunk onto the device; empty where text tells it.
    pub fn write(&self, ops: &mut Ops<'_>, state: &[f32]) -> Result<(), ModelError> {
        Ok(self.state.as_ref().map_or(Ok(()), |token| ops.write(state, token.state.all()))?)
    }

    /// `state_proj(state)`, `[1, expert_width]`; `None` where text tells the state.
    pub fn embed_state(&self, mut ops: Ops<'_>) -> Result<Option<View>, ModelError> {
        let Some(token) = &self.state else { return Ok(None) };
        let x = token.x.all();
        ops.linear(token.state.all(), token.proj.0, Some(token.proj.1), Epilogue::Store, x)?;
        ops.stage(Stage::StateEmbedding, Source::View(x))?;
        Ok(Some(x))
    }

    /// `action_in(x_t)`, or `W_out·silu(W_in·[action_in(x_t) ; time])`, `[chunk, expert_width]`.
    pub fn embed_actions(&self, mut ops: Ops<'_>, x_t: View, times: RowTimes) -> Result<View, ModelError> {
        let step = times.step;
        self.show(&mut ops, Stage::TimeEmbedding(step), times, &self.times.embeddings)?;
        if let Some(conditions) = &self.times.conditions {
            self.show(&mut ops, Stage::Condition(step), times, &conditions.rows)?;
        }
        let mut x = self.action.all();
        ops.linear(x_t, self.action_in.0, Some(self.action_in.1), Epilogue::Store, x)?;
        if let Some(mlp) = &self.action_time {
            let (action, hidden) = (x, mlp.hidden.all());
            x = mlp.x.all();
            ops.linear(action, mlp.mlp_in, Some(mlp.time[step]), Epilogue::Silu, hidden)?;
            ops.linear(hidden, mlp.mlp_out.0, Some(mlp.mlp_out.1), Epilogue::Store, x)?;
        }
        ops.stage(Stage::ActionEmbedding(step), Source::View(x))?;
        Ok(x)
    }
}

impl Suffix {
    /// Shows what a step's time became: one row for all actions, or one for each where some are at time 0.
    fn show(
        &self,
        ops: &mut Ops<'_>,
        stage: Stage,
        times: RowTimes,
        of: &[Vec<f32>],
    ) -> Result<(), ModelError> {
        let step = &of[times.step];
        let Some(finished) = of.last().filter(|_| times.finished > 0 && ops.is_tapped()) else {
            return Ok(ops.stage(stage, Source::Host(step))?);
        };
        let row = |row| if row < times.finished { finished } else { step };
        let rows: Vec<f32> = (0..self.action.rows).flat_map(row).copied().collect();
        Ok(ops.stage(stage, Source::Host(&rows))?)
    }
}

impl ActionTime {
    fn load(loader: &mut Loader<'_>, embeddings: &[Vec<f32>], rows: usize) -> Result<Self, ModelError> {
        let width = loader.checkpoint.arch().expert_width;
        let mlp_in = loader.checkpoint.tensor("action_time_mlp_in.weight")?;
        let mlp_in_bias = loader.values("action_time_mlp_in.bias")?;
        let mut time = Vec::with_capacity(embeddings.len());
        for embedding in embeddings {
            time.push(loader.device.vector(&time_bias(mlp_in, &mlp_in_bias, embedding))?);
        }
        Ok(Self {
            mlp_in: loader.columns("action_time_mlp_in", 0..width)?,
            time,
            mlp_out: linear(loader, "action_time_mlp_out")?,
            hidden: loader.buffer(Role::Stream, rows, width)?,
            x: loader.buffer(Role::Stream, rows, width)?,
        })
    }
}

fn linear(loader: &mut Loader<'_>, name: &str) -> Result<(Weight, Vector), ModelError> {
    Ok((loader.weight(&[name])?, loader.vector(&[&format!("{name}.bias")])?))
}
