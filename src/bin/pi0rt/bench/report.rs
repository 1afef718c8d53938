//! The results of `pi0rt bench model` as JSON (docs/benchmarking.md explains the keys).

use std::time::Duration;

use pi0rt::device::Ceiling;
use pi0rt::model::{Cost, Ledger, Phase, Timings};
use serde::Serialize;

use super::machine::Machine;
use super::peer::Clock;
use super::spread::Spread;

/// All measurements.
pub struct Measured {
    pub checkpoint: String,
    pub cameras: usize,
    pub tokens: usize,
    pub steps: usize,
    pub device: String,
    /// Memory of the device beyond the mapped checkpoint, bytes.
    pub memory: usize,
    pub machine: Machine,
    /// The ceiling before the first run and after each, if the device measures it.
    pub ceilings: Vec<Ceiling>,
    /// The work of every run; a device that replays a recording enters it only once.
    pub work: Ledger,
    pub runs: Vec<Run>,
    /// Times of chunks that keep a prefix, ms; empty: none were computed.
    pub state_only: Vec<f64>,
    /// A run with every operation timed.
    pub profile: Run,
    /// The peer's command and its times.
    pub peer: Option<(String, Vec<(f64, Clock)>)>,
}

/// The measurements of one chunk.
pub struct Run {
    pub timings: Timings,
    pub ledger: Ledger,
    /// CPU time of this process's threads during the chunk.
    pub core: Duration,
}

#[derive(Serialize)]
pub struct Report {
    pub machine: Machine,
    pub device: DeviceReport,
    pub model: ModelReport,
    pub runs: usize,
    pub cores_busy: Spread,
    pub ceiling: Option<CeilingReport>,
    pub chunk: Stage,
    pub stages: Vec<Stage>,
    pub state_only: Option<StateOnlyReport>,
    pub profile: Profile,
    pub peer: Option<PeerReport>,
}

#[derive(Serialize)]
pub struct DeviceReport {
    pub description: String,
    pub memory_mb: f64,
}

#[derive(Serialize)]
pub struct ModelReport {
    pub checkpoint: String,
    pub cameras: usize,
    pub tokens: usize,
    pub steps: usize,
}

#[derive(Serialize)]
pub struct CeilingReport {
    pub kernels: &'static str,
    pub operands: &'static str,
    pub threads: usize,
    pub gflop_per_s: Spread,
    pub gflop_per_core_s: Spread,
    pub memory_gb_per_s: Spread,
}

/// A part of a chunk that occurs `times` times, with the time of one occurrence.
#[derive(Serialize)]
pub struct Stage {
    pub name: &'static str,
    pub times: usize,
    pub ms: Spread,
    #[serde(flatten)]
    pub work: Work,
}

/// An amount of work, with its rate.
#[derive(Serialize)]
pub struct Work {
    pub gflop: f64,
    pub gflop_per_s: f64,
    pub of_ceiling: Option<f64>,
    /// CPU time of all threads together, ms.
    pub core_ms: f64,
    pub of_ceiling_on_core: Option<f64>,
    pub weights_gb: f64,
    pub weights_gb_per_s: f64,
}

#[derive(Serialize)]
pub struct Profile {
    pub ms: f64,
    pub operations: Vec<Operation>,
    pub between_ms: f64,
}

#[derive(Serialize)]
pub struct Operation {
    pub stage: &'static str,
    pub module: &'static str,
    pub op: &'static str,
    pub calls: u32,
    pub ms: f64,
    pub of_chunk: f64,
    #[serde(flatten)]
    pub work: Work,
}

/// Chunks that keep the prefix of the one before.
#[derive(Serialize)]
pub struct StateOnlyReport {
    pub ms: Spread,
    /// Their time in parts of a whole chunk's.
    pub ratio: f64,
}

#[derive(Serialize)]
pub struct PeerReport {
    pub command: String,
    pub clock: Clock,
    pub ms: Spread,
    pub ratio: f64,
}

