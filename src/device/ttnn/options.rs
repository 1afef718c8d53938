//! How the device is set up.

use std::time::Duration;

use super::bridge::{Activation, Chunks, Compute, Dtype, Fidelity};
use crate::device::{DeviceError, Part, Shapes};

/// Precision of one part of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Precision {
    /// How weights are stored.
    pub weights: Dtype,
    /// Passes of a product.
    pub fidelity: Fidelity,
    /// How the residual stream is stored.
    pub residual: Dtype,
}

/// Options of [`Ttnn`](super::Ttnn). Every fused or approximate operation can be switched off.
#[derive(Clone, Debug)]
pub struct TtnnOptions {
    /// Which card.
    pub device: u16,
    /// By [`Part`]: vision, language, expert, projections.
    pub precision: [Precision; 4],
    /// Record each shape of chunk once and replay it. Off: every operation is dispatched, which simulators
    /// need and which is slow.
    pub trace: bool,
    /// Memory for recordings, bytes.
    pub trace_region: usize,
    /// Command queues: with 2, inputs have one of their own.
    pub queues: u8,
    /// Text lengths to record shapes for; empty: the longest alone.
    pub text_lengths: Vec<usize>,
    /// Rows of queries and of keys that attention takes at a time: a multiple of 32.
    pub attention_chunk: usize,
    /// Sums of products in f32.
    pub f32_accumulate: bool,
    /// Sums of blocks in L1.
    pub l1_accumulate: bool,
    /// Approximate exponentials in attention.
    pub approximate_exp: bool,
    /// Approximate GELU instead of the exact one.
    pub fast_gelu: bool,
    /// GELU and SiLU at the end of a product instead of after it.
    pub fuse_activations: bool,
    /// TTNN's rotary embedding where heads allow it, instead of products and sums.
    pub fuse_rotary: bool,
    /// TTNN's splitting into heads, instead of slices.
    pub fuse_heads: bool,
    /// How long opening may take.
    pub open_timeout: Duration,
    /// How long the device may take to answer: longer, and it is lost.
    pub timeout: Duration,
}

impl Default for TtnnOptions {
    /// What both architectures compute well with: bf16 weights, HiFi4 where sums are few.
    fn default() -> Self {
        let bf16 = Precision { weights: Dtype::Bf16, fidelity: Fidelity::HiFi4, residual: Dtype::Bf16 };
        Self {
            device: 0,
            precision: [
                bf16,
                bf16,
                Precision { residual: Dtype::F32, ..bf16 },
                Precision { weights: Dtype::F32, residual: Dtype::F32, ..bf16 },
            ],
            trace: true,
            trace_region: 256 << 20,
            queues: 2,
            text_lengths: Vec::new(),
            attention_chunk: 64,
            f32_accumulate: true,
            l1_accumulate: true,
            approximate_exp: false,
            fast_gelu: false,
            fuse_activations: true,
            fuse_rotary: true,
            fuse_heads: true,
            open_timeout: Duration::from_secs(120),
            timeout: Duration::from_secs(10),
        }
    }
}

