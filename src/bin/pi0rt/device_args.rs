//! The options that say what a model runs on, the same in every command. None has a default here.

use std::path::{Path, PathBuf};

use pi0rt::checkpoint::Checkpoint;
use pi0rt::device::settings::{SettingError, Settings};
use pi0rt::device::{Builder, DeviceError, KINDS, Kind, Products};
use pi0rt::policy::{self, PolicyOptions};

use crate::device_choice::DeviceChoice;

/// Options of a command that runs a model; flatten them into its own.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Device")]
pub struct DeviceArgs {
    #[command(flatten)]
    pub choice: DeviceChoice,
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

/// Why there is no device.
#[derive(Debug, thiserror::Error)]
pub enum ChoiceError {
    /// An option that it doesn't have, or that says something else than another one.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// It refuses.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

// The daemon's program needs what was said and not what it means: its configuration may say more.
#[allow(dead_code)]
impl DeviceArgs {
    /// Everything, as a policy takes it.
    ///
    /// # Errors
    /// Options that the chosen device doesn't have.
    pub fn options(&self) -> Result<PolicyOptions, ChoiceError> {
        Ok(PolicyOptions {
            device: self.settings()?.choose()?,
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
    pub fn open(&self, checkpoint: &Checkpoint) -> Result<Box<dyn Builder>, ChoiceError> {
        Ok(policy::open(&self.settings()?.choose()?, checkpoint)?)
    }

    /// Denoising steps: those asked for, else the checkpoint's.
    pub fn steps(&self, checkpoint: &Checkpoint) -> usize {
        self.steps.map_or(checkpoint.arch().num_inference_steps, usize::from)
    }

    /// The tokenizer asked for.
    pub fn tokenizer(&self) -> Option<&Path> {
        self.tokenizer.as_deref()
    }

    /// What the device's large products are in.
    ///
    /// # Errors
    /// Options that the chosen device doesn't have.
    pub fn products(&self) -> Result<Products, ChoiceError> {
        Ok(self.settings()?.choose()?.products())
    }

    fn settings(&self) -> Result<Settings, SettingError> {
        let kind: &'static dyn Kind = self.choice.device.unwrap_or(KINDS[0]);
        let mut settings = Settings::new(kind);
        for said in &self.choice.said {
            if said.kind.is_some_and(|of| of != kind) {
                let (name, device) = (format!("{} {}={}", said.flag, said.name, said.value), kind.name());
                return Err(SettingError::Unknown {
                    name,
                    device,
                    known: format!("which is chosen: --device {}", said.flag.trim_start_matches('-')),
                });
            }
            settings.set(&said.name, &said.value, &said.flag)?;
        }
        Ok(settings)
    }
}
