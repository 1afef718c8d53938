//! Camera frames as they come from a driver.

use super::error::FrameError;

/// Layout of a frame's pixels. Luma and colour differences are those of ITU-R BT.601 with
/// luma from 16 to 235, as cameras send them.
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
    /// 4 bytes per pixel: blue, green, red, ignored.
    Bgra8,
    /// 4 bytes per two pixels of a row: luma, blue difference, luma, red difference. Width is even.
    Yuyv,
    /// A plane of luma, then a plane of half as many rows with the blue and red differences of 2 by 2 pixels, both
    /// with the same stride. Width and height are even.
    Nv12,
    /// A baseline JPEG image, all of [`Frame::data`], of the frame's width and height. It has no stride.
    Jpeg,
}

impl PixelFormat {
    /// Bytes per pixel of a row: of luma for NV12, none for JPEG, which has no rows.
    pub const fn bytes(self) -> usize {
        match self {
            PixelFormat::Rgb8 | PixelFormat::Bgr8 => 3,
            PixelFormat::Rgba8 | PixelFormat::Bgra8 => 4,
            PixelFormat::Yuyv => 2,
            PixelFormat::Gray8 | PixelFormat::Nv12 => 1,
            PixelFormat::Jpeg => 0,
        }
    }

    /// Positions of red, green and blue in a pixel; None if they have to be computed.
    pub(super) const fn rgb(self) -> Option<[usize; 3]> {
        match self {
            PixelFormat::Rgb8 | PixelFormat::Rgba8 => Some([0, 1, 2]),
            PixelFormat::Bgr8 | PixelFormat::Bgra8 => Some([2, 1, 0]),
            PixelFormat::Gray8 => Some([0, 0, 0]),
            PixelFormat::Yuyv | PixelFormat::Nv12 | PixelFormat::Jpeg => None,
        }
    }

    /// True if a frame of this format can have this size: two pixels share their colour in some.
    const fn can_have(self, width: usize, height: usize) -> bool {
        match self {
            PixelFormat::Yuyv => width.is_multiple_of(2),
            PixelFormat::Nv12 => width.is_multiple_of(2) && height.is_multiple_of(2),
            _ => true,
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
        if !format.can_have(width, height) {
            return Err(FrameError::OddSize { width, height, format });
        }
        let row =
            width.checked_mul(format.bytes()).filter(|row| *row <= stride || format == PixelFormat::Jpeg);
        let Some(row) = row else {
            return Err(FrameError::Stride { width, format, stride });
        };
        let rows = match format {
            PixelFormat::Jpeg => return Ok(()),
            PixelFormat::Nv12 => height.checked_add(height / 2),
            _ => Some(height),
        };
        let needed =
            rows.and_then(|rows| stride.checked_mul(rows - 1)).and_then(|rows| rows.checked_add(row));
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
