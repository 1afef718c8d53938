//! Files named in the documents exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The documents of the repository, relative to its root.
fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["", "docs", "ttnn-bridge", "tests/golden"];
    let mut documents = Vec::new();
    for entry in folders.iter().flat_map(|folder| fs::read_dir(root.join(folder)).unwrap()) {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "md") {
            documents.push(path);
        }
    }
    assert!(documents.len() > 10);
    documents
}

/// Targets of links within the repository: `](TARGET)`, without the fragment after `#`.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target.split('#').next().unwrap_or(target))
        .filter(|target| !target.is_empty() && !target.contains("://"))
}

/// Source files and folders in code spans, as paths from the root of the repository.
fn sources(text: &str) -> impl Iterator<Item = &str> {
    let folders = ["src/", "tests/", "packaging/", "examples/", "benches/", "fuzz/", "include/"];
    let is_path =
        |word: &str| word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/_.-".contains(&byte));
    text.split('`')
        .skip(1)
        .step_by(2)
        .filter(move |word| folders.iter().any(|folder| word.starts_with(folder)) && is_path(word))
}

#[test]
fn documents_name_files_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut missing = BTreeSet::new();
    for document in documents() {
        // A changelog may name files of the past.
        if document.ends_with("CHANGELOG.md") {
            continue;
        }
        let text = fs::read_to_string(&document).unwrap();
        let folder = document.parent().unwrap();
        // The other documents also name other projects' sources.
        let of_ours = ["README.md", "CONTRIBUTING.md", "docs/architecture.md", "docs/testing.md"];
        let is_ours = of_ours.iter().any(|name| document == root.join(name));
        let sources = sources(&text).filter(|_| is_ours).map(|path| root.join(path));
        let named = links(&text).map(|link| folder.join(link)).chain(sources);
        missing.extend(named.filter(|path| !path.exists()).map(|path| (document.clone(), path)));
    }
    assert!(missing.is_empty(), "{missing:#?}");
}
