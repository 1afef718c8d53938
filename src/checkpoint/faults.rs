//! What is wrong with a checkpoint's processing, all of it: whoever mends it wants to know the whole list.

use super::error::CheckpointError;

/// Faults, in the order in which they were found.
#[derive(Default)]
pub(super) struct Faults(Vec<CheckpointError>);

impl Faults {
    /// Notes a fault.
    pub fn add(&mut self, fault: CheckpointError) {
        self.0.push(fault);
    }

    /// The value, or nothing and a fault.
    pub fn keep<T: Default>(&mut self, result: Result<T, CheckpointError>) -> T {
        result.unwrap_or_else(|fault| {
            self.add(fault);
            T::default()
        })
    }

    pub fn list(&self) -> &[CheckpointError] {
        &self.0
    }

    /// The first one.
    pub fn take(&mut self) -> Option<CheckpointError> {
        (!self.0.is_empty()).then(|| self.0.remove(0))
    }
}
