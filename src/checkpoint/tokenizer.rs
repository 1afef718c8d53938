//! The location of a checkpoint's tokenizer.

use std::path::{Path, PathBuf};

/// The declared source of a checkpoint's tokenizer; the default declares none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenizerSource {
    /// A name on the hub, or a path on the machine that trained the policy; empty if not declared.
    pub name: String,
    /// The folder within the checkpoint that holds it.
    pub folder: Option<PathBuf>,
}

impl TokenizerSource {
    /// Possible tokenizer files in `folder`: lerobot's, SentencePiece's usual one, and the one openpi
    /// downloads.
    pub fn files(folder: &Path) -> [PathBuf; 3] {
        ["tokenizer.json", "tokenizer.model", "paligemma_tokenizer.model"].map(|name| folder.join(name))
    }

    /// Possible tokenizer files of the checkpoint in `dir`: those in its declared folder, else those beside
    /// the weights or in the folder `tokenizer`.
    pub fn places(&self, dir: &Path) -> Vec<PathBuf> {
        let folders = match &self.folder {
            Some(folder) => vec![dir.join(folder)],
            None => vec![dir.to_path_buf(), dir.join("tokenizer")],
        };
        folders.iter().flat_map(|folder| Self::files(folder)).collect()
    }

    /// True if the tokenizer is known to be the right one: PaliGemma's by name, or one in the checkpoint.
    pub fn is_known(&self) -> bool {
        self.folder.is_some() || self.name.is_empty() || self.name.to_lowercase().contains("paligemma")
    }
}
