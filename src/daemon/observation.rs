//! Where a session's observations are copied from, and the private memory they are copied to.

use std::sync::Arc;

use super::freshness::check_times;
use super::mutex::PiMutex;
use crate::control::Fault;
use crate::policy::{Frame, PixelFormat};
use crate::shm::{
    Camera, Geometry, MAX_CAMERAS, PixelLayout, Segment, SegmentLayout, Submission, UNWRITTEN_FRAME,
    UNWRITTEN_STATE, Words, copy_out, page_faults,
};

const PAGE: usize = 4096;
/// Bytes of frames below which page faults are not looked at: what they could cost is less than a look.
const FEW_BYTES: usize = 16 * PAGE;

/// Memory of sessions that ended while the inference thread used it, for the thread that gives memory back.
#[derive(Clone, Default)]
#[allow(clippy::vec_box, reason = "they come in boxes: only a pointer is moved under the lock")]
pub(super) struct RetiredSources(Arc<PiMutex<Vec<Box<Source>>>>);

impl RetiredSources {
    pub fn push(&self, source: Box<Source>) {
        self.0.lock().push(source);
    }

    /// Gives it back.
    pub fn clear(&self) {
        let retired = std::mem::take(&mut *self.0.lock());
        drop(retired);
    }

    /// Whether there is any.
    pub fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }
}

/// What a client has said of itself that decides how its observations are answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Negotiated {
    /// It reads why there is no chunk.
    pub faults: bool,
    /// It may leave cameras away: bit `i` for camera `i`.
    pub optional_cameras: u32,
}

/// Private memory that observations are copied to: as large as the largest session needs.
#[derive(Default)]
pub(super) struct Buffers {
    frames: [Vec<u8>; MAX_CAMERAS],
    shapes: [Shape; MAX_CAMERAS],
    pub state: Vec<f32>,
    /// Page faults of the last copy, as far as its client is to blame for them.
    pub faults: u64,
}

/// What was copied of one camera. Fields as wide as they are read: a read that takes in several
/// fresh writes waits for all of them.
#[derive(Clone, Copy)]
struct Shape {
    /// 0: the camera has no frame.
    bytes: usize,
    width: usize,
    height: usize,
    stride: usize,
    format: PixelFormat,
}

impl Default for Shape {
    fn default() -> Self {
        Shape { bytes: 0, width: 0, height: 0, stride: 0, format: PixelFormat::Rgb8 }
    }
}

impl Buffers {
    /// The frames that were copied, one per camera.
    pub fn frames(&self) -> [Option<Frame<'_>>; MAX_CAMERAS] {
        std::array::from_fn(|i| {
            let Shape { bytes, width, height, stride, format } = self.shapes[i];
            (bytes > 0).then(|| Frame { data: &self.frames[i][..bytes], width, height, stride, format })
        })
    }
}

/// A session's observation segment, as the inference thread reads it without holding anything that others wait
/// for.
pub(super) struct Source {
    layout: SegmentLayout,
    negotiated: Negotiated,
    words: Words,
    segment: Arc<Segment>,
}

impl Source {
    /// `words`: all of the segment.
    pub fn new(layout: SegmentLayout, negotiated: Negotiated, words: Words, segment: Arc<Segment>) -> Source {
        Source { layout, negotiated, words, segment }
    }

