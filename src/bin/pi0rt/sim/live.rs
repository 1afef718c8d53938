//! The live view: the front camera as half blocks, and the state of the arm beside it.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write, stdout};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rustix::termios::tcgetwinsize;

use super::Plan;
use super::shared::{Shared, View};
use crate::demo::motion;
use crate::tabletop::{Camera, JOINTS, NAMES, Scene, render};

const PERIOD: Duration = Duration::from_millis(80);
/// Columns of the text beside the image.
const TEXT: usize = 46;
/// Sides of the image, pixels: two to a row of the terminal.
const LEAST: usize = 24;
const MOST: usize = 96;
/// Ranges of the joints that the bars show.
const RANGES: [(f64, f64); JOINTS] = [(-2.2, 2.2), (0.15, 2.75), (-3.2, 3.2), (0.0, 0.16)];
const BAR: usize = 20;

/// The live view.
pub struct Live {
    /// Side of the image, pixels; None where nothing is shown.
    side: Option<usize>,
}

impl Live {
    /// A view that fits the terminal; none without one.
    pub fn new(plan: &Plan<'_>) -> Live {
        let plain = std::env::var_os("TERM").is_none_or(|term| term == "dumb")
            || std::env::var_os("NO_COLOR").is_some();
        if plan.options.quiet || plain || !stdout().is_terminal() {
            return Live { side: None };
        }
        let size = tcgetwinsize(stdout()).ok().filter(|size| size.ws_row > 0 && size.ws_col > 0);
        let (rows, columns) = size.map_or((24, 80), |size| (size.ws_row.into(), size.ws_col.into()));
        Live { side: side(rows, columns) }
    }

    /// Shows the arm until the end.
    pub fn show(&self, plan: &Plan<'_>, shared: &Shared) {
        let Some(side) = self.side else { return };
        let scene = Scene::of(plan.seed);
        let (mut samples, mut image) = (Vec::new(), vec![0; side * side * 3]);
        let mut out = String::from("\x1b[?25l");
        loop {
            let ended = shared.finished.load(Relaxed);
            let view = shared.view().clone();
            render(Camera::Front, &view.world, &scene, side, &mut samples, &mut image);
            frame(&mut out, side, &image, &text(&view, plan));
            // The last frame stays.
            out.push_str(if ended { "\x1b[?25h" } else { "" });
            let mut terminal = stdout().lock();
            if terminal.write_all(out.as_bytes()).and_then(|()| terminal.flush()).is_err() || ended {
                return;
            }
            drop(terminal);
            out.clear();
            let _ = write!(out, "\x1b[{}A", side / 2);
            std::thread::sleep(PERIOD);
        }
    }
}

/// The side of an image that fits a terminal, even; None if none does.
fn side(rows: usize, columns: usize) -> Option<usize> {
    let side = (2 * rows.saturating_sub(2)).min(columns.saturating_sub(TEXT + 3)).min(MOST) & !1;
    (side >= LEAST).then_some(side)
}

/// Adds an image with lines of text at its right.
fn frame(out: &mut String, side: usize, image: &[u8], text: &[String]) {
    for row in 0..side / 2 {
        let mut last = [[0; 3]; 2];
        for column in 0..side {
            let pixel = |row: usize| {
                let at = (row * side + column) * 3;
                [image[at], image[at + 1], image[at + 2]]
            };
            let colours = [pixel(2 * row), pixel(2 * row + 1)];
            if column == 0 || colours != last {
                let [[r, g, b], [x, y, z]] = colours;
                let _ = write!(out, "\x1b[38;2;{r};{g};{b};48;2;{x};{y};{z}m");
            }
            last = colours;
            out.push('\u{2580}');
        }
        let line = text.get(row).map_or("", String::as_str);
        let _ = write!(out, "\x1b[0m  {line}\x1b[K\r\n");
    }
}

/// What is said of the arm.
fn text(view: &View, plan: &Plan<'_>) -> Vec<String> {
    let about = &view.about;
    let mut lines = vec![
        format!("\x1b[1m{}\x1b[0m", plan.tasks[view.task]),
        match view.success_s {
            Some(seconds) => format!("\x1b[32mdone after {seconds:.2} s\x1b[0m"),
            None => format!("{:.1} s", view.step as f64 / 1e3),
        },
        String::new(),
    ];
    for (joint, (low, high)) in RANGES.into_iter().enumerate() {
        let position = view.world.joints[joint];
        let filled = ((position - low) / (high - low)).clamp(0.0, 1.0) * BAR as f64;
        let bar: String = (0..BAR).map(|i| if (i as f64) < filled { '\u{2588}' } else { '\u{b7}' }).collect();
        lines.push(format!("{:9}{bar} {position:7.3}", NAMES[joint]));
    }
    let guided = if about.guided as u32 == 1 { "guided" } else { "not guided" };
    lines.extend([
        String::new(),
        format!("stage    {}", motion::name(about.stage)),
        format!("chunk    {}, row {:.1}, {guided}", about.chunk, about.row),
        format!("age      {:.0} ms", about.age_ns as f64 / 1e6),
        format!("delay    {} rows", about.delay_rows),
        format!("seam     {:.2} mrad", 1e3 * view.seam),
        format!("limited  {}", if about.limits == 0 { "no" } else { "yes" }),
    ]);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_fit_the_terminal() {
        assert_eq!(side(24, 80), Some(30));
        assert_eq!(side(60, 200), Some(96));
        assert_eq!(side(24, 60), None);
        assert_eq!(side(10, 200), None);
    }

    #[test]
    fn two_rows_of_pixels_are_a_line() {
        let (mut out, image) = (String::new(), [9; 4 * 4 * 3]);
        frame(&mut out, 4, &image, &["one".into()]);
        let lines: Vec<&str> = out.split("\r\n").collect();
        assert_eq!(lines.len(), 3);
        // The colour is set once for pixels of the same colour.
        assert_eq!(lines[0], "\x1b[38;2;9;9;9;48;2;9;9;9m\u{2580}\u{2580}\u{2580}\u{2580}\x1b[0m  one\x1b[K");
        assert!(lines[1].ends_with("\x1b[0m  \x1b[K"));
    }
}
