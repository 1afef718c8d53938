//! Where a checkpoint's tokenizer lies.

use std::path::{Path, PathBuf};

/// Where a checkpoint says that its tokenizer comes from; by default nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenizerSource {
    /// A name on the hub, or a path on the machine that trained the policy; empty if nothing is said.
    pub name: String,
    /// The folder within the checkpoint that it lies in.
    pub folder: Option<PathBuf>,
}

impl TokenizerSource {
    /// Files in `folder` that can be a tokenizer: lerobot's, SentencePiece's usual one, and what openpi downloads.
    pub fn files(folder: &Path) -> [PathBuf; 3] {
        ["tokenizer.json", "tokenizer.model", "paligemma_tokenizer.model"].map(|name| folder.join(name))
    }

    /// Files of the checkpoint `dir` that can be its tokenizer: those in the folder it names, else those beside the
    /// weights or in the folder `tokenizer`.
    pub fn places(&self, dir: &Path) -> Vec<PathBuf> {
        let folders = match &self.folder {
            Some(folder) => vec![dir.join(folder)],
            None => vec![dir.to_path_buf(), dir.join("tokenizer")],
        };
        folders.iter().flat_map(|folder| Self::files(folder)).collect()
    }

    /// Whether the tokenizer is known to be the right one: PaliGemma's by its name, or one that the checkpoint brings.
    pub fn is_known(&self) -> bool {
        self.folder.is_some() || self.name.is_empty() || self.name.to_lowercase().contains("paligemma")
    }
}