    /// Copies an observation out, if its times let it be worked on, and checks the copy.
    ///
    /// # Errors
    /// Why it can't be used.
    pub fn copy(
        &self,
        submission: &Submission,
        [now_ns, max_age_ns]: [u64; 2],
        to: &mut Buffers,
    ) -> Result<(), Fault> {
        to.faults = 0;
        let Geometry { cameras, state_dim, slots, .. } = self.layout.geometry;
        if submission.slot >= slots {
            return Err(Fault::Slot { slot: submission.slot });
        }
        let slot = submission.slot as usize * self.layout.slot.len as usize;
        let (heads, mut times) = (self.heads_of(slot), [0; MAX_CAMERAS]);
        self.words.read((slot + self.layout.frame_times.offset as usize) / 8, &mut times);
        for (time, head) in times.iter_mut().zip(&heads) {
            // What was not taken has no time.
            if head.format == 0 {
                *time = 0;
            }
        }
        check_times(submission, &times, now_ns, max_age_ns)?;

        if ![0, state_dim].contains(&submission.state_values) {
            return Err(Fault::StateCount { got: submission.state_values });
        }
        to.state.resize(state_dim as usize, 0.0);
        self.words.read_f32((slot + self.layout.state.offset as usize) / 8, &mut to.state);
        if let Some(index) = to.state.iter().position(|value| !value.is_finite()) {
            let (value, index) = (to.state[index], index as u16);
            return Err(match value.to_bits() {
                UNWRITTEN_STATE => Fault::OldState { index },
                _ => Fault::NotFinite { index, value },
            });
        }
        let mut bytes = 0;
        for (camera, head) in (0..cameras as u16).zip(heads) {
            bytes += self.shape(camera, head, to)?;
        }
        // The client can take pages away at any time; each costs a fault here.
        let before = if bytes < FEW_BYTES { 0 } else { page_faults() };
        for camera in 0..cameras as u16 {
            self.copy_frame(slot, camera, to)?;
        }
        if bytes >= FEW_BYTES {
            let faults = page_faults() - before;
            // Of a few the system itself may be the cause.
            to.faults = if faults as usize * 8 > bytes / PAGE { faults } else { 0 };
        }
        Ok(())
    }

    /// What a slot says of its frames.
    fn heads_of(&self, slot: usize) -> [Camera; MAX_CAMERAS] {
        let mut words = [0; MAX_CAMERAS * 2];
        let known = self.layout.geometry.cameras as usize * 2;
        self.words.read(slot / 8, &mut words[..known]);
        std::array::from_fn(|i| Camera::from_words([words[i * 2], words[i * 2 + 1]]))
    }

    /// Takes in what a camera's frame is, and has room for it; its bytes.
    fn shape(&self, camera: u16, head: Camera, to: &mut Buffers) -> Result<usize, Fault> {
        let i = camera as usize;
        to.shapes[i].bytes = 0;
        if head.format == 0 {
            return match self.negotiated.optional_cameras >> camera & 1 {
                0 => Err(Fault::MissingCamera { camera }),
                _ => Ok(0),
            };
        }
        let Some(layout) = PixelLayout::from_number(head.format) else {
            return Err(Fault::FrameFormat { camera, format: head.format });
        };
        let frame_bytes = self.layout.geometry.frame_bytes as usize;
        let (_, bytes) = head.bytes(frame_bytes).ok_or(Fault::FrameSize { camera })?;
        if to.frames[i].len() < bytes {
            to.frames[i].resize(frame_bytes, 0);
        }
        to.shapes[i] = Shape {
            bytes,
            width: head.width as usize,
            height: head.height as usize,
            stride: head.stride as usize,
            format: match layout {
                PixelLayout::Rgb8 => PixelFormat::Rgb8,
                PixelLayout::Bgr8 => PixelFormat::Bgr8,
                PixelLayout::Rgba8 => PixelFormat::Rgba8,
                PixelLayout::Gray8 => PixelFormat::Gray8,
            },
        };
        Ok(bytes)
    }

    fn copy_frame(&self, slot: usize, camera: u16, to: &mut Buffers) -> Result<(), Fault> {
        let (i, frame) = (camera as usize, self.layout.frame);
        let bytes = to.shapes[i].bytes;
        let offset = slot + frame.offset as usize + i * frame.len as usize;
        let buffer = &mut to.frames[i];
        assert!(bytes <= buffer.len());
        // SAFETY: the planned layout has frame_bytes (>= bytes, as `shape` has seen to) of the segment there; the
        // buffer is private and long enough.
        unsafe { copy_out(self.segment.as_ptr().add(offset), buffer.as_mut_ptr(), bytes) };
        match buffer[..bytes].starts_with(&UNWRITTEN_FRAME) {
            true => Err(Fault::OldFrame { camera }),
            false => Ok(()),
        }
    }
}
