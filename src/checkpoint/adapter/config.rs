//! `adapter_config.json`: how far an adapter's tensors move the weights.
//!
//! Fields and their meaning: PEFT's `LoraConfig` (`src/peft/tuners/lora/config.py`).

use std::path::{Path, PathBuf};

use fancy_regex::Regex;

use super::super::error::CheckpointError;
use super::super::json::Object;

pub(in super::super) const CONFIG: &str = "adapter_config.json";

/// PEFT's defaults of `r` and `lora_alpha`.
const DEFAULT: usize = 8;

/// Fields that are read below.
const READ: [&str; 12] = [
    "alpha_pattern",
    "bias",
    "fan_in_fan_out",
    "init_lora_weights",
    "lora_alpha",
    "lora_bias",
    "modules_to_save",
    "peft_type",
    "r",
    "rank_pattern",
    "use_dora",
    "use_rslora",
];
/// Fields that record how the adapter was trained; they do not change its effect.
const OF_TRAINING: [&str; 19] = [
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "eva_config",
    "exclude_modules",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_dropout",
    "lora_ga_config",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
    "velora_config",
];
/// Values of `init_lora_weights` that leave the base weights unchanged. The others (PiSSA, CorDA, OLoRA,
/// LoftQ, LoRA-GA) move part of the weights into the adapter, which a merge would have to know.
const PURE_BEGINNINGS: [&str; 4] = ["gaussian", "eva", "orthogonal", "mica"];

/// The scaling and options of a LoRA adapter.
pub(super) struct Config {
    /// Source of these options, for messages.
    pub path: PathBuf,
    alpha: f64,
    /// Declared default rank, which must agree with the tensors' rank; `None` if nothing declares one.
    rank: Option<usize>,
    alphas: Vec<(Regex, f64)>,
    ranks: Vec<(Regex, usize)>,
    rslora: bool,
    /// True for DoRA: rows of the merged weights are scaled to the lengths in a magnitude vector.
    pub dora: bool,
    /// True if `lora_B` has a bias.
    pub bias: bool,
    /// True if the adapter's layers are declared to store their weights as `[in, out]`.
    pub fan_in_fan_out: bool,
    /// Modules that were trained in full.
    pub saved: Vec<String>,
}

impl Config {
    /// Reads the configuration in `dir`; `None` if there is none.
    pub fn read(dir: &Path) -> Result<Option<Self>, CheckpointError> {
        let path = dir.join(CONFIG);
        let Some(object) = Object::read(&path)? else { return Ok(None) };
        refuse_others(&object)?;
        let flag = |key| Ok::<_, CheckpointError>(object.flag(key)? == Some(true));
        let patterns = |key| object.object(key).map(|found| found.into_iter().collect::<Vec<_>>());
        let mut ranks = Vec::new();
        for object in patterns("rank_pattern")? {
            for key in object.keys() {
                ranks.push((
                    pattern(&object, key)?,
                    object.size(key)?.ok_or_else(|| object.wrong(key, "a rank"))?,
                ));
            }
        }
        let mut alphas = Vec::new();
        for object in patterns("alpha_pattern")? {
            for key in object.keys() {
                alphas.push((
                    pattern(&object, key)?,
                    object.number(key)?.ok_or_else(|| object.wrong(key, "a number"))?,
                ));
            }
        }
        Ok(Some(Self {
            alpha: object.number("lora_alpha")?.unwrap_or(DEFAULT as f64),
            rank: Some(object.size("r")?.unwrap_or(DEFAULT)),
            alphas,
            ranks,
            rslora: flag("use_rslora")?,
            dora: flag("use_dora")?,
            bias: flag("lora_bias")?,
            fan_in_fan_out: flag("fan_in_fan_out")?,
            saved: object.texts("modules_to_save")?.unwrap_or_default(),
            path,
        }))
    }

    /// Options given by the caller, for an adapter without a configuration file.
    pub fn told(alpha: f64, rslora: bool) -> Self {
        Self {
            path: PathBuf::from("--lora-alpha"),
            alpha,
            rank: None,
            alphas: Vec::new(),
            ranks: Vec::new(),
            rslora,
            dora: false,
            bias: false,
            fan_in_fan_out: false,
            saved: Vec::new(),
        }
    }

    /// The scaling factor of a module's `B·A`: `alpha/r`, or `alpha/√r` with rank-stabilized LoRA. `path`
    /// is the module's path in the base model, `rank` the rank of its tensors.
    ///
    /// # Errors
    /// If the configuration declares a different rank.
    pub fn scaling(&self, path: &str, rank: usize) -> Result<f32, CheckpointError> {
        let declared = self.of(path, &self.ranks)?.or(self.rank);
        if let Some(declared) = declared.filter(|&declared| declared != rank) {
            let why = format!("the LoRA of {path:?} has rank {rank}, but r is {declared}");
            return Err(CheckpointError::file(&self.path, why));
        }
        let alpha = self.of(path, &self.alphas)?.unwrap_or(self.alpha);
        let divisor = if self.rslora { (rank as f64).sqrt() } else { rank as f64 };
        let scaling = (alpha / divisor) as f32;
        if !scaling.is_finite() {
            let why = format!("lora_alpha {alpha} with rank {rank} is no factor for {path:?}");
            return Err(CheckpointError::file(&self.path, why));
        }
        Ok(scaling)
    }

    /// The value of the first pattern that matches `path`.
    fn of<T: Copy>(&self, path: &str, patterns: &[(Regex, T)]) -> Result<Option<T>, CheckpointError> {
        for (regex, value) in patterns {
            match regex.is_match(path) {
                Ok(true) => return Ok(Some(*value)),
                Ok(false) => {}
                Err(why) => {
                    let why =
                        format!("the pattern {:?} can't be matched with {path:?}: {why}", regex.as_str());
                    return Err(CheckpointError::file(&self.path, why));
                }
            }
        }
        Ok(None)
    }
}

/// Compiles a key of `rank_pattern` or `alpha_pattern`, which matches module paths that end with it: PEFT's
/// `get_pattern_key`.
fn pattern(object: &Object, key: &str) -> Result<Regex, CheckpointError> {
    Regex::new(&format!(r"^(.*\.)?({key})$"))
        .map_err(|_| object.unsupported(key, "it is no regular expression"))
}

/// Refuses adapters of other kinds and options that this merge does not implement.
fn refuse_others(object: &Object) -> Result<(), CheckpointError> {
    match object.text("peft_type")?.as_deref() {
        Some("LORA") => {}
        Some(_) => return Err(object.unsupported("peft_type", "only LORA is merged")),
        None => return Err(object.wrong("peft_type", "\"LORA\"")),
    }
    let beginning = "init_lora_weights";
    if object.flag(beginning).is_err() {
        let name = object.text(beginning)?.unwrap_or_default();
        if !PURE_BEGINNINGS.contains(&name.to_lowercase().as_str()) {
            let why = "it changes the base weights before training; save the adapter with PEFT's \
                       path_initial_model_for_weight_conversion, or merge it with PEFT";
            return Err(object.unsupported(beginning, why));
        }
    }
    match object.text("bias")?.as_deref() {
        None | Some("none" | "all" | "lora_only") => {}
        Some(_) => return Err(object.unsupported("bias", "expected none, all or lora_only")),
    }
    let known = |key: &&str| READ.contains(key) || OF_TRAINING.contains(key);
    match object.keys().find(|key| !known(key) && !object.is_nothing(key)) {
        Some(key) => Err(object.unsupported(key, "it may change what the adapter does, and is not merged")),
        None => Ok(()),
    }
}
