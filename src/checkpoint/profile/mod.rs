//! Profiles: a robot's interpretation of a checkpoint, as data.
//!
//! openpi keeps the robot-specific part in Python: which camera goes where, how a state is turned into the
//! model's, how the model's actions become commands. A directory of its weights doesn't contain it. A
//! profile does: a TOML file, built in or the user's. docs/profiles.md lists all keys.

mod apply;
mod file;
mod motion;
mod side;
mod step;

use std::path::{Path, PathBuf};

pub(crate) use file::line_and_column;
pub(super) use side::Widths;

use self::file::{At, CameraTable, File, PromptRule, Resize, StateText, Text};
use self::motion::MotionSection;
use self::side::Side;
use super::error::CheckpointError;
use super::layout::PROFILE_FILE;

/// Largest accepted file, bytes.
const MAX_BYTES: u64 = 1 << 20;

const BUILT_IN: [(&str, &str); 7] = [
    ("aloha", include_str!("aloha.toml")),
    ("aloha_sim", include_str!("aloha_sim.toml")),
    ("droid", include_str!("droid.toml")),
    ("libero", include_str!("libero.toml")),
    ("libero_no_extra_delta", include_str!("libero_no_extra_delta.toml")),
    ("libero_pi05", include_str!("libero_pi05.toml")),
    ("plain", include_str!("plain.toml")),
];

/// A robot's interpretation of a checkpoint.
#[derive(Clone, Debug)]
pub struct Profile {
    name: String,
    path: Option<PathBuf>,
    summary: String,
    asset: Option<At<String>>,
    rate_hz: Option<At<f32>>,
    execution_horizon: Option<At<usize>>,
    prompt: Option<At<PromptRule>>,
    state_text: Option<At<StateText>>,
    frame_border: Option<At<f32>>,
    text_scaled_twice: Option<At<bool>>,
    resize: Option<At<Resize>>,
    cameras: Option<Vec<At<CameraTable>>>,
    state: Side,
    action: Side,
    motion: Option<MotionSection>,
}

impl Profile {
    /// Names and texts of the built-in profiles.
    pub fn built_in() -> impl Iterator<Item = (&'static str, &'static str)> {
        BUILT_IN.into_iter()
    }

    /// The built-in profiles with their summaries, one per line.
    pub fn choices() -> String {
        let line = |(name, text): (&str, &str)| {
            let summary = Text { name, text }.parse().ok().and_then(|file| file.summary);
            format!("  {name:<22} {}\n", summary.unwrap_or_default())
        };
        Self::built_in().map(line).collect()
    }

    /// Finds a profile: a file if `wanted` contains a slash or ends in `.toml`, else a built-in one by
    /// name.
    ///
    /// # Errors
    /// If there is none, or it is wrong.
    pub fn find(wanted: &str) -> Result<Self, CheckpointError> {
        if wanted.contains('/') || wanted.ends_with(".toml") {
            let path = Path::new(wanted);
            let missing = || CheckpointError::file(path, "no such profile");
            return Self::read(path)?.ok_or_else(missing);
        }
        let (name, text) = Self::built_in().find(|(name, _)| *name == wanted).ok_or_else(|| {
            CheckpointError::UnknownProfile { name: wanted.to_owned(), choices: Self::choices() }
        })?;
        Self::parse(name, None, text)
    }

    /// The profile beside a checkpoint's weights, if there is one.
    ///
    /// # Errors
    /// If it can't be read, or is wrong.
    pub fn beside(dir: &Path) -> Result<Option<Self>, CheckpointError> {
        Self::read(&dir.join(PROFILE_FILE))
    }

    fn read(path: &Path) -> Result<Option<Self>, CheckpointError> {
        let found = match std::fs::metadata(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            found => found.map_err(|e| CheckpointError::io(path, "open", e))?,
        };
        // Reading a pipe would block.
        if !found.is_file() {
            return Err(CheckpointError::file(path, "not a file, expected a profile"));
        }
        if found.len() > MAX_BYTES {
            let why = format!("{} bytes of profile, at most {MAX_BYTES} are read", found.len());
            return Err(CheckpointError::file(path, why));
        }
        let text = std::fs::read_to_string(path).map_err(|e| CheckpointError::io(path, "read", e))?;
        Self::parse(&path.display().to_string(), Some(path), &text).map(Some)
    }

