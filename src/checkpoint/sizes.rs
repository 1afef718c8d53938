//! Derives a model's sizes from its tensors' shapes, `arch.json` and `config.json`.

use std::collections::BTreeSet;

use super::arch::Arch;
use super::error::CheckpointError;
use super::files::Files;
use super::json::Object;
use super::names::{EMBED_TOKENS, EXPERT, LANGUAGE, LM_HEAD, VISION};
use super::tensor::Tensor;
use super::variant::{StateInput, Variant};
use super::weights::weights;

const SHAPES: &str = "the tensors' shapes";
const ARCH: &str = "arch.json";
const CONFIG: &str = "config.json";
/// The member of the family in arch.json, by lerobot's name.
const MODEL_KEY: &str = "model";

/// Sizes declared by the files beside the tensors.
pub(super) struct Declared<'a> {
    pub arch: Option<&'a Object>,
    pub config: Option<&'a Object>,
    /// Prompt length that the preprocessor pads to.
    pub max_tokens: Option<usize>,
    /// Widths of the statistics, the last resort for a robot's widths.
    pub state_width: Option<usize>,
    pub action_width: Option<usize>,
}

/// Derives the sizes of the model in `files`: from shapes if possible, else from `arch.json`, else from
/// `config.json`, else PI0's defaults. All sources that declare a size must agree, and every weight of a
/// model of that size must be present in a floating dtype.
pub(super) fn derive(
    files: &Files,
    variant: Variant,
    declared: &Declared<'_>,
) -> Result<Arch, CheckpointError> {
    let full = Arch::published(variant);
    let sources = Sources { files, declared };
    if !Variant::ALL.contains(&variant) {
        return Err(CheckpointError::Unsupported {
            path: files.dir().to_path_buf(),
            what: variant.to_string(),
            why: format!("what runs here is {} and {}", Variant::PI0, Variant::PI05),
        });
    }

    let patch = files.need(&format!("{VISION}embeddings.patch_embedding.weight"))?;
    let [vision_width, channels, patch_size, patch_width] = dims(files, patch, "[width, 3, patch, patch]")?;
    if channels != 3 || patch_width != patch_size || patch_size == 0 {
        return Err(wrong_shape(files, patch, "[width, 3, patch, patch]", "square patches of RGB pixels"));
    }
    let position = files.need(&format!("{VISION}embeddings.position_embedding.weight"))?;
    let [patches, _] = dims(files, position, "[patches, width]")?;
    let side = patches.isqrt();
    if side * side != patches || side == 0 {
        return Err(wrong_shape(
            files,
            position,
            "a square number of rows",
            "one row per patch of a square image",
        ));
    }
    let image_size = side
        .checked_mul(patch_size)
        .ok_or_else(|| CheckpointError::Arch(format!("{side} patches of {patch_size} pixels: too large")))?;
    // lerobot's key, and the key of its versions up to 0.3.
    for key in ["image_resolution", "resize_imgs_with_padding"] {
        let resolution = sources.config_sizes(key)?;
        if let Some(resolution) = resolution.filter(|r| r[..] != [image_size, image_size]) {
            let left = (CONFIG, format!("{resolution:?}"));
            return Err(sources.disagree(key, left, (SHAPES, format!("{image_size}"))));
        }
    }

    let vision_layers = layers(files, &format!("{VISION}encoder.layers."), "layer_norm1.weight")?;
    let depth = layers(files, &format!("{LANGUAGE}layers."), "input_layernorm.weight")?;
    let expert_depth = layers(files, &format!("{EXPERT}layers."), "self_attn.q_proj.weight")?;
    if depth != expert_depth {
        let left = ("the prefix", format!("{depth} layers"));
        return Err(sources.disagree("depth", left, ("the action expert", format!("{expert_depth}"))));
    }

    let rows = |name: &str| -> Result<usize, CheckpointError> {
        let tensor = files.need(name)?;
        Ok(dims::<2>(files, tensor, "[rows, cols]")?[0])
    };
    let [vocab_size, width] = dims(files, embedding(files)?, "[vocabulary, width]")?;
    let q_rows = rows(&format!("{LANGUAGE}layers.0.self_attn.q_proj.weight"))?;
    let k_rows = rows(&format!("{LANGUAGE}layers.0.self_attn.k_proj.weight"))?;
    let declared_head_dim = sources.arch_size("head_dim")?;
    let kv_heads = match (sources.arch_size("kv_heads")?, declared_head_dim) {
        (Some(heads), _) => heads,
        (None, Some(dim)) if dim > 0 => k_rows / dim,
        (None, _) => full.kv_heads,
    };
    let head_dim = declared_head_dim.unwrap_or(k_rows / kv_heads.max(1));
    let heads = sources.arch_size("heads")?.unwrap_or(q_rows / head_dim.max(1));

    let action_in = files.need("action_in_proj.weight")?;
    let [expert_width, max_action_dim] = dims(files, action_in, "[expert_width, max_action_dim]")?;
    let max_state_dim = match variant.state {
        StateInput::Token => {
            let state_proj = files.need("state_proj.weight")?;
            dims::<2>(files, state_proj, "[expert_width, max_state_dim]")?[1]
        }
        StateInput::Text => sources.choose("max_state_dim", &["max_state_dim"], None, full.max_state_dim)?,
    };
    sources.agree("max_state_dim", (CONFIG, sources.config_size("max_state_dim")?), max_state_dim)?;
    sources.agree("max_action_dim", (CONFIG, sources.config_size("max_action_dim")?), max_action_dim)?;
    // openpi's config.json has other names for these.
    if sources.config_text("type")?.is_none() {
        sources.agree("action_dim", (CONFIG, sources.config_size("action_dim")?), max_action_dim)?;
    }

    let vision_heads = sources.arch_size("vision_heads")?.unwrap_or(full.vision_heads);
    if vision_heads == 0 || vision_width % vision_heads != 0 {
        return Err(CheckpointError::Arch(format!(
            "{}: vision_heads: {vision_heads} heads don't divide vision_width {vision_width}; shapes don't tell \
             the number, so arch.json has to (PI0's is {})",
            files.dir().display(),
            full.vision_heads
        )));
    }

    let arch = Arch {
        image_size,
        patch_size,
        vision_width,
        vision_layers,
        vision_heads,
        vision_mlp: rows(&format!("{VISION}encoder.layers.0.mlp.fc1.weight"))?,
        vocab_size,
        width,
        depth,
        mlp: rows(&format!("{LANGUAGE}layers.0.mlp.gate_proj.weight"))?,
        heads,
        kv_heads,
        head_dim,
        expert_width,
        expert_mlp: rows(&format!("{EXPERT}layers.0.mlp.gate_proj.weight"))?,
        max_state_dim,
        max_action_dim,
        chunk_size: sources.choose("chunk_size", &["chunk_size", "action_horizon"], None, full.chunk_size)?,
        num_inference_steps: sources.choose(
            "num_inference_steps",
            &["num_inference_steps", "num_steps"],
            None,
            full.num_inference_steps,
        )?,
        tokenizer_max_length: sources.choose(
            "tokenizer_max_length",
            &["tokenizer_max_length", "max_token_len"],
            declared.max_tokens,
            full.tokenizer_max_length,
        )?,
        state_dim: sources.robot_width(
            "state_dim",
            ("input_features", "observation.state"),
            // A fine-tuned checkpoint keeps its base's state feature, as wide as the model; its statistics
            // have the robot's width.
            declared.state_width.map(|width| (width, max_state_dim)),
            max_state_dim,
        )?,
        action_dim: sources.robot_width(
            "action_dim",
            ("output_features", "action"),
            declared.action_width.map(|width| (width, width)),
            max_action_dim,
        )?,
        variant,
        trained_delay: 0,
    };
    sources.agree_with_arch_json(&arch)?;
    arch.check().map_err(|why| CheckpointError::Arch(format!("{}: {why}", files.dir().display())))?;
    check_weights(files, &arch)?;
    Ok(arch)
}

