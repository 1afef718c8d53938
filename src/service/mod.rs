//! The daemon as a service: configuration, service manager, logs, signals, metrics, and [`doctor`], which
//! checks an installation.
//!
//! [`run`] is the whole of `pi0rtd`. Beside the daemon's own threads there are three that sleep most of the
//! time: one for signals, one that monitors the checkpoint's files and the cards, and, while the policy is
//! loaded, one that reports progress.

pub mod config;
pub mod doctor;
mod exporter;
pub mod failure;
pub mod log;
mod manager;
pub mod metrics;
mod monitor;
mod options;
mod realtime;
mod replace;
mod signals;
mod source;
mod startup;

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use self::config::{Config, ConfigError};
use self::exporter::MetricsExporter;
use self::failure::LastFailure;
use self::monitor::Monitor;
use self::signals::Signals;
use self::startup::StartupProgress;
use crate::checkpoint::CheckpointError;
use crate::daemon::{Claim, Daemon, Handle, PolicyEngine, Role};
use crate::policy::{Policy, PolicyError};

pub use manager::Inherited;
pub use source::Source;

/// Serves until SIGTERM or SIGINT. An error that keeps the daemon from starting or serving is also recorded
/// as the last failure.
///
/// # Errors
/// The error that keeps the daemon from starting or serving.
pub fn run(source: &Source, inherited: Inherited) -> Result<(), Box<dyn Error>> {
    let served = serve(source, inherited);
    if let (Err(error), Some(path)) = (&served, LastFailure::path()) {
        keep(&path, &LastFailure::now(std::process::id(), &whole(error.as_ref())));
    }
    // Writes earlier records before the error.
    ::log::logger().flush();
    served
}

fn keep(path: &Path, failure: &LastFailure) {
    if let Err(error) = failure.write(path) {
        ::log::warn!("{}: {error}", path.display());
    }
}

