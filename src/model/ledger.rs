//! Where every operation of a chunk ran and what it cost, added up per phase and module.

use std::time::{Duration, Instant};

use super::cost::Cost;
pub use crate::device::Op;
use crate::device::Ran;

/// PI0's modules, one file each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Module {
    /// `pi0.rs`: the whole chunk.
    Main,
    /// `paligemma.rs`: vision tower, projector, language model and expert together.
    Backbone,
    /// `siglip.rs`: the vision tower.
    Vision,
    /// `suffix.rs`: embeddings of state, actions and time.
    Suffix,
    /// `prefix.rs`: embeddings of images and text.
    Prefix,
    /// `common.rs`: noise, time embedding.
    Common,
    /// `gemma.rs`: the blocks of prefix and expert.
    Language,
    /// `denoise.rs`: flow matching.
    Denoise,
    /// `attention.rs`: positions, rotary embedding, KV cache, attention.
    Attention,
}

impl Module {
    /// All modules, in the order in which tables list them.
    pub const ALL: [Module; 9] = [
        Module::Main,
        Module::Backbone,
        Module::Vision,
        Module::Suffix,
        Module::Prefix,
        Module::Common,
        Module::Language,
        Module::Denoise,
        Module::Attention,
    ];

    /// Name with the source file.
    pub const fn name(self) -> &'static str {
        match self {
            Module::Main => "Main model (pi0.rs)",
            Module::Backbone => "Backbone (paligemma.rs)",
            Module::Vision => "Vision (siglip.rs)",
            Module::Suffix => "Suffix (suffix.rs)",
            Module::Prefix => "Prefix (prefix.rs)",
            Module::Common => "Common (common.rs)",
            Module::Language => "Language (gemma.rs)",
            Module::Denoise => "Denoise (denoise.rs)",
            Module::Attention => "Attention (attention.rs)",
        }
    }

    /// Name of the source file alone.
    pub fn file(self) -> &'static str {
        self.name().split_once('(').map_or("", |(_, file)| file.trim_end_matches(')'))
    }
}

/// The parts of a chunk that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Inputs onto the device, actions off it.
    Transfer,
    /// Vision tower, projector, text embedding.
    Vision,
    /// Prefix through the language model.
    Prefix,
    /// State token through the expert, once.
    State,
    /// The Euler steps.
    Denoise,
}

impl Phase {
    /// All phases, in the order of a chunk.
    pub const ALL: [Phase; 5] = [Phase::Transfer, Phase::Vision, Phase::Prefix, Phase::State, Phase::Denoise];

    /// Name of the phase, for reports.
    pub const fn name(self) -> &'static str {
        match self {
            Phase::Transfer => "transfer",
            Phase::Vision => "vision",
            Phase::Prefix => "prefix",
            Phase::State => "state",
            Phase::Denoise => "denoise",
        }
    }
}

/// Work that is the host's by nature: no device is asked to do it. Entered where it is done, by the policy or the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostWork {
    /// Camera frames to the model's images, one entry a frame.
    Resize,
    /// The robot's numbers to the model's, and back, one entry a vector.
    Normalize,
    /// An instruction to tokens.
    Tokenize,
    /// The noise of a chunk.
    Noise,
    /// Embeddings of the time of an Euler step, once a step at load.
    TimeEmbedding,
}

impl HostWork {
    /// All of it, in the order in which it is listed.
    pub const ALL: [HostWork; 5] =
        [HostWork::Resize, HostWork::Normalize, HostWork::Tokenize, HostWork::Noise, HostWork::TimeEmbedding];

    /// Name of the work, for reports.
    pub const fn name(self) -> &'static str {
        match self {
            HostWork::Resize => "image resize",
            HostWork::Normalize => "normalization",
            HostWork::Tokenize => "tokenization",
            HostWork::Noise => "noise",
            HostWork::TimeEmbedding => "time embeddings at load",
        }
    }
}

/// How often the host has done a work of its own, and how long that took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostEntry {
    /// Number of times.
    pub count: u32,
    /// From start to end, added up.
    pub elapsed: Duration,
}

/// How often an operation ran, and where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Number of calls that ran on the device.
    pub device: u32,
    /// Number of calls that ran on the host.
    pub host: u32,
}

