//! The watchdog: a card that does not answer ends the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::card::Ttnn;
use crate::device::{DeviceError, OpResult, Ran, lost};
use crate::tenstorrent::Watchdog;

/// How long others have to answer for what is lost with the card, and to end the process themselves.
const GRACE: Duration = Duration::from_secs(1);

unsafe extern "C" {
    /// Ends the process without the exit handlers of a library that may be waiting for the card.
    safe fn _exit(status: i32) -> !;
}

/// A watchdog that ends the process: a call that hangs in a driver can't be given up.
pub struct Watch {
    dog: Watchdog,
    /// The limit of the call being watched, ms.
    limit: Arc<AtomicU64>,
}

impl Watch {
    /// # Errors
    /// If the system has no thread to give.
    pub fn new() -> Result<Self, DeviceError> {
        let limit = Arc::new(AtomicU64::new(0));
        let told = limit.clone();
        let bite = move |what| {
            let limit = Duration::from_millis(told.load(Ordering::Relaxed));
            let why = lost::declare(format!("{what}: no answer within {limit:?}"));
            log::error!("device lost: {why}");
            std::thread::sleep(GRACE);
            eprintln!("device lost: {why}");
            _exit(1);
        };
        let dog = Watchdog::new(bite)
            .map_err(|why| DeviceError::Unavailable(format!("no thread to watch it: {why}")))?;
        Ok(Self { dog, limit })
    }

    /// Runs a call that should be back within `limit`.
    pub fn over<R>(&self, what: &'static str, limit: Duration, call: impl FnOnce() -> R) -> R {
        self.limit.store(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        let _armed = self.dog.arm(what, limit);
        call()
    }

    /// The process is about to end; should it not, because a library waits for the card on its way
    /// out, it is ended.
    pub fn over_the_end(self: Arc<Self>, limit: Duration) {
        self.limit.store(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        let watch: &'static Self = Box::leak(Box::new(self));
        std::mem::forget(watch.dog.arm("the end of the process", limit));
    }
}

/// A card whose calls have to be back in time: each that may wait for it is watched, and if one does
/// not come back the process ends.
pub struct Watched {
    card: Ttnn,
    watch: Arc<Watch>,
}

impl Watched {
    /// Watches an open card.
    pub fn new(card: Ttnn, watch: Arc<Watch>) -> Self {
        Self { card, watch }
    }

    /// The card itself, for what does not wait for it.
    pub fn card(&self) -> &Ttnn {
        &self.card
    }

    /// The same, to change.
    pub fn card_mut(&mut self) -> &mut Ttnn {
        &mut self.card
    }

    /// Runs an operation, and says where it ran: on the card, unless it has read values back, which only
    /// the host can have gone on with.
    pub fn operation(
        &mut self,
        what: &'static str,
        call: impl FnOnce(&mut Ttnn) -> Result<(), DeviceError>,
    ) -> OpResult {
        let before = self.card.reads();
        self.over(what, |card| {
            card.before_operation()?;
            call(card)
        })?;
        Ok(if self.card.reads() == before { Ran::Device } else { Ran::Host })
    }

    /// Runs a call that may wait for the card.
    pub fn over<R>(
        &mut self,
        what: &'static str,
        call: impl FnOnce(&mut Ttnn) -> Result<R, DeviceError>,
    ) -> Result<R, DeviceError> {
        let result = self.watch.over(what, self.card.limit(), || call(&mut self.card));
        // Unavailable: a kernel was not compiled, and threads of TTNN may still be at others.
        if matches!(result, Err(DeviceError::Lost(_) | DeviceError::Unavailable(_))) {
            self.card.lose();
        }
        result
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.card.is_lost() {
            self.card.abandon();
            self.watch.clone().over_the_end(self.card.options().timeout);
        } else {
            let limit = self.card.options().open_timeout;
            self.watch.over("closing the card", limit, || self.card.close());
        }
    }
}
