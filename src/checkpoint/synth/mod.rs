//! Synthetic checkpoints: random weights of any size that keep activations sane.
//!
//! Every weight is a pure function of the seed, the tensor's name and the element's index, so that other
//! programs can make the same checkpoint bit for bit:
//!
//! ```text
//! h    = FNV-1a-64 of the name without its leading "model."
//! base = h ^ seed·0x9E3779B97F4A7C15                         (mod 2^64, as everything here)
//! z    = base + (i + 1)·0x9E3779B97F4A7C15                   element i, row-major
//! z    = (z ^ z>>30)·0xBF58476D1CE4E5B9;  z = (z ^ z>>27)·0x94D049BB133111EB;  z ^= z>>31
//! r    = (f32(z >> 40) - 8388607.5)·2^-23                    uniform on (-1, 1), exact
//! w    = offset + r·f32(std·√3)                              f32, then rounded to bf16 if asked for
//! ```

mod rule;

use std::collections::BTreeMap;
use std::path::Path;

use super::error::CheckpointError;
use super::layout::MODEL;
use super::names::{EMBED_TOKENS, LM_HEAD};
use super::output::Output;
use super::weights::{Spec, embeddings, weights};
use super::write::{Plan, Planned, Progress, bf16_bits, put};
use super::{Arch, Dtype, Variant, lerobot};
use rule::{Stream, distribution};

/// The tokenizer written with every synthetic checkpoint: Gemma's format, with 512 ids.
const TOKENIZER: &[u8] = include_bytes!("../../../tests/golden/tokenizer.json");
/// The same for π0.5: as in Gemma's, each digit is a token of its own.
const TOKENIZER_PI05: &[u8] = include_bytes!("../../../tests/golden_pi05/tokenizer.json");
const TOKENIZER_IDS: usize = 512;

/// Options of a synthetic checkpoint.
#[derive(Clone, Debug)]
pub struct Synth {
    /// The model's sizes.
    pub arch: Arch,
    /// Seed of weights and statistics.
    pub seed: u64,
    /// Dtype of the weights: F32 or BF16.
    pub dtype: Dtype,
    /// True to overwrite existing files.
    pub force: bool,
}

/// The sizes of a named preset: `tiny` (awkward on purpose: no dimension equals another), `small` (every
/// dimension a multiple of 32, for tiled hardware) or `full` (PI0 as published).
pub fn preset(name: &str) -> Option<Arch> {
    let full = Arch::full();
    match name {
        "full" => Some(full),
        "tiny" => Some(Arch {
            image_size: 56,
            vision_width: 72,
            vision_layers: 2,
            vision_heads: 4,
            vision_mlp: 136,
            vocab_size: 512,
            width: 64,
            depth: 2,
            mlp: 160,
            head_dim: 32,
            expert_width: 48,
            expert_mlp: 112,
            ..full
        }),
        "small" => Some(Arch {
            image_size: 112,
            vision_width: 128,
            vision_layers: 3,
            vision_heads: 4,
            vision_mlp: 256,
            vocab_size: 512,
            width: 128,
            depth: 4,
            mlp: 384,
            head_dim: 32,
            expert_width: 96,
            expert_mlp: 256,
            ..full
        }),
        _ => None,
    }
}

/// [`preset`] of a member of the family.
pub fn preset_of(variant: Variant, name: &str) -> Option<Arch> {
    let tokenizer_max_length = Arch::published(variant).tokenizer_max_length;
    Some(Arch { variant, tokenizer_max_length, ..preset(name)? })
}

impl Synth {
    /// Size of the `model.safetensors` to be written, bytes.
    pub fn bytes(&self) -> Result<u64, CheckpointError> {
        self.check()?;
        Ok(self.plan()?.bytes())
    }

    /// Writes the checkpoint into `dir` in lerobot's layout, complete or not at all. Without
    /// [`force`](Self::force) a directory that is not empty is refused.
    pub fn write(&self, dir: &Path, progress: Progress<'_>) -> Result<(), CheckpointError> {
        self.write_with_rate(dir, None, progress)
    }

    /// [`write`](Self::write) with a control rate in config.json, which lerobot's lacks.
    pub fn write_with_rate(
        &self,
        dir: &Path,
        control_rate_hz: Option<f32>,
        progress: Progress<'_>,
    ) -> Result<(), CheckpointError> {
        self.check()?;
        let plan = self.plan()?;
        let specs: BTreeMap<String, Spec> = self.specs().map(|spec| (spec.name.clone(), spec)).collect();
        let mut output = Output::create(dir, self.force)?;
        let fill = |tensor: &Planned, range: std::ops::Range<usize>, out: &mut [u8]| {
            let name = tensor.name.strip_prefix("model.").unwrap_or(&tensor.name);
            // Gemma ties the two: its lm_head holds the embedding matrix.
            let name = if name == LM_HEAD { EMBED_TOKENS } else { name };
            let (offset, scale) = distribution(&specs[name], &self.arch);
            let values = Stream::new(name, self.seed).units(range).map(|r| offset + r * scale);
            match tensor.dtype {
                Dtype::Bf16 => put(out, values.map(|w| bf16_bits(w).to_le_bytes())),
                _ => put(out, values.map(f32::to_le_bytes)),
            }
            Ok(())
        };
        plan.write(&mut output, MODEL, &fill, progress)?;
        for (name, bytes) in self.small_files(control_rate_hz) {
            output.write_file(name, &bytes)?;
        }
        let normalizer = lerobot::NORMALIZER_STATES[usize::from(self.is_pi05())];
        for name in [normalizer, lerobot::UNNORMALIZER_STATE] {
            self.write_statistics(&mut output, name)?;
        }
        output.finish()
    }

