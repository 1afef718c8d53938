//! A sheet with both cameras' images and the state of the arm: a frame of the film.

use super::record::Moment;
use crate::tabletop::{Camera, JOINTS, Scene, render};

/// Side of the front camera's image; the wrist camera's is half of it.
const FRONT: usize = 320;
const WRIST: usize = FRONT / 2;
/// Size of a sheet.
pub const WIDTH: usize = FRONT + WRIST;
pub const HEIGHT: usize = FRONT + TIMELINE;
/// Height of the line of stages below.
const TIMELINE: usize = 10;

const PAPER: [u8; 3] = [24, 26, 30];
const TRACK: [u8; 3] = [58, 62, 70];
const JOINT: [u8; 3] = [214, 218, 224];
const COMMAND: [u8; 3] = [250, 176, 40];
const DONE: [u8; 3] = [70, 200, 110];
/// Colours of the player's stages, by number.
const STAGES: [[u8; 3]; 5] = [[90, 90, 90], [70, 130, 220], [240, 200, 60], [240, 140, 40], [220, 60, 50]];
/// Ranges of the joints that the bars show.
const RANGES: [(f64, f64); JOINTS] = [(-2.2, 2.2), (0.15, 2.75), (-3.2, 3.2), (0.0, 0.16)];

/// A sheet, RGB `[HEIGHT, WIDTH, 3]`.
pub struct Sheet {
    pub pixels: Vec<u8>,
}

impl Sheet {
    /// Draws the moment at `at` of a film.
    pub fn draw(scene: &Scene, film: &[Moment], at: usize) -> Sheet {
        let mut sheet = Sheet { pixels: PAPER.repeat(WIDTH * HEIGHT) };
        let (moment, mut samples) = (&film[at], Vec::new());
        for (camera, side, left) in [(Camera::Front, FRONT, 0), (Camera::Wrist, WRIST, FRONT)] {
            let mut image = vec![0; side * side * 3];
            render(camera, &moment.world, scene, side, &mut samples, &mut image);
            for (row, line) in image.chunks_exact(side * 3).enumerate() {
                let start = (row * WIDTH + left) * 3;
                sheet.pixels[start..start + side * 3].copy_from_slice(line);
            }
        }
        sheet.bars(moment);
        // What has passed of the film, in the colours of its stages, and green since the task is done.
        for (i, past) in film[..=at].iter().enumerate() {
            let [from, to] = [i, i + 1].map(|i| i * WIDTH / film.len());
            let colour = if past.success { DONE } else { STAGES[past.stage] };
            sheet.fill(from, FRONT + 3, to.saturating_sub(from), TIMELINE - 4, colour);
        }
        sheet
    }

    /// Draws a bar for each joint: its position, and as a mark its command.
    fn bars(&mut self, moment: &Moment) {
        let (left, width) = (FRONT + 14, WRIST - 28);
        for (joint, (low, high)) in RANGES.into_iter().enumerate() {
            let top = WRIST + 22 + joint * 34;
            let at = |value: f64| ((value - low) / (high - low)).clamp(0.0, 1.0) * (width - 4) as f64;
            self.fill(left, top, width, 12, TRACK);
            self.fill(left, top, at(moment.world.joints[joint]) as usize + 2, 12, JOINT);
            self.fill(left + at(moment.command[joint].into()) as usize, top - 4, 3, 20, COMMAND);
        }
    }

    fn fill(&mut self, left: usize, top: usize, width: usize, height: usize, colour: [u8; 3]) {
        for row in top..top + height {
            let start = (row * WIDTH + left) * 3;
            self.pixels[start..start + width * 3].as_chunks_mut().0.fill(colour);
        }
    }
}
