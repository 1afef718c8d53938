//! Copying observations out of a session's shared memory.

use std::sync::Arc;

use super::freshness::check_times;
use super::guidance::{GuidanceTerms, Guide};
use super::mutex::PiMutex;
use crate::control::Fault;
use crate::policy::{Frame, PixelFormat};
use crate::shm::sync::Ordering;
use crate::shm::{
    Camera, Geometry, MAX_CAMERAS, PixelLayout, PlaybackReader, Segment, SegmentLayout, Submission,
    UNWRITTEN_FRAME, UNWRITTEN_STATE, Words, copy_out, page_faults,
};

const PAGE: usize = 4096;
/// Bytes of frames below which page faults are not counted: they could cost less than the counting.
const FEW_BYTES: usize = 16 * PAGE;

/// Observation segments of sessions that ended while the inference thread used them, to be freed by another
/// thread.
#[derive(Clone, Default)]
#[allow(clippy::vec_box, reason = "they come in boxes: only a pointer is moved under the lock")]
pub(super) struct RetiredSources(Arc<PiMutex<Vec<Box<Source>>>>);

impl RetiredSources {
    pub fn push(&self, source: Box<Source>) {
        self.0.lock().push(source);
    }

    /// Frees all of them.
    pub fn clear(&self) {
        let retired = std::mem::take(&mut *self.0.lock());
        drop(retired);
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }
}

/// Outcome of the handshake that concerns observations and chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Negotiated {
    /// True if the client reads the reason why there is no chunk.
    pub faults: bool,
    /// True if it also reads why a chunk was invalid.
    pub chunk_faults: bool,
    /// Terms of its guidance.
    pub guidance: GuidanceTerms,
    /// Cameras whose frame may be missing: bit `i` for camera `i`.
    pub optional_cameras: u32,
}

/// Private buffers that observations are copied to, as large as the largest session needs.
#[derive(Default)]
pub(super) struct Buffers {
    frames: [Vec<u8>; MAX_CAMERAS],
    shapes: [Shape; MAX_CAMERAS],
    pub state: Vec<f32>,
    /// When the frames were taken, the oldest of them, CLOCK_MONOTONIC, ns.
    pub frames_observed_ns: u64,
    /// Number of page faults of the last copy that its client has caused.
    pub faults: u64,
}

/// Size and format of one copied frame. Fields as wide as they are read: a read that spans several fresh writes
/// waits for all of them.
#[derive(Clone, Copy)]
struct Shape {
    /// Length of the frame; 0: the camera has no frame.
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
    /// The copied frames, one per camera.
    pub fn frames(&self) -> [Option<Frame<'_>>; MAX_CAMERAS] {
        let mut frames = [None; MAX_CAMERAS];
        for ((frame, shape), data) in frames.iter_mut().zip(&self.shapes).zip(&self.frames) {
            let Shape { bytes, width, height, stride, format } = *shape;
            if bytes > 0 {
                *frame = Some(Frame { data: &data[..bytes], width, height, stride, format });
            }
        }
        frames
    }
}

/// A session's observation segment and what guides its chunks, for the inference thread to use without holding a lock.
pub(super) struct Source {
    layout: SegmentLayout,
    negotiated: Negotiated,
    words: Words,
    segment: Arc<Segment>,
    /// Guidance of the session's chunks.
    pub guide: Guide,
}

impl Source {
    /// A source over a segment; `words` spans all of it.
    pub fn new(
        layout: SegmentLayout,
        negotiated: Negotiated,
        words: Words,
        segment: Arc<Segment>,
        playback: PlaybackReader,
    ) -> Source {
        Source { layout, negotiated, words, segment, guide: Guide::new(negotiated.guidance, playback) }
    }

