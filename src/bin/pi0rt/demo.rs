//! `pi0rt demo`: runs daemon and controller in one command.

mod controller;
pub mod motion;
mod outage;
pub mod report;
pub mod server;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pi0rt::capi::pi0rt_client_options;
use pi0rt::device::KINDS;

use crate::command::CommandResult;
use crate::interrupt::INTERRUPTED;
use crate::picture::{self, Picture};
use crate::session::{Session, sized};
use crate::sim::{self, Plan};
use crate::synth::Model;
use controller::Controller;
use server::Server;

/// Run a daemon and a robot in one command
///
/// A policy for the simulated arm (docs/evaluation.md) drives it: through a daemon and the C interface, in real time, with
/// a live view on a terminal. Any other policy gets camera images and a state from a controller, which plays a command in
/// every tick. Without --checkpoint, the policy is the trained one that belongs to pi0rt, if it is installed, or else a
/// small one with random weights, generated once and kept in the cache directory; at its end the daemon is killed, and
/// restarted when the robot stands. The daemon leaves one core to the controller.
#[derive(clap::Args)]
pub struct Args {
    /// Directory of the checkpoint [default: a trained one for the simulated arm, else a small generated one]
    #[arg(long, value_name = "DIR")]
    checkpoint: Option<PathBuf>,
    /// Member of the model's family
    #[arg(long, value_enum, default_value = "pi0", conflicts_with = "checkpoint")]
    model: Model,
    /// Use the small generated checkpoint, even if there is a trained one
    #[arg(long, conflicts_with = "checkpoint")]
    random: bool,
    /// Profile: a built-in one (see `pi0rt profile list`) or a file [default: pi0rt.toml beside the weights]
    #[arg(long, value_name = "NAME|FILE", requires = "checkpoint")]
    profile: Option<String>,
    /// Running time of the controller [default: 5; of the simulated arm up to 10 for each instruction]
    #[arg(long, value_name = "S", value_parser = seconds)]
    seconds: Option<f64>,
    /// Kill the daemon after that time, and restart it when the robot stands [default: with random weights]; with the
    /// simulated arm, within its first second
    #[arg(long)]
    restart: bool,
    /// Ticks of the controller per second; the simulated arm's has 1000
    #[arg(long, value_name = "HZ", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=5000))]
    rate: u32,
    /// Rows of a chunk played per second [default: the rate the checkpoint or the daemon declares, else 50]
    #[arg(long, value_name = "HZ", value_parser = crate::synth::rate)]
    control_rate: Option<f32>,
    /// Instruction for the robot; the simulated arm carries out several, one after the other [default: two of its own, or
    /// "put the red block into the bowl"]
    #[arg(long = "prompt", value_name = "TEXT")]
    prompts: Vec<String>,
    #[command(flatten)]
    arm: sim::Options,
    /// Further options for the daemon, as in `pi0rt serve --help`
    #[arg(last = true, value_name = "OPTION")]
    daemon: Vec<String>,
}

/// When the simulated arm's daemon is killed, in simulated time: before the first task can be done, s.
const KILLED_AFTER_S: f64 = 0.6;

/// Camera images of a two-armed robot.
const CAMERAS: [(&str, &[u8]); 3] = [
    ("base_0_rgb", include_bytes!("../../../assets/demo/base_0_rgb.png")),
    ("left_wrist_0_rgb", include_bytes!("../../../assets/demo/left_wrist_0_rgb.png")),
    ("right_wrist_0_rgb", include_bytes!("../../../assets/demo/right_wrist_0_rgb.png")),
];

/// Parses a running time.
pub fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|e| format!("{e}"))?;
    if !(0.1..=86400.0).contains(&seconds) {
        return Err("expected 0.1 to 86400".into());
    }
    Ok(seconds)
}

pub fn run(args: &Args) -> CommandResult {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = interrupted.clone();
    // Only sets a flag: ending the daemon and printing the report is more than a handler may do.
    ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed))?;
    match show(args, &interrupted) {
        Err(error) if !interrupted.load(Ordering::Relaxed) => Err(error),
        Ok(code) if !interrupted.load(Ordering::Relaxed) => Ok(code),
        ended => {
            if let Err(error) = ended {
                eprintln!("pi0rt: {error}");
            }
            Ok(ExitCode::from(INTERRUPTED))
        }
    }
}

