//! Writes safetensors files of any size: streamed, on all cores, never holding a whole tensor.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Dtype;
use super::error::CheckpointError;
use super::output::Output;

/// Elements produced at once by a thread: enough to make a write worthwhile, few enough for its cache.
const BLOCK: usize = 1 << 18;

/// Fills a buffer with elements of a tensor, little-endian.
pub(super) type Fill<'a> =
    &'a (dyn Fn(&Planned, Range<usize>, &mut [u8]) -> Result<(), CheckpointError> + Sync);

/// Callback told of the bytes done since the last call, from several threads.
pub type Progress<'a> = &'a (dyn Fn(u64) + Sync);

/// A tensor to be written.
pub(super) struct Planned {
    /// Name in the file.
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// For an unknown dtype: its name and the number of bytes.
    pub other: Option<(String, usize)>,
}

impl Planned {
    pub fn new(name: String, dtype: Dtype, shape: Vec<usize>) -> Self {
        Self { name, dtype, shape, other: None }
    }
}

/// The position of a tensor's elements in the file.
struct Place {
    /// Number of elements.
    len: usize,
    /// Offset of the first, bytes.
    start: u64,
}

/// The layout of a file to be written: ordered as the safetensors library does, widest dtype first, then by
/// name, so that both write the same file byte for byte.
pub(super) struct Plan {
    tensors: Vec<Planned>,
    places: Vec<Place>,
    header: Vec<u8>,
    bytes: u64,
}

impl Plan {
    /// Computes the position of every tensor.
    ///
    /// # Errors
    /// If they take more bytes than a file can have.
    pub fn new(
        mut tensors: Vec<Planned>,
        metadata: &BTreeMap<String, String>,
    ) -> Result<Self, CheckpointError> {
        tensors.sort_by(|a, b| rank(a.dtype).cmp(&rank(b.dtype)).then_with(|| a.name.cmp(&b.name)));
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let mut entries = Vec::with_capacity(tensors.len() + 1);
        if !metadata.is_empty() {
            let pairs: Vec<_> =
                metadata.iter().map(|(k, v)| format!("{}:{}", quoted(k), quoted(v))).collect();
            entries.push(format!("\"__metadata__\":{{{}}}", pairs.join(",")));
        }
        let mut places = Vec::with_capacity(tensors.len());
        let mut at = 0u64;
        for t in &tensors {
            let too_large = || {
                let what = format!("shape {:?} makes the file longer than a file can be", t.shape);
                CheckpointError::Arch(format!("tensor {:?}: {what}", t.name))
            };
            let elements = || t.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
            let (dtype, len) = match &t.other {
                Some((dtype, bytes)) => (dtype.as_str(), Some(*bytes)),
                None => (t.dtype.name(), elements()),
            };
            let len = len.ok_or_else(too_large)?;
            let end = (len as u64)
                .checked_mul(t.dtype.size() as u64)
                .and_then(|bytes| at.checked_add(bytes))
                .filter(|&end| end < 1 << 62)
                .ok_or_else(too_large)?;
            let shape: Vec<_> = t.shape.iter().map(usize::to_string).collect();
            entries.push(format!(
                "{}:{{\"dtype\":{},\"shape\":[{}],\"data_offsets\":[{at},{end}]}}",
                quoted(&t.name),
                quoted(dtype),
                shape.join(",")
            ));
            places.push(Place { len, start: at });
            at = end;
        }
        let mut json = format!("{{{}}}", entries.join(","));
        // The tensors' bytes start at a multiple of 8.
        json.extend(std::iter::repeat_n(' ', json.len().next_multiple_of(8) - json.len()));
        let mut header = (json.len() as u64).to_le_bytes().to_vec();
        header.extend_from_slice(json.as_bytes());
        places.iter_mut().for_each(|place| place.start += header.len() as u64);
        let bytes = header.len() as u64 + at;
        Ok(Self { tensors, places, header, bytes })
    }

