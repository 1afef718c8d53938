//! What `pi0rt bench model` found, as a page or as JSON (docs/benchmarking.md has its keys).

use std::fmt;

use pi0rt::device::Ceiling;
use pi0rt::model::{Cost, Ledger, Phase, Timings};
use serde::Serialize;

use super::machine::Machine;
use super::peer::Clock;
use super::spread::Spread;

/// Everything that was measured.
pub struct Measured {
    pub checkpoint: String,
    pub cameras: usize,
    pub tokens: usize,
    pub steps: usize,
    pub device: String,
    /// Bytes the device holds beyond the mapped checkpoint.
    pub memory: usize,
    pub machine: Machine,
    /// One before the first run and one after each, if the device measures itself.
    pub ceilings: Vec<Ceiling>,
    pub runs: Vec<(Timings, Ledger)>,
    /// A chunk with every operation timed.
    pub profile: (Timings, Ledger),
    /// A command and its times.
    pub peer: Option<(String, Vec<(f64, Clock)>)>,
}

#[derive(Serialize)]
pub struct Report {
    machine: Machine,
    device: DeviceReport,
    model: ModelReport,
    runs: usize,
    ceiling: Option<CeilingReport>,
    chunk: Stage,
    stages: Vec<Stage>,
    profile: Profile,
    peer: Option<PeerReport>,
}

#[derive(Serialize)]
struct DeviceReport {
    description: String,
    memory_mb: f64,
}

#[derive(Serialize)]
struct ModelReport {
    checkpoint: String,
    cameras: usize,
    tokens: usize,
    steps: usize,
}

#[derive(Serialize)]
struct CeilingReport {
    kernels: &'static str,
    operands: &'static str,
    threads: usize,
    gflop_per_s: Spread,
    memory_gb_per_s: Spread,
}

/// A part of a chunk, `times` in it, and what one of them takes.
#[derive(Serialize)]
struct Stage {
    name: &'static str,
    times: usize,
    ms: Spread,
    #[serde(flatten)]
    work: Work,
}

/// Work, and its rate in a known time.
#[derive(Serialize)]
struct Work {
    gflop: f64,
    gflop_per_s: f64,
    of_ceiling: Option<f64>,
    weights_gb: f64,
    weights_gb_per_s: f64,
}

#[derive(Serialize)]
struct Profile {
    ms: f64,
    operations: Vec<Operation>,
    between_ms: f64,
}

#[derive(Serialize)]
struct Operation {
    stage: &'static str,
    module: &'static str,
    op: &'static str,
    calls: u32,
    ms: f64,
    of_chunk: f64,
    #[serde(flatten)]
    work: Work,
}

#[derive(Serialize)]
struct PeerReport {
    command: String,
    clock: Clock,
    ms: Spread,
    ratio: f64,
}

impl Report {
    pub fn new(measured: Measured) -> Self {
        let Measured { checkpoint, cameras, tokens, steps, machine, ceilings, runs, .. } = measured;
        let spread = |of: fn(&Ceiling) -> f64| Spread::of(ceilings.iter().map(of));
        let ceiling = ceilings.first().map(|first| CeilingReport {
            kernels: first.kernels,
            operands: first.operands,
            threads: first.threads,
            gflop_per_s: spread(|c| c.flops / 1e9),
            memory_gb_per_s: spread(|c| c.bandwidth / 1e9),
        });
        let peak = ceiling.as_ref().map(|c| c.gflop_per_s.median);
        // All runs do the same work.
        let ledger = &runs[0].1;
        let stage = |name, times: usize, phases: &[Phase], ns: &dyn Fn(&Timings) -> u64| {
            let mut cost = Cost::default();
            phases.iter().for_each(|&phase| cost += ledger.phase(phase).cost);
            let ms = Spread::of(runs.iter().map(|(t, _)| ns(t) as f64 / 1e6 / times as f64));
            Stage { name, times, ms, work: Work::new(cost, times, ms.median, peak) }
        };
        let stages = vec![
            stage("vision", 1, &[Phase::Vision], &|t| t.vision_ns),
            stage("prefix", 1, &[Phase::Prefix], &|t| t.prefix_ns),
            stage("state", 1, &[Phase::State], &|t| t.state_ns),
            stage("step", steps, &[Phase::Denoise], &|t| t.denoise_ns - t.state_ns),
            stage("else", 1, &[Phase::Transfer], &|t| t.total_ns - t.vision_ns - t.prefix_ns - t.denoise_ns),
        ];
        let chunk = stage("chunk", 1, &Phase::ALL, &|t| t.total_ns);
        let peer = measured.peer.map(|(command, times)| {
            let ms = Spread::of(times.iter().map(|(ms, _)| *ms));
            PeerReport { command, clock: times[0].1, ms, ratio: ms.median / chunk.ms.median }
        });
        Self {
            device: DeviceReport { description: measured.device, memory_mb: measured.memory as f64 / 1e6 },
            model: ModelReport { checkpoint, cameras, tokens, steps },
            runs: runs.len(),
            profile: Profile::new(&measured.profile, peak),
            machine,
            ceiling,
            chunk,
            stages,
            peer,
        }
    }
}

