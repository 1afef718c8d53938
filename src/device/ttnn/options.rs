//! How the device is set up.

use std::path::PathBuf;
use std::time::Duration;

use super::bridge::{self, Activation, Chunks, Compute};
use crate::device::{DeviceError, PrecisionClass, Shapes};
use crate::tenstorrent::board::TILE;
use crate::tenstorrent::{Architecture, DeviceLock, Fidelity, WeightDtype};

/// Precision of one class of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Precision {
    /// How weights are stored.
    pub weights: WeightDtype,
    /// Passes of a product.
    pub fidelity: Fidelity,
    /// How the residual stream is stored: bf16 or f32.
    pub residual: WeightDtype,
}

impl Precision {
    /// Formats of a class if nothing else is asked for. What is run once a chunk is bound by arithmetic, what
    /// is run every step by reading its weights; an integration's own numbers are f32 everywhere.
    pub const fn default_of(architecture: Architecture, class: PrecisionClass) -> Self {
        use Fidelity::{HiFi2, HiFi4};
        use WeightDtype::{Bf16, Bfp8, F32};
        let (weights, fidelity, residual) = match (architecture, class) {
            (_, PrecisionClass::Exact) => (F32, HiFi4, F32),
            (_, PrecisionClass::Iterated) => (Bf16, HiFi4, F32),
            // Half the bandwidth and half the peak of a Blackhole.
            (Architecture::Wormhole, PrecisionClass::Encoder | PrecisionClass::Context) => {
                (Bfp8, HiFi2, Bf16)
            }
            (Architecture::Blackhole, PrecisionClass::Encoder | PrecisionClass::Context) => {
                (Bf16, HiFi4, Bf16)
            }
        };
        Self { weights, fidelity, residual }
    }
}

/// Formats asked for of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Asked {
    weights: Option<WeightDtype>,
    fidelity: Option<Fidelity>,
    residual: Option<WeightDtype>,
}

/// Options of [`Ttnn`](super::Ttnn). Every fused or approximate operation can be switched off.
#[derive(Clone, Debug)]
pub struct TtnnOptions {
    /// Which card.
    pub device: u16,
    /// Architecture that the card has to have, if that matters; once it is open, the one it has.
    pub architecture: Option<Architecture>,
    /// By [`PrecisionClass`].
    asked: [Asked; PrecisionClass::ALL.len()],
    /// Record each shape of chunk once and replay it. Off: every operation is dispatched, which simulators
    /// need and which is slow.
    pub trace: bool,
    /// Memory for recordings, bytes.
    pub trace_region: usize,
    /// Command queues: with 2, inputs have one of their own.
    pub queues: u8,
    /// Text lengths to record shapes for besides the longest.
    pub text_lengths: Vec<usize>,
    /// Rows to whose multiple the prefix is padded: a multiple of 32.
    pub attention_chunk: usize,
    /// Most rows of queries that attention takes at a time.
    pub query_chunk: usize,
    /// Most keys that attention takes at a time.
    pub key_chunk: usize,
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
    /// Where `/dev`, `/sys` and `/proc` are looked at before the card is opened; `None`: not at all.
    pub preflight: Option<PathBuf>,
    /// Directory of the card's lock; `None`: whoever comes is let in.
    pub lock: Option<PathBuf>,
    /// How long to wait for the lock.
    pub lock_timeout: Duration,
    /// Refuse a model that does not fit the card's memory before anything is uploaded.
    pub check_memory: bool,
    /// How long opening and closing may take.
    pub open_timeout: Duration,
    /// How long an operation may take that may have to be compiled first.
    pub compile_timeout: Duration,
    /// How long the device may take to answer: longer, and it is lost.
    pub timeout: Duration,
}

