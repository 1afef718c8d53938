//! Encoding of ring entries and of the heads of observation slots.
//!
//! Little-endian 64-bit words; two 32-bit halves share a word, the first named in its low half.

/// Words of a ring entry: one cache line.
pub const ENTRY_WORDS: usize = 8;

/// Maximum number of cameras of an observation.
pub const MAX_CAMERAS: usize = 4;

/// An instruction number that is never assigned.
pub const NO_PROMPT: u32 = u32::MAX;

/// Flag of a submission: the frames are as before, only the state is new; the daemon may keep what it computed from
/// them.
pub const KEEP_PREFIX: u32 = 1 << 0;
/// Flag of a submission: its chunk is not to be guided by the previous one.
pub const UNGUIDED: u32 = 1 << 1;

/// Bit pattern of a state value that was not written yet: a NaN.
pub const UNWRITTEN_STATE: u32 = 0x7fe5_ca1e;
/// First bytes of a frame that was not written yet: unlikely for a picture. Shorter frames have no mark.
pub const UNWRITTEN_FRAME: [u8; 16] = *b"\xd7\x1e\xa9UNWRITTEN\x8f\x02\xe3\x5c";

/// A submission: the client asks for the chunk of an observation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Submission {
    /// The client's name for the submission; any value, answered once.
    pub ticket: u64,
    /// The observation slot that holds frames and state.
    pub slot: u32,
    /// Number of an instruction registered over the socket; 0: the one registered last; [`NO_PROMPT`]: none.
    pub prompt_id: u32,
    /// When the state was taken, CLOCK_MONOTONIC, ns.
    pub observed_ns: u64,
    /// When it was submitted, CLOCK_MONOTONIC, ns.
    pub submitted_ns: u64,
    /// Seed of the noise the chunk starts from.
    pub seed: u64,
    /// Latest time its chunk is of use, CLOCK_MONOTONIC, ns; 0: no deadline.
    pub deadline_ns: u64,
    /// Number of state values written; 0: all.
    pub state_values: u32,
    /// Flags: [`KEEP_PREFIX`], [`UNGUIDED`]; others are ignored.
    pub flags: u32,
}

impl Submission {
    /// Encodes it as a ring entry.
    pub fn to_words(self) -> [u64; ENTRY_WORDS] {
        let slot_and_prompt = halves(self.slot, self.prompt_id);
        [
            0,
            self.ticket,
            slot_and_prompt,
            self.observed_ns,
            self.submitted_ns,
            self.seed,
            self.deadline_ns,
            halves(self.state_values, self.flags),
        ]
    }

    /// Decodes a ring entry. Nothing is checked: every value is representable.
    pub fn from_words(words: &[u64; ENTRY_WORDS]) -> Submission {
        let [_, ticket, slot_and_prompt, observed_ns, submitted_ns, seed, deadline_ns, state] = *words;
        let (slot, prompt_id) = split(slot_and_prompt);
        let (state_values, flags) = split(state);
        Submission {
            ticket,
            slot,
            prompt_id,
            observed_ns,
            submitted_ns,
            seed,
            deadline_ns,
            state_values,
            flags,
        }
    }
}

/// The daemon's answer to one submission.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Completion {
    /// Ticket of the submission it answers.
    pub ticket: u64,
    /// A `pi0rt_status`: 0, or why there is no chunk.
    pub status: i32,
    /// The submission's slot, which is free again.
    pub slot: u32,
    /// Number of the published chunk, from 1; 0: none was published.
    pub chunk: u64,
    /// Encoded reason why there is no chunk, in place of its number; 0: not given.
    pub detail: u64,
    /// When the observation was taken, as submitted.
    pub observed_ns: u64,
    /// When it was submitted, as submitted.
    pub submitted_ns: u64,
    /// When the daemon started to work on it, CLOCK_MONOTONIC, ns; 0: it never did.
    pub started_ns: u64,
    /// When the daemon was done with it, CLOCK_MONOTONIC, ns.
    pub finished_ns: u64,
}

impl Completion {
    /// Encodes it as a ring entry.
    pub fn to_words(self) -> [u64; ENTRY_WORDS] {
        let status_and_slot = halves(self.status as u32, self.slot);
        [
            0,
            self.ticket,
            status_and_slot,
            if self.status == 0 { self.chunk } else { self.detail },
            self.observed_ns,
            self.submitted_ns,
            self.started_ns,
            self.finished_ns,
        ]
    }

