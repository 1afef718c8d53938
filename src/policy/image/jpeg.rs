//! JPEG images: bounded, and never decoded in part.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

/// Largest camera frame that is decoded, pixels.
const MOST_PIXELS: usize = 3840 * 2160;

/// Decodes a camera's baseline image of this width and height to `rgb`, three bytes per pixel without gaps.
///
/// The time it takes is bounded by the size: images of more than one scan, which may pass over it any number of times
/// and which cameras don't send, are refused. The bytes may be anyone's.
///
/// # Errors
/// The reason, to follow "its JPEG image": another size, a progressive image, more than 3840 by 2160 pixels, damage.
pub fn decode(bytes: &[u8], size: (usize, usize), rgb: &mut Vec<u8>) -> Result<(), String> {
    let header = Header::find(bytes).ok_or("has no header")?;
    if (header.width, header.height) != size {
        return Err(format!("has {}x{} pixels", header.width, header.height));
    }
    if !header.baseline {
        return Err("is not a baseline image".into());
    }
    if header.width.saturating_mul(header.height) > MOST_PIXELS {
        return Err(format!("has more than {MOST_PIXELS} pixels"));
    }
    let data = header.one_scan().ok_or("has more than one scan")?;
    // A decoder takes the end of the bytes for the end of the image, and guesses the last pixels.
    if !data.windows(2).any(|marker| marker == [0xff, 0xd9]) {
        return Err("has no end".into());
    }
    decode_any(bytes, size, rgb)
}

/// Decodes an image file of this size to `rgb`: also a progressive one, in its own time.
///
/// # Errors
/// The reason, as of [`decode`].
pub fn decode_any(bytes: &[u8], (width, height): (usize, usize), rgb: &mut Vec<u8>) -> Result<(), String> {
    // Not strict, a decoder fills what is missing with gray.
    let options = DecoderOptions::new_safe()
        .set_strict_mode(true)
        .set_max_width(width)
        .set_max_height(height)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    // Foreign code on foreign bytes: a panic there is the image's fault.
    let decoded = catch_unwind(AssertUnwindSafe(|| {
        let mut decoder = JpegDecoder::new_with_options(Cursor::new(bytes), options);
        decoder.decode_headers().map_err(|error| error.to_string())?;
        let needed = decoder.output_buffer_size().ok_or("has no size")?;
        if needed != 3 * width * height {
            return Err(format!("decodes to {needed} bytes, expected {}", 3 * width * height));
        }
        rgb.clear();
        rgb.resize(needed, 0);
        decoder.decode_into(rgb).map_err(|error| error.to_string())
    }));
    decoded.unwrap_or_else(|_| Err("can't be decoded".into()))
}

/// Width and height of an image, pixels.
///
/// # Errors
/// Bytes that are no JPEG image.
pub fn size(bytes: &[u8]) -> Result<(usize, usize), String> {
    let header = Header::find(bytes).ok_or("no size in its header")?;
    Ok((header.width, header.height))
}

/// The part of a frame header (SOF, ITU-T T.81 B.2.2) that bounds the work of decoding.
struct Header<'a> {
    baseline: bool,
    width: usize,
    height: usize,
    components: u8,
    /// Everything behind the frame header.
    rest: &'a [u8],
}

/// The first marker of `bytes`, its segment without the length, and the bytes behind it.
fn next_segment(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    // Any number of fill bytes may precede a marker.
    let start = bytes.iter().position(|byte| *byte != 0xff).filter(|start| *start > 0)?;
    let (marker, behind) = (bytes[start], &bytes[start + 1..]);
    let length = usize::from(u16::from_be_bytes([*behind.first()?, *behind.get(1)?])).max(2);
    Some((marker, behind.get(2..length)?, &behind[length..]))
}

impl<'a> Header<'a> {
    /// The first frame header before the image's data.
    fn find(bytes: &'a [u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(&[0xff, 0xd8])?;
        loop {
            let (marker, segment, behind) = next_segment(rest)?;
            match marker {
                // SOF0 to SOF15, but for the tables DHT, JPG and DAC.
                0xc0..=0xcf if ![0xc4, 0xc8, 0xcc].contains(&marker) => {
                    let &[_, h1, h0, w1, w0, components, ..] = segment else { return None };
                    let side = |high, low| usize::from(u16::from_be_bytes([high, low]));
                    return Some(Header {
                        baseline: marker <= 0xc1,
                        width: side(w1, w0),
                        height: side(h1, h0),
                        components,
                        rest: behind,
                    });
                }
                // Data without a frame header before it.
                0xda | 0xd9 => return None,
                _ => rest = behind,
            }
        }
    }

    /// The data of the image's one scan, of all its components, to the end of the bytes; None if there are more scans.
    fn one_scan(&self) -> Option<&'a [u8]> {
        let mut rest = self.rest;
        loop {
            let (marker, segment, behind) = next_segment(rest)?;
            if marker == 0xda {
                // Within the data, a byte 0xff is followed by 0 or a restart marker.
                let is_one = segment.first() == Some(&self.components)
                    && !behind.windows(2).any(|marker| marker == [0xff, 0xda]);
                return is_one.then_some(behind);
            }
            rest = behind;
        }
    }
}
