//! What a user says about the device, and what that means.

use std::path::PathBuf;

use super::DeviceChoice;
use crate::device::DeviceError;
use crate::device::cpu::{CpuOptions, Precision};

/// A device, by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "daemon", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum DeviceName {
    /// The host's cores
    #[default]
    Cpu,
    /// Plain f32 loops, for comparison
    Reference,
    /// A Tenstorrent card (builds with feature ttnn or ttnn-emulated)
    Ttnn,
}

/// A precision of products, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "daemon", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum PrecisionName {
    /// bf16 operands, f32 sums
    Bf16,
    /// f32
    F32,
    /// 8-bit integers in all large products: faster, less exact (pcc shows how much)
    Int8,
}

/// What to run on, as commands and configuration files say it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceSettings {
    /// The device.
    pub name: DeviceName,
    /// Precision of products; `None`: bf16 on the cpu, f32 on the reference.
    pub precision: Option<PrecisionName>,
    /// Options of the ttnn device, `name=value`.
    pub ttnn: Vec<String>,
    /// Threads of the cpu device; `None`: one for every core.
    pub threads: Option<u16>,
    /// Directory that keeps prepared weights from one start of the cpu device to the next.
    pub weight_cache: Option<PathBuf>,
}

impl DeviceSettings {
    /// The device they choose.
    ///
    /// # Errors
    /// A setting that this device, or this build, doesn't have.
    pub fn choice(&self) -> Result<DeviceChoice, DeviceError> {
        let refuse = |what: &str, why: &str| {
            let device = "reference".to_owned();
            Err(DeviceError::Unsupported { what: what.to_owned(), device, why: why.to_owned() })
        };
        match self.name {
            DeviceName::Ttnn => self.card(),
            DeviceName::Reference if self.precision == Some(PrecisionName::Bf16) => {
                refuse("precision bf16", "it computes in f32")
            }
            DeviceName::Reference if self.precision == Some(PrecisionName::Int8) => {
                refuse("precision int8", "it computes in f32")
            }
            DeviceName::Reference if self.weight_cache.is_some() => {
                refuse("a weight cache", "it prepares no weights")
            }
            DeviceName::Reference if self.threads.is_some() => {
                refuse("a number of threads", "it has one thread")
            }
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
    fn card(&self) -> Result<DeviceChoice, DeviceError> {
        let mut options = crate::device::ttnn::TtnnOptions::default();
        for setting in &self.ttnn {
            options.set(setting)?;
        }
        Ok(DeviceChoice::Ttnn(options))
    }

    #[cfg(not(feature = "_ttnn"))]
    fn card(&self) -> Result<DeviceChoice, DeviceError> {
        Err(DeviceError::Unsupported {
            what: "device ttnn".into(),
            device: "ttnn".into(),
            why: "this program was built without it: build with --features ttnn and an SDK, or ttnn-emulated"
                .into(),
        })
    }
}
