//! One forward pass: begun or replayed, its phases timed, ended.

use std::time::Instant;

use super::error::ModelError;
use super::fresh::Fresh;
use super::inputs::Extent;
use super::ledger::{Ledger, Module, Phase};
use super::ops::Ops;
use super::tap::Tap;
use crate::device::{Begin, Device};

/// Where the time of a chunk went. Of a recording that was replayed only `total_ns` is set: its phases can't be told
/// apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// Vision tower and projector, and text embedding.
    pub vision_ns: u64,
    /// Prefix through the language model.
    pub prefix_ns: u64,
    /// State token and all Euler steps.
    pub denoise_ns: u64,
    /// The state token's share of it.
    pub state_ns: u64,
    /// Everything, inputs and outputs included.
    pub total_ns: u64,
}

/// One forward pass: its operations, phase by phase, and their times.
pub struct Pass<'a> {
    /// Operations, on the account of the phase that was entered last.
    pub ops: Ops<'a>,
    /// A tap looks at stages on the way, so that a recording can't be replayed.
    pub tapped: bool,
    start: Instant,
    /// The phase being computed and when it was entered.
    lap: Option<(Phase, Instant)>,
    laps: [u64; Phase::ALL.len()],
}

impl<'a> Pass<'a> {
    /// A pass whose inputs can be written; its time counts from here.
    pub fn new(device: &'a mut dyn Device, ledger: &'a mut Ledger, tap: Option<&'a mut dyn Tap>) -> Self {
        let tapped = tap.is_some();
        let ops = Ops::new(device, ledger, tap);
        Self { ops, tapped, start: Instant::now(), lap: None, laps: Default::default() }
    }

    /// Inputs have been written: false if the device has replayed the chunk, so that nothing is to be
    /// computed.
    pub fn begin(&mut self, extent: &Extent, fresh: Fresh) -> Result<bool, ModelError> {
        let begun = self.ops.device().begin_chunk(extent.key(fresh), extent.padding.clone(), self.tapped)?;
        Ok(begun == Begin::Run)
    }

    /// Operations of `module` in a phase that starts now.
    pub fn phase(&mut self, phase: Phase, module: Module) -> Result<Ops<'_>, ModelError> {
        self.end_lap()?;
        self.lap = Some((phase, Instant::now()));
        self.ops.begin(phase);
        Ok(self.ops.within(module))
    }

    /// All operations have been issued.
    pub fn end(&mut self) -> Result<(), ModelError> {
        self.end_lap()?;
        self.ops.begin(Phase::Transfer);
        Ok(self.ops.device().end_chunk()?)
    }

    /// Waits for the device, so that work is counted where it was asked for.
    fn end_lap(&mut self) -> Result<(), ModelError> {
        if let Some((phase, since)) = self.lap.take() {
            self.ops.device().synchronize()?;
            self.laps[phase as usize] = nanoseconds(since);
        }
        Ok(())
    }

    /// Times of the phases run up to now.
    pub fn timings(&self) -> Timings {
        let of = |phase: Phase| self.laps[phase as usize];
        Timings {
            vision_ns: of(Phase::Vision),
            prefix_ns: of(Phase::Prefix),
            denoise_ns: of(Phase::State) + of(Phase::Denoise),
            state_ns: of(Phase::State),
            total_ns: nanoseconds(self.start),
        }
    }
}

fn nanoseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
