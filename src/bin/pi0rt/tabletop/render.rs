//! The two cameras' images, drawn from far to near.
//!
//! An image has 2 x 2 samples per pixel, whose mean, times the scene's light, is the pixel.

use super::arm::{self, BASE_Y, PRONG_OFFSET, PRONG_RADIUS};
use super::exact::sin_cos;
use super::prism::{Canvas, Colour, Paint, View, beam, rectangle};
use super::scene::{BLOCKS, HALF, HEIGHT, LINE_X, Scene, TABLE_X, TABLE_Y};
use super::world::World;

/// Side of the images that policies were trained with, pixels.
pub const SIDE: usize = 64;
/// The cameras, in the checkpoint's order.
pub const CAMERAS: [Camera; 2] = [Camera::Front, Camera::Wrist];

const FLOOR: Colour = [70, 74, 82];
const TABLE: Colour = [206, 198, 184];
const ZONE: Colour = [180, 186, 176];
const PAINT: [Colour; 4] = [[216, 36, 40], [36, 158, 60], [40, 84, 226], [240, 200, 30]];
const BODY: Colour = [236, 238, 240];
const LINK: Colour = [150, 156, 166];
const STEEL: Colour = [46, 48, 56];

const FRONT_EYE: [f64; 3] = [0.0, -0.50, 0.84];
const FRONT_AT: [f64; 3] = [0.0, 0.02, 0.0];
const FRONT_FOCUS: f64 = 2.5;
/// Height of the wrist camera above the tool's tip.
const WRIST_ABOVE: f64 = 0.15;
const WRIST_FOCUS: f64 = 1.25;
/// Turned by nothing.
const STRAIGHT: (f64, f64) = (0.0, 1.0);

/// A camera.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Camera {
    /// Stands before the table.
    Front,
    /// Looks down along the tool; its right is the tool's right.
    Wrist,
}

impl Camera {
    /// Name, as checkpoints have it.
    pub fn name(self) -> &'static str {
        match self {
            Camera::Front => "front",
            Camera::Wrist => "wrist",
        }
    }

    /// The camera of this name.
    pub fn named(name: &str) -> Option<Camera> {
        CAMERAS.into_iter().find(|camera| camera.name() == name)
    }

    fn view(self, world: &World) -> View {
        match self {
            Camera::Front => {
                let [x, y, z]: [f64; 3] = std::array::from_fn(|i| FRONT_AT[i] - FRONT_EYE[i]);
                let length = (x * x + y * y + z * z).sqrt();
                let f = [x / length, y / length, z / length];
                // The camera looks along +y and down, and is not tilted.
                View {
                    eye: FRONT_EYE,
                    right: [1.0, 0.0, 0.0],
                    down: [0.0, f[2], -f[1]],
                    forward: f,
                    focus: FRONT_FOCUS,
                }
            }
            Camera::Wrist => {
                let q = &world.joints;
                let ((x, y), (s, c)) = (arm::tool(q), arm::yaw(q));
                View {
                    eye: [x, y, q[3] + WRIST_ABOVE],
                    right: [c, s, 0.0],
                    down: [s, -c, 0.0],
                    forward: [0.0, 0.0, -1.0],
                    focus: WRIST_FOCUS,
                }
            }
        }
    }
}

/// Renders a camera's image into `out`, RGB `[side, side, 3]`; `samples` is memory that is reused.
///
/// # Panics
/// If `out` has another length.
pub fn render(
    camera: Camera,
    world: &World,
    scene: &Scene,
    side: usize,
    samples: &mut Vec<[i64; 3]>,
    out: &mut [u8],
) {
    assert_eq!(out.len(), side * side * 3);
    samples.clear();
    samples.resize(4 * side * side, FLOOR);
    let mut canvas = Canvas { view: camera.view(world), side: 2 * side, samples: std::mem::take(samples) };
    draw(&mut canvas, camera, world, scene);
    let rows = canvas.samples.chunks_exact(4 * side);
    for (pair, line) in rows.zip(out.chunks_exact_mut(3 * side)) {
        let (upper, lower) = pair.split_at(2 * side);
        let quads = upper.chunks_exact(2).zip(lower.chunks_exact(2));
        for ((above, below), pixel) in quads.zip(line.chunks_exact_mut(3)) {
            for (k, channel) in pixel.iter_mut().enumerate() {
                let total = above[0][k] + above[1][k] + below[0][k] + below[1][k];
                *channel = ((total * scene.light) >> 10) as u8;
            }
        }
    }
    *samples = canvas.samples;
}

