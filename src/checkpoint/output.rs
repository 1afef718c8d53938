//! The directory a checkpoint is written into, complete or not at all.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, fstatvfs};
use rustix::io::Errno;

use super::error::CheckpointError;

/// An output directory. Its files are written under temporary names, and [`finish`](Self::finish) renames
/// them all: an earlier failure leaves existing files untouched. Dropped unfinished, it removes its
/// temporary files and all directories it created.
pub(super) struct Output {
    dir: PathBuf,
    /// The topmost directory that was created.
    made: Option<PathBuf>,
    /// Temporary and final paths of complete files.
    files: Vec<(PathBuf, PathBuf)>,
}

impl Output {
    /// Creates the directory. One that is not empty is refused unless `force`d.
    pub fn create(dir: &Path, force: bool) -> Result<Self, CheckpointError> {
        let taken = match fs::read_dir(dir) {
            Ok(mut entries) => entries.next().is_some(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => false,
            Err(e) => return Err(CheckpointError::io(dir, "list", e)),
        };
        if taken && !force {
            let hint = "choose another directory, or overwrite its files with --force";
            return Err(CheckpointError::Exists { path: dir.to_path_buf(), hint });
        }
        let made = dir.ancestors().take_while(|p| !p.as_os_str().is_empty() && !p.exists()).last();
        let output = Self { dir: dir.to_path_buf(), made: made.map(Path::to_path_buf), files: Vec::new() };
        fs::create_dir_all(dir).map_err(|e| CheckpointError::io(dir, "create", e))?;
        Ok(output)
    }

    /// Adds a file of `bytes` bytes, filled by `write`, which is given the final path for messages. `name`
    /// is relative to the directory and may lead into subdirectories.
    pub fn create_file(
        &mut self,
        name: &Path,
        bytes: u64,
        write: impl FnOnce(&File, &Path) -> Result<(), CheckpointError>,
    ) -> Result<(), CheckpointError> {
        let target = self.dir.join(name);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(|e| CheckpointError::io(parent, "create", e))?;
        }
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(target.file_name().unwrap_or_default());
        hidden.push(".partial");
        let temporary = target.with_file_name(hidden);
        let file = File::create(&temporary).map_err(|e| CheckpointError::io(&temporary, "create", e))?;
        self.files.push((temporary, target.clone()));
        reserve(&file, &target, bytes)?;
        write(&file, &target)?;
        // Otherwise a rename may reach the disk before the data does.
        file.sync_all().map_err(|e| CheckpointError::io(&target, "write", e))
    }

    /// Adds a file with these bytes.
    pub fn write_file(&mut self, name: &str, bytes: &[u8]) -> Result<(), CheckpointError> {
        self.create_file(name.as_ref(), bytes.len() as u64, |file, path| {
            file.write_all_at(bytes, 0).map_err(|e| CheckpointError::io(path, "write", e))
        })
    }

    /// Adds a copy of the file `from`.
    pub fn copy_file(&mut self, name: &Path, from: &Path) -> Result<(), CheckpointError> {
        let mut source = File::open(from).map_err(|e| CheckpointError::io(from, "read", e))?;
        let bytes = source.metadata().map_err(|e| CheckpointError::io(from, "read", e))?.len();
        self.create_file(name, bytes, |mut file, path| {
            io::copy(&mut source, &mut file).map_err(|e| CheckpointError::io(path, "write", e)).map(drop)
        })
    }

    /// Renames all files to their final names.
    pub fn finish(mut self) -> Result<(), CheckpointError> {
        for (temporary, target) in &self.files {
            fs::rename(temporary, target)
                .map_err(|e| CheckpointError::io(target, "rename the finished file to", e))?;
        }
        self.files.clear();
        self.made = None;
        Ok(())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // Nothing can be done about failures here.
        for (temporary, _) in &self.files {
            let _ = fs::remove_file(temporary);
        }
        if let Some(made) = &self.made {
            let _ = fs::remove_dir_all(made);
        }
    }
}

/// Reserves the space first, so that a full disk is found out before the work is done.
fn reserve(file: &File, target: &Path, bytes: u64) -> Result<(), CheckpointError> {
    if bytes == 0 {
        return Ok(());
    }
    let free = || fstatvfs(file).map(|s| s.f_bavail.saturating_mul(s.f_frsize));
    let too_little = |free: u64| {
        CheckpointError::file(target, format!("needs {bytes} bytes, but the disk has {free} free"))
    };
    // When asked for more than is free, some file systems fill up before they refuse.
    if let Some(free) = free().ok().filter(|&free| free < bytes) {
        return Err(too_little(free));
    }
    match fallocate(file, FallocateFlags::empty(), 0, bytes) {
        // Not every file system can reserve.
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        Err(Errno::NOSPC) => Err(too_little(free().unwrap_or(0))),
        Err(e) => Err(CheckpointError::io(target, "reserve space for", e.into())),
    }
}
