//! Round trips through iceoryx2's request-response, for `pi0rt bench ipc --peer iceoryx2`.
//!
//! Two processes, each pinned to a core, both polling. The request is loaned and written before
//! the clock starts, copied out by the server before it answers. Prints a line for each latency:
//! nanoseconds, how often seen from the actual start, how often from the intended one.

use std::process::{Command, Stdio};
use std::time::Duration;

use hdrhistogram::Histogram;
use iceoryx2::prelude::*;
use rustix::thread::{CpuSet, sched_setaffinity};

type Error = Box<dyn std::error::Error>;

#[derive(Clone, Default)]
struct Args {
    payload: usize,
    rounds: u64,
    warmup: u64,
    period_ns: u64,
    cores: Vec<usize>,
    touch: bool,
    serve: Option<String>,
}

fn args() -> Result<Args, Error> {
    let mut args = Args::default();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--payload" => args.payload = value()?.parse()?,
            "--rounds" => args.rounds = value()?.parse()?,
            "--warmup" => args.warmup = value()?.parse()?,
            "--period-ns" => args.period_ns = value()?.parse()?,
            "--cores" => args.cores = value()?.split(',').map(str::parse).collect::<Result<_, _>>()?,
            "--touch" => args.touch = true,
            "--serve" => args.serve = Some(value()?),
            _ => return Err(format!("unknown option {word}").into()),
        }
    }
    if args.cores.len() != 2 {
        return Err("--cores needs two of them".into());
    }
    args.payload = args.payload.max(1);
    Ok(args)
}

fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn pin(core: usize) -> Result<(), Error> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}

fn main() -> Result<(), Error> {
    let args = args()?;
    set_log_level(LogLevel::Fatal);
    let name = args.serve.clone().unwrap_or_else(|| format!("pi0rt-bench-{}", std::process::id()));
    let mut child = None;
    if args.serve.is_none() {
        child = Some(
            Command::new(std::env::current_exe()?)
                .args(std::env::args().skip(1))
                .args(["--serve", &name])
                .stdout(Stdio::null())
                .spawn()?,
        );
    }
    pin(args.cores[usize::from(args.serve.is_some())])?;
    let node = NodeBuilder::new()
        .signal_handling_mode(SignalHandlingMode::Disabled)
        .create::<ipc::Service>()?;
    let service = node
        .service_builder(&ServiceName::new(&name)?)
        .request_response::<[u8], [u8]>()
        .max_clients(1)
        .max_servers(1)
        .max_response_buffer_size(1)
        .open_or_create()?;
    if args.serve.is_some() {
        let server = service.server_builder().initial_max_slice_len(8).create()?;
        let mut private = vec![0u8; args.payload];
        let mut left = args.warmup + args.rounds;
        while left > 0 {
            let Some(request) = server.receive()? else { continue };
            private.copy_from_slice(request.payload());
            std::hint::black_box(&private);
            let response = request.loan_slice_uninit(8)?;
            response.write_from_slice(&[1; 8]).send()?;
            left -= 1;
        }
        // The last answer still has to be fetched.
        std::thread::sleep(Duration::from_millis(100));
        return Ok(());
    }
    let client = service.client_builder().initial_max_slice_len(args.payload).create()?;
    while service.dynamic_config().number_of_servers() < 1 {
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_millis(50));

    let histogram = || Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3);
    let (mut actual, mut late) = (histogram()?, histogram()?);
    let (mut period_ns, mut intended) = (0, 0);
    let begun = now_ns();
    for round in 0..args.warmup + args.rounds {
        // SAFETY: bytes of any value are bytes; what the other side makes of them is no matter.
        let mut request = unsafe { client.loan_slice_uninit(args.payload)?.assume_init() };
        if args.touch || round < args.warmup {
            request.payload_mut().fill(round as u8);
        }
        if round == args.warmup {
            let taken = (now_ns() - begun) / args.warmup.max(1);
            period_ns = if args.period_ns == 0 { 2 * taken } else { args.period_ns };
            intended = now_ns() + period_ns;
        }
        let mut start = now_ns();
        while start < intended {
            std::hint::spin_loop();
            start = now_ns();
        }
        let pending = request.send()?;
        while pending.receive()?.is_none() {
            std::hint::spin_loop();
        }
        let end = now_ns();
        if round >= args.warmup {
            actual.saturating_record((end - start).max(1));
            late.saturating_record((end - intended).max(1));
            intended += period_ns;
        }
    }
    let mut values: Vec<u64> = actual.iter_recorded().map(|v| v.value_iterated_to()).collect();
    values.extend(late.iter_recorded().map(|v| v.value_iterated_to()));
    values.sort();
    values.dedup();
    for value in values {
        println!("{value} {} {}", actual.count_at(value), late.count_at(value));
    }
    if let Some(mut child) = child {
        child.wait()?;
    }
    Ok(())
}