impl Default for TtnnOptions {
    /// For a card. The emulation, a simulator and a mock device have none to look at or to share, and
    /// are as slow as the machine is busy.
    fn default() -> Self {
        let set = |name| std::env::var_os(name).is_some();
        let card = !cfg!(feature = "ttnn-emulated")
            && !set("TT_METAL_SIMULATOR")
            && !set("TT_METAL_MOCK_CLUSTER_DESC_PATH");
        Self {
            device: 0,
            architecture: None,
            asked: Default::default(),
            trace: true,
            trace_region: super::memory::TRACE_REGION as usize,
            queues: 2,
            text_lengths: Vec::new(),
            attention_chunk: 64,
            query_chunk: 256,
            key_chunk: 256,
            f32_accumulate: true,
            l1_accumulate: true,
            approximate_exp: false,
            fast_gelu: false,
            fuse_activations: true,
            fuse_rotary: true,
            fuse_heads: true,
            preflight: card.then(|| "/".into()),
            lock: card.then(|| DeviceLock::DIR.into()),
            lock_timeout: Duration::from_secs(5),
            check_memory: true,
            open_timeout: Duration::from_secs(120),
            compile_timeout: Duration::from_secs(600),
            timeout: Duration::from_secs(if card { 10 } else { 600 }),
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
        let milliseconds = || number().map(|ms| Duration::from_millis(ms as u64));
        let switch = || match value {
            "on" | "true" => Ok(true),
            "off" | "false" => Ok(false),
            _ => Err(refuse(format!("on or off, not {value:?}"))),
        };
        // A directory, the usual one, or none.
        let directory = |usual: &str| match value {
            "" => Err(refuse("on, off or a directory".into())),
            "off" | "false" => Ok(None),
            "on" | "true" => Ok(Some(PathBuf::from(usual))),
            path => Ok(Some(PathBuf::from(path))),
        };
        match name {
            "device" => {
                self.device = u16::try_from(number()?).map_err(|_| refuse("no such card".into()))?;
            }
            "architecture" => {
                let named = |a: &Architecture| a.name().eq_ignore_ascii_case(value);
                let found = Architecture::ALL.into_iter().find(named);
                self.architecture = Some(found.ok_or_else(|| refuse("wormhole or blackhole".into()))?);
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
            "attention_chunk" | "query_chunk" | "key_chunk" => {
                let rows = number()?;
                if rows == 0 || !rows.is_multiple_of(TILE) {
                    return Err(refuse("a multiple of 32".into()));
                }
                *match name {
                    "query_chunk" => &mut self.query_chunk,
                    "key_chunk" => &mut self.key_chunk,
                    _ => &mut self.attention_chunk,
                } = rows;
            }
            "f32_accumulate" => self.f32_accumulate = switch()?,
            "l1_accumulate" => self.l1_accumulate = switch()?,
            "approximate_exp" => self.approximate_exp = switch()?,
            "fast_gelu" => self.fast_gelu = switch()?,
            "fuse_activations" => self.fuse_activations = switch()?,
            "fuse_rotary" => self.fuse_rotary = switch()?,
            "fuse_heads" => self.fuse_heads = switch()?,
            "preflight" => self.preflight = directory("/")?,
            "lock" => self.lock = directory(DeviceLock::DIR)?,
            "check_memory" => self.check_memory = switch()?,
            "lock_timeout_ms" => self.lock_timeout = milliseconds()?,
            "open_timeout_ms" => self.open_timeout = milliseconds()?,
            "compile_timeout_ms" => self.compile_timeout = milliseconds()?,
            "timeout_ms" => self.timeout = milliseconds()?,
            _ => self.ask(name, value).ok_or_else(|| refuse("no such option or value".into()))?,
        }
        Ok(())
    }

    /// `CLASS.weights`, `CLASS.fidelity` and `CLASS.residual`.
    fn ask(&mut self, name: &str, value: &str) -> Option<()> {
        let (class, what) = name.split_once('.')?;
        let class = PrecisionClass::ALL.into_iter().find(|&c| class_name(c).eq_ignore_ascii_case(class))?;
        let asked = &mut self.asked[class as usize];
        let dtype = WeightDtype::from_name(value);
        match what {
            "weights" => asked.weights = Some(dtype?),
            "residual" => {
                asked.residual = Some(dtype.filter(|d| [WeightDtype::Bf16, WeightDtype::F32].contains(d))?);
            }
            "fidelity" => asked.fidelity = Some(Fidelity::from_name(value)?),
            _ => return None,
        }
        Some(())
    }

    /// Formats of a class: what was asked for, else what the card's architecture does well.
    pub fn precision(&self, class: PrecisionClass) -> Precision {
        let usual = Precision::default_of(self.architecture.unwrap_or(Architecture::Wormhole), class);
        let asked = self.asked[class as usize];
        Precision {
            weights: asked.weights.unwrap_or(usual.weights),
            fidelity: asked.fidelity.unwrap_or(usual.fidelity),
            residual: asked.residual.unwrap_or(usual.residual),
        }
    }

    /// The lengths of sequences: attention takes whole steps of keys; a chunk is compiled, recorded, then
    /// replayed.
    pub(super) fn shapes(&self) -> Shapes {
        let rounds = if self.trace { 3 } else { 1 };
        Shapes { row_lengths: self.text_lengths.clone(), row_multiple: self.attention_chunk, rounds }
    }

    /// How products of a class are computed.
    pub(super) fn compute(&self, class: PrecisionClass) -> Compute {
        Compute {
            fidelity: match self.precision(class).fidelity {
                Fidelity::LoFi => bridge::Fidelity::LoFi,
                Fidelity::HiFi2 => bridge::Fidelity::HiFi2,
                Fidelity::HiFi3 => bridge::Fidelity::HiFi3,
                Fidelity::HiFi4 => bridge::Fidelity::HiFi4,
            },
            f32_accumulate: self.f32_accumulate,
            l1_accumulate: self.l1_accumulate,
            approximate: false,
        }
    }

    /// The exact GELU differs from the model's by less than bf16 can tell.
    pub(super) fn gelu(&self) -> Activation {
        if self.fast_gelu { Activation::FastGelu } else { Activation::Gelu }
    }

    /// The chunks in which attention of that size goes through queries and keys; they have to divide them.
    ///
    /// Each core takes a head's chunk of queries at a time: of the chunks that keep the cores busy for the shortest time the
    /// largest is taken, since keys are read once for each. Keys come in the largest chunk that a core's memory has room for.
    pub(super) fn chunks(&self, size: AttentionSize, cores: usize, l1: usize) -> Chunks {
        let AttentionSize { heads, queries, keys, width } = size;
        let fitting = |rows: usize, most: usize| {
            // TTNN's kernels work through numbers of tiles that are powers of two.
            let steps = (0..16).map(|n| TILE << n).take_while(move |step| *step <= most.max(TILE));
            steps.filter(move |step| rows.is_multiple_of(*step))
        };
        let time = |chunk: usize| (heads * queries / chunk).div_ceil(cores) * chunk;
        let q =
            fitting(queries, self.query_chunk).min_by_key(|&chunk| (time(chunk), std::cmp::Reverse(chunk)));
        let q = q.unwrap_or(TILE);
        // Queries and two outputs, keys and values twice, scores and mask.
        let bytes = |k: usize| 2 * (3 * q * width + 4 * k * width + 3 * q * k);
        let k = fitting(keys, self.key_chunk).take_while(|&k| bytes(k) <= l1 / 2).last();
        Chunks { queries: q, keys: k.unwrap_or(TILE), approximate_exp: self.approximate_exp }
    }
}

/// Attention of one call: heads of all blocks, padded rows of queries and keys, padded width of a head.
#[derive(Clone, Copy, Debug)]
pub(super) struct AttentionSize {
    pub heads: usize,
    pub queries: usize,
    pub keys: usize,
    pub width: usize,
}

/// Name of a class in options: the part of a policy whose weights are of it.
pub(super) const fn class_name(class: PrecisionClass) -> &'static str {
    match class {
        PrecisionClass::Encoder => "vision",
        PrecisionClass::Context => "language",
        PrecisionClass::Iterated => "expert",
        PrecisionClass::Exact => "projections",
    }
}

/// A format as the bridge names it.
pub(super) const fn dtype(format: WeightDtype) -> bridge::Dtype {
    match format {
        WeightDtype::F32 => bridge::Dtype::F32,
        WeightDtype::Bf16 => bridge::Dtype::Bf16,
        WeightDtype::Bfp8 => bridge::Dtype::Bfp8,
        WeightDtype::Bfp4 => bridge::Dtype::Bfp4,
    }
}
