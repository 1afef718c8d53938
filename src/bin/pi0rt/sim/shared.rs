//! What the threads of the simulated arm share.

use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pi0rt::capi::*;

use crate::tabletop::{JOINTS, World};

/// The arm as cameras and the live view see it.
#[derive(Clone)]
pub struct View {
    /// Simulated time since the begin, steps of 1 ms.
    pub step: u64,
    pub world: World,
    pub command: [f32; JOINTS],
    /// Index of the task that is being carried out.
    pub task: usize,
    /// Time of success of that task, s; None before it.
    pub success_s: Option<f64>,
    /// The last command's origin.
    pub about: pi0rt_action_info,
    /// Largest change of a command from one tick to the next, at the last seam.
    pub seam: f32,
    pub chunks: u64,
}

/// Shared by the control loop, the cameras, the keeper and the live view.
pub struct Shared {
    view: Mutex<View>,
    /// The daemon is gone: set by the loop, cleared by the keeper when there is another one.
    pub gone: AtomicBool,
    /// All threads are to end.
    pub finished: AtomicBool,
    /// Index of the task whose instruction is to be told, and that of the one told last, plus one.
    pub wanted: AtomicUsize,
    pub told: AtomicUsize,
    /// Number of the instruction told last.
    pub prompt_id: AtomicU32,
    /// The player's stage, a `pi0rt_stage`.
    pub stage: AtomicU32,
    /// True as long as the daemon is to be killed, or has been and the arm doesn't move again.
    pub scripted: AtomicBool,
    /// When the daemon was killed, and when the client was connected again; 0: not yet.
    pub killed_ns: AtomicU64,
    pub reconnected_ns: AtomicU64,
}

impl Shared {
    pub fn new(view: View) -> Shared {
        Shared {
            view: Mutex::new(view),
            gone: AtomicBool::new(false),
            finished: AtomicBool::new(false),
            wanted: AtomicUsize::new(0),
            told: AtomicUsize::new(0),
            scripted: AtomicBool::new(false),
            prompt_id: AtomicU32::new(0),
            stage: AtomicU32::new(0),
            killed_ns: AtomicU64::new(0),
            reconnected_ns: AtomicU64::new(0),
        }
    }

    /// The arm as it is. Held for a copy only.
    pub fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// State of a camera's part of an observation slot. A camera overwrites its frame until the loop takes it.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Lent to the camera, without a frame.
    Empty,
    /// The camera writes.
    Writing,
    /// There is a frame.
    Filled,
    /// The loop's.
    Taken,
}

/// A camera's part of the slot.
pub struct Part {
    state: AtomicU8,
    data: AtomicPtr<u8>,
    observed_ns: AtomicU64,
}

impl Part {
    pub fn new() -> Part {
        Part {
            state: AtomicU8::new(State::Taken as u8),
            data: AtomicPtr::new(std::ptr::null_mut()),
            observed_ns: AtomicU64::new(0),
        }
    }

    fn change(&self, from: State, to: State) -> bool {
        let (success, failure) = (Ordering::AcqRel, Ordering::Acquire);
        self.state.compare_exchange(from as u8, to as u8, success, failure).is_ok()
    }

    /// Lends memory to the camera.
    pub fn lend(&self, data: *mut u8) {
        self.data.store(data, Ordering::Relaxed);
        self.state.store(State::Empty as u8, Ordering::Release);
    }

    /// Begins to write a frame; None while nothing is lent.
    pub fn begin(&self) -> Option<*mut u8> {
        let began = self.change(State::Empty, State::Writing) || self.change(State::Filled, State::Writing);
        began.then(|| self.data.load(Ordering::Relaxed))
    }

    /// Ends a frame that was taken at that time.
    pub fn finish(&self, observed_ns: u64) {
        self.observed_ns.store(observed_ns, Ordering::Relaxed);
        self.state.store(State::Filled as u8, Ordering::Release);
    }

    /// When the frame was taken. Only after [`take`].
    pub fn observed_ns(&self) -> u64 {
        self.observed_ns.load(Ordering::Relaxed)
    }
}

/// Takes the frames of all cameras; false while one of them writes, or has written none yet.
pub fn take(parts: &[Part]) -> bool {
    for (i, part) in parts.iter().enumerate() {
        if !part.change(State::Filled, State::Taken) {
            for part in &parts[..i] {
                part.state.store(State::Filled as u8, Ordering::Release);
            }
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_together_or_not_at_all() {
        let parts = [Part::new(), Part::new()];
        assert!(parts[0].begin().is_none() && !take(&parts));
        let mut memory = [[0u8; 4]; 2];
        for (part, memory) in parts.iter().zip(&mut memory) {
            part.lend(memory.as_mut_ptr());
        }
        assert!(parts[0].begin().is_some());
        parts[0].finish(7);
        // The other one has none yet; the first is still the camera's to write again.
        assert!(!take(&parts) && parts[0].begin().is_some());
        parts[0].finish(8);
        assert!(parts[1].begin().is_some() && !take(&parts));
        parts[1].finish(9);
        assert!(take(&parts));
        assert_eq!((parts[0].observed_ns(), parts[1].observed_ns()), (8, 9));
        assert!(parts[0].begin().is_none() && parts[1].begin().is_none());
    }
}
