//! The chart of `pi0rt eval`: a row for each condition and kind of task.

use std::fmt::Write;

use super::report::Run;
use crate::tabletop::Kind;

/// Height of a row, and of what is above and below all rows.
const ROW: f64 = 24.0;
const ABOVE: f64 = 60.0;
const BELOW: f64 = 40.0;
/// Where labels end, and where each of the panels begins and ends.
const LABELS: f64 = 290.0;
const PANELS: [(f64, f64); 3] = [(300.0, 640.0), (680.0, 820.0), (860.0, 1000.0)];
const WIDTH: f64 = 1030.0;

/// Colours that the colour-blind can tell apart (Okabe and Ito).
fn colour(kind: Kind) -> &'static str {
    match kind {
        Kind::Reach => "#0072b2",
        Kind::Push => "#d55e00",
    }
}

/// The chart of some runs, labelled by the options in which they differ.
pub fn svg(runs: &[Run], differing: &[&str]) -> String {
    let height = ABOVE + ROW * runs.len() as f64 + BELOW;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    let most = |of: fn(&Run) -> Option<f64>| runs.iter().filter_map(of).fold(0.0, f64::max);
    let (slowest, roughest) = (most(|run| run.p90_s), most(|run| run.jerk_rms));
    let panels = [
        ("Success and its 95 % interval (%)", 100.0),
        ("Time to success (s)", slowest),
        ("Jerk, RMS (rad/s³)", roughest),
    ];
    let bottom = height - BELOW;
    for ((title, most), (left, right)) in panels.iter().zip(PANELS) {
        let step = step(*most);
        let _ = writeln!(out, "<text x=\"{left}\" y=\"28\" font-weight=\"bold\">{title}</text>");
        for tick in (0..).map(|n| f64::from(n) * step).take_while(|tick| *tick <= most * 1.0001) {
            let x = at(tick, *most, left, right);
            let _ = writeln!(
                out,
                "<path d=\"M{x:.1} {}V{bottom}\" stroke=\"#dddddd\"/><text x=\"{x:.1}\" y=\"{}\" \
                 text-anchor=\"middle\">{tick}</text>",
                ABOVE - 12.0,
                bottom + 20.0
            );
        }
    }
    let mut before = String::new();
    for (i, run) in runs.iter().enumerate() {
        let y = ABOVE + ROW * i as f64 + ROW / 2.0 - 6.0;
        let (label, colour) = (run.label(differing), colour(run.kind));
        if label != before {
            let text = escape(&label);
            let _ =
                writeln!(out, "<text x=\"{LABELS}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>", y + 4.0);
        }
        before = label;
        let [success, time, jerk] = PANELS;
        let x = |share: f64| at(100.0 * share, 100.0, success.0, success.1);
        let share = &run.share;
        let _ = writeln!(
            out,
            "<path d=\"M{:.1} {y}H{:.1}\" stroke=\"{colour}\" stroke-width=\"3\"/><circle cx=\"{:.1}\" cy=\"{y}\" r=\"5\" \
             fill=\"{colour}\"/>",
            x(share.low),
            x(share.high),
            x(share.rate)
        );
        if let (Some(median), Some(p90)) = (run.median_s, run.p90_s) {
            let x = |s: f64| at(s, slowest, time.0, time.1);
            let _ = writeln!(
                out,
                "<path d=\"M{:.1} {y}H{:.1}\" stroke=\"{colour}\" stroke-width=\"3\"/><circle cx=\"{:.1}\" cy=\"{y}\" \
                 r=\"5\" fill=\"{colour}\"/>",
                x(median),
                x(p90),
                x(median)
            );
        }
        if let Some(rms) = run.jerk_rms {
            let width = at(rms, roughest, 0.0, jerk.1 - jerk.0);
            let _ = writeln!(
                out,
                "<rect x=\"{}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"10\" fill=\"{colour}\"/>",
                jerk.0,
                y - 5.0
            );
        }
    }
    let mut x = 12.0;
    for (kind, name) in [(Kind::Reach, "reach"), (Kind::Push, "push")] {
        if runs.iter().any(|run| run.kind == kind) {
            let _ = writeln!(
                out,
                "<circle cx=\"{x}\" cy=\"24\" r=\"5\" fill=\"{}\"/><text x=\"{}\" y=\"28\">{name}</text>",
                colour(kind),
                x + 10.0
            );
            x += 70.0;
        }
    }
    let _ = writeln!(
        out,
        "<text x=\"{}\" y=\"{}\" fill=\"#666666\">dot: median, line: to the 90th percentile</text>",
        PANELS[1].0,
        height - 4.0
    );
    out.push_str("</svg>\n");
    out
}

/// Where a value is on an axis from 0 to `most`.
fn at(value: f64, most: f64, left: f64, right: f64) -> f64 {
    if most > 0.0 { left + value / most * (right - left) } else { left }
}

/// A round distance of four or five ticks.
fn step(most: f64) -> f64 {
    if most <= 0.0 {
        return 1.0;
    }
    let raw = most / 4.0;
    let decade = 10f64.powf(raw.log10().floor());
    [1.0, 2.0, 2.5, 5.0]
        .into_iter()
        .rev()
        .map(|factor| factor * decade)
        .find(|step| *step <= raw)
        .unwrap_or(decade)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
