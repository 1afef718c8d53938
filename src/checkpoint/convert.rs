//! A checkpoint in another dtype.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use serde_json::Value;

use super::error::CheckpointError;
use super::files::{INDEX, MODEL};
use super::json::read_text;
use super::output::Output;
use super::write::{Plan, Planned, Progress, bf16_bits};
use super::{Checkpoint, Dtype, SafeTensors, Tensor, lerobot};

const CONFIG: &str = "config.json";

/// A checkpoint about to be written in another dtype.
///
/// Every weight is converted, rounded to the nearest value (ties to even). Integers stay, and statistics that lie
/// among the weights: rounded ones would move joints.
/// Shards become one file, names stay, and whatever else lies in the directory goes along: JSON,
/// tokenizer, statistics, assets. Only the dtype that `config.json` names is changed.
pub struct Conversion<'a> {
    checkpoint: &'a Checkpoint,
    plan: Plan,
    sources: HashMap<String, &'a Tensor>,
    dtype: Dtype,
}

impl<'a> Conversion<'a> {
    /// Plans the conversion to `dtype`: F32, BF16 or F16.
    pub fn new(checkpoint: &'a Checkpoint, dtype: Dtype) -> Result<Self, CheckpointError> {
        if !dtype.is_weight() {
            return Err(CheckpointError::Arch(format!(
                "weights of dtype {dtype}: expected F32, BF16 or F16"
            )));
        }
        let mut metadata = BTreeMap::new();
        let mut sources = HashMap::new();
        for file in checkpoint.files() {
            metadata.extend(file.metadata().clone());
            sources.extend(file.stored().map(|(name, tensor)| (name.to_string(), tensor)));
        }
        let plan = sources.iter().map(|(name, tensor)| Planned {
            name: name.clone(),
            dtype: match tensor.dtype().is_weight() && !lerobot::is_statistic(tensor.name()) {
                true => dtype,
                false => tensor.dtype(),
            },
            shape: tensor.shape().to_vec(),
        });
        Ok(Self { checkpoint, plan: Plan::new(plan.collect(), &metadata)?, sources, dtype })
    }

    /// Bytes `model.safetensors` will have.
    pub fn bytes(&self) -> u64 {
        self.plan.bytes()
    }

    /// Writes the checkpoint into `dir`, complete or not at all. A directory that holds
    /// something is refused unless `force`d; the checkpoint's own always is.
    pub fn write(&self, dir: &Path, force: bool, progress: Progress<'_>) -> Result<(), CheckpointError> {
        let source = self.checkpoint.dir();
        let same =
            |a: &Path, b: &Path| matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b);
        if same(source, dir) {
            let hint = "it is the checkpoint itself, choose another directory";
            return Err(CheckpointError::Exists { path: dir.to_path_buf(), hint });
        }
        let others = self.others(dir)?;
        let mut output = Output::create(dir, force)?;
        let fill = |planned: &Planned, range: Range<usize>, out: &mut [u8]| {
            convert(self.sources[&planned.name], range, planned.dtype, out)
        };
        self.plan.write(&mut output, MODEL, &fill, progress)?;
        for path in others {
            let from = source.join(&path);
            match path.to_str() {
                Some(CONFIG) => output.write_file(CONFIG, &self.config(&from)?)?,
                _ => output.copy_file(&path, &from)?,
            }
        }
        output.finish()
    }

    /// Every file of the checkpoint but its weights, relative to it. Hidden files stay behind.
    fn others(&self, out: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
        let source = self.checkpoint.dir();
        let weights: Vec<&Path> = self.checkpoint.files().iter().map(SafeTensors::path).collect();
        let (index, out) = (source.join(INDEX), out.canonicalize().ok());
        let mut found = Vec::new();
        let mut folders = vec![source.to_path_buf()];
        while let Some(folder) = folders.pop() {
            let list = |e| CheckpointError::io(&folder, "list", e);
            for entry in std::fs::read_dir(&folder).map_err(list)? {
                let entry = entry.map_err(list)?;
                let path = entry.path();
                let skip = entry.file_name().as_encoded_bytes().starts_with(b".")
                    || weights.contains(&path.as_path())
                    || path == index;
                if skip {
                    continue;
                }
                // A link to a directory could lead in a circle.
                if entry.file_type().map_err(list)?.is_dir() {
                    if path.canonicalize().ok() != out {
                        folders.push(path);
                    }
                } else if path.is_file() {
                    found.extend(path.strip_prefix(source).map(Path::to_path_buf));
                }
            }
        }
        found.sort();
        Ok(found)
    }

    /// config.json with its dtype replaced and every other byte as it was.
    fn config(&self, path: &Path) -> Result<Vec<u8>, CheckpointError> {
        let mut text = read_text(path)?.unwrap_or_default();
        // lerobot's key, and openpi's.
        for key in ["dtype", "precision"] {
            text = replace_text(&text, key, lerobot::dtype_name(self.dtype)).unwrap_or(text);
        }
        Ok(text.into_bytes())
    }
}

