//! PI0 checkpoints on disk: mapped tensors, sizes, statistics.
//!
//! Nothing here is read into the heap but headers and JSON: a [`Tensor`] is a name, a dtype, a
//! shape and a range of a mapped file.

mod arch;
mod config;
mod error;
mod processing;
mod safetensors;
mod tensor;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

pub use arch::{Arch, EMBEDDING, LM_HEAD};
pub use error::CheckpointError;
pub use processing::{NormMode, Normalization, Processing, Statistics};
pub use safetensors::SafeTensors;
pub use tensor::{Dtype, Tensor};

use config::Config;

/// Whose conventions a checkpoint's directory follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `config.json` with a `type`, `policy_preprocessor.json`, `policy_postprocessor.json`.
    Lerobot,
    /// `model.safetensors` and `assets/<asset>/norm_stats.json`.
    OpenPi,
}

/// A PI0 checkpoint: every tensor mapped, sizes known, everything the model needs present.
pub struct Checkpoint {
    dir: PathBuf,
    files: Vec<PathBuf>,
    layout: Layout,
    arch: Arch,
    processing: Processing,
    tensors: Vec<Tensor>,
    index: HashMap<String, usize>,
    embedding: usize,
}

impl Checkpoint {
    /// Maps the checkpoint in `dir` and checks all of it but the weights' values.
    ///
    /// # Errors
    /// If a file is missing or malformed, a tensor the model needs is missing or has a shape that
    /// does not fit the others, or the configuration contradicts the tensors.
    pub fn open(dir: &Path) -> Result<Self, CheckpointError> {
        let files = weight_files(dir)?;
        let mut tensors = Vec::new();
        for file in &files {
            tensors.extend(SafeTensors::open(file)?.into_tensors());
        }
        let mut index = HashMap::with_capacity(tensors.len());
        for (i, tensor) in tensors.iter().enumerate() {
            if index.insert(tensor.name().to_string(), i).is_some() {
                return Err(CheckpointError::tensor(tensor.name(), "stands in two files"));
            }
        }
        add_aliases(&mut index);

        let config = Config::open(dir)?;
        let find = |name: &str| index.get(name).map(|&i| &tensors[i]);
        let embedding = index.get(EMBEDDING).or_else(|| index.get(LM_HEAD)).copied();
        let embedding = embedding.ok_or_else(|| CheckpointError::missing(EMBEDDING, dir))?;
        let mut arch = Arch::from_tensors(&find, &tensors[embedding], dir)?;
        config.complete(&mut arch)?;
        for (name, shape) in arch.tensors() {
            check_tensor(find(&name).ok_or_else(|| CheckpointError::missing(&name, dir))?, &shape)?;
        }
        let processing = Processing::open(dir, &config, &mut arch)?;
        Ok(Self {
            dir: dir.to_path_buf(),
            files,
            layout: config.layout(),
            arch,
            processing,
            tensors,
            index,
            embedding,
        })
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The mapped files that hold tensors.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Whose conventions it follows.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The model's sizes.
    pub fn arch(&self) -> &Arch {
        &self.arch
    }

    /// How observations become inputs and actions the robot's.
    pub fn processing(&self) -> &Processing {
        &self.processing
    }

    /// A tensor by its name without a leading `model.`.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn tensor(&self, name: &str) -> Result<&Tensor, CheckpointError> {
        let index = self.index.get(name).ok_or_else(|| CheckpointError::missing(name, &self.dir))?;
        Ok(&self.tensors[*index])
    }

    /// The token embedding: `embed_tokens`, or `lm_head`, which holds the same matrix.
    pub fn embedding(&self) -> &Tensor {
        &self.tensors[self.embedding]
    }

    /// Every tensor, used or not.
    pub fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        self.tensors.iter()
    }

    /// Tensors the model never touches.
    pub fn unused(&self) -> Vec<&Tensor> {
        let mut used = vec![false; self.tensors.len()];
        used[self.embedding] = true;
        for (name, _) in self.arch.tensors() {
            if let Some(&i) = self.index.get(&name) {
                used[i] = true;
            }
        }
        self.tensors.iter().zip(used).filter(|(_, used)| !used).map(|(tensor, _)| tensor).collect()
    }
}

/// The shape of a tensor the model needs, and a dtype it can compute with.
fn check_tensor(tensor: &Tensor, shape: &[usize]) -> Result<(), CheckpointError> {
    if tensor.shape() != shape {
        let what =
            format!("expected shape {shape:?}, which the other tensors imply, got {:?}", tensor.shape());
        return Err(CheckpointError::tensor(tensor.name(), what));
    }
    if !matches!(tensor.dtype(), Dtype::F32 | Dtype::Bf16 | Dtype::F16) {
        let what = format!("expected dtype F32, BF16 or F16, got {}", tensor.dtype());
        return Err(CheckpointError::tensor(tensor.name(), what));
    }
    Ok(())
}

/// Old files call the action-time MLP `time_mlp`.
fn add_aliases(index: &mut HashMap<String, usize>) {
    for layer in ["in", "out"] {
        for part in ["weight", "bias"] {
            if let Some(&i) = index.get(&format!("time_mlp_{layer}.{part}")) {
                index.entry(format!("action_time_mlp_{layer}.{part}")).or_insert(i);
            }
        }
    }
}

/// The files that hold a checkpoint's tensors: one, or the shards an index names.
fn weight_files(dir: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    let single = dir.join("model.safetensors");
    let index = dir.join("model.safetensors.index.json");
    if single.exists() || !index.exists() {
        return Ok(vec![single]);
    }
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let parsed: Index = config::read_json(&index)?;
    let mut files = Vec::new();
    for (tensor, file) in &parsed.weight_map {
        if Path::new(file).file_name().is_none_or(|name| name != file.as_str()) {
            let what = format!("tensor {tensor} is in {file:?}, which is not a plain file name");
            return Err(CheckpointError::format(&index, what));
        }
        let path = dir.join(file);
        if !files.contains(&path) {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(CheckpointError::format(&index, "weight_map names no file"));
    }
    files.sort();
    let mut found = HashMap::new();
    for file in &files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for tensor in SafeTensors::open(file)?.tensors() {
            found.insert(tensor.name().to_string(), name.clone());
        }
    }
    for (tensor, file) in &parsed.weight_map {
        let name = tensor.strip_prefix("model.").unwrap_or(tensor);
        if found.get(name) != Some(file) {
            let what = format!("says tensor {tensor} is in {file}, which does not hold it");
            return Err(CheckpointError::format(&index, what));
        }
    }
    Ok(files)
}
