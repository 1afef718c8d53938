//! The header of a safetensors file: eight bytes of length, JSON, then the tensors' bytes.
//!
//! Format: <https://github.com/huggingface/safetensors#format>.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use super::dtype::Dtype;
use super::error::clip;

/// Longest accepted header: PI0's has 0.1 MB, so a larger one is an attack or an accident.
const MAX_HEADER: u64 = 100 << 20;
const MAX_NAME: usize = 4096;
const MAX_DTYPE: usize = 64;
const MAX_DIMENSIONS: usize = 16;
const METADATA: &str = "__metadata__";

/// One tensor as the header declares it, checked.
#[derive(Debug, PartialEq)]
pub(super) struct Entry {
    pub name: String,
    pub dtype: Dtype,
    /// The dtype's name, if it is unknown.
    pub other: Option<String>,
    pub shape: Vec<usize>,
    /// Byte range of its elements in the file.
    pub range: Range<usize>,
}

/// A checked header. Entries are in the order of their bytes and cover the file without gaps.
#[derive(Debug)]
pub(super) struct Header {
    pub entries: Vec<Entry>,
    pub metadata: BTreeMap<String, String>,
}

/// A fault in a header.
#[derive(Debug)]
pub(super) enum Fault {
    File(String),
    Entry { tensor: String, why: String },
}

impl Header {
    /// Reads and checks the header of a whole file.
    pub fn parse(file: &[u8]) -> Result<Self, Fault> {
        let Some((length, rest)) = file.split_first_chunk::<8>() else {
            return Err(Fault::File(match file.len() {
                0 => "the file is empty, expected safetensors".into(),
                n => format!("the file has {n} bytes, a safetensors header starts with 8: truncated?"),
            }));
        };
        let length = u64::from_le_bytes(*length);
        if length > MAX_HEADER {
            return Err(Fault::File(format!(
                "not a safetensors file: the first 8 bytes declare a header of {length} bytes, at most {MAX_HEADER} is sane"
            )));
        }
        // MAX_HEADER fits usize on every target.
        let length = length as usize;
        if length > rest.len() {
            return Err(Fault::File(format!(
                "the header is declared to have {length} bytes, but only {} follow: truncated?",
                rest.len()
            )));
        }
        let (json, data) = rest.split_at(length);
        if json.first() != Some(&b'{') {
            return Err(Fault::File("not a safetensors file: the header does not start with '{'".into()));
        }
        let raw: RawHeader = serde_json::from_slice(json)
            .map_err(|e| Fault::File(format!("the header is not valid: {}", clip(&e.to_string()))))?;
        let entries = check(raw.tensors, 8 + length, data.len())?;
        Ok(Self { entries, metadata: raw.metadata })
    }
}

#[derive(Deserialize)]
struct RawEntry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

