//! Converts a checkpoint to another dtype and merges its adapter.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use serde_json::Value;

use super::adapter::{self, LORA_VARIANT, MergeOptions, Merged};
use super::error::CheckpointError;
use super::files::{Files, is_directory};
use super::json::{Object, read_text};
use super::layout::{INDEX, MODEL};
use super::output::Output;
use super::safetensors::SafeTensors;
use super::write::{Plan, Planned, Progress, bf16_bits, put};
use super::{Checkpoint, Dtype, lerobot};

const CONFIG: &str = "config.json";
/// Name prefixes of the files that an adapter with its own configuration takes from its base.
const OF_BASE: [&str; 5] =
    ["tokenizer", "paligemma_tokenizer", "special_tokens_map", "added_tokens", "arch.json"];

/// A planned conversion of a checkpoint to another dtype.
///
/// Every weight is converted, rounded to nearest, ties to even. Integers and statistics among the weights
/// keep their dtype: rounded statistics would move joints. Shards become one file and names stay. All other
/// files of the directory are copied: JSON, tokenizer, statistics, assets; `config.json` changes only in
/// its dtype and in its entries for a merged adapter.
pub struct Conversion {
    /// Directories whose files are copied; later ones take precedence.
    origins: Vec<Origin>,
    /// Files that are not copied: the weights.
    weights: Vec<PathBuf>,
    plan: Plan,
    sources: HashMap<String, Merged>,
    dtype: Dtype,
    merges: bool,
}

/// A directory to copy files from.
struct Origin {
    dir: PathBuf,
    /// True for all its files; false for those an adapter takes from its base.
    all: bool,
}

impl Conversion {
    /// Plans the conversion of the checkpoint in `dir` to `dtype`: F32, BF16 or F16. An adapter among or
    /// beside its weights is merged in f32; an adapter without weights is merged into those of
    /// `options.base`, which also gives the tokenizer and, if the adapter has no config.json of its own,
    /// all other files.
    pub fn open(dir: &Path, dtype: Dtype, options: &MergeOptions) -> Result<Self, CheckpointError> {
        is_directory(dir)?;
        let Some(merge) = adapter::open(dir, options)? else {
            return Self::new(&Checkpoint::open(dir)?, dtype);
        };
        let base = options.base.as_deref().unwrap_or(dir);
        let own = base == dir || dir.join(CONFIG).is_file();
        let configured = if own { dir } else { base };
        let sizes = if dir.join("arch.json").is_file() { dir } else { base };
        // Checks that the result is a PI0 model with the configuration it gets.
        let tensors = merge.tensors.values().map(|merged| merged.base().clone()).collect();
        Checkpoint::of(Files::new(configured, vec![SafeTensors::of(configured, tensors)])?, sizes, None)?;
        let mut origins = vec![Origin { dir: dir.to_path_buf(), all: true }];
        if base != dir {
            origins.insert(0, Origin { dir: base.to_path_buf(), all: !own });
        }
        Self::plan(origins, merge.sources, merge.tensors, &merge.metadata, dtype, true)
    }

    /// Plans the conversion of `checkpoint` to `dtype`.
    pub fn new(checkpoint: &Checkpoint, dtype: Dtype) -> Result<Self, CheckpointError> {
        let (mut metadata, mut sources) = (BTreeMap::new(), HashMap::new());
        for file in checkpoint.files() {
            metadata.extend(file.metadata().clone());
            sources.extend(file.stored().map(|(name, t)| (name.to_string(), Merged::Plain(t.clone()))));
        }
        let weights = checkpoint.files().iter().map(|file| file.path().to_path_buf()).collect();
        let origins = vec![Origin { dir: checkpoint.dir().to_path_buf(), all: true }];
        Self::plan(origins, weights, sources, &metadata, dtype, false)
    }

    fn plan(
        origins: Vec<Origin>,
        weights: Vec<PathBuf>,
        sources: HashMap<String, Merged>,
        metadata: &BTreeMap<String, String>,
        dtype: Dtype,
        merges: bool,
    ) -> Result<Self, CheckpointError> {
        if !dtype.is_weight() {
            return Err(CheckpointError::Arch(format!(
                "weights of dtype {dtype}: expected F32, BF16 or F16"
            )));
        }
        let planned = sources.iter().map(|(name, merged)| {
            let tensor = merged.base();
            let other = || (tensor.dtype_name().to_string(), tensor.bytes().len());
            Planned {
                name: name.clone(),
                dtype: match tensor.dtype().is_weight() && !lerobot::is_statistic(tensor.name()) {
                    true => dtype,
                    false => tensor.dtype(),
                },
                shape: tensor.shape().to_vec(),
                other: (tensor.dtype() == Dtype::Other).then(other),
            }
        });
        let plan = Plan::new(planned.collect(), metadata)?;
        Ok(Self { origins, weights, plan, sources, dtype, merges })
    }

