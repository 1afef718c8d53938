//! What a checkpoint declares of the way from observations to inputs, and from actions to commands.

use super::camera::Camera;
use super::contract::{Dimension, Rate};
use super::faults::Faults;
use super::motion::Motion;
use super::normalization::{Formula, Normalization};
use super::tokenizer::TokenizerSource;
use super::transform::Transform;

/// How raw observations become model inputs, and actions robot actions, as the checkpoint declares it.
///
/// A state goes from the robot through `state_steps`, is normalized and padded. An action is cut to the width of
/// its statistics, unnormalized, and goes through `action_steps` to the robot. [`Arch::state_dim`] and
/// [`Arch::action_dim`] are the widths as normalization sees them; the robot's are the lengths of `robot_state`
/// and `robot_action`.
///
/// [`Arch::state_dim`]: super::Arch::state_dim
/// [`Arch::action_dim`]: super::Arch::action_dim
#[derive(Clone, Debug, PartialEq)]
pub struct Processing {
    /// The cameras, in the model's order.
    pub cameras: Vec<Camera>,
    /// Steps of the state before its normalization.
    pub state_steps: Vec<Transform>,
    /// Of the state; `None`: taken as it is.
    pub state: Option<Normalization>,
    /// Of actions; `None`: taken as they are.
    pub action: Option<Normalization>,
    /// Steps of the actions after their normalization is undone.
    pub action_steps: Vec<Transform>,
    /// Who declares the steps of state and actions: a profile, or a file beside the weights; empty if there are none.
    pub steps_origin: String,
    /// What the robot's state consists of.
    pub robot_state: Vec<Dimension>,
    /// What the robot's actions consist of.
    pub robot_action: Vec<Dimension>,
    /// Absent cameras move behind the present ones (lerobot) instead of keeping their slot (openpi).
    pub missing_camera_last: bool,
    /// Images are resized with antialiasing (openpi) or without (lerobot).
    pub antialias: bool,
    /// A frame that isn't square gets its black bars at the left and the top (lerobot up to 0.3) instead of both
    /// sides.
    pub pad_before: bool,
    /// Prompts are stripped and their `_` and newlines become spaces (openpi).
    pub clean_prompt: bool,
    /// Where the tokenizer comes from, if that is declared.
    pub tokenizer: Option<TokenizerSource>,
    /// Longest prompt, tokens.
    pub max_tokens: usize,
    /// Whether a longer prompt is cut instead of refused: `truncate_prompt` in config.json. (The
    /// `truncation` that lerobot writes into every checkpoint is nobody's choice, and is not taken for one.)
    pub truncate_prompt: bool,
    /// Rate at which the robot consumes actions, if it is declared.
    pub rate: Option<Rate>,
    /// Another rate that is declared with less precedence, if the two differ.
    pub overruled_rate: Option<Rate>,
    /// How many rows of a chunk are meant to be executed before the next: `n_action_steps` in config.json.
    pub execution_horizon: Option<usize>,
    /// How actions are to be played.
    pub motion: Motion,
}

/// Actions that are relative to the state: lerobot's `RelativeActionsProcessorStep`.
pub(super) struct Relative {
    /// Parts of names of joints whose actions are not.
    pub exclude: Vec<String>,
    /// Names of the actions' dimensions. Without them all are relative.
    pub names: Option<Vec<String>>,
}

impl Relative {
    /// Which of `width` dimensions the state is added to (`_build_mask`): all but those whose name contains an
    /// excluded one, whatever the case.
    pub fn mask(&self, width: usize) -> Vec<bool> {
        let excluded: Vec<String> =
            self.exclude.iter().filter(|name| !name.is_empty()).map(|name| name.to_lowercase()).collect();
        let relative = |name: &String| !excluded.iter().any(|part| name.to_lowercase().contains(part));
        let mut mask: Vec<bool> = self.names.iter().flatten().take(width).map(relative).collect();
        mask.resize(width, true);
        mask
    }
}

/// What the files beside the tensors declare, before the model's sizes are known.
#[derive(Default)]
pub(super) struct Declared {
    /// The cameras, and how their images are normalized.
    pub cameras: Vec<(Camera, Option<Normalization>)>,
    pub state: Option<Normalization>,
    pub action: Option<Normalization>,
    pub relative: Option<Relative>,
    /// Joints and grippers are ALOHA's, the policy's are those of π0's training: `adapt_to_pi_aloha`.
    pub aloha: bool,
    /// See [`Processing::pad_before`].
    pub pad_before: bool,
    pub tokenizer: Option<TokenizerSource>,
    /// Prompt length the preprocessor pads to.
    pub max_tokens: Option<usize>,
    /// What is missing or not understood.
    pub faults: Faults,
}

impl Declared {
    /// Names of the statistics that lie among the weights.
    pub fn tensors(&self) -> impl Iterator<Item = String> {
        let images = self.cameras.iter().filter_map(|(_, found)| found.as_ref());
        let found = images.chain(&self.state).chain(&self.action);
        let buffers = found.filter(|found| found.formula == Formula::LerobotModules);
        buffers
            .flat_map(|found| found.mode.statistics().map(|statistic| format!("{}.{statistic}", found.key)))
    }
}

/// PI0's cameras, where a checkpoint names none.
pub(super) fn pi0_cameras() -> Vec<Camera> {
    ["base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb"].map(Camera::new).to_vec()
}
