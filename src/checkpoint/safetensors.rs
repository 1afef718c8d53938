//! The safetensors container: eight bytes of header length, a JSON header, the tensors' bytes.
//!
//! The header is validated before anything is believed: see [`SafeTensors::open`].

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use super::error::CheckpointError;
use super::tensor::{Dtype, Tensor};

/// Longest header accepted, as the format's reference implementation has it.
const MAX_HEADER: u64 = 100_000_000;

/// One mapped safetensors file.
pub struct SafeTensors {
    tensors: Vec<Tensor>,
    index: HashMap<String, usize>,
    metadata: BTreeMap<String, String>,
}

impl SafeTensors {
    /// Maps a file read-only. The bytes of its tensors are not touched.
    ///
    /// The file must not be truncated while it is mapped: replace checkpoints by renaming.
    ///
    /// # Errors
    /// If the file can't be mapped, or its header does not describe exactly the bytes that follow:
    /// wrong length, no JSON, a name twice, an unknown dtype, a shape that does not match its
    /// bytes, ranges that overlap, leave holes or end outside the file.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let file = File::open(path).map_err(|e| CheckpointError::io(path, e))?;
        let info = file.metadata().map_err(|e| CheckpointError::io(path, e))?;
        if !info.is_file() {
            return Err(CheckpointError::format(path, "not a regular file"));
        }
        if info.len() < 8 {
            let what = format!("{} bytes are too few for a safetensors file", info.len());
            return Err(CheckpointError::format(path, what));
        }
        // SAFETY: the mapping is read-only and only shared slices of it are handed out; that nobody truncates the file is the documented precondition of `open`.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| CheckpointError::io(path, e))?;
        Self::parse(Arc::new(map)).map_err(|what| CheckpointError::format(path, what))
    }

    fn parse(map: Arc<Mmap>) -> Result<Self, String> {
        let size = map.len() as u64;
        let length = map.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        if length > MAX_HEADER || length + 8 > size {
            return Err(format!(
                "the first eight bytes give a header of {length} bytes, but the file has {size}: not a safetensors file, or truncated"
            ));
        }
        let start = 8 + length as usize;
        let header: Header = serde_json::from_slice(&map[8..start]).map_err(|e| format!("header: {e}"))?;

        let data = map.len() - start;
        let mut tensors = Vec::with_capacity(header.tensors.len());
        let mut index = HashMap::with_capacity(header.tensors.len());
        for (full_name, entry) in header.tensors {
            let name = full_name.strip_prefix("model.").unwrap_or(&full_name).to_string();
            let (dtype, range) = entry.check(data).map_err(|what| format!("tensor {full_name}: {what}"))?;
            if index.insert(name.clone(), tensors.len()).is_some() {
                return Err(format!("tensor {full_name}: stands twice in the header"));
            }
            let shape = entry.shape.iter().map(|&d| d as usize).collect();
            let range = start + range.start..start + range.end;
            tensors.push(Tensor::new(name, dtype, shape, map.clone(), range));
        }
        check_cover(&tensors, start, map.len())?;
        Ok(Self { tensors, index, metadata: header.metadata })
    }

    /// A tensor by its name without a leading `model.`.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.index.get(name).map(|&i| &self.tensors[i])
    }

    /// All tensors, in the header's order.
    pub fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        self.tensors.iter()
    }

    /// All tensors, in the header's order.
    pub fn into_tensors(self) -> Vec<Tensor> {
        self.tensors
    }

    /// The header's `__metadata__`.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }
}

/// Every byte of the data belongs to exactly one tensor.
fn check_cover(tensors: &[Tensor], start: usize, end: usize) -> Result<(), String> {
    let mut order: Vec<&Tensor> = tensors.iter().collect();
    order.sort_by_key(|t| (t.range().start, t.range().end));
    let (mut at, mut before) = (start, "the header");
    for tensor in order {
        let range = tensor.range();
        if range.start < at {
            let overlap = at.min(range.end) - range.start;
            return Err(format!("tensor {}: overlaps {before} by {overlap} bytes", tensor.name()));
        }
        if range.start > at {
            return Err(format!(
                "tensor {}: {} bytes between {before} and it belong to no tensor",
                tensor.name(),
                range.start - at
            ));
        }
        (at, before) = (range.end, tensor.name());
    }
    if at < end {
        return Err(format!("{} bytes after {before} belong to no tensor", end - at));
    }
    Ok(())
}

