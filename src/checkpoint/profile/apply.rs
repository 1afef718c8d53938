//! Applies a profile to a checkpoint.

use super::Profile;
use super::file::{At, CameraTable, PromptRule, Resize, StateText};
use super::side::Widths;
use crate::checkpoint::Arch;
use crate::checkpoint::camera::Camera;
use crate::checkpoint::contract::{Rate, RateSource};
use crate::checkpoint::error::CheckpointError;
use crate::checkpoint::layout::Layout;
use crate::checkpoint::processing::Processing;
use crate::checkpoint::variant::StateInput;

impl Profile {
    /// Checks everything that needs no checkpoint.
    pub(super) fn check(&self) -> Result<(), CheckpointError> {
        self.state.check()?;
        self.action.check()?;
        self.widths(None, None)?;
        if let Some(rows) = self.execution_horizon.as_ref().filter(|rows| rows.value == 0) {
            return Err(rows.wrong("execution_horizon is 0, expected 1 or more"));
        }
        let Some(cameras) = &self.cameras else { return Ok(()) };
        for (i, camera) in cameras.iter().enumerate() {
            let CameraTable { name, slot, .. } = &camera.value;
            if name.is_empty() || name.contains(char::is_control) {
                return Err(camera.wrong(format!("{name:?} is no name")));
            }
            for other in cameras[..i].iter().map(|other| &other.value) {
                if other.name == *name {
                    return Err(camera.wrong(format!("camera {name:?} twice")));
                }
                if other.slot.is_some() && other.slot == *slot {
                    let slot = slot.as_deref().unwrap_or_default();
                    return Err(camera.wrong(format!("slot {slot:?} is taken by camera {:?}", other.name)));
                }
            }
        }
        Ok(())
    }

    /// Widths of state and action, as far as they are known; `state`, `action`: widths of their statistics.
    pub(in crate::checkpoint) fn widths(
        &self,
        state: Option<usize>,
        action: Option<usize>,
    ) -> Result<(Option<Widths>, Option<Widths>), CheckpointError> {
        let state = self.state.state_widths(state)?;
        // The state's width is unknown yet: accept a mask of any length.
        let beside = state.map_or(usize::MAX, |widths| widths.model);
        Ok((state, self.action.action_widths(action, beside)?))
    }

    /// Applies the profile over the declarations of the checkpoint's files.
    ///
    /// # Errors
    /// If the profile contradicts them.
    pub(in crate::checkpoint) fn apply(
        &self,
        processing: &mut Processing,
        layout: Layout,
        arch: &Arch,
    ) -> Result<(), CheckpointError> {
        match layout {
            Layout::OpenPi => self.apply_steps(processing, arch)?,
            Layout::Lerobot => self.agree(processing)?,
        }
        if let Some(told) = &self.state_text {
            processing.state_text = state_text(told, layout, arch)?;
        }
        if let Some(border) = &self.frame_border {
            if !border.value.is_finite() {
                return Err(border.wrong(format!("frame_border is {}, expected a number", border.value)));
            }
            processing.frame_border = border.value;
        }
        if let Some(twice) = &self.text_scaled_twice {
            processing.text_scaled_twice = twice.value;
        }
        self.state.describe(&mut processing.robot_state)?;
        self.action.describe(&mut processing.robot_action)?;
        if let Some(motion) = &self.motion {
            processing.motion = motion.motion(&processing.robot_action)?;
        }
        if let Some(hz) = &self.rate_hz {
            let own = Rate { hz: hz.value, source: RateSource::Profile };
            processing.overruled_rate = processing.rate.filter(|declared| declared.hz != own.hz);
            processing.rate = Some(own);
        }
        if let Some(rows) = &self.execution_horizon {
            if rows.value > arch.chunk_size {
                let (rows_value, chunk) = (rows.value, arch.chunk_size);
                return Err(
                    rows.wrong(format!("execution_horizon is {rows_value}, but a chunk has {chunk} rows"))
                );
            }
            processing.execution_horizon = Some(rows.value);
        }
        Ok(())
    }