/// The JSON object `text` with the string under its top-level `key` replaced; `None` if it has none.
fn replace_text(text: &str, key: &str, value: &str) -> Option<String> {
    let object = |text: &str| serde_json::from_str::<serde_json::Map<String, Value>>(text).ok();
    let mut wanted = object(text)?;
    let old = wanted.insert(key.into(), value.into())?;
    let old = Value::from(old.as_str()?).to_string();
    let quoted = format!("\"{key}\"");
    text.match_indices(&quoted).find_map(|(at, _)| {
        let start = at + quoted.len();
        let after = text[start..].trim_start().strip_prefix(':')?.trim_start();
        let rest = after.strip_prefix(&old)?;
        let start = text.len() - after.len();
        let new = format!("{}{}{rest}", &text[..start], Value::from(value));
        (object(&new)? == wanted).then_some(new)
    })
}

/// Elements `range` of `tensor` as little-endian `dtype`.
fn convert(
    tensor: &Tensor,
    range: Range<usize>,
    dtype: Dtype,
    out: &mut [u8],
) -> Result<(), CheckpointError> {
    if tensor.dtype() == dtype {
        let size = dtype.size();
        out.copy_from_slice(&tensor.bytes()[range.start * size..range.end * size]);
        return Ok(());
    }
    let mut values = [0f32; 1024];
    let values_out = out.chunks_mut(values.len() * dtype.size());
    for (start, out) in range.clone().step_by(values.len()).zip(values_out) {
        let values = &mut values[..out.len() / dtype.size()];
        tensor.read_f32(start..start + values.len(), values);
        match dtype {
            Dtype::F32 => {
                for (o, v) in out.as_chunks_mut().0.iter_mut().zip(values) {
                    *o = v.to_le_bytes();
                }
            }
            Dtype::Bf16 => {
                for (o, v) in out.as_chunks_mut().0.iter_mut().zip(&*values) {
                    *o = bf16_bits(*v).to_le_bytes();
                }
                fits(tensor, values, dtype, bf16::MAX.to_f32(), |v| bf16::from_f32(v).is_infinite())?;
            }
            Dtype::F16 => {
                for (o, v) in out.as_chunks_mut().0.iter_mut().zip(&*values) {
                    *o = f16::from_f32(*v).to_le_bytes();
                }
                fits(tensor, values, dtype, f16::MAX.to_f32(), |v| f16::from_f32(v).is_infinite())?;
            }
            _ => unreachable!("conversions are planned between dtypes of weights"),
        }
    }
    Ok(())
}

fn fits(
    tensor: &Tensor,
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
        Some(&value) => Err(CheckpointError::Overflow { tensor: tensor.name().into(), value, dtype, max }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::replace_text;

    #[test]
    fn only_the_top_level_dtype_is_replaced() {
        let text =
            "{\n  \"a\": {\"dtype\": \"x\", \"dtype2\": 1},\n  \"dtype\" : \"x\",\n  \"b\": 1e-05\n}\n";
        let new = replace_text(text, "dtype", "bfloat16").unwrap();
        assert_eq!(new, text.replacen("\"dtype\" : \"x\"", "\"dtype\" : \"bfloat16\"", 1));
        assert_eq!(replace_text("{\"dtype\": 3}", "dtype", "y"), None);
        assert_eq!(replace_text("{}", "dtype", "y"), None);
        assert_eq!(replace_text("not JSON", "dtype", "y"), None);
    }
}
