//! Names of lerobot's files and features.

/// The processor of observations.
pub(in crate::checkpoint) const PREPROCESSOR: &str = "policy_preprocessor.json";
/// The processor of actions.
pub(in crate::checkpoint) const POSTPROCESSOR: &str = "policy_postprocessor.json";
/// Names lerobot gives the statistics of π0 and of π0.5; readers take the names from the steps.
pub(in crate::checkpoint) const NORMALIZER_STATES: [&str; 2] = [
    "policy_preprocessor_step_6_normalizer_processor.safetensors",
    "policy_preprocessor_step_3_normalizer_processor.safetensors",
];
/// Name of the statistics of the actions.
pub(in crate::checkpoint) const UNNORMALIZER_STATE: &str =
    "policy_postprocessor_step_0_unnormalizer_processor.safetensors";
/// Key of the robot's state.
pub(super) const STATE: &str = "observation.state";
/// Key of the actions.
pub(super) const ACTION: &str = "action";
/// Common prefix of camera keys.
pub(super) const IMAGES: &str = "observation.images.";
