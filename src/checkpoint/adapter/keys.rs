//! Names of an adapter's tensors.
//!
//! PEFT saves `base_model.model.<module>.lora_A.weight`; a whole state dict has the adapter's name in it as well
//! (`lora_A.default.weight`), and calls the weights beneath `<module>.base_layer.weight`. Implementations without
//! PEFT have parameters instead of modules (`<module>.lora_A`, and `lora_a` where openpi's code is followed).

use std::borrow::Cow;

use super::super::names::canonical;

/// Prefix of every name that PEFT has wrapped.
const WRAPPED: &str = "base_model.model.";
/// Prefixes of name parts that identify unsupported adapters: LoHa, LoKr, OFT, BOFT, (IA)³, VeRA, prompt
/// and prefix tuning, trainable tokens, and other parameters named after LoRA.
const OTHERS: [&str; 11] = [
    "lora_",
    "hada_",
    "lokr_",
    "oft_",
    "boft_",
    "ia3_",
    "vera_",
    "prompt_",
    "prefix_",
    "trainable_tokens",
    "token_adapter",
];

/// The parsed name of an adapter's tensor.
#[derive(Debug, PartialEq)]
pub(super) struct Key {
    /// The module or tensor this one belongs to, as the base model names it: a module for adapter tensors,
    /// the weights' own name for plain or replaced weights.
    pub of: String,
    pub part: Part,
    /// The adapter's name, if the tensor's name contains it.
    pub adapter: Option<String>,
    /// True if the tensor is a parameter of the module itself rather than of a layer inside it.
    pub bare: bool,
}

/// The role of a tensor in its module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// Weights outside any adapter.
    Plain,
    /// Base weights of a wrapped layer.
    Base,
    /// Weights trained in full (`modules_to_save`).
    Saved,
    /// Weights that `modules_to_save` replaces.
    Original,
    /// `lora_A`.
    A,
    /// `lora_B`.
    B,
    /// The bias of `lora_B`.
    Bias,
    /// `lora_embedding_A`.
    EmbeddingA,
    /// `lora_embedding_B`.
    EmbeddingB,
    /// DoRA's `lora_magnitude_vector`.
    Magnitude,
    /// A tensor of another kind of adapter.
    Unknown,
}

impl Key {
    pub fn parse(name: &str) -> Self {
        let name = name.strip_prefix(WRAPPED).unwrap_or(name);
        let parts: Vec<&str> = name.split('.').collect();
        let found = parts.iter().enumerate().find_map(|(at, part)| Some((at, Special::of(part)?)));
        let Some((at, special)) = found else {
            return Self { of: name.into(), part: Part::Plain, adapter: None, bare: false };
        };
        let (module, rest) = (parts[..at].join("."), &parts[at + 1..]);
        let of = |part, rest: &[&str], adapter: Option<&str>| {
            let of = [&parts[..at], rest].concat().join(".");
            Self { of, part, adapter: adapter.map(String::from), bare: false }
        };
        let (part, adapter) = match (special, rest) {
            (Special::Layer(part), [_, ..]) => return of(part, rest, None),
            (Special::Saved, [_]) => return of(Part::Saved, rest, None),
            (Special::Saved, [adapter, rest @ ..]) => return of(Part::Saved, rest, Some(adapter)),
            (Special::Matrix(part), [] | ["weight"]) => (part, None),
            (Special::Matrix(part), [adapter, "weight"]) => (part, Some(*adapter)),
            (Special::Matrix(Part::B), ["bias"]) => (Part::Bias, None),
            (Special::Matrix(Part::B), [adapter, "bias"]) => (Part::Bias, Some(*adapter)),
            (Special::Parameter(part), [] | ["weight"]) => (part, None),
            (Special::Parameter(part), [adapter] | [adapter, "weight"]) => (part, Some(*adapter)),
            _ => (Part::Unknown, None),
        };
        Self { of: module, part, adapter: adapter.map(String::from), bare: rest.is_empty() }
    }

