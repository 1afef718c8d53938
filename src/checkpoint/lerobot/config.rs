//! lerobot's `config.json`: the fields that matter here.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::names::{ACTION, IMAGES, STATE};
use crate::checkpoint::error::{CheckpointError, clip};
use crate::checkpoint::faults::Faults;
use crate::checkpoint::json::{Object, read_text};
use crate::checkpoint::normalization::NormMode;

/// lerobot's feature types: `FeatureType` in `configs/types.py`.
const FEATURE_TYPES: [&str; 6] = ["STATE", "VISUAL", "ENV", "ACTION", "REWARD", "LANGUAGE"];

/// Fields that are read: in this file, with the sizes, or as options of serving.
const READ: [&str; 32] = [
    "type",
    "n_obs_steps",
    "normalization_mapping",
    "input_features",
    "output_features",
    "use_peft",
    "chunk_size",
    "n_action_steps",
    "max_state_dim",
    "max_action_dim",
    "num_inference_steps",
    "min_period",
    // Training-time real-time chunking, and observation memory, which isn't supported.
    "rtc_config",
    "rtc_training_max_delay",
    "rtc_training_config",
    "use_visual_memory",
    "use_proprioceptive_memory",
    "max_period",
    "use_relative_actions",
    "action_feature_names",
    "image_resolution",
    "empty_cameras",
    "tokenizer_max_length",
    // lerobot up to 0.3.
    "resize_imgs_with_padding",
    "adapt_to_pi_aloha",
    "use_delta_joint_actions_aloha",
    "num_steps",
    // pi0rt's own fields.
    "control_rate_hz",
    "truncate_prompt",
    // Sizes by openpi's names, and openpi's flag for π0.5.
    "action_horizon",
    "action_dim",
    "pi05",
];

/// Fields that do not change the result of inference.
const WITHOUT_EFFECT: [&str; 37] = [
    // Where the policy ran and how it was published.
    "device",
    "use_amp",
    "push_to_hub",
    "repo_id",
    "private",
    "tags",
    "license",
    "pretrained_path",
    "pretrained_revision",
    // Precision of training; the variants are told by the weights' shapes.
    "dtype",
    "paligemma_variant",
    "action_expert_variant",
    // Speed of execution. All attention implementations compute the same.
    "compile_model",
    "compile_mode",
    "use_cache",
    "attention_implementation",
    // Of observation memory, which is off.
    "memory_frames",
    "memory_stride",
    "memory_temporal_attention_every",
    // The preprocessor's own copy is used.
    "relative_exclude_joints",
    // Width of the projections, told by the weights' shapes.
    "proj_width",
    // Training.
    "time_sampling_beta_alpha",
    "time_sampling_beta_beta",
    "time_sampling_scale",
    "time_sampling_offset",
    "gradient_checkpointing",
    "freeze_vision_encoder",
    "train_expert_only",
    "train_state_proj",
    "optimizer_lr",
    "optimizer_betas",
    "optimizer_eps",
    "optimizer_weight_decay",
    "optimizer_grad_clip_norm",
    "scheduler_warmup_steps",
    "scheduler_decay_steps",
    "scheduler_decay_lr",
];

/// The configuration, with lerobot's defaults for what it leaves out.
pub(super) struct Config<'a> {
    path: PathBuf,
    object: Option<&'a Object>,
    inputs: Vec<(String, Feature)>,
    outputs: Vec<(String, Feature)>,
    /// Number of inputs named `empty_camera_N`, which no robot camera fills.
    empty_cameras: usize,
    /// The mode where `normalization_mapping` says nothing.
    default: NormMode,
}

