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
mod realtime;
mod replace;
mod signals;
mod startup;

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use self::config::{ClientsSection, Config, ConfigError, DEFAULT_PATH, GuidanceSection, Override};
use self::exporter::MetricsExporter;
use self::failure::LastFailure;
use self::monitor::Monitor;
use self::signals::Signals;
use self::startup::StartupProgress;
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::daemon::{
    Checks, Claim, Daemon, Guidance, Handle, Limits, Options, PerUser, PolicyEngine, Role, Wake,
};
use crate::model::RtcSchedule;
use crate::policy::{Policy, PolicyError, PolicyOptions};

pub use manager::Inherited;

/// Sources of a configuration.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// Path of the configuration file, if any.
    pub file: Option<PathBuf>,
    /// Values that take precedence over the file.
    pub overrides: Vec<Override>,
}

impl Source {
    /// The named file; without one, the installed file if it exists and `flags` don't name a checkpoint.
    /// The environment overrides the file, flags override both.
    ///
    /// # Errors
    /// If a variable of the environment is invalid.
    pub fn new(named: Option<PathBuf>, flags: Vec<Override>) -> Result<Self, ConfigError> {
        let serves = |flag: &Override| flag.key == ("policy".into(), "checkpoint".into());
        let installed = || {
            let wanted = !flags.iter().any(serves) && Path::new(DEFAULT_PATH).exists();
            wanted.then(|| DEFAULT_PATH.into())
        };
        let file = named.or_else(installed);
        let mut overrides = Override::from_environment(std::env::vars_os())?;
        overrides.extend(flags);
        Ok(Self { file, overrides })
    }

    /// Reads all sources into one configuration.
    ///
    /// # Errors
    /// The first fault found.
    pub fn load(&self) -> Result<Config, ConfigError> {
        Config::load(self.file.as_deref(), &self.overrides)
    }
}

impl Config {
    /// The path of the checkpoint to serve.
    ///
    /// # Errors
    /// If no source of the configuration names one.
    fn checkpoint(&self, source: &Source) -> Result<&Path, ConfigError> {
        let file = source.file.as_deref().unwrap_or(Path::new(DEFAULT_PATH));
        self.policy.checkpoint.as_deref().ok_or_else(|| {
            let file = file.display();
            let what = format!(
                "policy.checkpoint is not set: say in {file} what to serve, or give --checkpoint DIR"
            );
            ConfigError::Whole(what)
        })
    }

    /// Checks that the checkpoint can be served, as far as headers, processors and profile tell; no weight
    /// is read.
    ///
    /// # Errors
    /// All faults that keep it from being served, one per line.
    pub fn check_checkpoint(&self) -> Result<(), ConfigError> {
        let Some(dir) = &self.policy.checkpoint else { return Ok(()) };
        let checkpoint = Checkpoint::open_with(dir, self.policy.profile.as_deref())
            .map_err(|error| ConfigError::Whole(error.to_string()))?;
        match checkpoint.faults() {
            [] => Ok(()),
            faults => {
                let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
                Err(ConfigError::Whole(lines.join("\n")))
            }
        }
    }

    fn limits(&self) -> Limits {
        let hang_after = self.supervision.hang_after_s.0;
        Limits {
            max_age_ns: Duration::from_millis(self.clients.max_age_ms.0.into()).as_nanos() as u64,
            max_clients: self.clients.max_clients.0 as usize,
            max_memory: u64::from(self.clients.max_memory_mb.0) << 20,
            per_user: PerUser {
                clients: self.clients.max_clients_per_user.map(|most| most.0.into()),
                memory: self.clients.max_memory_mb_per_user.map(|most| u64::from(most.0) << 20),
                connections: self.clients.max_connections_per_user.map(|most| most.0.into()),
                requests: self.clients.max_requests_per_user.map(|most| most.0.into()),
                instructions: self.clients.max_instructions_per_user.map(|most| most.0.into()),
            },
            hang_after: (hang_after > 0).then(|| Duration::from_secs(hang_after.into())),
        }
    }

    fn options(&self) -> Result<Options, ConfigError> {
        let group = self.clients.group.as_ref().map(|group| group.number()).transpose();
        let group = group.map_err(|error| ConfigError::Whole(format!("clients.group: {error}")))?;
        // New files have this group anyway; changing owners is forbidden by the installed unit.
        let own = rustix::process::getgid().as_raw();
        Ok(Options {
            wake: match self.scheduling.wake {
                config::Wake::Spin => Wake::Spin,
                config::Wake::Hybrid => Wake::Hybrid(u64::from(self.scheduling.spin_us.0) * 1000),
                config::Wake::Sleep => Wake::Sleep,
            },
            group: group.filter(|group| *group != own),
            guidance: self.guidance(),
            checks: Checks {
                positions: self.checks.positions,
                velocity_factor: self.checks.velocity_factor.0,
                start: self.checks.start,
            },
            limits: self.limits(),
            left_out_of_log: Some(self::log::left_out),
            ..Options::default()
        })
    }

    fn guidance(&self) -> Guidance {
        let GuidanceSection { enabled, schedule, method: _, max_weight, margin_rows, horizon } =
            self.guidance;
        Guidance {
            enabled,
            schedule: match schedule {
                config::Schedule::Linear => RtcSchedule::Linear,
                config::Schedule::Exp => RtcSchedule::Exp,
                config::Schedule::Ones => RtcSchedule::Ones,
                config::Schedule::Zeros => RtcSchedule::Zeros,
            },
            max_weight: max_weight.0,
            margin_rows: margin_rows.0,
            horizon: horizon.0,
            prefix_every: self.policy.prefix_every.0,
        }
    }

