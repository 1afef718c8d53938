//! Serving a policy: the whole of `pi0rtd`, and `pi0rt serve`.

use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use pi0rt::control::default_socket;
use pi0rt::daemon::{Claim, Daemon, Options, PolicyEngine, Stop, Wake};
use pi0rt::policy::Policy;

use crate::device_args::DeviceArgs;

/// Serve a PI0 policy to robot controllers
///
/// Prints one line when it is ready: weights mapped, buffers allocated, one chunk computed. SIGTERM
/// and SIGINT end it once the request in flight is answered.
#[derive(clap::Args)]
pub struct Args {
    /// Directory of the checkpoint
    #[arg(long, value_name = "DIR")]
    checkpoint: PathBuf,
    /// Socket to listen on [default: $PI0RT_SOCKET, else /run/pi0rt/pi0rt.sock]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// What to do while there is nothing to do
    #[arg(long, value_enum, default_value_t = WakeName::Hybrid)]
    wake: WakeName,
    /// How long to poll before sleeping, with --wake hybrid
    #[arg(long, value_name = "US", default_value_t = 50)]
    spin_us: u32,
    /// Answer observations older than this with STALE; 0: never
    #[arg(long, value_name = "MS", default_value_t = 0)]
    max_age_ms: u32,
    /// Most clients at a time
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    max_clients: u16,
    /// Most shared memory of all clients together
    #[arg(long, value_name = "MB", default_value_t = 1024)]
    max_memory_mb: u32,
    /// Number of the group whose members may connect [default: the daemon's own]
    #[arg(long, value_name = "GID")]
    group: Option<u32>,
    #[command(flatten)]
    device: DeviceArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum WakeName {
    /// Poll for ever: lowest latency, no client ever makes a system call, one core is busy
    Spin,
    /// Poll for a moment, then sleep
    Hybrid,
    /// Sleep at once
    Sleep,
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// What keeps the daemon from starting or going on.
pub fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let socket = args.socket.clone().unwrap_or_else(default_socket);
    let stop = Stop::new()?;
    // Before the checkpoint is loaded, which may take long: a second daemon is refused at once.
    let claim = Arc::new(Mutex::new(Some(Claim::take(&socket)?)));
    let (on_signal, loading) = (stop.clone(), claim.clone());
    ctrlc::set_handler(move || {
        on_signal.stop();
        // Loading is not interrupted, it is given up.
        if let Some(claim) = take(&loading) {
            drop(claim);
            std::process::exit(128 + 15);
        }
    })?;

    let loaded = load(args, &socket).inspect_err(|_| drop(take(&claim)));
    let (policy, line) = loaded?;
    let options = Options {
        wake: match args.wake {
            WakeName::Spin => Wake::Spin,
            WakeName::Hybrid => Wake::Hybrid(u64::from(args.spin_us) * 1000),
            WakeName::Sleep => Wake::Sleep,
        },
        max_age_ns: Duration::from_millis(args.max_age_ms.into()).as_nanos() as u64,
        max_clients: args.max_clients.into(),
        max_memory: u64::from(args.max_memory_mb) << 20,
        group: args.group,
        ..Options::default()
    };
    let Some(claim) = take(&claim) else {
        // The signal's thread is about to exit.
        return Ok(());
    };
    let daemon = Daemon::new(PolicyEngine::new(policy), claim, options, stop)?;
    // Whoever reads this line may be gone by now: that is no reason not to serve.
    let _ = writeln!(std::io::stdout(), "{line}");
    daemon.run()?;
    Ok(())
}

fn take(claim: &Mutex<Option<Claim>>) -> Option<Claim> {
    claim.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// The policy, warm, and the line to print once it is served.
fn load(args: &Args, socket: &Path) -> Result<(Policy, String), Box<dyn Error>> {
    let start = Instant::now();
    let mut policy = Policy::load(&args.checkpoint, &args.device.options()?)?;
    let loaded = start.elapsed();
    policy.warm_up()?;
    let warm = start.elapsed() - loaded;
    let info = policy.info();
    let line = format!(
        "pi0rtd: ready: model {} on {}, loaded in {:.0} ms, warm in {:.0} ms, socket {}",
        info.model,
        info.device,
        loaded.as_secs_f64() * 1e3,
        warm.as_secs_f64() * 1e3,
        socket.display()
    );
    Ok((policy, line))
}
