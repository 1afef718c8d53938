//! Reuse of results of the chunk before: of camera frames and a prompt that have not changed by a
//! bit are not computed again, and if none has, neither is the prefix, which depends on nothing else.

use super::fresh::Fresh;
use super::inputs::{Extent, Inputs, MAX_CAMERAS};
use crate::checkpoint::Arch;

/// Inputs and results that a chunk leaves for the next, if anything is to be used again.
pub struct Reuse {
    previous: Option<Previous>,
    /// The chunk that was begun last leaves what it computes.
    keeps: bool,
    /// The chunk whose prefix's keys and values are there.
    prefix: Option<Extent>,
}

impl Reuse {
    /// For chunks of at most `cameras` images; nothing is used again unless `on`.
    pub fn new(on: bool, arch: &Arch, cameras: usize) -> Self {
        Self { previous: on.then(|| Previous::new(arch, cameras)), keeps: false, prefix: None }
    }

    /// Nothing is used again from now on.
    pub fn stop(&mut self) {
        self.previous = None;
    }

    /// The parts of a chunk of `cameras` cameras that have to be computed. One that is observed shows all of its
    /// stages, so all is computed, and nothing left.
    pub fn begin(&mut self, inputs: &Inputs<'_>, cameras: usize, observed: bool) -> Fresh {
        self.keeps = self.previous.is_some() && !observed;
        let fresh = self.compare(inputs, cameras, observed);
        if fresh.prefix {
            self.prefix = None;
        }
        fresh
    }

    fn compare(&mut self, inputs: &Inputs<'_>, cameras: usize, observed: bool) -> Fresh {
        match &mut self.previous {
            Some(previous) if observed => previous.lose_prefix(),
            Some(previous) => return previous.compare(inputs),
            None => {}
        }
        Fresh::all(cameras)
    }

    /// The chunk whose prefix a chunk may keep; None: the last one failed, or there was none.
    pub fn prefix(&self) -> Option<&Extent> {
        self.prefix.as_ref()
    }

    /// True if the chunk that was begun is to leave what it computes.
    pub fn keeps(&self) -> bool {
        self.keeps
    }

    /// The chunk that was begun has been computed.
    pub fn end(&mut self, inputs: &Inputs<'_>, extent: Extent, fresh: Fresh) {
        self.prefix = Some(extent);
        if let Some(previous) = self.previous.as_mut().filter(|_| self.keeps) {
            previous.keep(inputs, fresh);
        }
    }
}

/// The inputs of the previous chunk, as far as what was computed from them is still there.
struct Previous {
    /// Images, `[cameras, 3·size²]`.
    images: Vec<f32>,
    /// Number of values of one image.
    image: usize,
    /// Cameras whose image tokens are kept.
    cameras: [bool; MAX_CAMERAS],
    tokens: Vec<u32>,
    /// True if the text's embedding is kept.
    text: bool,
    /// Cameras and tokens of the prefix whose keys and values are kept.
    prefix: Option<(usize, usize)>,
}

impl Previous {
    /// Room for chunks of at most `cameras` images.
    fn new(arch: &Arch, cameras: usize) -> Self {
        let image = 3 * arch.image_size * arch.image_size;
        Self {
            images: vec![0.0; cameras * image],
            image,
            cameras: [false; MAX_CAMERAS],
            tokens: Vec::with_capacity(arch.tokenizer_max_length),
            text: false,
            prefix: None,
        }
    }

    /// The parts of `inputs` that have to be computed. Until [`keep`](Self::keep), anything that will be written over
    /// counts as lost.
    fn compare(&mut self, inputs: &Inputs<'_>) -> Fresh {
        let mut fresh =
            Fresh { images: 0, text: !(self.text && self.tokens == inputs.tokens), prefix: false };
        let kept = self.images.chunks_exact(self.image);
        for (i, (image, kept)) in inputs.images.chunks_exact(self.image).zip(kept).enumerate() {
            if !(self.cameras[i] && same(image, kept)) {
                fresh.images |= 1 << i;
                self.cameras[i] = false;
            }
        }
        let shape = (inputs.images.len() / self.image, inputs.tokens.len());
        fresh.prefix = fresh.images != 0 || fresh.text || self.prefix != Some(shape);
        self.text &= !fresh.text;
        if fresh.prefix {
            self.prefix = None;
        }
        fresh
    }