impl Work {
    /// One `times`th of a cost, done in `ms`.
    fn new(cost: Cost, times: usize, ms: f64, peak: Option<f64>) -> Self {
        let giga = |amount: u64| amount as f64 / 1e9 / times as f64;
        let rate = |amount: f64| if ms > 0.0 { amount / ms * 1e3 } else { 0.0 };
        let (gflop, weights_gb) = (giga(cost.flops), giga(cost.weight_bytes));
        Self {
            gflop,
            gflop_per_s: rate(gflop),
            of_ceiling: peak.filter(|_| cost.flops > 0).map(|peak| rate(gflop) / peak),
            weights_gb,
            weights_gb_per_s: rate(weights_gb),
        }
    }
}

impl Profile {
    fn new((timings, ledger): &(Timings, Ledger), peak: Option<f64>) -> Self {
        let total = timings.total_ns as f64 / 1e6;
        let operations = ledger.entries().map(|(phase, module, op, entry)| {
            let ms = entry.elapsed_ns as f64 / 1e6;
            Operation {
                stage: phase.name(),
                module: module.file(),
                op: op.name(),
                calls: entry.count.device + entry.count.host,
                ms,
                of_chunk: ms / total,
                work: Work::new(entry.cost, 1, ms, peak),
            }
        });
        Self {
            ms: total,
            operations: operations.collect(),
            between_ms: total - ledger.total().elapsed_ns as f64 / 1e6,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (machine, model) = (&self.machine, &self.model);
        let load = |load: Option<f64>| load.map_or("unknown".to_string(), |load| format!("{load:.2}"));
        let [before, after] = machine.load.map(load);
        writeln!(
            f,
            "checkpoint  {}: {} cameras, {} tokens, {} steps",
            model.checkpoint, model.cameras, model.tokens, model.steps
        )?;
        let device = &self.device;
        writeln!(
            f,
            "device      {}, {:.0} MB beyond the mapped checkpoint",
            device.description, device.memory_mb
        )?;
        writeln!(
            f,
            "machine     {}, {} cores, load average {before} before, {after} after",
            machine.cpu, machine.cores
        )?;
        match &self.ceiling {
            None => writeln!(f, "ceiling     this device does not measure itself")?,
            Some(ceiling) => {
                let (flops, memory) = (ceiling.gflop_per_s, ceiling.memory_gb_per_s);
                writeln!(
                    f,
                    "ceiling     {:.1} GFLOP/s ({:.1} to {:.1}), {} products in registers, {} threads at once",
                    flops.median, flops.min, flops.max, ceiling.operands, ceiling.threads
                )?;
                writeln!(
                    f,
                    "memory      {:.1} GB/s read ({:.1} to {:.1})",
                    memory.median, memory.min, memory.max
                )?;
            }
        }

        writeln!(
            f,
            "\n{:<22} {:>11} {:>11} {:>11} {:>10} {:>10} {:>9} {:>9}",
            format!("median of {} run{}", self.runs, if self.runs == 1 { "" } else { "s" }),
            "ms",
            "least",
            "most",
            "GFLOP",
            "GFLOP/s",
            "ceiling",
            "GB/s"
        )?;
        for stage in self.stages.iter().chain([&self.chunk]) {
            let name = match stage.name {
                "chunk" => "whole chunk".to_string(),
                "state" => "state token".to_string(),
                "step" => format!("each of {} steps", stage.times),
                "else" => "everything else".to_string(),
                name => name.to_string(),
            };
            let ms = stage.ms;
            writeln!(f, "{name:<22} {:>11.3} {:>11.3} {:>11.3} {}", ms.median, ms.min, ms.max, stage.work)?;
        }
        if let Some(peer) = &self.peer {
            let (ms, clock) = (peer.ms, peer.clock);
            let by = if clock == Clock::Own { "its own word" } else { "start to end" };
            writeln!(
                f,
                "{:<22} {:>11.3} {:>11.3} {:>11.3} {:.2} times ours, by {by}: {}",
                "peer", ms.median, ms.min, ms.max, peer.ratio, peer.command
            )?;
        }

        let profile = &self.profile;
        writeln!(
            f,
            "\none more chunk, every operation timed: {:.3} ms, of which {:.3} between operations",
            profile.ms, profile.between_ms
        )?;
        writeln!(
            f,
            "{:<9} {:<13} {:<12} {:>6} {:>11} {:>7} {:>10} {:>10} {:>9} {:>9}",
            "stage", "module", "operation", "calls", "ms", "chunk", "GFLOP", "GFLOP/s", "ceiling", "GB/s"
        )?;
        for o in &profile.operations {
            writeln!(
                f,
                "{:<9} {:<13} {:<12} {:>6} {:>11.3} {:>5.1} % {}",
                o.stage,
                o.module,
                o.op,
                o.calls,
                o.ms,
                100.0 * o.of_chunk,
                o.work
            )?;
        }
        Ok(())
    }
}

/// The last columns of a table: nothing where there is no work to speak of.
impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.gflop == 0.0 {
            return Ok(());
        }
        let share = self.of_ceiling.map_or(String::new(), |share| format!("{:.1} %", 100.0 * share));
        write!(f, "{:>10.3} {:>10.1} {share:>9} {:>9.1}", self.gflop, self.gflop_per_s, self.weights_gb_per_s)
    }
}
