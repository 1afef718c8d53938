//! lerobot's `config.json`.

use serde_json::{Map, Value, json};

use super::declaration::{IMAGE, MODEL_WIDTH};
use super::reading::{Refuse, flag, get, listed, off, text};

/// Fields of lerobot's `PreTrainedConfig` and `PI0Config`, 0.1 to 0.6, that change no result checked here.
const WITHOUT_EFFECT: &str = "device use_amp push_to_hub repo_id private tags license pretrained_path \
    pretrained_revision dtype compile_model compile_mode use_cache attention_implementation \
    relative_exclude_joints proj_width time_sampling_beta_alpha time_sampling_beta_beta time_sampling_scale \
    time_sampling_offset gradient_checkpointing freeze_vision_encoder train_expert_only train_state_proj \
    optimizer_lr optimizer_betas optimizer_eps optimizer_weight_decay optimizer_grad_clip_norm \
    scheduler_warmup_steps scheduler_decay_steps scheduler_decay_lr";
/// Fields for sizes, rates and options of serving, whose values don't matter here.
const OTHER_MATTERS: &str = "chunk_size n_action_steps num_inference_steps num_steps action_feature_names \
    empty_cameras tokenizer_max_length use_peft paligemma_variant action_expert_variant control_rate_hz \
    truncate_prompt action_horizon action_dim max_token_len precision rtc_config";
/// Fields that declare processing.
const READ: &str = "type n_obs_steps normalization_mapping input_features output_features max_state_dim \
    max_action_dim min_period max_period use_relative_actions image_resolution resize_imgs_with_padding \
    adapt_to_pi_aloha use_delta_joint_actions_aloha pi05";

/// Reads lerobot's `config.json` except features and modes: returns whether ALOHA's joints are adapted.
pub fn read(
    config: &Map<String, Value>,
    original: &Value,
    may: &mut Vec<&'static str>,
) -> Result<bool, Refuse> {
    for (key, value) in config {
        if listed(OTHER_MATTERS, key) {
            if original.get(key) != Some(value) {
                may.push("sizes, rates and choices");
            }
        } else if !listed(READ, key) && !listed(WITHOUT_EFFECT, key) {
            if !off(value) {
                return Err("a field nobody knows");
            }
            may.push("a field nobody knows that is off");
        }
    }
    match text(config, "type")? {
        Some("pi0") => {}
        Some(_) => return Err("another policy"),
        None => may.push("no type of policy"),
    }
    let fixed = |key: &str, value: Value| get(config, key).is_none_or(|v| *v == value);
    let image = json!([IMAGE, IMAGE]);
    let period = |key: &str, pi0: f64| get(config, key).is_none_or(|v| v.as_f64() == Some(pi0));
    if !(fixed("n_obs_steps", json!(1))
        && fixed("max_state_dim", json!(MODEL_WIDTH))
        && fixed("max_action_dim", json!(MODEL_WIDTH))
        && fixed("image_resolution", image.clone())
        && config.get("resize_imgs_with_padding").is_none_or(|v| *v == image)
        && period("min_period", 4e-3)
        && period("max_period", 4.0))
    {
        return Err("another model");
    }
    if flag(config, "pi05")? || flag(config, "use_delta_joint_actions_aloha")? {
        return Err("another policy");
    }
    flag(config, "adapt_to_pi_aloha")
}
