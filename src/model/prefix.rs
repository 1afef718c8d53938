//! Embeddings of the prefix: image tokens of the cameras that are present, then text.

use super::attention::Sequence;
use super::error::ModelError;
use super::ledger::Module;
use super::load::{Loader, Slot};
use super::ops::{Ops, Source, Stage};
use super::paligemma::Backbone;
use crate::checkpoint::Arch;
use crate::device::{Role, View};

/// Prefix embedding and its buffers.
pub struct Prefix {
    images: Slot,
    ids: Slot,
    x: Slot,
    patches: usize,
    scale: f32,
}

impl Prefix {
    /// Most tokens a prefix can have.
    pub fn rows(arch: &Arch, cameras: usize) -> usize {
        cameras * arch.patches() + arch.tokenizer_max_length
    }

    /// Buffers for `cameras` images and a prompt of full length.
    pub fn load(loader: &mut Loader<'_>, cameras: usize) -> Result<Self, ModelError> {
        let arch = loader.checkpoint.arch().clone();
        Ok(Self {
            images: loader.buffer(Role::Image, cameras, 3 * arch.image_size * arch.image_size)?,
            ids: loader.buffer(Role::Tokens, arch.tokenizer_max_length, 1)?,
            x: loader.buffer(Role::Stream, Self::rows(&arch, cameras), arch.width)?,
            patches: arch.patches(),
            scale: (arch.width as f64).sqrt() as f32,
        })
    }

    /// Images and text of a chunk onto the device.
    pub fn write(&self, ops: &mut Ops<'_>, images: &[f32], tokens: &[u32]) -> Result<(), ModelError> {
        ops.write(images, self.images.first(images.len() / self.images.cols))?;
        ops.write_tokens(tokens, self.ids.first(tokens.len()))?;
        Ok(())
    }

    /// Embeds what was written: `[sequence.prefix, width]`. Text is scaled by √width.
    pub fn embed(
        &self,
        mut ops: Ops<'_>,
        backbone: &Backbone,
        cameras: usize,
        sequence: Sequence,
    ) -> Result<View, ModelError> {
        let x = self.x.first(sequence.prefix);
        let images = cameras * self.patches;
        let text = x.rows(images..sequence.prefix);
        backbone.embed_images(ops.within(Module::Backbone), self.images.first(cameras), x.rows(0..images))?;
        ops.embed(backbone.tokens, self.ids.first(text.rows), self.scale, text)?;
        ops.stage(Stage::LanguageEmbedding, Source::View(text))?;
        ops.stage(Stage::PrefixEmbedding, Source::View(x))?;
        Ok(x)
    }
}