    /// Parses a profile; `name` is used in messages.
    ///
    /// # Errors
    /// [`CheckpointError::Profile`] with the place of the fault.
    pub fn parse(name: &str, path: Option<&Path>, text: &str) -> Result<Self, CheckpointError> {
        let profile = Self::resolve(name, path, text)?;
        profile.check()?;
        Ok(profile)
    }

    fn resolve(name: &str, path: Option<&Path>, text: &str) -> Result<Self, CheckpointError> {
        let called = if path.is_some() { name.to_owned() } else { format!("profile {name}") };
        let text = Text { name: &called, text };
        let file = text.parse()?;
        let base = match file.base {
            None => None,
            Some(base) => {
                let base = text.at(base);
                let found = Self::built_in().find(|(name, _)| *name == base.value);
                let (name, text) = found.ok_or_else(|| {
                    let names: Vec<_> = Self::built_in().map(|(name, _)| name).collect();
                    base.wrong(format!("{:?} is not built in: expected {}", base.value, names.join(", ")))
                })?;
                Some(Self::resolve(name, None, text)?)
            }
        };
        let File {
            asset,
            rate_hz,
            execution_horizon,
            prompt,
            state_text,
            resize,
            cameras,
            state,
            action,
            motion,
            ..
        } = file;
        let rate_hz = rate_hz.map(|hz| rate(text.at(hz))).transpose()?;
        let own = Self {
            name: name.to_owned(),
            path: path.map(Path::to_path_buf),
            summary: file.summary.unwrap_or_default(),
            asset: asset.map(|asset| text.at(asset)),
            rate_hz,
            execution_horizon: execution_horizon.map(|rows| text.at(rows)),
            prompt: prompt.map(|prompt| text.at(prompt)),
            state_text: state_text.map(|told| text.at(told)),
            frame_border: file.frame_border.map(|border| text.at(border)),
            text_scaled_twice: file.text_scaled_twice.map(|twice| text.at(twice)),
            resize: resize.map(|resize| text.at(resize)),
            cameras: cameras.map(|cameras| cameras.into_iter().map(|camera| text.at(camera)).collect()),
            state: Side::new("state", state, &text),
            action: Side::new("action", action, &text),
            motion: motion.map(|motion| MotionSection::new(motion, &text)),
        };
        Ok(match base {
            Some(base) => own.over(base),
            None => own,
        })
    }

    /// This profile, with missing entries taken from `base`.
    fn over(self, base: Self) -> Self {
        Self {
            name: self.name,
            path: self.path,
            summary: if self.summary.is_empty() { base.summary } else { self.summary },
            asset: self.asset.or(base.asset),
            rate_hz: self.rate_hz.or(base.rate_hz),
            execution_horizon: self.execution_horizon.or(base.execution_horizon),
            prompt: self.prompt.or(base.prompt),
            state_text: self.state_text.or(base.state_text),
            frame_border: self.frame_border.or(base.frame_border),
            text_scaled_twice: self.text_scaled_twice.or(base.text_scaled_twice),
            resize: self.resize.or(base.resize),
            cameras: self.cameras.or(base.cameras),
            state: self.state.over(base.state),
            action: self.action.over(base.action),
            motion: match (self.motion, base.motion) {
                (Some(own), Some(base)) => Some(own.over(base)),
                (own, base) => own.or(base),
            },
        }
    }

    /// The profile's name: that of a built-in one, or a file's path.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The profile's file; `None` if built in.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// One-line summary; may be empty.
    pub fn summary(&self) -> &str {
        &self.summary
    }

    /// The asset whose statistics are used.
    pub(super) fn asset(&self) -> Option<&At<String>> {
        self.asset.as_ref()
    }
}

fn rate(hz: At<f64>) -> Result<At<f32>, CheckpointError> {
    match hz.value > 0.0 && hz.value <= 1e5 {
        true => Ok(At { value: hz.value as f32, place: hz.place }),
        false => Err(hz.wrong(format!("rate_hz is {}, expected more than 0 and at most 100000", hz.value))),
    }
}

#[cfg(test)]
mod tests;
