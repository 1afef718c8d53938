//! Decodes PNG and JPEG files to RGB pixels.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use pi0rt::policy::jpeg;

/// Longest accepted side of an image, pixels.
const MAX_SIDE: usize = 8192;
/// Largest accepted file, bytes.
const MAX_FILE: u64 = 256 << 20;

/// A decoded image, 8 bits per channel.
pub struct Picture {
    /// Pixels per row.
    pub width: usize,
    /// Number of rows.
    pub height: usize,
    /// Red, green and blue of every pixel, row after row without padding.
    pub rgb: Vec<u8>,
}

/// A file can't be used as an image; with the reason.
#[derive(Debug, thiserror::Error)]
#[error("image {}: {why}", path.display())]
pub struct PictureError {
    path: PathBuf,
    why: String,
}

/// Decodes a PNG or JPEG file, detected by its first bytes. Gray and palette become RGB, alpha is dropped,
/// 16 bits become 8; EXIF rotation is not applied (nor does Pillow). A damaged file is an error, never a
/// partly decoded image.
pub fn load(path: &Path) -> Result<Picture, PictureError> {
    let error = |why| PictureError { path: path.to_owned(), why };
    read(path).and_then(|bytes| decode(&bytes)).map_err(error)
}

/// [`load`] for a file in memory.
pub fn decode(bytes: &[u8]) -> Result<Picture, String> {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => decode_png(bytes),
        [0xff, 0xd8, ..] => decode_jpeg(bytes),
        [] => Err("the file is empty".into()),
        _ => Err("neither a PNG nor a JPEG file".into()),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    // A pipe or a device could block for ever: check before opening.
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
    let (width, height) = jpeg::size(bytes)?;
    check_size(width, height)?;
    let mut rgb = Vec::new();
    jpeg::decode_any(bytes, (width, height), &mut rgb)?;
    Ok(Picture { width, height, rgb })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/images").join(name)
    }

    fn scratch(name: &str, bytes: &[u8]) -> PathBuf {
        let path = std::env::temp_dir().join(format!("pi0rt-picture-{}-{name}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn refuse(name: &str, bytes: &[u8]) -> String {
        let path = scratch(name, bytes);
        let result = load(&path);
        std::fs::remove_file(&path).unwrap();
        let message = result.err().unwrap().to_string();
        let start = format!("image {}: ", path.display());
        message.strip_prefix(&start).unwrap_or_else(|| panic!("{message}")).to_owned()
    }

    fn png(width: u32, height: u32, color: png::ColorType, depth: png::BitDepth, pixels: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(color);
        encoder.set_depth(depth);
        if color == png::ColorType::Indexed {
            encoder.set_palette(&[1u8, 2, 3, 40, 50, 60][..]);
        }
        encoder.write_header().unwrap().write_image_data(pixels).unwrap();
        bytes
    }

    /// `frame.png` holds what Pillow 11.3 (libjpeg-turbo) decodes `frame.jpg` to.
    #[test]
    fn jpeg_decodes_as_pillow_does() {
        let (jpeg, expected) = (load(&data("frame.jpg")).unwrap(), load(&data("frame.png")).unwrap());
        assert_eq!((jpeg.width, jpeg.height), (40, 24));
        assert_eq!((expected.width, expected.height), (40, 24));
        let far = jpeg.rgb.iter().zip(&expected.rgb).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(far <= Some(3), "{far:?}");
    }

    #[test]
    fn every_kind_of_png_becomes_rgb() {
        use png::{BitDepth, ColorType};
        let cases: [(ColorType, BitDepth, &[u8], [u8; 6]); 7] = [
            (ColorType::Rgb, BitDepth::Eight, &[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6]),
            (ColorType::Rgba, BitDepth::Eight, &[1, 2, 3, 0, 4, 5, 6, 9], [1, 2, 3, 4, 5, 6]),
            (ColorType::Grayscale, BitDepth::Eight, &[7, 8], [7, 7, 7, 8, 8, 8]),
            (ColorType::Grayscale, BitDepth::One, &[0b0100_0000], [0, 0, 0, 255, 255, 255]),
            (ColorType::GrayscaleAlpha, BitDepth::Eight, &[7, 0, 8, 1], [7, 7, 7, 8, 8, 8]),
            (ColorType::Indexed, BitDepth::Eight, &[1, 0], [40, 50, 60, 1, 2, 3]),
            (ColorType::Rgb, BitDepth::Sixteen, &[1, 99, 2, 0, 3, 0, 4, 0, 5, 0, 6, 255], [1, 2, 3, 4, 5, 6]),
        ];
        for (i, (color, depth, pixels, expected)) in cases.into_iter().enumerate() {
            let path = scratch(&format!("kind-{i}.png"), &png(2, 1, color, depth, pixels));
            let picture = load(&path).unwrap();
            std::fs::remove_file(path).unwrap();
            assert_eq!((picture.width, picture.height), (2, 1));
            assert_eq!(picture.rgb, expected, "{color:?} {depth:?}");
        }
    }

    #[test]
    fn damaged_files_are_refused() {
        assert_eq!(refuse("empty", b""), "the file is empty");
        assert_eq!(refuse("text", b"hello"), "neither a PNG nor a JPEG file");
        for name in ["frame.png", "frame.jpg"] {
            let bytes = std::fs::read(data(name)).unwrap();
            for end in (3..bytes.len() * 9 / 10).step_by(41) {
                refuse(&format!("{end}-{name}"), &bytes[..end]);
            }
        }
    }

    #[test]
    fn sizes_are_bounded() {
        use png::{BitDepth, ColorType};
        let wide = png(8193, 1, ColorType::Grayscale, BitDepth::Eight, &[0; 8193]);
        assert_eq!(refuse("wide.png", &wide), "8193x1 pixels, expected 1x1 to 8192x8192");
        // The frame header of the JPEG, with another width.
        let mut jpeg = std::fs::read(data("frame.jpg")).unwrap();
        let header = jpeg.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
        jpeg[header + 7..header + 9].copy_from_slice(&60_000u16.to_be_bytes());
        assert_eq!(refuse("wide.jpg", &jpeg), "60000x24 pixels, expected 1x1 to 8192x8192");
    }

    #[test]
    fn only_regular_files_are_opened() {
        let message = load(Path::new("/dev/zero")).err().unwrap().to_string();
        assert_eq!(message, "image /dev/zero: not a regular file");
        let message = load(Path::new("/nonexistent.png")).err().unwrap().to_string();
        assert!(message.starts_with("image /nonexistent.png: No such file"), "{message}");
    }
}