#[derive(Default)]
struct RawHeader {
    tensors: Vec<(String, RawEntry)>,
    metadata: BTreeMap<String, String>,
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = RawHeader;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
                let mut header = RawHeader::default();
                let mut seen = HashSet::new();
                while let Some(name) = map.next_key::<String>()? {
                    if !seen.insert(name.clone()) {
                        return Err(A::Error::custom(format!("{:?} appears twice", clip(&name))));
                    }
                    let inside = |e: A::Error| A::Error::custom(format!("{:?}: {e}", clip(&name)));
                    if name == METADATA {
                        header.metadata = map.next_value().map_err(inside)?;
                    } else {
                        let entry = map.next_value().map_err(inside)?;
                        header.tensors.push((name, entry));
                    }
                }
                Ok(header)
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

fn check(mut tensors: Vec<(String, RawEntry)>, start: usize, data_len: usize) -> Result<Vec<Entry>, Fault> {
    tensors.sort_by_key(|(_, e)| e.data_offsets);
    let mut entries: Vec<Entry> = Vec::with_capacity(tensors.len());
    let mut cursor = 0;
    for (name, raw) in tensors {
        let (begin, end) = raw.data_offsets;
        let fault = |why: String| Fault::Entry { tensor: clip(&name), why };
        if name.len() > MAX_NAME {
            return Err(fault(format!("its name has {} bytes, at most {MAX_NAME} are allowed", name.len())));
        }
        // Tensors PI0 does not need may have a newer dtype: openers check the tensors they use.
        let dtype = Dtype::from_name(&raw.dtype).unwrap_or(Dtype::Other);
        if dtype == Dtype::Other && raw.dtype.len() > MAX_DTYPE {
            let dtype = clip(&raw.dtype);
            return Err(fault(format!("its dtype {dtype:?} is longer than {MAX_DTYPE} bytes")));
        }
        let other = (dtype == Dtype::Other).then_some(raw.dtype);
        if raw.shape.len() > MAX_DIMENSIONS {
            return Err(fault(format!(
                "{} dimensions, at most {MAX_DIMENSIONS} are allowed",
                raw.shape.len()
            )));
        }
        if end < begin {
            return Err(fault(format!("data_offsets [{begin}, {end}] end before they begin")));
        }
        // A zero dimension must not hide an overflow of the others: sizes are multiplied later on.
        let elements = raw.shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d.max(1)));
        let Some(full) = elements.and_then(|n| n.checked_mul(dtype.size() as u64)) else {
            return Err(fault(format!("shape {:?} of {dtype} is larger than 2^64 bytes", raw.shape)));
        };
        let bytes = if raw.shape.contains(&0) { 0 } else { full };
        if dtype != Dtype::Other && bytes != end - begin {
            return Err(fault(format!(
                "shape {:?} of {dtype} takes {bytes} bytes, but data_offsets [{begin}, {end}] hold {}",
                raw.shape,
                end - begin
            )));
        }
        if end > data_len as u64 {
            return Err(fault(format!(
                "data_offsets [{begin}, {end}] lie beyond the {data_len} bytes of data the file holds: truncated?"
            )));
        }
        if begin != cursor {
            let previous = entries.last().map_or("the header".into(), |e| format!("{:?}", clip(&e.name)));
            let how = if begin < cursor { "overlap" } else { "gap" };
            return Err(fault(format!(
                "starts at byte {begin}, but {previous} ends at byte {cursor}: {how}"
            )));
        }
        cursor = end;
        // In range of the file, and so of usize.
        let range = start + begin as usize..start + end as usize;
        let shape = raw.shape.iter().map(|&d| d as usize).collect();
        entries.push(Entry { name, dtype, other, shape, range });
    }
    if cursor != data_len as u64 {
        return Err(Fault::File(format!(
            "the tensors end at byte {cursor} of the data, but the file holds {data_len} bytes of data"
        )));
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(json: &str, data: usize) -> Vec<u8> {
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(json.as_bytes());
        bytes.resize(bytes.len() + data, 7);
        bytes
    }

    const VALID: &str = r#"{"b":{"dtype":"BF16","shape":[2,3],"data_offsets":[8,20]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"__metadata__":{"format":"pt"},"n":{"dtype":"I64","shape":[0,4],"data_offsets":[20,20]},"s":{"dtype":"U8","shape":[],"data_offsets":[20,21]}}  "#;

    #[test]
    fn entries_come_in_the_order_of_their_bytes() {
        let header = Header::parse(&file(VALID, 21)).unwrap();
        let names: Vec<_> = header.entries.iter().map(|e| e.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "n", "s"]);
        assert_eq!(header.entries[1].range, 8 + VALID.len() + 8..8 + VALID.len() + 20);
        assert_eq!(header.metadata["format"], "pt");
    }

    /// A `Tensor` can be made from every entry of a valid header.
    fn holds(bytes: &[u8]) {
        if let Ok(header) = Header::parse(bytes) {
            let mut cursor = None;
            for e in &header.entries {
                let bytes = e.shape.iter().product::<usize>() * e.dtype.size();
                assert!(bytes == e.range.len() || e.dtype == Dtype::Other);
                assert!(cursor.is_none_or(|c| c == e.range.start));
                cursor = Some(e.range.end);
            }
            assert!(cursor.is_none_or(|c| c == bytes.len()));
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            holds(&bytes);
        }

        #[test]
        fn random_json_never_panics(json in "\\{(\"[ab]\":\\{\"dtype\":\"(F32|U8|F4)\",\"shape\":\\[([0-9]{1,20}(,[0-9]{1,20})?)?\\],\"data_offsets\":\\[[0-9]{1,20},[0-9]{1,2}\\]\\},?){0,3}\\}", data in 0usize..64) {
            holds(&file(&json, data));
        }

        #[test]
        fn mutated_files_never_panic(
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = file(VALID, 21);
            for (at, value) in &changes {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
            holds(&bytes);
            bytes.truncate(cut.index(bytes.len()));
            holds(&bytes);
        }

        #[test]
        fn mutated_digits_never_panic(changes in proptest::collection::vec((any::<prop::sample::Index>(), b'0'..=b'9'), 1..4)) {
            let digits: Vec<usize> = VALID.bytes().enumerate().filter(|(_, b)| b.is_ascii_digit()).map(|(i, _)| i).collect();
            let mut bytes = file(VALID, 21);
            for (at, value) in &changes {
                bytes[8 + digits[at.index(digits.len())]] = *value;
            }
            holds(&bytes);
        }
    }
}
