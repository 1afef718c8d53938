//! Closed loop without latency: the simulation stands still while a chunk is computed.
//!
//! The same as `training/tabletop/evaluate.py`: rows are played as the policy gives them, with linear interpolation.

use std::error::Error;

use pi0rt::policy::Continuation;

use super::condition::Settled;
use super::motion::Motion;
use super::source::{ChunkSource, FRAME, Seen};
use super::trace::Trace;
use crate::tabletop::{
    Episode, JOINTS, RATE_HZ, ROW_STEPS, SECONDS, SIDE, STEP_NS, Task, between, noise, render,
};

/// Plays an episode until its success or its end.
///
/// # Errors
/// The policy's.
pub fn play(
    source: &mut dyn ChunkSource,
    episode: &mut Episode,
    condition: &Settled,
    told: Task,
    motion: &mut Motion,
    mut trace: Option<&mut Trace>,
) -> Result<(), Box<dyn Error>> {
    let execute = condition.execute as usize;
    let cameras = source.cameras().to_vec();
    let mut frames = vec![vec![0; FRAME]; cameras.len()];
    let (mut samples, mut chunk, mut values) = (Vec::new(), source.room(), vec![0.0; source.noise_len()]);
    let chunks = (SECONDS * f64::from(RATE_HZ) / execute as f64) as u64;
    for number in 0..chunks {
        if episode.success_s.is_some() {
            break;
        }
        for (camera, frame) in cameras.iter().zip(&mut frames) {
            if !condition.telling.covers(*camera) {
                render(*camera, &episode.world, &episode.scene, SIDE, &mut samples, frame);
            }
        }
        let at_ns = number * execute as u64 * u64::from(ROW_STEPS) * STEP_NS;
        let state = episode.world.joints.map(|joint| joint as f32);
        noise(episode.seed, number, &mut values);
        let seen = Seen { at_ns, frames: &frames, state, told };
        source.chunk(&seen, &values, None, Continuation::default(), &mut chunk)?;
        if let Some(trace) = &mut trace {
            trace.add(episode, number, told, &state, &chunk.actions)?;
        }
        let rows: Vec<[f64; JOINTS]> = chunk
            .actions
            .chunks_exact(JOINTS)
            .map(|row| std::array::from_fn(|joint| f64::from(row[joint])))
            .collect();
        motion.take_over(rows[0]);
        for pair in rows[..=execute].windows(2) {
            for i in 0..ROW_STEPS {
                let command = between(&pair[0], &pair[1], i, ROW_STEPS);
                episode.world.step(&command);
                motion.add(&command, &episode.world.joints);
            }
            episode.judge();
        }
    }
    Ok(())
}
