//! lerobot's processors and, up to 0.3, its configuration and buffers.

use serde_json::{Map, Value, json};

use super::config;
use super::declaration::{BUFFERS, CONFIG, Declaration, MODEL_WIDTH, POST, PRE, Tensor};
use super::formula::{Formula, Norm};
use super::reading::{Asked, Camera, Feature, Refuse, flag, get, mode, norm, object, off, only, text, texts};

const STATE: &str = "observation.state";
const IMAGES: &str = "observation.images.";
/// Types of features: lerobot's `FeatureType`.
const TYPES: [&str; 6] = ["STATE", "VISUAL", "ENV", "ACTION", "REWARD", "LANGUAGE"];

type Fields = Map<String, Value>;

/// The processing declared so far.
struct Reader<'a> {
    declaration: &'a Declaration,
    config: &'a Fields,
    may: Vec<&'static str>,
}

/// A step: its kind, by its class, and its configuration.
struct Step<'a> {
    class: &'static str,
    fields: &'a Fields,
    config: Fields,
}

pub fn asked(declaration: &Declaration) -> Result<Asked, Refuse> {
    let (empty, mut may) = (Map::new(), Vec::new());
    let mut aloha = false;
    let config = match declaration.json.get(CONFIG) {
        Some(config) => {
            let config = config.as_object().ok_or("a config.json that is no object")?;
            let original = Declaration::of(declaration.origin);
            aloha = config::read(config, &original.json[CONFIG], &mut may)?;
            if !config.contains_key("type") && !config.contains_key("input_features") {
                may.push("no sign of lerobot");
            }
            config
        }
        None => {
            may.push("no config.json");
            &empty
        }
    };
    let mut reader = Reader { declaration, config, may };
    let mut asked = match (declaration.json.get(PRE), declaration.json.get(POST)) {
        (Some(pre), Some(post)) => reader.processors(pre, post)?,
        (None, None) => reader.buffers()?,
        _ => return Err("one processor of two"),
    };
    if aloha && asked.relative.is_some() {
        return Err("two ways to adapt actions at once");
    }
    if aloha && declaration.json.contains_key(PRE) {
        reader.may.push("a flag of before beside processors");
    }
    asked.aloha = aloha;
    asked.may_refuse = reader.may;
    Ok(asked)
}

