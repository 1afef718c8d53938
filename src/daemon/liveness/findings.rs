//! Findings of the heartbeat thread, for the control thread to act on.

use std::time::Duration;

use super::activity::Activity;

/// The findings that the control thread has acted on so far.
#[derive(Default)]
pub(in super::super) struct Findings {
    stalls: u64,
    suspensions: u64,
    /// Why the device counts as lost, if the engine made no progress.
    hung: Option<String>,
}

impl Findings {
    /// Number of stalls since the last call, and whether the machine was suspended meanwhile.
    pub fn take(&mut self, activity: &Activity) -> (u64, bool) {
        let (stalls, suspensions) = (activity.stalls(), activity.suspensions());
        let before = std::mem::replace(&mut self.stalls, stalls);
        let suspended = std::mem::replace(&mut self.suspensions, suspensions) != suspensions;
        (stalls - before, suspended)
    }

    /// Declares the device lost if the engine has made no progress for `limit`; None: no limit.
    pub fn check_progress(&mut self, activity: &Activity, limit: Option<Duration>) {
        let no_progress = Duration::from_nanos(activity.no_progress_ns());
        if let Some(limit) = limit.filter(|limit| no_progress >= *limit) {
            self.hung = Some(format!("no progress within {} s", limit.as_secs_f64()));
        }
    }

    /// Why the device is lost, if it is: a watched call has overrun, or the engine made no progress.
    pub fn device_loss(&self) -> Option<String> {
        crate::device::lost().map(str::to_owned).or_else(|| self.hung.clone())
    }
}
