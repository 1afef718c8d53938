//! Calls that wait for the device, with an end to the wait.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use crate::device::DeviceError;

type Job = Box<dyn FnOnce() + Send>;

/// A thread that does the waiting. When a call does not return in time the thread is left to it:
/// a hung driver can't be interrupted.
pub struct Watchdog {
    jobs: Sender<Job>,
}

impl Watchdog {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub fn new() -> Result<Self, DeviceError> {
        let (jobs, queue): (Sender<Job>, Receiver<Job>) = channel();
        let thread = std::thread::Builder::new().name("pi0rt-ttnn".into());
        let work = move || queue.into_iter().for_each(|job| job());
        thread.spawn(work).map_err(|why| DeviceError::Lost(format!("no thread to wait for it: {why}")))?;
        Ok(Self { jobs })
    }

    /// Runs `call`, for at most `limit`.
    ///
    /// # Errors
    /// [`DeviceError::Lost`] if it takes longer. What it works on must then never be freed.
    pub fn run<R: Send + 'static>(
        &self,
        what: &str,
        limit: Duration,
        call: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, DeviceError> {
        let (done, answer) = channel();
        let job = Box::new(move || drop(done.send(call())));
        let gone = || DeviceError::Lost(format!("{what}: the device's thread has ended"));
        self.jobs.send(job).map_err(|_| gone())?;
        answer.recv_timeout(limit).map_err(|why| match why {
            RecvTimeoutError::Timeout => DeviceError::Lost(format!("{what}: no answer within {limit:?}")),
            RecvTimeoutError::Disconnected => gone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_hangs_is_given_up() {
        let dog = Watchdog::new().unwrap();
        assert_eq!(dog.run("quick", Duration::from_secs(60), || 7).unwrap(), 7);
        let (_never, hang) = channel::<()>();
        let hung = dog.run("read", Duration::from_millis(20), move || hang.recv().is_ok());
        assert!(matches!(hung, Err(DeviceError::Lost(why)) if why.starts_with("read: no answer within")));
    }
}