impl Report {
    pub fn new(measured: Measured) -> Self {
        let Measured { checkpoint, cameras, tokens, steps, machine, ceilings, work, runs, .. } = measured;
        let spread = |of: fn(&Ceiling) -> f64| Spread::of(ceilings.iter().map(of));
        let ceiling = ceilings.first().map(|first| CeilingReport {
            kernels: first.kernels,
            operands: first.operands,
            threads: first.threads,
            gflop_per_s: spread(|c| c.flops / 1e9),
            gflop_per_core_s: spread(|c| c.flops_on_core / 1e9),
            memory_gb_per_s: spread(|c| c.bandwidth / 1e9),
        });
        let peak = ceiling
            .as_ref()
            .map(|c| Peak { gflop_per_s: c.gflop_per_s.median, gflop_per_core_s: c.gflop_per_core_s.median });
        let profile = &measured.profile.ledger;
        let stage = |name, times: usize, phases: &[Phase], ns: &dyn Fn(&Timings) -> u64| {
            let (mut cost, mut core) = (Cost::default(), Duration::ZERO);
            for &phase in phases {
                cost += work.phase(phase).cost;
                core += profile.phase(phase).time.core;
            }
            let ms = Spread::of(runs.iter().map(|run| ns(&run.timings) as f64 / 1e6 / times as f64));
            Stage { name, times, ms, work: Work::new(cost, times, ms.median, core, peak) }
        };
        let stages = vec![
            stage("vision", 1, &[Phase::Vision], &|t| t.vision_ns),
            stage("prefix", 1, &[Phase::Prefix], &|t| t.prefix_ns),
            stage("state", 1, &[Phase::State], &|t| t.state_ns),
            stage("step", steps, &[Phase::Denoise], &|t| t.denoise_ns - t.state_ns),
            stage("else", 1, &[Phase::Transfer], &|t| t.total_ns - t.vision_ns - t.prefix_ns - t.denoise_ns),
        ];
        let chunk = stage("chunk", 1, &Phase::ALL, &|t| t.total_ns);
        let kept = Some(measured.state_only).filter(|times| !times.is_empty()).map(Spread::of);
        let state_only = kept.map(|ms| StateOnlyReport { ms, ratio: ms.median / chunk.ms.median });
        let peer = measured.peer.map(|(command, times)| {
            let ms = Spread::of(times.iter().map(|(ms, _)| *ms));
            PeerReport { command, clock: times[0].1, ms, ratio: ms.median / chunk.ms.median }
        });
        Self {
            state_only,
            device: DeviceReport { description: measured.device, memory_mb: measured.memory as f64 / 1e6 },
            model: ModelReport { checkpoint, cameras, tokens, steps },
            runs: runs.len(),
            cores_busy: Spread::of(
                runs.iter().map(|run| run.core.as_nanos() as f64 / run.timings.total_ns as f64),
            ),
            profile: Profile::new(&measured.profile, peak),
            machine,
            ceiling,
            chunk,
            stages,
            peer,
        }
    }
}

/// Medians of the ceiling.
#[derive(Clone, Copy)]
struct Peak {
    gflop_per_s: f64,
    gflop_per_core_s: f64,
}

impl Work {
    /// The share of one of `times` occurrences in a cost that takes `ms` per occurrence and `core` in
    /// total.
    fn new(cost: Cost, times: usize, ms: f64, core: Duration, peak: Option<Peak>) -> Self {
        let core_ms = milliseconds(core) / times as f64;
        let giga = |amount: u64| amount as f64 / 1e9 / times as f64;
        let per = |amount: f64, ms: f64| if ms > 0.0 { amount / ms * 1e3 } else { 0.0 };
        let peak = peak.filter(|_| cost.flops > 0);
        let (gflop, weights_gb) = (giga(cost.flops), giga(cost.weight_bytes));
        Self {
            gflop,
            gflop_per_s: per(gflop, ms),
            of_ceiling: peak.map(|peak| per(gflop, ms) / peak.gflop_per_s),
            core_ms,
            of_ceiling_on_core: peak.map(|peak| per(gflop, core_ms) / peak.gflop_per_core_s),
            weights_gb,
            weights_gb_per_s: per(weights_gb, ms),
        }
    }
}

impl Profile {
    fn new(Run { timings, ledger, .. }: &Run, peak: Option<Peak>) -> Self {
        let total = timings.total_ns as f64 / 1e6;
        let operations = ledger.entries().map(|(phase, module, op, entry)| {
            let ms = milliseconds(entry.time.elapsed);
            Operation {
                stage: phase.name(),
                module: module.file(),
                op: op.name(),
                calls: entry.count.device + entry.count.host,
                ms,
                of_chunk: ms / total,
                work: Work::new(entry.cost, 1, ms, entry.time.core, peak),
            }
        });
        Self {
            ms: total,
            operations: operations.collect(),
            between_ms: total - milliseconds(ledger.total().time.elapsed),
        }
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
