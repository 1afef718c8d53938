//! Embeddings of the prefix: image tokens of the cameras that are present, then text.

use super::attention::Sequence;
use super::error::ModelError;
use super::fresh::Fresh;
use super::ledger::Module;
use super::load::{Loader, Slot};
use super::ops::Ops;
use super::paligemma::Backbone;
use super::tap::{Source, Stage};
use crate::checkpoint::{Arch, Part};
use crate::device::{Role, Shapes, View};

/// Prefix embedding and its buffers.
pub struct Prefix {
    images: Slot,
    ids: Slot,
    x: Slot,
    /// Image tokens of every camera, then text: what the next chunk may use again.
    kept: Slot,
    patches: usize,
    cameras: usize,
    scale: f32,
}

impl Prefix {
    /// Most rows a prefix can have on a device, padding included.
    pub fn rows(arch: &Arch, cameras: usize, shapes: Option<&Shapes>) -> usize {
        let rows = |cameras: usize| {
            cameras * arch.patches() + Self::text_rows(arch, cameras, arch.tokenizer_max_length, shapes)
        };
        (1..=cameras).map(rows).max().unwrap_or(0)
    }

    /// Rows that a text of `tokens` tokens takes behind the images of `cameras` cameras.
    pub fn text_rows(arch: &Arch, cameras: usize, tokens: usize, shapes: Option<&Shapes>) -> usize {
        let Some(shapes) = shapes else { return tokens };
        let longest = arch.tokenizer_max_length;
        let length = shapes.row_lengths.iter().copied().find(|&length| length >= tokens);
        let images = cameras * arch.patches();
        (images + length.unwrap_or(longest).min(longest)).next_multiple_of(shapes.row_multiple) - images
    }

    /// Buffers for `cameras` images and a prompt of full length.
    pub fn load(loader: &mut Loader<'_>, cameras: usize) -> Result<Self, ModelError> {
        let arch = loader.checkpoint.arch().clone();
        loader.of(Part::PrefixMlp);
        let rows = Self::rows(&arch, cameras, loader.device.shapes());
        let images = loader.buffer(Role::Image, cameras, 3 * arch.image_size * arch.image_size)?;
        loader.device.patches(images.all().buffer, arch.patch_size);
        let text =
            |cameras| Self::text_rows(&arch, cameras, arch.tokenizer_max_length, loader.device.shapes());
        let most_text = (1..=cameras).map(text).max().unwrap_or(0);
        Ok(Self {
            images,
            ids: loader.buffer(Role::Tokens, most_text, 1)?,
            x: loader.buffer(Role::Stream, rows, arch.width)?,
            kept: loader.buffer(Role::Stream, rows, arch.width)?,
            patches: arch.patches(),
            cameras,
            scale: match loader.checkpoint.processing().text_scaled_twice {
                false => (arch.width as f64).sqrt() as f32,
                true => arch.width as f32,
            },
        })
    }

    /// Images and text of a chunk onto the device, as far as they are fresh.
    pub fn write(
        &self,
        ops: &mut Ops<'_>,
        images: &[f32],
        tokens: &[u32],
        fresh: Fresh,
    ) -> Result<(), ModelError> {
        let image = self.images.cols;
        if fresh.images.trailing_ones() == fresh.images.count_ones() {
            // The usual case, all of them, in one piece.
            let count = fresh.images.count_ones() as usize;
            if count > 0 {
                ops.write(&images[..count * image], self.images.first(count))?;
            }
        } else {
            for (row, camera) in fresh.cameras().enumerate() {
                let rows = self.images.all().rows(row..row + 1);
                ops.write(&images[camera * image..(camera + 1) * image], rows)?;
            }
        }
        if fresh.text {
            ops.write_tokens(tokens, self.ids.first(tokens.len()))?;
        }
        Ok(())
    }

    /// Embeds what was written: `[sequence.prefix, width]`. Text is scaled by √width. With `keep`,
    /// for the next chunk too, and what is not fresh comes from the one before.
    pub fn embed(
        &self,
        mut ops: Ops<'_>,
        backbone: &Backbone,
        cameras: usize,
        sequence: Sequence,
        fresh: Fresh,
        keep: bool,
    ) -> Result<View, ModelError> {
        let x = self.x.first(sequence.prefix);
        let images = cameras * self.patches;
        let text = x.rows(images..sequence.prefix);
        let of = |view: View, camera: usize| view.rows(camera * self.patches..(camera + 1) * self.patches);
        let kept = self.kept.all();
        let count = fresh.images.count_ones() as usize;
        if count > 0 {
            // Fresh images lie side by side, and so do their tokens at first.
            let out = x.rows(0..count * self.patches);
            backbone.embed_images(ops.within(Module::Backbone), self.images.first(count), out)?;
        }
        if keep {
            for (place, camera) in fresh.cameras().enumerate() {
                ops.copy(of(x, place), of(kept, camera))?;
            }
            for camera in 0..cameras {
                // Those before the first reused one are where they belong.
                if camera >= fresh.images.trailing_ones() as usize {
                    ops.copy(of(kept, camera), of(x, camera))?;
                }
            }
        }
        if fresh.text {
            ops.embed(backbone.tokens, self.ids.first(text.rows), self.scale, text)?;
        }
        if keep {
            let kept = kept.rows(self.cameras * self.patches..self.kept.rows).rows(0..text.rows);
            let (from, to) = if fresh.text { (text, kept) } else { (kept, text) };
            ops.copy(from, to)?;
        }
        ops.stage(Stage::LanguageEmbedding, Source::View(text))?;
        ops.stage(Stage::PrefixEmbedding, Source::View(x))?;
        Ok(x)
    }
}
