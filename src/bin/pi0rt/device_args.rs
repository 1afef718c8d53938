//! The options that say what a model runs on, the same in every command. None has a default here.

use std::path::{Path, PathBuf};

use pi0rt::checkpoint::Checkpoint;
use pi0rt::device::{Builder, DeviceError};
use pi0rt::policy::{DeviceName, DeviceSettings, PolicyOptions, PrecisionName};

/// Options of a command that runs a model; flatten them into its own.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Device")]
pub struct DeviceArgs {
    /// What to run on [default: cpu]
    #[arg(long, value_enum)]
    pub device: Option<DeviceName>,
    /// Precision of products: bf16 by default on the cpu, f32 on the reference
    #[arg(long, value_enum)]
    pub precision: Option<PrecisionName>,
    /// Option of the ttnn device, such as trace=off or language.weights=bfp8; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub ttnn: Vec<String>,
    /// Threads of the cpu device [default: one for every core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Directory that keeps prepared weights from one start of the cpu device to the next
    #[arg(long, value_name = "DIR")]
    pub weight_cache: Option<PathBuf>,
    /// Denoising steps per chunk [default: the checkpoint's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub steps: Option<u16>,
    /// Compute camera frames and prompts again that have not changed since the previous chunk
    #[arg(long)]
    pub recompute: bool,
    /// Tokenizer file, tokenizer.json or a SentencePiece model [default: the checkpoint's]
    #[arg(long, value_name = "FILE")]
    pub tokenizer: Option<PathBuf>,
}

// The daemon's program needs what was said and not what it means: its configuration may say more.
#[allow(dead_code)]
impl DeviceArgs {
    /// Everything, as a policy takes it.
    ///
    /// # Errors
    /// Options that the chosen device doesn't have.
    pub fn options(&self) -> Result<PolicyOptions, DeviceError> {
        Ok(PolicyOptions {
            device: self.settings().choice()?,
            steps: self.steps.map(usize::from),
            tokenizer: self.tokenizer.clone(),
            recompute: self.recompute,
            ..PolicyOptions::default()
        })
    }

    /// Opens the device for a checkpoint's model without a policy around it.
    ///
    /// # Errors
    /// If it can't do what is asked.
    pub fn open(&self, checkpoint: &Checkpoint) -> Result<Box<dyn Builder>, DeviceError> {
        self.settings().choice()?.open(checkpoint)
    }

    /// Denoising steps: those asked for, else the checkpoint's.
    pub fn steps(&self, checkpoint: &Checkpoint) -> usize {
        self.steps.map_or(checkpoint.arch().num_inference_steps, usize::from)
    }

    /// The tokenizer asked for.
    pub fn tokenizer(&self) -> Option<&Path> {
        self.tokenizer.as_deref()
    }

    /// Whether large products are in 8-bit integers.
    pub fn is_int8(&self) -> bool {
        self.precision == Some(PrecisionName::Int8)
    }

    /// Whether everything is computed in f32.
    pub fn is_f32(&self) -> bool {
        self.device == Some(DeviceName::Reference) || self.precision == Some(PrecisionName::F32)
    }

    fn settings(&self) -> DeviceSettings {
        DeviceSettings {
            name: self.device.unwrap_or_default(),
            precision: self.precision,
            ttnn: self.ttnn.clone(),
            threads: self.threads,
            weight_cache: self.weight_cache.clone(),
        }
    }
}
