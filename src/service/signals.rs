//! Signals: which means what.

use std::io;
use std::thread::JoinHandle;

use signal_hook::consts::{SIGBUS, SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals as Caught};

/// What is said when a mapped file is no longer what it was: see [`Signals::watch`].
const CUT_SHORT: &str = "pi0rtd: SIGBUS: mapped memory can't be read: a checkpoint's file was cut short while it was \
                         served (replace it by renaming another one over it), or its medium has failed\n";

/// The thread that waits for signals. Dropping this ends it.
pub struct Signals {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Signals {
    /// SIGTERM and SIGINT stop, SIGHUP reloads. SIGBUS, which a mapped checkpoint that is cut short brings
    /// about, ends the process with a word about why.
    ///
    /// # Errors
    /// If the system has no thread or no handler to give.
    pub fn watch(
        mut stop: impl FnMut() + Send + 'static,
        mut reload: impl FnMut() + Send + 'static,
    ) -> io::Result<Signals> {
        let last_words = || {
            // SAFETY: both calls are allowed in a signal handler, and the text is there.
            unsafe {
                libc::write(2, CUT_SHORT.as_ptr().cast(), CUT_SHORT.len());
                libc::_exit(1);
            }
        };
        // SAFETY: the handler does only what is allowed in one, and doesn't return.
        unsafe { signal_hook::low_level::register(SIGBUS, last_words) }?;
        let mut caught = Caught::new([SIGTERM, SIGINT, SIGHUP])?;
        let handle = caught.handle();
        let thread = std::thread::Builder::new().name("signals".into()).spawn(move || {
            for signal in caught.forever() {
                match signal {
                    SIGHUP => reload(),
                    _ => stop(),
                }
            }
        })?;
        Ok(Signals { handle, thread: Some(thread) })
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
