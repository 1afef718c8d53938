//! The options as a device that was chosen: opened, with what a model has to fit into.

use super::builder::TtnnBuilder;
use super::memory::{Format, Formats, Room};
use super::options::TtnnOptions;
use crate::device::{Capacity, DeviceError, Needs, Opened, Options, PrecisionClass};

impl Options for TtnnOptions {
    fn open(&self, _needs: &Needs<'_>) -> Result<Opened, DeviceError> {
        let card = TtnnBuilder::open(self)?;
        let options = card.options();
        let mut formats = Formats::default();
        for class in PrecisionClass::ALL {
            let precision = options.precision(class);
            formats.set(class, Format { weights: precision.weights, fidelity: precision.fidelity });
        }
        let trace_region = if options.trace { options.trace_region as u64 } else { 0 };
        let capacity = options
            .check_memory
            .then(|| -> Box<dyn Capacity> { Box::new(Room { board: card.board(), trace_region, formats }) });
        Ok(Opened { builder: Box::new(card), capacity })
    }
}
