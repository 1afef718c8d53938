//! Ctrl-C: ends a command's children and removes its directories before the command itself exits.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, exit};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, kill_process_group};

/// Exit code of a program that SIGINT has ended.
pub const INTERRUPTED: u8 = 128 + 2;

/// The children and directories to clean up on an interrupt.
struct Cleanup {
    /// Process groups of children that have not been waited for.
    children: Vec<Pid>,
    directories: Vec<PathBuf>,
}

static CLEANUP: Mutex<Cleanup> = Mutex::new(Cleanup { children: Vec::new(), directories: Vec::new() });

fn cleanup() -> MutexGuard<'static, Cleanup> {
    CLEANUP.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes Ctrl-C kill the children, remove the directories and exit with [`INTERRUPTED`].
///
/// # Errors
/// If no handler or thread could be set up.
pub fn clean_up_on_interrupt() -> Result<(), ctrlc::Error> {
    ctrlc::set_handler(|| {
        // Held until the exit, so that no further child is started.
        let cleanup = cleanup();
        for child in &cleanup.children {
            let _ = kill_process_group(*child, Signal::KILL);
        }
        for directory in &cleanup.directories {
            let _ = std::fs::remove_dir_all(directory);
        }
        exit(INTERRUPTED.into());
    })
}

/// A child in a process group of its own: killed, with its own children, when this is dropped.
pub struct ChildGroup(Option<Child>);

impl ChildGroup {
    /// Starts a child in a process group of its own.
    ///
    /// # Errors
    /// The system's error.
    pub fn spawn(command: &mut Command) -> io::Result<ChildGroup> {
        // Held over the start: an interrupt either sees the child or prevents it.
        let mut cleanup = cleanup();
        let child = command.process_group(0).spawn()?;
        cleanup.children.push(Pid::from_child(&child));
        Ok(ChildGroup(Some(child)))
    }

    /// The running child; `None` after its end was waited for.
    pub fn child(&mut self) -> Option<&mut Child> {
        self.0.as_mut()
    }

    /// Waits for the child's end and collects its output.
    ///
    /// # Errors
    /// The system's error.
    pub fn output(mut self) -> io::Result<Output> {
        let child = self.0.take().ok_or(io::ErrorKind::NotFound)?;
        let pid = Pid::from_child(&child);
        let output = child.wait_with_output();
        cleanup().children.retain(|other| *other != pid);
        output
    }
}

impl Drop for ChildGroup {
    fn drop(&mut self) {
        let Some(child) = &mut self.0 else { return };
        let pid = Pid::from_child(child);
        let _ = kill_process_group(pid, Signal::KILL);
        let _ = child.wait();
        cleanup().children.retain(|other| *other != pid);
    }
}

/// A directory that is removed when this is dropped.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Creates the directory.
    ///
    /// # Errors
    /// The system's error.
    pub fn make(path: PathBuf) -> io::Result<Scratch> {
        let mut cleanup = cleanup();
        std::fs::create_dir_all(&path)?;
        cleanup.directories.push(path.clone());
        Ok(Scratch(path))
    }

    /// Path of the directory.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
        cleanup().directories.retain(|other| *other != self.0);
    }
}
