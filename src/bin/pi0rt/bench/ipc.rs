//! `pi0rt bench ipc`: round trips between two pinned processes, through the daemon and by other means.

mod link;
mod plot;
mod sample;
mod server;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::CommandResult;
use link::Link;
use sample::{Plan, Sample};

/// Measure round trips between a controller and a daemon whose device does nothing
///
/// Two processes, each pinned to a core, take turns with the peers, so that all run under the same
/// conditions. The payload is one camera frame: written in place before the clock starts, copied out by the
/// other side before it answers. Latency is counted from the actual start and, to avoid coordinated
/// omission, from the intended one.
#[derive(clap::Args)]
pub struct Args {
    /// Bytes of the frame; 0: no frame
    #[arg(long, value_name = "BYTES", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(0..=8_294_400))]
    payload: u32,
    /// Round trips per way of sending
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(100..))]
    rounds: u32,
    /// How the daemon waits for requests; a controller waits for its answer in the same way
    #[arg(long, value_enum, default_value_t = Mode::Spin)]
    mode: Mode,
    /// Other ways of sending to measure in turns [default: floor and copy]
    #[arg(long = "peer", value_enum, value_name = "PEER")]
    peers: Vec<Peer>,
    /// Write the frame once instead of in each round
    #[arg(long)]
    untouched: bool,
    /// Number of turns for each way of sending
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    turns: u32,
    /// Time from one intended start to the next; 0: twice the time of a round
    #[arg(long, value_name = "NS", default_value_t = 0)]
    period_ns: u64,
    /// Cores of controller and daemon [default: the first two allowed]
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    cores: Option<Vec<usize>>,
    /// Program that measures iceoryx2 (benches/iceoryx2) [default: beside this one]
    #[arg(long, value_name = "PATH")]
    iceoryx2: Option<PathBuf>,
    /// Serve one way of sending; started by the first process
    #[arg(long, hide = true)]
    serve: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Poll on both sides: no system call
    Spin,
    /// Poll for 50 us, then sleep
    Hybrid,
    /// Sleep at once
    Sleep,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Peer {
    /// Two atomics on two cache lines, without a payload
    Floor,
    /// The floor, with the payload copied out by the other side with memcpy
    Copy,
    /// A Unix stream socket, with the payload sent through it
    Unix,
    /// iceoryx2's request-response, measured by a separate program
    Iceoryx2,
}

pub fn run(args: &Args) -> CommandResult {
    let cores = cores(args)?;
    if let Some(link) = &args.serve {
        pin(cores[1])?;
        server::run(link, args)?;
        return Ok(ExitCode::SUCCESS);
    }
    crate::interrupt::clean_up_on_interrupt()?;
    let mut peers = args.peers.clone();
    if peers.is_empty() {
        peers = vec![Peer::Floor, Peer::Copy];
    }
    pin(cores[0])?;
    let plan = Plan {
        rounds: u64::from(args.rounds.div_ceil(args.turns)),
        period_ns: args.period_ns,
        touch: !args.untouched,
    };
    let mut ways: Vec<(String, Option<Peer>, Sample)> = vec![("pi0rt".into(), None, Sample::new())];
    for peer in peers {
        let name = peer.to_possible_value().map_or(String::new(), |value| value.get_name().into());
        if !ways.iter().any(|(_, known, _)| *known == Some(peer)) {
            ways.push((name, Some(peer), Sample::new()));
        }
    }
    for _ in 0..args.turns {
        for (_, peer, sample) in &mut ways {
            if *peer == Some(Peer::Iceoryx2) {
                link::iceoryx2(args, cores, &plan, sample)?;
                continue;
            }
            let mut link = Link::open(*peer, args, cores)?;
            sample.measure(&mut link, &plan)?;
        }
    }
    report(args, cores, &ways);
    Ok(ExitCode::SUCCESS)
}

fn cores(args: &Args) -> Result<[usize; 2], String> {
    let allowed = sched_getaffinity(None).map_err(|e| format!("sched_getaffinity: {e}"))?;
    let free: Vec<_> = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core)).collect();
    // The second process inherits the first one's affinity and cores, which are already checked.
    let may = |core: &usize| args.serve.is_some() || free.contains(core);
    match (args.cores.as_deref(), &free[..]) {
        (Some(&[a, b]), _) if a != b && may(&a) && may(&b) => Ok([a, b]),
        (Some(cores), _) => Err(format!("cores {cores:?}: expected two different ones of {free:?}")),
        (None, [a, b, ..]) => Ok([*a, *b]),
        (None, _) => Err(format!("two processes that poll need two cores, allowed are {free:?}")),
    }
}

fn pin(core: usize) -> Result<(), String> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).map_err(|e| format!("sched_setaffinity to core {core}: {e}"))
}

fn report(args: &Args, cores: [usize; 2], ways: &[(String, Option<Peer>, Sample)]) {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!(
        "{} bytes{}, {:?}, cores {} and {}, {} turns, load average {}",
        args.payload,
        if args.untouched { " written once" } else { " written in each round" },
        args.mode,
        cores[0],
        cores[1],
        args.turns,
        load.split(' ').next().unwrap_or("unknown"),
    );
    let head = |first: &str| {
        print!("\n{first:<24}");
        for name in ["p50", "p90", "p99", "p99.9", "p99.99", "max"] {
            print!("{name:>10}");
        }
        println!("  (ns)");
    };
    head("round trip");
    for (name, _, sample) in ways {
        println!(
            "{name:<24}{}{:>9} rounds, {} stalls",
            sample.actual,
            sample.actual.count(),
            sample.stalls()
        );
    }
    head("from the intended start");
    for (name, _, sample) in ways {
        println!("{name:<24}{}", sample.intended);
    }
    head("one way");
    let ours = &ways[0].2;
    println!("{:<24}{}", "submit to begun", ours.there);
    println!("{:<24}{}", "finished to polled", ours.back);
    println!();
    let p50 = ours.actual.p50();
    for (name, _, sample) in &ways[1..] {
        println!("pi0rt / {name:<14} {:>6.2}  (p50)", p50 / sample.actual.p50());
    }
    println!();
    plot::print(ways.iter().map(|(name, _, sample)| (name.as_str(), &sample.actual)));
}
