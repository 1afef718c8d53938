//! Options of the daemon and of the policy, as a configuration asks for them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use super::config::{self, ClientsSection, Config, ConfigError, DEFAULT_PATH, GuidanceSection};
use super::log;
use super::source::Source;
use crate::checkpoint::Checkpoint;
use crate::daemon::{Checks, Guidance, Limits, Options, PerUser, Wake};
use crate::model::RtcSchedule;
use crate::policy::PolicyOptions;

impl Config {
    /// The path of the checkpoint to serve.
    ///
    /// # Errors
    /// If no source of the configuration names one.
    pub(super) fn checkpoint(&self, source: &Source) -> Result<&Path, ConfigError> {
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

    pub(super) fn limits(&self) -> Limits {
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

    pub(super) fn options(&self) -> Result<Options, ConfigError> {
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
            left_out_of_log: Some(log::left_out),
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

    pub(super) fn policy_options(&self) -> Result<PolicyOptions, crate::device::DeviceError> {
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
    pub(super) fn fixed(&self, other: &Config) -> Vec<String> {
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
pub(super) fn leaves(table: &toml::Table) -> BTreeMap<String, toml::Value> {
    let below = |(key, value): (&String, &toml::Value)| match value {
        toml::Value::Table(table) => {
            leaves(table).into_iter().map(|(below, value)| (format!("{key}.{below}"), value)).collect()
        }
        value => vec![(key.clone(), value.clone())],
    };
    table.iter().flat_map(below).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::KINDS;
    use crate::device::settings::Settings;
    use crate::service::config::Within;

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
}
