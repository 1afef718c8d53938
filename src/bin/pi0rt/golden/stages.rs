//! Matches golden tensors with the model's stages.

use std::ops::Range;

use pi0rt::checkpoint::Arch;
use pi0rt::device::{Device, DeviceError};
use pi0rt::model::attention::Sequence;
use pi0rt::model::{Source, Stage, Tap};

use super::case::Element;
use super::report::Report;
use crate::recorder::read;

/// Compares stages with the golden tensors while a chunk is computed.
pub struct Compare<'a> {
    element: Element<'a>,
    report: &'a mut Report,
    /// Golden rows of the prefix that the model also computes, in order.
    valid: Vec<usize>,
    cameras: usize,
    patches: usize,
    /// Tokens of the state, before the actions.
    state: usize,
}

/// A golden tensor, its rows that a stage computes, and the matching rows of the stage.
struct Target {
    key: String,
    golden_rows: Vec<usize>,
    rows: Range<usize>,
}

impl<'a> Compare<'a> {
    /// Compares with the golden tensors of `element`.
    pub fn new(element: Element<'a>, arch: &Arch, report: &'a mut Report) -> Self {
        let (patches, state) = (arch.patches(), arch.variant.state.tokens());
        Self { element, report, valid: element.valid_rows(), cameras: element.cameras(), patches, state }
    }

    /// Compares positions and masks: the rows the model computes and the keys they attend to.
    pub fn layout(&mut self, actions: usize) {
        let state = self.state;
        let sequence = Sequence { prefix: self.valid.len(), state, actions };
        let positions = |range: Range<usize>| range.map(|p| p as f32).collect::<Vec<_>>();
        if let Some(golden) = self.element.values("prefix_pos") {
            let golden: Vec<f32> = self.valid.iter().map(|&r| golden[r]).collect();
            self.report.compare("prefix_pos", &golden, &positions(0..sequence.prefix));
        }
        if let Some(golden) = self.element.values("suffix_pos") {
            self.report.compare("suffix_pos", &golden, &positions(sequence.prefix..sequence.len()));
        }
        let width = self.element.shape("prefix_pad").map_or(0, |s| s[0]);
        // Golden keys: the padded prefix, then the suffix.
        let keys: Vec<usize> = self.valid.iter().copied().chain(width..width + state + actions).collect();
        for (name, first, queries) in [
            ("prefix_att", 0, self.valid.clone()),
            ("suffix_att", sequence.prefix, (0..state + actions).collect()),
        ] {
            let Some(golden) = self.element.values(name) else { continue };
            let stride = self.element.shape(name).map_or(0, |s| s[1]);
            for (i, &q) in queries.iter().enumerate() {
                let row: Vec<f32> = golden[q * stride..(q + 1) * stride].to_vec();
                let mut mask = vec![0.0; stride];
                for &key in &keys[..sequence.visible_keys(first + i)] {
                    mask[key] = 1.0;
                }
                self.report.compare(name, &row, &mask);
            }
        }
    }

