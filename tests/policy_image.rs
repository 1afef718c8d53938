//! Frames to model images, against the libraries PI0 policies were trained with.

#![cfg(feature = "engine")]

use pi0rt::policy::{Frame, FrameError, ImageProcessor, PixelFormat};

/// A frame of red, green, blue without padding.
fn rgb(data: &[u8], width: usize, height: usize) -> Frame<'_> {
    Frame { data, width, height, stride: width * 3, format: PixelFormat::Rgb8 }
}

/// The frame drawn by the script behind `images/pillow.txt`.
fn pattern(width: usize, height: usize) -> Vec<u8> {
    let mut data = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            data.extend((0..3).map(|c| ((x * 37 + y * 101 + c * 59 + (x * y) % 23 * 7) % 256) as u8));
        }
    }
    data
}

fn resize(frame: &Frame<'_>, size: usize, antialias: bool) -> Vec<f32> {
    let mut image = vec![f32::NAN; 3 * size * size];
    ImageProcessor::new(size, antialias).process(frame, &mut image).unwrap();
    image
}

/// `images/pillow.txt` has width, height, size and the bytes `[size, size, 3]` that openpi's client
/// (`Image.resize(…, BILINEAR)` pasted on black) computes from `pattern(width, height)`.
#[test]
fn antialiased_resize_equals_pillow_byte_for_byte() {
    let mut cases = 0;
    for line in include_str!("images/pillow.txt").lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split(' ').collect();
        let [width, height, size] = [0, 1, 2].map(|i| fields[i].parse::<usize>().unwrap());
        let expected: Vec<u8> = (0..fields[3].len() / 2)
            .map(|i| u8::from_str_radix(&fields[3][2 * i..2 * i + 2], 16).unwrap())
            .collect();
        let image = resize(&rgb(&pattern(width, height), width, height), size, true);
        for (i, pixel) in expected.chunks_exact(3).enumerate() {
            for (c, byte) in pixel.iter().enumerate() {
                let got = image[c * size * size + i];
                assert_eq!(got, f32::from(*byte) / 255.0 * 2.0 - 1.0, "{width}x{height} to {size}, {i}, {c}");
            }
        }
        cases += 1;
    }
    assert_eq!(cases, 9);
}

#[test]
fn bilinear_takes_the_two_nearest_pixels_whatever_the_scale() {
    // A row of 8 to a row of 2: centres at 1.5 and 5.5 of the input, rows at 0.
    let gray: Vec<u8> = vec![0, 10, 20, 200, 0, 100, 50, 255];
    let frame = Frame { data: &gray, width: 8, height: 4, stride: 0, format: PixelFormat::Gray8 };
    let data = gray.repeat(4);
    let frame = Frame { data: &data, stride: 8, ..frame };
    let image = resize(&frame, 2, false);
    let value = |byte: f32| byte / 255.0 * 2.0 - 1.0;
    for plane in image.chunks_exact(4) {
        assert!((plane[0] - value(15.0)).abs() < 1e-6);
        assert!((plane[1] - value(75.0)).abs() < 1e-6);
        assert_eq!(plane[2..], [-1.0, -1.0], "one row of image, one of padding below");
    }
}

#[test]
fn a_frame_of_the_models_size_is_only_scaled() {
    let data = pattern(5, 5);
    for antialias in [false, true] {
        let image = resize(&rgb(&data, 5, 5), 5, antialias);
        for (i, byte) in data.iter().enumerate() {
            assert_eq!(image[i % 3 * 25 + i / 3], f32::from(*byte) / 255.0 * 2.0 - 1.0);
        }
    }
}

#[test]
fn pixel_formats_and_strides_make_no_difference() {
    let (width, height) = (31, 17);
    let tight = pattern(width, height);
    let mut padded = vec![77; (width * 4 + 5) * height];
    for antialias in [false, true] {
        let expected = resize(&rgb(&tight, width, height), 12, antialias);
        for format in [PixelFormat::Rgb8, PixelFormat::Bgr8, PixelFormat::Rgba8] {
            let stride = width * 4 + 5;
            for (i, pixel) in tight.chunks_exact(3).enumerate() {
                let at = i / width * stride + i % width * format.bytes();
                padded[at..at + 3].copy_from_slice(pixel);
                if format == PixelFormat::Bgr8 {
                    padded[at..at + 3].reverse();
                }
            }
            let frame = Frame { data: &padded, width, height, stride, format };
            assert_eq!(resize(&frame, 12, antialias), expected, "{format:?}");
            // The last row needs no padding after it.
            let end = stride * (height - 1) + width * format.bytes();
            let frame = Frame { data: &padded[..end], ..frame };
            assert_eq!(resize(&frame, 12, antialias), expected, "{format:?}");
        }
    }
}

#[test]
fn uniform_frames_stay_uniform_and_are_centred() {
    let data = vec![200; 40 * 10 * 3];
    for antialias in [false, true] {
        let image = resize(&rgb(&data, 40, 10), 16, antialias);
        for (i, value) in image.iter().enumerate() {
            let expected = if (6..10).contains(&(i % 256 / 16)) { 200.0 / 255.0 * 2.0 - 1.0 } else { -1.0 };
            assert!((value - expected).abs() < 1e-6, "{i}: {value}");
        }
    }
}

#[test]
fn sizes_may_change_from_frame_to_frame() {
    for antialias in [false, true] {
        let mut resizer = ImageProcessor::new(16, antialias);
        for (width, height) in [(9, 7), (100, 80), (2000, 1500), (16, 16), (9, 7), (7, 9)] {
            let data = pattern(width, height);
            let mut image = vec![f32::NAN; 3 * 16 * 16];
            resizer.process(&rgb(&data, width, height), &mut image).unwrap();
            assert_eq!(image, resize(&rgb(&data, width, height), 16, antialias));
        }
    }
}

#[test]
fn impossible_frames_are_refused() {
    let data = vec![0; 100];
    let refuse = |frame: Frame<'_>, message: &str| {
        for antialias in [false, true] {
            let mut image = vec![0.0; 3 * 16 * 16];
            let error = ImageProcessor::new(16, antialias).process(&frame, &mut image).unwrap_err();
            assert_eq!(error.to_string(), message);
        }
    };
    let frame = rgb(&data, 5, 5);
    refuse(Frame { width: 0, ..frame }, "frame is 0x5 pixels, expected at least 1x1");
    refuse(
        Frame { stride: 14, ..frame },
        "frame's stride is 14 bytes, expected at least 5 pixels of Rgb8, 15 bytes",
    );
    refuse(
        Frame { data: &data[..74], ..frame },
        "frame holds 74 bytes, expected 5 rows of 5 pixels of Rgb8, 15 bytes apart",
    );
    refuse(
        Frame { height: usize::MAX, ..frame },
        &format!("frame holds 100 bytes, expected {} rows of 5 pixels of Rgb8, 15 bytes apart", usize::MAX),
    );
    refuse(
        Frame { width: usize::MAX, stride: usize::MAX, ..frame },
        &format!("frame's stride is {0} bytes, expected at least {0} pixels of Rgb8, {0} bytes", usize::MAX),
    );
    refuse(rgb(&data, 33, 1), "frame is 33x1 pixels: at 16x16 its short side would be less than one pixel");
    let mut image = vec![0.0; 3 * 16 * 16];
    assert!(matches!(
        ImageProcessor::new(16, false).process(&Frame { height: 0, ..frame }, &mut image),
        Err(FrameError::EmptyFrame { .. })
    ));
}