    /// Decodes a ring entry. Nothing is checked: every value is representable.
    pub fn from_words(words: &[u64; ENTRY_WORDS]) -> Completion {
        let [_, ticket, status_and_slot, outcome, observed_ns, submitted_ns, started_ns, finished_ns] =
            *words;
        let (status, slot) = split(status_and_slot);
        let (chunk, detail) = if status == 0 { (outcome, 0) } else { (0, outcome) };
        Completion {
            ticket,
            status: status as i32,
            slot,
            chunk,
            detail,
            observed_ns,
            submitted_ns,
            started_ns,
            finished_ns,
        }
    }
}

/// Pixel format of a frame: how its bytes are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum PixelLayout {
    /// 3 bytes per pixel: red, green, blue.
    Rgb8 = 1,
    /// 3 bytes per pixel: blue, green, red.
    Bgr8 = 2,
    /// 4 bytes per pixel: red, green, blue, ignored.
    Rgba8 = 3,
    /// 1 byte per pixel: grey.
    Gray8 = 4,
    /// 4 bytes per pixel: blue, green, red, ignored.
    Bgra8 = 5,
    /// 4 bytes per two pixels of a row: luma, blue difference, luma, red difference.
    Yuyv = 6,
    /// A plane of luma, then a plane of half as many rows with the blue and red differences of 2 by 2 pixels.
    Nv12 = 7,
    /// A baseline JPEG image; its length in bytes takes the place of the stride.
    Jpeg = 8,
}

impl PixelLayout {
    /// Bytes per pixel of a row, four bits at each format's number; 0: it has no rows. A constant, as a table would have
    /// to be fetched from memory in every observation.
    const PIXEL_BYTES: u64 = 0x0_1241_4330;

    /// The format of a number; None for a number that is no format.
    #[inline]
    pub fn from_number(number: u32) -> Option<PixelLayout> {
        Some(match number {
            1 => Self::Rgb8,
            2 => Self::Bgr8,
            3 => Self::Rgba8,
            4 => Self::Gray8,
            5 => Self::Bgra8,
            6 => Self::Yuyv,
            7 => Self::Nv12,
            8 => Self::Jpeg,
            _ => return None,
        })
    }

    /// Bytes of a row of `width` pixels without a gap behind it; None if the format has no rows, or none of this
    /// width.
    #[inline]
    pub fn row_bytes(self, width: usize) -> Option<usize> {
        let pixel = (Self::PIXEL_BYTES >> (self as u32 * 4)) as usize & 15;
        // Two pixels of a row share their colour.
        let in_pairs = matches!(self, PixelLayout::Yuyv | PixelLayout::Nv12);
        if pixel == 0 || in_pairs && !width.is_multiple_of(2) { None } else { width.checked_mul(pixel) }
    }

    /// Rows of all planes of a frame of `height` rows of pixels; None if the format has none of this height.
    #[inline]
    fn rows(self, height: usize) -> Option<usize> {
        match self {
            PixelLayout::Nv12 => height.is_multiple_of(2).then(|| height.checked_add(height / 2))?,
            _ => Some(height),
        }
    }
}

/// Size and format of one camera's frame: two words at the head of an observation slot. Format 0: the camera
/// has no frame in this observation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Camera {
    /// Width of the frame, pixels per row.
    pub width: u32,
    /// Height of the frame, rows.
    pub height: u32,
    /// Bytes from one row to the next; of a JPEG image, its length.
    pub stride: u32,
    /// Number of a [`PixelLayout`], or 0 for no frame.
    pub format: u32,
}

impl Camera {
    /// Encodes the camera as two words.
    pub fn to_words(self) -> [u64; 2] {
        [halves(self.width, self.height), halves(self.stride, self.format)]
    }

    /// Decodes two words. Nothing is checked: every value is representable.
    pub fn from_words(words: [u64; 2]) -> Camera {
        let ((width, height), (stride, format)) = (split(words[0]), split(words[1]));
        Camera { width, height, stride, format }
    }

