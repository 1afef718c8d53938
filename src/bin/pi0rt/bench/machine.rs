//! Describes the machine of a measurement.

use std::fs::read_to_string;

use serde::Serialize;

/// The machine and its load.
#[derive(Debug, Serialize)]
pub struct Machine {
    /// Model of the processor, or its architecture if the system doesn't name the model.
    pub cpu: String,
    /// Number of cores this process may use.
    pub cores: usize,
    /// Load average of the last minute, before the first run and after the last.
    pub load: [Option<f64>; 2],
}

impl Machine {
    /// Queries the system. The second load average is taken by [`finish`](Self::finish).
    pub fn new() -> Self {
        let info = read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |key| info.lines().find_map(|line| value(line, key));
        let cpu = field("model name").or_else(|| field("Model"));
        Self {
            cpu: cpu.unwrap_or(std::env::consts::ARCH).to_string(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            load: [load(), None],
        }
    }

    /// Takes the load average after the last run.
    pub fn finish(&mut self) {
        self.load[1] = load();
    }
}

fn value<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.split_once(':').filter(|(name, _)| name.trim_end() == key).map(|(_, value)| value.trim())
}

fn load() -> Option<f64> {
    read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}
