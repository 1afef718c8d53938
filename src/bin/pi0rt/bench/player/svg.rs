//! Line charts as SVG.

use std::fmt::Write;

/// Charts below each other, with one axis of x.
pub struct Picture {
    /// Name and unit of the x axis.
    pub x: &'static str,
    pub panels: Vec<Panel>,
}

/// One chart.
pub struct Panel {
    pub title: &'static str,
    /// Unit of y.
    pub unit: &'static str,
    /// Lines; the same place in each panel has the same colour.
    pub lines: Vec<Line>,
}

/// A line; without points it is only left out.
pub struct Line {
    pub name: &'static str,
    pub points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 340.0;
/// Space left, right, above and below a chart.
const SPACE: [f64; 4] = [70.0, 170.0, 40.0, 50.0];
/// Colours that the colour-blind can tell apart (Okabe and Ito), the first for what is compared with.
const COLOURS: [&str; 6] = ["#000000", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00"];
/// Ticks of an axis, about.
const TICKS: f64 = 6.0;

/// An axis: values at pixels.
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    /// The axis of some values; from 0 to 1 without any.
    fn of(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Axis {
        let (low, high) = values
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
        // A constant is in the middle.
        let (low, high) = if high > low { (low, high) } else { (low - 0.5, high + 0.5) };
        Axis { low, high, from, to }
    }

    fn at(&self, value: f64) -> f64 {
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    /// Round numbers on the axis, with so many decimals.
    fn ticks(&self) -> (Vec<f64>, usize) {
        let raw = (self.high - self.low) / TICKS;
        let decade = 10f64.powf(raw.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * decade);
        let step = step.into_iter().find(|step| *step >= raw).unwrap_or(raw);
        let first = (self.low / step).ceil() as i64;
        let last = (self.high / step).floor() as i64;
        let decimals = (-step.log10().floor()).max(0.0) as usize;
        ((first..=last).map(|n| n as f64 * step).collect(), decimals)
    }
}

impl Picture {
    pub fn to_svg(&self) -> String {
        let mut out = String::new();
        let height = HEIGHT * self.panels.len() as f64;
        let [left, right, above, below] = SPACE;
        let all = || self.panels.iter().flat_map(|panel| &panel.lines).flat_map(|line| &line.points);
        let x = Axis::of(all().map(|point| point.0), left, WIDTH - right);
        // Writing to a string never fails.
        let _ = writeln!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
             font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>"
        );
        for (index, panel) in self.panels.iter().enumerate() {
            let top = index as f64 * HEIGHT + above;
            let bottom = (index + 1) as f64 * HEIGHT - below;
            panel.draw(&mut out, &x, top, bottom);
            let (middle, under) = ((x.from + x.to) / 2.0, bottom + 38.0);
            let _ =
                writeln!(out, "<text x=\"{middle}\" y=\"{under}\" text-anchor=\"middle\">{}</text>", self.x);
        }
        out.push_str("</svg>\n");
        out
    }
}

impl Panel {
    fn draw(&self, out: &mut String, x: &Axis, top: f64, bottom: f64) {
        let values = self.lines.iter().flat_map(|line| &line.points).map(|point| point.1);
        let y = Axis::of(values, bottom, top);
        let (left, right) = (x.from, x.to);
        let heading = top - 14.0;
        let Panel { title, unit, .. } = self;
        let _ =
            writeln!(out, "<text x=\"{left}\" y=\"{heading}\" font-weight=\"bold\">{title} ({unit})</text>");
        let (ticks, decimals) = y.ticks();
        for tick in ticks {
            let at = y.at(tick);
            let _ = writeln!(
                out,
                "<path d=\"M{left} {at:.1}H{right}\" stroke=\"#dddddd\"/><text x=\"{}\" y=\"{:.1}\" \
                 text-anchor=\"end\">{tick:.decimals$}</text>",
                left - 8.0,
                at + 4.0
            );
        }
        let (ticks, decimals) = x.ticks();
        for tick in ticks {
            let at = x.at(tick);
            let _ = writeln!(
                out,
                "<path d=\"M{at:.1} {bottom}v5\" stroke=\"#000000\"/><text x=\"{at:.1}\" y=\"{}\" \
                 text-anchor=\"middle\">{tick:.decimals$}</text>",
                bottom + 20.0
            );
        }
        let _ =
            writeln!(out, "<path d=\"M{left} {top}V{bottom}H{right}\" fill=\"none\" stroke=\"#000000\"/>");
        let mut row = top + 10.0;
        for (line, colour) in self.lines.iter().zip(COLOURS.iter().cycle()) {
            if line.points.is_empty() {
                continue;
            }
            let _ = write!(
                out,
                "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\" stroke-linejoin=\"round\" points=\""
            );
            for (px, py) in &line.points {
                let _ = write!(out, "{:.1},{:.1} ", x.at(*px), y.at(*py));
            }
            let (from, to, text) = (right + 15.0, right + 40.0, right + 46.0);
            let _ = writeln!(
                out,
                "\"/>\n<path d=\"M{from} {row}H{to}\" stroke=\"{colour}\" stroke-width=\"3\"/>\
                 <text x=\"{text}\" y=\"{}\">{}</text>",
                row + 4.0,
                line.name
            );
            row += 20.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_on_the_axis() {
        let axis = Axis::of([2.0, 4.0].into_iter(), 0.0, 100.0);
        let (ticks, decimals) = axis.ticks();
        assert_eq!((ticks, decimals), (vec![2.0, 2.5, 3.0, 3.5, 4.0], 1));
        assert_eq!(axis.at(2.5), 25.0);
        let (ticks, decimals) = Axis::of([-37.0, 45.0].into_iter(), 0.0, 1.0).ticks();
        assert_eq!((ticks, decimals), (vec![-20.0, 0.0, 20.0, 40.0], 0));
        assert_eq!(Axis::of([3.0].into_iter(), 0.0, 10.0).at(3.0), 5.0);
    }
}
