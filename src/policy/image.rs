//! Camera frames to SigLIP's input: `[3, size, size]`, values in [-1, 1].
//!
//! A frame keeps its aspect ratio and is centred on black. The two libraries PI0 checkpoints come from
//! resize differently, visibly so when an image is shrunk (up to 73/255 on edges), and a policy needs the
//! method it was trained with:
//!
//! - [`bilinear`]: lerobot's `resize_with_pad_torch`, two by two pixels whatever the scale;
//! - [`pillow`]: openpi's `image_tools.resize_with_pad`, Pillow's antialiased filter on bytes.
//!
//! If a checkpoint normalizes images, lerobot does so before it resizes them ([`values`]).

mod bilinear;
mod colour;
pub mod jpeg;
mod pillow;
mod placement;
mod values;

use self::placement::Placement;
use self::values::Values;
use super::error::{FrameError, PolicyError};
use super::frame::{Frame, PixelFormat};
use crate::checkpoint::{Camera, Processing};

/// Largest frame, width and height, for which an [`ImageProcessor`] allocates in advance.
pub const MAX_FRAME: (usize, usize) = (1920, 1080);

/// Resizes the frames of one camera to the model's size. Filter taps are recomputed when a frame's size
/// differs from the previous one's; nothing is allocated for frames within [`MAX_FRAME`], and only once for
/// larger ones.
pub struct ImageProcessor {
    size: usize,
    values: Values,
    /// True if a frame that isn't square gets its bars at the left and the top instead of on both sides.
    pad_before: bool,
    /// Value of the bars beside a frame that isn't square.
    border: f32,
    /// Width and height for which the filter is prepared.
    prepared: Option<(usize, usize)>,
    filter: Filter,
    /// A frame as RGB, tight rows, whose own format is something else.
    rgb: Vec<u8>,
}

enum Filter {
    Bilinear(bilinear::Bilinear),
    Pillow(pillow::Pillow),
}

impl ImageProcessor {
    /// A processor for square images of `size` pixels. `antialias` chooses Pillow's filter over torch's.
    pub fn new(size: usize, antialias: bool) -> Self {
        let filter = if antialias {
            Filter::Pillow(pillow::Pillow::new(size, MAX_FRAME))
        } else {
            Filter::Bilinear(bilinear::Bilinear::new(size, MAX_FRAME))
        };
        let rgb = Vec::with_capacity(3 * MAX_FRAME.0 * MAX_FRAME.1);
        Self { size, values: Values::default(), pad_before: false, border: -1.0, prepared: None, filter, rgb }
    }

    /// A processor for images of `size` pixels from a checkpoint's camera.
    ///
    /// # Errors
    /// [`PolicyError::Statistics`] if the images can't be normalized as the checkpoint declares.
    pub fn for_camera(size: usize, processing: &Processing, camera: &Camera) -> Result<Self, PolicyError> {
        let mut processor = Self::new(size, processing.antialias);
        processor.pad_before = processing.pad_before;
        processor.border = processing.frame_border;
        if let Some(normalization) = &camera.normalization {
            processor.values = Values::normalized(normalization)?;
        }
        Ok(processor)
    }

    /// Writes `frame` into `image`, `[3, size, size]`: red, green, blue, each row by row.
    ///
    /// # Errors
    /// If the frame has fewer bytes than its size and stride need, is empty, or so elongated that a side
    /// would shrink to nothing; if it is a JPEG image that is damaged, progressive or of another size.
    ///
    /// # Panics
    /// If `image` has another length.
    pub fn process(&mut self, frame: &Frame<'_>, image: &mut [f32]) -> Result<(), FrameError> {
        let size = self.size;
        assert_eq!(image.len(), 3 * size * size, "image of the model's size");
        frame.check()?;
        let Frame { width, height, format, .. } = *frame;
        let Some(channels) = format.rgb() else {
            let mut rgb = std::mem::take(&mut self.rgb);
            let converted = match format {
                PixelFormat::Jpeg => jpeg::decode(frame.data, (width, height), &mut rgb)
                    .map_err(|why| FrameError::Jpeg { width, height, why }),
                _ => {
                    colour::convert(frame, &mut rgb);
                    Ok(())
                }
            };
            let frame = Frame { data: &rgb, stride: 3 * width, format: PixelFormat::Rgb8, ..*frame };
            let processed = converted.and_then(|()| self.process_packed(&frame, [0, 1, 2], image));
            self.rgb = rgb;
            return processed;
        };
        self.process_packed(frame, channels, image)
    }

    /// [`process`](Self::process) of a checked frame that has `channels` in each of its pixels.
    fn process_packed(
        &mut self,
        frame: &Frame<'_>,
        channels: [usize; 3],
        image: &mut [f32],
    ) -> Result<(), FrameError> {
        let size = self.size;
        if (frame.width, frame.height) == (size, size) {
            self.copy(frame, channels, image);
            return Ok(());
        }
        let place = Placement::new(frame.width, frame.height, size, self.pad_before)
            .ok_or(FrameError::AspectRatio { width: frame.width, height: frame.height, size })?;
        let prepare = self.prepared.replace((frame.width, frame.height)) != Some((frame.width, frame.height));
        if (place.width, place.height) != (size, size) {
            image.fill(self.border);
        }
        match &mut self.filter {
            Filter::Bilinear(filter) => {
                if prepare {
                    filter.prepare(frame, place);
                }
                filter.run(frame, channels, place, size, &self.values, image);
            }
            Filter::Pillow(filter) => {
                if prepare {
                    filter.prepare(frame, place);
                }
                filter.run(frame, channels, place, size, &self.values, image);
            }
        }
        Ok(())
    }

    fn copy(&self, frame: &Frame<'_>, channels: [usize; 3], image: &mut [f32]) {
        let bytes = frame.format.bytes();
        let channels = channels.into_iter().zip(&self.values.of_bytes);
        for (plane, (channel, values)) in image.chunks_exact_mut(self.size * self.size).zip(channels) {
            for (y, out) in plane.chunks_exact_mut(self.size).enumerate() {
                for (out, pixel) in out.iter_mut().zip(frame.row(y).chunks_exact(bytes)) {
                    *out = values[usize::from(pixel[channel])];
                }
            }
        }
    }
}
