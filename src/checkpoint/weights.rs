//! The names and shapes of PI0's weights, as lerobot names them without the leading `model.`.

use std::borrow::Cow;

use super::Arch;

pub(super) const VISION: &str = "paligemma_with_expert.paligemma.model.vision_tower.vision_model.";
pub(super) const PROJECTOR: &str = "paligemma_with_expert.paligemma.model.multi_modal_projector.linear.";
pub(super) const PREFIX: &str = "paligemma_with_expert.paligemma.model.language_model.";
pub(super) const EXPERT: &str = "paligemma_with_expert.gemma_expert.model.";
/// The token embedding. Checkpoints may hold [`LM_HEAD`] in its place: Gemma ties the two.
pub(super) const EMBED_TOKENS: &str =
    "paligemma_with_expert.paligemma.model.language_model.embed_tokens.weight";
pub(super) const LM_HEAD: &str = "paligemma_with_expert.paligemma.lm_head.weight";
/// In every checkpoint, and used by nothing.
pub(super) const EXPERT_LM_HEAD: &str = "paligemma_with_expert.gemma_expert.lm_head.weight";

/// What lerobot up to 0.3.2 called modules, after the `model.` of its policies, and what they are called since: those of
/// `PI0Policy._transform_state_dict_keys` in lerobot 0.3.3.
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

/// The name of a tensor or a module without a leading `model.`, as lerobot has it since 0.3.3.
pub(super) fn canonical(name: &str) -> Cow<'_, str> {
    let name = name.strip_prefix("model.").unwrap_or(name);
    let renamed = RENAMED.iter().find_map(|(old, new)| {
        let rest = name.strip_prefix(old)?;
        // Whole parts of names only.
        (rest.is_empty() || rest.starts_with('.')).then(|| format!("{new}{rest}"))
    });
    renamed.map_or(Cow::Borrowed(name), Cow::Owned)
}

/// One weight PI0 needs.
pub(super) struct Spec {
    pub name: String,
    pub shape: Vec<usize>,
    /// The shape in words, for messages.
    pub dims: &'static str,
}

/// Every weight of a model of these sizes but the token embedding and the two lm_heads.
pub(super) fn weights(a: &Arch) -> Vec<Spec> {
    let mut list = Vec::new();
    let mut add = |name: String, shape: &[usize], dims| list.push(Spec { name, shape: shape.to_vec(), dims });

    let (vw, vm, p) = (a.vision_width, a.vision_mlp, a.patch_size);
    let embeddings = |name: &str| format!("{VISION}embeddings.{name}");
    add(embeddings("patch_embedding.weight"), &[vw, 3, p, p], "vision_width, 3, patch_size, patch_size");
    add(embeddings("patch_embedding.bias"), &[vw], "vision_width");
    add(embeddings("position_embedding.weight"), &[a.patches(), vw], "patches, vision_width");
    for i in 0..a.vision_layers {
        let layer = |name: &str| format!("{VISION}encoder.layers.{i}.{name}");
        for norm in ["layer_norm1", "layer_norm2"] {
            add(layer(&format!("{norm}.weight")), &[vw], "vision_width");
            add(layer(&format!("{norm}.bias")), &[vw], "vision_width");
        }
        for projection in ["q_proj", "k_proj", "v_proj", "out_proj"] {
            add(layer(&format!("self_attn.{projection}.weight")), &[vw, vw], "vision_width, vision_width");
            add(layer(&format!("self_attn.{projection}.bias")), &[vw], "vision_width");
        }
        add(layer("mlp.fc1.weight"), &[vm, vw], "vision_mlp, vision_width");
        add(layer("mlp.fc1.bias"), &[vm], "vision_mlp");
        add(layer("mlp.fc2.weight"), &[vw, vm], "vision_width, vision_mlp");
        add(layer("mlp.fc2.bias"), &[vw], "vision_width");
    }
    add(format!("{VISION}post_layernorm.weight"), &[vw], "vision_width");
    add(format!("{VISION}post_layernorm.bias"), &[vw], "vision_width");

    add(format!("{PROJECTOR}weight"), &[a.width, vw], "width, vision_width");
    add(format!("{PROJECTOR}bias"), &[a.width], "width");

    let (q, kv) = (a.heads * a.head_dim, a.kv_heads * a.head_dim);
    for (part, w, m) in [(PREFIX, a.width, a.mlp), (EXPERT, a.expert_width, a.expert_mlp)] {
        for i in 0..a.depth {
            let layer = |name: &str| format!("{part}layers.{i}.{name}");
            add(layer("input_layernorm.weight"), &[w], "width");
            add(layer("self_attn.q_proj.weight"), &[q, w], "heads·head_dim, width");
            add(layer("self_attn.k_proj.weight"), &[kv, w], "kv_heads·head_dim, width");
            add(layer("self_attn.v_proj.weight"), &[kv, w], "kv_heads·head_dim, width");
            add(layer("self_attn.o_proj.weight"), &[w, q], "width, heads·head_dim");
            add(layer("post_attention_layernorm.weight"), &[w], "width");
            add(layer("mlp.gate_proj.weight"), &[m, w], "mlp, width");
            add(layer("mlp.up_proj.weight"), &[m, w], "mlp, width");
            add(layer("mlp.down_proj.weight"), &[w, m], "width, mlp");
        }
        add(format!("{part}norm.weight"), &[w], "width");
    }

    let e = a.expert_width;
    for (name, rows, cols, dims) in [
        ("state_proj", e, a.max_state_dim, "expert_width, max_state_dim"),
        ("action_in_proj", e, a.max_action_dim, "expert_width, max_action_dim"),
        ("action_time_mlp_in", e, 2 * e, "expert_width, 2·expert_width"),
        ("action_time_mlp_out", e, e, "expert_width, expert_width"),
        ("action_out_proj", a.max_action_dim, e, "max_action_dim, expert_width"),
    ] {
        add(format!("{name}.weight"), &[rows, cols], dims);
        add(format!("{name}.bias"), &[rows], dims);
    }
    list
}
