//! A profile's section `[motion]`.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use super::file::{At, Text};
use crate::checkpoint::contract::Dimension;
use crate::checkpoint::error::CheckpointError;
use crate::checkpoint::motion::{DimensionMotion, Interpolation, Motion, SafePose, Stitching};

/// Longest time of a stage or a seam, ms.
const MOST_MS: u32 = 600_000;

/// The section as it is written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct MotionTable {
    interpolation: Option<InterpolationName>,
    stitching: Option<StitchingName>,
    crossfade_ms: Option<u32>,
    ensemble_decay: Option<f32>,
    hold_ms: Option<u32>,
    decelerate_ms: Option<u32>,
    safe_pose: Option<SafePoseTable>,
    dimensions: BTreeMap<String, Spanned<DimensionTable>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct DimensionTable {
    interpolation: Option<InterpolationName>,
    threshold: Option<f32>,
    start_jump: Option<f32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum InterpolationName {
    Hold,
    Linear,
    Cubic,
    Switch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StitchingName {
    Replace,
    Crossfade,
    Ensemble,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "expected \"stay\" or a number for each value of an action")]
enum SafePoseTable {
    Word(Stay),
    Pose(Vec<f32>),
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Stay {
    Stay,
}

/// The section, and where each of its dimensions stands.
#[derive(Clone, Debug)]
pub(super) struct MotionSection {
    section: At<MotionTable>,
    dimensions: Vec<(String, At<DimensionTable>)>,
}

impl MotionSection {
    pub fn new(section: Spanned<MotionTable>, text: &Text<'_>) -> Self {
        let mut section = text.at(section);
        let dimensions = std::mem::take(&mut section.value.dimensions);
        let at = |(name, dimension)| (name, text.at(dimension));
        Self { section, dimensions: dimensions.into_iter().map(at).collect() }
    }

    /// This section, with missing entries taken from `base`: key by key, and what is said of one dimension as a whole.
    /// Another stitching than the base's doesn't take the base's number of it.
    pub fn over(mut self, base: Self) -> Self {
        let own = &mut self.section.value;
        let base_table = base.section.value;
        let is_stitching = own.stitching.is_none() || own.stitching == base_table.stitching;
        if is_stitching {
            own.stitching = own.stitching.or(base_table.stitching);
            own.crossfade_ms = own.crossfade_ms.or(base_table.crossfade_ms);
            own.ensemble_decay = own.ensemble_decay.or(base_table.ensemble_decay);
        }
        own.interpolation = own.interpolation.or(base_table.interpolation);
        own.hold_ms = own.hold_ms.or(base_table.hold_ms);
        own.decelerate_ms = own.decelerate_ms.or(base_table.decelerate_ms);
        own.safe_pose = own.safe_pose.take().or(base_table.safe_pose);
        // The later ones count, whether by name or by number.
        self.dimensions.splice(0..0, base.dimensions);
        self
    }

    /// The motion of actions of these dimensions.
    ///
    /// # Errors
    /// Names what is wrong or belongs to none of them.
    pub fn motion(&self, action: &[Dimension]) -> Result<Motion, CheckpointError> {
        let section = &self.section;
        let table = &section.value;
        for (key, ms) in [
            ("crossfade_ms", table.crossfade_ms),
            ("hold_ms", table.hold_ms),
            ("decelerate_ms", table.decelerate_ms),
        ] {
            if let Some(ms) = ms.filter(|ms| *ms > MOST_MS) {
                return Err(section.wrong(format!("motion.{key} is {ms}, expected at most {MOST_MS}")));
            }
        }
        if let Some(decay) = table.ensemble_decay.filter(|decay| !(decay.is_finite() && *decay >= 0.0)) {
            return Err(section.wrong(format!("motion.ensemble_decay is {decay}, expected 0 or more")));
        }
        let stitching = match (table.stitching, table.crossfade_ms, table.ensemble_decay) {
            (None, None, None) => None,
            (Some(StitchingName::Replace), None, None) => Some(Stitching::Replace),
            (Some(StitchingName::Crossfade), Some(over_ms), None) => Some(Stitching::Crossfade { over_ms }),
            (Some(StitchingName::Ensemble), None, Some(decay)) => Some(Stitching::Ensemble { decay }),
            _ => {
                let why = "motion.stitching: expected \"replace\", \"crossfade\" with crossfade_ms, or \"ensemble\" with \
                           ensemble_decay";
                return Err(section.wrong(why));
            }
        };
        let safe_pose = match &table.safe_pose {
            None => None,
            Some(SafePoseTable::Word(Stay::Stay)) => Some(SafePose::Stay),
            Some(SafePoseTable::Pose(pose)) => Some(SafePose::Pose(self.pose(pose, action)?)),
        };
        let interpolation = interpolation(table.interpolation, None).map_err(|why| section.wrong(why))?;
        Ok(Motion {
            interpolation,
            stitching,
            hold_ms: table.hold_ms,
            decelerate_ms: table.decelerate_ms,
            safe_pose,
            dimensions: self.of_dimensions(action)?,
        })
    }

    fn pose(&self, pose: &[f32], action: &[Dimension]) -> Result<Vec<f32>, CheckpointError> {
        let (got, expected) = (pose.len(), action.len());
        if got != expected {
            let why = format!("motion.safe_pose has {got} numbers, the action has {expected}");
            return Err(self.section.wrong(why));
        }
        for (value, dimension) in pose.iter().zip(action) {
            let [low, high] = dimension.limits.position.unwrap_or([f32::MIN, f32::MAX]);
            if !(low..=high).contains(value) {
                let name = &dimension.name;
                let why = format!("motion.safe_pose: {name} is {value}, expected {low} to {high}");
                return Err(self.section.wrong(why));
            }
        }
        Ok(pose.to_vec())
    }

    fn of_dimensions(&self, action: &[Dimension]) -> Result<Vec<DimensionMotion>, CheckpointError> {
        if self.dimensions.is_empty() {
            return Ok(Vec::new());
        }
        let mut motions = vec![DimensionMotion::default(); action.len()];
        for (name, table) in &self.dimensions {
            let by_name = action.iter().position(|dimension| dimension.name == *name);
            let index = by_name.or_else(|| name.parse().ok()).filter(|index| *index < action.len());
            let Some(index) = index else {
                let why = format!("motion.dimensions.{name}: the action has no such dimension");
                return Err(table.wrong(why));
            };
            let wrong = |why: String| table.wrong(format!("motion.dimensions.{name}: {why}"));
            let DimensionTable { interpolation: choice, threshold, start_jump } = table.value;
            if let Some(jump) = start_jump.filter(|jump| !(jump.is_finite() && *jump >= 0.0)) {
                return Err(wrong(format!("start_jump is {jump}, expected 0 or more")));
            }
            let interpolation = interpolation(choice, threshold).map_err(wrong)?;
            motions[index] = DimensionMotion { interpolation, start_jump };
        }
        Ok(motions)
    }
}

fn interpolation(
    name: Option<InterpolationName>,
    threshold: Option<f32>,
) -> Result<Option<Interpolation>, String> {
    match (name, threshold) {
        (None, None) => Ok(None),
        (Some(InterpolationName::Hold), None) => Ok(Some(Interpolation::Hold)),
        (Some(InterpolationName::Linear), None) => Ok(Some(Interpolation::Linear)),
        (Some(InterpolationName::Cubic), None) => Ok(Some(Interpolation::Cubic)),
        (Some(InterpolationName::Switch), Some(threshold)) if threshold.is_finite() => {
            Ok(Some(Interpolation::Switch { threshold }))
        }
        _ => Err("interpolation: expected \"hold\", \"linear\", \"cubic\" or, for one dimension, \"switch\" with a \
                  threshold"
            .into()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Profile;
    use super::*;

    fn motion(text: &str) -> Result<Motion, String> {
        merged(text, "")
    }

    /// What a profile says over a base.
    fn merged(text: &str, base: &str) -> Result<Motion, String> {
        let head = "[action]\nwidth = 2\n[[action.dimensions]]\nnames = [\"waist\", \"gripper\"]\n\
                    quantity = \"position\"\nposition = [-1, 1]\n";
        let parse =
            |text| Profile::parse("p", None, &format!("{head}{text}")).map_err(|error| error.to_string());
        let profile = parse(text)?.over(parse(base)?);
        let mut action = vec![Dimension::default(); 2];
        profile.action.describe(&mut action).unwrap();
        let motion = profile.motion.as_ref().map(|section| section.motion(&action)).transpose();
        motion.map(Option::unwrap_or_default).map_err(|error| error.to_string())
    }

    #[test]
    fn everything_may_be_said_and_nothing_has_to_be() {
        assert_eq!(motion(""), Ok(Motion::default()));
        let all = motion(
            "[motion]\ninterpolation = \"cubic\"\nstitching = \"crossfade\"\ncrossfade_ms = 80\nhold_ms = 0\n\
             decelerate_ms = 200\nsafe_pose = [0.5, 1]\n[motion.dimensions.gripper]\ninterpolation = \"switch\"\n\
             threshold = 0.5\n[motion.dimensions.0]\nstart_jump = 0.2\n",
        );
        let switch = Some(Interpolation::Switch { threshold: 0.5 });
        let expected = Motion {
            interpolation: Some(Interpolation::Cubic),
            stitching: Some(Stitching::Crossfade { over_ms: 80 }),
            hold_ms: Some(0),
            decelerate_ms: Some(200),
            safe_pose: Some(SafePose::Pose(vec![0.5, 1.0])),
            dimensions: vec![
                DimensionMotion { interpolation: None, start_jump: Some(0.2) },
                DimensionMotion { interpolation: switch, start_jump: None },
            ],
        };
        assert_eq!(all, Ok(expected));
        let stay = motion("[motion]\nsafe_pose = \"stay\"\n").unwrap();
        assert_eq!(stay, Motion { safe_pose: Some(SafePose::Stay), ..Motion::default() });
    }

    #[test]
    fn each_key_stands_over_the_base_s() {
        let base = "[motion]\ninterpolation = \"cubic\"\nstitching = \"crossfade\"\ncrossfade_ms = 80\nhold_ms = 5\n\
                    safe_pose = [0.5, 1]\n[motion.dimensions.gripper]\ninterpolation = \"switch\"\nthreshold = 0.5\n\
                    [motion.dimensions.0]\nstart_jump = 0.2\n";
        let whole = motion(base).unwrap();
        assert_eq!(merged("", base), Ok(whole.clone()));
        assert_eq!(merged("[motion]\n", base), Ok(whole.clone()));
        let hold = merged("[motion]\nhold_ms = 7\ncrossfade_ms = 60\n", base).unwrap();
        let stitching = Some(Stitching::Crossfade { over_ms: 60 });
        assert_eq!(hold, Motion { hold_ms: Some(7), stitching, ..whole.clone() });
        // Another stitching leaves the base's number behind.
        let replace = merged("[motion]\nstitching = \"replace\"\nsafe_pose = \"stay\"\n", base).unwrap();
        let (stitching, safe_pose) = (Some(Stitching::Replace), Some(SafePose::Stay));
        assert_eq!(replace, Motion { stitching, safe_pose, ..whole.clone() });
        // A dimension's table as a whole, whatever it is called.
        let gripper = merged("[motion.dimensions.1]\nstart_jump = 0.1\n", base).unwrap();
        let own = DimensionMotion { interpolation: None, start_jump: Some(0.1) };
        assert_eq!(gripper.dimensions, [whole.dimensions[0], own]);
        assert_eq!(gripper.stitching, whole.stitching);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let wrong = |text: &str, expected: &str| {
            let error = motion(text).unwrap_err();
            assert!(error.contains(expected) && error.contains("profile p:7"), "{error}");
        };
        wrong("[motion]\nsafe_pose = [1]\n", "motion.safe_pose has 1 numbers, the action has 2");
        wrong("[motion]\nsafe_pose = [0, 2]\n", "motion.safe_pose: gripper is 2, expected -1 to 1");
        wrong("[motion]\nstitching = \"crossfade\"\n", "motion.stitching: expected");
        wrong("[motion]\ncrossfade_ms = 9\n", "motion.stitching: expected");
        wrong("[motion]\nhold_ms = 600001\n", "motion.hold_ms is 600001, expected at most 600000");
        wrong("[motion]\ninterpolation = \"switch\"\n", "interpolation: expected");
        wrong("[motion.dimensions.elbow]\n", "motion.dimensions.elbow: the action has no such dimension");
        wrong("[motion.dimensions.2]\n", "motion.dimensions.2: the action has no such dimension");
        let text = "[motion.dimensions.waist]\nstart_jump = -1\n";
        wrong(text, "motion.dimensions.waist: start_jump is -1, expected 0 or more");
        assert!(motion("[motion]\nspeed = 1\n").unwrap_err().contains("unknown field `speed`"));
    }
}
