//! A golden file: inputs and every dumped stage, batch first.

use std::path::Path;

use pi0rt::checkpoint::{SafeTensors, Tensor};
use serde_json::Value;

/// A golden file.
pub struct Case {
    file: SafeTensors,
    meta: Value,
}

/// Errors of golden files.
#[derive(Debug, thiserror::Error)]
pub enum CaseError {
    /// The file is not a valid safetensors file.
    #[error(transparent)]
    File(#[from] pi0rt::checkpoint::CheckpointError),
    /// The file is not a valid golden file.
    #[error("{file}: {what}")]
    Content {
        /// The file.
        file: String,
        /// The fault, in words.
        what: String,
    },
}

impl Case {
    /// Maps a golden file.
    pub fn open(path: &Path) -> Result<Self, CaseError> {
        let file = SafeTensors::open(path)?;
        let content = |what: String| CaseError::Content { file: path.display().to_string(), what };
        let text = file
            .metadata()
            .get("pi0_golden")
            .ok_or_else(|| content("no metadata \"pi0_golden\": not a golden file".into()))?;
        let meta =
            serde_json::from_str(text).map_err(|e| content(format!("metadata \"pi0_golden\": {e}")))?;
        for name in ["noise", "state_raw", "tokens", "token_mask", "image_mask", "prefix_pad", "actions"] {
            if file.tensor(name).is_none() {
                return Err(content(format!("tensor {name} is missing")));
            }
        }
        Ok(Self { file, meta })
    }

    /// A text in the metadata.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.meta.get(key)?.as_str()
    }

    /// The instruction of an observation, if the file tells it: PI0.5's files list them, PI0's have the first.
    pub fn task(&self, index: usize) -> Option<&str> {
        match self.meta.get("tasks") {
            Some(tasks) => tasks.get(index)?.as_str(),
            None => self.text("task").filter(|_| index == 0),
        }
    }

    /// A number in the metadata.
    pub fn number(&self, key: &str) -> Option<f64> {
        self.meta.get(key)?.as_f64()
    }

    /// Number of Euler steps that were dumped.
    pub fn steps(&self) -> usize {
        (0..).take_while(|s| self.file.tensor(&format!("v.{s}")).is_some()).count()
    }

    /// Number of observations in the file.
    pub fn batch(&self) -> usize {
        self.file.tensor("noise").map_or(0, Tensor::rows)
    }

    /// One observation.
    pub fn element(&self, index: usize) -> Element<'_> {
        Element { file: &self.file, index }
    }
}

/// One observation of a golden file, with the stages computed from it.
#[derive(Clone, Copy)]
pub struct Element<'a> {
    file: &'a SafeTensors,
    index: usize,
}

impl<'a> Element<'a> {
    /// Shape without the batch dimension.
    pub fn shape(self, name: &str) -> Option<&'a [usize]> {
        Some(&self.file.tensor(name)?.shape()[1..])
    }

    /// Values of this observation, f32 (integers and bytes converted).
    pub fn values(self, name: &str) -> Option<Vec<f32>> {
        let tensor = self.file.tensor(name)?;
        let len = tensor.cols();
        let mut out = vec![0.0; len];
        // With a batch of one, lerobot omits the batch dimension of the time.
        let start = if tensor.rows() == 1 { 0 } else { self.index * len };
        tensor.read_f32(start..start + len, &mut out);
        Some(out)
    }

    /// Bytes of this observation.
    pub fn bytes(self, name: &str) -> Option<&'a [u8]> {
        let tensor = self.file.tensor(name)?;
        let len = tensor.cols();
        Some(&tensor.bytes()[self.index * len..(self.index + 1) * len])
    }

    /// Number of real camera images; the model sees them first.
    pub fn cameras(self) -> usize {
        let mask = self.file.tensor("image_mask").map(|t| (t.rows(), t.cols(), t.bytes()));
        mask.map_or(0, |(cameras, batch, bytes)| {
            (0..cameras).filter(|c| bytes[c * batch + self.index] != 0).count()
        })
    }

    /// Rows of the prefix that are not masked.
    pub fn valid_rows(self) -> Vec<usize> {
        let pad = self.bytes("prefix_pad").unwrap_or(&[]);
        (0..pad.len()).filter(|&i| pad[i] != 0).collect()
    }

    /// Tokens that are not padding.
    pub fn tokens(self) -> Vec<u32> {
        let ids = self.values("tokens").unwrap_or_default();
        let mask = self.bytes("token_mask").unwrap_or(&[]);
        ids.iter().zip(mask).filter(|(_, m)| **m != 0).map(|(id, _)| *id as u32).collect()
    }
}
