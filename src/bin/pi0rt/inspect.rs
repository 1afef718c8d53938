//! `pi0rt inspect`: shows sizes, dtypes and statistics of a checkpoint.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::{PossibleValue, PossibleValuesParser};
use pi0rt::checkpoint::{
    Camera, Checkpoint, Dimension, DimensionMotion, Motion, Normalization, SafePose, Stitching, Tensor,
};
use pi0rt::device::{DeviceError, KINDS, Kind, registry};
use pi0rt::plan::{self, Config, Plan};
use pi0rt::tenstorrent::Board;
use serde_json::{Value, json};

use crate::command::CommandResult;
use crate::contract;
use crate::numbers::{bytes, grouped, shortest};
use crate::page::Page;
use crate::plan::FormatArgs;

/// Help for a device with known boards.
const BOARDS: &str = "Its boards; none is opened";

/// Show the content of a checkpoint
///
/// Reads headers and JSON only: no weight is touched.
#[derive(clap::Args)]
pub struct Args {
    /// Checkpoint directory in lerobot's or openpi's layout
    #[arg(value_name = "DIR")]
    checkpoint: PathBuf,
    /// Profile: a built-in one (see `pi0rt profile list`) or a file [default: pi0rt.toml beside the weights]
    #[arg(long, value_name = "NAME|FILE")]
    profile: Option<String>,
    /// Also show how much of a device's memory the model needs, and on which boards it fits
    #[arg(long, value_parser = with_boards())]
    device: Option<String>,
    #[command(flatten)]
    formats: FormatArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Parser for devices with boards that a model can be planned for.
fn with_boards() -> PossibleValuesParser {
    let kinds = KINDS.iter().filter(|kind| !plan::boards(kind.name()).is_empty());
    PossibleValuesParser::new(kinds.map(|kind| PossibleValue::new(kind.name()).help(BOARDS)))
}

pub fn run(args: &Args) -> CommandResult {
    let checkpoint = Checkpoint::open_with(&args.checkpoint, args.profile.as_deref())?;
    let plans = match args.device.as_deref().and_then(registry::named) {
        Some(kind) => Some((kind, board_plans(kind, &checkpoint, args.formats.config()?)?)),
        None => None,
    };
    let text = if args.json {
        let mut report = report(&checkpoint);
        if let Some((kind, plans)) = &plans {
            report[kind.name()] = report_memory(*kind, plans);
        }
        serde_json::to_string_pretty(&report)? + "\n"
    } else {
        describe(&checkpoint) + &plans.map_or(String::new(), |(kind, plans)| describe_memory(kind, &plans))
    };
    // A closed pipe (`| head`) is no failure.
    match std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// The model's memory plan on every board, whether it fits or not.
fn board_plans(
    kind: &dyn Kind,
    checkpoint: &Checkpoint,
    mut config: Config,
) -> Result<Vec<Plan>, DeviceError> {
    config.cameras = checkpoint.processing().cameras.len();
    plan::boards(kind.name()).iter().map(|board| plan::plan(board, checkpoint.arch(), &config)).collect()
}

fn report_memory(kind: &dyn Kind, plans: &[Plan]) -> Value {
    let memory = &plans[0].memory;
    let boards: Vec<Value> = plans
        .iter()
        .map(|plan| {
            let refusal = plan.memory.check(&plan.board).err().map(|e| e.to_string());
            json!({"board": plan.board, "fits": refusal.is_none(), "why_not": refusal, "l1": plan.memory.l1})
        })
        .collect();
    json!({"built_with": kind.support().ok(), "weights": memory.weights, "rest": memory.rest, "dram_bytes": memory.dram_bytes, "boards": boards})
}

fn describe_memory(kind: &dyn Kind, plans: &[Plan]) -> String {
    let memory = &plans[0].memory;
    let mut page = Page::default();
    page.blank();
    let built_with = kind.support().unwrap_or_else(|why| why.to_owned());
    page.line(kind.name(), format!("device {}: {built_with}", kind.name()));
    page.line("", "DRAM, weights as stored (tiles of 32×32, heads padded to tiles)");
    for w in &memory.weights {
        let parameters = grouped(w.parameters as usize);
        let size = bytes(w.bytes as usize);
        page.line(
            "",
            format!("{:<22}{:<5}{parameters:>14} parameters {size:>10}", w.part.name(), w.dtype.name()),
        );
    }
    for item in &memory.rest {
        page.line("", format!("{:<46}{:>16}", item.what, bytes(item.bytes as usize)));
    }
    page.line("", format!("{:<46}{:>16}", "all", bytes(memory.dram_bytes as usize)));
    for plan in plans {
        let Board { name, dram_bytes, .. } = plan.board;
        match plan.memory.check(&plan.board) {
            Ok(()) => page.line(
                name,
                format!("fits: DRAM {} of {}", bytes(memory.dram_bytes as usize), bytes(dram_bytes as usize)),
            ),
            Err(why) => page.line(name, format!("does not fit: {why}")),
        }
        for l1 in &plan.memory.l1 {
            let (needs, usable) = (bytes(l1.bytes as usize), bytes(plan.board.l1_usable()));
            let rounds = if l1.rounds > 1 { format!(" in {} rounds", l1.rounds) } else { String::new() };
            page.line(
                "",
                format!("L1 {:<19}{needs:>10} of {usable} a core ({}{rounds})", l1.part.name(), l1.op),
            );
        }
    }
    page.text
}

/// Number and size of the tensors of one dtype.
#[derive(Default)]
struct Total {
    tensors: usize,
    parameters: usize,
    bytes: usize,
}

impl Total {
    fn of<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> Self {
        tensors.into_iter().fold(Self::default(), |mut total, tensor| {
            total.add(tensor);
            total
        })
    }

    fn add(&mut self, tensor: &Tensor) {
        self.tensors += 1;
        self.parameters += tensor.len();
        self.bytes += tensor.bytes().len();
    }
}

fn dtypes(checkpoint: &Checkpoint) -> BTreeMap<&str, Total> {
    let mut dtypes = BTreeMap::<_, Total>::new();
    for tensor in checkpoint.tensors() {
        dtypes.entry(tensor.dtype_name()).or_default().add(tensor);
    }
    dtypes
}

fn report(checkpoint: &Checkpoint) -> Value {
    let all = Total::of(checkpoint.tensors());
    let unused = Total::of(checkpoint.unused());
    let processing = checkpoint.processing();
    let files: Vec<Value> = checkpoint
        .files()
        .iter()
        .map(|f| json!({"path": f.path(), "tensors": f.tensors().count(), "bytes": f.bytes()}))
        .collect();
    let dtypes: BTreeMap<_, _> = dtypes(checkpoint)
        .into_iter()
        .map(|(name, t)| (name, json!({"tensors": t.tensors, "parameters": t.parameters, "bytes": t.bytes})))
        .collect();
    let unused_tensors: Vec<Value> = checkpoint
        .unused()
        .iter()
        .map(|t| json!({"name": t.name(), "dtype": t.dtype_name(), "shape": t.shape(), "bytes": t.bytes().len()}))
        .collect();
    json!({
        "dir": checkpoint.dir(),
        "model": checkpoint.arch().variant.policy_type(),
        "layout": checkpoint.layout().to_string(),
        "files": files,
        "arch": checkpoint.arch(),
        "dtypes": dtypes,
        "tensors": all.tensors,
        "parameters": all.parameters,
        "parameters_used": all.parameters - unused.parameters,
        "bytes": all.bytes,
        "bytes_used": all.bytes - unused.bytes,
        "embedding": checkpoint.embedding().name(),
        "cameras": processing.cameras.iter().map(camera).collect::<Vec<_>>(),
        "state": normalization(&processing.state),
        "action": normalization(&processing.action),
        "missing_camera_last": processing.missing_camera_last,
        "antialias": processing.antialias,
        "pad_before": processing.pad_before,
        "clean_prompt": processing.clean_prompt,
        "state_text": processing.state_text,
        "max_tokens": processing.max_tokens,
        "truncate_prompt": processing.truncate_prompt,
        "refused": checkpoint.faults().iter().map(ToString::to_string).collect::<Vec<_>>(),
        "profile": checkpoint.profile().map(|profile| profile.name()),
        "control_rate_hz": processing.rate.map(|rate| shortest(rate.hz)),
        "control_rate_source": processing.rate.map(|rate| rate.source.name()),
        "overruled_rate_hz": processing.overruled_rate.map(|rate| shortest(rate.hz)),
        "execution_horizon": processing.execution_horizon,
        "rtc_training_max_delay": checkpoint.arch().trained_delay,
        "state_steps": processing.state_steps.iter().map(|step| step.to_string()).collect::<Vec<_>>(),
        "action_steps": processing.action_steps.iter().map(|step| step.to_string()).collect::<Vec<_>>(),
        "steps_origin": processing.steps_origin,
        "robot_state": dimensions(&processing.robot_state),
        "robot_action": dimensions(&processing.robot_action),
        "motion": motion(&processing.motion),
        "tokenizer": checkpoint.tokenizer(),
        "tokenizer_name": processing.tokenizer.as_ref().map(|source| &source.name),
        "unused": unused_tensors,
    })
}

fn camera(camera: &Camera) -> Value {
    json!({
        "name": camera.name,
        "key": camera.key,
        "required": camera.required,
        "normalization": normalization(&camera.normalization),
    })
}

fn normalization(normalization: &Option<Normalization>) -> Value {
    let Some(n) = normalization else { return Value::Null };
    let short = |values: &[f64]| values.iter().map(|&v| shortest(v as f32)).collect::<Vec<f64>>();
    let statistics: BTreeMap<_, _> = n.named().map(|(name, values)| (name, short(values))).collect();
    json!({
        "mode": n.mode.name(), "epsilon": n.epsilon, "epsilon_rule": n.formula.epsilon_rule(n.mode),
        "statistics": statistics, "file": n.path, "key": n.key,
    })
}

fn describe(checkpoint: &Checkpoint) -> String {
    let a = checkpoint.arch();
    let mut page = Page::default();
    page.line("checkpoint", checkpoint.dir().display());
    page.line("model", a.variant);
    page.line("layout", checkpoint.layout());
    for (i, file) in checkpoint.files().iter().enumerate() {
        let name = file.path().file_name().unwrap_or_default().to_string_lossy();
        let label = if i == 0 { "files" } else { "" };
        page.line(label, format!("{name}  {} tensors, {}", file.tensors().count(), bytes(file.bytes())));
    }

    page.blank();
    page.line(
        "vision",
        format!(
            "{0}×{0} pixels, patches of {1}: {2} tokens; {3} layers, width {4}, {5} heads × {6}, MLP {7}",
            a.image_size,
            a.patch_size,
            a.patches(),
            a.vision_layers,
            a.vision_width,
            a.vision_heads,
            a.vision_head_dim(),
            a.vision_mlp
        ),
    );
    let heads = format!("{} heads × {}, {} for keys and values", a.heads, a.head_dim, a.kv_heads);
    page.line("prefix", format!("{} layers, width {}, {heads}, MLP {}", a.depth, a.width, a.mlp));
    page.line(
        "expert",
        format!("{} layers, width {}, {heads}, MLP {}", a.depth, a.expert_width, a.expert_mlp),
    );
    page.line("vocabulary", format!("{} ids", a.vocab_size));
    let state = match (a.state_input(), checkpoint.processing().state_text) {
        (0, Some(numbers)) => format!("{numbers} of them as text"),
        (0, None) => "not seen by the model".into(),
        (padded, _) => format!("padded to {padded}"),
    };
    page.line(
        "robot",
        format!("state {} ({state}), action {} (padded to {})", a.state_dim, a.action_dim, a.max_action_dim),
    );
    page.line("chunk", format!("{} actions in {} denoise steps", a.chunk_size, a.num_inference_steps));

    page.blank();
    let (all, unused) = (Total::of(checkpoint.tensors()), Total::of(checkpoint.unused()));
    page.line(
        "parameters",
        format!("{}, {} in use", grouped(all.parameters), grouped(all.parameters - unused.parameters)),
    );
    page.line("bytes", format!("{}, {} in use", bytes(all.bytes), bytes(all.bytes - unused.bytes)));
    for (i, (name, t)) in dtypes(checkpoint).iter().enumerate() {
        let label = if i == 0 { "dtypes" } else { "" };
        page.line(label, format!("{name:<5}{} tensors, {}", t.tensors, bytes(t.bytes)));
    }
    for (i, tensor) in checkpoint.unused().iter().enumerate() {
        // Checkpoints of other tools may have hundreds of unused tensors.
        const SHOWN: usize = 8;
        let label = if i == 0 { "unused" } else { "" };
        if i == SHOWN {
            page.line("", format!("and {} more", unused.tensors - SHOWN));
            break;
        }
        page.line(
            label,
            format!(
                "{}  {:?}, {}",
                tensor.name().escape_debug(),
                tensor.shape(),
                bytes(tensor.bytes().len())
            ),
        );
    }

    page.blank();
    contract::describe(&mut page, checkpoint);
    page.text
}

fn dimensions(dimensions: &[Dimension]) -> Vec<Value> {
    let limit = |limit: Option<f32>| limit.map(shortest);
    let dimension = |d: &Dimension| {
        json!({
            "name": d.name,
            "quantity": d.quantity.name(),
            "unit": d.unit,
            "gripper": d.gripper,
            "position": d.limits.position.map(|bounds| bounds.map(shortest)),
            "velocity": limit(d.limits.velocity),
            "acceleration": limit(d.limits.acceleration),
        })
    };
    dimensions.iter().map(dimension).collect()
}

/// The declared motion of actions, by a profile's names; null where nothing is declared.
fn motion(motion: &Motion) -> Value {
    let (mut stitching, mut crossfade_ms, mut ensemble_decay) = (None, None, None);
    match motion.stitching {
        None => {}
        Some(Stitching::Replace) => stitching = Some("replace"),
        Some(Stitching::Crossfade { over_ms }) => {
            (stitching, crossfade_ms) = (Some("crossfade"), Some(over_ms))
        }
        Some(Stitching::Ensemble { decay }) => (stitching, ensemble_decay) = (Some("ensemble"), Some(decay)),
    }
    let dimension = |d: &DimensionMotion| json!({ "interpolation": d.interpolation.map(contract::name), "start_jump": d.start_jump.map(shortest) });
    json!({
        "interpolation": motion.interpolation.map(contract::name),
        "stitching": stitching,
        "crossfade_ms": crossfade_ms,
        "ensemble_decay": ensemble_decay.map(shortest),
        "hold_ms": motion.hold_ms,
        "decelerate_ms": motion.decelerate_ms,
        "safe_pose": match &motion.safe_pose {
            None => Value::Null,
            Some(SafePose::Stay) => json!("stay"),
            Some(SafePose::Pose(pose)) => json!(pose.iter().map(|value| shortest(*value)).collect::<Vec<_>>()),
        },
        "dimensions": motion.dimensions.iter().map(dimension).collect::<Vec<_>>(),
    })
}
