//! What can go wrong between an observation and a chunk, by whose fault it is.

use super::frame::PixelFormat;

/// An observation that can't be used: the fault of whoever made it. The policy is unharmed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BadObservation {
    /// A frame without pixels.
    #[error("frame is {width}x{height} pixels, expected at least 1x1")]
    EmptyFrame {
        /// Pixels per row.
        width: usize,
        /// Rows.
        height: usize,
    },
    /// Rows that would overlap.
    #[error("frame's stride is {stride} bytes, expected at least {width} pixels of {format:?}, {} bytes", width.saturating_mul(format.bytes()))]
    Stride {
        /// Pixels per row.
        width: usize,
        /// Meaning of the bytes.
        format: PixelFormat,
        /// Bytes from one row to the next.
        stride: usize,
    },
    /// Too few bytes for the declared size.
    #[error(
        "frame holds {got} bytes, expected {height} rows of {width} pixels of {format:?}, {stride} bytes apart"
    )]
    FrameBytes {
        /// Pixels per row.
        width: usize,
        /// Rows.
        height: usize,
        /// Bytes from one row to the next.
        stride: usize,
        /// Meaning of the bytes.
        format: PixelFormat,
        /// Bytes there are.
        got: usize,
    },
    /// Nothing is left of a side when the other is brought to the model's size.
    #[error("frame is {width}x{height} pixels: at {size}x{size} its short side would be less than one pixel")]
    AspectRatio {
        /// Pixels per row.
        width: usize,
        /// Rows.
        height: usize,
        /// The model's side.
        size: usize,
    },
}
