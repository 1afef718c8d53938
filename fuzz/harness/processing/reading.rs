//! The values of a declaration, read as its origins read them, and the processing they declare.
//!
//! Written from lerobot's and openpi's sources, independently of pi0rt: it parses the values itself.

use serde_json::{Map, Value};

use super::declaration::Tensor;
use super::formula::{Formula, Norm};

/// The reason why a declaration can't be served: results would be guessed.
pub type Refuse = &'static str;

/// The declared processing.
#[derive(Debug)]
pub struct Asked {
    pub state: Feature,
    pub action: Feature,
    /// Dimensions of the actions to which the state is added.
    pub relative: Option<Vec<bool>>,
    /// True if joints and grippers are ALOHA's.
    pub aloha: bool,
    pub cameras: Vec<Camera>,
    /// Reasons for which it may be refused although valid: nothing that is changed affects the state, the
    /// actions or the images, or no origin would have read it.
    pub may_refuse: Vec<&'static str>,
}

#[derive(Debug)]
pub struct Feature {
    pub width: usize,
    pub norm: Option<Norm>,
}

#[derive(Debug)]
pub struct Camera {
    pub name: String,
    pub key: String,
    pub norm: Option<Norm>,
}

/// True if an unknown field's value could be a switch that is off.
pub fn off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) | Value::Number(_) => false,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

/// Refuses fields not in `known`, unless they are off.
pub fn only(
    map: &Map<String, Value>,
    known: &[&str],
    may_refuse: &mut Vec<&'static str>,
) -> Result<(), Refuse> {
    for (_, value) in map.iter().filter(|(key, _)| !known.contains(&key.as_str())) {
        if !off(value) {
            return Err("a field nobody knows");
        }
        may_refuse.push("a field nobody knows that is off");
    }
    Ok(())
}

/// The value of a key; `None` if it is null or absent.
pub fn get<'a>(map: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    map.get(key).filter(|value| !value.is_null())
}

pub fn text<'a>(map: &'a Map<String, Value>, key: &str) -> Result<Option<&'a str>, Refuse> {
    get(map, key).map(|value| value.as_str().ok_or("a field that is no text")).transpose()
}

pub fn texts<'a>(map: &'a Map<String, Value>, key: &str) -> Result<Option<Vec<&'a str>>, Refuse> {
    let list = |value: &'a Value| value.as_array()?.iter().map(Value::as_str).collect::<Option<Vec<_>>>();
    get(map, key).map(|value| list(value).ok_or("a field that is no list of texts")).transpose()
}

pub fn flag(map: &Map<String, Value>, key: &str) -> Result<bool, Refuse> {
    get(map, key).map_or(Ok(false), |value| value.as_bool().ok_or("a switch that is not on or off"))
}

pub fn object<'a>(map: &'a Map<String, Value>, key: &str) -> Result<Option<&'a Map<String, Value>>, Refuse> {
    get(map, key).map(|value| value.as_object().ok_or("a field that is no object")).transpose()
}

/// The names of the statistics used by a mode; `None` for `IDENTITY`.
pub fn mode(name: &str) -> Result<Option<[&'static str; 2]>, Refuse> {
    match name {
        "IDENTITY" => Ok(None),
        "MEAN_STD" => Ok(Some(["mean", "std"])),
        "MIN_MAX" => Ok(Some(["min", "max"])),
        "QUANTILES" => Ok(Some(["q01", "q99"])),
        "QUANTILE10" => Ok(Some(["q10", "q90"])),
        _ => Err("a mode nobody knows"),
    }
}

/// Reads two statistics of a feature from tensors, as f32.
pub fn norm(
    tensors: &[Tensor],
    key: &str,
    names: [&str; 2],
    formula: Formula,
    epsilon: f64,
    may_refuse: &mut Vec<&'static str>,
) -> Result<Norm, Refuse> {
    let mut values = names.map(|name| {
        let tensor = tensors.iter().find(|tensor| tensor.name == format!("{key}.{name}"));
        let tensor = tensor.ok_or("statistics that are not there")?;
        if tensor.dtype == "BOOL" || tensor.shape.iter().filter(|&&n| n != 1).count() > 1 {
            return Err("statistics of another form");
        }
        if !matches!(tensor.shape[..], [_] | [1, _] | [3, 1, 1]) {
            may_refuse.push("statistics of a form that reads as one row");
        }
        Ok(tensor.values.iter().map(|&v| f64::from(v as f32)).collect::<Vec<_>>())
    });
    let [first, second] = [std::mem::replace(&mut values[0], Ok(Vec::new()))?, values[1].clone()?];
    Ok(Norm { formula, range: names[0] != "mean", epsilon, first, second })
}

pub fn listed(names: &str, key: &str) -> bool {
    names.split_whitespace().any(|name| name == key)
}
