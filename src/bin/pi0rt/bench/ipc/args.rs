//! Options of `pi0rt bench ipc`.

use std::path::PathBuf;

use clap::ValueEnum;

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
    pub payload: u32,
    /// Round trips per way of sending
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(100..))]
    pub rounds: u32,
    /// How the daemon waits for requests; a controller waits for its answer in the same way
    #[arg(long, value_enum, default_value_t = Mode::Spin)]
    pub mode: Mode,
    /// Other ways of sending to measure in turns [default: floor and copy]
    #[arg(long = "peer", value_enum, value_name = "PEER")]
    pub peers: Vec<Peer>,
    /// Write the frame once instead of in each round
    #[arg(long)]
    pub untouched: bool,
    /// Number of turns for each way of sending
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub turns: u32,
    /// Time from one intended start to the next; 0: twice the time of a round
    #[arg(long, value_name = "NS", default_value_t = 0)]
    pub period_ns: u64,
    /// Cores of controller and daemon [default: the first two allowed]
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub cores: Option<Vec<usize>>,
    /// Program that measures iceoryx2 (benches/iceoryx2) [default: beside this one]
    #[arg(long, value_name = "PATH")]
    pub iceoryx2: Option<PathBuf>,
    /// Serve one way of sending; started by the first process
    #[arg(long, hide = true)]
    pub serve: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Poll on both sides: no system call
    Spin,
    /// Poll for 50 us, then sleep
    Hybrid,
    /// Sleep at once
    Sleep,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    /// Two atomics on two cache lines, without a payload
    Floor,
    /// The floor, with the payload copied out by the other side with memcpy
    Copy,
    /// A Unix stream socket, with the payload sent through it
    Unix,
    /// iceoryx2's request-response, measured by a separate program
    Iceoryx2,
}
