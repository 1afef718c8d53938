//! The terminal in use by `pi0rt top`: alternate screen, keys read as pressed. Restored however the program
//! ends.

use std::io::{Write, stdin, stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr,
};
use signal_hook::consts::{SIGHUP, SIGTERM};

use crate::interrupt::INTERRUPTED;

const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[2J";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

pub struct Screen {
    /// The terminal's previous settings; `None` without a keyboard.
    keyboard: Option<Termios>,
    ended: Arc<AtomicBool>,
}

impl Screen {
    pub fn enter() -> std::io::Result<Screen> {
        let ended = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, ended.clone())?;
        }
        let keyboard = tcgetattr(stdin()).ok();
        let was = keyboard.clone();
        ctrlc::set_handler(move || {
            // Held until the end, so that no frame follows on the ordinary screen.
            let _out = stdout().lock();
            leave(was.as_ref());
            std::process::exit(INTERRUPTED.into());
        })
        .map_err(std::io::Error::other)?;
        let (was, hook) = (keyboard.clone(), std::panic::take_hook());
        // A panic's message belongs on the ordinary screen.
        std::panic::set_hook(Box::new(move |panic| {
            leave(was.as_ref());
            hook(panic);
        }));
        if let Some(was) = &keyboard {
            let mut keys = was.clone();
            keys.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
            keys.special_codes[SpecialCodeIndex::VMIN] = 0;
            keys.special_codes[SpecialCodeIndex::VTIME] = 0;
            tcsetattr(stdin(), OptionalActions::Now, &keys)?;
        }
        let screen = Screen { keyboard, ended };
        write!(stdout(), "{ENTER}")?;
        Ok(screen)
    }

    /// Size in rows and columns.
    pub fn size(&self) -> (usize, usize) {
        match tcgetwinsize(stdout()) {
            Ok(size) if size.ws_row > 0 && size.ws_col > 0 => (size.ws_row.into(), size.ws_col.into()),
            _ => (24, 80),
        }
    }

    pub fn draw(&self, text: &str) -> std::io::Result<()> {
        let mut out = stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// Waits for at most `time`; true if `q` or a signal asks to end.
    pub fn wait(&self, time: Duration) -> std::io::Result<bool> {
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if self.ended.load(Ordering::Relaxed) || left.is_zero() {
                return Ok(self.ended.load(Ordering::Relaxed));
            }
            let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            let keys = stdin();
            let mut wanted = [PollFd::new(&keys, PollFlags::IN)];
            let fds = if self.keyboard.is_some() { &mut wanted[..] } else { &mut [] };
            match poll(fds, Some(&timeout)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => {
                    let mut pressed = [0; 32];
                    let count = rustix::io::read(&keys, &mut pressed)?;
                    // No bytes: the terminal is gone.
                    if count == 0 || pressed[..count].contains(&b'q') {
                        return Ok(true);
                    }
                }
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        leave(self.keyboard.as_ref());
    }
}

fn leave(keyboard: Option<&Termios>) {
    let mut out = stdout();
    let _ = out.write_all(LEAVE.as_bytes());
    let _ = out.flush();
    if let Some(was) = keyboard {
        let _ = tcsetattr(stdin(), OptionalActions::Now, was);
    }
}
