//! The options that choose a device and its settings, the same in every command. None has a default here.

use std::path::{Path, PathBuf};

use pi0rt::checkpoint::Checkpoint;
use pi0rt::device::settings::{SettingError, Settings};
use pi0rt::device::{Builder, DeviceError, KINDS, Kind, Products};
use pi0rt::policy::{self, PolicyOptions};

use crate::device_choice::DeviceChoice;

/// Options of a command that runs a model, to be flattened into its own.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Device")]
pub struct DeviceArgs {
    #[command(flatten)]
    pub choice: DeviceChoice,
    /// Denoising steps per chunk [default: the checkpoint's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub steps: Option<u16>,
    /// Compute camera frames and prompts again even if unchanged since the previous chunk
    #[arg(long)]
    pub recompute: bool,
    /// Tokenizer file: tokenizer.json or a SentencePiece model [default: the checkpoint's]
    #[arg(long, value_name = "FILE")]
    pub tokenizer: Option<PathBuf>,
}

/// An error in the choice of a device.
#[derive(Debug, thiserror::Error)]
pub enum ChoiceError {
    /// An option that the device doesn't have, or that contradicts another one.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The device can't be opened or doesn't accept the settings.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

// `pi0rtd` needs only the options as given, not their meaning: its configuration may add to them.
#[allow(dead_code)]
impl DeviceArgs {
    /// All options, as a policy takes them.
    ///
    /// # Errors
    /// If the chosen device doesn't have an option.
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
    /// If the device can't satisfy the options.
    pub fn open(&self, checkpoint: &Checkpoint) -> Result<Box<dyn Builder>, ChoiceError> {
        Ok(policy::open(&self.settings()?.choose()?, checkpoint)?)
    }

    /// Number of denoising steps: the given one, else the checkpoint's.
    pub fn steps(&self, checkpoint: &Checkpoint) -> usize {
        self.steps.map_or(checkpoint.arch().num_inference_steps, usize::from)
    }

    /// The given tokenizer.
    pub fn tokenizer(&self) -> Option<&Path> {
        self.tokenizer.as_deref()
    }

    /// The precision of the device's large products.
    ///
    /// # Errors
    /// If the chosen device doesn't have an option.
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
