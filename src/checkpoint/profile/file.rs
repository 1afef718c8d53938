//! The file format of a profile: TOML without unknown keys; every error names its place.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use super::motion::MotionTable;
use super::step::Step;
use crate::checkpoint::contract::Quantity;
use crate::checkpoint::error::CheckpointError;

/// The content of a profile's file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct File {
    /// The built-in profile that this one extends.
    pub base: Option<Spanned<String>>,
    /// One-line summary for lists.
    pub summary: Option<String>,
    pub asset: Option<Spanned<String>>,
    pub rate_hz: Option<Spanned<f64>>,
    pub execution_horizon: Option<Spanned<usize>>,
    pub prompt: Option<Spanned<PromptRule>>,
    pub state_text: Option<Spanned<StateText>>,
    pub frame_border: Option<Spanned<f32>>,
    pub text_scaled_twice: Option<Spanned<bool>>,
    pub resize: Option<Spanned<Resize>>,
    pub cameras: Option<Vec<Spanned<CameraTable>>>,
    pub state: Side,
    pub action: Side,
    pub motion: Option<Spanned<MotionTable>>,
}

/// The `[state]` or `[action]` section.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Side {
    pub width: Option<Spanned<usize>>,
    pub model_width: Option<Spanned<usize>>,
    pub steps: Option<Vec<Spanned<Step>>>,
    pub dimensions: Option<Vec<Spanned<Group>>>,
    pub limits: BTreeMap<String, Spanned<LimitsTable>>,
}

/// Consecutive dimensions of the same kind.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Group {
    pub names: Vec<String>,
    #[serde(default)]
    pub quantity: Quantity,
    #[serde(default)]
    pub unit: String,
    #[serde(default)]
    pub gripper: bool,
    pub position: Option<[f32; 2]>,
    pub velocity: Option<f32>,
    pub acceleration: Option<f32>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LimitsTable {
    pub position: Option<[f32; 2]>,
    pub velocity: Option<f32>,
    pub acceleration: Option<f32>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CameraTable {
    pub name: String,
    pub slot: Option<String>,
    #[serde(default = "yes")]
    pub required: bool,
}

fn yes() -> bool {
    true
}

/// Processing of a prompt before it is tokenized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum PromptRule {
    /// Stripped, with `_` and line feeds replaced by spaces: openpi.
    Clean,
    /// Unchanged, with a line feed appended: lerobot.
    Verbatim,
}

/// The state, as π0.5's prompts tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum StateText {
    /// Its numbers.
    State,
    /// Its numbers, and zeros up to `max_state_dim`: checkpoints trained with lerobot 0.4.
    Padded,
    /// Nothing, and the prompt is π0's: openpi's `discrete_state_input=False`.
    None,
}

/// Resizing of frames to the model's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Resize {
    /// With antialiasing: openpi.
    Antialiased,
    /// Bilinear, from four neighbours of each pixel: lerobot.
    Bilinear,
}

/// A value with its place in the file.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::checkpoint) struct At<T> {
    pub value: T,
    /// `FILE:line:column`.
    pub place: String,
}

impl<T> At<T> {
    /// The error that the value at this place is wrong.
    pub fn wrong(&self, why: impl Into<String>) -> CheckpointError {
        CheckpointError::Profile { place: self.place.clone(), why: why.into() }
    }
}

/// A text with its name for messages.
pub(super) struct Text<'a> {
    pub name: &'a str,
    pub text: &'a str,
}

impl Text<'_> {
    pub fn parse(&self) -> Result<File, CheckpointError> {
        toml::from_str(self.text).map_err(|error| CheckpointError::Profile {
            place: self.place(error.span().map_or(0, |span| span.start)),
            why: error.message().to_owned(),
        })
    }

    pub fn at<T>(&self, value: Spanned<T>) -> At<T> {
        let place = self.place(value.span().start);
        At { value: value.into_inner(), place }
    }

    fn place(&self, at: usize) -> String {
        let (line, column) = line_and_column(self.text, at);
        format!("{}:{line}:{column}", self.name)
    }
}

/// Line and column of a byte offset, counted from 1.
pub(crate) fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..at.min(text.len())];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    (line, String::from_utf8_lossy(&before[start..]).chars().count() + 1)
}
