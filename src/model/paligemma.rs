//! The backbone: vision tower, projector, language model over the prefix, and the action expert
//! that attends to the same keys and values.

use super::attention::{Heads, Sequence, Tokens};
use super::error::ModelError;
use super::gemma::{Gemma, GemmaSizes};
use super::ledger::Module;
use super::load::{Loader, Slot};
use super::ops::Ops;
use super::siglip::Siglip;
use super::tap::{Source, Stage};
use super::time::{RowTimes, Times};
use crate::checkpoint::{EXPERT, LANGUAGE, PROJECTOR, Part, VISION};
use crate::device::{Epilogue, Keys, KvCache, Role, Table, Vector, View, Weight};

/// PaliGemma and the action expert.
pub struct Backbone {
    vision: Siglip,
    projector: (Weight, Vector),
    language: Gemma,
    expert: Gemma,
    cache: KvCache,
    /// Expert output after the last norm, a stream: the velocity is computed from it in f32.
    expert_out: Slot,
    /// Token embedding `[vocabulary, width]`.
    pub tokens: Table,
}

impl Backbone {
    /// Loads everything, for `cameras` images and prefixes of at most `prefix` tokens; `times` may condition the
    /// expert's norms.
    pub fn load(
        loader: &mut Loader<'_>,
        cameras: usize,
        prefix: usize,
        times: &Times,
    ) -> Result<Self, ModelError> {
        let arch = loader.checkpoint.arch().clone();
        let heads = Heads { queries: arch.heads, keys: arch.kv_heads, dim: arch.head_dim };
        let runs: Vec<usize> = [prefix, arch.variant.state.tokens(), arch.chunk_size]
            .into_iter()
            .filter(|&rows| rows > 0)
            .collect();
        let cache = loader.device.kv_cache(arch.depth, &runs, heads.keys, heads.dim)?;
        let vision = Siglip::load(loader.within(VISION), cameras)?;
        let projector = (
            loader.weight_for(cameras * arch.patches(), &[PROJECTOR.trim_end_matches('.')])?,
            loader.within(PROJECTOR).vector(&["bias"])?,
        );
        let sizes = GemmaSizes { width: arch.width, mlp: arch.mlp, depth: arch.depth, heads, rows: prefix };
        let language = Gemma::load(loader.within(LANGUAGE), sizes, cache, None)?;
        let sizes =
            GemmaSizes { width: arch.expert_width, mlp: arch.expert_mlp, rows: arch.chunk_size, ..sizes };
        let expert = Gemma::load(loader.within(EXPERT), sizes, cache, times.conditions.as_ref())?;
        Ok(Self {
            vision,
            projector,
            language,
            expert,
            cache,
            expert_out: loader.of(Part::ExpertMlp).buffer(
                Role::Stream,
                arch.chunk_size,
                arch.expert_width,
            )?,
            tokens: loader.device.table(loader.checkpoint.embedding())?,
        })
    }

    /// Images to tokens in the language model's width. They are not scaled.
    pub fn embed_images(&self, mut ops: Ops<'_>, images: View, out: View) -> Result<(), ModelError> {
        let tokens = self.vision.forward(ops.within(Module::Vision), images)?;
        ops.linear(tokens, self.projector.0, Some(self.projector.1), Epilogue::Store, out)?;
        ops.stage(Stage::ImageTokens, Source::View(out))?;
        Ok(())
    }

    /// The prefix through the language model, in place: fills the cache, which is all that is
    /// needed of it.
    pub fn prefix(&self, mut ops: Ops<'_>, x: View, sequence: Sequence) -> Result<(), ModelError> {
        let tokens = Tokens { first: 0, keys: Keys::First(sequence.visible_keys(0)), rotary: true };
        for i in 0..self.language.depth() - 1 {
            self.language.layer(ops.within(Module::Language), i, x, tokens, RowTimes::step(0))?;
            ops.stage(Stage::PrefixLayer(i), Source::View(x))?;
            self.show_cache(&mut ops, i, sequence.prefix)?;
        }
        self.language.last_keys_and_values(ops.within(Module::Language), x, tokens)?;
        self.show_cache(&mut ops, self.language.depth() - 1, sequence.prefix)
    }

    /// The state token through the expert, in place. It never attends to actions, so its keys
    /// and values serve all steps.
    pub fn state(&self, mut ops: Ops<'_>, x: View, sequence: Sequence) -> Result<(), ModelError> {
        let first = sequence.first_state();
        let tokens = Tokens { first, keys: Keys::First(sequence.visible_keys(first)), rotary: true };
        for i in 0..self.expert.depth() - 1 {
            self.expert.layer(ops.within(Module::Language), i, x, tokens, RowTimes::step(0))?;
            ops.stage(Stage::StateLayer(i), Source::View(x))?;
        }
        self.expert.last_keys_and_values(ops.within(Module::Language), x, tokens)
    }

    /// The actions of one step, each row at its time, through the expert, in place; returns the normed output, a stream.
    pub fn actions(
        &self,
        mut ops: Ops<'_>,
        x: View,
        times: RowTimes,
        sequence: Sequence,
    ) -> Result<View, ModelError> {
        let step = times.step;
        let first = sequence.first_action();
        let tokens = Tokens { first, keys: Keys::First(sequence.visible_keys(first)), rotary: true };
        for i in 0..self.expert.depth() {
            let [input, post] = self.expert.modulations(i, step);
            show(&mut ops, Stage::InputModulation(step, i), input)?;
            show(&mut ops, Stage::PostModulation(step, i), post)?;
            self.expert.layer(ops.within(Module::Language), i, x, tokens, times)?;
            ops.stage(Stage::ExpertLayer(step, i), Source::View(x))?;
        }
        let out = self.expert_out.first(x.rows);
        show(&mut ops, Stage::FinalModulation(step), self.expert.final_modulation(step))?;
        self.expert.final_norm(ops.within(Module::Language), x, times, out)?;
        ops.stage(Stage::ExpertOut(step), Source::View(out))?;
        Ok(out)
    }

    fn show_cache(&self, ops: &mut Ops<'_>, layer: usize, rows: usize) -> Result<(), ModelError> {
        Ok(ops.stage(Stage::PrefixKv(layer), Source::Kv { cache: self.cache, layer, rows })?)
    }
}

/// Shows values of the host, if there are any.
fn show(ops: &mut Ops<'_>, stage: Stage, values: Option<&[f32]>) -> Result<(), ModelError> {
    Ok(values.map_or(Ok(()), |values| ops.stage(stage, Source::Host(values)))?)
}