impl<'a> Config<'a> {
    /// Reads `path`, which holds `object`; `default` is the mode of states and actions where it has none.
    pub fn new(path: &Path, object: Option<&'a Object>, default: NormMode) -> Result<Self, CheckpointError> {
        let Features { input_features, output_features } = features(path)?;
        let named = |key: &str, found: Option<InOrder>| {
            let found = found.map_or(Vec::new(), |found| found.0);
            let feature = |(name, map): (String, Map<String, Value>)| {
                let r#type = feature_type(&Object::new(path, &format!("{key}.{name}."), map))?;
                Ok((name, Feature { r#type }))
            };
            found.into_iter().map(feature).collect::<Result<Vec<_>, CheckpointError>>()
        };
        Ok(Self {
            path: path.to_path_buf(),
            object,
            inputs: named("input_features", input_features)?,
            outputs: named("output_features", output_features)?,
            empty_cameras: object.map_or(Ok(None), |o| o.size("empty_cameras"))?.unwrap_or(0),
            default,
        })
    }

    /// Checks all fields; returns those that are not understood or not supported.
    pub fn faults(&self) -> Faults {
        let mut faults = Faults::default();
        let Some(object) = self.object else { return faults };
        let known = |key: &&str| READ.contains(key) || WITHOUT_EFFECT.contains(key) || object.is_nothing(key);
        for key in object.keys().filter(|key| !known(key)) {
            let why = "it is no field of lerobot's pi0 and pi05, and could change what the policy computes";
            faults.add(object.unsupported(key, why));
        }
        if faults.keep(object.size("n_obs_steps")).is_some_and(|steps| steps != 1) {
            faults.add(object.unsupported("n_obs_steps", "PI0 sees one observation"));
        }
        if faults.keep(object.flag("use_delta_joint_actions_aloha")) == Some(true) {
            let why = "lerobot never had the deltas it stands for (it raised NotImplementedError)";
            faults.add(object.unsupported("use_delta_joint_actions_aloha", why));
        }
        if self.has("resize_imgs_with_padding") && object.is_nothing("resize_imgs_with_padding") {
            let why = "frames are always brought to the model's size here";
            faults.add(object.unsupported("resize_imgs_with_padding", why));
        }
        let kinds = [(&self.inputs, STATE, "STATE"), (&self.outputs, ACTION, "ACTION")];
        for (features, name, kind) in kinds {
            if let Some((_, feature)) = features.iter().find(|(key, f)| key == name && f.r#type != kind) {
                let why = format!("{name} is of type {:?}, expected {kind:?}", clip(&feature.r#type));
                faults.add(CheckpointError::file(&self.path, why));
            }
        }
        faults
    }

    pub fn unsupported(&self, what: String, why: &str) -> CheckpointError {
        CheckpointError::Unsupported { path: self.path.clone(), what, why: why.into() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The mode `normalization_mapping` has for a kind of features, the model's where it says nothing; `None` is
    /// `IDENTITY`.
    pub fn mode(&self, kind: &str) -> Result<Option<NormMode>, CheckpointError> {
        let mapping = self.object.map_or(Ok(None), |o| o.object("normalization_mapping"))?;
        match mapping.map_or(Ok(None), |mapping| mode(&mapping, kind))? {
            Some(mode) => Ok(mode),
            None => Ok((kind != "VISUAL").then_some(self.default)),
        }
    }

    /// True if there is a `normalization_mapping` that does not mention this feature type.
    pub fn leaves_open(&self, kind: &str) -> Result<bool, CheckpointError> {
        let mapping = self.object.map_or(Ok(None), |o| o.object("normalization_mapping"))?;
        mapping.map_or(Ok(false), |mapping| Ok(mapping.text(kind)?.is_none()))
    }

    /// Keys of the cameras, such as `observation.images.base_0_rgb`, in the model's order.
    ///
    /// Empty cameras are left out unless `renamed` says that a frame is mapped to one: the model masks
    /// inputs that no robot sends.
    pub fn cameras(&self, renamed: impl Fn(&str) -> bool) -> Result<Vec<&str>, CheckpointError> {
        let visual = self.inputs.iter().filter(|(_, feature)| feature.r#type == "VISUAL");
        let seen = visual.map(|(key, _)| key.as_str()).filter(|key| renamed(key) || !self.is_empty(key));
        let cameras: Vec<&str> = seen.collect();
        if let Some(twice) =
            cameras.iter().enumerate().find_map(|(i, c)| cameras[..i].contains(c).then_some(c))
        {
            let why = format!("input_features: camera {twice:?} is there twice");
            return Err(CheckpointError::file(&self.path, why));
        }
        if cameras.is_empty() && !self.inputs.is_empty() {
            let why = "input_features: no feature of type VISUAL that a robot sends, expected a camera";
            return Err(CheckpointError::file(&self.path, why));
        }
        Ok(cameras)
    }

    fn is_empty(&self, key: &str) -> bool {
        let number = key.strip_prefix(IMAGES).and_then(|name| name.strip_prefix("empty_camera_"));
        number.and_then(|n| n.parse().ok()).is_some_and(|n: usize| n < self.empty_cameras)
    }

    pub fn flag(&self, key: &str) -> Result<bool, CheckpointError> {
        Ok(self.object.map_or(Ok(None), |o| o.flag(key))? == Some(true))
    }

    pub fn has(&self, key: &str) -> bool {
        self.object.is_some_and(|object| object.has(key))
    }
}

/// The mode of `kind` in a map of modes; `Some(None)` for `IDENTITY`.
pub(super) fn mode(map: &Object, kind: &str) -> Result<Option<Option<NormMode>>, CheckpointError> {
    if let Some(key) = map.keys().find(|key| !FEATURE_TYPES.contains(key)) {
        return Err(
            map.unsupported(key, &format!("lerobot's types of features are {}", FEATURE_TYPES.join(", ")))
        );
    }
    let Some(name) = map.text(kind)? else { return Ok(None) };
    if name == "IDENTITY" {
        return Ok(Some(None));
    }
    match NormMode::ALL.into_iter().find(|mode| mode.name() == name) {
        Some(mode) => Ok(Some(Some(mode))),
        None => {
            let known = NormMode::ALL.map(NormMode::name).join(", ");
            Err(map.unsupported(kind, &format!("expected {known} or IDENTITY")))
        }
    }
}

#[derive(Default, Deserialize)]
struct Features {
    input_features: Option<InOrder>,
    output_features: Option<InOrder>,
}

struct Feature {
    r#type: String,
}

/// The type of a feature. lerobot's `PolicyFeature` has only this and the shape.
pub(super) fn feature_type(feature: &Object) -> Result<String, CheckpointError> {
    let known = |key: &&str| ["type", "shape"].contains(key) || feature.is_nothing(key);
    if let Some(key) = feature.keys().find(|key| !known(key)) {
        let why = "a feature of lerobot's has a type and a shape, and this could change what becomes of it";
        return Err(feature.unsupported(key, why));
    }
    let expected = FEATURE_TYPES.join(", ");
    match feature.text("type")? {
        Some(kind) if FEATURE_TYPES.contains(&kind.as_str()) => Ok(kind),
        _ => Err(feature.wrong("type", &format!("one of {expected}"))),
    }
}

struct InOrder(Vec<(String, Map<String, Value>)>);

impl<'de> Deserialize<'de> for InOrder {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = InOrder;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of features")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<InOrder, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(InOrder(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// The features in the order of the file, which is the order of the cameras.
fn features(path: &Path) -> Result<Features, CheckpointError> {
    let Some(text) = read_text(path)? else { return Ok(Features::default()) };
    serde_json::from_str(&text).map_err(|e| {
        CheckpointError::file(path, format!("input_features, output_features: {}", clip(&e.to_string())))
    })
}
