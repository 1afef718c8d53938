//! Frames become images without a heap allocation, whatever their size.
//!
//! One test in this file: the allocator counts for the whole process.

#![cfg(feature = "engine")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use pi0rt::policy::{Frame, ImageProcessor, MAX_FRAME, PixelFormat};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: hands everything to the system allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(ptr, layout) }
    }
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn processing_frames_allocates_nothing() {
    let (max_width, max_height) = MAX_FRAME;
    let data = vec![7; max_width * max_height * 4];
    let mut image = vec![0.0; 3 * 224 * 224];
    for antialias in [false, true] {
        let mut processor = ImageProcessor::new(224, antialias);
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        for format in [PixelFormat::Rgb8, PixelFormat::Rgba8, PixelFormat::Gray8] {
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
        assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - before, 0, "antialias {antialias}");
    }
}
