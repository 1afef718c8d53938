//! The state or action section of a profile.

use super::file::{self, At, Group, LimitsTable, Text};
use super::step::Step;
use crate::checkpoint::contract::{Dimension, Limits};
use crate::checkpoint::error::CheckpointError;
use crate::checkpoint::transform::Transform;

/// Most dimensions of a vector: far beyond any robot's, and few enough to describe each of them to clients.
const MOST: usize = 128;
/// Longest name and unit, bytes: the limit of the description sent to clients.
const MOST_NAME: usize = 63;
const MOST_UNIT: usize = 15;

/// A profile's declarations about one vector.
#[derive(Clone, Debug)]
pub(super) struct Side {
    /// `state` or `action`.
    key: &'static str,
    pub width: Option<At<usize>>,
    pub model_width: Option<At<usize>>,
    pub steps: Option<Vec<At<Step>>>,
    dimensions: Option<Vec<At<Group>>>,
    limits: Vec<(String, At<Limits>)>,
}

/// The widths of a vector as seen by the robot and by normalization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::checkpoint) struct Widths {
    pub robot: usize,
    pub model: usize,
}

impl Side {
    pub fn new(key: &'static str, side: file::Side, text: &Text<'_>) -> Self {
        let file::Side { width, model_width, steps, dimensions, limits } = side;
        let limits = limits.into_iter().map(|(name, limits)| {
            let At { value: LimitsTable { position, velocity, acceleration }, place } = text.at(limits);
            (name, At { value: Limits { position, velocity, acceleration }, place })
        });
        Self {
            key,
            width: width.map(|width| text.at(width)),
            model_width: model_width.map(|width| text.at(width)),
            steps: steps.map(|steps| steps.into_iter().map(|step| text.at(step)).collect()),
            dimensions: dimensions.map(|groups| groups.into_iter().map(|group| text.at(group)).collect()),
            limits: limits.collect(),
        }
    }

    /// This side, with missing entries taken from `base`. A declared width also replaces the dimensions of
    /// `base`.
    pub fn over(self, base: Self) -> Self {
        let describes = self.width.is_some() || self.dimensions.is_some();
        Self {
            key: self.key,
            width: if describes { self.width } else { base.width },
            dimensions: if describes { self.dimensions } else { base.dimensions },
            model_width: self.model_width.or(base.model_width),
            steps: self.steps.or(base.steps),
            limits: base.limits.into_iter().chain(self.limits).collect(),
        }
    }

    fn steps(&self) -> &[At<Step>] {
        self.steps.as_deref().unwrap_or_default()
    }

    /// Width of the robot's vector, if declared.
    pub fn robot_width(&self) -> Result<Option<usize>, CheckpointError> {
        let named =
            self.dimensions.as_ref().map(|groups| groups.iter().map(|group| group.value.names.len()).sum());
        match (&self.width, named) {
            (Some(width), Some(named)) if width.value != named => {
                let (key, value) = (self.key, width.value);
                Err(width.wrong(format!("{key}.width is {value}, but {key}.dimensions names {named}")))
            }
            (Some(width), _) => bounded(width).map(Some),
            (None, Some(named)) if named > MOST => Err(CheckpointError::Profile {
                place: self
                    .dimensions
                    .iter()
                    .flatten()
                    .next()
                    .map_or(String::new(), |group| group.place.clone()),
                why: format!("{}.dimensions names {named}, expected at most {MOST}", self.key),
            }),
            (None, named) => Ok(named),
        }
    }

    /// Number of columns used of the statistics, if declared.
    fn declared_model_width(&self) -> Result<Option<usize>, CheckpointError> {
        self.model_width.as_ref().map(bounded).transpose()
    }

    /// Widths of a state, as far as they are known; `statistics`: width of its statistics.
    pub fn state_widths(&self, statistics: Option<usize>) -> Result<Option<Widths>, CheckpointError> {
        let declared = self.declared_model_width()?;
        let robot = match self.robot_width()? {
            Some(robot) => robot,
            None => {
                match (self.steps().iter().find(|step| step.value.changes_width()), declared.or(statistics)) {
                    (Some(select), _) => {
                        return Err(
                            select.wrong("select needs state.width or state.dimensions to select from")
                        );
                    }
                    (None, None) => return Ok(None),
                    (None, Some(width)) => width,
                }
            }
        };
        let model = self.transforms(robot, 0)?.1;
        if let Some(width) = self.model_width.as_ref().filter(|width| width.value != model) {
            let value = width.value;
            return Err(
                width.wrong(format!("state.model_width is {value}, but the steps give {model} numbers"))
            );
        }
        Ok(Some(Widths { robot, model }))
    }

    /// Widths of an action, as far as they are known, beside a state of width `state`.
    pub fn action_widths(
        &self,
        statistics: Option<usize>,
        state: usize,
    ) -> Result<Option<Widths>, CheckpointError> {
        let declared = self.robot_width()?;
        let selects = self.steps().iter().any(|step| step.value.changes_width());
        let model = self.declared_model_width()?;
        let Some(model) = model.or(declared.filter(|_| !selects)).or(statistics) else { return Ok(None) };
        let robot = self.transforms(model, state)?.1;
        if let Some(declared) = declared.filter(|declared| *declared != robot) {
            let place = self.width.as_ref().map(|width| &width.place);
            let place = place.or(self.dimensions.iter().flatten().next().map(|group| &group.place));
            return Err(CheckpointError::Profile {
                place: place.cloned().unwrap_or_default(),
                why: format!("the robot's action has {declared} numbers, but the steps give {robot}"),
            });
        }
        Ok(Some(Widths { robot, model }))
    }

