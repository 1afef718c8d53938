//! Monitors the checkpoint's files and the cards while the daemon serves.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use crate::checkpoint::weight_files;
use crate::device::registry::telemetry;
use crate::machine::{Root, Telemetry};

/// Time between two checks of the checkpoint and the cards.
const LOOK: Duration = Duration::from_secs(10);

/// Handle of the monitoring thread. Dropping it ends the thread without waiting: a check of a file on an
/// unreachable server or a failed disk may never return.
pub struct Monitor {
    _to: Sender<()>,
}

impl Monitor {
    /// Starts the thread for the files of a checkpoint and all cards.
    ///
    /// # Errors
    /// If the system can't start a thread.
    pub fn start(checkpoint: &Path) -> io::Result<Monitor> {
        let checkpoint = checkpoint.to_owned();
        Self::spawn(LOOK, move || {
            let (mut files, mut cards) = (Files::of(&checkpoint), Cards::new(Root::default()));
            move || {
                if let Some(changed) = files.look() {
                    log::warn!("{changed}");
                }
                for (node, what) in cards.look() {
                    log::warn!(card = node; "{what}");
                }
            }
        })
    }

    /// Starts a thread that calls `begin` once, and then repeatedly the function it returns.
    fn spawn<Look: FnMut()>(
        every: Duration,
        begin: impl FnOnce() -> Look + Send + 'static,
    ) -> io::Result<Self> {
        let (to, from) = channel();
        let thread = std::thread::Builder::new().name("attendant".into());
        thread.spawn(move || monitor(&from, every, begin()))?;
        Ok(Monitor { _to: to })
    }
}

fn monitor(from: &Receiver<()>, every: Duration, mut look: impl FnMut()) {
    while from.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
        look();
    }
}

/// Identity and state of a file: device, inode, size, time of the last change.
type Stamp = (u64, u64, u64, (i64, i64));

/// The files of a checkpoint, with their stamps at the last check.
struct Files {
    directory: PathBuf,
    stamps: BTreeMap<PathBuf, Stamp>,
}

impl Files {
    fn of(directory: &Path) -> Files {
        Files { directory: directory.into(), stamps: stamps(directory) }
    }

    /// The first change since the last check, described in words.
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
            // The mapped pages follow the file's content.
            Some(_) => "was changed in place while it is served: chunks may be wrong, restart",
        };
        Some(format!("{} {what}", path.display()))
    }
}

fn stamps(directory: &Path) -> BTreeMap<PathBuf, Stamp> {
    let stamp = |file: Metadata| (file.dev(), file.ino(), file.len(), (file.mtime(), file.mtime_nsec()));
    weight_files(directory).map(|(path, file)| (path, stamp(file))).collect()
}

/// The cards, with their state at the last check.
struct Cards {
    root: Root,
    before: Vec<Telemetry>,
}

impl Cards {
    fn new(root: Root) -> Cards {
        let before = telemetry(&root);
        Cards { root, before }
    }

    /// Problems of cards since the last check: card number, problem.
    fn look(&mut self) -> Vec<(u32, String)> {
        let before = std::mem::take(&mut self.before);
        self.before = telemetry(&self.root);
        let mut wrong = Vec::new();
        for was in &before {
            let Some(card) = self.before.iter().find(|card| card.node == was.node) else {
                wrong.push((was.node, "the card is gone from the bus".to_owned()));
                continue;
            };
            if card.heartbeat.is_some() && card.heartbeat == was.heartbeat {
                let reset = card.reset.map_or(String::new(), |command| format!(" ({command})"));
                wrong.push((
                    card.node,
                    format!("the firmware's heartbeat stands still: reset the card{reset}"),
                ));
            }
            if card.thermal_trips.zip(was.thermal_trips).is_some_and(|(now, before)| now > before) {
                wrong.push((card.node, "the card has shut down from heat".into()));
            }
            if let (Some(celsius), Some(limit)) = (card.temperature_c, card.temperature_limit_c)
                && celsius >= limit
            {
                wrong.push((card.node, format!("{celsius:.0} °C, throttled from {limit:.0} °C on")));
            }
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_that_stands_still_gets_hot_or_goes_is_noticed() {
        let directory = std::env::temp_dir().join(format!("pi0rt-attend-cards-{}", std::process::id()));
        let card = directory.join("sys/class/tenstorrent/tenstorrent!0");
        let sensors = card.join("device/hwmon/hwmon0");
        std::fs::create_dir_all(&sensors).unwrap();
        let says = |name: &str, value: u32| std::fs::write(card.join(name), value.to_string()).unwrap();
        says("tt_heartbeat", 1);
        says("tt_therm_trip_count", 0);
        says("device/hwmon/hwmon0/temp1_input", 60_000);
        says("device/hwmon/hwmon0/temp1_max", 75_000);
        let mut cards = Cards::new(Root::at(&directory));
        says("tt_heartbeat", 2);
        assert_eq!(cards.look(), []);
        let still = "the firmware's heartbeat stands still: reset the card (tt-smi -r)".to_owned();
        assert_eq!(cards.look(), [(0, still)]);
        says("tt_heartbeat", 3);
        says("tt_therm_trip_count", 1);
        says("device/hwmon/hwmon0/temp1_input", 75_000);
        let heat = ["the card has shut down from heat", "75 °C, throttled from 75 °C on"];
        assert_eq!(cards.look(), heat.map(|what| (0, what.to_owned())));
        std::fs::remove_dir_all(&directory).unwrap();
        assert_eq!(cards.look(), [(0, "the card is gone from the bus".to_owned())]);
        assert_eq!(cards.look(), []);
    }

    /// A check of a file on an unreachable server may never return: the daemon ends all the same.
    #[test]
    fn a_look_that_hangs_holds_nobody_up() {
        let (to, from) = channel();
        let look = move || {
            let _ = to.send(());
            loop {
                std::thread::park();
            }
        };
        let monitor = Monitor::spawn(Duration::from_millis(1), move || look).unwrap();
        from.recv().unwrap();
        drop(monitor);
    }

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