    fn targets(&self, stage: Stage) -> Vec<Target> {
        let per_camera = |name: &dyn Fn(usize) -> String| {
            let patches = self.patches;
            let target = |c: usize| Target {
                key: name(c),
                golden_rows: (0..patches).collect(),
                rows: c * patches..(c + 1) * patches,
            };
            (0..self.cameras).map(target).collect()
        };
        let text = self.cameras * self.patches;
        let one = |key: String, golden_rows: Vec<usize>| {
            let rows = 0..golden_rows.len();
            vec![Target { key, golden_rows, rows }]
        };
        // All rows of a golden tensor but the state token's, which comes first.
        let actions = |key: String| {
            let rows = self.element.shape(&key).map_or(self.state, |s| s[0]);
            one(key, (self.state..rows).collect())
        };
        let all = |key: String| {
            let rows = self.element.shape(&key).map_or(0, |s| if s.len() > 1 { s[0] } else { 1 });
            one(key, (0..rows).collect())
        };
        match stage {
            Stage::VisionEmbedding => per_camera(&|c| format!("vision.{c}.embed")),
            Stage::VisionLayer(i) => per_camera(&|c| format!("vision.{c}.layer{i}")),
            Stage::VisionOut => per_camera(&|c| format!("vision.{c}.out")),
            Stage::ImageTokens => per_camera(&|c| format!("image_tokens.{c}")),
            Stage::LanguageEmbedding => {
                let first = self.element.shape("prefix_pad").map_or(0, |s| s[0])
                    - self.element.shape("tokens").map_or(0, |s| s[0]);
                one("lang_emb".into(), self.valid[text..].iter().map(|r| r - first).collect())
            }
            Stage::PrefixEmbedding => one("prefix_emb".into(), self.valid.clone()),
            Stage::PrefixLayer(i) => one(format!("prefix_layer.{i}"), self.valid.clone()),
            Stage::PrefixKv(_) => Vec::new(),
            Stage::StateEmbedding => one("suffix_emb.0".into(), vec![0]),
            Stage::StateLayer(i) => one(format!("expert_layer.0.{i}"), vec![0]),
            Stage::TimeEmbedding(s) => all(format!("time_emb.{s}")),
            Stage::Condition(s) => all(format!("adarms_cond.{s}")),
            Stage::InputModulation(s, i) => all(format!("expert_mod.{s}.{i}.in")),
            Stage::PostModulation(s, i) => all(format!("expert_mod.{s}.{i}.post")),
            Stage::FinalModulation(s) => all(format!("expert_mod.{s}.norm")),
            Stage::ActionEmbedding(s) => actions(format!("suffix_emb.{s}")),
            Stage::ExpertLayer(s, i) => actions(format!("expert_layer.{s}.{i}")),
            Stage::ExpertOut(s) => actions(format!("suffix_out.{s}")),
            Stage::X(s) => all(format!("x.{s}")),
            Stage::Velocity(s) => all(format!("v.{s}")),
            Stage::Actions => all("actions".into()),
        }
    }

    fn compare_kv(
        &mut self,
        layer: usize,
        source: Source<'_>,
        device: &mut dyn Device,
    ) -> Result<(), DeviceError> {
        let keys = [format!("prefix_k.{layer}"), format!("prefix_v.{layer}")];
        let Some(&[heads, _, dim]) = keys.iter().find_map(|k| self.element.shape(k)) else { return Ok(()) };
        let values = read(source, heads * dim, device)?;
        let half = values.len() / 2;
        for (key, got) in keys.iter().zip([&values[..half], &values[half..]]) {
            let (Some(golden), Some(&[_, rows, _])) = (self.element.values(key), self.element.shape(key))
            else {
                continue;
            };
            for (r, &row) in self.valid.iter().enumerate() {
                for h in 0..heads {
                    let golden = &golden[(h * rows + row) * dim..][..dim];
                    self.report.compare(key, golden, &got[(r * heads + h) * dim..][..dim]);
                }
            }
        }
        Ok(())
    }
}

impl Tap for Compare<'_> {
    fn at(&mut self, stage: Stage, source: Source<'_>, device: &mut dyn Device) -> Result<(), DeviceError> {
        if let Stage::PrefixKv(layer) = stage {
            return self.compare_kv(layer, source, device);
        }
        let targets: Vec<Target> =
            self.targets(stage).into_iter().filter(|t| self.element.shape(&t.key).is_some()).collect();
        if targets.is_empty() {
            return Ok(());
        }
        let values = read(source, 0, device)?;
        for target in targets {
            let golden = self.element.values(&target.key).unwrap_or_default();
            let cols = self.element.shape(&target.key).and_then(<[usize]>::last).copied().unwrap_or(1);
            for (&g, r) in target.golden_rows.iter().zip(target.rows) {
                self.report.compare(
                    &target.key,
                    &golden[g * cols..(g + 1) * cols],
                    &values[r * cols..(r + 1) * cols],
                );
            }
        }
        Ok(())
    }
}
