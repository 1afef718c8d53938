//! Signal handling: stop, reload, and the report of a SIGBUS.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use signal_hook::consts::{SIGBUS, SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals as Caught};

/// Message for a read from a truncated file: see [`Signals::watch`].
const CUT_SHORT: &str = "SIGBUS: mapped memory can't be read: a checkpoint's file was cut short while it was served \
                         (replace it by renaming another one over it), or its medium has failed";

/// A message that a signal handler can write, allocated in advance.
struct ExitMessage {
    said: String,
    /// Paths of the last failure's file and of its draft; `None` if it isn't kept.
    kept: Option<[CString; 2]>,
    /// Content of that file after the time.
    text: String,
}

impl ExitMessage {
    fn new(path: Option<PathBuf>, reason: &str) -> ExitMessage {
        let draft = |path: &Path| path.with_extension("new");
        let text = |path: &Path| CString::new(path.as_os_str().as_bytes()).ok();
        let kept = path.and_then(|path| Some([text(&path)?, text(&draft(&path))?]));
        let process = std::process::id();
        let text = format!("\nprocess={process}\nreason={reason}\n");
        ExitMessage { said: format!("pi0rtd: {reason}\n"), kept, text }
    }

    /// Writes the message and ends the process, from a signal handler.
    fn speak(&self) -> ! {
        // SAFETY: all of these calls are async-signal-safe, and their arguments are valid.
        unsafe {
            if let Some([path, draft]) = &self.kept {
                let flags =
                    libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC | libc::O_CLOEXEC | libc::O_NOFOLLOW;
                let file = libc::open(draft.as_ptr(), flags, 0o640);
                let mut digits = [0; 20];
                let time = decimal(libc::time(std::ptr::null_mut()).max(0) as u64, &mut digits);
                let parts = [b"time=", time, self.text.as_bytes()];
                let write =
                    |part: &&[u8]| libc::write(file, part.as_ptr().cast(), part.len()) == part.len() as isize;
                if file >= 0 && parts.iter().all(write) {
                    libc::rename(draft.as_ptr(), path.as_ptr());
                }
            }
            // A full pipe must not keep the process from ending.
            let mut ready = libc::pollfd { fd: 2, events: libc::POLLOUT, revents: 0 };
            if libc::poll(&mut ready, 1, 0) == 1 {
                libc::write(2, self.said.as_ptr().cast(), self.said.len());
            }
            libc::_exit(1)
        }
    }
}

/// Formats a number without allocating.
fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[at..];
        }
    }
}

/// Handle of the thread that waits for signals. Dropping it ends the thread.
pub struct Signals {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Signals {
    /// Watches for signals: SIGTERM and SIGINT stop, SIGHUP reloads.
    ///
    /// SIGBUS, which a truncated checkpoint causes, ends the process with a message, which is also recorded
    /// at `last_failure`.
    ///
    /// # Errors
    /// If the system can't start a thread or install a handler.
    pub fn watch(
        last_failure: Option<PathBuf>,
        mut stop: impl FnMut() + Send + 'static,
        mut reload: impl FnMut() + Send + 'static,
    ) -> io::Result<Signals> {
        let message = ExitMessage::new(last_failure, CUT_SHORT);
        // SAFETY: the handler is async-signal-safe, and doesn't return.
        unsafe { signal_hook::low_level::register(SIGBUS, move || message.speak()) }?;
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

#[cfg(test)]
mod tests {
    use super::decimal;

    #[test]
    fn numbers_are_written_without_an_allocation() {
        for number in [0, 7, 10, 1_764_230_400, u64::MAX] {
            assert_eq!(decimal(number, &mut [0; 20]), number.to_string().as_bytes());
        }
    }
}
