//! Identifies files and directories that were mistaken for a checkpoint.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::layout::{INDEX, MODEL};

/// lerobot's directory for the policy of a training step.
const PRETRAINED: &str = "pretrained_model";
/// Files of orbax and its key-value store, which make up JAX checkpoints.
const ORBAX: [&str; 4] = ["_METADATA", "_CHECKPOINT_METADATA", "manifest.ocdbt", "ocdbt.process_0"];
/// Description of a JAX checkpoint.
const JAX: &str =
    "a JAX checkpoint (orbax): convert it with openpi's examples/convert_jax_model_to_pytorch.py";
/// Extensions of unfinished downloads.
const UNFINISHED: [&str; 4] = [".incomplete", ".part", ".crdownload", ".aria2"];
/// Directories with more entries than this are not searched.
const MOST_ENTRIES: usize = 4096;

/// Describes the file at `path` by its first bytes; `None` if they are not recognized.
pub(crate) fn file(path: &Path) -> Option<&'static str> {
    let mut start = [0; 512];
    let mut file = fs::File::open(path).ok()?;
    let mut len = 0;
    while let Ok(more) = file.read(&mut start[len..]) {
        len += more;
        if more == 0 || len == start.len() {
            break;
        }
    }
    bytes(&start[..len])
}

/// Describes a file that starts with these bytes.
pub(super) fn bytes(start: &[u8]) -> Option<&'static str> {
    // `ustar` stands at the end of the first member's header.
    if start.get(257..262) == Some(b"ustar") {
        return Some("a tar archive: unpack it");
    }
    // Protocols 2 to 5; with zeros behind, the two bytes are the length of a safetensors header.
    if let [0x80, 2..=5, rest @ ..] = start
        && rest.iter().take(6).any(|&b| b != 0)
    {
        return Some("a Python pickle: save it as safetensors");
    }
    let text = start.trim_ascii_start();
    let tag = |tag: &str| text.get(..tag.len()).is_some_and(|s| s.eq_ignore_ascii_case(tag.as_bytes()));
    let signatures: [(&[u8], &str); 10] = [
        (
            b"version https://git-lfs.github.com/spec/",
            "a Git LFS pointer, not the file itself: run git lfs pull",
        ),
        (
            b"version https://hawser.github.com/spec/",
            "a Git LFS pointer, not the file itself: run git lfs pull",
        ),
        (b"/annex/objects/", "a git-annex pointer, not the file itself: run git annex get"),
        (b"../.git/annex/objects/", "a git-annex pointer, not the file itself: run git annex get"),
        (
            b"# xet version",
            "a Xet pointer, not the file itself: run git xet pull, or download with the hf command",
        ),
        (b"PK\x03\x04", "a zip archive, as PyTorch's .bin, .pt and .ckpt files are: save it as safetensors"),
        (b"\x1f\x8b", "compressed with gzip: unpack it"),
        (b"\x28\xb5\x2f\xfd", "compressed with zstd: unpack it"),
        (b"GGUF", "a GGUF file, llama.cpp's format: take the checkpoint it was made from"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file: save it as safetensors"),
    ];
    if let Some((_, what)) = signatures.iter().find(|(signature, _)| start.starts_with(signature)) {
        return Some(what);
    }
    if tag("<!doctype html") || tag("<html") {
        return Some("a web page that was saved instead of the file: download it again");
    }
    if tag("<?xml") || tag("<error>") {
        return Some("an answer in XML that was saved instead of the file: download it again");
    }
    None
}

/// Explains why `path` can't be opened: it is a dangling link, or its parent path breaks off.
pub(super) fn dangling(path: &Path) -> Option<String> {
    let link = path.ancestors().find(|p| p.is_symlink() && !p.exists())?;
    let target = fs::read_link(link).ok()?;
    let blob = target.components().any(|part| part.as_os_str() == "blobs");
    let remedy = match blob {
        true => {
            "the cache it points into was cleaned or copied without its blobs: download it again, or copy with cp -rL"
        }
        false => "copy what it points to as well (cp -rL)",
    };
    Some(format!("{} is a link to {}, which is not there: {remedy}", link.display(), target.display()))
}

