//! PNG and JPEG files as RGB pixels.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

/// Longest side of an image that is decoded, pixels.
const MAX_SIDE: usize = 8192;
/// Longest file that is read.
const MAX_FILE: u64 = 256 << 20;

/// A decoded image, 8 bits per channel.
pub struct Picture {
    /// Pixels per row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Red, green, blue of every pixel, row after row without gaps.
    pub rgb: Vec<u8>,
}

/// A file that is no usable image, and why.
#[derive(Debug, thiserror::Error)]
#[error("image {}: {why}", path.display())]
pub struct PictureError {
    path: PathBuf,
    why: String,
}

/// Decodes a PNG or JPEG file, told apart by their first bytes. Gray and palette become RGB,
/// alpha is dropped, 16 bits become 8; EXIF rotation is not applied (as Pillow doesn't either).
/// A damaged file is an error, never a partly decoded image.
pub fn load(path: &Path) -> Result<Picture, PictureError> {
    let error = |why| PictureError { path: path.to_owned(), why };
    let bytes = read(path).map_err(error)?;
    match bytes.as_slice() {
        [0x89, b'P', b'N', b'G', ..] => decode_png(&bytes),
        [0xff, 0xd8, ..] => decode_jpeg(&bytes),
        [] => Err("the file is empty".into()),
        _ => Err("neither a PNG nor a JPEG file".into()),
    }
    .map_err(error)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    // A pipe or a device could block for ever: look before opening.
    let metadata = std::fs::metadata(path).map_err(|e| e.to_string())?;
    if !metadata.is_file() {
        return Err("not a regular file".into());
    }
    if metadata.len() > MAX_FILE {
        return Err(format!("{} bytes, more than the {MAX_FILE} that are read", metadata.len()));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|e| e.to_string())?;
    file.take(MAX_FILE).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    Ok(bytes)
}

fn check_size(width: usize, height: usize) -> Result<(), String> {
    if width == 0 || height == 0 || width > MAX_SIDE || height > MAX_SIDE {
        return Err(format!("{width}x{height} pixels, expected 1x1 to {MAX_SIDE}x{MAX_SIDE}"));
    }
    Ok(())
}

fn decode_png(bytes: &[u8]) -> Result<Picture, String> {
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), png::Limits { bytes: 1 << 30 });
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let header = decoder.read_header_info().map_err(|e| e.to_string())?;
    let (width, height) = (header.width as usize, header.height as usize);
    check_size(width, height)?;
    let mut reader = decoder.read_info().map_err(|e| e.to_string())?;
    let size = reader.output_buffer_size().ok_or("too large for this machine's memory")?;
    let mut pixels = vec![0; size];
    let frame = reader.next_frame(&mut pixels).map_err(|e| e.to_string())?;
    if (frame.width as usize, frame.height as usize) != (width, height) {
        return Err(format!(
            "its first frame is {}x{}, the image {width}x{height}: animations are not supported",
            frame.width, frame.height
        ));
    }
    pixels.truncate(frame.buffer_size());
    let channels = match frame.color_type {
        png::ColorType::Grayscale | png::ColorType::Indexed => 1,
        png::ColorType::GrayscaleAlpha => 2,
        png::ColorType::Rgb => 3,
        png::ColorType::Rgba => 4,
    };
    let rgb = match channels {
        3 => pixels,
        4 => pixels.as_chunks::<4>().0.iter().flat_map(|p| [p[0], p[1], p[2]]).collect(),
        n => pixels.chunks_exact(n).flat_map(|p| [p[0]; 3]).collect(),
    };
    Ok(Picture { width, height, rgb })
}

fn decode_jpeg(bytes: &[u8]) -> Result<Picture, String> {
    // Not strict, a decoder fills what is missing with gray.
    let options = DecoderOptions::new_safe()
        .set_strict_mode(true)
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX))
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(Cursor::new(bytes), options);
    decoder.decode_headers().map_err(|e| e.to_string())?;
    let info = decoder.info().ok_or("no size in its header")?;
    let (width, height) = (usize::from(info.width), usize::from(info.height));
    check_size(width, height)?;
    let rgb = decoder.decode().map_err(|e| e.to_string())?;
    if rgb.len() != width * height * 3 {
        return Err(format!("decodes to {} bytes, expected {}", rgb.len(), width * height * 3));
    }
    Ok(Picture { width, height, rgb })
}