/// An error with its causes, in one line.
fn whole(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

fn serve(source: &Source, inherited: Inherited) -> Result<(), Box<dyn Error>> {
    let config = source.load()?;
    log::start(&config.log, config.clients.max_log_records_per_user.0)?;
    config.moved.iter().for_each(|moved| ::log::warn!("{moved}"));
    let checkpoint = config.checkpoint(source)?;
    let options = config.options()?;
    let socket = config.socket();
    // Before the checkpoint is loaded, which may take long, so that a second daemon is refused at once.
    let mut claim = Claim::take(&socket)?;
    for name in &inherited.unknown {
        ::log::warn!(
            "the service manager has given a descriptor called {name:?}, which is not this daemon's: closed"
        );
        manager::forget(name);
    }
    if let Some(listener) = inherited.listener {
        claim.inherit(listener)?;
    }
    if let Some(pid) = claim.previous() {
        ::log::warn!(process = pid; "the daemon before this one ended without having time to clean up");
        if let Some(path) = LastFailure::path() {
            keep_if_new(&path, pid);
        }
    }
    let claim = Arc::new(Mutex::new(Some(claim)));
    let handle = Handle::new()?;
    let (stops, loading) = (handle.clone(), claim.clone());
    let stop = move || {
        manager::stopping();
        stops.stop();
        // Loading can't be interrupted: it is abandoned.
        if let Some(claim) = take(&loading) {
            drop(claim);
            std::process::exit(128 + 15);
        }
    };
    let (reloads, reload_source, mut in_effect) = (handle.clone(), source.clone(), config.clone());
    let reload = move || reload(&reload_source, &mut in_effect, &reloads);
    let _signals = Signals::watch(LastFailure::path(), stop, reload)?;

    let loaded = load(&config, checkpoint, &socket).inspect_err(|_| drop(take(&claim)));
    let (policy, line) = loaded?;
    let Some(claim) = take(&claim) else {
        // The signals' thread is about to end the process.
        loop {
            std::thread::park();
        }
    };
    let workers = policy.workers();
    let mut daemon = Daemon::new(PolicyEngine::new(policy), claim, options, handle)?;
    if manager::is_there() {
        daemon.keep_in(Box::new(manager::Store));
    }
    daemon.adopt(inherited.sessions);
    let priority = config.scheduling.realtime_priority.0;
    if priority > 0 {
        // The inference thread waits for the workers: at a lower priority, other threads could delay its
        // next operation.
        workers.into_iter().try_for_each(|worker| realtime::raise(worker, priority))?;
        daemon.set_up_threads(Box::new(move |role, thread| match role {
            Role::Heartbeat | Role::Control => realtime::raise(thread, priority + 1),
            Role::Inference => realtime::raise(thread, priority),
        }))?;
    }
    if let Some(watchdog) = manager::WatchdogNotifier::new() {
        daemon.keep_alive(watchdog.every(), watchdog.keep_alive());
    }
    let monitor = Monitor::start(checkpoint)?;
    let exporter = MetricsExporter::start(&config.metrics, &socket)?;
    // The line may have no reader: that doesn't keep the daemon from serving.
    let _ = writeln!(std::io::stdout(), "pi0rtd: ready: {line}");
    manager::ready(&format!("ready: {line}"));
    let served = daemon.run();
    drop(exporter);
    drop(monitor);
    Ok(served?)
}

fn take(claim: &Mutex<Option<Claim>>) -> Option<Claim> {
    claim.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Records that the previous daemon was killed without a reason, unless the file already holds its failure.
fn keep_if_new(path: &Path, pid: u32) {
    if LastFailure::read(path).ok().flatten().is_none_or(|known| known.pid != pid) {
        keep(path, &LastFailure::now(pid, "ended without having time to clean up: killed, or crashed"));
    }
}

/// Loads and warms up the policy. Returns it with a one-line description.
fn load(config: &Config, checkpoint: &Path, socket: &Path) -> Result<(Policy, String), Box<dyn Error>> {
    let start = Instant::now();
    let options = config.policy_options()?;
    let startup = StartupProgress::begin()?;
    let mut policy = Policy::load_whole(checkpoint, &options, &|at| startup.at(at)).map_err(refused)?;
    if policy.info().rate.is_none() {
        ::log::warn!(
            "no control rate is declared: set policy.control_rate_hz, or rate_hz in a profile; until then clients have \
             to choose one themselves"
        );
    }
    if config.scheduling.lock_memory {
        realtime::lock_memory()?;
    }
    let loaded = start.elapsed();
    policy.warm_up_with(&|at| startup.at(at))?;
    let warm = start.elapsed() - loaded;
    drop(startup);
    let info = policy.info();
    let profile = info.profile.as_ref().map_or(String::new(), |name| format!(", profile {name}"));
    let line = format!(
        "model {} on {}{profile}, loaded in {:.0} ms, warm in {:.0} ms, socket {}",
        info.model,
        info.device,
        loaded.as_secs_f64() * 1e3,
        warm.as_secs_f64() * 1e3,
        socket.display()
    );
    Ok((policy, line))
}

/// Marks the refusal of a checkpoint for its content as a configuration error, which a restart doesn't fix.
/// A file that can't be read may be readable the next time.
fn refused(error: PolicyError) -> Box<dyn Error> {
    match error {
        PolicyError::Checkpoint(fault) => match *fault {
            fault @ (CheckpointError::Io { .. } | CheckpointError::File { .. }) => fault.into(),
            fault => ConfigError::Whole(fault.to_string()).into(),
        },
        error => error.into(),
    }
}

/// Reloads the configuration; an error leaves everything as it was.
fn reload(source: &Source, in_effect: &mut Config, handle: &Handle) {
    let config = match source.load() {
        Ok(config) => config,
        Err(error) => return ::log::error!("not reloaded: {error}"),
    };
    config.moved.iter().for_each(|moved| ::log::warn!("{moved}"));
    for key in in_effect.fixed(&config) {
        ::log::warn!(key = key.as_str(); "{key} has changed: that takes effect on restart");
    }
    if let Err(error) = log::set_level(&config.log) {
        ::log::error!("log.level stays: {error}");
    }
    log::set_most(config.clients.max_log_records_per_user.0);
    handle.limit(config.limits());
    ::log::info!("configuration reloaded");
    *in_effect = config;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_with_its_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("the device is lost")]
        struct Lost {
            source: std::fmt::Error,
        }
        let cause = std::fmt::Error;
        assert_eq!(whole(&Lost { source: cause }), format!("the device is lost: {cause}"));
        assert_eq!(whole(&cause), cause.to_string());
    }
}
