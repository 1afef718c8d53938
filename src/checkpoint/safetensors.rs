//! One mapped safetensors file.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::CheckpointError;
use super::header::{Fault, Header};
use super::mapped::Mapped;
use super::names::canonical;
use super::recognize;
use super::tensor::Tensor;

/// A safetensors file, mapped read-only and shared, with a fully checked header. Only the header is on the
/// heap; tensors are views of the map and keep it alive.
///
/// The file must not be truncated while it is mapped: reading past its new end raises `SIGBUS`. Replacing
/// it by rename is safe.
pub struct SafeTensors {
    path: PathBuf,
    bytes: usize,
    tensors: Vec<Tensor>,
    stored_names: Vec<String>,
    index: HashMap<String, usize>,
    metadata: BTreeMap<String, String>,
}

impl SafeTensors {
    /// Maps `path` and checks its header: names are unique, every shape matches its bytes, and the tensors'
    /// bytes cover the file without gap or overlap.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let map = Arc::new(Mapped::open(path)?);
        let header = Header::parse(&map).map_err(|fault| match fault {
            Fault::File(why) => CheckpointError::file(
                path,
                match recognize::bytes(&map) {
                    Some(what) => format!("not a safetensors file but {what}"),
                    None => why,
                },
            ),
            Fault::Entry { tensor, why } => CheckpointError::Entry { path: path.to_path_buf(), tensor, why },
        })?;
        let mut tensors = Vec::with_capacity(header.entries.len());
        let mut stored_names = Vec::with_capacity(header.entries.len());
        let mut index = HashMap::with_capacity(header.entries.len());
        for entry in header.entries {
            let name = canonical(&entry.name).into_owned();
            if index.insert(name.clone(), tensors.len()).is_some() {
                return Err(CheckpointError::Entry {
                    path: path.to_path_buf(),
                    tensor: name,
                    why: "is there twice, under names that mean the same: with and without a leading \"model.\", or lerobot's \
                          of before and since 0.3.3"
                        .into(),
                });
            }
            let tensor = Tensor::new(name, entry.dtype, entry.shape, map.clone(), entry.range);
            tensors.push(match &entry.other {
                Some(dtype) => tensor.of_other_dtype(dtype),
                None => tensor,
            });
            stored_names.push(entry.name);
        }
        Ok(Self {
            path: path.to_path_buf(),
            bytes: map.len(),
            tensors,
            stored_names,
            index,
            metadata: header.metadata,
        })
    }

    /// A set of tensors without a file behind it.
    pub(super) fn of(path: &Path, tensors: Vec<Tensor>) -> Self {
        let names: Vec<String> = tensors.iter().map(|t| t.name().to_string()).collect();
        Self {
            path: path.to_path_buf(),
            bytes: 0,
            index: names.iter().cloned().zip(0..).collect(),
            stored_names: names,
            tensors,
            metadata: BTreeMap::new(),
        }
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file's size in bytes, header included.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The tensor named `name`, without a leading `model.`.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.index.get(name).map(|&i| &self.tensors[i])
    }

    /// All tensors, in the order of their bytes.
    pub fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        self.tensors.iter()
    }

    /// All tensors with their names as stored, `model.` included.
    pub(crate) fn stored(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.stored_names.iter().map(String::as_str).zip(&self.tensors)
    }

    /// The header's `__metadata__`.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }
}

impl std::fmt::Debug for SafeTensors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} tensors", self.path.display(), self.tensors.len())
    }
}
