//! Export of metrics while the daemon serves: to a file and over HTTP.

use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::config::MetricsSection;
use super::metrics::{Answer, Server, TextFile, render};
use crate::daemon::Report;
use crate::device::registry::telemetry;
use crate::machine::Root;
use crate::shm::clock::now_ns;

/// The configured exports. Dropping this ends them.
pub struct MetricsExporter {
    _server: Option<Server>,
    /// Dropped to end the thread.
    to: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl MetricsExporter {
    /// Starts the configured exports.
    ///
    /// # Errors
    /// If the address can't be listened on, or the collector would ignore the file's name.
    pub fn start(section: &MetricsSection, socket: &Path) -> Result<MetricsExporter, String> {
        let server = match section.listen {
            Some(address) => {
                let socket = socket.to_owned();
                Some(Server::start(address, move |path| answer(path, &socket))?)
            }
            None => None,
        };
        let mut exporter = MetricsExporter { _server: server, to: None, thread: None };
        if let Some(path) = &section.file {
            let file = TextFile::new(path.clone())?;
            let (to, from) = channel::<()>();
            let every = Duration::from_secs(section.every_s.0.into());
            let socket = socket.to_owned();
            let write =
                move || write(file, &socket, || from.recv_timeout(every) == Err(RecvTimeoutError::Timeout));
            let thread = std::thread::Builder::new().name("metrics file".into()).spawn(write);
            exporter.thread = Some(thread.map_err(|error| format!("metrics.file: {error}"))?);
            exporter.to = Some(to);
        }
        Ok(exporter)
    }
}

impl Drop for MetricsExporter {
    fn drop(&mut self) {
        self.to = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn page(socket: &Path) -> Result<String, String> {
    let report = Report::read(socket).map_err(|error| error.to_string())?;
    Ok(render(&report, &telemetry(&Root::default()), now_ns()))
}

fn answer(path: &str, socket: &Path) -> Answer {
    let found = match path {
        "/metrics" => page(socket),
        "/healthz" => crate::daemon::health::check(socket),
        _ => return Answer::NotFound,
    };
    found.map_or_else(Answer::Unavailable, Answer::Page)
}

/// Writes the file at intervals, until `wait` returns false.
fn write(mut file: TextFile, socket: &Path, wait: impl Fn() -> bool) {
    loop {
        match page(socket) {
            Ok(page) => file.write(&page),
            Err(error) => log::warn!("metrics.file: {error}"),
        }
        if !wait() {
            return;
        }
    }
}
