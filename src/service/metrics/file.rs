//! Export to a file for the node exporter's textfile collector.

use std::path::PathBuf;

use crate::daemon::Outage;
use crate::service::replace::replace;

/// A file with the current metrics. Dropping it removes the file: a daemon that has ended has no metrics.
pub struct TextFile {
    path: PathBuf,
    /// Failing writes are logged once, not each.
    outage: Outage,
}

impl TextFile {
    /// A file at a path that ends in `.prom`: the collector reads no other.
    ///
    /// # Errors
    /// If the path has another extension.
    pub fn new(path: PathBuf) -> Result<TextFile, String> {
        if path.extension() != Some("prom".as_ref()) {
            return Err(format!("metrics.file {}: expected a name that ends in .prom", path.display()));
        }
        Ok(TextFile { path, outage: Outage::default() })
    }

    /// Replaces the page atomically. A failure, on a full disk for example, is logged once and doesn't keep the
    /// daemon from serving.
    pub fn write(&mut self, page: &str) {
        if let Some(error) = self.outage.news(replace(&self.path, page)) {
            log::warn!("{}: {error}", self.path.display());
        }
    }
}

impl Drop for TextFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn the_file_is_replaced_whole_and_goes_with_the_daemon() {
        let directory = std::env::temp_dir().join(format!("pi0rt-metrics-{}", std::process::id()));
        let path = directory.join("pi0rt.prom");
        let error = TextFile::new(directory.join("pi0rt.txt")).err().unwrap();
        assert!(error.ends_with("pi0rt.txt: expected a name that ends in .prom"), "{error}");
        let mut file = TextFile::new(path.clone()).unwrap();
        file.write("lost: there is no directory");
        std::fs::create_dir_all(&directory).unwrap();
        file.write("one\n");
        file.write("two\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\n");
        // On a full disk the previous page stays.
        std::os::unix::fs::symlink("/dev/full", directory.join("pi0rt.new")).unwrap();
        assert_eq!(replace(&path, "three\n").unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\n");
        std::fs::remove_file(directory.join("pi0rt.new")).unwrap();
        drop(file);
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
