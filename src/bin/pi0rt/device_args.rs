//! The options that say what a model runs on, the same in every command.

use std::path::{Path, PathBuf};

use pi0rt::checkpoint::Checkpoint;
use pi0rt::device::cpu::{CpuOptions, Precision};
use pi0rt::device::{Device, DeviceError};
use pi0rt::policy::{DeviceChoice, PolicyOptions};

/// Options of a command that runs a model; flatten them into its own.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Device")]
pub struct DeviceArgs {
    /// What to run on
    #[arg(long, value_enum, default_value_t = DeviceName::Cpu)]
    device: DeviceName,
    /// Precision of products: bf16 by default on the cpu, f32 on the reference
    #[arg(long, value_enum)]
    precision: Option<PrecisionName>,
    /// Option of the ttnn device, such as trace=off or language.weights=bfp8; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    ttnn: Vec<String>,
    /// Threads of the cpu device [default: one for every core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Directory that keeps prepared weights from one start of the cpu device to the next
    #[arg(long, value_name = "DIR")]
    weight_cache: Option<PathBuf>,
    /// Denoising steps per chunk [default: the checkpoint's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    steps: Option<u16>,
    /// Compute camera frames and prompts again that have not changed since the previous chunk
    #[arg(long)]
    recompute: bool,
    /// Tokenizer file, tokenizer.json or a SentencePiece model [default: the checkpoint's]
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum DeviceName {
    /// The host's cores
    Cpu,
    /// Plain f32 loops, for comparison
    Reference,
    /// A Tenstorrent card (builds with feature ttnn or ttnn-emulated)
    Ttnn,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum PrecisionName {
    Bf16,
    F32,
    /// 8-bit integers in all large products: faster, less exact (pcc shows how much)
    Int8,
}

// Not every program that includes this file needs all of it.
#[allow(dead_code)]
impl DeviceArgs {
    /// Everything, as a policy takes it.
    ///
    /// # Errors
    /// Options that the chosen device doesn't have.
    pub fn options(&self) -> Result<PolicyOptions, DeviceError> {
        Ok(PolicyOptions {
            device: self.choice()?,
            steps: self.steps.map(usize::from),
            tokenizer: self.tokenizer.clone(),
            recompute: self.recompute,
            guidance: None,
        })
    }

    /// Opens the device for a checkpoint's model without a policy around it.
    ///
    /// # Errors
    /// If it can't do what is asked.
    pub fn open(&self, checkpoint: &Checkpoint) -> Result<Box<dyn Device>, DeviceError> {
        self.choice()?.open(checkpoint)
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
        self.device == DeviceName::Reference || self.precision == Some(PrecisionName::F32)
    }

    fn choice(&self) -> Result<DeviceChoice, DeviceError> {
        let refuse = |what: &str, why: &str| {
            let device = "reference".to_owned();
            Err(DeviceError::Unsupported { what: what.to_owned(), device, why: why.to_owned() })
        };
        match self.device {
            DeviceName::Ttnn => self.ttnn(),
            DeviceName::Reference if self.precision == Some(PrecisionName::Bf16) => {
                refuse("--precision bf16", "it computes in f32")
            }
            DeviceName::Reference if self.precision == Some(PrecisionName::Int8) => {
                refuse("--precision int8", "it computes in f32")
            }
            DeviceName::Reference if self.weight_cache.is_some() => {
                refuse("--weight-cache", "it prepares no weights")
            }
            DeviceName::Reference if self.threads.is_some() => refuse("--threads", "it has one thread"),
            DeviceName::Reference => Ok(DeviceChoice::Reference),
            DeviceName::Cpu => Ok(DeviceChoice::Cpu(CpuOptions {
                precision: match self.precision {
                    Some(PrecisionName::F32) => Precision::F32,
                    Some(PrecisionName::Int8) => Precision::Int8,
                    Some(PrecisionName::Bf16) | None => Precision::Bf16,
                },
                threads: self.threads.map(usize::from),
                cache: self.weight_cache.clone(),
                ..CpuOptions::default()
            })),
        }
    }

    #[cfg(feature = "_ttnn")]
    fn ttnn(&self) -> Result<DeviceChoice, DeviceError> {
        let mut options = pi0rt::device::ttnn::TtnnOptions::default();
        for setting in &self.ttnn {
            options.set(setting)?;
        }
        Ok(DeviceChoice::Ttnn(options))
    }

    #[cfg(not(feature = "_ttnn"))]
    fn ttnn(&self) -> Result<DeviceChoice, DeviceError> {
        Err(DeviceError::Unsupported {
            what: "--device ttnn".into(),
            device: "ttnn".into(),
            why: "this program was built without it: build with --features ttnn and an SDK, or ttnn-emulated"
                .into(),
        })
    }
}