/// Count, cost and time of an operation: the sum over its calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Number of calls, by where they ran.
    pub count: Count,
    /// Cost in arithmetic and memory traffic.
    pub cost: Cost,
    /// Time of those calls that were timed.
    pub time: Time,
}

/// How long something took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Time {
    /// From its start to its end.
    pub elapsed: Duration,
    /// Time of this process's threads on a core meanwhile, added up.
    pub core: Duration,
}

impl Entry {
    /// The entry of one call.
    pub fn new(ran: Ran, cost: Cost, time: Time) -> Self {
        let count = match ran {
            Ran::Device => Count { device: 1, host: 0 },
            Ran::Host => Count { device: 0, host: 1 },
        };
        Self { count, cost, time }
    }
}

impl std::ops::AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.device += other.device;
        self.host += other.host;
    }
}

impl std::ops::AddAssign for Entry {
    fn add_assign(&mut self, other: Self) {
        self.count += other.count;
        self.cost += other.cost;
        self.time.elapsed += other.time.elapsed;
        self.time.core += other.time.core;
    }
}

/// Sums of one or more chunks. Recording allocates nothing.
#[derive(Clone, Debug)]
pub struct Ledger {
    timed: bool,
    host: [HostEntry; HostWork::ALL.len()],
    entries: [[[Entry; Op::ALL.len()]; Module::ALL.len()]; Phase::ALL.len()],
}

impl Default for Ledger {
    fn default() -> Self {
        let entries = [[[Entry::default(); Op::ALL.len()]; Module::ALL.len()]; Phase::ALL.len()];
        Self { timed: false, host: Default::default(), entries }
    }
}

impl Ledger {
    /// Turns the timing of each operation on or off. It makes a chunk a little slower: the device is
    /// waited for after every one.
    pub fn time(&mut self, timed: bool) {
        self.timed = timed;
    }

    /// True if operations are timed.
    pub fn is_timed(&self) -> bool {
        self.timed
    }

    /// Enters one or more calls.
    pub fn enter(&mut self, phase: Phase, module: Module, op: Op, calls: Entry) {
        self.entries[phase as usize][module as usize][op as usize] += calls;
    }

    /// Enters `count` times of the host's own work, which began at `since` and has ended.
    pub fn enter_host(&mut self, work: HostWork, count: usize, since: Instant) {
        let entry = &mut self.host[work as usize];
        entry.count += count as u32;
        entry.elapsed += since.elapsed();
    }

    /// How often the host did this, and how long it took.
    pub fn host(&self, work: HostWork) -> HostEntry {
        self.host[work as usize]
    }

    /// Everything that was called, in the order of phases and modules.
    pub fn entries(&self) -> impl Iterator<Item = (Phase, Module, Op, Entry)> + '_ {
        let each =
            |phase| Module::ALL.iter().flat_map(move |&m| Op::ALL.iter().map(move |&op| (phase, m, op)));
        Phase::ALL
            .into_iter()
            .flat_map(each)
            .map(|(phase, m, op)| (phase, m, op, self.entries[phase as usize][m as usize][op as usize]))
            .filter(|(.., entry)| entry.count != Count::default())
    }

    /// Sum of one phase's entries.
    pub fn phase(&self, phase: Phase) -> Entry {
        self.sum(|p, _, _| p == phase)
    }

    /// Sum of all entries.
    pub fn total(&self) -> Entry {
        self.sum(|_, _, _| true)
    }

    /// Counts of one operation in one module.
    pub fn count(&self, module: Module, op: Op) -> Count {
        self.sum(|_, m, o| m == module && o == op).count
    }

    /// Counts of a module's operations, transfers left out.
    pub fn module(&self, module: Module) -> Count {
        self.sum(|_, m, op| m == module && !op.is_transfer()).count
    }

    fn sum(&self, which: impl Fn(Phase, Module, Op) -> bool) -> Entry {
        let mut sum = Entry::default();
        for (.., entry) in self.entries().filter(|&(phase, module, op, _)| which(phase, module, op)) {
            sum += entry;
        }
        sum
    }

    /// Forgets all entries.
    pub fn clear(&mut self) {
        *self = Self { timed: self.timed, ..Self::default() };
    }
}