/// The token embedding: `embed_tokens`, or the tied `lm_head` in its place.
pub(super) fn embedding(files: &Files) -> Result<&Tensor, CheckpointError> {
    files.find(EMBED_TOKENS).or_else(|| files.find(LM_HEAD)).map_or_else(|| files.need(EMBED_TOKENS), Ok)
}

/// Checks that every weight is there, with a floating dtype and the shape that the sizes give it.
fn check_weights(files: &Files, arch: &Arch) -> Result<(), CheckpointError> {
    let dtype = |tensor: &Tensor| {
        if tensor.dtype().is_weight() {
            return Ok(());
        }
        Err(CheckpointError::WeightDtype {
            path: files.dir().to_path_buf(),
            tensor: tensor.name().to_string(),
            got: tensor.dtype_name().to_string(),
        })
    };
    dtype(embedding(files)?)?;
    for spec in weights(arch) {
        let tensor = files.need(&spec.name)?;
        dtype(tensor)?;
        if tensor.shape() != spec.shape {
            return Err(wrong_shape(files, tensor, &format!("{:?}", spec.shape), spec.dims));
        }
    }
    Ok(())
}

fn wrong_shape(files: &Files, tensor: &Tensor, expected: &str, why: &str) -> CheckpointError {
    CheckpointError::Shape {
        path: files.dir().to_path_buf(),
        tensor: tensor.name().to_string(),
        got: tensor.shape().to_vec(),
        expected: expected.to_string(),
        why: why.to_string(),
    }
}