fn show(args: &Args, interrupted: &AtomicBool) -> CommandResult {
    let trained = || if args.random { None } else { trained(args.model) };
    let checkpoint = match args.checkpoint.clone().or_else(trained) {
        Some(dir) => dir,
        None => {
            let dir = small_checkpoint(args.model)?;
            declare_limits(&dir)?;
            dir
        }
    };
    println!("checkpoint     {}", checkpoint.display());
    let mut options = daemon_options(&args.daemon);
    options.extend(args.profile.iter().map(|profile| format!("--profile={profile}")));
    let mut server = Server::start(&checkpoint, &options)?;
    let socket = server.socket();
    let go_on = || {
        if interrupted.load(Ordering::Relaxed) {
            return Err("interrupted".into());
        }
        server.check()
    };
    let mut choices = sized!(pi0rt_client_options);
    choices.control_rate_hz = args.control_rate.unwrap_or(0.0);
    if args.arm.speed() < 1.0 {
        choices = sim::session_options(&args.arm);
    }
    let session = Session::open(&socket, choices, go_on)?;
    println!("model          {}", session.model());
    println!("device         {}", session.device());
    println!("control rate   {}", session.rate());
    let is_good = if sim::cameras(&session).is_ok() {
        drive(args, &session, &mut server, interrupted)?
    } else {
        control(args, &session, &mut server, interrupted)?
    };
    drop(session);
    server.stop()?;
    println!("demo           {}", if is_good { "ok" } else { "FAILED" });
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Drives the simulated arm. Returns whether all instructions were carried out.
fn drive(
    args: &Args,
    session: &Session,
    server: &mut Server,
    interrupted: &AtomicBool,
) -> Result<bool, Box<dyn std::error::Error>> {
    let prompts = match &args.prompts[..] {
        [] => sim::TASKS.map(str::to_owned).to_vec(),
        given => given.to_vec(),
    };
    let seconds = args.seconds.unwrap_or(10.0);
    let plan = Plan::new(&prompts, seconds, &args.arm, session)?;
    let killed = args.restart.then_some((server, KILLED_AFTER_S / args.arm.speed()));
    Ok(sim::drive(session, &plan, killed, interrupted)?.is_good())
}

/// Runs a controller with pictures in place of cameras. Returns whether chunks came and all results were good.
fn control(
    args: &Args,
    session: &Session,
    server: &mut Server,
    interrupted: &AtomicBool,
) -> Result<bool, Box<dyn std::error::Error>> {
    let cameras = session.cameras();
    let pictures: Vec<Picture> = (0..cameras.len())
        // A camera with another name gets one of the three images.
        .map(|i| CAMERAS.iter().find(|(name, _)| *name == cameras[i]).unwrap_or(&CAMERAS[i % CAMERAS.len()]))
        .map(|(_, png)| picture::decode(png))
        .collect::<Result<_, _>>()?;
    let prompt = args.prompts.first().map_or("put the red block into the bowl", String::as_str);
    let steps = controller::Plan {
        rate_hz: args.rate,
        seconds: args.seconds.unwrap_or(5.0),
        // One's own may take minutes to load again.
        restart: args.restart || args.checkpoint.is_none(),
        prompt,
        pictures: &pictures,
    };
    println!("controller     {} Hz for {} s: {prompt:?}, {}", args.rate, steps.seconds, cameras.join(", "));
    let record = Controller(session).run(&steps, server, interrupted)?;
    report::print(&record);
    Ok(record.is_good())
}

/// The trained policy for the simulated arm that belongs to pi0rt: installed beside this program, or in the source tree
/// that it was built from.
fn trained(model: Model) -> Option<PathBuf> {
    let name = model.variant().policy_type().unwrap_or_default();
    let installed =
        std::env::current_exe().ok().and_then(|program| Some(program.parent()?.join("../share/pi0rt/demo")));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo");
    let places = installed.into_iter().chain([source]).map(|place| place.join(name));
    { places }.find(|dir| dir.join("model.safetensors").is_file())
}

/// The daemon's options, with one core left to the controller unless threads or device are chosen: on a
/// robot a control loop has a core of its own.
fn daemon_options(given: &[String]) -> Vec<String> {
    let mut options = given.to_vec();
    let is_choice = |option: &String| {
        let flag = option.strip_prefix("--").unwrap_or_default();
        let flags = ["threads", "device"].into_iter().chain(KINDS.iter().map(|kind| kind.name()));
        flags.into_iter().any(|known| flag.starts_with(known))
    };
    let chosen = given.iter().any(is_choice);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if !chosen && cores > 1 {
        options.push(format!("--threads={}", cores - 1));
    }
    options
}

/// The path of a small checkpoint, generated by `pi0rt synth` the first time.
fn small_checkpoint(model: Model) -> Result<PathBuf, Box<dyn std::error::Error>> {
    let model = model.variant().policy_type().unwrap_or_default();
    let dir = cache_dir().join(format!("demo-small-{model}-{}", env!("CARGO_PKG_VERSION")));
    if pi0rt::checkpoint::Checkpoint::open(&dir).is_ok() {
        return Ok(dir);
    }
    if let Some(parent) = dir.parent() {
        std::fs::create_dir_all(parent).map_err(|e| format!("{}: {e}", parent.display()))?;
    }
    // Generated beside its place and then renamed: other processes find a complete one or none.
    let making = dir.with_extension(format!("{}.part", std::process::id()));
    let made = synth(model, &making).and_then(|()| {
        let _ = std::fs::remove_dir_all(&dir);
        match std::fs::rename(&making, &dir) {
            // Another demo has generated it meanwhile.
            Err(_) if pi0rt::checkpoint::Checkpoint::open(&dir).is_ok() => Ok(()),
            result => result.map_err(|e| format!("{}: {e}", dir.display()).into()),
        }
    });
    let _ = std::fs::remove_dir_all(&making);
    made.map(|()| dir)
}

/// Writes the profile with the demo's limits beside the weights, unless it is there.
fn declare_limits(dir: &Path) -> Result<(), Box<dyn std::error::Error>> {
    const PROFILE: &str = include_str!("../../../assets/demo/pi0rt.toml");
    let path = dir.join("pi0rt.toml");
    if std::fs::read_to_string(&path).is_ok_and(|text| text == PROFILE) {
        return Ok(());
    }
    // Written beside its place and then renamed: daemons of other demos find a complete one.
    let part = dir.join(format!("pi0rt.toml.{}.part", std::process::id()));
    std::fs::write(&part, PROFILE)
        .and_then(|()| std::fs::rename(&part, &path))
        .map_err(|e| format!("{}: {e}", path.display()).into())
}

fn synth(model: &str, dir: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["synth", "--model", model, "--preset", "small", "--weights", "bf16", "--out"]).arg(dir);
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(format!("pi0rt synth: {status}").into()) }
}

/// `$XDG_CACHE_HOME/pi0rt`, else `~/.cache/pi0rt`, else the directory for temporary files.
fn cache_dir() -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    base.unwrap_or_else(std::env::temp_dir).join("pi0rt")
}
