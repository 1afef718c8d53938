//! `pi0rt plan`: estimates a model's cost on a Tenstorrent board, by stage.

use std::path::PathBuf;
use std::process::ExitCode;

use pi0rt::checkpoint::{Arch, Checkpoint, synth::preset_of};
use pi0rt::plan::cost::{Cost, Line};
use pi0rt::plan::program::{
    ATTENTION_EFFICIENCY, DRAM_EFFICIENCY, GAP_SECONDS, LEAST_SECONDS, MOVE_DRAM_SECONDS, MOVE_L1_SECONDS,
    NORM_SECONDS, PRODUCT_EFFICIENCY, ROUND_SECONDS, Tally,
};
use pi0rt::plan::{Config, Part, Phase, Plan, Published, fits};
use pi0rt::tenstorrent::{Board, Fidelity, WeightDtype};

use crate::command::CommandResult;
use crate::numbers::bytes;
use crate::synth::Model;

/// Show what a chunk will cost on a Tenstorrent board
///
/// Opens no card and reads no weight: the model's operations are recorded and compared with the board's
/// published rates. docs/tenstorrent.md explains how each figure is computed.
#[derive(clap::Args)]
pub struct Args {
    /// Board: n150, n300, p100 or p150
    #[arg(long, value_name = "BOARD", value_parser = board)]
    device: Board,
    /// Take sizes and cameras from this checkpoint
    #[arg(long, value_name = "DIR", conflicts_with = "preset")]
    checkpoint: Option<PathBuf>,
    /// Member of the model's family, with --preset
    #[arg(long, value_enum, default_value = "pi0", conflicts_with = "checkpoint")]
    model: Model,
    /// Take the sizes of a preset: tiny, small, full
    #[arg(long, default_value = "full")]
    preset: String,
    /// Number of cameras present [default: the checkpoint's, else 3]
    #[arg(long, value_name = "N")]
    cameras: Option<usize>,
    /// Number of text tokens [default: the longest prompt]
    #[arg(long, value_name = "N")]
    tokens: Option<usize>,
    /// Denoising steps [default: the model's]
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    /// Cores available to programs, columns x rows, if they differ from the board's usual ones
    #[arg(long, value_name = "XxY", value_parser = grid)]
    grid: Option<(usize, usize)>,
    /// Count the recordings of a daemon without guidance
    #[arg(long)]
    unguided: bool,
    /// Count the recordings of a daemon that keeps prefixes (policy.prefix_every above 1)
    #[arg(long)]
    keep_prefix: bool,
    #[command(flatten)]
    formats: FormatArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Formats of weights and products.
#[derive(clap::Args)]
pub struct FormatArgs {
    /// Weights: f32, bf16, bfp8 or bfp4, for all parts or PART=DTYPE,…; a part is one of the table's or
    /// vision, prefix, expert [default: bfp8]
    #[arg(long, value_name = "DTYPE|PART=DTYPE", value_delimiter = ',')]
    weights: Vec<String>,
    /// Fidelity: lofi, hifi2, hifi3 or hifi4, given in the same way [default: hifi2]
    #[arg(long, value_name = "FIDELITY|PART=FIDELITY", value_delimiter = ',')]
    fidelity: Vec<String>,
}

impl FormatArgs {
    /// The default formats with the given changes.
    pub fn config(&self) -> Result<Config, String> {
        let mut config = Config::default();
        for option in &self.weights {
            let known = WeightDtype::ALL.map(WeightDtype::name);
            let (parts, dtype) = choice(option, WeightDtype::from_name, &known)?;
            parts.into_iter().for_each(|part| config.format_mut(part).weights = dtype);
        }
        for option in &self.fidelity {
            let known = Fidelity::ALL.map(Fidelity::name);
            let (parts, fidelity) = choice(option, Fidelity::from_name, &known)?;
            parts.into_iter().for_each(|part| config.format_mut(part).fidelity = fidelity);
        }
        Ok(config)
    }
}

/// Parts whose format can't be chosen: the embedding table is looked up in bf16, the suffix is computed in f32.
const FIXED: [Part; 2] = [Part::Text, Part::Suffix];

/// Parses `VALUE`, for all parts whose format can be chosen, or `PART=VALUE`.
fn choice<T>(
    option: &str,
    value: impl Fn(&str) -> Option<T>,
    known: &[&str],
) -> Result<(Vec<Part>, T), String> {
    let (part, name) = option.split_once('=').map_or((None, option), |(part, name)| (Some(part), name));
    let value = value(name).ok_or_else(|| format!("{option}: {name:?} is none of {}", known.join(", ")))?;
    let free: Vec<Part> = Part::ALL.iter().copied().filter(|part| !FIXED.contains(part)).collect();
    let parts: Vec<Part> = match part {
        None => free.clone(),
        Some(name) => free.iter().copied().filter(|part| part.answers_to(name)).collect(),
    };
    if parts.is_empty() {
        let names: Vec<&str> = free.iter().map(|part| part.name()).collect();
        return Err(format!(
            "{option}: no such part, known are vision, prefix, expert, {}",
            names.join(", ")
        ));
    }
    Ok((parts, value))
}

fn board(name: &str) -> Result<Board, String> {
    let known = Board::ALL.map(|b| b.name).join(", ");
    Board::named(name).ok_or_else(|| format!("no such board, known are {known}"))
}

fn grid(text: &str) -> Result<(usize, usize), String> {
    let sides = text.split_once('x').and_then(|(x, y)| Some((x.parse().ok()?, y.parse().ok()?)));
    sides
        .filter(|&(x, y)| (1..=32).contains(&x) && (1..=32).contains(&y))
        .ok_or("expected XxY, as in 8x7".into())
}

pub fn run(args: &Args) -> CommandResult {
    let mut config = args.formats.config()?;
    let arch = match &args.checkpoint {
        Some(dir) => {
            let checkpoint = Checkpoint::open(dir)?;
            config.cameras = checkpoint.processing().cameras.len();
            checkpoint.arch().clone()
        }
        None => preset_of(args.model.variant(), &args.preset).ok_or_else(|| {
            format!("--preset {}: no such preset, known are tiny, small, full", args.preset)
        })?,
    };
    config.cameras = args.cameras.unwrap_or(config.cameras);
    (config.tokens, config.steps) = (args.tokens, args.steps);
    (config.guided, config.keeps_prefix) = (!args.unguided, args.keep_prefix);
    let board = Board { grid: args.grid.unwrap_or(args.device.grid), ..args.device };
    let plan = fits(&board, &arch, &config)?;
    let text = if args.json { serde_json::to_string_pretty(&plan)? + "\n" } else { describe(&plan, &arch) };
    // A closed pipe (`| head`) is no failure.
    match std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Programs and expected time of each stage beside those of the port that the board's maker publishes, by the same model, and
/// what it measured.
fn beside(plan: &Plan, published: &Published) -> Vec<String> {
    let port = &published.port;
    let before = port.vision.and(port.prefix);
    let steps = plan.steps as f64;
    let all = Tally { programs: plan.steps * port.step.programs, expected_ms: steps * port.step.expected_ms };
    let vision = plan.of(&[Phase::Vision, Phase::Projector]);
    let prefix = plan.of(&[Phase::Text, Phase::Prefix]);
    let stages = [
        ("vision and projector", vision, port.vision, None),
        ("text and prefix", prefix, port.prefix, None),
        ("both", vision + prefix, before, published.prefix_ms),
        ("denoise", plan.of(&[Phase::State, Phase::Denoise]), all, published.step_ms.map(|ms| ms * steps)),
        ("  one step", plan.step, port.step, published.step_ms),
        ("total", plan.total, port.total, Some(published.total_ms)),
    ];
    let title =
        format!("{:<26} {:^17}   {:^17} {:>9}   {}, bfp8", "", "pi0rt", "port", "port", published.source);
    let head = format!(
        "{:<26} {:>8} {:>8}   {:>8} {:>8} {:>9}",
        "", "programs", "expected", "programs", "expected", "published"
    );
    let row = |(name, ours, port, published): (&str, Cost, Tally, Option<f64>)| {
        let published = published.map_or("-".into(), |ms| format!("{ms:.2}"));
        format!(
            "{name:<26} {:>8.0} {:>8.2}   {:>8} {:>8.2} {published:>9}",
            ours.programs, ours.expected_ms, port.programs, port.expected_ms
        )
    };
    [title, head].into_iter().chain(stages.map(row)).collect()
}

/// The plan as text: the board, a table by stage and part, and how its figures are to be read.
fn describe(plan: &Plan, arch: &Arch) -> String {
    let mut lines = vec![
        plan.board.to_string(),
        format!(
            "{} cameras, {} tokens: prefix {}, {} actions in {} steps",
            plan.cameras,
            plan.tokens,
            plan.cameras * arch.patches() + plan.tokens,
            arch.chunk_size,
            plan.steps
        ),
        String::new(),
    ];
    lines.extend(table(plan));
    if let Some(published) = &plan.published {
        lines.push(String::new());
        lines.extend(beside(plan, published));
    }
    lines.extend(notes(plan));
    lines.join("\n")
}

/// The cost of each stage, and of each of its parts.
fn table(plan: &Plan) -> Vec<String> {
    let mut lines = vec![format!(
        "{:<26} {:>5} {:>6} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:<10} {:>8} {:>8}",
        "", "", "", "GFLOP", "tiled", "MB", "math ms", "DRAM ms", "bound ms", "by", "programs", "expected"
    )];
    let row = |name: &str, dtype: &str, fidelity: &str, c: &Cost| {
        format!(
            "{name:<26} {dtype:>5} {fidelity:>6} {:>8.1} {:>8.1} {:>8.1} {:>8.2} {:>8.2} {:>8.2} {:<10} {:>8.0} {:>8.2}",
            c.flops / 1e9,
            c.tiled_flops / 1e9,
            (c.weight_bytes + c.cache_bytes) / 1e6,
            c.arithmetic_ms,
            c.bandwidth_ms,
            c.bound_ms,
            c.bound_by(),
            c.programs,
            c.expected_ms
        )
    };
    for &phase in Phase::ALL {
        let inside: Vec<&Line> = plan.lines.iter().filter(|l| l.phase == phase).collect();
        let sum = inside.iter().fold(Cost::default(), |sum, l| sum + l.cost);
        let name = if phase == Phase::Denoise {
            format!("denoise, {} steps", plan.steps)
        } else {
            phase.name().into()
        };
        lines.push(row(&name, "", "", &sum));
        for line in inside.iter().filter(|_| inside.len() > 1) {
            let (dtype, fidelity) = (line.format.weights.name(), line.format.fidelity.name());
            lines.push(row(&format!("  {}", line.part.name()), dtype, fidelity, &line.cost));
        }
        if phase == Phase::Denoise {
            lines.push(row("  one step", "", "", &plan.step));
        }
    }
    lines.push(row("total", "", "", &plan.total));
    lines
}

/// How the figures are computed, and the memory that the model takes.
fn notes(plan: &Plan) -> Vec<String> {
    let l1 = plan.memory.l1.iter().max_by_key(|l1| l1.bytes);
    vec![
        String::new(),
        format!(
            "bound     peak of the matrix engine and {:.0} GB/s, whichever is longer, operation by operation",
            plan.board.dram_rate / 1e9
        ),
        format!(
            "expected  a program: {:.1} us and the longest of products at {:.0} % of peak (attention {:.0} %), {:.0} us a block of the inner dimension,",
            1e6 * LEAST_SECONDS,
            100.0 * PRODUCT_EFFICIENCY,
            100.0 * ATTENTION_EFFICIENCY / 2.0,
            1e6 * ROUND_SECONDS
        ),
        format!(
            "          DRAM at {:.0} %, {:.1} us a tile moved ({:.1} in L1), {:.0} us a tile normed; {:.1} us between programs: {:.2} ms of the total",
            100.0 * DRAM_EFFICIENCY,
            1e6 * MOVE_DRAM_SECONDS,
            1e6 * MOVE_L1_SECONDS,
            1e6 * NORM_SECONDS,
            1e6 * GAP_SECONDS,
            plan.total.dispatch_ms
        ),
        format!(
            "recorded  {} chunks: {} numbers of cameras in {} kinds (without and with guidance, whole and on a kept prefix), {:.0} programs; {} leave {:.1} KiB for each",
            plan.recordings.count(),
            plan.recordings.shapes,
            plan.recordings.kinds,
            plan.recordings.programs,
            bytes(plan.recordings.region as usize),
            plan.recordings.bytes_each() / 1024.0
        ),
        format!(
            "memory    DRAM {} of {}; L1 {} of {} a core",
            bytes(plan.memory.dram_bytes as usize),
            bytes(plan.board.dram_bytes as usize),
            bytes(l1.map_or(0, |l1| l1.bytes as usize)),
            bytes(plan.board.l1_usable())
        ),
        String::new(),
    ]
}
