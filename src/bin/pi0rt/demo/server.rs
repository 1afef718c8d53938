//! The demo's daemon: a process of its own, with a socket of its own.

use std::error::Error;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Longest wait for a daemon to answer requests in flight and end, before it is killed.
const END_WITHIN: Duration = Duration::from_secs(30);

/// The daemon's process and directory. Dropping it ends the process and removes the directory.
pub struct Server {
    child: Child,
    directory: PathBuf,
    checkpoint: PathBuf,
    options: Vec<String>,
}

impl Server {
    /// Starts `pi0rt serve` from this executable, so that no other version is used by accident.
    pub fn start(checkpoint: &Path, options: &[String]) -> Result<Server, Box<dyn Error>> {
        let directory = std::env::temp_dir().join(format!("pi0rt-demo-{}", std::process::id()));
        // Only this user may reach the socket in it.
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&directory)
            .map_err(|e| format!("{}: {e}", directory.display()))?;
        match spawn(&directory, checkpoint, options) {
            Ok(child) => {
                Ok(Server { child, directory, checkpoint: checkpoint.into(), options: options.to_vec() })
            }
            Err(error) => {
                let _ = std::fs::remove_dir(&directory);
                Err(error)
            }
        }
    }

    /// Kills the daemon without a warning, as a crash would.
    pub fn kill(&mut self) -> Result<(), Box<dyn Error>> {
        self.check()?;
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts a daemon again at the place of one that has ended.
    pub fn restart(&mut self) -> Result<(), Box<dyn Error>> {
        self.child = spawn(&self.directory, &self.checkpoint, &self.options)?;
        Ok(())
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.join("pi0rt.sock")
    }

    /// Checks that the daemon is running.
    ///
    /// # Errors
    /// If it has ended; it has printed the reason on standard error.
    pub fn check(&mut self) -> Result<(), Box<dyn Error>> {
        match self.child.try_wait()? {
            Some(status) => Err(format!("the daemon has ended: {status}").into()),
            None => Ok(()),
        }
    }

    /// Ends the daemon.
    ///
    /// # Errors
    /// If it had to be killed, or ended with an error.
    pub fn stop(&mut self) -> Result<(), Box<dyn Error>> {
        if self.child.try_wait()?.is_none() {
            kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        }
        let start = Instant::now();
        while start.elapsed() < END_WITHIN {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(format!("the daemon has ended: {status}").into()),
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
        self.child.kill()?;
        self.child.wait()?;
        Err(format!("the daemon did not end within {} s and was killed", END_WITHIN.as_secs()).into())
    }
}

fn spawn(directory: &Path, checkpoint: &Path, options: &[String]) -> Result<Child, Box<dyn Error>> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("serve").arg("--checkpoint").arg(checkpoint);
    command.arg("--socket").arg(directory.join("pi0rt.sock")).args(options);
    if std::env::var_os("PI0RTD_LOG_LEVEL").is_none() {
        command.env("PI0RTD_LOG_LEVEL", "warn");
    }
    // In a group of its own: Ctrl-C is for the controller, which then ends the daemon.
    command.stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
    command.spawn().map_err(|error| format!("starting the daemon: {error}").into())
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.stop();
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