impl TtnnOptions {
    /// Sets an option by name, as a command line or a configuration gives it: `trace=off`,
    /// `language.weights=bfp8`, `vision.fidelity=hifi2`, `text_lengths=16/48`.
    ///
    /// # Errors
    /// An unknown name or value.
    pub fn set(&mut self, setting: &str) -> Result<(), DeviceError> {
        let (name, value) = setting.split_once('=').unwrap_or((setting, ""));
        let refuse = |why: String| DeviceError::Unsupported {
            what: format!("option {setting}"),
            device: "ttnn".into(),
            why,
        };
        let number =
            || value.parse::<usize>().map_err(|_| refuse(format!("{value:?} is not a whole number")));
        let switch = || match value {
            "on" | "true" => Ok(true),
            "off" | "false" => Ok(false),
            _ => Err(refuse(format!("on or off, not {value:?}"))),
        };
        match name {
            "device" => {
                self.device = u16::try_from(number()?).map_err(|_| refuse("no such card".into()))?;
            }
            "trace" => self.trace = switch()?,
            "trace_region" => self.trace_region = number()?,
            "queues" => {
                self.queues = match number()? {
                    n @ (1 | 2) => n as u8,
                    n => return Err(refuse(format!("1 or 2 queues, not {n}"))),
                }
            }
            "text_lengths" => {
                let lengths: Result<Vec<usize>, _> = value.split('/').map(str::parse).collect();
                self.text_lengths = lengths.map_err(|_| refuse("lengths such as 16/48".into()))?;
                self.text_lengths.sort_unstable();
            }
            "attention_chunk" => {
                self.attention_chunk = number()?;
                if self.attention_chunk == 0 || !self.attention_chunk.is_multiple_of(super::TILE) {
                    return Err(refuse("a multiple of 32".into()));
                }
            }
            "f32_accumulate" => self.f32_accumulate = switch()?,
            "l1_accumulate" => self.l1_accumulate = switch()?,
            "approximate_exp" => self.approximate_exp = switch()?,
            "fast_gelu" => self.fast_gelu = switch()?,
            "fuse_activations" => self.fuse_activations = switch()?,
            "fuse_rotary" => self.fuse_rotary = switch()?,
            "fuse_heads" => self.fuse_heads = switch()?,
            "timeout_ms" => self.timeout = Duration::from_millis(number()? as u64),
            "open_timeout_ms" => self.open_timeout = Duration::from_millis(number()? as u64),
            _ => self.set_precision(name, value).ok_or_else(|| refuse("no such option or value".into()))?,
        }
        Ok(())
    }

    /// `PART.weights`, `PART.fidelity` and `PART.residual`.
    fn set_precision(&mut self, name: &str, value: &str) -> Option<()> {
        let (part, what) = name.split_once('.')?;
        let part = [Part::Vision, Part::Language, Part::Expert, Part::Projections]
            .into_iter()
            .find(|p| format!("{p:?}").eq_ignore_ascii_case(part))?;
        let precision = &mut self.precision[part as usize];
        let dtype = match value {
            "bf16" => Some(Dtype::Bf16),
            "f32" => Some(Dtype::F32),
            "bfp8" => Some(Dtype::Bfp8),
            "bfp4" => Some(Dtype::Bfp4),
            _ => None,
        };
        match what {
            "weights" => precision.weights = dtype?,
            "residual" => precision.residual = dtype.filter(|d| [Dtype::Bf16, Dtype::F32].contains(d))?,
            "fidelity" => {
                precision.fidelity = match value {
                    "lofi" => Fidelity::LoFi,
                    "hifi2" => Fidelity::HiFi2,
                    "hifi3" => Fidelity::HiFi3,
                    "hifi4" => Fidelity::HiFi4,
                    _ => return None,
                }
            }
            _ => return None,
        }
        Some(())
    }

    /// The shapes of chunks: attention takes whole steps of keys; a shape is compiled, recorded, then
    /// replayed.
    pub(super) fn shapes(&self) -> Shapes {
        let rounds = if self.trace { 3 } else { 1 };
        Shapes { text_lengths: self.text_lengths.clone(), row_multiple: self.attention_chunk, rounds }
    }

    /// How products of `part` are computed.
    pub(super) fn compute(&self, part: Part) -> Compute {
        Compute {
            fidelity: self.precision[part as usize].fidelity,
            f32_accumulate: self.f32_accumulate,
            l1_accumulate: self.l1_accumulate,
            approximate: false,
        }
    }

    /// The exact GELU differs from the model's by less than bf16 can tell.
    pub(super) fn gelu(&self) -> Activation {
        if self.fast_gelu { Activation::FastGelu } else { Activation::Gelu }
    }

    /// Attention's steps over that many padded rows of queries and keys: they have to divide them.
    pub(super) fn chunks(&self, queries: usize, keys: usize) -> Chunks {
        let fit = |rows: usize| {
            (1..=self.attention_chunk / super::TILE)
                .rev()
                .map(|tiles| tiles * super::TILE)
                .find(|step| rows.is_multiple_of(*step))
                .unwrap_or(super::TILE)
        };
        Chunks { queries: fit(queries), keys: fit(keys), approximate_exp: self.approximate_exp }
    }
}
