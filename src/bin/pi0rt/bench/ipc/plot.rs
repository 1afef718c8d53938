//! Plots distributions in a terminal.

use super::sample::Latencies;

const WIDTH: usize = 72;
const SHADES: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Prints one line per distribution: a histogram of latencies on a common logarithmic scale. Heights are
/// logarithmic too, so that rare outliers show.
pub fn print<'a>(ways: impl Iterator<Item = (&'a str, &'a Latencies)>) {
    let ways: Vec<_> = ways.filter(|(_, latencies)| latencies.count() > 0).collect();
    let low = ways.iter().map(|(_, l)| l.0.min()).min().unwrap_or(1).max(1) as f64;
    let high = ways.iter().map(|(_, l)| l.0.max()).max().unwrap_or(2) as f64;
    let step = (high / low).max(1.01).powf(1.0 / WIDTH as f64);
    for (name, latencies) in ways {
        let mut counts = [0u64; WIDTH];
        for value in latencies.0.iter_recorded() {
            let place = (value.value_iterated_to() as f64 / low).ln() / step.ln();
            counts[(place as usize).min(WIDTH - 1)] += value.count_at_value();
        }
        let most = counts.iter().copied().max().unwrap_or(1) as f64;
        let shade = |count: &u64| match count {
            0 => SHADES[0],
            n => SHADES[1 + ((*n as f64).ln_1p() / most.ln_1p() * 7.0) as usize],
        };
        println!("{name:>9} {}", counts.iter().map(shade).collect::<String>());
    }
    let mut axis = [' '; WIDTH + 8];
    let mut decade = 10f64.powf(low.log10().ceil());
    while decade <= high {
        let place = ((decade / low).ln() / step.ln()) as usize;
        let label = match decade {
            ns if ns < 1e3 => format!("|{ns} ns"),
            ns if ns < 1e6 => format!("|{} us", ns / 1e3),
            ns => format!("|{} ms", ns / 1e6),
        };
        for (to, from) in axis[place.min(WIDTH)..].iter_mut().zip(label.chars()) {
            *to = from;
        }
        decade *= 10.0;
    }
    println!("{:>9} {}", "", axis.iter().collect::<String>().trim_end());
}
