//! A Tenstorrent card for a checkpoint: opened, and found large enough, before anything is uploaded.

use crate::checkpoint::Checkpoint;
use crate::device::ttnn::{TtnnBuilder, TtnnOptions};
use crate::device::{DeviceError, PrecisionClass};
use crate::plan::{self, Config, Format};

/// # Errors
/// [`DeviceError::Unavailable`] if the card can't be had, [`DeviceError::Memory`], with the figures,
/// if the model is too large for it.
pub(super) fn open(options: &TtnnOptions, checkpoint: &Checkpoint) -> Result<TtnnBuilder, DeviceError> {
    let card = TtnnBuilder::open(options)?;
    if options.check_memory {
        let cameras = checkpoint.processing().cameras.len();
        plan::fits(&card.board(), checkpoint.arch(), &config(card.options(), cameras))?;
    }
    Ok(card)
}

/// What will run, in the formats that the options choose.
fn config(options: &TtnnOptions, cameras: usize) -> Config {
    let trace_region = if options.trace { options.trace_region as u64 } else { 0 };
    let mut config = Config::default();
    config.cameras = cameras;
    config.trace_region = trace_region;
    for &part in plan::Part::ALL {
        use plan::Part as P;
        let of = match part {
            P::Patches | P::VisionAttention | P::VisionMlp | P::Projector => PrecisionClass::Encoder,
            P::PrefixAttention | P::PrefixMlp => PrecisionClass::Context,
            P::ExpertAttention | P::ExpertMlp => PrecisionClass::Iterated,
            P::Suffix => PrecisionClass::Exact,
            // Looked up, in bf16.
            P::Text => continue,
        };
        let precision = options.precision(of);
        *config.format_mut(part) = Format { weights: precision.weights, fidelity: precision.fidelity };
    }
    config
}
