//! Flat-shaded prisms, drawn with integer arithmetic.
//!
//! Points are projected in double precision and rounded to 1/16 of a sample; a sample is inside a convex polygon if it is on
//! the inner side of, or on, each edge. Everything is in front of the cameras, always, so nothing is clipped but by the
//! image's border.

/// Colour, red, green and blue.
pub type Colour = [i64; 3];
/// Corners of a quadrilateral (x, y), counterclockwise as seen from above.
pub type Corners = [(f64, f64); 4];

/// A camera's position and axes, and half the image's width over the focal length.
pub struct View {
    pub eye: [f64; 3],
    pub right: [f64; 3],
    pub down: [f64; 3],
    pub forward: [f64; 3],
    pub focus: f64,
}

/// An image of samples, `[side, side]`, seen by a camera.
pub struct Canvas {
    pub view: View,
    pub side: usize,
    pub samples: Vec<Colour>,
}

/// Treatment of the samples that are inside a polygon.
#[derive(Clone, Copy)]
pub enum Paint {
    /// They get the colour times this / 256.
    Cover(Colour, i64),
    /// They are multiplied by this / 256.
    Shade(i64),
}

impl Canvas {
    /// Image position of a point in 1/16 samples.
    fn project(&self, x: f64, y: f64, z: f64) -> (i64, i64) {
        let View { eye, right, down, forward, focus } = &self.view;
        let (dx, dy, dz) = (x - eye[0], y - eye[1], z - eye[2]);
        let u = dx * right[0] + dy * right[1] + dz * right[2];
        let v = dx * down[0] + dy * down[1] + dz * down[2];
        let w = dx * forward[0] + dy * forward[1] + dz * forward[2];
        let half = 8.0 * self.side as f64;
        let at = |along: f64| (half + half * focus * along / w + 0.5).floor() as i64;
        (at(u), at(v))
    }

    /// Fills a convex quadrilateral, given in either direction.
    fn fill(&mut self, p: &[(i64, i64); 4], paint: Paint) {
        let edges = [(0, 1), (1, 2), (2, 3), (3, 0)].map(|(i, j): (usize, usize)| (p[i], p[j]));
        let area: i64 = edges.iter().map(|((x0, y0), (x1, y1))| x0 * y1 - x1 * y0).sum();
        if area == 0 {
            return;
        }
        let sign = if area > 0 { 1 } else { -1 };
        let (xs, ys) = (p.map(|p| p.0), p.map(|p| p.1));
        let least = |of: [i64; 4]| of.into_iter().fold(of[0], i64::min);
        let most = |of: [i64; 4]| of.into_iter().fold(of[0], i64::max);
        // Centres of samples are at 16 i + 8.
        let last = self.side as i64 - 1;
        let columns = ((least(xs) + 7) >> 4).max(0)..=((most(xs) - 8) >> 4).min(last);
        let rows = ((least(ys) + 7) >> 4).max(0)..=((most(ys) - 8) >> 4).min(last);
        for row in rows {
            let y = 16 * row + 8;
            for column in columns.clone() {
                let x = 16 * column + 8;
                let is_inside = edges
                    .iter()
                    .all(|((x0, y0), (x1, y1))| sign * ((x1 - x0) * (y - y0) - (y1 - y0) * (x - x0)) >= 0);
                if is_inside {
                    let sample = &mut self.samples[row as usize * self.side + column as usize];
                    *sample = match paint {
                        Paint::Cover(colour, shade) => colour.map(|channel| (channel * shade) >> 8),
                        Paint::Shade(shade) => sample.map(|channel| (channel * shade) >> 8),
                    };
                }
            }
        }
    }

    /// Draws a horizontal quadrilateral.
    pub fn flat(&mut self, corners: &Corners, z: f64, paint: Paint) {
        let points = corners.map(|(x, y)| self.project(x, y, z));
        self.fill(&points, paint);
    }

    /// Draws an upright prism from `z0` to `z1`.
    pub fn prism(&mut self, corners: &Corners, z0: f64, z1: f64, colour: Colour) {
        for i in 0..4 {
            let ((x0, y0), (x1, y1)) = (corners[i], corners[(i + 1) % 4]);
            let (ex, ey) = (x1 - x0, y1 - y0);
            // The outward normal is (ey, -ex): the side is seen if the camera is on its outer side.
            if (self.view.eye[0] - x0) * ey - (self.view.eye[1] - y0) * ex <= 0.0 {
                continue;
            }
            let length = (ex * ex + ey * ey).sqrt();
            // Light comes from the front and the left.
            let shade = (170.0 + 34.0 * (ex - ey) / length).floor() as i64;
            let points = [(x0, y0, z0), (x1, y1, z0), (x1, y1, z1), (x0, y0, z1)];
            let points = points.map(|(x, y, z)| self.project(x, y, z));
            self.fill(&points, Paint::Cover(colour, shade));
        }
        self.flat(corners, z1, Paint::Cover(colour, 256));
    }
}

/// Corners of a rectangle of half sides a and b, turned by the angle of sine s and cosine c.
pub fn rectangle((x, y): (f64, f64), (s, c): (f64, f64), a: f64, b: f64) -> Corners {
    [(a, b), (-a, b), (-a, -b), (a, -b)].map(|(u, v)| (x + c * u - s * v, y + s * u + c * v))
}

/// Corners of a rectangle around the segment between two points, longer by `half` at both ends.
pub fn beam((x0, y0): (f64, f64), (x1, y1): (f64, f64), half: f64) -> Corners {
    let (dx, dy) = (x1 - x0, y1 - y0);
    let length = (dx * dx + dy * dy).sqrt();
    let turned = (dy / length, dx / length);
    rectangle((0.5 * (x0 + x1), 0.5 * (y0 + y1)), turned, 0.5 * length + half, half)
}