fn draw(canvas: &mut Canvas, camera: Camera, world: &World, scene: &Scene) {
    let World { joints: q, blocks } = world;
    let (tool, turned) = (arm::tool(q), arm::yaw(q));
    let cover = |colour| Paint::Cover(colour, 256);
    canvas.prism(&rectangle((0.0, 0.0), STRAIGHT, TABLE_X, TABLE_Y), -0.03, 0.0, TABLE);
    let zone = 0.5 * (TABLE_X - LINE_X);
    for middle in [LINE_X + zone, -LINE_X - zone] {
        canvas.flat(&rectangle((middle, 0.0), STRAIGHT, zone, TABLE_Y), 0.0, cover(ZONE));
    }
    // Shadows of a light that stands high, in front and on the left.
    for block in blocks {
        let shadow = rectangle((block[0] + 0.008, block[1] + 0.006), sin_cos(block[2]), HALF, HALF);
        canvas.flat(&shadow, 0.0, Paint::Shade(190));
    }
    let shadow = rectangle(tool, turned, 0.012, PRONG_OFFSET + PRONG_RADIUS);
    canvas.flat(&shadow, 0.0, Paint::Shade(150));
    let block = |canvas: &mut Canvas, i: usize| {
        let [x, y, angle] = blocks[i];
        let corners = rectangle((x, y), sin_cos(angle), HALF, HALF);
        canvas.prism(&corners, 0.0, HEIGHT, PAINT[scene.colours[i]]);
    };
    if camera == Camera::Wrist {
        (0..BLOCKS).for_each(|i| block(canvas, i));
        fork(canvas, tool, q[3], turned, false);
        return;
    }
    let mut order: [usize; BLOCKS] = std::array::from_fn(|i| i);
    order.sort_by(|a, b| blocks[*b][1].total_cmp(&blocks[*a][1]));
    let is_behind = |i: &usize| blocks[*i][1] >= tool.1;
    order.iter().filter(|i| is_behind(i)).for_each(|i| block(canvas, *i));
    canvas.prism(&rectangle((0.0, BASE_Y), STRAIGHT, 0.05, 0.05), -0.03, 0.275, BODY);
    let elbow = arm::elbow(q[0]);
    fork(canvas, tool, q[3], turned, true);
    canvas.prism(&beam(elbow, tool, 0.022), 0.235, 0.275, LINK);
    canvas.prism(&beam((0.0, BASE_Y), elbow, 0.028), 0.275, 0.315, BODY);
    order.iter().filter(|i| !is_behind(i)).for_each(|i| block(canvas, *i));
}

/// Draws the tool: two prongs and, with `column`, the bar above them and the column that carries it.
fn fork(canvas: &mut Canvas, (x, y): (f64, f64), z: f64, (s, c): (f64, f64), column: bool) {
    for k in 0..2 {
        // The prong that is farther from the front camera first.
        let side = if (k == 0) == (c > 0.0) { PRONG_OFFSET } else { -PRONG_OFFSET };
        let corners = rectangle((x - s * side, y + c * side), (s, c), PRONG_RADIUS, PRONG_RADIUS);
        canvas.prism(&corners, z, z + 0.045, STEEL);
    }
    if column {
        let bar = rectangle((x, y), (s, c), 0.010, PRONG_OFFSET + PRONG_RADIUS);
        canvas.prism(&bar, z + 0.045, z + 0.058, STEEL);
        canvas.prism(&rectangle((x, y), (s, c), 0.010, 0.010), z + 0.058, 0.235, BODY);
    }
}