/// The JSON header. Duplicate names are kept, to be refused.
struct Header {
    tensors: Vec<(String, Entry)>,
    metadata: BTreeMap<String, String>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

impl Entry {
    /// Dtype and byte range within `data` bytes.
    fn check(&self, data: usize) -> Result<(Dtype, std::ops::Range<usize>), String> {
        let dtype = Dtype::from_name(&self.dtype)
            .ok_or_else(|| format!("unknown dtype {:?}; known are F32, BF16, F16, I64 and U8", self.dtype))?;
        let [start, end] = self.data_offsets;
        if start > end || end > data as u64 {
            return Err(format!("data offsets {start}..{end} lie outside the file's {data} bytes of data"));
        }
        let bytes = self
            .shape
            .iter()
            .try_fold(dtype.size() as u64, |product, &d| product.checked_mul(d))
            .ok_or_else(|| format!("shape {:?} has more elements than can be counted", self.shape))?;
        if bytes != end - start {
            let got = end - start;
            return Err(format!(
                "shape {:?} of {dtype} takes {bytes} bytes, but data offsets {start}..{end} give {got}",
                self.shape
            ));
        }
        Ok((dtype, start as usize..end as usize))
    }
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let (mut tensors, mut metadata) = (Vec::new(), None);
                while let Some(name) = map.next_key::<String>()? {
                    if name != "__metadata__" {
                        let entry =
                            map.next_value().map_err(|e| A::Error::custom(format!("tensor {name}: {e}")))?;
                        tensors.push((name, entry));
                    } else if metadata.replace(map.next_value()?).is_some() {
                        return Err(A::Error::custom("__metadata__ stands twice"));
                    }
                }
                Ok(Header { tensors, metadata: metadata.unwrap_or_default() })
            }
        }

        deserializer.deserialize_map(Entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(bytes: &[u8]) -> Result<SafeTensors, String> {
        let mut map = memmap2::MmapMut::map_anon(bytes.len().max(1)).unwrap();
        map[..bytes.len()].copy_from_slice(bytes);
        SafeTensors::parse(Arc::new(map.make_read_only().unwrap()))
    }

    fn file(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.resize(bytes.len() + data, 7);
        bytes
    }

    const TWO: &str = r#"{"__metadata__":{"a":"b"},"model.x":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"y":{"dtype":"BF16","shape":[],"data_offsets":[24,26]}}"#;

    #[test]
    fn reads_names_shapes_and_metadata() {
        let st = parse(&file(TWO, 26)).unwrap();
        let x = st.tensor("x").unwrap();
        assert_eq!((x.dtype(), x.shape(), x.bytes().len()), (Dtype::F32, &[2, 3][..], 24));
        assert_eq!((st.tensor("y").unwrap().len(), st.metadata()["a"].as_str()), (1, "b"));
    }

    #[test]
    fn names_what_is_wrong() {
        let entry = |dtype: &str, shape: &str, offsets: &str| {
            format!(r#"{{"t":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
        };
        let cases = [
            (entry("F32", "[2]", "[0,8]"), 9, "1 bytes after t belong to no tensor"),
            (entry("F32", "[2]", "[0,8]"), 7, "0..8 lie outside the file's 7 bytes"),
            (entry("F32", "[3]", "[0,8]"), 8, "takes 12 bytes, but data offsets 0..8 give 8"),
            (entry("F32", "[2]", "[8,0]"), 8, "8..0 lie outside"),
            (entry("F8", "[2]", "[0,8]"), 8, "unknown dtype \"F8\""),
            (entry("F32", "[4294967296,4294967296,2]", "[0,8]"), 8, "more elements than can be counted"),
            (entry("F32", "[-1]", "[0,8]"), 8, "tensor t: invalid value"),
            ("[]".into(), 0, "an object of tensors"),
            ("{".into(), 0, "header: EOF"),
            (TWO.replace("[24,26]", "[20,22]"), 26, "tensor y: overlaps x by 2 bytes"),
            (TWO.replace("[24,26]", "[25,27]"), 27, "1 bytes between x and it"),
            (TWO.replace("\"y\"", "\"x\""), 26, "tensor x: stands twice"),
        ];
        for (header, data, expected) in cases {
            let error = parse(&file(&header, data)).err().unwrap();
            assert!(error.contains(expected), "{header}: {error}");
        }
        let mut wrong_magic = file(TWO, 26);
        wrong_magic[7] = 0x50;
        assert!(parse(&wrong_magic).err().unwrap().contains("not a safetensors file, or truncated"));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 8..400)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn random_headers_never_panic(header in "[\\{\\}\\[\\]\":,a-zF0-9]{0,80}", data in 0usize..40) {
            let _ = parse(&file(&header, data));
        }

        #[test]
        fn a_mutated_file_is_read_or_refused(at in 0usize..220, byte in any::<u8>()) {
            let mut bytes = file(TWO, 26);
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Ok(st) = parse(&bytes) {
                for t in st.tensors() {
                    prop_assert_eq!(t.bytes().len(), t.len() * t.dtype().size());
                }
            }
        }
    }
}
