//! Ctrl-C: a command that has begun something ends it before it ends itself.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, exit};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, kill_process_group};

/// Exit code of a program that SIGINT has ended.
pub const INTERRUPTED: u8 = 128 + 2;

/// What goes with the program.
struct Begun {
    /// Process groups, each of a child that has not been waited for.
    children: Vec<Pid>,
    directories: Vec<PathBuf>,
}

static BEGUN: Mutex<Begun> = Mutex::new(Begun { children: Vec::new(), directories: Vec::new() });

fn begun() -> MutexGuard<'static, Begun> {
    BEGUN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on Ctrl-C kills the children, removes the directories and exits with [`INTERRUPTED`].
///
/// # Errors
/// If the system has no handler or no thread to give.
pub fn ends_all() -> Result<(), ctrlc::Error> {
    ctrlc::set_handler(|| {
        // Held until the end: no child is begun any more.
        let begun = begun();
        for child in &begun.children {
            let _ = kill_process_group(*child, Signal::KILL);
        }
        for directory in &begun.directories {
            let _ = std::fs::remove_dir_all(directory);
        }
        exit(INTERRUPTED.into());
    })
}

/// A child in a process group of its own: killed, with its own children, when this is dropped.
pub struct Begin(Option<Child>);

impl Begin {
    /// Starts it.
    ///
    /// # Errors
    /// What the system says.
    pub fn spawn(command: &mut Command) -> io::Result<Begin> {
        // Ctrl-C finds it or comes before it.
        let mut begun = begun();
        let child = command.process_group(0).spawn()?;
        begun.children.push(Pid::from_child(&child));
        Ok(Begin(Some(child)))
    }

    /// The child.
    pub fn child(&mut self) -> Option<&mut Child> {
        self.0.as_mut()
    }

    /// Waits for its end, and for what it has said until then.
    ///
    /// # Errors
    /// What the system says.
    pub fn output(mut self) -> io::Result<Output> {
        let child = self.0.take().ok_or(io::ErrorKind::NotFound)?;
        let pid = Pid::from_child(&child);
        let output = child.wait_with_output();
        begun().children.retain(|other| *other != pid);
        output
    }
}

impl Drop for Begin {
    fn drop(&mut self) {
        let Some(child) = &mut self.0 else { return };
        let pid = Pid::from_child(child);
        let _ = kill_process_group(pid, Signal::KILL);
        let _ = child.wait();
        begun().children.retain(|other| *other != pid);
    }
}

/// A directory that is removed when this is dropped.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes it.
    ///
    /// # Errors
    /// What the system says.
    pub fn make(path: PathBuf) -> io::Result<Scratch> {
        let mut begun = begun();
        std::fs::create_dir_all(&path)?;
        begun.directories.push(path.clone());
        Ok(Scratch(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
        begun().directories.retain(|other| *other != self.0);
    }
}