fn dims<const N: usize>(files: &Files, tensor: &Tensor, form: &str) -> Result<[usize; N], CheckpointError> {
    tensor.shape().try_into().map_err(|_| wrong_shape(files, tensor, form, &format!("{N} dimensions")))
}

/// Number of layers `{prefix}0.`, `{prefix}1.` …; `first` names the tensor reported missing for a gap.
fn layers(files: &Files, prefix: &str, first: &str) -> Result<usize, CheckpointError> {
    let numbers: BTreeSet<usize> = files
        .tensors()
        .filter_map(|t| t.name().strip_prefix(prefix)?.split_once('.')?.0.parse().ok())
        .collect();
    let missing = numbers.iter().enumerate().find(|&(i, &n)| i != n).map(|(i, _)| i);
    match missing.or(numbers.is_empty().then_some(0)) {
        Some(i) => files.need(&format!("{prefix}{i}.{first}")).map(|_| numbers.len()),
        None => Ok(numbers.len()),
    }
}

/// The sources of a size.
struct Sources<'a> {
    files: &'a Files,
    declared: &'a Declared<'a>,
}

impl Sources<'_> {
    fn arch_size(&self, key: &str) -> Result<Option<usize>, CheckpointError> {
        self.declared.arch.map_or(Ok(None), |o| o.size(key))
    }

    fn config_size(&self, key: &str) -> Result<Option<usize>, CheckpointError> {
        self.declared.config.map_or(Ok(None), |o| o.size(key))
    }

    fn config_sizes(&self, key: &str) -> Result<Option<Vec<usize>>, CheckpointError> {
        self.declared.config.map_or(Ok(None), |o| o.sizes(key))
    }

    fn config_text(&self, key: &str) -> Result<Option<String>, CheckpointError> {
        self.declared.config.map_or(Ok(None), |o| o.text(key))
    }

    fn disagree(&self, what: &str, left: (&str, String), right: (&str, String)) -> CheckpointError {
        CheckpointError::Disagree {
            path: self.files.dir().to_path_buf(),
            what: what.to_string(),
            left: format!("{} says {}", left.0, left.1),
            right: format!("{} says {}", right.0, right.1),
        }
    }

    /// Checks that a source declares the size that the shapes give, or none.
    fn agree(
        &self,
        what: &str,
        (source, value): (&str, Option<usize>),
        shapes: usize,
    ) -> Result<(), CheckpointError> {
        match value {
            Some(value) if value != shapes => {
                Err(self.disagree(what, (source, value.to_string()), (SHAPES, shapes.to_string())))
            }
            _ => Ok(()),
        }
    }

    /// The size from the first source that declares it: arch.json, config.json (under any of `keys`), the
    /// preprocessor. All sources that declare it must agree.
    fn choose(
        &self,
        field: &'static str,
        keys: &[&str],
        preprocessor: Option<usize>,
        default: usize,
    ) -> Result<usize, CheckpointError> {
        let mut told = vec![(ARCH, self.arch_size(field)?)];
        for key in keys {
            told.push((CONFIG, self.config_size(key)?));
        }
        told.push(("policy_preprocessor.json", preprocessor));
        self.same(field, &told, default)
    }

    /// A robot's width: from arch.json, else the feature's shape in config.json, else the width of its
    /// statistics, else `default`. `statistics` is the width of the statistics and a width that the feature
    /// then declares without meaning, which is ignored.
    fn robot_width(
        &self,
        field: &'static str,
        (features, feature): (&str, &str),
        statistics: Option<(usize, usize)>,
        default: usize,
    ) -> Result<usize, CheckpointError> {
        let mut declared = None;
        let features = self.declared.config.map_or(Ok(None), |o| o.object(features))?;
        if let Some(feature) = features.as_ref().map_or(Ok(None), |f| f.object(feature))? {
            declared = match feature.sizes("shape")?.as_deref() {
                None => None,
                Some(&[n]) => Some(n),
                Some(_) => return Err(feature.wrong("shape", "a list of one number")),
            };
        }
        declared = declared.filter(|&width| statistics.is_none_or(|(_, ignored)| width != ignored));
        let default = statistics.map_or(default, |(width, _)| width);
        self.same(field, &[(ARCH, self.arch_size(field)?), (CONFIG, declared)], default)
    }

    /// The size that all sources agree on; `default` if none declares it.
    fn same(
        &self,
        field: &str,
        told: &[(&str, Option<usize>)],
        default: usize,
    ) -> Result<usize, CheckpointError> {
        let mut told = told.iter().filter_map(|&(source, value)| Some((source, value?)));
        let Some((first, value)) = told.next() else { return Ok(default) };
        match told.find(|&(_, other)| other != value) {
            None => Ok(value),
            Some((source, other)) => {
                Err(self.disagree(field, (first, value.to_string()), (source, other.to_string())))
            }
        }
    }

    /// Checks that arch.json declares no other model and no other size.
    fn agree_with_arch_json(&self, arch: &Arch) -> Result<(), CheckpointError> {
        let Some(object) = self.declared.arch else { return Ok(()) };
        let (fields, model) = (arch.fields(), object.text(MODEL_KEY)?);
        if let Some(model) = model.filter(|model| Some(model.as_str()) != arch.variant.policy_type()) {
            let right = format!("the tensors are those of {}", arch.variant);
            return Err(CheckpointError::Disagree {
                path: self.files.dir().to_path_buf(),
                what: "the model".into(),
                left: format!("{ARCH} says {model:?}"),
                right,
            });
        }
        for key in object.keys().filter(|key| *key != MODEL_KEY) {
            let Some((_, derived)) = fields.iter().find(|(name, _)| name == key) else {
                return Err(CheckpointError::file(object.path(), format!("unknown size {key:?}")));
            };
            self.agree(key, (ARCH, object.size(key)?), *derived)?;
        }
        Ok(())
    }
}
