//! Cost of operations on any device, from the shapes of their views.

use crate::device::{Keys, View};

/// Arithmetic and memory of one or more operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Floating point operations of matrix products and attention. Norms, rotary embedding and
    /// activations are not counted: they are work, but no measure of it.
    pub flops: u64,
    /// Bytes of the matrices that were multiplied with, as the device keeps them.
    pub weight_bytes: u64,
}

impl Cost {
    /// A product of `rows` tokens with a matrix (or a gated pair of them) of `inputs` by `outputs`.
    pub fn product(rows: usize, inputs: usize, outputs: usize, weight_bytes: usize) -> Self {
        Self { flops: 2 * product([rows, inputs, outputs]), weight_bytes: weight_bytes as u64 }
    }

    /// Scores and weighted values of the queries `q`.
    pub fn attention(q: View, keys: Keys) -> Self {
        let (Keys::First(seen) | Keys::Blocks(seen)) = keys;
        Self { flops: 4 * product([q.rows, q.cols, seen]), weight_bytes: 0 }
    }
}

impl std::ops::AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.flops += other.flops;
        self.weight_bytes += other.weight_bytes;
    }
}

fn product(sizes: [usize; 3]) -> u64 {
    sizes.into_iter().map(|n| n as u64).product()
}

#[cfg(test)]
mod tests {
    use crate::checkpoint::Checkpoint;
    use crate::device::reference::ReferenceBuilder;
    use crate::model::ledger::Time;
    use crate::model::{Inputs, Phase, Pi0};

    #[test]
    fn times_are_taken_when_asked_for() {
        let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let checkpoint = Checkpoint::open(&golden).unwrap();
        let arch = checkpoint.arch();
        let mut model = Pi0::load(&checkpoint, Box::new(ReferenceBuilder::new()), 1).unwrap();
        let mut chunk = vec![0.5; arch.chunk_size * arch.max_action_dim];
        let inputs = Inputs {
            images: &vec![0.5; 3 * arch.image_size * arch.image_size],
            tokens: &[1],
            state: &vec![0.1; arch.max_state_dim],
            noise: &chunk.clone(),
            rtc: None,
        };
        model.sample(&inputs, &mut chunk).unwrap();
        assert_eq!(model.ledger().total().time, Time::default());
        model.ledger().time(true);
        // Other frames, so that everything is computed again.
        let images = vec![0.25; inputs.images.len()];
        let timings = model.sample(&Inputs { images: &images, ..inputs }, &mut chunk).unwrap();
        let ledger = model.ledger();
        let elapsed = |phase| ledger.phase(phase).time.elapsed.as_nanos() as u64;
        // A phase's operations lie within it.
        assert!((1..=timings.vision_ns).contains(&elapsed(Phase::Vision)));
        assert!((1..=timings.prefix_ns).contains(&elapsed(Phase::Prefix)));
        assert!((1..=timings.state_ns).contains(&elapsed(Phase::State)));
        assert!((1..=timings.denoise_ns - timings.state_ns).contains(&elapsed(Phase::Denoise)));
        let total = ledger.total().time;
        assert!(total.elapsed.as_nanos() as u64 <= timings.total_ns && !total.core.is_zero());
        ledger.clear();
        assert!(ledger.is_timed() && ledger.entries().next().is_none());
    }
}
