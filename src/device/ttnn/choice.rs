//! The options as a device that was chosen: opened, with what a model has to fit into.

use super::{TtnnBuilder, TtnnOptions};
use crate::device::{Capacity, DeviceError, Needs, Opened, Options, PrecisionClass};

impl Options for TtnnOptions {
    fn open(&self, _needs: &Needs<'_>) -> Result<Opened, DeviceError> {
        let card = TtnnBuilder::open(self)?;
        let options = card.options();
        let format = |class: PrecisionClass| {
            let precision = options.precision(class);
            (class, precision.weights, precision.fidelity)
        };
        let capacity = options.check_memory.then(|| Capacity {
            board: card.board(),
            trace_region: if options.trace { options.trace_region as u64 } else { 0 },
            formats: PrecisionClass::ALL.map(format).to_vec(),
        });
        Ok(Opened { builder: Box::new(card), capacity })
    }
}
