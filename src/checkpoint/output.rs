//! The directory a checkpoint is written into.

use std::path::{Path, PathBuf};

use super::error::CheckpointError;

/// An output directory. If it did not exist before and is not finished, it is removed again.
pub(super) struct Output {
    dir: PathBuf,
    /// The topmost directory that had to be made.
    made: Option<PathBuf>,
    finished: bool,
}

impl Output {
    pub fn create(dir: &Path) -> Result<Self, CheckpointError> {
        let made = dir.ancestors().take_while(|p| !p.as_os_str().is_empty() && !p.exists()).last();
        let output = Self { dir: dir.to_path_buf(), made: made.map(Path::to_path_buf), finished: false };
        std::fs::create_dir_all(dir).map_err(|e| CheckpointError::io(dir, "create", e))?;
        Ok(output)
    }

    pub fn file(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.join(name)
    }

    pub fn finish(mut self) {
        self.finished = true;
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let (false, Some(made)) = (self.finished, &self.made) {
            // Nothing can be done about a failure here.
            let _ = std::fs::remove_dir_all(made);
        }
    }
}