    /// Format and bytes from the first pixel to the last; None if the numbers contradict each other or exceed
    /// `capacity`.
    #[inline]
    pub fn bytes(&self, capacity: usize) -> Option<(PixelLayout, usize)> {
        let format = PixelLayout::from_number(self.format)?;
        let (width, height, stride) = (self.width as usize, self.height as usize, self.stride as usize);
        if width == 0 || height == 0 {
            return None;
        }
        let bytes = match format {
            PixelLayout::Jpeg => Some(stride).filter(|length| *length > 0)?,
            _ => {
                let row = format.row_bytes(width).filter(|row| *row <= stride)?;
                stride.checked_mul(format.rows(height)? - 1)?.checked_add(row)?
            }
        };
        (bytes <= capacity).then_some((format, bytes))
    }
}

pub(super) fn halves(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

pub(super) fn split(word: u64) -> (u32, u32) {
    (word as u32, (word >> 32) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn words_and_back(words in any::<[u64; 8]>(), pair in any::<[u64; 2]>()) {
            let submission = Submission::from_words(&words);
            prop_assert_eq!(Submission::from_words(&submission.to_words()), submission);
            let completion = Completion::from_words(&words);
            prop_assert_eq!(completion.to_words()[1..].to_vec(), words[1..].to_vec());
            prop_assert_eq!(Camera::from_words(pair).to_words(), pair);
        }

        #[test]
        fn no_camera_reaches_beyond_its_frame(pair in any::<[u64; 2]>(), format in 0u32..10, capacity in 0usize..1 << 24) {
            let camera = Camera { format, ..Camera::from_words(pair) };
            if let Some((format, bytes)) = camera.bytes(capacity) {
                prop_assert!(bytes <= capacity);
                prop_assert!(bytes > 0 && format.row_bytes(camera.width as usize).is_none_or(|row| bytes >= row));
            }
        }
    }

    #[test]
    fn a_camera_needs_room_for_its_last_row_only_without_padding() {
        let camera = Camera { width: 2, height: 2, stride: 100, format: PixelLayout::Rgb8 as u32 };
        assert_eq!(camera.bytes(106), Some((PixelLayout::Rgb8, 106)));
        assert_eq!(camera.bytes(105), None);
        assert_eq!(Camera { stride: 5, ..camera }.bytes(1000), None);
        assert_eq!(Camera { height: 0, ..camera }.bytes(1000), None);
    }

    #[test]
    fn every_format_has_its_own_size() {
        let bytes = |format: PixelLayout, width, height, stride| {
            Camera { width, height, stride, format: format as u32 }.bytes(1000).map(|(_, bytes)| bytes)
        };
        let numbers = [1, 2, 3, 4, 5, 6, 7, 8].map(|number| PixelLayout::from_number(number).unwrap() as u32);
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!([0, 9, u32::MAX].map(PixelLayout::from_number), [None; 3]);
        let rows =
            [PixelLayout::Rgb8, PixelLayout::Bgr8, PixelLayout::Rgba8, PixelLayout::Gray8, PixelLayout::Jpeg];
        assert_eq!(rows.map(|format| format.row_bytes(5)), [Some(15), Some(15), Some(20), Some(5), None]);
        assert_eq!(PixelLayout::Rgba8.row_bytes(usize::MAX / 3), None);
        assert_eq!(bytes(PixelLayout::Bgra8, 3, 2, 12), Some(24));
        // Two pixels share their colour.
        assert_eq!(bytes(PixelLayout::Yuyv, 4, 3, 10), Some(28));
        assert_eq!(bytes(PixelLayout::Yuyv, 3, 3, 10), None);
        assert_eq!(bytes(PixelLayout::Yuyv, 4, 3, 7), None);
        // A plane of 4 rows, then one of 2.
        assert_eq!(bytes(PixelLayout::Nv12, 6, 4, 8), Some(46));
        assert_eq!(bytes(PixelLayout::Nv12, 6, 3, 8), None);
        assert_eq!(bytes(PixelLayout::Nv12, 5, 4, 8), None);
        // As long as it says, whatever its picture's size.
        assert_eq!(bytes(PixelLayout::Jpeg, 640, 480, 999), Some(999));
        assert_eq!(bytes(PixelLayout::Jpeg, 640, 480, 0), None);
        assert_eq!(bytes(PixelLayout::Jpeg, 640, 480, 1001), None);
        let camera =
            Camera { width: u32::MAX, height: u32::MAX, stride: u32::MAX, format: PixelLayout::Nv12 as u32 };
        assert_eq!(camera.bytes(usize::MAX), None);
    }
}
