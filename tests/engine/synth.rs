//! Synthetic checkpoints are identical to those of the program that generated the golden ones.

use std::fs;

use crate::checkpoints;
use crate::checkpoints::{Model, TempDir, golden, messages, synth_bf16};
use pi0rt::checkpoint::synth::{Synth, preset};
use pi0rt::checkpoint::{Checkpoint, CheckpointError, Dtype};

#[test]
fn the_golden_checkpoint_is_made_again_byte_for_byte() {
    let dir = TempDir::new();
    let tiny = Synth { arch: preset("tiny").unwrap(), seed: 1, dtype: Dtype::F32, force: false };
    tiny.write_with_rate(&dir, Some(50.0), &|_| ()).unwrap();
    checkpoints::assert_same_files(&dir, &golden(), 8);
}

#[test]
fn every_preset_and_size_opens() {
    let dir = TempDir::new();
    let sizes = [
        ("depth", 11),
        ("vision_layers", 1),
        ("state_dim", 7),
        ("chunk_size", 16),
        ("vocab_size", 700),
        ("kv_heads", 2),
    ];
    synth_bf16("small", &sizes, &dir);
    let c = Checkpoint::open(&dir).unwrap();
    let mut arch = preset("small").unwrap();
    sizes.iter().for_each(|(field, value)| assert!(arch.set(field, *value)));
    assert_eq!(*c.arch(), arch);
    assert!(c.tensors().all(|t| t.dtype() == Dtype::Bf16));
    assert_eq!(c.processing().state.as_ref().unwrap().width(), 7);
    let names: Vec<_> = c.tensors().map(|t| t.name()).collect();
    assert!(names.is_sorted(), "files are in the order of names");
}

#[test]
fn the_seed_changes_weights_and_statistics() {
    let dir = TempDir::new();
    Synth { arch: preset("tiny").unwrap(), seed: u64::MAX, dtype: Dtype::F32, force: false }
        .write(&dir, &|_| ())
        .unwrap();
    let (one, other) = (Checkpoint::open(&golden()).unwrap(), Checkpoint::open(&dir).unwrap());
    assert_eq!(one.arch(), other.arch());
    for tensor in one.tensors() {
        assert_ne!(tensor.bytes(), other.tensor(tensor.name()).unwrap().bytes(), "{}", tensor.name());
    }
    assert_ne!(one.processing().state, other.processing().state);
}

#[test]
fn sizes_that_can_not_be_are_refused() {
    for (field, value, says) in [
        ("vocab_size", 511, &["vocab_size is 511", "512"][..]),
        ("depth", 0, &["depth is 0"]),
        ("image_size", 57, &["image_size is 57", "patch_size 14"]),
        ("vision_heads", 5, &["vision_width is 72", "vision_heads 5"]),
        ("kv_heads", 3, &["heads is 8", "kv_heads 3"]),
        ("head_dim", 31, &["head_dim is 31", "multiple of 2"]),
        ("state_dim", 33, &["state_dim is 33", "max_state_dim is 32"]),
        ("width", usize::MAX, &["width is 18446744073709551615"]),
    ] {
        let mut arch = preset("tiny").unwrap();
        assert!(arch.set(field, value));
        let parent = TempDir::new();
        let synth = Synth { arch, seed: 1, dtype: Dtype::F32, force: false };
        messages(&synth.write(&parent.join("out"), &|_| ()).unwrap_err().to_string(), says);
        assert_eq!(fs::read_dir(&*parent).unwrap().count(), 0);
    }
}

#[test]
fn nothing_is_overwritten_unasked() {
    let dir = TempDir::new();
    let mut wanted = Synth { arch: preset("tiny").unwrap(), seed: 2, dtype: Dtype::F32, force: false };
    fs::write(dir.join("mine"), "x").unwrap();
    match wanted.write(&dir, &|_| ()) {
        Err(CheckpointError::Exists { path, .. }) => assert_eq!(path, *dir),
        other => panic!("{other:?}"),
    }
    assert_eq!(fs::read_dir(&*dir).unwrap().count(), 1);
    wanted.force = true;
    wanted.write(&dir, &|_| ()).unwrap();
    assert_eq!(fs::read(dir.join("mine")).unwrap(), b"x");
    let before = Model::read(&dir);
    wanted.seed = 3;
    wanted.write(&dir, &|_| ()).unwrap();
    assert_ne!(Model::read(&dir).tensors[0].bytes, before.tensors[0].bytes);
}

#[test]
fn a_full_disk_is_found_out_before_anything_is_touched() {
    let dir = TempDir::new();
    let mut synth = Synth { arch: preset("tiny").unwrap(), seed: 1, dtype: Dtype::F32, force: true };
    synth.write(&dir, &|_| ()).unwrap();
    let files = || {
        let mut files: Vec<_> = fs::read_dir(&*dir).unwrap().map(|e| e.unwrap().path()).collect();
        files.sort();
        files.into_iter().map(|path| (fs::read(&path).unwrap(), path)).collect::<Vec<_>>()
    };
    let before = files();
    for (sizes, says) in [
        // 4 PB: more than the disk has.
        (&[("width", 1 << 24), ("mlp", 1 << 24), ("depth", 1)][..], &["bytes, but the disk has"][..]),
        (
            &[("width", 1 << 24), ("head_dim", 1 << 24), ("heads", 1024), ("depth", 1024)],
            &["_proj.weight", "longer than a file can be"],
        ),
    ] {
        synth.arch = preset("full").unwrap();
        sizes.iter().for_each(|(field, value)| assert!(synth.arch.set(field, *value)));
        messages(&synth.write(&dir, &|_| ()).unwrap_err().to_string(), says);
        assert!(files() == before, "{sizes:?}");
        let parent = TempDir::new();
        messages(&synth.write(&parent.join("new/out"), &|_| ()).unwrap_err().to_string(), says);
        assert_eq!(fs::read_dir(&*parent).unwrap().count(), 0);
    }
}
