//! Distributions of latencies.

use std::fmt;

use hdrhistogram::Histogram;
use pi0rt::shm::clock::now_ns;

use super::link::Link;

/// Delay beyond the median from which a round counts as a stall, ns.
const STALL_NS: u64 = 50_000;
/// Longest latency the histogram distinguishes, ns.
const MAX_NS: u64 = 60_000_000_000;

/// Parameters of one turn.
pub struct Plan {
    pub rounds: u64,
    /// Time from one intended start to the next, ns; 0: twice the time of a round.
    pub period_ns: u64,
    /// True if the payload is written anew in each round.
    pub touch: bool,
}

impl Plan {
    pub fn warmup(&self) -> u64 {
        (self.rounds / 10).clamp(50, 20_000)
    }
}

/// A distribution of latencies, ns.
pub struct Latencies(pub Histogram<u64>);

impl Latencies {
    fn new() -> Self {
        Latencies(Histogram::new_with_bounds(1, MAX_NS, 3).expect("bounds that can be"))
    }

    pub fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns.max(1));
    }

    pub fn count(&self) -> u64 {
        self.0.len()
    }

    pub fn p50(&self) -> f64 {
        self.0.value_at_quantile(0.5).max(1) as f64
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for quantile in [0.5, 0.9, 0.99, 0.999, 0.9999, 1.0] {
            write!(f, "{:>10}", self.0.value_at_quantile(quantile))?;
        }
        Ok(())
    }
}

/// The measurements of one way of sending.
pub struct Sample {
    /// Latencies from the actual start of each round.
    pub actual: Latencies,
    /// Latencies from the intended start of each round.
    pub intended: Latencies,
    /// Times from submission until the daemon begins.
    pub there: Latencies,
    /// Times from the daemon's completion until the answer arrives.
    pub back: Latencies,
}

impl Sample {
    pub fn new() -> Self {
        let new = Latencies::new;
        Sample { actual: new(), intended: new(), there: new(), back: new() }
    }

    /// Number of rounds that something other than the link held up.
    pub fn stalls(&self) -> u64 {
        let limit = self.actual.0.value_at_quantile(0.5) + STALL_NS;
        self.actual.0.len() - self.actual.0.count_between(0, limit)
    }

    /// Runs one turn.
    pub fn measure(&mut self, link: &mut Link, plan: &Plan) -> Result<(), String> {
        let start = now_ns();
        for _ in 0..plan.warmup() {
            link.prepare(true)?;
            link.round()?;
        }
        let round_ns = (now_ns() - start) / plan.warmup();
        let period_ns = if plan.period_ns == 0 { round_ns * 2 } else { plan.period_ns };
        let mut intended = now_ns() + period_ns;
        for _ in 0..plan.rounds {
            link.prepare(plan.touch)?;
            let mut start = now_ns();
            while start < intended {
                std::hint::spin_loop();
                start = now_ns();
            }
            let stamps = link.round()?;
            let end = now_ns();
            self.actual.record(end - start);
            self.intended.record(end - intended);
            if let Some((there, finished)) = stamps {
                self.there.record(there);
                self.back.record(end.saturating_sub(finished));
            }
            intended += period_ns;
        }
        Ok(())
    }
}