    /// Size of the file, bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes the file `name` of `output`. `fill` is called from several threads.
    pub fn write(
        &self,
        output: &mut Output,
        name: &str,
        fill: Fill<'_>,
        progress: Progress<'_>,
    ) -> Result<(), CheckpointError> {
        output.create_file(name.as_ref(), self.bytes, |file, path| {
            file.write_all_at(&self.header, 0).map_err(|e| CheckpointError::io(path, "write", e))?;
            progress(self.header.len() as u64);
            self.write_blocks(file, path, fill, progress)
        })
    }

    fn write_blocks(
        &self,
        file: &File,
        path: &Path,
        fill: Fill<'_>,
        progress: Progress<'_>,
    ) -> Result<(), CheckpointError> {
        // Blocks are numbered through all tensors: one counter shares the work out in file order.
        let mut first = vec![0];
        first.extend(self.places.iter().scan(0, |blocks, place| {
            *blocks += place.len.div_ceil(BLOCK);
            Some(*blocks)
        }));
        let blocks = first.last().copied().unwrap_or(0);
        let next = AtomicUsize::new(0);
        let failure = Mutex::new(None);
        let work = || {
            let mut buffer = vec![0; 8 * BLOCK];
            loop {
                let block = next.fetch_add(1, Ordering::Relaxed);
                if block >= blocks {
                    return;
                }
                let i = first.partition_point(|&f| f <= block) - 1;
                let (tensor, place) = (&self.tensors[i], &self.places[i]);
                let start = (block - first[i]) * BLOCK;
                let range = start..place.len.min(start + BLOCK);
                let size = tensor.dtype.size();
                let buffer = &mut buffer[..range.len() * size];
                let at = place.start + (start * size) as u64;
                let done = fill(tensor, range, buffer).and_then(|()| {
                    file.write_all_at(buffer, at).map_err(|e| CheckpointError::io(path, "write", e))
                });
                if let Err(error) = done {
                    next.store(blocks, Ordering::Relaxed);
                    failure.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert(error);
                    return;
                }
                progress(buffer.len() as u64);
            }
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(blocks.max(1));
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(work);
            }
            work();
        });
        failure.into_inner().unwrap_or_else(|e| e.into_inner()).map_or(Ok(()), Err)
    }
}

/// Sort rank of the safetensors library, the reverse of its dtypes' declaration.
fn rank(dtype: Dtype) -> u8 {
    match dtype {
        Dtype::U64 => 0,
        Dtype::I64 => 1,
        Dtype::F64 => 2,
        Dtype::F32 => 3,
        Dtype::U32 => 4,
        Dtype::I32 => 5,
        Dtype::Bf16 => 6,
        Dtype::F16 => 7,
        Dtype::U16 => 8,
        Dtype::I16 => 9,
        Dtype::F8E4m3 => 10,
        Dtype::F8E5m2 => 11,
        Dtype::I8 => 12,
        Dtype::U8 => 13,
        Dtype::Bool => 14,
        Dtype::Other => 15,
    }
}

/// Rounds a value to bf16, ties to even. `half` branches on NaN, which prevents vectorization.
#[inline]
pub(super) fn bf16_bits(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = (bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) >> 16) as u16;
    let quiet = (bits >> 16) as u16 | 0x40;
    if value.is_nan() { quiet } else { rounded }
}

/// Fills `out` with values of `N` bytes each.
pub(super) fn put<const N: usize>(out: &mut [u8], values: impl Iterator<Item = [u8; N]>) {
    for (place, value) in out.as_chunks_mut().0.iter_mut().zip(values) {
        *place = value;
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

    #[test]
    fn files_too_long_to_exist_are_refused() {
        let tensor = |n: usize| Planned::new(format!("t{n}"), Dtype::F32, vec![1 << 30, (1 << 30) - 1]);
        assert!(Plan::new(vec![tensor(0)], &BTreeMap::new()).is_ok());
        let error = Plan::new(vec![tensor(0), tensor(1)], &BTreeMap::new()).err().unwrap().to_string();
        assert!(error.contains("tensor \"t1\"") && error.contains("longer than a file can be"), "{error}");
    }
}
