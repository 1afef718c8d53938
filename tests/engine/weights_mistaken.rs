//! Paths mistaken for a checkpoint, and the messages that identify them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::checkpoints::{Model, TempDir, lerobot, messages};
use pi0rt::checkpoint::Checkpoint;

const POINTER: &str = "version https://git-lfs.github.com/spec/v1\n\
                       oid sha256:abababababababababababababababababababababababababababababababab\nsize 14012345678\n";

#[track_caller]
fn refused(dir: &Path, says: &[&str]) {
    messages(
        &Checkpoint::open(dir).and_then(Checkpoint::check_commands).expect_err("must be refused").to_string(),
        says,
    );
}

#[test]
fn files_are_named_by_their_first_bytes() {
    let mut tar = vec![b'a'; 512];
    tar[257..262].copy_from_slice(b"ustar");
    let cases: [(&[u8], &[&str]); 12] = [
        (POINTER.as_bytes(), &["Git LFS pointer", "git lfs pull"]),
        (b"/annex/objects/SHA256E-s1--ab.safetensors\n", &["git-annex pointer", "git annex get"]),
        (b"PK\x03\x04\x14\x00\x08\x08", &["zip archive", "safetensors"]),
        (b"\x80\x02}q\x00(X\x05\x00\x00\x00state", &["Python pickle"]),
        (b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00}", &["Python pickle"]),
        (&tar, &["tar archive"]),
        (b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03", &["gzip"]),
        (b"\n<!DOCTYPE html><html><head>", &["web page"]),
        (b"<HTML><body>404", &["web page"]),
        (b"<?xml version=\"1.0\"?><Error><Code>AccessDenied", &["XML"]),
        (b"GGUF\x03\x00\x00\x00", &["GGUF"]),
        (b"", &["empty"]),
    ];
    let statistics = "policy_preprocessor_step_6_normalizer_processor.safetensors";
    for (bytes, says) in cases {
        for file in [
            "model.safetensors",
            statistics,
            "config.json",
            "policy_preprocessor.json",
            "adapter_config.json",
        ] {
            let dir = lerobot();
            fs::write(dir.join(file), bytes).unwrap();
            refused(&dir, &[&[file], says].concat());
        }
    }
}

#[test]
fn a_header_of_640_bytes_is_not_taken_for_a_pickle() {
    let dir = lerobot();
    fs::write(dir.join("model.safetensors"), b"\x80\x02\x00\x00\x00\x00\x00\x00{\"a\":").unwrap();
    refused(&dir, &["declared to have 640 bytes", "truncated?"]);
}

#[test]
fn links_that_lead_nowhere_are_named() {
    for file in ["model.safetensors", "config.json", "policy_preprocessor.json"] {
        let dir = lerobot();
        fs::remove_file(dir.join(file)).unwrap();
        symlink("../../blobs/0123abc", dir.join(file)).unwrap();
        refused(&dir, &[file, "link to ../../blobs/0123abc", "not there", "cp -rL"]);
    }
    let run = TempDir::new();
    fs::create_dir(run.join("checkpoints")).unwrap();
    symlink("020000", run.join("checkpoints/last")).unwrap();
    refused(&run.join("checkpoints/last"), &["last", "link to 020000", "not there"]);
    refused(&run.join("checkpoints/last/pretrained_model"), &["last", "link to 020000", "not there"]);
}

/// A directory with empty files of these names.
fn tree(files: &[&str]) -> TempDir {
    let dir = TempDir::new();
    for file in files {
        let path = dir.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    dir
}

#[test]
fn directories_above_a_checkpoint_say_where_it_is() {
    for (files, inside) in [
        (
            &["pretrained_model/model.safetensors", "training_state/rng_state.safetensors"][..],
            "pretrained_model",
        ),
        (
            &[
                "checkpoints/005000/pretrained_model/model.safetensors",
                "checkpoints/020000/pretrained_model/model.safetensors",
                "wandb/log",
            ],
            "checkpoints/020000/pretrained_model",
        ),
        (
            &["9000/pretrained_model/model.safetensors", "10000/pretrained_model/model.safetensors"],
            "10000/pretrained_model",
        ),
        (&["29999/model.safetensors", "5000/model.safetensors"], "29999"),
        (&["policy/model.safetensors.index.json", "logs/a"], "policy"),
        (
            &["snapshots/aa/model.safetensors", "snapshots/bb/model.safetensors", "blobs/0", "refs/other"],
            "snapshots/aa",
        ),
    ] {
        let dir = tree(files);
        refused(
            &dir,
            &["no model.safetensors", &format!("in {inside}: give {}", dir.join(inside).display())],
        );
    }
    let dir = tree(&["snapshots/aa/model.safetensors", "snapshots/bb/model.safetensors"]);
    fs::create_dir(dir.join("refs")).unwrap();
    fs::write(dir.join("refs/main"), "bb").unwrap();
    refused(&dir, &["in snapshots/bb"]);

    let dir = tree(&["checkpoints/020000/pretrained_model/model.safetensors"]);
    symlink("020000", dir.join("checkpoints/last")).unwrap();
    refused(&dir, &["in checkpoints/last/pretrained_model"]);
    refused(&dir.join("checkpoints/last"), &["in pretrained_model"]);
}

#[test]
fn weights_of_other_formats_are_named() {
    for (files, says) in [
        (
            &["params/_METADATA", "params/d/0", "assets/a/norm_stats.json"][..],
            &["JAX checkpoint", "convert_jax_model_to_pytorch"][..],
        ),
        (&["_METADATA", "manifest.ocdbt"], &["JAX checkpoint"]),
        (
            &["9999/params/_METADATA", "29999/params/manifest.ocdbt", "wandb_id.txt"],
            &["29999", "JAX checkpoint"],
        ),
        (&["exp/29999/params/_METADATA"], &["exp/29999", "JAX checkpoint"]),
        (&["pytorch_model.bin", "config.json"], &["pytorch_model.bin", "pickle"]),
        (&["model.pt"], &["model.pt", "pickle"]),
        (&["epoch=3.ckpt"], &["epoch=3.ckpt", "pickle"]),
        (&["pytorch_model_fsdp_0/__0_0.distcp", "config.json"], &["lerobot-convert-dcp"]),
        (
            &["model-00001-of-00003.safetensors"],
            &["model-00001-of-00003.safetensors", "model.safetensors.index.json"],
        ),
        (&["policy.safetensors"], &["policy.safetensors", "name it model.safetensors"]),
        (&["model.onnx"], &["model.onnx", "another format"]),
        (&["model.safetensors.incomplete"], &["not finished"]),
        (&[".cache/huggingface/download/model.safetensors.incomplete", "config.json"], &["not finished"]),
        (&["training_state/rng_state.json"], &["training_state", "pretrained_model"]),
        (&[], &["empty"]),
        (&["config.json"], &["model.safetensors", "No such file"]),
    ] {
        refused(&tree(files), says);
    }
}

#[test]
fn files_in_place_of_directories_are_named() {
    let dir = lerobot();
    let parent = dir.display().to_string();
    refused(&dir.join("model.safetensors"), &["not a directory", &parent]);
    for (name, bytes, says) in [
        ("pi0.zip", &b"PK\x03\x04\x14\x00"[..], "zip archive"),
        ("pi0.pt", b"PK\x03\x04\x00\x00", "zip archive"),
        ("pi0.tgz", b"\x1f\x8b\x08\x00", "gzip"),
        ("pi0.safetensors", POINTER.as_bytes(), "Git LFS pointer"),
        ("notes.txt", b"hello", "not a directory"),
    ] {
        fs::write(dir.join(name), bytes).unwrap();
        refused(&dir.join(name), &[name, says]);
    }
}

#[test]
fn a_truncated_blob_says_so() {
    let dir = lerobot();
    let path = dir.join("model.safetensors");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    refused(&dir, &["model.safetensors", "truncated?"]);
}

#[test]
fn a_dtype_that_came_later_is_none_of_a_weight() {
    let dir = lerobot();
    let mut model = Model::read(&dir);
    // Two values per byte: the number of bytes doesn't follow from the shape.
    model.push("more.scales", "F4", &[2, 3], vec![1; 3]);
    model.push("more.complex", "C64", &[2], vec![2; 16]);
    model.write(&dir);
    let checkpoint = Checkpoint::open(&dir).unwrap();
    let unused = checkpoint.unused();
    assert_eq!(unused.iter().find(|t| t.name() == "more.scales").unwrap().dtype_name(), "F4");

    let bias = model.get("model.state_proj.bias");
    bias.dtype = "F6_E2M3".into();
    bias.bytes.truncate(36);
    model.write(&dir);
    refused(&dir, &["\"state_proj.bias\"", "F6_E2M3", "expected F32, BF16 or F16"]);
}
