//! Camera frames as they come from a driver.

use super::error::FrameError;

/// Layout of a frame's pixels.
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

    /// Byte positions of red, green and blue in a pixel.
    pub(super) const fn rgb(self) -> [usize; 3] {
        match self {
            PixelFormat::Rgb8 | PixelFormat::Rgba8 => [0, 1, 2],
            PixelFormat::Bgr8 => [2, 1, 0],
            PixelFormat::Gray8 => [0, 0, 0],
        }
    }
}

/// A borrowed camera frame.
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
    /// Pixel format.
    pub format: PixelFormat,
}

impl<'a> Frame<'a> {
    /// Checks that the bytes match size, stride and format.
    pub(super) fn check(&self) -> Result<(), FrameError> {
        let Frame { width, height, stride, format, data } = *self;
        if width == 0 || height == 0 {
            return Err(FrameError::EmptyFrame { width, height });
        }
        let row = width.checked_mul(format.bytes()).filter(|row| *row <= stride);
        let Some(row) = row else {
            return Err(FrameError::Stride { width, format, stride });
        };
        let needed = stride.checked_mul(height - 1).and_then(|rows| rows.checked_add(row));
        if needed.is_none_or(|needed| needed > data.len()) {
            return Err(FrameError::FrameBytes { width, height, stride, format, got: data.len() });
        }
        Ok(())
    }

    /// The bytes of row `y` without padding. The frame must have been checked.
    pub(super) fn row(&self, y: usize) -> &'a [u8] {
        &self.data[y * self.stride..][..self.width * self.format.bytes()]
    }
}
