//! Serving a policy: the whole of `pi0rtd`, and `pi0rt serve`.

use std::error::Error;
use std::io::Write;
use std::path::PathBuf;

use clap::ValueEnum;
use pi0rt::service::config::{Override, Wake};
use pi0rt::service::{Inherited, Source};

use crate::device_args::DeviceArgs;
use crate::profile_args::ProfileArgs;

/// Serve a PI0 policy to robot controllers
///
/// Prints one line when ready: weights are mapped, buffers allocated, and one chunk has been computed.
/// SIGTERM and SIGINT end it once the request in flight is answered; SIGHUP reloads the configuration.
///
/// Options not given here are taken from the environment (PI0RTD_SECTION_KEY) and from the configuration
/// file: --config, or, without --checkpoint, /etc/pi0rt/pi0rtd.toml.
#[derive(clap::Args)]
pub struct Args {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check the configuration and whether the checkpoint can be served, then exit
    #[arg(long, conflicts_with = "print_config")]
    check_config: bool,
    /// Print the configuration in effect with every key explained, then exit
    #[arg(long)]
    print_config: bool,
    /// Directory of the checkpoint
    #[arg(long, value_name = "DIR")]
    checkpoint: Option<PathBuf>,
    #[command(flatten)]
    profile: ProfileArgs,
    /// Socket to listen on [default: $PI0RT_SOCKET, else /run/pi0rt/pi0rt.sock]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// How to wait for requests [default: hybrid]
    #[arg(long, value_enum)]
    wake: Option<Wake>,
    /// Polling time before sleeping, with --wake hybrid [default: 50]
    #[arg(long, value_name = "US")]
    spin_us: Option<u32>,
    /// Answer observations older than this with STALE; 0: never [default: 0]
    #[arg(long, value_name = "MS")]
    max_age_ms: Option<u32>,
    /// Maximum number of clients at a time [default: 24]
    #[arg(long, value_name = "N")]
    max_clients: Option<u32>,
    /// Maximum shared memory of all clients together [default: 1024]
    #[arg(long, value_name = "MB")]
    max_memory_mb: Option<u32>,
    /// Group whose members may connect, by name or number [default: the daemon's own]
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// SCHED_FIFO priority; 0: normal scheduling [default: 0]
    #[arg(long, value_name = "N")]
    realtime_priority: Option<u32>,
    /// Keep all memory in RAM
    #[arg(long)]
    lock_memory: bool,
    /// Time without progress in a chunk after which the device counts as hung; 0: never [default: 30]
    #[arg(long, value_name = "S")]
    hang_after_s: Option<u32>,
    #[command(flatten)]
    device: DeviceArgs,
}

impl Args {
    fn overrides(&self) -> Result<Vec<Override>, Box<dyn Error>> {
        fn name(value: &impl ValueEnum) -> Option<String> {
            value.to_possible_value().map(|value| value.get_name().to_owned())
        }
        fn number(value: Option<impl Into<u32>>) -> Option<String> {
            value.map(|number| number.into().to_string())
        }
        let flag = |value: bool| value.then(|| "true".to_owned());
        let path = |flag: &str, path: &Option<PathBuf>| match path {
            None => Ok(None),
            Some(path) => match path.to_str() {
                Some(text) => Ok(Some(text.to_owned())),
                None => Err(format!("{flag} {}: not UTF-8", path.display())),
            },
        };
        let device = &self.device;
        let given = [
            ("--checkpoint", "policy", "checkpoint", path("--checkpoint", &self.checkpoint)?),
            ("--profile", "policy", "profile", self.profile.profile.clone()),
            ("--rate", "policy", "control_rate_hz", self.profile.rate.map(|hz| hz.to_string())),
            ("--tokenizer", "policy", "tokenizer", path("--tokenizer", &device.tokenizer)?),
            ("--steps", "policy", "steps", number(device.steps)),
            ("--recompute", "policy", "recompute", flag(device.recompute)),
            ("--device", "device", "name", device.choice.device.map(|kind| kind.name().to_owned())),
            ("--socket", "clients", "socket", path("--socket", &self.socket)?),
            ("--group", "clients", "group", self.group.clone()),
            ("--max-clients", "clients", "max_clients", number(self.max_clients)),
            ("--max-memory-mb", "clients", "max_memory_mb", number(self.max_memory_mb)),
            ("--max-age-ms", "clients", "max_age_ms", number(self.max_age_ms)),
            ("--wake", "scheduling", "wake", self.wake.as_ref().and_then(name)),
            ("--spin-us", "scheduling", "spin_us", number(self.spin_us)),
            ("--realtime-priority", "scheduling", "realtime_priority", number(self.realtime_priority)),
            ("--lock-memory", "scheduling", "lock_memory", flag(self.lock_memory)),
            ("--hang-after-s", "supervision", "hang_after_s", number(self.hang_after_s)),
        ];
        let given = given.into_iter().filter_map(|(flag, section, key, value)| {
            value.map(|value| Override::flag(flag, section, key, value))
        });
        let settings = device.choice.said.iter().map(|said| {
            let of = said.kind.map_or(String::new(), |kind| format!("{}_", kind.name()));
            Override::flag(&said.flag, "device", &format!("{of}{}", said.name.replace('.', "_")), &said.value)
        });
        Ok(given.chain(settings).collect())
    }
}

/// Serves until SIGTERM or SIGINT, or checks or prints the configuration.
///
/// # Errors
/// The error that keeps the daemon from starting or serving.
pub fn run(args: &Args, inherited: Inherited) -> Result<(), Box<dyn Error>> {
    let source = Source::new(args.config.clone(), args.overrides()?)?;
    if !args.check_config && !args.print_config {
        return pi0rt::service::run(&source, inherited);
    }
    let config = source.load()?;
    for moved in &config.moved {
        eprintln!("warning: {moved}");
    }
    if args.check_config {
        config.check_checkpoint()?;
    }
    let page = match (args.print_config, &source.file) {
        (true, _) => config.page(),
        (false, Some(file)) => format!("{}: right\n", file.display()),
        (false, None) => "no file, the rest is right\n".to_owned(),
    };
    std::io::stdout().write_all(page.as_bytes())?;
    Ok(())
}
