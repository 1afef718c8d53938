//! Frames to model images, against the libraries PI0 policies were trained with.

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
    for line in include_str!("../images/pillow.txt").lines().filter(|line| !line.starts_with('#')) {
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

/// Format, width, height, bytes and RGB of a frame.
type Converted = (PixelFormat, usize, usize, Vec<u8>, Vec<u8>);

/// The frames of `images/colour.txt`, one per line.
fn colour_cases() -> Vec<Converted> {
    let hex = |text: &str| -> Vec<u8> {
        (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
    };
    let lines = include_str!("../images/colour.txt").lines().filter(|line| !line.starts_with('#'));
    let case = |line: &str| {
        let fields: Vec<&str> = line.split(' ').collect();
        let format = match fields[0] {
            "yuyv" => PixelFormat::Yuyv,
            "nv12" => PixelFormat::Nv12,
            other => panic!("{other}"),
        };
        (format, fields[1].parse().unwrap(), fields[2].parse().unwrap(), hex(fields[3]), hex(fields[4]))
    };
    lines.map(case).collect()
}

/// Every filter makes the same of a frame as of the RGB that OpenCV converts it to.
#[test]
fn luma_and_colour_differences_become_what_opencv_makes_of_them() {
    let cases = colour_cases();
    assert_eq!(cases.len(), 4);
    for (format, width, height, data, expected) in cases {
        let stride = width * format.bytes();
        let frame = Frame { data: &data, width, height, stride, format };
        let expected = rgb(&expected, width, height);
        for (size, antialias) in [(2, false), (5, false), (2, true), (5, true), (width.max(height), false)] {
            assert_eq!(
                resize(&frame, size, antialias),
                resize(&expected, size, antialias),
                "{format:?} {size}"
            );
        }
        // Gaps behind rows, also between the planes.
        let gaps: Vec<u8> = data.chunks_exact(stride).flat_map(|row| [row, &[99; 3]].concat()).collect();
        let gaps = Frame { data: &gaps, stride: stride + 3, ..frame };
        assert_eq!(resize(&gaps, 5, false), resize(&expected, 5, false), "{format:?}");
    }
}

#[test]
fn bgra_is_rgb_in_another_order() {
    let data = [3, 2, 1, 77, 6, 5, 4, 88];
    let frame = Frame { data: &data, width: 2, height: 1, stride: 8, format: PixelFormat::Bgra8 };
    for antialias in [false, true] {
        assert_eq!(resize(&frame, 4, antialias), resize(&rgb(&[1, 2, 3, 4, 5, 6], 2, 1), 4, antialias));
    }
}

fn jpeg(data: &[u8], width: usize, height: usize) -> Frame<'_> {
    Frame { data, width, height, stride: 0, format: PixelFormat::Jpeg }
}

#[test]
fn a_jpeg_frame_is_decoded() {
    let data = include_bytes!("../images/frame.jpg");
    let mut decoded = Vec::new();
    pi0rt::policy::jpeg::decode(data, (40, 24), &mut decoded).unwrap();
    assert_eq!(decoded.len(), 40 * 24 * 3);
    for antialias in [false, true] {
        let expected = resize(&rgb(&decoded, 40, 24), 14, antialias);
        assert_eq!(resize(&jpeg(data, 40, 24), 14, antialias), expected);
    }
}

#[test]
fn frames_that_are_not_what_they_say_are_refused() {
    let refusal = |frame: Frame<'_>| {
        let mut image = vec![0.0; 3 * 14 * 14];
        ImageProcessor::new(14, false).process(&frame, &mut image).unwrap_err().to_string()
    };
    let data = include_bytes!("../images/frame.jpg");
    let message = refusal(jpeg(data, 40, 25));
    assert_eq!(message, "frame of 40x25 pixels: its JPEG image has 40x24 pixels");
    let message = refusal(jpeg(include_bytes!("../images/progressive.jpg"), 40, 24));
    assert_eq!(message, "frame of 40x24 pixels: its JPEG image is not a baseline image");
    assert_eq!(refusal(jpeg(&[], 40, 24)), "frame of 40x24 pixels: its JPEG image has no header");
    for end in (2..data.len() - 2).step_by(7) {
        refusal(jpeg(&data[..end], 40, 24));
    }
    // Any damage is an answer, never a panic.
    let mut image = vec![0.0; 3 * 14 * 14];
    for i in 2..data.len() {
        for value in [0, 0xff, data[i] ^ 0x10] {
            let mut damaged = data.to_vec();
            damaged[i] = value;
            let _ = ImageProcessor::new(14, false).process(&jpeg(&damaged, 40, 24), &mut image);
        }
    }

    let bytes = [0; 64];
    let frame = |format, width, height, stride| Frame { data: &bytes, width, height, stride, format };
    let message = refusal(frame(PixelFormat::Yuyv, 3, 2, 8));
    assert_eq!(message, "frame is 3x2 pixels of Yuyv, expected even sides where pixels share their colour");
    assert!(refusal(frame(PixelFormat::Nv12, 4, 3, 4)).contains("4x3 pixels of Nv12"));
    assert!(refusal(frame(PixelFormat::Yuyv, 4, 2, 7)).contains("stride is 7"));
    // 12 rows of luma and 6 of colours, 4 bytes apart.
    assert!(refusal(frame(PixelFormat::Nv12, 4, 12, 4)).contains("frame holds 64 bytes"));
}