    /// Size of the `model.safetensors` to be written, bytes.
    pub fn bytes(&self) -> u64 {
        self.plan.bytes()
    }

    /// Number of tensors an adapter changes; `None` without an adapter.
    pub fn merged(&self) -> Option<usize> {
        let changed = || self.sources.values().filter(|merged| !matches!(merged, Merged::Plain(_))).count();
        self.merges.then(changed)
    }

    /// Writes the checkpoint into `dir`, complete or not at all. A directory that is not empty is refused
    /// unless `force`d; the checkpoint's own always is.
    pub fn write(&self, dir: &Path, force: bool, progress: Progress<'_>) -> Result<(), CheckpointError> {
        let same =
            |a: &Path, b: &Path| matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b);
        if self.origins.iter().any(|origin| same(&origin.dir, dir)) {
            let hint = "it is the checkpoint itself, choose another directory";
            return Err(CheckpointError::Exists { path: dir.to_path_buf(), hint });
        }
        let mut others = BTreeMap::new();
        for origin in &self.origins {
            others.extend(self.others(origin, dir)?);
        }
        let mut output = Output::create(dir, force)?;
        let fill = |planned: &Planned, range: Range<usize>, out: &mut [u8]| {
            convert(&self.sources[&planned.name], range, planned.dtype, out)
        };
        self.plan.write(&mut output, MODEL, &fill, progress)?;
        for (name, path) in others {
            match name.to_str() {
                Some(CONFIG) => output.write_file(CONFIG, &self.config(&path)?)?,
                _ => output.copy_file(&name, &path)?,
            }
        }
        output.finish()
    }

    /// Every file of a directory except weights, adapter files and hidden files: its relative name and its
    /// path.
    fn others(&self, origin: &Origin, out: &Path) -> Result<Vec<(PathBuf, PathBuf)>, CheckpointError> {
        let source = &origin.dir;
        let (index, out) = (source.join(INDEX), out.canonicalize().ok());
        let mut found = Vec::new();
        let mut folders = vec![source.clone()];
        while let Some(folder) = folders.pop() {
            let list = |e| CheckpointError::io(&folder, "list", e);
            for entry in std::fs::read_dir(&folder).map_err(list)? {
                let entry = entry.map_err(list)?;
                let (path, name) = (entry.path(), entry.file_name());
                let name = name.as_encoded_bytes();
                let top = folder == *source;
                let skip = name.starts_with(b".")
                    || self.weights.contains(&path)
                    || path == index
                    || (top && self.merges && adapter::FILES.iter().any(|file| name == file.as_bytes()))
                    || (top && !origin.all && !OF_BASE.iter().any(|of| name.starts_with(of.as_bytes())));
                if skip {
                    continue;
                }
                // A link to a directory could lead in a circle.
                if entry.file_type().map_err(list)?.is_dir() {
                    if path.canonicalize().ok() != out {
                        folders.push(path);
                    }
                } else if path.is_file() {
                    found.extend(
                        path.strip_prefix(source).ok().map(|name| (name.to_path_buf(), path.clone())),
                    );
                }
            }
        }
        Ok(found)
    }

    /// config.json with its dtype and adapter entries replaced and every other byte unchanged.
    fn config(&self, path: &Path) -> Result<Vec<u8>, CheckpointError> {
        let mut text = read_text(path)?.unwrap_or_default();
        // lerobot's key and openpi's.
        for key in ["dtype", "precision"] {
            text = replace(&text, key, lerobot::dtype_name(self.dtype).into()).unwrap_or(text);
        }
        if self.merges {
            text = replace(&text, "use_peft", false.into()).unwrap_or(text);
            for key in adapter::VARIANTS {
                let variant = Object::parse(path, &text)?.text(key)?;
                if let Some(plain) = variant.as_deref().and_then(|variant| variant.strip_suffix(LORA_VARIANT))
                {
                    text = replace(&text, key, plain.into()).unwrap_or(text);
                }
            }
        }
        Ok(text.into_bytes())
    }
}

