//! Playing a chunk: the action for a moment in time.

use crate::shm::ChunkHeader;

/// How an action between two rows is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Interpolation {
    /// The earlier row is held.
    #[default]
    Hold,
    /// Linear interpolation between the two rows.
    Linear,
}

/// Where an action came from, relative to the chunk's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The moment lies within the chunk.
    InChunk,
    /// The moment lies before the chunk's observation: the first row is used.
    BeforeStart,
    /// The moment lies beyond the chunk's last row: the last row is held.
    PastEnd,
}

/// The origin of an action: chunk, row and age.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ActionInfo {
    /// How the action was derived from the chunk.
    pub reason: Reason,
    /// Number of the chunk, from 1.
    pub chunk: u64,
    /// Position in the chunk, in rows from its observation; the integer part is the row.
    pub row: f64,
    /// Time from the chunk's observation to that moment, ns; 0 if it lies before.
    pub age_ns: u64,
}

/// Writes the action for moment `t_ns`: row `(t - observed) * rate` of the chunk.
/// `action.len()` is the chunk's action dimension.
pub(in crate::client) fn action_at(
    header: &ChunkHeader,
    actions: &[f32],
    rate_hz: f64,
    interpolation: Interpolation,
    t_ns: u64,
    action: &mut [f32],
) -> ActionInfo {
    let age_ns = t_ns.saturating_sub(header.observed_ns);
    let position = age_ns as f64 * 1e-9 * rate_hz;
    let last = header.horizon as usize - 1;
    let reason = if t_ns < header.observed_ns {
        Reason::BeforeStart
    } else if position > last as f64 {
        Reason::PastEnd
    } else {
        Reason::InChunk
    };
    let row = (position as usize).min(last);
    let width = action.len();
    action.copy_from_slice(&actions[row * width..][..width]);
    if interpolation == Interpolation::Linear && row < last {
        let weight = (position - row as f64) as f32;
        for (value, next) in action.iter_mut().zip(&actions[(row + 1) * width..][..width]) {
            *value += weight * (next - *value);
        }
    }
    ActionInfo { reason, chunk: header.chunk, row: position.min(last as f64), age_ns }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: ChunkHeader = ChunkHeader {
        ticket: 1,
        chunk: 4,
        observed_ns: 1_000_000_000,
        submitted_ns: 0,
        started_ns: 0,
        finished_ns: 0,
        horizon: 3,
        action_dim: 2,
        notes: crate::shm::ChunkNotes {
            prompt_id: 0,
            episode: 0,
            guidance: 0,
            delay: 0,
            guidance_horizon: 0,
            left_over: 0,
            prefix_observed_ns: 0,
            prefix_age: 0,
        },
    };
    const ACTIONS: [f32; 6] = [0.0, 10.0, 1.0, 20.0, 2.0, 40.0];

    fn at(ms: u64, interpolation: Interpolation) -> ([f32; 2], ActionInfo) {
        let mut action = [0.0; 2];
        let t = ms * 1_000_000;
        let info = action_at(&HEADER, &ACTIONS, 50.0, interpolation, t, &mut action);
        (action, info)
    }

    #[test]
    fn rows_are_counted_from_the_observation() {
        let (action, info) = at(1000, Interpolation::Hold);
        assert_eq!((action, info.reason, info.row), ([0.0, 10.0], Reason::InChunk, 0.0));
        let (action, info) = at(1039, Interpolation::Hold);
        assert_eq!((action, info.reason), ([1.0, 20.0], Reason::InChunk));
        assert_eq!((info.chunk, info.age_ns), (4, 39_000_000));
        assert_eq!(at(1030, Interpolation::Linear).0, [1.5, 30.0]);
        assert_eq!(at(1040, Interpolation::Linear).0, [2.0, 40.0]);
    }

    #[test]
    fn beyond_either_end_a_row_is_held_and_the_reason_says_so() {
        let (action, info) = at(900, Interpolation::Linear);
        assert_eq!((action, info.reason, info.age_ns), ([0.0, 10.0], Reason::BeforeStart, 0));
        let (action, info) = at(5000, Interpolation::Linear);
        assert_eq!((action, info.reason, info.row), ([2.0, 40.0], Reason::PastEnd, 2.0));
        assert_eq!(info.age_ns, 4_000_000_000);
    }
}
