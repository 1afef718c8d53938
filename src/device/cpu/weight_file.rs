//! Prepared weights in a file, so that the next start need not prepare them again.
//!
//! The file is a header of whole pages (magic, checksum of the words, length of the key, number of
//! words, key), then the words. The key says in plain text what they were made of and for whom;
//! a file whose key, length or checksum is not the expected one is made anew. It is written
//! beside its final name and renamed when complete.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use memmap2::{Advice, Mmap, MmapMut};

use super::memory::Memory;

const MAGIC: [u8; 8] = *b"pi0rtWC1";
const FIXED: usize = 24;
const PAGE: usize = 4096;

/// A cache file that is or will be there.
pub struct WeightFile {
    path: PathBuf,
    key: String,
    words: usize,
}

impl WeightFile {
    /// For `words` words made as `key` says, in directory `dir`.
    pub fn new(dir: &Path, key: String, words: usize) -> Self {
        let name = format!("{:08x}-{words}.weights", crc32fast::hash(key.as_bytes()));
        Self { path: dir.join(name), key, words }
    }

    /// Number of bytes before the words.
    fn header(&self) -> usize {
        (FIXED + self.key.len()).next_multiple_of(PAGE)
    }

    /// The words, if the file is there and right.
    pub fn open(&self) -> Option<Memory> {
        match self.read() {
            Ok(memory) => {
                log::info!("weights from {}", self.path.display());
                Some(memory)
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => {
                log::warn!("{}: not used, will be made anew: {e}", self.path.display());
                None
            }
        }
    }

    fn read(&self) -> io::Result<Memory> {
        let wrong = |what: &str, expected: &dyn std::fmt::Display, got: &dyn std::fmt::Display| {
            Err(io::Error::other(format!("{what} is {got}, expected {expected}")))
        };
        let file = OpenOptions::new().read(true).open(&self.path)?;
        let kind = file.metadata()?;
        let us = rustix::process::geteuid().as_raw();
        if !kind.is_file() || ![0, us].contains(&kind.uid()) || kind.mode() & 0o022 != 0 {
            return wrong(
                "owner and mode",
                &format!("a file of user {us} that nobody else may write"),
                &format!("user {} and {:o}", kind.uid(), kind.mode()),
            );
        }
        let length = self.header() + 4 * self.words;
        if kind.len() != length as u64 {
            return wrong("length", &length, &kind.len());
        }
        // SAFETY: the file is ours, and replaced by rename only.
        let map = unsafe { Mmap::map(&file) }?;
        if map[..8] != MAGIC || map[12..FIXED] != self.fixed(0)[12..] {
            return wrong("header", &"this version's", &"another");
        }
        if &map[FIXED..FIXED + self.key.len()] != self.key.as_bytes() {
            return wrong("key", &"the checkpoint's", &"another");
        }
        let _ = map.advise(Advice::WillNeed);
        let stored = u32::from_le_bytes([map[8], map[9], map[10], map[11]]);
        let sum = crc32fast::hash(&map[self.header()..]);
        if stored != sum {
            return wrong("checksum", &format!("{stored:08x}"), &format!("{sum:08x}"));
        }
        Ok(Memory::of_file(map, self.header()))
    }

    fn fixed(&self, sum: u32) -> [u8; FIXED] {
        let mut fixed = [0; FIXED];
        fixed[..8].copy_from_slice(&MAGIC);
        fixed[8..12].copy_from_slice(&sum.to_le_bytes());
        // A key is some kilobytes.
        fixed[12..16].copy_from_slice(&(self.key.len() as u32).to_le_bytes());
        fixed[16..].copy_from_slice(&(self.words as u64).to_le_bytes());
        fixed
    }

    /// Room for the words in a file still without its name; None, with a warning, if there is none.
    pub fn create(&self) -> Option<Draft<'_>> {
        self.draft().map_err(|e| log::warn!("{}: can't be written: {e}", self.path.display())).ok()
    }

