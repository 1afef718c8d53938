//! The steps of a profile, as written in its file.

use serde::Deserialize;

use crate::checkpoint::transform::{Curve, Linkage, Transform};

/// One step of `state.steps` or `action.steps`: a table with one key, its name.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Step {
    Select(Vec<Index>),
    Flip(Vec<Index>),
    Affine(Affine),
    Range(Range),
    GripperOpeningToAngle(Gripper),
    GripperAngleToOpening(Gripper),
    AddState(Vec<i64>),
    Clip(Clip),
    Threshold(Threshold),
}

/// A dimension, or a range of them: `3`, `"0..7"` (end excluded).
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged, expecting = "expected the number of a dimension, or a range such as \"0..7\"")]
pub(super) enum Index {
    One(usize),
    Range(String),
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Affine {
    dimensions: Vec<Index>,
    #[serde(default = "one")]
    scale: f64,
    #[serde(default)]
    offset: f64,
}

fn one() -> f64 {
    1.0
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Range {
    dimensions: Vec<Index>,
    from: [f64; 2],
    to: [f64; 2],
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Gripper {
    dimensions: Vec<Index>,
    linkage: Option<LinkageTable>,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct LinkageTable {
    distance: [f64; 2],
    arm: f64,
    horn: f64,
    angle: [f64; 2],
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Clip {
    dimensions: Option<Vec<Index>>,
    low: f32,
    high: f32,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Threshold {
    dimensions: Vec<Index>,
    at: f32,
    below: f32,
    above: f32,
}

impl Step {
    /// The step's name in a profile.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Select(_) => "select",
            Self::Flip(_) => "flip",
            Self::Affine(_) => "affine",
            Self::Range(_) => "range",
            Self::GripperOpeningToAngle(_) => "gripper_opening_to_angle",
            Self::GripperAngleToOpening(_) => "gripper_angle_to_opening",
            Self::AddState(_) => "add_state",
            Self::Clip(_) => "clip",
            Self::Threshold(_) => "threshold",
        }
    }

    /// True if the output's width doesn't determine the input's.
    pub fn changes_width(&self) -> bool {
        matches!(self, Self::Select(_))
    }

    /// The step for vectors of `width` numbers.
    ///
    /// # Errors
    /// If the step doesn't fit that width; the text says why.
    pub fn transform(&self, width: usize) -> Result<Transform, String> {
        let affine = |dimensions: &[Index], factor: f64, add: f64| {
            let (mut scale, mut offset) = (vec![1.0; width], vec![0.0; width]);
            // Also refuses factors too small for f32.
            if factor as f32 == 0.0 {
                return Err("scale is 0: nothing would be left of these dimensions".into());
            }
            for i in distinct(dimensions, width)? {
                (scale[i], offset[i]) = (factor as f32, add as f32);
            }
            Ok::<_, String>(Transform::Affine { scale, offset })
        };
        let curve = |gripper: &Gripper, of: fn(Linkage) -> Curve| {
            let linkage =
                gripper.linkage.map_or(Linkage::ALOHA, |LinkageTable { distance, arm, horn, angle }| {
                    Linkage { distance, arm, horn, angle }
                });
            Ok(Transform::Curve { dimensions: distinct(&gripper.dimensions, width)?, curve: of(linkage) })
        };
        match self {
            Self::Select(indices) => Ok(Transform::Select { width, indices: expand(indices, width)? }),
            Self::Flip(dimensions) => affine(dimensions, -1.0, 0.0),
            Self::Affine(Affine { dimensions, scale, offset }) => affine(dimensions, *scale, *offset),
            Self::Range(Range { dimensions, from, to }) => {
                if from[0] == from[1] || to[0] == to[1] {
                    return Err(format!("from {from:?} to {to:?}, expected two ends that differ in each"));
                }
                let scale = (to[1] - to[0]) / (from[1] - from[0]);
                affine(dimensions, scale, to[0] - from[0] * scale)
            }
            Self::GripperOpeningToAngle(gripper) => curve(gripper, Curve::OpeningToAngle),
            Self::GripperAngleToOpening(gripper) => curve(gripper, Curve::AngleToOpening),
            Self::AddState(blocks) => Ok(Transform::AddState { mask: mask(blocks, width)? }),
            Self::Clip(Clip { dimensions, low, high }) => {
                let (mut least, mut most) = (vec![f32::NEG_INFINITY; width], vec![f32::INFINITY; width]);
                let all = || Ok((0..width).collect());
                for i in dimensions.as_ref().map_or_else(all, |dimensions| distinct(dimensions, width))? {
                    (least[i], most[i]) = (*low, *high);
                }
                Ok(Transform::Clip { low: least, high: most })
            }
            Self::Threshold(Threshold { dimensions, at, below, above }) => {
                let dimensions = distinct(dimensions, width)?;
                Ok(Transform::Threshold { dimensions, at: *at, below: *below, above: *above })
            }
        }
    }
}

/// Expands ranges to indices and checks each against `width`.
fn expand(indices: &[Index], width: usize) -> Result<Vec<usize>, String> {
    let mut all = Vec::new();
    for index in indices {
        let (first, end) = match index {
            Index::One(i) => (*i, i.saturating_add(1)),
            Index::Range(text) => {
                let ends = text.split_once("..").and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
                let ends: Option<(usize, usize)> = ends.filter(|(first, end)| first < end);
                ends.ok_or_else(|| format!("{text:?} is not a range such as \"0..7\""))?
            }
        };
        if end > width {
            return Err(format!("dimension {} of a vector of {width}", end - 1));
        }
        all.extend(first..end);
    }
    if all.is_empty() {
        return Err("no dimension".into());
    }
    Ok(all)
}

/// [`expand`], refusing duplicates.
fn distinct(indices: &[Index], width: usize) -> Result<Vec<usize>, String> {
    let all = expand(indices, width)?;
    match all.iter().enumerate().find(|(n, i)| all[..*n].contains(i)) {
        Some((_, i)) => Err(format!("dimension {i} twice")),
        None => Ok(all),
    }
}

/// openpi's `make_bool_mask`: `6` stands for six times true, `-1` for one false.
fn mask(blocks: &[i64], width: usize) -> Result<Vec<bool>, String> {
    let mut mask = Vec::new();
    for &block in blocks {
        let count = usize::try_from(block.unsigned_abs()).unwrap_or(usize::MAX);
        let length = mask.len().saturating_add(count);
        if length > width {
            return Err(format!("a mask of {length} dimensions for a vector of {width}"));
        }
        mask.resize(length, block > 0);
    }
    match mask.contains(&true) {
        true => Ok(mask),
        false => Err("no dimension".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct One {
        step: Step,
    }

    fn transform(step: &str, width: usize) -> Result<Transform, String> {
        let one: One = toml::from_str(&format!("step = {step}")).map_err(|e| e.message().to_owned())?;
        one.step.transform(width)
    }

    #[test]
    fn steps_are_written_as_documented() {
        let affine = |scale: &[f32], offset: &[f32]| {
            Ok(Transform::Affine { scale: scale.to_vec(), offset: offset.to_vec() })
        };
        let select = Transform::Select { width: 4, indices: vec![3, 0, 1, 1] };
        assert_eq!(transform("{ select = [3, \"0..2\", 1] }", 4), Ok(select));
        assert_eq!(transform("{ flip = [0, 2] }", 3), affine(&[-1.0, 1.0, -1.0], &[0.0; 3]));
        let inverted = "{ affine = { dimensions = [1], scale = -1, offset = 1 } }";
        assert_eq!(transform(inverted, 2), affine(&[1.0, -1.0], &[0.0, 1.0]));
        let range = "{ range = { dimensions = [0], from = [-1, 3], to = [0, 1] } }";
        assert_eq!(transform(range, 1), affine(&[0.25], &[0.25]));
        // openpi: make_bool_mask(2, -2, 2) == (True, True, False, False, True, True), and with a 0 in it.
        let mask = Transform::AddState { mask: vec![true, true, false, false, true, true] };
        assert_eq!(transform("{ add_state = [2, -2, 2] }", 6), Ok(mask));
        assert_eq!(
            transform("{ add_state = [2, 0, 2] }", 6),
            Ok(Transform::AddState { mask: vec![true; 4] })
        );
        let inf = f32::INFINITY;
        let clip = Transform::Clip { low: vec![-inf, -1.0], high: vec![inf, 1.0] };
        assert_eq!(transform("{ clip = { dimensions = [1], low = -1, high = 1 } }", 2), Ok(clip));
        let all = Transform::Clip { low: vec![-1.0; 2], high: vec![1.0; 2] };
        assert_eq!(transform("{ clip = { low = -1, high = 1 } }", 2), Ok(all));
        let linkage = "linkage = { distance = [0.01, 0.05], arm = 0.04, horn = 0.02, angle = [0.5, 1.5] }";
        let custom = Linkage { distance: [0.01, 0.05], arm: 0.04, horn: 0.02, angle: [0.5, 1.5] };
        for (text, linkage) in [("", Linkage::ALOHA), (linkage, custom)] {
            let comma = if text.is_empty() { "" } else { "," };
            let step = format!("{{ gripper_opening_to_angle = {{ dimensions = [0]{comma} {text} }} }}");
            let curve = Curve::OpeningToAngle(linkage);
            assert_eq!(transform(&step, 1), Ok(Transform::Curve { dimensions: vec![0], curve }));
        }
    }

    #[test]
    fn what_a_step_gets_wrong_is_named() {
        for (step, says) in [
            ("{ flip = [3] }", "dimension 3 of a vector of 3"),
            ("{ flip = [\"1..4\"] }", "dimension 3 of a vector of 3"),
            ("{ flip = [1, 1] }", "dimension 1 twice"),
            ("{ flip = [] }", "no dimension"),
            ("{ select = [\"2..2\"] }", "\"2..2\" is not a range such as \"0..7\""),
            ("{ select = [\"a\"] }", "\"a\" is not a range such as \"0..7\""),
            ("{ select = [-1] }", "expected the number of a dimension, or a range such as \"0..7\""),
            ("{ add_state = [2, -2] }", "a mask of 4 dimensions for a vector of 3"),
            ("{ add_state = [-2] }", "no dimension"),
            ("{ add_state = [9223372036854775807] }", "a mask of 9223372036854775807 dimensions for"),
            ("{ affine = { dimensions = [0], scale = 0 } }", "scale is 0"),
            ("{ affine = { dimensions = [0], scale = 1e-60 } }", "scale is 0"),
            ("{ range = { dimensions = [0], from = [0, 1e60], to = [0, 1] } }", "scale is 0"),
            ("{ affine = { dimensions = [0], factor = 2 } }", "unknown field `factor`, expected"),
            ("{ range = { dimensions = [0], from = [1, 1], to = [0, 1] } }", "expected two ends that differ"),
            ("{ turn = [1] }", "unknown variant `turn`, expected one of `select`, `flip`"),
        ] {
            let error = transform(step, 3).unwrap_err();
            assert!(error.contains(says), "{step}: {error}");
        }
    }
}
