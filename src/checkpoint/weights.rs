//! Declares every weight of the model once: name, shape, part (which gives its precision) and kind.

use std::collections::HashMap;

use super::arch::Arch;
use super::names::{EMBED_TOKENS, EXPERT, EXPERT_LM_HEAD, LANGUAGE, LM_HEAD, PROJECTOR, VISION};
use super::part::Part;
use super::variant::{Conditioning, StateInput};

/// The kind of a weight, which decides the distribution of synthetic values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Rows of an embedding table.
    Embedding,
    /// Position embedding, added to patches.
    Position,
    /// Weight of a LayerNorm, which multiplies by w.
    LayerNorm,
    /// Weight of an RMSNorm, which multiplies by 1 + w.
    RmsNorm,
    /// A bias of a product or a norm.
    Bias,
    /// Projection to queries or keys.
    QueryKey,
    /// Last product of a sub-block, whose result is added to the residual stream.
    Residual,
    /// Dense layer of an adaptive norm: scale, shift and gate of a condition.
    Modulation,
    /// Its bias.
    ModulationBias,
    /// Any other product.
    Product,
}

/// One weight of the model.
pub(super) struct Spec {
    pub name: String,
    pub shape: Vec<usize>,
    /// The shape in words, for messages.
    pub dims: &'static str,
    pub part: Part,
    pub kind: Kind,
}

/// The token embedding and the two lm_heads: checkpoints hold all, or one in place of another, see
/// [`EMBED_TOKENS`].
pub(super) fn embeddings(a: &Arch) -> [Spec; 3] {
    [(EMBED_TOKENS, a.width), (LM_HEAD, a.width), (EXPERT_LM_HEAD, a.expert_width)].map(|(name, width)| {
        Spec {
            name: name.into(),
            shape: vec![a.vocab_size, width],
            dims: "vocab_size, width",
            part: Part::Text,
            kind: Kind::Embedding,
        }
    })
}

/// All other weights of a model of these sizes.
pub(super) fn weights(a: &Arch) -> Vec<Spec> {
    let mut list = List(Vec::new());
    vision(a, &mut list);
    let projector = |name: &str| format!("{PROJECTOR}{name}");
    list.add(
        projector("weight"),
        Part::Projector,
        Kind::Product,
        &[a.width, a.vision_width],
        "width, vision_width",
    );
    list.add(projector("bias"), Part::Projector, Kind::Bias, &[a.width], "width");
    let sizes = (a.width, a.mlp);
    gemma(
        a,
        LANGUAGE,
        (Part::PrefixAttention, Part::PrefixMlp),
        sizes,
        Conditioning::Concatenated,
        &mut list,
    );
    let sizes = (a.expert_width, a.expert_mlp);
    gemma(a, EXPERT, (Part::ExpertAttention, Part::ExpertMlp), sizes, a.variant.conditioning, &mut list);
    suffix(a, &mut list);
    list.0
}

struct List(Vec<Spec>);

impl List {
    fn add(&mut self, name: String, part: Part, kind: Kind, shape: &[usize], dims: &'static str) {
        self.0.push(Spec { name, shape: shape.to_vec(), dims, part, kind });
    }
}

fn vision(a: &Arch, list: &mut List) {
    let (vw, vm, p) = (a.vision_width, a.vision_mlp, a.patch_size);
    let mut add = |name: String, part, kind, shape: &[usize], dims| list.add(name, part, kind, shape, dims);
    let (patches, attention, mlp) = (Part::Patches, Part::VisionAttention, Part::VisionMlp);
    let embeddings = |name: &str| format!("{VISION}embeddings.{name}");
    let dims = "vision_width, 3, patch_size, patch_size";
    add(embeddings("patch_embedding.weight"), patches, Kind::Product, &[vw, 3, p, p], dims);
    add(embeddings("patch_embedding.bias"), patches, Kind::Bias, &[vw], "vision_width");
    let dims = "patches, vision_width";
    add(embeddings("position_embedding.weight"), patches, Kind::Position, &[a.patches(), vw], dims);
    for i in 0..a.vision_layers {
        let layer = |name: &str| format!("{VISION}encoder.layers.{i}.{name}");
        for norm in ["layer_norm1", "layer_norm2"] {
            add(layer(&format!("{norm}.weight")), mlp, Kind::LayerNorm, &[vw], "vision_width");
            add(layer(&format!("{norm}.bias")), mlp, Kind::Bias, &[vw], "vision_width");
        }
        for (projection, kind) in [
            ("q_proj", Kind::QueryKey),
            ("k_proj", Kind::QueryKey),
            ("v_proj", Kind::Product),
            ("out_proj", Kind::Residual),
        ] {
            let name = |what: &str| layer(&format!("self_attn.{projection}.{what}"));
            add(name("weight"), attention, kind, &[vw, vw], "vision_width, vision_width");
            add(name("bias"), attention, Kind::Bias, &[vw], "vision_width");
        }
        add(layer("mlp.fc1.weight"), mlp, Kind::Product, &[vm, vw], "vision_mlp, vision_width");
        add(layer("mlp.fc1.bias"), mlp, Kind::Bias, &[vm], "vision_mlp");
        add(layer("mlp.fc2.weight"), mlp, Kind::Residual, &[vw, vm], "vision_width, vision_mlp");
        add(layer("mlp.fc2.bias"), mlp, Kind::Bias, &[vw], "vision_width");
    }
    add(format!("{VISION}post_layernorm.weight"), patches, Kind::LayerNorm, &[vw], "vision_width");
    add(format!("{VISION}post_layernorm.bias"), patches, Kind::Bias, &[vw], "vision_width");
}

