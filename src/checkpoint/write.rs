//! Writing safetensors files of any size: streamed, by all cores, under a temporary name.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Dtype;
use super::error::CheckpointError;

/// Elements a worker produces at once: enough to make a write worthwhile, few enough to stay in cache.
const BLOCK: usize = 1 << 18;

/// One tensor to be written.
pub(super) struct Planned {
    /// Name as stored.
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
}

impl Planned {
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    fn bytes(&self) -> usize {
        self.len() * self.dtype.size()
    }
}

/// The layout of a file to be written: the safetensors library's own order, widest dtype first, then
/// by name, so that its files and these are the same byte for byte.
pub(super) struct Plan {
    tensors: Vec<Planned>,
    starts: Vec<usize>,
    header: Vec<u8>,
}

impl Plan {
    pub fn new(mut tensors: Vec<Planned>, metadata: &BTreeMap<String, String>) -> Self {
        let rank = |dtype: Dtype| match dtype {
            Dtype::I64 => 0,
            Dtype::F32 => 1,
            Dtype::Bf16 => 2,
            Dtype::F16 => 3,
            Dtype::U8 => 4,
        };
        tensors.sort_by(|a, b| rank(a.dtype).cmp(&rank(b.dtype)).then_with(|| a.name.cmp(&b.name)));
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let mut entries = Vec::with_capacity(tensors.len() + 1);
        if !metadata.is_empty() {
            let pairs: Vec<String> =
                metadata.iter().map(|(k, v)| format!("{}:{}", quoted(k), quoted(v))).collect();
            entries.push(format!("\"__metadata__\":{{{}}}", pairs.join(",")));
        }
        let mut at = 0;
        let mut starts = Vec::with_capacity(tensors.len());
        for t in &tensors {
            let shape: Vec<String> = t.shape.iter().map(usize::to_string).collect();
            entries.push(format!(
                "{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{at},{}]}}",
                quoted(&t.name),
                t.dtype,
                shape.join(","),
                at + t.bytes()
            ));
            starts.push(at);
            at += t.bytes();
        }
        let mut json = format!("{{{}}}", entries.join(","));
        // The tensors' bytes start at a multiple of 8.
        json.extend(std::iter::repeat_n(' ', json.len().next_multiple_of(8) - json.len()));
        let mut header = (json.len() as u64).to_le_bytes().to_vec();
        header.extend_from_slice(json.as_bytes());
        starts.iter_mut().for_each(|start| *start += header.len());
        Self { tensors, starts, header }
    }

    /// Bytes of the file.
    pub fn len(&self) -> usize {
        self.header.len() + self.tensors.iter().map(Planned::bytes).sum::<usize>()
    }

    /// Writes the file under a temporary name beside `target` and renames it when it is complete.
    /// `fill` puts elements `range` of a tensor into a buffer of their size; it is called from
    /// several threads. `progress` gets the number of bytes since its last call.
    pub fn write(
        &self,
        target: &Path,
        fill: Fill<'_>,
        progress: Progress<'_>,
    ) -> Result<(), CheckpointError> {
        let temporary = Temporary::new(target)?;
        let write = |e| CheckpointError::io(target, "write", e);
        reserve(&temporary.file, target, self.len() as u64)?;
        temporary.file.write_all_at(&self.header, 0).map_err(write)?;
        progress(self.header.len() as u64);

        let blocks: Vec<(usize, Range<usize>)> = self
            .tensors
            .iter()
            .enumerate()
            .flat_map(|(i, t)| {
                (0..t.len()).step_by(BLOCK).map(move |start| (i, start..t.len().min(start + BLOCK)))
            })
            .collect();
        let next = AtomicUsize::new(0);
        let failure = Mutex::new(None);
        let work = || {
            let mut buffer = vec![0; 8 * BLOCK];
            while let Some((i, range)) = blocks.get(next.fetch_add(1, Ordering::Relaxed)) {
                let tensor = &self.tensors[*i];
                let buffer = &mut buffer[..range.len() * tensor.dtype.size()];
                let at = self.starts[*i] + range.start * tensor.dtype.size();
                let done = fill(tensor, range.clone(), buffer)
                    .and_then(|()| temporary.file.write_all_at(buffer, at as u64).map_err(write));
                if let Err(error) = done {
                    next.store(blocks.len(), Ordering::Relaxed);
                    failure.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert(error);
                    return;
                }
                progress(buffer.len() as u64);
            }
        };
        let workers = std::thread::available_parallelism().map_or(1, usize::from).min(blocks.len().max(1));
        std::thread::scope(|scope| {
            for _ in 1..workers {
                scope.spawn(work);
            }
            work();
        });
        match failure.into_inner().unwrap_or_else(|e| e.into_inner()) {
            Some(error) => Err(error),
            None => temporary.finish(),
        }
    }
}

