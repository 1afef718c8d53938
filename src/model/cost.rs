//! What operations cost whatever runs them, from the shapes of their views.

use super::error::ModelError;
use super::{Inputs, Ledger, Pi0};
use crate::checkpoint::Checkpoint;
use crate::device::dry::Dry;
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

/// The ledger of one chunk that is not computed: what it costs, part by part, on any device.
///
/// # Errors
/// As for [`Pi0::load`] and [`Pi0::sample`].
pub fn of_chunk(
    checkpoint: &Checkpoint,
    cameras: usize,
    tokens: usize,
    steps: usize,
) -> Result<Ledger, ModelError> {
    let mut model = Pi0::load(checkpoint, Box::new(Dry::default()), steps)?;
    let arch = checkpoint.arch();
    let chunk = vec![0.0; arch.chunk_size * arch.max_action_dim];
    let inputs = Inputs {
        images: &vec![0.0; cameras * 3 * arch.image_size * arch.image_size],
        tokens: &vec![0; tokens],
        state: &vec![0.0; arch.max_state_dim],
        noise: &chunk,
        rtc: None,
    };
    model.sample(&inputs, &mut chunk.clone())?;
    Ok(model.ledger().clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::synth::{Synth, preset};
    use crate::checkpoint::{Arch, Dtype};
    use crate::device::Device;
    use crate::device::cpu::{Cpu, CpuOptions};
    use crate::device::reference::Reference;
    use crate::model::ledger::Time;
    use crate::model::{Phase, common};

    /// The ledger of a chunk of a model of these sizes, whose weights take no room anywhere.
    fn hollow(arch: Arch, cameras: usize, tokens: usize, steps: usize) -> Ledger {
        let dir = std::env::temp_dir().join(format!("pi0rt-hollow-{}-{}", std::process::id(), arch.width));
        let synth = Synth { arch, seed: 0, dtype: Dtype::Bf16, force: true };
        synth.write_hollow(&dir).unwrap();
        let ledger = Checkpoint::open(&dir).map(|checkpoint| of_chunk(&checkpoint, cameras, tokens, steps));
        std::fs::remove_dir_all(&dir).unwrap();
        ledger.unwrap().unwrap()
    }

    #[test]
    fn pi0_costs_what_its_sizes_say() {
        let ledger = hollow(Arch::full(), 3, 48, 10);
        let gflop = |phase| ledger.phase(phase).cost.flops as f64 / 1e9;
        let near = |what: &str, expected: f64, got: f64| {
            assert!((got - expected).abs() < 0.06, "{what}: {got} GFLOP, expected {expected}");
        };
        near("vision and projector", 660.5, gflop(Phase::Vision));
        // 18 layers over 816 tokens; of the last one keys and values alone.
        near("prefix", 3332.5 - 183.4, gflop(Phase::Prefix));
        // 51 tokens and 10 steps are 386.1. The state is in it ten times, and needed once, without
        // most of the last layer; so is the time's half of a product, computed at load.
        let state = gflop(Phase::State);
        near("state", 0.75 - 0.04, state);
        let time = 2.0 * 50.0 * 1024.0 * 1024.0 * 10.0 / 1e9;
        near("denoise", 386.1 - 7.5 - time, gflop(Phase::Denoise));
        assert_eq!(gflop(Phase::Transfer), 0.0);

        // The weights once, the expert's in every step.
        let gb = |phase| ledger.phase(phase).cost.weight_bytes as f64 / 1e9;
        assert!((gb(Phase::Vision) - 0.83).abs() < 0.005, "{}", gb(Phase::Vision));
        let last_layer = 2e-9 * (2048.0 * (2048.0 + 2048.0) + 3.0 * 2048.0 * 16384.0);
        assert!((gb(Phase::Prefix) - (3.964 - last_layer)).abs() < 0.005, "{}", gb(Phase::Prefix));
        assert!((gb(Phase::Denoise) - 6.29).abs() < 0.05, "{}", gb(Phase::Denoise));
    }

    #[test]
    fn fewer_cameras_tokens_and_steps_cost_less() {
        let flops = |cameras, tokens, steps| {
            let ledger = hollow(Arch { width: 256, ..preset("small").unwrap() }, cameras, tokens, steps);
            Phase::ALL.map(|phase| ledger.phase(phase).cost.flops)
        };
        let [_, vision, prefix, state, denoise] = flops(3, 48, 10);
        let [_, two_cameras, ..] = flops(2, 48, 10);
        assert_eq!(two_cameras * 3, vision * 2);
        let [_, same_vision, shorter, ..] = flops(3, 24, 10);
        assert!(same_vision == vision && shorter < prefix);
        let [.., same_state, half] = flops(3, 48, 5);
        assert_eq!((same_state, half * 2), (state, denoise));
    }

    #[test]
    fn every_device_enters_the_same() {
        let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let checkpoint = Checkpoint::open(&golden).unwrap();
        let expected = of_chunk(&checkpoint, 2, 5, 3).unwrap();
        let arch = checkpoint.arch();
        let mut chunk = vec![0.0; arch.chunk_size * arch.max_action_dim];
        common::noise(1, &mut chunk);
        let inputs = Inputs {
            images: &vec![0.5; 2 * 3 * arch.image_size * arch.image_size],
            tokens: &[1, 2, 3, 4, 5],
            state: &vec![0.1; arch.max_state_dim],
            noise: &chunk.clone(),
            rtc: None,
        };
        let cpu = Cpu::new(&CpuOptions { threads: Some(2), ..Default::default() }).unwrap();
        let devices: [Box<dyn Device>; 2] = [Box::new(Reference::new()), Box::new(cpu)];
        for device in devices {
            let mut model = Pi0::load(&checkpoint, device, 3).unwrap();
            model.sample(&inputs, &mut chunk).unwrap();
            let what = model.device().describe();
            // A device may keep weights in another form.
            let work = |l: &Ledger| -> Vec<_> {
                l.entries().map(|(phase, m, op, e)| (phase, m, op, e.count, e.cost.flops)).collect()
            };
            assert_eq!(work(model.ledger()), work(&expected), "{what}");
            assert!(model.ledger().total().cost.weight_bytes > 0, "{what}");
        }
    }

    #[test]
    fn times_are_taken_when_asked_for() {
        let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let checkpoint = Checkpoint::open(&golden).unwrap();
        let arch = checkpoint.arch();
        let mut model = Pi0::load(&checkpoint, Box::new(Reference::new()), 1).unwrap();
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
