//! Collects all faults in a checkpoint's processing, so that they can be reported together.

use super::error::CheckpointError;

/// Faults, in the order in which they were found.
#[derive(Default)]
pub(super) struct Faults(Vec<CheckpointError>);

impl Faults {
    /// Adds a fault.
    pub fn add(&mut self, fault: CheckpointError) {
        self.0.push(fault);
    }

    /// The value of an `Ok`; for an error, adds the fault and returns the default.
    pub fn keep<T: Default>(&mut self, result: Result<T, CheckpointError>) -> T {
        result.unwrap_or_else(|fault| {
            self.add(fault);
            T::default()
        })
    }

    pub fn list(&self) -> &[CheckpointError] {
        &self.0
    }

    /// Takes the first fault.
    pub fn take(&mut self) -> Option<CheckpointError> {
        (!self.0.is_empty()).then(|| self.0.remove(0))
    }
}
