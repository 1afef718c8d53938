//! Modifiable checkpoints: a naive safetensors reader and writer, and temporary directories.
#![allow(dead_code)]

use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use pi0rt::checkpoint::Dtype;
use pi0rt::checkpoint::synth::{Synth, preset};
use serde_json::{Value, json};

pub fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// A directory that is removed with its contents when it goes out of scope.
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("pi0rt-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        fs::create_dir(&dir).unwrap();
        Self(dir)
    }
}

impl Deref for TempDir {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub struct Stored {
    pub name: String,
    pub dtype: String,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

#[derive(Default)]
pub struct Model {
    pub tensors: Vec<Stored>,
}

impl Model {
    pub fn read(dir: &Path) -> Self {
        Self::read_file(&dir.join("model.safetensors"))
    }

    pub fn read_file(path: &Path) -> Self {
        let file = fs::read(path).unwrap();
        let (length, rest) = file.split_first_chunk().unwrap();
        let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
        let header: serde_json::Map<String, Value> = serde_json::from_slice(header).unwrap();
        let number = |v: &Value| v.as_u64().unwrap() as usize;
        let tensors = header.into_iter().filter(|(name, _)| name != "__metadata__").map(|(name, e)| Stored {
            name,
            dtype: e["dtype"].as_str().unwrap().into(),
            shape: e["shape"].as_array().unwrap().iter().map(number).collect(),
            bytes: data[number(&e["data_offsets"][0])..number(&e["data_offsets"][1])].to_vec(),
        });
        Self { tensors: tensors.collect() }
    }

    pub fn write(&self, dir: &Path) {
        self.write_file(&dir.join("model.safetensors"));
    }

    pub fn write_file(&self, path: &Path) {
        let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
        for t in &self.tensors {
            let offsets = [data.len(), data.len() + t.bytes.len()];
            header
                .insert(t.name.clone(), json!({"dtype": t.dtype, "shape": t.shape, "data_offsets": offsets}));
            data.extend_from_slice(&t.bytes);
        }
        let header = Value::from(header).to_string();
        let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat();
        // The old file may be mapped: replace it, don't rewrite it.
        let _ = fs::remove_file(path);
        fs::write(path, file).unwrap();
    }

    pub fn push(&mut self, name: &str, dtype: &str, shape: &[usize], bytes: Vec<u8>) {
        self.tensors.push(Stored { name: name.into(), dtype: dtype.into(), shape: shape.to_vec(), bytes });
    }

    pub fn get(&mut self, name: &str) -> &mut Stored {
        self.tensors.iter_mut().find(|t| t.name == name).unwrap()
    }
}

pub fn edit_json(path: &Path, edit: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    edit(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

/// A modifiable copy of the golden checkpoint without its golden files.
pub fn lerobot() -> TempDir {
    copy_of(&golden())
}

/// A modifiable copy of a checkpoint without golden files.
pub fn copy_of(checkpoint: &Path) -> TempDir {
    let dir = TempDir::new();
    for entry in fs::read_dir(checkpoint).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        if !name.as_encoded_bytes().starts_with(b"golden_") {
            fs::copy(&path, dir.join(name)).unwrap();
        }
    }
    dir
}

/// Checks that a directory has the same files as another one, and how many.
#[track_caller]
pub fn assert_same_files(made: &Path, of: &Path, count: usize) {
    let mut files = 0;
    for entry in fs::read_dir(made).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(fs::read(made.join(&name)).unwrap() == fs::read(of.join(&name)).unwrap(), "{name:?}");
        files += 1;
    }
    assert_eq!(files, count);
}

/// The golden weights in openpi's layout: no `model.`, no `embed_tokens`.
pub fn openpi() -> TempDir {
    let dir = TempDir::new();
    let mut model = Model::read(&golden());
    model.tensors.retain(|t| !t.name.ends_with("embed_tokens.weight"));
    model.tensors.iter_mut().for_each(|t| t.name = t.name.strip_prefix("model.").unwrap().into());
    model.write(&dir);
    let feature = |width: usize| {
        let values = |value: fn(usize) -> f32| (0..width).map(value).collect::<Vec<f32>>();
        json!({
            "mean": values(|i| i as f32 - 5.5), "std": values(|i| 1.0 + i as f32),
            "q01": values(|i| -(i as f32)), "q99": values(|i| i as f32),
        })
    };
    fs::create_dir_all(dir.join("assets/trossen")).unwrap();
    let stats = json!({"norm_stats": {"state": feature(14), "actions": feature(7)}});
    fs::write(dir.join("assets/trossen/norm_stats.json"), stats.to_string()).unwrap();
    fs::write(dir.join("arch.json"), r#"{"vision_heads": 4, "head_dim": 32}"#).unwrap();
    dir
}

pub fn synth(preset_name: &str, sizes: &[(&str, usize)], dir: &Path) {
    write_synth(preset_name, sizes, Dtype::F32, dir);
}

pub fn synth_bf16(preset_name: &str, sizes: &[(&str, usize)], dir: &Path) {
    write_synth(preset_name, sizes, Dtype::Bf16, dir);
}

fn write_synth(preset_name: &str, sizes: &[(&str, usize)], dtype: Dtype, dir: &Path) {
    let mut arch = preset(preset_name).unwrap();
    for (field, value) in sizes {
        assert!(arch.set(field, *value), "{field}");
    }
    Synth { arch, seed: 1, dtype, force: false }.write(dir, &|_| ()).unwrap();
}

/// Asserts that `error` contains all of `parts`.
pub fn messages(error: &str, parts: &[&str]) {
    for part in parts {
        assert!(error.contains(part), "{part:?} is not in: {error}");
    }
}
