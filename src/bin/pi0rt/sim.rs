//! `pi0rt sim`: the simulated arm as a robot of a daemon, in real time, through the C interface.

mod cameras;
mod film;
mod keeper;
mod live;
mod record;
mod robot;
mod shared;
mod sheet;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use pi0rt::capi::pi0rt_client_options;
use pi0rt::control::default_socket;

use crate::command::CommandResult;
use crate::demo::server::Server;
use crate::session::{Session, sized};
use crate::tabletop::{Camera, Episode, FIRST_SEED, JOINTS, RATE_HZ, Scene, Task};
use record::Record;

/// Run the simulated arm as a robot of a daemon
///
/// A control loop at 1 kHz, a thread per camera at 30 Hz and one that reconnects, through the C interface, as a robot's
/// program in C would do it: docs/evaluation.md. The daemon has to serve a policy for the simulated arm. Exits with 0
/// if all instructions were carried out.
#[derive(clap::Args)]
pub struct Args {
    /// The daemon's socket [default: $PI0RT_SOCKET, else /run/pi0rt/pi0rt.sock]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Instruction for the arm; several are carried out one after the other
    #[arg(long = "prompt", value_name = "TEXT", default_values = TASKS)]
    prompts: Vec<String>,
    /// Time for each instruction
    #[arg(long, value_name = "S", default_value_t = 10.0, value_parser = crate::demo::seconds)]
    seconds: f64,
    #[command(flatten)]
    options: Options,
}

/// Instructions carried out unless others are given.
pub const TASKS: [&str; 2] = ["reach the blue block", "push the red block to the left"];

/// Options of the simulated arm.
#[derive(clap::Args)]
#[command(next_help_heading = "Simulated arm")]
pub struct Options {
    /// Seed of the scene: places and colours of the blocks, the arm's start, the light [default: one with the blocks of
    /// the instructions]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..1 << 62))]
    scene: Option<u64>,
    /// Speed of simulated time: 0.5 is half as fast
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = speed)]
    speed: f64,
    /// Hold observations back for so long before they are submitted, as if the device were slower
    #[arg(long, value_name = "MS", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=2000))]
    delay_ms: u32,
    /// Frames of each camera per second
    #[arg(long, value_name = "HZ", default_value_t = 30.0, value_parser = camera_hz)]
    camera_hz: f64,
    /// Largest delay of a frame, uniformly distributed
    #[arg(long, value_name = "MS", default_value_t = 0.0, value_parser = jitter)]
    camera_jitter_ms: f64,
    /// Share of frames that are lost
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    dropped_frames: f64,
    /// Write the scene at the end as a picture
    #[arg(long, value_name = "FILE.png")]
    picture: Option<PathBuf>,
    /// Write the motion as an animated PNG
    #[arg(long, value_name = "FILE.png")]
    animation: Option<PathBuf>,
    /// Show no live view, which is shown on terminals
    #[arg(long)]
    quiet: bool,
}

impl Options {
    /// Speed of simulated time.
    pub fn speed(&self) -> f64 {
        self.speed
    }
}

fn number(text: &str, range: std::ops::RangeInclusive<f64>) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(format!("expected {} to {}", range.start(), range.end())),
    }
}

fn speed(text: &str) -> Result<f64, String> {
    number(text, 0.02..=1.0)
}

fn camera_hz(text: &str) -> Result<f64, String> {
    number(text, 1.0..=200.0)
}

fn jitter(text: &str) -> Result<f64, String> {
    number(text, 0.0..=1000.0)
}

fn share(text: &str) -> Result<f64, String> {
    number(text, 0.0..=1.0)
}

/// A run of the simulated arm.
pub struct Plan<'a> {
    /// The scene's seed.
    pub seed: u64,
    /// What is to be done, one after the other.
    pub tasks: Vec<Task>,
    /// Time for each of them, in simulated time.
    pub seconds: f64,
    /// The arm's options.
    pub options: &'a Options,
    /// Cameras in the policy's order.
    pub cameras: Vec<Camera>,
}

