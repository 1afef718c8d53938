//! From camera frames, state and an instruction to actions: everything around the model.

/// How a frame's bytes are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PixelFormat {
    /// 3 bytes per pixel: red, green, blue.
    Rgb8,
    /// 3 bytes per pixel: blue, green, red.
    Bgr8,
    /// 4 bytes per pixel: red, green, blue, ignored.
    Rgba8,
    /// 1 byte per pixel.
    Gray8,
}

impl PixelFormat {
    /// Bytes per pixel.
    pub const fn bytes(self) -> usize {
        match self {
            PixelFormat::Rgb8 | PixelFormat::Bgr8 => 3,
            PixelFormat::Rgba8 => 4,
            PixelFormat::Gray8 => 1,
        }
    }
}

/// One camera frame, borrowed.
#[derive(Clone, Copy)]
pub struct Frame<'a> {
    /// Rows of pixels, `stride` bytes apart.
    pub data: &'a [u8],
    /// Pixels per row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Bytes from one row to the next.
    pub stride: usize,
    /// Meaning of the bytes.
    pub format: PixelFormat,
}