/// The JSON text of an object with the value of its top-level `key` replaced, if that has the type of
/// `value`; `None` if there is no such key.
fn replace(text: &str, key: &str, value: Value) -> Option<String> {
    let object = |text: &str| serde_json::from_str::<serde_json::Map<String, Value>>(text).ok();
    let mut wanted = object(text)?;
    let old = wanted.insert(key.into(), value.clone())?;
    if std::mem::discriminant(&old) != std::mem::discriminant(&value) {
        return None;
    }
    let (old, quoted) = (old.to_string(), format!("\"{key}\""));
    text.match_indices(&quoted).find_map(|(at, _)| {
        let start = at + quoted.len();
        let after = text[start..].trim_start().strip_prefix(':')?.trim_start();
        let rest = after.strip_prefix(&old)?;
        let start = text.len() - after.len();
        let new = format!("{}{value}{rest}", &text[..start]);
        (object(&new)? == wanted).then_some(new)
    })
}

/// Elements `range` of a tensor as little-endian `dtype`.
fn convert(
    source: &Merged,
    range: Range<usize>,
    dtype: Dtype,
    out: &mut [u8],
) -> Result<(), CheckpointError> {
    let size = dtype.size();
    let name = source.base().name();
    match source {
        Merged::Plain(tensor) if tensor.dtype() == dtype => {
            out.copy_from_slice(&tensor.bytes()[range.start * size..range.end * size]);
        }
        Merged::Plain(tensor) => {
            let mut values = [0f32; PIECE];
            for (start, out) in range.step_by(PIECE).zip(out.chunks_mut(PIECE * size)) {
                let values = &mut values[..out.len() / size];
                tensor.read_f32(start..start + values.len(), values);
                encode(name, values, dtype, out)?;
            }
        }
        merged => {
            let mut values = vec![0f32; range.len()];
            merged.read_f32(range, &mut values);
            if let Some(value) = values.iter().find(|value| !value.is_finite()) {
                let what = format!("tensor {name:?}: merging makes it {value}: the adapter is damaged");
                return Err(CheckpointError::Arch(what));
            }
            for (values, out) in values.chunks(PIECE).zip(out.chunks_mut(PIECE * size)) {
                encode(name, values, dtype, out)?;
            }
        }
    }
    Ok(())
}

/// Elements converted at once.
const PIECE: usize = 1024;

/// `values` as little-endian `dtype`, rounded to nearest.
fn encode(name: &str, values: &[f32], dtype: Dtype, out: &mut [u8]) -> Result<(), CheckpointError> {
    match dtype {
        Dtype::F32 => put(out, values.iter().map(|v| v.to_le_bytes())),
        Dtype::Bf16 => {
            put(out, values.iter().map(|v| bf16_bits(*v).to_le_bytes()));
            fits(name, values, dtype, bf16::MAX.to_f32(), |v| bf16::from_f32(v).is_infinite())?;
        }
        Dtype::F16 => {
            put(out, values.iter().map(|v| f16::from_f32(*v).to_le_bytes()));
            fits(name, values, dtype, f16::MAX.to_f32(), |v| f16::from_f32(v).is_infinite())?;
        }
        _ => unreachable!("conversions are planned between dtypes of weights"),
    }
    Ok(())
}

fn fits(
    name: &str,
    values: &[f32],
    dtype: Dtype,
    max: f32,
    overflows: impl Fn(f32) -> bool,
) -> Result<(), CheckpointError> {
    let largest = values.iter().fold(0f32, |m, v| m.max(v.abs()));
    if largest <= max {
        return Ok(());
    }
    match values.iter().find(|v| v.is_finite() && overflows(**v)) {
        Some(&value) => Err(CheckpointError::Overflow { tensor: name.into(), value, dtype, max }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::replace;

    #[test]
    fn only_the_top_level_value_is_replaced() {
        let text =
            "{\n  \"a\": {\"dtype\": \"x\", \"dtype2\": 1},\n  \"dtype\" : \"x\",\n  \"b\": 1e-05\n}\n";
        let new = replace(text, "dtype", "bfloat16".into()).unwrap();
        assert_eq!(new, text.replacen("\"dtype\" : \"x\"", "\"dtype\" : \"bfloat16\"", 1));
        assert_eq!(replace("{\"dtype\": 3}", "dtype", "y".into()), None);
        assert_eq!(
            replace("{\"use_peft\": true}", "use_peft", false.into()).unwrap(),
            "{\"use_peft\": false}"
        );
        assert_eq!(replace("{}", "dtype", "y".into()), None);
        assert_eq!(replace("not JSON", "dtype", "y".into()), None);
    }
}
