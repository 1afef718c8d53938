//! A record of each chunk, for a comparison with another runtime.

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::tabletop::{Episode, JOINTS, Task};

/// A file with a line of JSON for each chunk.
pub struct Trace {
    path: PathBuf,
    file: BufWriter<File>,
}

#[derive(Serialize)]
struct Line<'a> {
    seed: u64,
    chunk: u64,
    told: String,
    state: &'a [f32; JOINTS],
    /// Rows, one after the other.
    actions: &'a [f32],
}

impl Trace {
    /// Creates the file.
    ///
    /// # Errors
    /// The system's, with the path.
    pub fn create(path: &Path) -> Result<Trace, String> {
        let file = File::create(path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Trace { path: path.into(), file: BufWriter::new(file) })
    }

    /// Adds a chunk of an episode.
    ///
    /// # Errors
    /// As for [`create`](Self::create).
    pub fn add(
        &mut self,
        episode: &Episode,
        chunk: u64,
        told: Task,
        state: &[f32; JOINTS],
        actions: &[f32],
    ) -> Result<(), Box<dyn Error>> {
        let line = Line { seed: episode.seed, chunk, told: told.to_string(), state, actions };
        let text = serde_json::to_string(&line)?;
        writeln!(self.file, "{text}").map_err(|e| format!("{}: {e}", self.path.display()).into())
    }

    /// Writes what is still to be written.
    ///
    /// # Errors
    /// As for [`create`](Self::create).
    pub fn finish(mut self) -> Result<(), String> {
        self.file.flush().map_err(|e| format!("{}: {e}", self.path.display()))
    }
}
