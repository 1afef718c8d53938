//! The demo's measurements.

use super::motion::{self, Motion};

/// Durations in ns, in memory allocated in advance.
pub struct Durations(Vec<u64>);

impl Durations {
    pub fn with_room_for(count: usize) -> Durations {
        // Written once, so that the loop meets no page faults.
        let mut values = vec![u64::MAX; count];
        values.clear();
        Durations(values)
    }

    pub fn add(&mut self, ns: u64) {
        if self.0.len() < self.0.capacity() {
            self.0.push(ns);
        }
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn print(&self, name: &str, unit: &str, unit_ns: f64) {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let Some(last) = sorted.len().checked_sub(1) else { return };
        let at = |share: f64| sorted[(last as f64 * share).round() as usize] as f64 / unit_ns;
        println!(
            "{name:<14} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {unit}   ({})",
            at(0.5),
            at(0.9),
            at(0.99),
            at(1.0),
            sorted.len()
        );
    }
}

/// The results of a controller's run.
pub struct Record {
    pub ticks: u64,
    /// Number of ticks whose time had passed before the controller reached them.
    pub missed: u64,
    /// Number of requests that a daemon left unanswered when it ended.
    pub lost: u64,
    /// Number of completions without a chunk, and the status of the last.
    pub failed: u64,
    pub last_failure: String,
    /// Number of actions with a value that is not finite.
    pub not_finite: u64,
    /// Times from submission to chunk.
    pub latency: Durations,
    /// Age of the observation behind each action.
    pub age: Durations,
    /// Times to write frames and state in place.
    pub write: Durations,
    pub submit: Durations,
    pub poll: Durations,
    pub action: Durations,
    pub motion: Motion,
    pub outage: Option<Outage>,
}

/// The daemon's scripted end.
pub struct Outage {
    pub killed_ns: u64,
    /// When the client was connected to the next daemon.
    pub reconnected_ns: u64,
}

impl Record {
    pub fn with_room_for(ticks: usize, values: usize) -> Record {
        let room = || Durations::with_room_for(ticks);
        Record {
            ticks: 0,
            missed: 0,
            lost: 0,
            failed: 0,
            last_failure: String::new(),
            not_finite: 0,
            latency: room(),
            age: room(),
            write: room(),
            submit: room(),
            poll: room(),
            action: room(),
            motion: Motion::with_room_for(ticks, values),
            outage: None,
        }
    }

    /// True if chunks came, all results were good, and the robot went through all stages and back after an outage.
    pub fn is_good(&self) -> bool {
        let back = self.outage.as_ref().is_none_or(|outage| self.motion.came_back(outage.killed_ns));
        self.latency.len() > 0 && self.failed == 0 && self.not_finite == 0 && back
    }
}

pub fn print(record: &Record) {
    println!("{:<14} {:>9} {:>9} {:>9} {:>9}", "", "p50", "p90", "p99", "max");
    record.latency.print("chunk latency", "ms", 1e6);
    record.age.print("action age", "ms", 1e6);
    record.write.print("write frames", "us", 1e3);
    record.submit.print("submit", "us", 1e3);
    record.poll.print("poll", "us", 1e3);
    record.action.print("action_at", "us", 1e3);
    record.motion.print();
    if let Some(outage) = &record.outage {
        let after = |ns: u64| ns.saturating_sub(outage.killed_ns) as f64 / 1e9;
        print!("daemon killed ");
        let mut connected = outage.reconnected_ns > outage.killed_ns;
        for (at, stage) in record.motion.since(outage.killed_ns) {
            if connected && at >= outage.reconnected_ns {
                print!(" reconnected {:.2} s,", after(outage.reconnected_ns));
                connected = false;
            }
            print!(" {} {:.2} s,", motion::name(stage), after(at));
        }
        println!(" {} requests lost", record.lost);
    }
    println!("chunks         {}, {} failed", record.latency.len(), record.failed);
    println!("ticks          {}, {} missed, {} not finite", record.ticks, record.missed, record.not_finite);
    if record.failed > 0 {
        println!("last failure   {}", record.last_failure);
    }
}