    /// [`of`](Self::of) in this runtime's canonical naming.
    pub fn canonical(&self) -> Cow<'_, str> {
        canonical(&self.of)
    }

    /// True if the tensor's presence shows an adapter that has not been merged.
    pub fn is_of_adapter(&self) -> bool {
        self.part != Part::Plain
    }
}

/// The meaning of one part of a tensor's name.
enum Special {
    /// A wrapper module; its name is dropped from the path.
    Layer(Part),
    Saved,
    /// A linear layer, or its weight alone.
    Matrix(Part),
    /// A parameter; several adapters' are stored under their names.
    Parameter(Part),
    Unknown,
}

impl Special {
    fn of(part: &str) -> Option<Self> {
        Some(match part {
            "base_layer" => Self::Layer(Part::Base),
            "original_module" => Self::Layer(Part::Original),
            "modules_to_save" => Self::Saved,
            "lora_A" | "lora_a" => Self::Matrix(Part::A),
            "lora_B" | "lora_b" => Self::Matrix(Part::B),
            "lora_embedding_A" => Self::Parameter(Part::EmbeddingA),
            "lora_embedding_B" => Self::Parameter(Part::EmbeddingB),
            "lora_magnitude_vector" => Self::Parameter(Part::Magnitude),
            // openpi's JAX names: `gating_einsum_lora_a`, in a module that PyTorch's model doesn't have.
            _ if OTHERS.iter().any(|other| part.starts_with(other)) => Self::Unknown,
            _ if ["_lora_a", "_lora_b", "_lora_A", "_lora_B"].iter().any(|end| part.ends_with(end)) => {
                Self::Unknown
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_module_and_part() {
        for (name, of, part, adapter) in [
            ("model.state_proj.weight", "state_proj.weight", Part::Plain, None),
            ("paligemma.lm_head.weight", "paligemma.lm_head.weight", Part::Plain, None),
            ("base_model.model.model.a.q_proj.lora_A.weight", "a.q_proj", Part::A, None),
            ("base_model.model.a.q_proj.lora_B.default.weight", "a.q_proj", Part::B, Some("default")),
            ("model.a.lora_B.bias", "a", Part::Bias, None),
            ("a.lora_B.default.bias", "a", Part::Bias, Some("default")),
            ("a.lora_A", "a", Part::A, None),
            ("a.lora_b", "a", Part::B, None),
            ("model.a.base_layer.weight", "a.weight", Part::Base, None),
            ("base_model.model.model.a.base_layer.bias", "a.bias", Part::Base, None),
            ("a.modules_to_save.default.weight", "a.weight", Part::Saved, Some("default")),
            ("a.modules_to_save.weight", "a.weight", Part::Saved, None),
            (
                "base_model.model.model.paligemma_with_expert.paligemma.language_model.model.a.lora_A.weight",
                "paligemma_with_expert.paligemma.model.language_model.a",
                Part::A,
                None,
            ),
            ("a.modules_to_save.x.b.weight", "a.b.weight", Part::Saved, Some("x")),
            ("a.original_module.weight", "a.weight", Part::Original, None),
            ("e.lora_embedding_A", "e", Part::EmbeddingA, None),
            ("e.lora_embedding_B.default", "e", Part::EmbeddingB, Some("default")),
            ("a.lora_magnitude_vector", "a", Part::Magnitude, None),
            ("a.lora_magnitude_vector.default.weight", "a", Part::Magnitude, Some("default")),
            ("a.lora_A.bias", "a", Part::Unknown, None),
            ("a.lora_diag.default", "a", Part::Unknown, None),
            ("a.hada_w1_a", "a", Part::Unknown, None),
            ("a.oft_R.weight", "a", Part::Unknown, None),
            ("prompt_embeddings", "", Part::Unknown, None),
            (
                "PaliGemma.llm.layers.mlp.gating_einsum_lora_a",
                "PaliGemma.llm.layers.mlp",
                Part::Unknown,
                None,
            ),
        ] {
            let key = Key::parse(name);
            assert_eq!((&*key.canonical(), key.part, key.adapter.as_deref()), (of, part, adapter), "{name}");
        }
    }
}