    fn check(&self) -> Result<(), CheckpointError> {
        self.arch.check().map_err(CheckpointError::Arch)?;
        if !Variant::ALL.contains(&self.arch.variant) {
            let why =
                format!("{}: what is made up is {} and {}", self.arch.variant, Variant::PI0, Variant::PI05);
            return Err(CheckpointError::Arch(why));
        }
        if self.arch.vocab_size < TOKENIZER_IDS {
            return Err(CheckpointError::Arch(format!(
                "vocab_size is {}, but the tokenizer that comes with the checkpoint has {TOKENIZER_IDS} ids",
                self.arch.vocab_size
            )));
        }
        if !matches!(self.dtype, Dtype::F32 | Dtype::Bf16) {
            return Err(CheckpointError::Arch(format!(
                "weights of dtype {}: expected F32 or BF16",
                self.dtype
            )));
        }
        Ok(())
    }

    fn is_pi05(&self) -> bool {
        self.arch.variant == Variant::PI05
    }

    fn specs(&self) -> impl Iterator<Item = Spec> {
        weights(&self.arch).into_iter().chain(embeddings(&self.arch))
    }

    fn plan(&self) -> Result<Plan, CheckpointError> {
        let tensors = self
            .specs()
            .map(|spec| Planned::new(format!("model.{}", spec.name), self.dtype, spec.shape))
            .collect();
        Plan::new(tensors, &BTreeMap::new())
    }

    fn small_files(&self, control_rate_hz: Option<f32>) -> Vec<(&'static str, Vec<u8>)> {
        let rate =
            control_rate_hz.map(|hz| format!(",\n    \"control_rate_hz\": {hz:?}")).unwrap_or_default();
        let fill = |template: &str| {
            let mut text = template.replace("@control_rate@", &rate);
            for (name, value) in self.arch.fields() {
                text = text.replace(&format!("@{name}@"), &value.to_string());
            }
            text.replace("@dtype@", lerobot::dtype_name(self.dtype)).into_bytes()
        };
        let fields = self.arch.fields();
        let mut arch: Vec<String> = fields.iter().map(|(k, v)| format!(" \"{k}\": {v}")).collect();
        let (config, pre, post, tokenizer) = match self.is_pi05() {
            false => (
                include_str!("config.json.in"),
                include_str!("policy_preprocessor.json.in"),
                include_str!("policy_postprocessor.json.in"),
                TOKENIZER,
            ),
            true => (
                include_str!("config_pi05.json.in"),
                include_str!("policy_preprocessor_pi05.json.in"),
                include_str!("policy_postprocessor_pi05.json.in"),
                TOKENIZER_PI05,
            ),
        };
        if self.is_pi05() {
            arch.insert(0, " \"model\": \"pi05\"".into());
        }
        vec![
            ("config.json", fill(config)),
            ("arch.json", format!("{{\n{}\n}}\n", arch.join(",\n")).into_bytes()),
            (lerobot::PREPROCESSOR, fill(pre)),
            (lerobot::POSTPROCESSOR, fill(post)),
            ("tokenizer.json", tokenizer.to_vec()),
        ]
    }

    fn write_statistics(&self, output: &mut Output, name: &str) -> Result<(), CheckpointError> {
        let statistics: BTreeMap<String, Vec<f32>> =
            [("observation.state", "state", self.arch.state_dim), ("action", "action", self.arch.action_dim)]
                .into_iter()
                .flat_map(|(key, name, width)| {
                    let of = self.statistics(name, width);
                    of.into_iter().map(move |(statistic, values)| (format!("{key}.{statistic}"), values))
                })
                .collect();
        let tensors = statistics
            .iter()
            .map(|(name, v)| Planned::new(name.clone(), Dtype::F32, vec![v.len()]))
            .collect();
        let fill = |tensor: &Planned, range: std::ops::Range<usize>, out: &mut [u8]| {
            put(out, statistics[&tensor.name][range].iter().map(|v| v.to_le_bytes()));
            Ok(())
        };
        Plan::new(tensors, &BTreeMap::new())?.write(output, name, &fill, &|_| ())
    }

    /// The statistics of a feature that processors are given: mean and deviation, for π0.5 all of a data set's.
    fn statistics(&self, name: &str, width: usize) -> Vec<(&'static str, Vec<f32>)> {
        let values = |statistic: &str, scale: f32, offset: f32| -> Vec<f32> {
            let units = Stream::new(&format!("{name}.{statistic}"), self.seed).units(0..width);
            units.map(|r| r * scale + offset).collect()
        };
        let (mean, std) = (values("mean", 0.5, 0.0), values("std", 0.3, 0.6));
        let mut all = Vec::new();
        if self.is_pi05() {
            // So many deviations from the mean, and a little.
            const AT: [(&str, f32); 7] = [
                ("min", -4.0),
                ("q01", -2.6),
                ("q10", -1.3),
                ("q50", 0.0),
                ("q90", 1.3),
                ("q99", 2.6),
                ("max", 4.0),
            ];
            for (statistic, at) in AT {
                let more = values(statistic, 0.2, 0.0);
                let value = |i: usize| mean[i] + std[i] * (more[i] + at);
                all.push((statistic, (0..width).map(value).collect()));
            }
            all.push(("count", vec![1000.0]));
        }
        all.extend([("mean", mean), ("std", std)]);
        all
    }
}
