//! `pi0rt infer`: computes one chunk from image files.

mod output;

use std::fs::File;
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use pi0rt::checkpoint::{Camera, Checkpoint, CheckpointError};
use pi0rt::policy::{Chunk, Frame, Noise, Observation, PixelFormat, Policy, PolicyOptions};

use crate::command::CommandResult;
use crate::device_args::DeviceArgs;
use crate::picture::{self, Picture};
use crate::profile_args::ProfileArgs;
use output::{Format, Inferred};

/// Run one chunk from image files
///
/// Cameras are addressed by the checkpoint's names (`pi0rt inspect` lists them). A camera without an image
/// counts as absent.
#[derive(clap::Args)]
pub struct Args {
    /// Directory of the checkpoint
    #[arg(long, value_name = "DIR")]
    checkpoint: PathBuf,
    #[command(flatten)]
    profile: ProfileArgs,
    /// PNG or JPEG file of a camera; may be repeated, once per camera
    #[arg(long = "image", value_name = "NAME=FILE", required = true, value_parser = parse_image)]
    images: Vec<(String, PathBuf)>,
    /// State of the robot in its own units, separated by commas
    #[arg(long, value_name = "NUMBERS", allow_hyphen_values = true, required_unless_present = "state_file")]
    state: Option<String>,
    /// File with the state: numbers separated by commas or white space, or a JSON array
    #[arg(long, value_name = "FILE", conflicts_with = "state")]
    state_file: Option<PathBuf>,
    /// Instruction for the robot
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    prompt: String,
    /// Seed of the noise: the same seed gives the same chunk
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Write to a file instead of the standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArgs,
}

pub fn run(args: &Args) -> CommandResult {
    let state = state(args)?;
    let mut pictures: Vec<(&str, Picture)> = Vec::new();
    for (name, file) in &args.images {
        // Accept the spelling of lerobot's configuration.
        let name = name.strip_prefix("observation.images.").unwrap_or(name);
        if pictures.iter().any(|(other, _)| *other == name) {
            return Err(format!("camera {name}: given twice").into());
        }
        pictures.push((name, picture::load(file)?));
    }

    let options = PolicyOptions {
        profile: profile(args)?,
        control_rate_hz: args.profile.rate,
        ..args.device.options()?
    };
    let start = Instant::now();
    let mut policy = Policy::load(&args.checkpoint, &options)?;
    let load = start.elapsed();
    let cameras = policy.info().cameras.clone();
    let mut given = vec![None; cameras.len()];
    for (name, picture) in &pictures {
        let Some(camera) = Camera::find(&cameras, name) else {
            let known = Camera::names(&cameras);
            return Err(format!("camera {name}: unknown, the policy has {known}").into());
        };
        if given[camera].replace(picture).is_some() {
            return Err(format!("camera {}: given twice", cameras[camera]).into());
        }
    }
    let frames: Vec<Option<Frame<'_>>> = cameras
        .iter()
        .zip(&given)
        .map(|(camera, picture)| {
            if picture.is_none() {
                log::warn!("camera {camera}: no image given, treated as absent");
            }
            picture.map(frame)
        })
        .collect();

    let prompt = policy.prompt(&args.prompt)?;
    let mut chunk = Chunk::new(policy.info());
    let observation = Observation { frames: &frames, state: &state, prompt: &prompt, rtc: None };
    policy.infer(&observation, Noise::Seed(args.seed), &mut chunk)?;

    let absent = cameras.iter().zip(&frames).filter(|(_, frame)| frame.is_none()).map(|(camera, _)| camera);
    let inferred = Inferred {
        info: policy.info(),
        chunk: &chunk,
        prompt: &args.prompt,
        truncated: prompt.truncated(),
        absent: absent.map(|camera| camera.name.as_str()).collect(),
        seed: args.seed,
        load,
    };
    write(args.out.as_deref(), |out| inferred.write(args.format, out))?;
    Ok(ExitCode::SUCCESS)
}

/// The given profile; without one, `plain` if the statistics leave no doubt, since nothing moves here.
fn profile(args: &Args) -> Result<Option<String>, CheckpointError> {
    let wanted = args.profile.profile.clone();
    let checkpoint = Checkpoint::open_with(&args.checkpoint, wanted.as_deref())?;
    match checkpoint.faults() {
        [CheckpointError::NoProfile { .. }] if checkpoint.rules_out_offsets() => {
            eprintln!(
                "pi0rt: {}: no profile: taken as plain, since its statistics rule out that actions are offsets from \
                 the state; a daemon will ask for one",
                args.checkpoint.display()
            );
            Ok(Some("plain".into()))
        }
        _ => checkpoint.check_commands().map(|_| wanted),
    }
}

fn frame(picture: &Picture) -> Frame<'_> {
    Frame {
        data: &picture.rgb,
        width: picture.width,
        height: picture.height,
        stride: picture.width * 3,
        format: PixelFormat::Rgb8,
    }
}

fn parse_image(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, file)) if !name.is_empty() && !file.is_empty() => Ok((name.into(), file.into())),
        _ => Err("expected NAME=FILE".into()),
    }
}

fn state(args: &Args) -> Result<Vec<f32>, String> {
    match (&args.state, &args.state_file) {
        (Some(text), _) => numbers(text).map_err(|e| format!("--state: {e}")),
        (None, Some(path)) => std::fs::read_to_string(path)
            .map_err(|e| e.to_string())
            .and_then(|text| numbers(&text))
            .map_err(|e| format!("{}: {e}", path.display())),
        (None, None) => Err("expected --state or --state-file".into()),
    }
}

/// Parses numbers separated by commas or white space, optionally in brackets.
fn numbers(text: &str) -> Result<Vec<f32>, String> {
    let text = text.trim();
    let text = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let parse = |(i, part): (usize, &str)| {
        part.parse().map_err(|_| format!("state[{i}] is {part:?}, expected a number"))
    };
    let separators = |c: char| c == ',' || c.is_whitespace();
    text.split(separators).filter(|part| !part.is_empty()).enumerate().map(parse).collect()
}

fn write(
    path: Option<&Path>,
    content: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<(), Box<dyn std::error::Error>> {
    let Some(path) = path else {
        let mut out = BufWriter::new(std::io::stdout().lock());
        return match content(&mut out).and_then(|()| out.flush()) {
            // The reader has closed the pipe.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            result => Ok(result?),
        };
    };
    let file = File::create(path).map(BufWriter::new);
    file.and_then(|mut file| content(&mut file).and_then(|()| file.flush()))
        .map_err(|e| format!("{}: {e}", path.display()).into())
}
