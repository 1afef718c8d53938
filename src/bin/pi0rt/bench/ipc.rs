//! `pi0rt bench ipc`: round trips between two pinned processes, through the daemon and by other means.

mod args;
mod iceoryx2;
mod link;
mod plot;
mod sample;
mod server;

use std::process::ExitCode;

use clap::ValueEnum;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::command::CommandResult;
pub use args::Args;
use args::Peer;
use link::Link;
use sample::{Plan, Sample};

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
                iceoryx2::measure(args, cores, &plan, sample)?;
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
