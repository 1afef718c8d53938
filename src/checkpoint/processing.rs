//! The processing a checkpoint declares: from observations to inputs, and from actions to commands.

use super::camera::Camera;
use super::contract::{Dimension, Rate};
use super::faults::Faults;
use super::motion::Motion;
use super::normalization::{Formula, Normalization};
use super::tokenizer::TokenizerSource;
use super::transform::Transform;

/// The processing of raw observations to model inputs, and of actions to robot commands, as the checkpoint
/// declares it.
///
/// A state goes from the robot through `state_steps`, is normalized and padded. An action is cut to the
/// width of its statistics, unnormalized, and goes through `action_steps` to the robot. [`Arch::state_dim`]
/// and [`Arch::action_dim`] are the widths that normalization sees; the robot's are the lengths of
/// `robot_state` and `robot_action`.
///
/// [`Arch::state_dim`]: super::Arch::state_dim
/// [`Arch::action_dim`]: super::Arch::action_dim
#[derive(Clone, Debug, PartialEq)]
pub struct Processing {
    /// The cameras, in the model's order.
    pub cameras: Vec<Camera>,
    /// Steps applied to the state before its normalization.
    pub state_steps: Vec<Transform>,
    /// Normalization of the state; `None` if it is used as it is.
    pub state: Option<Normalization>,
    /// Normalization of actions; `None` if they are used as they are.
    pub action: Option<Normalization>,
    /// Steps applied to actions after their normalization is undone.
    pub action_steps: Vec<Transform>,
    /// Source of the steps of state and actions: a profile, or a file beside the weights; empty if there
    /// are no steps.
    pub steps_origin: String,
    /// The dimensions of the robot's state.
    pub robot_state: Vec<Dimension>,
    /// The dimensions of the robot's actions.
    pub robot_action: Vec<Dimension>,
    /// True if absent cameras move behind the present ones (lerobot) instead of keeping their slot
    /// (openpi).
    pub missing_camera_last: bool,
    /// True if images are resized with antialiasing (openpi), false without (lerobot).
    pub antialias: bool,
    /// True if a frame that isn't square gets its black bars at the left and the top (lerobot up to 0.3)
    /// instead of on both sides.
    pub pad_before: bool,
    /// Prompts are stripped and their `_` and newlines become spaces (openpi, and π0.5 everywhere).
    pub clean_prompt: bool,
    /// How many numbers of the state the prompt tells (π0.5); those beyond the state's width are 0. `None`: none.
    pub state_text: Option<usize>,
    /// The declared source of the tokenizer, if any.
    pub tokenizer: Option<TokenizerSource>,
    /// Value of the bars beside a frame that isn't square: -1, black; lerobot 0.4 trained π0.5 with -3.
    pub frame_border: f32,
    /// True if text embeddings are scaled by √width twice: lerobot 0.5.0 with transformers 5.4 or later.
    pub text_scaled_twice: bool,
    /// Longest prompt, tokens.
    pub max_tokens: usize,
    /// True if a longer prompt is cut instead of refused: `truncate_prompt` in config.json. (The
    /// `truncation` that lerobot writes into every checkpoint is not a deliberate choice, and is ignored.)
    pub truncate_prompt: bool,
    /// The declared control rate, if any.
    pub rate: Option<Rate>,
    /// A differing rate declared with less precedence, if any.
    pub overruled_rate: Option<Rate>,
    /// Number of rows of a chunk to execute before the next: `n_action_steps` in config.json.
    pub execution_horizon: Option<usize>,
    /// How actions are to be played.
    pub motion: Motion,
}

/// Actions relative to the state: lerobot's `RelativeActionsProcessorStep`.
pub(super) struct Relative {
    /// Parts of names of joints whose actions are absolute.
    pub exclude: Vec<String>,
    /// Names of the actions' dimensions. Without names all are relative.
    pub names: Option<Vec<String>>,
}

impl Relative {
    /// The dimensions, of `width`, to which the state is added (`_build_mask`): all except those whose name
    /// contains an excluded part, ignoring case.
    pub fn mask(&self, width: usize) -> Vec<bool> {
        let excluded: Vec<String> =
            self.exclude.iter().filter(|name| !name.is_empty()).map(|name| name.to_lowercase()).collect();
        let relative = |name: &String| !excluded.iter().any(|part| name.to_lowercase().contains(part));
        let mut mask: Vec<bool> = self.names.iter().flatten().take(width).map(relative).collect();
        mask.resize(width, true);
        mask
    }
}

/// The declarations of the files beside the tensors, before the model's sizes are known.
#[derive(Default)]
pub(super) struct Declared {
    /// The cameras, with the normalization of their images.
    pub cameras: Vec<(Camera, Option<Normalization>)>,
    pub state: Option<Normalization>,
    pub action: Option<Normalization>,
    pub relative: Option<Relative>,
    /// True if joints and grippers are ALOHA's while the policy's follow π0's training:
    /// `adapt_to_pi_aloha`.
    pub aloha: bool,
    /// See [`Processing::pad_before`].
    pub pad_before: bool,
    pub tokenizer: Option<TokenizerSource>,
    /// Prompt length that the preprocessor pads to.
    pub max_tokens: Option<usize>,
    /// Missing or unsupported declarations.
    pub faults: Faults,
}

impl Declared {
    /// Names of the tensors among the weights that hold statistics.
    pub fn tensors(&self) -> impl Iterator<Item = String> {
        let images = self.cameras.iter().filter_map(|(_, found)| found.as_ref());
        let found = images.chain(&self.state).chain(&self.action);
        let buffers = found.filter(|found| found.formula == Formula::LerobotModules);
        buffers
            .flat_map(|found| found.mode.statistics().map(|statistic| format!("{}.{statistic}", found.key)))
    }
}

/// PI0's cameras, for a checkpoint that names none.
pub(super) fn pi0_cameras() -> Vec<Camera> {
    ["base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb"].map(Camera::new).to_vec()
}
