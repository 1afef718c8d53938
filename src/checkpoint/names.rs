//! Names of the model's tensors: lerobot's since 0.3.3, without the leading `model.`.

use std::borrow::Cow;

/// Beginning of the vision tower's names.
pub(crate) const VISION: &str = "paligemma_with_expert.paligemma.model.vision_tower.vision_model.";
/// Beginning of the projector's names.
pub(crate) const PROJECTOR: &str = "paligemma_with_expert.paligemma.model.multi_modal_projector.linear.";
/// Beginning of the language model's names.
pub(crate) const LANGUAGE: &str = "paligemma_with_expert.paligemma.model.language_model.";
/// Beginning of the action expert's names.
pub(crate) const EXPERT: &str = "paligemma_with_expert.gemma_expert.model.";
/// Name of the token embedding. Checkpoints may hold [`LM_HEAD`] in its place: Gemma ties the two.
pub(super) const EMBED_TOKENS: &str =
    "paligemma_with_expert.paligemma.model.language_model.embed_tokens.weight";
pub(super) const LM_HEAD: &str = "paligemma_with_expert.paligemma.lm_head.weight";
/// Name of the expert's head, which every checkpoint holds and nothing uses.
pub(super) const EXPERT_LM_HEAD: &str = "paligemma_with_expert.gemma_expert.lm_head.weight";

/// Module names of lerobot up to 0.3.2, after the `model.` of its policies, with their current names: those
/// of `PI0Policy._transform_state_dict_keys` in lerobot 0.3.3.
const RENAMED: [(&str, &str); 4] = [
    ("paligemma_with_expert.paligemma.language_model.lm_head", "paligemma_with_expert.paligemma.lm_head"),
    (
        "paligemma_with_expert.paligemma.language_model.model",
        "paligemma_with_expert.paligemma.model.language_model",
    ),
    ("paligemma_with_expert.paligemma.vision_tower", "paligemma_with_expert.paligemma.model.vision_tower"),
    (
        "paligemma_with_expert.paligemma.multi_modal_projector",
        "paligemma_with_expert.paligemma.model.multi_modal_projector",
    ),
];

/// The current name (lerobot since 0.3.3) of a tensor or a module, without a leading `model.`.
pub(super) fn canonical(name: &str) -> Cow<'_, str> {
    let name = name.strip_prefix("model.").unwrap_or(name);
    let renamed = RENAMED.iter().find_map(|(old, new)| {
        let rest = name.strip_prefix(old)?;
        // Only whole parts of names match.
        (rest.is_empty() || rest.starts_with('.')).then(|| format!("{new}{rest}"))
    });
    renamed.map_or(Cow::Borrowed(name), Cow::Owned)
}
