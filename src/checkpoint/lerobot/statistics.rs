//! lerobot's statistics: in the processors' state files since 0.4, in buffers among the weights before.

use std::path::{Path, PathBuf};

use crate::checkpoint::error::CheckpointError;
use crate::checkpoint::files::Files;
use crate::checkpoint::layout::MODEL;
use crate::checkpoint::normalization::{Formula, NormMode, Normalization};
use crate::checkpoint::safetensors::SafeTensors;
use crate::checkpoint::tensor::Tensor;

/// Modules of lerobot's policies up to 0.3 that hold statistics among the weights.
const MODULES: [&str; 3] = ["normalize_inputs.", "normalize_targets.", "unnormalize_outputs."];

/// True if a tensor among the weights holds statistics.
pub(in crate::checkpoint) fn is_statistic(name: &str) -> bool {
    MODULES.iter().any(|module| name.starts_with(module))
}

/// Reads the statistics for `mode` of the feature `key` from a processor's state file.
pub(super) fn from_state(
    file: &SafeTensors,
    key: &str,
    mode: NormMode,
    epsilon: f64,
) -> Result<Normalization, CheckpointError> {
    let tensors = mode.statistics().map(|statistic| file.tensor(&format!("{key}.{statistic}")));
    let hint = || {
        let there: Vec<&str> = file.tensors().map(Tensor::name).take(12).collect();
        format!("; it has {}", if there.is_empty() { "nothing".into() } else { there.join(", ") })
    };
    let formula = Formula::Lerobot;
    found(file.path().to_path_buf(), key.into(), mode, formula, epsilon, tensors, hint)
}

/// Reads the statistics for `mode` of the feature `key` from a module's buffers among the weights; `None`
/// if there are none.
pub(super) fn from_weights(
    files: &Files,
    module: &str,
    key: &str,
    mode: NormMode,
) -> Result<Option<Normalization>, CheckpointError> {
    let key = buffer(module, key);
    let tensors = mode.statistics().map(|statistic| files.find(&format!("{key}.{statistic}")));
    if tensors.iter().all(Option::is_none) {
        return Ok(None);
    }
    let holds =
        |file: &&SafeTensors| tensors.iter().flatten().any(|tensor| file.tensor(tensor.name()).is_some());
    let path =
        files.files().iter().find(holds).map_or_else(|| files.dir().join(MODEL), |file| file.path().into());
    found(path, key, mode, Formula::LerobotModules, 1e-8, tensors, String::new).map(Some)
}

/// The name prefix of a feature's buffers.
pub(super) fn buffer(module: &str, key: &str) -> String {
    format!("{module}.buffer_{}", key.replace('.', "_"))
}

fn found(
    path: PathBuf,
    key: String,
    mode: NormMode,
    formula: Formula,
    epsilon: f64,
    tensors: [Option<&Tensor>; 2],
    hint: impl Fn() -> String,
) -> Result<Normalization, CheckpointError> {
    let mut statistics = [const { Vec::new() }; 2];
    for ((statistic, tensor), values) in mode.statistics().iter().zip(tensors).zip(&mut statistics) {
        let name = format!("{key}.{statistic}");
        let Some(tensor) = tensor else {
            let why = format!("missing, but the mode is {mode}{}", hint());
            return Err(CheckpointError::Statistics { path, statistic: name, why });
        };
        *values = numbers(&path, name, tensor)?;
    }
    Ok(Normalization { mode, formula, epsilon, statistics, path, key })
}

/// The numbers of a tensor with one dimension other than 1: `[n]`, `[1, n]`, or `[n, 1, 1]` for the
/// channels of images. All kinds of numbers are converted to f32, as lerobot reads them.
fn numbers(path: &Path, name: String, tensor: &Tensor) -> Result<Vec<f64>, CheckpointError> {
    let (dtype, shape) = (tensor.dtype(), tensor.shape());
    if !dtype.is_number() || shape.is_empty() || shape.iter().filter(|&&n| n != 1).count() > 1 {
        let why = format!("is {dtype} of shape {shape:?}, expected numbers of one dimension");
        return Err(CheckpointError::Statistics { path: path.into(), statistic: name, why });
    }
    Ok(tensor.to_f32().into_iter().map(f64::from).collect())
}
