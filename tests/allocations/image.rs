//! Frames become images without a heap allocation, whatever their size.

use crate::counting;
use pi0rt::policy::{Frame, ImageProcessor, MAX_FRAME, PixelFormat};

#[test]
fn processing_frames_allocates_nothing() {
    counting::in_own_process("image::processing_frames_allocates_nothing", every_format);
}

fn every_format() {
    let (max_width, max_height) = MAX_FRAME;
    let data = vec![7; max_width * max_height * 4];
    let mut image = vec![0.0; 3 * 224 * 224];
    for antialias in [false, true] {
        let mut processor = ImageProcessor::new(224, antialias);
        let before = counting::allocations();
        for format in [PixelFormat::Rgb8, PixelFormat::Bgra8, PixelFormat::Gray8] {
            for (width, height) in [
                (640, 480),
                (224, 224),
                (max_width, max_height),
                (max_width, 9),
                (5, max_height),
                (1, 1),
                (223, 225),
                (max_width, max_height),
            ] {
                let frame = Frame { data: &data, width, height, stride: width * format.bytes(), format };
                processor.process(&frame, &mut image).unwrap();
            }
        }
        for format in [PixelFormat::Yuyv, PixelFormat::Nv12] {
            for (width, height) in [(640, 480), (max_width, max_height), (2, 2)] {
                let frame = Frame { data: &data, width, height, stride: width * format.bytes(), format };
                processor.process(&frame, &mut image).unwrap();
            }
        }
        assert_eq!(counting::allocations() - before, 0, "antialias {antialias}");
    }
}