fn gemma(
    a: &Arch,
    stack: &str,
    (attention, mlp): (Part, Part),
    (w, m): (usize, usize),
    conditioning: Conditioning,
    list: &mut List,
) {
    let (q, kv) = (a.heads * a.head_dim, a.kv_heads * a.head_dim);
    let norm = |name: String, list: &mut List| match conditioning {
        Conditioning::Concatenated => {
            list.add(format!("{name}.weight"), mlp, Kind::RmsNorm, &[w], "width");
        }
        Conditioning::AdaptiveNorms => {
            list.add(format!("{name}.dense.weight"), mlp, Kind::Modulation, &[3 * w, w], "3·width, width");
            list.add(format!("{name}.dense.bias"), mlp, Kind::ModulationBias, &[3 * w], "3·width");
        }
    };
    for i in 0..a.depth {
        let layer = |name: &str| format!("{stack}layers.{i}.{name}");
        norm(layer("input_layernorm"), list);
        let mut add =
            |name, part, kind, shape: &[usize], dims| list.add(layer(name), part, kind, shape, dims);
        add("self_attn.q_proj.weight", attention, Kind::QueryKey, &[q, w], "heads·head_dim, width");
        add("self_attn.k_proj.weight", attention, Kind::QueryKey, &[kv, w], "kv_heads·head_dim, width");
        add("self_attn.v_proj.weight", attention, Kind::Product, &[kv, w], "kv_heads·head_dim, width");
        add("self_attn.o_proj.weight", attention, Kind::Residual, &[w, q], "width, heads·head_dim");
        norm(layer("post_attention_layernorm"), list);
        let mut add =
            |name, part, kind, shape: &[usize], dims| list.add(layer(name), part, kind, shape, dims);
        add("mlp.gate_proj.weight", mlp, Kind::Product, &[m, w], "mlp, width");
        add("mlp.up_proj.weight", mlp, Kind::Product, &[m, w], "mlp, width");
        add("mlp.down_proj.weight", mlp, Kind::Residual, &[w, m], "width, mlp");
    }
    norm(format!("{stack}norm"), list);
}

fn suffix(a: &Arch, list: &mut List) {
    let e = a.expert_width;
    let mut linear = |name: &str, rows, cols, dims| {
        list.add(format!("{name}.weight"), Part::Suffix, Kind::Product, &[rows, cols], dims);
        list.add(format!("{name}.bias"), Part::Suffix, Kind::Bias, &[rows], dims);
    };
    if a.variant.state == StateInput::Token {
        linear("state_proj", e, a.max_state_dim, "expert_width, max_state_dim");
    }
    linear("action_in_proj", e, a.max_action_dim, "expert_width, max_action_dim");
    match a.variant.conditioning {
        Conditioning::Concatenated => {
            linear("action_time_mlp_in", e, 2 * e, "expert_width, 2·expert_width");
            linear("action_time_mlp_out", e, e, "expert_width, expert_width");
        }
        Conditioning::AdaptiveNorms => {
            linear("time_mlp_in", e, e, "expert_width, expert_width");
            linear("time_mlp_out", e, e, "expert_width, expert_width");
        }
    }
    linear("action_out_proj", a.max_action_dim, e, "max_action_dim, expert_width");
}

impl Arch {
    /// The part of every weight a model of these sizes may have, by name.
    pub fn parts(&self) -> HashMap<String, Part> {
        weights(self).into_iter().chain(embeddings(self)).map(|spec| (spec.name, spec.part)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Variant;

    /// Tensors and parameters in use, as the published checkpoints have them.
    #[test]
    fn members_have_the_weights_of_their_checkpoints() {
        for (variant, tensors, parameters) in
            [(Variant::PI0, 778, 3_238_048_528), (Variant::PI05, 813, 3_353_433_872)]
        {
            let arch = Arch { variant, ..Arch::full() };
            let specs = weights(&arch);
            assert_eq!(specs.len() + embeddings(&arch).len(), tensors, "{variant}");
            let [embedding, ..] = embeddings(&arch);
            let count = |spec: &Spec| spec.shape.iter().product::<usize>();
            assert_eq!(specs.iter().chain([&embedding]).map(count).sum::<usize>(), parameters, "{variant}");
            assert_eq!(arch.parts().len(), tensors, "{variant}: names repeat");
        }
    }
}