    /// The steps for vectors of `width` numbers beside a state of `state`, with the resulting width.
    pub fn transforms(
        &self,
        mut width: usize,
        state: usize,
    ) -> Result<(Vec<Transform>, usize), CheckpointError> {
        let mut transforms = Vec::new();
        for step in self.steps() {
            let wrong = |why: String| step.wrong(format!("{}: {why}", step.value.name()));
            let transform = step.value.transform(width).map_err(wrong)?;
            width = transform.width(width, state).map_err(wrong)?;
            transforms.push(transform);
        }
        Ok((transforms, width))
    }

    /// Overrides a checkpoint's description of each dimension. Names are never changed.
    pub fn describe(&self, dimensions: &mut [Dimension]) -> Result<(), CheckpointError> {
        let mut next = dimensions.iter_mut();
        for group in self.dimensions.iter().flatten() {
            let Group { names, quantity, unit, gripper, position, velocity, acceleration } = &group.value;
            let limits = Limits { position: *position, velocity: *velocity, acceleration: *acceleration };
            check_limits(&limits).map_err(|why| group.wrong(why))?;
            for name in names {
                let Some(dimension) = next.next() else { break };
                if !dimension.name.is_empty() && dimension.name != *name {
                    let known = &dimension.name;
                    return Err(group.wrong(format!("dimension {name:?} is {known:?} to the checkpoint")));
                }
                let (name, unit) = (name.clone(), unit.clone());
                *dimension = Dimension { name, quantity: *quantity, unit, gripper: *gripper, limits };
            }
        }
        for (name, limits) in &self.limits {
            check_limits(&limits.value).map_err(|why| limits.wrong(why))?;
            let Limits { position, velocity, acceleration } = limits.value;
            let by_name = dimensions.iter().position(|dimension| dimension.name == *name);
            let index = by_name.or_else(|| name.parse().ok()).filter(|i| *i < dimensions.len());
            let Some(index) = index else {
                let names: Vec<_> =
                    dimensions.iter().map(|d| d.name.as_str()).filter(|n| !n.is_empty()).collect();
                let expected = match &names[..] {
                    [] => format!("a number below {}", dimensions.len()),
                    names => names.join(", "),
                };
                let key = self.key;
                return Err(
                    limits.wrong(format!("{key}.limits.{name}: no such dimension, expected {expected}"))
                );
            };
            let all = &mut dimensions[index].limits;
            *all = Limits {
                position: position.or(all.position),
                velocity: velocity.or(all.velocity),
                acceleration: acceleration.or(all.acceleration),
            };
        }
        Ok(())
    }

    /// Checks everything that needs no checkpoint.
    pub fn check(&self) -> Result<(), CheckpointError> {
        let adds = |step: &&At<Step>| matches!(step.value, Step::AddState(_));
        if let Some(step) = self.steps().iter().find(adds).filter(|_| self.key == "state") {
            return Err(step.wrong("add_state: a step of actions"));
        }
        let mut seen: Vec<&str> = Vec::new();
        for group in self.dimensions.iter().flatten() {
            if group.value.names.is_empty() {
                return Err(group.wrong("names is empty"));
            }
            for name in &group.value.names {
                if name.is_empty() || name.len() > MOST_NAME || name.contains(char::is_control) {
                    return Err(group.wrong(format!("{name:?} is no name of 1 to {MOST_NAME} bytes")));
                }
                if seen.contains(&name.as_str()) {
                    return Err(group.wrong(format!("dimension {name:?} twice")));
                }
                seen.push(name);
            }
            let unit = &group.value.unit;
            if !unit.is_ascii() || unit.len() > MOST_UNIT || unit.contains(char::is_control) {
                return Err(group.wrong(format!(
                    "unit {unit:?}: expected at most {MOST_UNIT} characters of ASCII, such as \"rad\""
                )));
            }
        }
        match self.robot_width()? {
            Some(width) => self.describe(&mut vec![Dimension::default(); width]),
            None => Ok(()),
        }
    }
}

fn bounded(width: &At<usize>) -> Result<usize, CheckpointError> {
    match (1..=MOST).contains(&width.value) {
        true => Ok(width.value),
        false => Err(width.wrong(format!("{} numbers, expected 1 to {MOST}", width.value))),
    }
}

fn check_limits(limits: &Limits) -> Result<(), String> {
    if let Some([low, high]) =
        limits.position.filter(|[low, high]| !(low < high && low.is_finite() && high.is_finite()))
    {
        return Err(format!("position is {low} to {high}, expected two numbers, the smaller first"));
    }
    for (name, limit) in [("velocity", limits.velocity), ("acceleration", limits.acceleration)] {
        if let Some(limit) = limit.filter(|limit| !(*limit > 0.0 && limit.is_finite())) {
            return Err(format!("{name} is {limit}, expected a number above 0"));
        }
    }
    Ok(())
}