    fn draft(&self) -> io::Result<Draft<'_>> {
        let path = self.path.with_extension(format!("{}.tmp", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        let unfinished = Unfinished(path);
        let length = (self.header() + 4 * self.words) as u64;
        // Room for all of it now: a page that can't be had later would be a fatal signal.
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, length)?;
        // SAFETY: the file was made here under a name that nobody else uses.
        let map = unsafe { MmapMut::map_mut(&file) }?;
        Ok(Draft { of: self, unfinished, file, map })
    }
}

/// Removes what is left of a file that was not finished.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A cache file being written.
pub struct Draft<'a> {
    of: &'a WeightFile,
    unfinished: Unfinished,
    file: File,
    map: MmapMut,
}

impl Draft<'_> {
    /// Its first word, zeroed as all of them.
    pub fn words(&mut self) -> *mut u32 {
        let header = self.of.header();
        self.map[header..].as_mut_ptr().cast()
    }

    /// Gives the file its name, and the words, read-only, to whom they are for.
    pub fn finish(mut self) -> io::Result<Memory> {
        let header = self.of.header();
        let sum = crc32fast::hash(&self.map[header..]);
        self.map[..FIXED].copy_from_slice(&self.of.fixed(sum));
        self.map[FIXED..FIXED + self.of.key.len()].copy_from_slice(self.of.key.as_bytes());
        let map = self.map.make_read_only()?;
        match self.file.sync_all().and_then(|()| std::fs::rename(&self.unfinished.0, &self.of.path)) {
            Ok(()) => log::info!("weights kept in {}", self.of.path.display()),
            // The words are good all the same.
            Err(e) => log::warn!("{}: can't be kept: {e}", self.of.path.display()),
        }
        Ok(Memory::of_file(map, header))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("pi0rt-cache-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir(&dir).unwrap();
        dir
    }

    fn fill(cache: &WeightFile) -> Memory {
        let mut draft = cache.create().unwrap();
        for i in 0..cache.words {
            // SAFETY: one of the draft's words.
            unsafe { *draft.words().add(i) = i as u32 * 7 };
        }
        draft.finish().unwrap()
    }

    fn right(memory: &Memory, words: usize) -> bool {
        // SAFETY: as many words as it was asked for.
        memory.len() == words * 4 && (0..words).all(|i| unsafe { *memory.words().add(i) } == i as u32 * 7)
    }

    #[test]
    fn what_was_written_is_read_and_nothing_else_is_left() {
        let dir = directory("round");
        let cache = WeightFile::new(&dir, "some key".repeat(1000), 5000);
        assert!(cache.open().is_none());
        assert!(right(&fill(&cache), 5000));
        assert!(right(&cache.open().unwrap(), 5000));
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1);
        // One that is given up leaves nothing.
        drop(WeightFile::new(&dir, "another".into(), 10).create().unwrap());
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1);
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn whatever_is_wrong_with_a_file_it_is_not_used() {
        let dir = directory("wrong");
        let cache = WeightFile::new(&dir, "key".into(), 2000);
        fill(&cache);
        let good = std::fs::read(&cache.path).unwrap();
        for at in [0, 9, 13, 17, FIXED, FIXED + 2, PAGE, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&cache.path, &bad).unwrap();
            assert!(cache.open().is_none(), "byte {at}");
        }
        std::fs::write(&cache.path, &good[..good.len() - 1]).unwrap();
        assert!(cache.open().is_none());
        std::fs::write(&cache.path, &good).unwrap();
        assert!(cache.open().is_some());
        let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(&cache.path, mode(0o622)).unwrap();
        assert!(cache.open().is_none());
        std::fs::remove_file(&cache.path).unwrap();
        std::fs::create_dir(&cache.path).unwrap();
        assert!(cache.open().is_none());
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_directory_that_is_not_there_costs_only_the_cache() {
        let cache = WeightFile::new(Path::new("/nonexistent/cache"), "key".into(), 10);
        assert!(cache.open().is_none() && cache.create().is_none());
    }
}
