//! `config.json` and `arch.json`: what tensors can't say, checked against what they do say.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::Layout;
use super::arch::Arch;
use super::error::CheckpointError;

/// The configuration files of a checkpoint; each may be absent.
pub struct Config {
    config: Option<Json>,
    arch: Option<Json>,
    layout: Layout,
}

/// A JSON object and the file it is from.
pub struct Json {
    /// The file.
    pub path: PathBuf,
    /// Its content.
    pub object: Map<String, Value>,
}

/// Reads and parses a JSON file.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, CheckpointError> {
    let text = std::fs::read(path).map_err(|e| CheckpointError::io(path, e))?;
    serde_json::from_slice(&text).map_err(|e| CheckpointError::format(path, e.to_string()))
}

impl Json {
    /// The file's object, or nothing where there is no such file.
    pub fn open(path: PathBuf) -> Result<Option<Self>, CheckpointError> {
        if !path.exists() {
            return Ok(None);
        }
        let object = read_json(&path)?;
        Ok(Some(Self { path, object }))
    }

    /// A size, if the key is there and not null.
    pub fn size(&self, key: &str) -> Result<Option<usize>, CheckpointError> {
        match self.object.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value
                .as_u64()
                .and_then(|v| usize::try_from(v).ok())
                .filter(|v| (1..=1 << 31).contains(v))
            {
                Some(size) => Ok(Some(size)),
                None => {
                    Err(CheckpointError::format(&self.path, format!("{key}: expected a size, got {value}")))
                }
            },
        }
    }
}

impl Config {
    /// Reads what is there.
    pub fn open(dir: &Path) -> Result<Self, CheckpointError> {
        let config = Json::open(dir.join("config.json"))?;
        let lerobot = config.as_ref().is_some_and(|c| c.object.contains_key("type"))
            || dir.join("policy_preprocessor.json").exists();
        if let Some(kind) = config.as_ref().and_then(|c| c.object.get("type")).filter(|kind| *kind != "pi0") {
            let path = dir.join("config.json");
            return Err(CheckpointError::format(&path, format!("type: expected \"pi0\", got {kind}")));
        }
        let layout = if lerobot { Layout::Lerobot } else { Layout::OpenPi };
        Ok(Self { config, arch: Json::open(dir.join("arch.json"))?, layout })
    }

    /// Whose conventions the directory follows.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// `config.json`.
    pub fn file(&self) -> Option<&Json> {
        self.config.as_ref()
    }

    /// Whether `arch.json` gives the robot's dimensions.
    pub fn arch_file(&self) -> Option<&Json> {
        self.arch.as_ref()
    }

    /// Completes sizes taken from tensors, and refuses files that contradict them.
    pub fn complete(&self, arch: &mut Arch) -> Result<(), CheckpointError> {
        if let Some(file) = &self.arch {
            for (key, value) in sizes_of_attention(arch) {
                if let Some(size) = file.size(key)? {
                    *value = size;
                }
            }
            self.check_heads(file, arch)?;
        }
        self.check_division(arch)?;
        for file in [&self.config, &self.arch].into_iter().flatten() {
            let horizon =
                if file.object.contains_key("chunk_size") { "chunk_size" } else { "action_horizon" };
            for (key, value) in [
                (horizon, &mut arch.chunk_size),
                ("num_inference_steps", &mut arch.num_inference_steps),
                ("tokenizer_max_length", &mut arch.tokenizer_max_length),
            ] {
                if let Some(size) = file.size(key)? {
                    *value = size;
                }
            }
        }
        if let (Some(config), Some(file)) = (&self.config, &self.arch) {
            for key in ["chunk_size", "num_inference_steps", "tokenizer_max_length"] {
                if let (Some(a), Some(b)) = (config.size(key)?, file.size(key)?) {
                    agree(&config.path, key, a, &format!("{} in arch.json", b), b)?;
                }
            }
        }
        self.check_against_tensors(arch)
    }

    /// Heads from `arch.json` must multiply to the projections' rows, which `arch` was made from.
    fn check_heads(&self, file: &Json, arch: &Arch) -> Result<(), CheckpointError> {
        if arch.heads * arch.head_dim == 0 || !arch.heads.is_multiple_of(arch.kv_heads) {
            let what = format!("{} heads are no multiple of {} kv_heads", arch.heads, arch.kv_heads);
            return Err(CheckpointError::format(&file.path, what));
        }
        Ok(())
    }

    fn check_division(&self, arch: &Arch) -> Result<(), CheckpointError> {
        let divides = |what: &str, whole: usize, part: usize| {
            if part > 0 && whole.is_multiple_of(part) {
                return Ok(());
            }
            Err(CheckpointError::tensor(what, format!("width {whole} can't be divided into {part} heads")))
        };
        divides("vision_tower", arch.vision_width, arch.vision_heads)?;
        if !arch.head_dim.is_multiple_of(2) {
            let what = format!("head width {} is odd, rotary embedding needs pairs", arch.head_dim);
            return Err(CheckpointError::tensor("language_model", what));
        }
        Ok(())
    }

    fn check_against_tensors(&self, arch: &Arch) -> Result<(), CheckpointError> {
        if let Some(file) = &self.arch {
            let sizes = serde_json::to_value(arch).unwrap_or_default();
            for key in file.object.keys().filter(|key| !["state_dim", "action_dim"].contains(&key.as_str())) {
                let Some(size) = sizes.get(key).and_then(Value::as_u64) else {
                    return Err(CheckpointError::format(&file.path, format!("{key}: unknown size")));
                };
                let size = size as usize;
                if let Some(declared) = file.size(key)? {
                    agree(&file.path, key, declared, &format!("the tensors' {size}"), size)?;
                }
            }
        }
        let Some(config) = &self.config else { return Ok(()) };
        for (key, size) in [("max_state_dim", arch.max_state_dim), ("max_action_dim", arch.max_action_dim)] {
            if let Some(declared) = config.size(key)? {
                agree(&config.path, key, declared, &format!("the tensors' {size}"), size)?;
            }
        }
        if let Some(Value::Array(sides)) = config.object.get("image_resolution") {
            for side in sides {
                let declared = side.as_u64().unwrap_or(0) as usize;
                let size = arch.image_size;
                agree(&config.path, "image_resolution", declared, &format!("the tensors' {size}"), size)?;
            }
        }
        Ok(())
    }
}

/// Sizes that shapes give only as products.
fn sizes_of_attention(arch: &mut Arch) -> [(&'static str, &mut usize); 4] {
    [
        ("vision_heads", &mut arch.vision_heads),
        ("heads", &mut arch.heads),
        ("kv_heads", &mut arch.kv_heads),
        ("head_dim", &mut arch.head_dim),
    ]
}

fn agree(path: &Path, key: &str, declared: usize, against: &str, size: usize) -> Result<(), CheckpointError> {
    if declared == size {
        return Ok(());
    }
    Err(CheckpointError::format(path, format!("{key}: {declared} contradicts {against}")))
}
