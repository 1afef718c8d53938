//! The demo's measurements.

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

    fn print(&self, name: &str, unit: &str, unit_ns: f64) {
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
    /// Number of actions that held a chunk's last row because no newer chunk had come.
    pub held: u64,
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
}

impl Record {
    /// True if chunks came and all results were good.
    pub fn is_good(&self) -> bool {
        self.latency.len() > 0 && self.failed == 0 && self.not_finite == 0
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
    println!("chunks         {}, {} failed", record.latency.len(), record.failed);
    println!(
        "actions        {}, of which {} past their chunk's end, {} not finite",
        record.age.len(),
        record.held,
        record.not_finite
    );
    println!("ticks          {}, {} missed", record.ticks, record.missed);
    if record.failed > 0 {
        println!("last failure   {}", record.last_failure);
    }
    println!("demo           {}", if record.is_good() { "ok" } else { "FAILED" });
}
