//! The safetensors files of one checkpoint: a single one, or shards with an index.

use std::collections::{BTreeMap, BTreeSet, HashMap};
#[cfg(feature = "daemon")]
use std::fs::Metadata;
use std::path::{Path, PathBuf};

use super::error::{CheckpointError, clip};
use super::json::{Object, is_plain};
use super::layout::{INDEX, MODEL};
use super::names::canonical;
use super::recognize;
use super::safetensors::SafeTensors;
use super::tensor::Tensor;

/// The safetensors files in a directory with their metadata; none if it can't be read.
#[cfg(feature = "daemon")]
pub(crate) fn weight_files(dir: &Path) -> impl Iterator<Item = (PathBuf, Metadata)> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let weights = entries.filter(|path| path.extension() == Some("safetensors".as_ref()));
    weights.filter_map(|path| std::fs::metadata(&path).ok().map(|file| (path, file)))
}

/// All tensors of a checkpoint, by name.
pub(super) struct Files {
    dir: PathBuf,
    files: Vec<SafeTensors>,
    index: HashMap<String, (usize, usize)>,
}

impl Files {
    /// Opens `model.safetensors` in `dir`, or the shards that `model.safetensors.index.json` lists.
    pub fn open(dir: &Path) -> Result<Self, CheckpointError> {
        is_directory(dir)?;
        let single = dir.join(MODEL);
        // A dangling link is no reason to look for shards.
        let listed = if is_there(&single) { None } else { Object::read(&dir.join(INDEX))? };
        let Some(listed) = listed else {
            if !is_there(&single)
                && let Some(what) = recognize::directory(dir)
            {
                return Err(CheckpointError::file(dir, format!("no {MODEL} here: {what}")));
            }
            return Self::new(dir, vec![SafeTensors::open(&single)?]);
        };
        let shards = shards(&listed)?;
        let files = shards.keys().map(|name| SafeTensors::open(&dir.join(name))).collect::<Result<_, _>>()?;
        let files = Self::new(dir, files)?;
        for (shard, names) in shards.values().enumerate() {
            for name in names {
                if files.index.get(&*canonical(name)).is_none_or(|&(file, _)| file != shard) {
                    return Err(CheckpointError::Entry {
                        path: listed.path().to_path_buf(),
                        tensor: clip(name),
                        why: format!(
                            "not in {}, where the index puts it",
                            files.files[shard].path().display()
                        ),
                    });
                }
            }
        }
        Ok(files)
    }

    /// Joins files; no two may hold the same tensor.
    pub fn new(dir: &Path, files: Vec<SafeTensors>) -> Result<Self, CheckpointError> {
        let mut index = HashMap::new();
        for (f, file) in files.iter().enumerate() {
            for (t, tensor) in file.tensors().enumerate() {
                if let Some((other, _)) = index.insert(tensor.name().to_string(), (f, t)) {
                    return Err(CheckpointError::Entry {
                        path: file.path().to_path_buf(),
                        tensor: clip(tensor.name()),
                        why: format!("is in {} as well", files[other].path().display()),
                    });
                }
            }
        }
        Ok(Self { dir: dir.to_path_buf(), files, index })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn files(&self) -> &[SafeTensors] {
        &self.files
    }

    pub fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        self.files.iter().flat_map(SafeTensors::tensors)
    }

    /// The tensor of a canonical name. Old files name `action_time_mlp_*` `time_mlp_*`.
    pub fn find(&self, name: &str) -> Option<&Tensor> {
        let &(file, _) = self.index.get(name).or_else(|| self.index.get(alias(name)?))?;
        self.files[file].tensor(name).or_else(|| self.files[file].tensor(alias(name)?))
    }

    pub fn need(&self, name: &str) -> Result<&Tensor, CheckpointError> {
        self.find(name).ok_or_else(|| CheckpointError::MissingTensor {
            path: self.dir.clone(),
            tensor: name.to_string(),
            hint: self.hint(),
        })
    }

    fn hint(&self) -> String {
        if !self.index.keys().any(|name| name.starts_with("paligemma_with_expert.")) {
            "; no tensor here is named as PI0's are".into()
        } else {
            String::new()
        }
    }
}

/// Refuses a path that is not a directory, with an error that says what it is.
pub(super) fn is_directory(dir: &Path) -> Result<(), CheckpointError> {
    let found = std::fs::metadata(dir).map_err(|e| CheckpointError::open(dir, e))?;
    if found.is_dir() {
        return Ok(());
    }
    let why = match (dir.extension(), dir.parent(), recognize::file(dir)) {
        (_, _, Some(what)) => format!("not a directory but {what}"),
        (Some(extension), Some(parent), None) if extension == "safetensors" => {
            format!("not a directory: give {}, which it lies in", parent.display())
        }
        _ => format!("not a directory, expected one with {MODEL}"),
    };
    Err(CheckpointError::file(dir, why))
}

/// True if the path exists, even as a dangling link.
fn is_there(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok()
}

fn alias(name: &str) -> Option<&str> {
    name.strip_prefix("action_").filter(|short| short.starts_with("time_mlp_"))
}

/// The tensors of each shard, by the shard's file name.
fn shards(listed: &Object) -> Result<BTreeMap<String, BTreeSet<String>>, CheckpointError> {
    let map = listed.object("weight_map")?.ok_or_else(|| listed.wrong("weight_map", "an object"))?;
    let mut shards = BTreeMap::<String, BTreeSet<String>>::new();
    for tensor in map.keys() {
        let file = map.text(tensor)?.ok_or_else(|| map.wrong(tensor, "a file name"))?;
        if !is_plain(&file) {
            return Err(map.wrong(tensor, "the name of a file beside the index"));
        }
        shards.entry(file).or_default().insert(tensor.to_string());
    }
    if shards.is_empty() {
        return Err(CheckpointError::file(listed.path(), "weight_map is empty"));
    }
    Ok(shards)
}