impl Reader<'_> {
    /// The features under `key`, in order: name, type, and the shape of one dimension.
    fn features(&self, key: &str) -> Result<Vec<(String, String, Option<usize>)>, Refuse> {
        let Some(features) = object(self.config, key)? else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for (name, feature) in features {
            let feature = feature.as_object().ok_or("a feature that is no object")?;
            if feature.iter().any(|(key, value)| key != "type" && key != "shape" && !off(value)) {
                return Err("a field of a feature that nobody knows");
            }
            let kind = feature.get("type").and_then(Value::as_str).ok_or("a feature of no type")?;
            if !TYPES.contains(&kind) {
                return Err("a type of feature nobody knows");
            }
            let width = match get(feature, "shape") {
                _ if name != STATE && name != "action" => None,
                None => None,
                Some(shape) => match shape.as_array().map(Vec::as_slice) {
                    Some([width]) => Some(width.as_u64().ok_or("a width that is no number")? as usize),
                    _ => return Err("a vector that is no vector"),
                },
            };
            found.push((name.clone(), kind.to_string(), width));
        }
        Ok(found)
    }

    /// The statistics that `normalization_mapping` requires for a type; an error if it doesn't mention the
    /// type.
    fn mapping(&self, kind: &str) -> Result<Option<[&'static str; 2]>, Refuse> {
        match object(self.config, "normalization_mapping")? {
            Some(map) => {
                if map.keys().any(|key| !TYPES.contains(&key.as_str())) {
                    return Err("a type of feature nobody knows");
                }
                match text(map, kind)? {
                    Some(name) => mode(name),
                    None if kind == "VISUAL" => Ok(None),
                    None => Err("no mode of a type"),
                }
            }
            None if kind == "VISUAL" => Ok(None),
            None => Ok(Some(["mean", "std"])),
        }
    }

    fn width(&self, features: &str, key: &str, kind: &str, norm: Option<&Norm>) -> Result<usize, Refuse> {
        let found = self.features(features)?.into_iter().find(|(name, ..)| name == key);
        if found.as_ref().is_some_and(|(_, found, _)| found != kind) {
            return Err("a feature of another type");
        }
        let statistics = norm.map(|norm| norm.first.len());
        // The state feature of a base is as wide as the model.
        let declared = found
            .and_then(|found| found.2)
            .filter(|&width| key != STATE || statistics.is_none() || width != MODEL_WIDTH);
        Ok(declared.or(statistics).unwrap_or(MODEL_WIDTH))
    }

    /// The cameras in order, by the robot's names.
    fn cameras(
        &mut self,
        renamed: &[(String, String)],
        mut norm: impl FnMut(&mut Self, &str) -> Result<Option<Norm>, Refuse>,
    ) -> Result<Vec<Camera>, Refuse> {
        let features = self.features("input_features")?;
        let mut keys: Vec<String> =
            features.iter().filter(|(_, kind, _)| kind == "VISUAL").map(|(key, ..)| key.clone()).collect();
        let mut renamed = renamed;
        if features.is_empty() {
            keys = ["base", "left_wrist", "right_wrist"].map(|name| format!("{IMAGES}{name}_0_rgb")).into();
            renamed = &[];
            self.may.push("no input features");
        }
        if keys.is_empty() {
            return Err("no camera");
        }
        let short = |key: &str| key.strip_prefix(IMAGES).unwrap_or(key).to_string();
        let mut cameras: Vec<Camera> = Vec::new();
        for key in keys {
            let sources: Vec<&String> =
                renamed.iter().filter(|(_, to)| *to == key).map(|(from, _)| from).collect();
            let stays = !renamed.iter().any(|(from, _)| *from == key);
            let name = match sources[..] {
                [] if stays => short(&key),
                [one] => short(one),
                _ => return Err("a camera with no name or several"),
            };
            if cameras.iter().any(|camera| camera.name == name) {
                return Err("two cameras of one name");
            }
            cameras.push(Camera { name, key: short(&key), norm: norm(self, &key)? });
        }
        if cameras.iter().any(|camera| camera.name.is_empty()) {
            self.may.push("a camera without a name");
        }
        Ok(cameras)
    }

    // ---- since 0.4

    fn processors(&mut self, pre: &Value, post: &Value) -> Result<Asked, Refuse> {
        let pre = self.steps(pre, &[&["Rename", "Relative", "Normalizer"], &["NewLine", "Tokenizer"]])?;
        let post = self.steps(post, &[&["Unnormalizer", "Absolute"]])?;
        fn find<'s, 'a>(steps: &'s [Step<'a>], class: &str) -> Option<&'s Step<'a>> {
            steps.iter().find(|step| step.class == class)
        }
        let tokenizer = find(&pre, "Tokenizer").ok_or("no tokens")?;
        find(&pre, "NewLine").ok_or("no line feed")?;
        if text(&tokenizer.config, "task_key")?.is_some_and(|key| key != "task") {
            return Err("tokens of another text");
        }
        let original = Declaration::of(self.declaration.origin);
        let written = original.json[PRE]["steps"][3]["config"].as_object();
        if written != Some(&tokenizer.config) || tokenizer.fields.contains_key("artifacts") {
            self.may.push("another tokenizer");
        }

        let renamed = match find(&pre, "Rename") {
            Some(step) => {
                let empty = Map::new();
                let map = object(&step.config, "rename_map")?.unwrap_or(&empty);
                let pair = |(from, to): (&String, &Value)| Some((from.clone(), to.as_str()?.to_string()));
                map.iter().map(pair).collect::<Option<Vec<_>>>().ok_or("a name that is no text")?
            }
            None => Vec::new(),
        };
        let states = renamed.iter().filter(|(_, to)| to == STATE).count();
        if states > 1 || states == 0 && renamed.iter().any(|(from, _)| from == STATE) {
            return Err("no state or several");
        }

        let enabled = |step: Option<&Step<'_>>| step.map_or(Ok(false), |step| flag(&step.config, "enabled"));
        let relative = find(&pre, "Relative");
        let relative = match (enabled(relative)?, enabled(find(&post, "Absolute"))?) {
            (true, true) => relative,
            (false, false) => None,
            _ => return Err("relative on one side"),
        };
        match flag(self.config, "use_relative_actions") {
            Ok(false) => {}
            Ok(true) if relative.is_some() => {}
            Err(_) if relative.is_some() => self.may.push("a switch that decides nothing"),
            _ => return Err("relative in config.json alone"),
        }

        let normalizer = find(&pre, "Normalizer");
        let norm = self.observation(normalizer, STATE, "STATE")?;
        let state = Feature { width: self.width("input_features", STATE, "STATE", norm.as_ref())?, norm };
        let norm = self.action(find(&post, "Unnormalizer"))?;
        let action =
            Feature { width: self.width("output_features", "action", "ACTION", norm.as_ref())?, norm };
        let cameras = self.cameras(&renamed, |this, key| this.observation(normalizer, key, "VISUAL"))?;
        let relative = relative.map(|step| mask(&step.config, action.width)).transpose()?;
        Ok(Asked { state, action, relative, aloha: false, cameras, may_refuse: Vec::new() })
    }

    fn steps<'a>(&mut self, file: &'a Value, orders: &[&[&str]]) -> Result<Vec<Step<'a>>, Refuse> {
        let file = file.as_object().ok_or("a processor that is no object")?;
        only(file, &["name", "steps"], &mut self.may)?;
        let steps = file.get("steps").and_then(Value::as_array).ok_or("no steps")?;
        let steps = steps.iter().map(|step| self.step(step)).collect::<Result<Vec<_>, _>>()?;
        for step in &steps {
            if !["Batch", "Device"].contains(&step.class) && !orders.iter().any(|o| o.contains(&step.class)) {
                return Err("a step of the other processor");
            }
        }
        for order in orders {
            let places = steps.iter().filter_map(|step| order.iter().position(|class| *class == step.class));
            if !places.collect::<Vec<_>>().is_sorted_by(|a, b| a < b) {
                return Err("steps twice or in another order");
            }
        }
        Ok(steps)
    }

    fn step<'a>(&mut self, step: &'a Value) -> Result<Step<'a>, Refuse> {
        let fields = step.as_object().ok_or("a step that is no object")?;
        only(fields, &["registry_name", "class", "config", "state_file", "artifacts"], &mut self.may)?;
        let class = text(fields, "class")?;
        let class = match (text(fields, "registry_name")?, class) {
            (Some(name), _) => match name {
                "rename_observations_processor" => "Rename",
                "to_batch_processor" => "Batch",
                "pi0_new_line_processor" | "smolvla_new_line_processor" => "NewLine",
                "tokenizer_processor" => "Tokenizer",
                "device_processor" => "Device",
                "relative_actions_processor" | "delta_actions_processor" => "Relative",
                "normalizer_processor" => "Normalizer",
                "unnormalizer_processor" => "Unnormalizer",
                "absolute_actions_processor" => "Absolute",
                _ => return Err("a step nobody knows"),
            },
            (None, Some(path)) if path.starts_with("lerobot.") => match path.rsplit('.').next() {
                Some("NormalizerProcessorStep") => "Normalizer",
                Some("UnnormalizerProcessorStep") => "Unnormalizer",
                Some("DeviceProcessorStep") => "Device",
                _ => return Err("a step nobody knows"),
            },
            _ => return Err("a step nobody knows"),
        };
        let config = object(fields, "config")?.cloned().unwrap_or_default();
        let known: &[&str] = match class {
            "Rename" => &["rename_map"],
            "Tokenizer" => {
                &["max_length", "task_key", "padding_side", "padding", "truncation", "tokenizer_name"]
            }
            "Device" => &["device", "float_dtype"],
            "Relative" => &["enabled", "exclude_joints", "action_names"],
            "Absolute" => &["enabled"],
            "Normalizer" | "Unnormalizer" => &["eps", "features", "norm_map", "normalize_observation_keys"],
            _ => &[],
        };
        only(&config, known, &mut self.may)?;
        let normalizes = class.ends_with("ormalizer");
        for (key, belongs) in [("state_file", normalizes), ("artifacts", class == "Tokenizer")] {
            match fields.get(key).filter(|_| !belongs) {
                Some(value) if !off(value) => return Err("a file of a step that has none"),
                Some(_) => self.may.push("a field nobody knows that is off"),
                None => {}
            }
        }
        if class == "Device" && !matches!(text(&config, "float_dtype")?, None | Some("float32" | "float")) {
            return Err("numbers of another precision");
        }
        Ok(Step { class, fields, config })
    }

    fn observation(
        &mut self,
        step: Option<&Step<'_>>,
        key: &str,
        kind: &str,
    ) -> Result<Option<Norm>, Refuse> {
        let Some(step) = step else {
            return match self.mapping(kind)? {
                None => Ok(None),
                Some(_) => Err("a normalization without its step"),
            };
        };
        if texts(&step.config, "normalize_observation_keys")?.is_some_and(|keys| !keys.contains(&key)) {
            self.may.push("an observation that is not to be normalized");
            return Ok(None);
        }
        let Some(names) = self.of_step(step, kind)? else { return Ok(None) };
        let features = object(&step.config, "features")?.ok_or("no features")?;
        let feature = object(features, key)?.ok_or("a feature that is not listed")?;
        if feature.iter().any(|(key, value)| key != "type" && key != "shape" && !off(value)) {
            return Err("a field of a feature that nobody knows");
        }
        if feature.get("type") != Some(&json!(kind)) {
            return Err("a feature of another type");
        }
        self.state_file(step, key, names).map(Some)
    }

    fn action(&mut self, step: Option<&Step<'_>>) -> Result<Option<Norm>, Refuse> {
        let Some(step) = step else {
            return match self.mapping("ACTION")? {
                None => Ok(None),
                Some(_) => Err("a normalization without its step"),
            };
        };
        match self.of_step(step, "ACTION")? {
            Some(names) => self.state_file(step, "action", names).map(Some),
            None => Ok(None),
        }
    }

    /// The statistics that a step's `norm_map` requires for a type.
    fn of_step(&mut self, step: &Step<'_>, kind: &str) -> Result<Option<[&'static str; 2]>, Refuse> {
        let own = object(&step.config, "norm_map")?;
        if own.is_some_and(|map| map.keys().any(|key| !TYPES.contains(&key.as_str()))) {
            return Err("a type of feature nobody knows");
        }
        match own.map_or(Ok(None), |map| text(map, kind))? {
            Some(name) => {
                if self.mapping(kind).is_err() {
                    self.may.push("a normalization_mapping that decides nothing");
                }
                mode(name)
            }
            None => match self.mapping(kind)? {
                None => Ok(None),
                Some(_) => Err("a step that says nothing of a type"),
            },
        }
    }

    fn state_file(&mut self, step: &Step<'_>, key: &str, names: [&'static str; 2]) -> Result<Norm, Refuse> {
        let file = text(step.fields, "state_file")?.ok_or("no state_file")?;
        let epsilon = match get(&step.config, "eps") {
            None => 1e-8,
            Some(eps) => eps.as_f64().filter(|eps| *eps >= 0.0).ok_or("an epsilon that is none")?,
        };
        let tensors = self.declaration.tensors.get(file).ok_or("no file of statistics")?;
        norm(tensors, key, names, Formula::Lerobot, epsilon, &mut self.may)
    }

    // ---- up to 0.3

    fn buffers(&mut self) -> Result<Asked, Refuse> {
        if flag(self.config, "use_relative_actions")? {
            return Err("relative actions before there were any");
        }
        let norm = self.buffer("normalize_inputs.", STATE, "STATE")?;
        let state = Feature { width: self.width("input_features", STATE, "STATE", norm.as_ref())?, norm };
        let norm = self.buffer("unnormalize_outputs.", "action", "ACTION")?;
        let action =
            Feature { width: self.width("output_features", "action", "ACTION", norm.as_ref())?, norm };
        for (features, key) in [("input_features", STATE), ("output_features", "action")] {
            if !self.features(features)?.iter().any(|(name, ..)| name == key) {
                self.may.push("statistics of a feature that is not listed");
            }
        }
        let cameras = self.cameras(&[], |this, key| this.buffer("normalize_inputs.", key, "VISUAL"))?;
        Ok(Asked { state, action, relative: None, aloha: false, cameras, may_refuse: Vec::new() })
    }

    fn buffer(&mut self, module: &str, key: &str, kind: &str) -> Result<Option<Norm>, Refuse> {
        let Some(names) = self.mapping(kind)? else { return Ok(None) };
        if !["mean", "min"].contains(&names[0]) {
            return Err("a mode that lerobot had not yet");
        }
        let tensors: &[Tensor] = self.declaration.tensors.get(BUFFERS).map_or(&[], Vec::as_slice);
        let key = format!("{module}buffer_{}", key.replace('.', "_"));
        norm(tensors, &key, names, Formula::Modules, 1e-8, &mut self.may).map(Some)
    }
}

/// `_build_mask` of `RelativeActionsProcessorStep`.
fn mask(config: &Fields, width: usize) -> Result<Vec<bool>, Refuse> {
    let exclude = texts(config, "exclude_joints")?.unwrap_or_default();
    let exclude: Vec<String> = exclude.into_iter().filter(|e| !e.is_empty()).map(str::to_lowercase).collect();
    let names = texts(config, "action_names")?.unwrap_or_default();
    let excluded = |name: &str| exclude.iter().any(|part| name.to_lowercase().contains(part.as_str()));
    Ok((0..width).map(|i| !names.get(i).is_some_and(|name| excluded(name))).collect())
}