/// Puts elements of a tensor, little-endian, into a buffer.
pub(super) type Fill<'a> =
    &'a (dyn Fn(&Planned, Range<usize>, &mut [u8]) -> Result<(), CheckpointError> + Sync);

/// Told how many more bytes are done, from several threads.
pub type Progress<'a> = &'a (dyn Fn(u64) + Sync);

/// Writes a small file whole, under a temporary name first.
pub(super) fn write_file(target: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    let temporary = Temporary::new(target)?;
    temporary.file.write_all_at(bytes, 0).map_err(|e| CheckpointError::io(target, "write", e))?;
    temporary.finish()
}

/// A value rounded to bf16, ties to even. (`half` branches on NaN, which keeps loops from becoming
/// vector code.)
#[inline]
pub(super) fn bf16_bits(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = (bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) >> 16) as u16;
    let quiet = (bits >> 16) as u16 | 0x40;
    if value.is_nan() { quiet } else { rounded }
}

/// Takes the space first: a full disk is found out before the work is done.
fn reserve(file: &File, target: &Path, len: u64) -> Result<(), CheckpointError> {
    use rustix::fs::{FallocateFlags, fallocate, fstatvfs};
    use rustix::io::Errno;

    match fallocate(file, FallocateFlags::empty(), 0, len) {
        Ok(()) => Ok(()),
        Err(Errno::NOSPC) => {
            let free = fstatvfs(file).map_or(0, |s| s.f_bavail.saturating_mul(s.f_frsize));
            Err(CheckpointError::file(target, format!("needs {len} bytes, but the disk has {free} free")))
        }
        // Not every file system can reserve.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
            file.set_len(len).map_err(|e| CheckpointError::io(target, "extend", e))
        }
        Err(e) => Err(CheckpointError::io(target, "reserve space for", e.into())),
    }
}

/// A file under a temporary name, removed unless it is finished.
struct Temporary {
    file: File,
    path: PathBuf,
    target: PathBuf,
    finished: bool,
}

impl Temporary {
    fn new(target: &Path) -> Result<Self, CheckpointError> {
        let mut name = std::ffi::OsString::from(".");
        name.push(target.file_name().unwrap_or_default());
        name.push(".partial");
        let path = target.with_file_name(name);
        let file = File::create(&path).map_err(|e| CheckpointError::io(&path, "create", e))?;
        Ok(Self { file, path, target: target.to_path_buf(), finished: false })
    }

    fn finish(mut self) -> Result<(), CheckpointError> {
        // A rename may reach the disk before the data does.
        self.file.sync_all().map_err(|e| CheckpointError::io(&self.target, "write", e))?;
        std::fs::rename(&self.path, &self.target)
            .map_err(|e| CheckpointError::io(&self.target, "rename the finished file to", e))?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.finished {
            // Nothing can be done about a failure here.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_is_rounded_as_half_does() {
        let bits = (0..=u32::MAX).step_by(4099).chain([0x7F80_0000, 0x7F80_0001, 0xFFFF_FFFF, 0x3F80_8000]);
        for bits in bits.chain([0x3F81_8000, 0x7F7F_FFFF, 0x0000_8000, 0x8000_8001]) {
            let value = f32::from_bits(bits);
            assert_eq!(bf16_bits(value), half::bf16::from_f32(value).to_bits(), "{bits:#x}");
        }
    }
}