    fn policy_options(&self) -> Result<PolicyOptions, crate::device::DeviceError> {
        Ok(PolicyOptions {
            device: self.device.chosen().choose()?,
            steps: self.policy.steps.map(|steps| steps.0 as usize),
            profile: self.policy.profile.clone(),
            control_rate_hz: self.policy.control_rate_hz.map(|rate| rate.0),
            tokenizer: self.policy.tokenizer.clone(),
            recompute: self.policy.recompute,
            guidance: self.guidance.enabled.then_some(self.guidance.max_weight.0),
            guide_only: self.guidance.method == config::Method::Guided,
            keep_prefix: self.policy.prefix_every.0 > 1,
        })
    }

    /// Differing keys outside of what can be reloaded.
    fn fixed(&self, other: &Config) -> Vec<String> {
        let fixed = |config: &Config| {
            let Config { clients, supervision, log, .. } = Config::default();
            let mut fixed = config.clone();
            let (socket, group) = (fixed.clients.socket.take(), fixed.clients.group.take());
            fixed.clients = ClientsSection { socket, group, ..clients };
            fixed.supervision.hang_after_s = supervision.hang_after_s;
            fixed.log.level = log.level;
            toml::Table::try_from(fixed).unwrap_or_default()
        };
        let (before, after) = (leaves(&fixed(self)), leaves(&fixed(other)));
        let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
        let changed = keys.into_iter().filter(|key| before.get(*key) != after.get(*key));
        changed.cloned().collect()
    }
}

/// All keys of a table and its subtables, with their values.
fn leaves(table: &toml::Table) -> BTreeMap<String, toml::Value> {
    let below = |(key, value): (&String, &toml::Value)| match value {
        toml::Value::Table(table) => {
            leaves(table).into_iter().map(|(below, value)| (format!("{key}.{below}"), value)).collect()
        }
        value => vec![(key.clone(), value.clone())],
    };
    table.iter().flat_map(below).collect()
}

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
    self::log::start(&config.log, config.clients.max_log_records_per_user.0)?;
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
    if let Err(error) = self::log::set_level(&config.log) {
        ::log::error!("log.level stays: {error}");
    }
    self::log::set_most(config.clients.max_log_records_per_user.0);
    handle.limit(config.limits());
    ::log::info!("configuration reloaded");
    *in_effect = config;
}

#[cfg(test)]
mod tests {
    use super::config::Within;
    use super::*;
    use crate::device::KINDS;
    use crate::device::settings::Settings;

    #[test]
    fn keys_that_need_a_restart_are_told_from_those_that_do_not() {
        let before = Config::default();
        let mut after = before.clone();
        after.clients.max_clients = Within(3);
        after.supervision.hang_after_s = Within(0);
        after.log.level = "debug".into();
        assert_eq!(before.fixed(&after), Vec::<String>::new());
        assert_eq!(after.limits().max_clients, 3);
        assert_eq!(after.limits().hang_after, None);
        after.clients.socket = Some("/s".into());
        let mut settings = Settings::new(KINDS[0]);
        settings.set("threads", "2", "here").unwrap();
        after.device.put(&settings);
        assert_eq!(before.fixed(&after), ["clients.socket", "device.cpu.threads"]);
        assert_eq!(after.fixed(&before), ["clients.socket", "device.cpu.threads"]);
    }

    #[test]
    fn what_is_configured_reaches_the_policy_and_the_daemon() {
        let config: Config = toml::from_str(
            "[policy]\nprofile = \"plain\"\ncontrol_rate_hz = 25\ntokenizer = \"/t.json\"\nsteps = 3\n\
             recompute = true\nprefix_every = 2\n[guidance]\nmethod = \"guided\"\nmax_weight = 4.0\n\
             [clients]\nmax_clients = 5\nmax_memory_mb = 7\nmax_age_ms = 250\nmax_clients_per_user = 2\n\
             max_memory_mb_per_user = 3\nmax_connections_per_user = 4\nmax_requests_per_user = 6\n\
             max_instructions_per_user = 8\n\
             [scheduling]\nwake = \"hybrid\"\nspin_us = 30\n[supervision]\nhang_after_s = 1\n",
        )
        .unwrap();
        let policy = config.policy_options().unwrap();
        assert_eq!(policy.profile.as_deref(), Some("plain"));
        assert_eq!(policy.control_rate_hz, Some(25.0));
        assert_eq!(policy.tokenizer.as_deref(), Some(Path::new("/t.json")));
        assert_eq!((policy.steps, policy.recompute), (Some(3), true));
        assert_eq!((policy.guidance, policy.guide_only, policy.keep_prefix), (Some(4.0), true, true));
        let policy = Config::default().policy_options().unwrap();
        assert_eq!((policy.guide_only, policy.keep_prefix), (false, false));
        let options = config.options().unwrap();
        assert_eq!(options.wake, Wake::Hybrid(30_000));
        assert!(options.left_out_of_log.is_some());
        let per_user = PerUser {
            clients: Some(2),
            memory: Some(3 << 20),
            connections: Some(4),
            requests: Some(6),
            instructions: Some(8),
        };
        let limits = Limits {
            max_age_ns: 250_000_000,
            max_clients: 5,
            max_memory: 7 << 20,
            per_user,
            hang_after: Some(Duration::from_secs(1)),
        };
        assert_eq!(options.limits, limits);

        // Files have the daemon's own group anyway.
        let own = rustix::process::getgid().as_raw();
        for (number, group) in [(own, None), (own + 1, Some(own + 1))] {
            let mut config = Config::default();
            config.clients.group = Some(config::Group::Number(number));
            assert_eq!(config.options().unwrap().group, group);
        }
    }

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