impl<'a> Plan<'a> {
    /// The plan for some instructions and a session's policy.
    ///
    /// # Errors
    /// An instruction that is no task, or one about a block that the scene doesn't have; a policy that isn't one for
    /// the simulated arm.
    pub fn new(
        prompts: &[String],
        seconds: f64,
        options: &'a Options,
        session: &Session,
    ) -> Result<Plan<'a>, String> {
        let tasks = prompts.iter().map(|prompt| prompt.parse()).collect::<Result<Vec<Task>, String>>()?;
        let fits = |seed: &u64| tasks.iter().all(|task| Scene::of(*seed).block(*task).is_some());
        let seed = match options.scene {
            Some(seed) if fits(&seed) => seed,
            Some(seed) => {
                return Err(format!("--scene {seed}: it has no block of one of the instructions' colours"));
            }
            None => (FIRST_SEED..FIRST_SEED + 1000)
                .find(fits)
                .ok_or("the instructions are about more than the three blocks of a scene")?,
        };
        let cameras = cameras(session)?;
        Ok(Plan { seed, tasks, seconds, options, cameras })
    }

    /// The episode of a task, in the scene as it is.
    fn episode(&self, task: usize, before: Option<&Episode>) -> Option<Episode> {
        let next = Episode::begin(self.seed, self.tasks[task])?;
        Some(match before {
            Some(before) => next.in_world(before.world.clone()),
            None => next,
        })
    }
}

/// The policy's cameras, if it is one for the simulated arm.
///
/// # Errors
/// What it is not.
pub fn cameras(session: &Session) -> Result<Vec<Camera>, String> {
    let info = &session.info;
    for (what, width) in [("state", info.state_dim), ("actions", info.action_dim)] {
        if width as usize != JOINTS {
            return Err(format!("{what} of {width} values, the simulated arm has {JOINTS} joints"));
        }
    }
    let named = |name: String| {
        Camera::named(&name).ok_or(format!("camera {name}: the simulated arm has front and wrist"))
    };
    session.cameras().into_iter().map(named).collect()
}

/// Options of a session for the simulated arm.
pub fn session_options(options: &Options) -> pi0rt_client_options {
    let mut session = sized!(pi0rt_client_options);
    // Rows last longer where time goes more slowly.
    session.control_rate_hz = (f64::from(RATE_HZ) * options.speed) as f32;
    session
}

pub fn run(args: &Args) -> CommandResult {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = interrupted.clone();
    ctrlc::set_handler(move || flag.store(true, Relaxed))?;
    let socket = args.socket.clone().unwrap_or_else(default_socket);
    let mut tries = 0;
    let session = Session::open(&socket, session_options(&args.options), || {
        tries += 1;
        if tries > 1 { Err(format!("{}: no daemon listens", socket.display()).into()) } else { Ok(()) }
    })?;
    println!("model          {}", session.model());
    println!("device         {}", session.device());
    let plan = Plan::new(&args.prompts, args.seconds, &args.options, &session)?;
    let record = drive(&session, &plan, None, &interrupted)?;
    Ok(if record.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Drives the arm through all tasks, shows and counts it, and writes what is to be written. With a daemon that is
/// killed, it is restarted when the arm stands.
///
/// # Errors
/// The library's error, or that of a daemon that was started again; files that can't be written.
pub fn drive(
    session: &Session,
    plan: &Plan<'_>,
    killed: Option<(&mut Server, f64)>,
    interrupted: &AtomicBool,
) -> Result<Record, Box<dyn Error>> {
    println!("scene          {}, {} x real time", plan.seed, plan.options.speed);
    let record = robot::run(session, plan, killed, interrupted)?;
    record.print();
    if let Some(path) = &plan.options.picture {
        film::picture(path, plan, &record)?;
        println!("picture        {}", path.display());
    }
    if let Some(path) = &plan.options.animation {
        film::animation(path, plan, &record)?;
        println!("animation      {}", path.display());
    }
    Ok(record)
}
