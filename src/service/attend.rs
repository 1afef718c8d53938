//! While the daemon serves: its signs of life to the service manager, and an eye on the checkpoint.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::manager;
use crate::daemon::{Daemon, Engine, Pulse};

/// Time between two signs of life where the service manager doesn't ask for them.
const PULSE: Duration = Duration::from_secs(5);
/// Time between two looks at the checkpoint.
const LOOK: Duration = Duration::from_secs(10);

/// The thread that attends. It ends with the daemon.
pub struct Attendant(JoinHandle<()>);

impl Attendant {
    /// # Errors
    /// If the system has no thread to give.
    pub fn start<E: Engine + 'static>(daemon: &mut Daemon<E>, checkpoint: &Path) -> io::Result<Attendant> {
        let (to, from) = sync_channel(1);
        daemon.pulse_to(to, manager::watchdog().map_or(PULSE, |within| within / 2));
        let mut checkpoint = Files::of(checkpoint);
        let thread = std::thread::Builder::new().name("attendant".into());
        let thread = thread.spawn(move || attend(&from, &mut checkpoint))?;
        Ok(Attendant(thread))
    }

    /// Waits for its end.
    pub fn end(self) {
        let _ = self.0.join();
    }
}

fn attend(pulses: &Receiver<Pulse>, checkpoint: &mut Files) {
    let mut looked = Instant::now();
    for Pulse { sessions, chunks, chunk_ns } in pulses {
        let mut line = format!("serving: {sessions} clients, {chunks} chunks");
        if chunk_ns > 0 {
            line.push_str(&format!(", {:.1} ms each", chunk_ns as f64 / 1e6));
        }
        manager::alive(&line);
        if looked.elapsed() >= LOOK {
            looked = Instant::now();
            if let Some(changed) = checkpoint.look() {
                log::warn!("{changed}");
            }
        }
    }
}

/// What tells one file from another, and from itself later: device, inode, size, time of the last change.
type Stamp = (u64, u64, u64, (i64, i64));

/// The files of a checkpoint as they were when it was loaded.
struct Files {
    directory: PathBuf,
    stamps: BTreeMap<PathBuf, Stamp>,
}

impl Files {
    fn of(directory: &Path) -> Files {
        Files { directory: directory.into(), stamps: stamps(directory) }
    }

    /// What has changed since the last look.
    fn look(&mut self) -> Option<String> {
        let now = stamps(&self.directory);
        let before = std::mem::replace(&mut self.stamps, now);
        let now = &self.stamps;
        let (path, was) = before.iter().find(|(path, was)| now.get(*path) != Some(was))?;
        let what = match now.get(path) {
            None => "is gone; what was loaded is still served",
            Some(is) if (is.0, is.1) != (was.0, was.1) => {
                "is another file than the one that is served: restart to serve it"
            }
            // The pages that are mapped are those of the file.
            Some(_) => "was changed in place while it is served: chunks may be wrong, restart",
        };
        Some(format!("{} {what}", path.display()))
    }
}

fn stamps(directory: &Path) -> BTreeMap<PathBuf, Stamp> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let weights =
        entries.map(|entry| entry.path()).filter(|path| path.extension() == Some("safetensors".as_ref()));
    let stamp = |path: PathBuf| {
        let kind = std::fs::metadata(&path).ok()?;
        Some((path, (kind.dev(), kind.ino(), kind.len(), (kind.mtime(), kind.mtime_nsec()))))
    };
    weights.filter_map(stamp).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_that_is_replaced_changed_or_removed_is_noticed_once() {
        let directory = std::env::temp_dir().join(format!("pi0rt-attend-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let model = directory.join("model.safetensors");
        std::fs::write(&model, "one").unwrap();
        let mut files = Files::of(&directory);
        assert_eq!(files.look(), None);
        std::fs::write(directory.join("new"), "other").unwrap();
        std::fs::rename(directory.join("new"), &model).unwrap();
        assert!(
            files.look().unwrap().ends_with(
                "model.safetensors is another file than the one that is served: restart to serve it"
            )
        );
        assert_eq!(files.look(), None);
        std::fs::File::options().append(true).open(&model).unwrap().set_len(2).unwrap();
        assert!(files.look().unwrap().contains("was changed in place"));
        std::fs::remove_dir_all(&directory).unwrap();
        assert!(files.look().unwrap().contains("is gone"));
        assert_eq!(files.look(), None);
    }
}