/// Describes a directory without `model.safetensors`: where the checkpoint lies instead, or what this
/// directory holds.
pub(super) fn directory(dir: &Path) -> Option<String> {
    if let Some(found) = below(dir) {
        let inside = found.strip_prefix(dir).unwrap_or(&found).display();
        return Some(format!("the checkpoint is in {inside}: give {}", found.display()));
    }
    if is_jax(dir) {
        return Some(format!("this is {JAX}"));
    }
    if let Some(folder) = jax_below(dir, 2) {
        return Some(format!("{} is {JAX}", folder.display()));
    }
    let downloads = dir.join(".cache/huggingface/download");
    if let Some(part) =
        names(&downloads).and_then(|names| names.into_iter().find(|n| n.ends_with(UNFINISHED[0])))
    {
        return Some(format!("{} is a download that was not finished", downloads.join(part).display()));
    }
    let names = names(dir)?;
    let with = |ending: &str| names.iter().find(|name| name.ends_with(ending));
    if names.is_empty() {
        return Some("the directory is empty".into());
    }
    if let Some(shard) = names.iter().find(|name| is_shard(name)) {
        return Some(format!(
            "{shard} is one of several shards, but {INDEX}, which lists them, is not there"
        ));
    }
    if let Some(other) = with(".safetensors").filter(|name| !name.contains("processor")) {
        return Some(format!("{other} lies here: if it has the model's weights, name it {MODEL}"));
    }
    if let Some(pickle) = [".bin", ".pt", ".pth", ".ckpt", ".pkl"].into_iter().find_map(with) {
        return Some(format!("{pickle} is a Python pickle: save the model as safetensors"));
    }
    if names.iter().any(|name| name.starts_with("pytorch_model_fsdp") || name.ends_with(".distcp")) {
        return Some(
            "the weights are a sharded PyTorch checkpoint: convert it with lerobot-convert-dcp".into(),
        );
    }
    if let Some(other) = [".gguf", ".onnx", ".h5", ".npz", ".msgpack"].into_iter().find_map(with) {
        return Some(format!("{other} is of another format: save the model as safetensors"));
    }
    if let Some(part) = UNFINISHED.into_iter().find_map(with) {
        return Some(format!("{part} is a download that was not finished"));
    }
    names
        .iter()
        .any(|name| name == "training_state")
        .then(|| format!("it has a training_state, but no {PRETRAINED} beside it, which holds the weights"))
}

/// The checkpoint below a directory of a training run, of its steps, or of a download cache; the last of
/// several.
fn below(dir: &Path) -> Option<PathBuf> {
    let here = |dir: PathBuf| is_checkpoint(&dir).then_some(dir);
    let step = |dir: &Path| here(dir.join(PRETRAINED)).or_else(|| here(dir.to_path_buf()));
    let last = |dir: &Path| {
        let named = step(&dir.join("last"));
        named.or_else(|| {
            folders(dir).iter().rev().filter(|folder| number(folder).is_some()).find_map(|f| step(f))
        })
    };
    let snapshot = || {
        let reference = fs::read_to_string(dir.join("refs/main")).unwrap_or_default();
        let of = |name: &str| here(dir.join("snapshots").join(name));
        let main = Some(reference.trim()).filter(|name| !name.is_empty()).and_then(of);
        main.or_else(|| folders(&dir.join("snapshots")).into_iter().find_map(here))
    };
    here(dir.join(PRETRAINED))
        .or_else(|| last(&dir.join("checkpoints")))
        .or_else(|| last(dir))
        .or_else(snapshot)
        .or_else(|| {
            let mut found = folders(dir).into_iter().filter_map(here);
            found.next().filter(|_| found.next().is_none())
        })
}

fn is_checkpoint(dir: &Path) -> bool {
    [MODEL, INDEX].iter().any(|name| fs::symlink_metadata(dir.join(name)).is_ok())
}

fn is_jax(dir: &Path) -> bool {
    let orbax = |dir: &Path| ORBAX.iter().any(|name| dir.join(name).exists());
    orbax(dir) || orbax(&dir.join("params"))
}

/// The JAX checkpoint at most `levels` levels below `dir`; the last of several.
fn jax_below(dir: &Path, levels: usize) -> Option<PathBuf> {
    let folders = folders(dir);
    let here = folders.iter().rev().find(|folder| is_jax(folder)).cloned();
    here.or_else(|| folders.iter().rev().filter(|_| levels > 1).find_map(|f| jax_below(f, levels - 1)))
}

/// The training step in a directory's name.
fn number(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.parse().ok()
}

/// True for names such as `model-00001-of-00004.safetensors`.
fn is_shard(name: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let stem = name.strip_suffix(".safetensors").and_then(|stem| stem.rsplit_once("-of-"));
    stem.is_some_and(|(before, of)| digits(of) && before.rsplit_once('-').is_some_and(|(_, n)| digits(n)))
}

/// The directories in `dir`; those named by a number come last, in numeric order.
fn folders(dir: &Path) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(dir).into_iter().flatten().flatten().take(MOST_ENTRIES).map(|entry| entry.path());
    let mut folders: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    folders.sort_by_cached_key(|folder| (number(folder), folder.clone()));
    folders
}

/// The names in `dir` without hidden ones; `None` if it can't be read.
fn names(dir: &Path) -> Option<Vec<String>> {
    let entries = fs::read_dir(dir).ok()?.flatten().take(MOST_ENTRIES);
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| !name.starts_with('.')).collect();
    names.sort();
    Some(names)
}