    /// Checks an observation's times, copies it out, and checks the copy: with its frames, or the state alone.
    ///
    /// # Errors
    /// Why the observation can't be used.
    pub fn copy(
        &self,
        submission: &Submission,
        now_ns: u64,
        max_age_ns: u64,
        with_frames: bool,
        to: &mut Buffers,
    ) -> Result<(), Fault> {
        to.faults = 0;
        let Geometry { cameras, state_dim, slots, .. } = self.layout.geometry;
        if submission.slot >= slots {
            return Err(Fault::Slot { slot: submission.slot });
        }
        let slot = submission.slot as usize * self.layout.slot.len as usize;
        let (heads, times) = self.heads_of(slot, with_frames);
        let times = &times[..cameras as usize];
        check_times(submission, times, now_ns, max_age_ns)?;
        to.frames_observed_ns = oldest(submission.observed_ns, times, &heads);

        if ![0, state_dim].contains(&submission.state_values) {
            return Err(Fault::StateCount { got: submission.state_values });
        }
        to.state.resize(state_dim as usize, 0.0);
        if !self.words.read_finite((slot + self.layout.state.offset as usize) / 8, &mut to.state)
            && let Some(index) = to.state.iter().position(|value| !value.is_finite())
        {
            let (value, index) = (to.state[index], index as u16);
            return Err(match value.to_bits() {
                UNWRITTEN_STATE => Fault::OldState { index },
                _ => Fault::NotFinite { index, value },
            });
        }
        if !with_frames {
            to.shapes = Default::default();
            return Ok(());
        }
        let mut bytes = 0;
        for (camera, head) in (0..cameras as u16).zip(heads) {
            bytes += self.shape(camera, head, to)?;
        }
        // The client can punch holes at any time; each costs a fault here.
        let before = if bytes < FEW_BYTES { 0 } else { page_faults() };
        for camera in 0..cameras as u16 {
            self.copy_frame(slot, camera, to)?;
        }
        if bytes >= FEW_BYTES {
            let faults = page_faults() - before;
            // A few may have other causes.
            to.faults = if faults as usize * 8 > bytes / PAGE { faults } else { 0 };
        }
        Ok(())
    }

    /// Sizes and formats of the frames in a slot, and when they were taken, CLOCK_MONOTONIC, ns; 0: there is no frame, or
    /// it was taken when the observation was. Without frames there are no times.
    #[inline]
    fn heads_of(&self, slot: usize, with_frames: bool) -> ([Camera; MAX_CAMERAS], [u64; MAX_CAMERAS]) {
        let (mut heads, mut times) = ([Camera::default(); MAX_CAMERAS], [0; MAX_CAMERAS]);
        let (head, time) = (slot / 8, (slot + self.layout.frame_times.offset as usize) / 8);
        for i in 0..(self.layout.geometry.cameras as usize).min(MAX_CAMERAS) {
            let load = |at| self.words.load(at, Ordering::Relaxed);
            heads[i] = Camera::from_words([load(head + i * 2), load(head + i * 2 + 1)]);
            if with_frames && heads[i].format != 0 {
                times[i] = load(time + i);
            }
        }
        (heads, times)
    }

    /// Checks the size and format of a camera's frame and makes room for it; its length in bytes.
    fn shape(&self, camera: u16, head: Camera, to: &mut Buffers) -> Result<usize, Fault> {
        let i = camera as usize;
        to.shapes[i].bytes = 0;
        if head.format == 0 {
            return match self.negotiated.optional_cameras >> camera & 1 {
                0 => Err(Fault::MissingCamera { camera: Some(camera) }),
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
                PixelLayout::Bgra8 => PixelFormat::Bgra8,
                PixelLayout::Yuyv => PixelFormat::Yuyv,
                PixelLayout::Nv12 => PixelFormat::Nv12,
                PixelLayout::Jpeg => PixelFormat::Jpeg,
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
        // SAFETY: the planned layout has frame_bytes of the segment there, and `shape` has checked that bytes
        // is no more; the buffer is private and long enough.
        unsafe { copy_out(self.segment.as_ptr().add(offset), buffer.as_mut_ptr(), bytes) };
        match buffer[..bytes].starts_with(&UNWRITTEN_FRAME) {
            true => Err(Fault::OldFrame { camera }),
            false => Ok(()),
        }
    }
}

/// When the frames there are were taken, the oldest of them; `observed_ns` for one without a time of its own, and where
/// there is none.
#[inline]
fn oldest(observed_ns: u64, times: &[u64], heads: &[Camera]) -> u64 {
    let taken = times.iter().zip(heads).filter(|(_, head)| head.format != 0);
    taken.map(|(&time, _)| if time == 0 { observed_ns } else { time }).min().unwrap_or(observed_ns)
}
