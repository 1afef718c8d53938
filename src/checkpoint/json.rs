//! A checkpoint's JSON files, read key by key so that errors name the key.

use std::path::{Component, Path, PathBuf};

use serde_json::{Map, Value};

use super::error::{CheckpointError, clip};
use super::recognize;

/// Largest accepted file: a larger one is not configuration. (A tokenizer's 30 MB are not read here.)
const MAX_JSON: u64 = 64 << 20;

/// A JSON object with the file and the keys that led to it.
#[derive(Clone, Debug)]
pub(super) struct Object {
    path: PathBuf,
    at: String,
    map: Map<String, Value>,
}

/// The text of a JSON file; `None` if there is no such file.
pub(super) fn read_text(path: &Path) -> Result<Option<String>, CheckpointError> {
    let found = match std::fs::metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && !path.is_symlink() => return Ok(None),
        found => found.map_err(|e| CheckpointError::open(path, e))?,
    };
    if !found.is_file() {
        return Err(CheckpointError::file(path, "not a file, expected JSON"));
    }
    if found.len() > MAX_JSON {
        return Err(CheckpointError::file(
            path,
            format!("{} bytes of JSON, at most {MAX_JSON} are read", found.len()),
        ));
    }
    let bytes = std::fs::read(path).map_err(|e| CheckpointError::io(path, "read", e))?;
    if let Some(what) = recognize::bytes(&bytes) {
        return Err(CheckpointError::file(path, format!("not JSON but {what}")));
    }
    if bytes.is_empty() {
        return Err(CheckpointError::file(path, "the file is empty, expected JSON"));
    }
    String::from_utf8(bytes).map(Some).map_err(|_| CheckpointError::file(path, "not JSON: not text in UTF-8"))
}

/// True if `name` is a plain file name, which can't lead out of its directory.
pub(super) fn is_plain(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None))
}

/// True if `name` is a relative path that stays below its directory.
pub(super) fn is_below(name: &str) -> bool {
    let mut parts = Path::new(name).components().peekable();
    parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
}

impl Object {
    /// Reads a file that holds an object; `None` if there is no such file.
    pub fn read(path: &Path) -> Result<Option<Self>, CheckpointError> {
        read_text(path)?.map(|text| Self::parse(path, &text)).transpose()
    }

    pub fn parse(path: &Path, text: &str) -> Result<Self, CheckpointError> {
        let not = |why: String| CheckpointError::file(path, why);
        match serde_json::from_str(text) {
            Ok(Value::Object(map)) => Ok(Self { path: path.to_path_buf(), at: String::new(), map }),
            Ok(other) => Err(not(format!("expected a JSON object, got {}", kind(&other)))),
            Err(e) => Err(not(format!("not valid JSON: {}", clip(&e.to_string())))),
        }
    }

    /// Wraps an object that was read elsewhere: from `path`, with the key path `at`, which ends with a dot.
    pub fn new(path: &Path, at: &str, map: Map<String, Value>) -> Self {
        Self { path: path.to_path_buf(), at: at.to_owned(), map }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.map.keys().map(String::as_str)
    }

    pub fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// The error that `key` does not hold `expected`.
    pub fn wrong(&self, key: &str, expected: &str) -> CheckpointError {
        let got = self.shown(key);
        CheckpointError::file(&self.path, format!("{}{key}: expected {expected}, got {got}", self.at))
    }

    /// The error that the value of `key` is not supported.
    pub fn unsupported(&self, key: &str, why: &str) -> CheckpointError {
        let what = format!("{}{key} {}", self.at, self.shown(key));
        CheckpointError::Unsupported { path: self.path.clone(), what, why: why.into() }
    }

    /// The value of `key` in short form, for messages.
    pub fn shown(&self, key: &str) -> String {
        self.map.get(key).map_or("nothing".into(), kind)
    }

    /// True if the value of `key` is null, false or empty, and so leaves a default in place.
    pub fn is_nothing(&self, key: &str) -> bool {
        match self.map.get(key) {
            None | Some(Value::Null | Value::Bool(false)) => true,
            Some(Value::Array(list)) => list.is_empty(),
            Some(Value::Object(map)) => map.is_empty(),
            Some(Value::String(text)) => text.is_empty(),
            Some(Value::Bool(true) | Value::Number(_)) => false,
        }
    }

    /// Applies `convert` to the value of `key`; `None` if the key is absent or null.
    fn get<T>(
        &self,
        key: &str,
        expected: &str,
        convert: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>, CheckpointError> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => convert(value).map(Some).ok_or_else(|| self.wrong(key, expected)),
        }
    }

    pub fn size(&self, key: &str) -> Result<Option<usize>, CheckpointError> {
        self.get(key, "a whole number", whole)
    }

    pub fn number(&self, key: &str) -> Result<Option<f64>, CheckpointError> {
        self.get(key, "a number", Value::as_f64)
    }

    pub fn flag(&self, key: &str) -> Result<Option<bool>, CheckpointError> {
        self.get(key, "true or false", Value::as_bool)
    }

    pub fn text(&self, key: &str) -> Result<Option<String>, CheckpointError> {
        self.get(key, "a string", |v| v.as_str().map(String::from))
    }

    pub fn texts(&self, key: &str) -> Result<Option<Vec<String>>, CheckpointError> {
        self.get(key, "a list of strings", |v| {
            v.as_array()?.iter().map(|v| v.as_str().map(String::from)).collect()
        })
    }

    pub fn sizes(&self, key: &str) -> Result<Option<Vec<usize>>, CheckpointError> {
        self.get(key, "a list of whole numbers", |v| v.as_array()?.iter().map(whole).collect())
    }

    pub fn numbers(&self, key: &str) -> Result<Option<Vec<f64>>, CheckpointError> {
        self.get(key, "a list of numbers", |v| v.as_array()?.iter().map(Value::as_f64).collect())
    }

    pub fn object(&self, key: &str) -> Result<Option<Self>, CheckpointError> {
        self.get(key, "an object", |v| v.as_object().map(|map| self.inner(key, map)))
    }

    /// The object under `key`; an empty one if absent.
    pub fn object_or_empty(&self, key: &str) -> Result<Self, CheckpointError> {
        Ok(self.object(key)?.unwrap_or_else(|| self.inner(key, &Map::new())))
    }

    pub fn objects(&self, key: &str) -> Result<Option<Vec<Self>>, CheckpointError> {
        self.get(key, "a list of objects", |v| {
            let inner =
                |(i, v): (usize, &Value)| v.as_object().map(|m| self.inner(&format!("{key}[{i}]"), m));
            v.as_array()?.iter().enumerate().map(inner).collect()
        })
    }

    fn inner(&self, key: &str, map: &Map<String, Value>) -> Self {
        Self { path: self.path.clone(), at: format!("{}{key}.", self.at), map: map.clone() }
    }
}

fn whole(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|n| usize::try_from(n).ok())
}

fn kind(value: &Value) -> String {
    match value {
        Value::Object(_) => "an object".into(),
        Value::Array(_) => "a list".into(),
        other => clip(&other.to_string()),
    }
}