    /// The prefix's keys and values are written over by a chunk that keeps nothing.
    fn lose_prefix(&mut self) {
        self.prefix = None;
    }

    /// Everything that was fresh has been computed from `inputs`.
    fn keep(&mut self, inputs: &Inputs<'_>, fresh: Fresh) {
        let kept = self.images.chunks_exact_mut(self.image);
        for (i, (image, kept)) in inputs.images.chunks_exact(self.image).zip(kept).enumerate() {
            if fresh.has(i) {
                kept.copy_from_slice(image);
                self.cameras[i] = true;
            }
        }
        if fresh.text {
            self.tokens.clear();
            self.tokens.extend_from_slice(inputs.tokens);
            self.text = true;
        }
        self.prefix = Some((inputs.images.len() / self.image, inputs.tokens.len()));
    }
}

/// True if all bits are the same.
fn same(a: &[f32], b: &[f32]) -> bool {
    let blocks = a.chunks(512).zip(b.chunks(512));
    a.len() == b.len()
        && blocks
            .into_iter()
            .all(|(a, b)| a.iter().zip(b).fold(0, |differ, (a, b)| differ | (a.to_bits() ^ b.to_bits())) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::synth;

    #[test]
    fn only_what_has_changed_is_fresh() {
        let arch = synth::preset("tiny").unwrap();
        let image = 3 * arch.image_size * arch.image_size;
        let (state, noise) = (vec![0.0; 1], vec![0.0; 1]);
        let images = vec![0.5; 3 * image];
        let inputs = |images, tokens| Inputs { images, tokens, state: &state, noise: &noise, rtc: None };
        let mut previous = Previous::new(&arch, 3);
        let first = inputs(&images, &[1, 2]);
        let fresh = previous.compare(&first);
        assert_eq!(fresh, Fresh { images: 0b111, text: true, prefix: true });
        // It failed: nothing has been computed.
        assert_eq!(previous.compare(&first), fresh);
        previous.keep(&first, fresh);
        assert_eq!(previous.compare(&first), Fresh { images: 0, text: false, prefix: false });

        let mut changed = images.clone();
        changed[2 * image - 1] = -0.5;
        let second = inputs(&changed, &[1, 2]);
        let fresh = previous.compare(&second);
        assert_eq!(fresh, Fresh { images: 0b010, text: false, prefix: true });
        // It failed, and the next chunk has the old image again, which has been written over.
        assert_eq!(previous.compare(&first), Fresh { images: 0b010, text: false, prefix: true });
        let fresh = previous.compare(&second);
        previous.keep(&second, fresh);

        // Fewer cameras, then all again; another prompt, one that is a part of it.
        let two = inputs(&changed[..2 * image], &[1, 2]);
        let fresh = previous.compare(&two);
        assert_eq!(fresh, Fresh { images: 0, text: false, prefix: true });
        previous.keep(&two, fresh);
        assert_eq!(previous.compare(&two), Fresh { images: 0, text: false, prefix: false });
        assert_eq!(previous.compare(&second), Fresh { images: 0, text: false, prefix: true });
        assert_eq!(previous.compare(&inputs(&changed, &[1])), Fresh { images: 0, text: true, prefix: true });
        // Zero has two signs.
        let zeros = vec![0.0; 3 * image];
        let mut negative = zeros.clone();
        negative[0] = -0.0;
        let fresh = previous.compare(&inputs(&zeros, &[1, 2]));
        previous.keep(&inputs(&zeros, &[1, 2]), fresh);
        assert_eq!(previous.compare(&inputs(&negative, &[1, 2])).images, 0b001);
    }
}