    /// Applies the declarations that openpi keeps in Python.
    fn apply_steps(&self, processing: &mut Processing, arch: &Arch) -> Result<(), CheckpointError> {
        let fit = |what: &'static str, widths: Option<Widths>, arch: usize| match widths {
            Some(widths) if widths.model == arch => Ok(widths),
            widths => Err(CheckpointError::Disagree {
                path: self.name.clone().into(),
                what: what.to_owned(),
                left: format!("the profile's steps have {} numbers", widths.map_or(0, |widths| widths.model)),
                right: format!("arch.json says {arch}"),
            }),
        };
        let (state, action) = self.widths(Some(arch.state_dim), Some(arch.action_dim))?;
        let state = fit("state_dim", state, arch.state_dim)?;
        let action = fit("action_dim", action, arch.action_dim)?;
        processing.state_steps = self.state.transforms(state.robot, 0)?.0;
        processing.action_steps = self.action.transforms(action.model, state.model)?.0;
        if !(processing.state_steps.is_empty() && processing.action_steps.is_empty()) {
            processing.steps_origin = format!("profile {}", self.name);
        }
        processing.robot_state.resize(state.robot, Default::default());
        processing.robot_action.resize(action.robot, Default::default());
        if let Some(cameras) = &self.cameras {
            processing.cameras = openpi_cameras(cameras, &processing.cameras)?;
        }
        if let Some(prompt) = &self.prompt {
            processing.clean_prompt = prompt.value == PromptRule::Clean;
        }
        if let Some(resize) = &self.resize {
            processing.antialias = resize.value == Resize::Antialiased;
        }
        Ok(())
    }

    /// Checks that the profile agrees with lerobot's processors, which declare everything that changes a
    /// number.
    fn agree(&self, processing: &mut Processing) -> Result<(), CheckpointError> {
        let declared = "lerobot's processors beside the weights declare that";
        let mut steps = [&self.state, &self.action].into_iter().flat_map(|side| side.steps.iter().flatten());
        if let Some(step) = steps.next() {
            return Err(step.wrong(format!("step {}: {declared}", step.value.name())));
        }
        if let Some(asset) = &self.asset {
            return Err(asset.wrong(format!("asset: {declared}")));
        }
        if let Some(prompt) =
            self.prompt.as_ref().filter(|p| (p.value == PromptRule::Clean) != processing.clean_prompt)
        {
            return Err(prompt.wrong(format!("prompt: {declared}, otherwise")));
        }
        if let Some(resize) =
            self.resize.as_ref().filter(|r| (r.value == Resize::Antialiased) != processing.antialias)
        {
            return Err(resize.wrong(format!("resize: {declared}, otherwise")));
        }
        for (what, side, width) in [
            ("state", &self.state, processing.robot_state.len()),
            ("action", &self.action, processing.robot_action.len()),
        ] {
            if let Some(declared) = side.robot_width()?.filter(|declared| *declared != width) {
                return Err(CheckpointError::Disagree {
                    path: self.name.clone().into(),
                    what: format!("width of the {what}"),
                    left: format!("the profile says {declared}"),
                    right: format!("the checkpoint says {width}"),
                });
            }
        }
        for camera in self.cameras.iter().flatten() {
            let CameraTable { name, slot, required } = &camera.value;
            let known = Camera::names(&processing.cameras);
            let Some(index) = Camera::find(&processing.cameras, name) else {
                return Err(camera.wrong(format!("camera {name:?}: the checkpoint has {known}")));
            };
            let found = &mut processing.cameras[index];
            if let Some(slot) = slot.as_ref().filter(|slot| **slot != found.key) {
                let key = &found.key;
                return Err(camera
                    .wrong(format!("camera {name:?} has slot {slot:?}, but the checkpoint says {key:?}")));
            }
            found.required = *required;
        }
        Ok(())
    }
}

/// How many numbers of the state a prompt tells.
fn state_text(told: &At<StateText>, layout: Layout, arch: &Arch) -> Result<Option<usize>, CheckpointError> {
    if arch.variant.state != StateInput::Text {
        return Err(told.wrong(format!("state_text: the model is {}", arch.variant)));
    }
    match (told.value, layout) {
        (StateText::State, _) => Ok(Some(arch.state_dim)),
        (StateText::Padded, _) => Ok(Some(arch.max_state_dim.max(arch.state_dim))),
        (StateText::None, Layout::OpenPi) => Ok(None),
        (StateText::None, Layout::Lerobot) => {
            let why = "state_text is none, but lerobot's processors beside the weights tell the state";
            Err(told.wrong(why))
        }
    }
}

/// The robot's cameras in the order of the model's slots; slots without a camera stay empty.
fn openpi_cameras(cameras: &[At<CameraTable>], slots: &[Camera]) -> Result<Vec<Camera>, CheckpointError> {
    for camera in cameras {
        let CameraTable { name, slot, .. } = &camera.value;
        let slot = slot.as_ref().unwrap_or(name);
        if !slots.iter().any(|known| known.key == *slot) {
            let known: Vec<_> = slots.iter().map(|slot| slot.key.as_str()).collect();
            return Err(camera.wrong(format!("slot {slot:?}: the model has {}", known.join(", "))));
        }
    }
    let in_slot = |key: &str| {
        let camera = cameras.iter().map(|camera| &camera.value);
        camera.into_iter().find(|camera| camera.slot.as_ref().unwrap_or(&camera.name) == key)
    };
    let found = slots.iter().filter_map(|slot| {
        let CameraTable { name, required, .. } = in_slot(&slot.key)?;
        Some(Camera { name: name.clone(), required: *required, ..slot.clone() })
    });
    Ok(found.collect())
}
