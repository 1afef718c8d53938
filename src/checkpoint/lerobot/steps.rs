//! lerobot's processors: the steps used by PI0 and PI0.5.
//!
//! Formulas: `processor/*.py`, `policies/pi0/processor_pi0.py` and `policies/pi05/processor_pi05.py` of lerobot 0.4
//! to 0.6. A step is identified by its name in lerobot's registry or, where the file gives a class instead, by the
//! class.

use std::path::{Path, PathBuf};

use super::names;
use crate::checkpoint::error::{CheckpointError, clip};
use crate::checkpoint::json::{Object, is_plain};
use crate::checkpoint::variant::StateInput;

/// The operation of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Renames observations to the policy's names.
    Rename,
    /// Adds a batch dimension of 1.
    Batch,
    /// Appends a line feed to the instruction.
    NewLine,
    /// Makes the instruction a prompt that tells the normalized state.
    StateText,
    /// Tokenizes the instruction.
    Tokenizer,
    /// Moves tensors to a device.
    Device,
    /// Keeps the state for `Absolute`; in training, subtracts it from actions.
    Relative,
    /// Normalizes observations.
    Normalizer,
    /// Undoes the normalization of actions.
    Unnormalizer,
    /// Adds the state to actions.
    Absolute,
}

struct Known {
    kind: Kind,
    /// Names in lerobot's registry, the current version's first.
    names: &'static [&'static str],
    class: &'static str,
    /// Fields of its configuration. Marked ones may only be null.
    fields: &'static [&'static str],
}

const KNOWN: [Known; 10] = [
    Known {
        kind: Kind::Rename,
        names: &["rename_observations_processor"],
        class: "RenameObservationsProcessorStep",
        fields: &["rename_map"],
    },
    Known {
        kind: Kind::Batch,
        names: &["to_batch_processor"],
        class: "AddBatchDimensionProcessorStep",
        fields: &[],
    },
    Known {
        kind: Kind::NewLine,
        names: &["pi0_new_line_processor", "smolvla_new_line_processor"],
        class: "Pi0NewLineProcessor",
        fields: &[],
    },
    Known {
        kind: Kind::StateText,
        names: &["pi05_prepare_state_tokenizer_processor_step"],
        class: "Pi05PrepareStateTokenizerProcessorStep",
        fields: &[],
    },
    Known {
        kind: Kind::Tokenizer,
        names: &["tokenizer_processor"],
        class: "TokenizerProcessorStep",
        fields: &["max_length", "task_key", "padding_side", "padding", "truncation", "tokenizer_name"],
    },
    Known {
        kind: Kind::Device,
        names: &["device_processor"],
        class: "DeviceProcessorStep",
        fields: &["device", "float_dtype"],
    },
    Known {
        kind: Kind::Relative,
        names: &["relative_actions_processor", "delta_actions_processor"],
        class: "RelativeActionsProcessorStep",
        fields: &["enabled", "exclude_joints", "action_names"],
    },
    Known {
        kind: Kind::Normalizer,
        names: &["normalizer_processor"],
        class: "NormalizerProcessorStep",
        fields: &["eps", "features", "norm_map", "normalize_observation_keys"],
    },
    Known {
        kind: Kind::Unnormalizer,
        names: &["unnormalizer_processor"],
        class: "UnnormalizerProcessorStep",
        fields: &["eps", "features", "norm_map", "normalize_observation_keys"],
    },
    Known {
        kind: Kind::Absolute,
        names: &["absolute_actions_processor"],
        class: "AbsoluteActionsProcessorStep",
        fields: &["enabled"],
    },
];

/// One of the two processors. Each of its chains lists steps that come in this order, each at most once;
/// steps that change no number may be anywhere.
pub(super) struct Processor {
    pub file: &'static str,
    chains: &'static [&'static [Kind]],
}

/// The steps before a model that is given the state in this way.
pub(super) const fn preprocessor(state: StateInput) -> &'static Processor {
    match state {
        StateInput::Token => &Processor {
            file: names::PREPROCESSOR,
            chains: &[&[Kind::Rename, Kind::Relative, Kind::Normalizer], &[Kind::NewLine, Kind::Tokenizer]],
        },
        // The text tells the state as it is normalized.
        StateInput::Text => &Processor {
            file: names::PREPROCESSOR,
            chains: &[&[Kind::Rename, Kind::Relative, Kind::Normalizer, Kind::StateText, Kind::Tokenizer]],
        },
    }
}

pub(super) const POSTPROCESSOR: Processor =
    Processor { file: names::POSTPROCESSOR, chains: &[&[Kind::Unnormalizer, Kind::Absolute]] };

/// The parsed steps of one processor.
pub(super) struct Steps {
    path: PathBuf,
    steps: Vec<Step>,
}

/// One step.
pub(super) struct Step {
    kind: Kind,
    /// As the file has it.
    name: String,
    /// Its name in the file.
    pub config: Object,
    object: Object,
}

impl Steps {
    /// Reads a processor's file; `None` if there is none.
    ///
    /// # Errors
    /// If a step is unknown, has an unknown field, or stands where it would have another effect.
    pub fn read(dir: &Path, processor: &Processor) -> Result<Option<Self>, CheckpointError> {
        let path = dir.join(processor.file);
        let Some(file) = Object::read(&path)? else { return Ok(None) };
        fields(&file, &["name", "steps"], "the file")?;
        let objects = file.objects("steps")?.ok_or_else(|| file.wrong("steps", "a list of objects"))?;
        let steps = objects.into_iter().map(Step::read).collect::<Result<Vec<_>, _>>()?;
        for step in &steps {
            let anywhere = matches!(step.kind, Kind::Batch | Kind::Device);
            if !anywhere && !processor.chains.iter().any(|chain| chain.contains(&step.kind)) {
                return Err(step.unsupported(format!("it has no place in {}", processor.file)));
            }
        }
        for chain in processor.chains {
            let mut before: Option<(usize, &Step)> = None;
            for step in &steps {
                let Some(place) = chain.iter().position(|&kind| kind == step.kind) else { continue };
                if let Some((_, earlier)) = before.filter(|&(earlier, _)| earlier >= place) {
                    return Err(step.unsupported(match earlier.kind == step.kind {
                        true => "it is there twice".into(),
                        false => format!("it comes after {:?}, where it does something else", earlier.name),
                    }));
                }
                before = Some((place, step));
            }
        }
        Ok(Some(Self { path, steps }))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn find(&self, kind: Kind) -> Option<&Step> {
        self.steps.iter().find(|step| step.kind == kind)
    }

    /// The step of a required kind.
    pub fn need(&self, kind: Kind, why: &str) -> Result<&Step, CheckpointError> {
        self.find(kind).ok_or_else(|| {
            let name = KNOWN.iter().find(|known| known.kind == kind).map_or("", |known| known.names[0]);
            CheckpointError::file(&self.path, format!("no step {name:?}: {why}"))
        })
    }
}

impl Step {
    fn read(object: Object) -> Result<Self, CheckpointError> {
        let (registered, class) = (object.text("registry_name")?, object.text("class")?);
        let known = match (&registered, &class) {
            (Some(name), _) => KNOWN.iter().find(|known| known.names.contains(&name.as_str())),
            (None, Some(path)) => {
                let class = path.strip_prefix("lerobot.").and_then(|path| path.rsplit('.').next());
                KNOWN.iter().find(|known| class == Some(known.class))
            }
            (None, None) => return Err(object.wrong("registry_name", "the name of a step")),
        };
        let name = clip(&registered.or(class).unwrap_or_default());
        let config = object.object_or_empty("config")?;
        let Some(known) = known else {
            return Err(CheckpointError::Unsupported {
                path: object.path().to_path_buf(),
                what: format!("step {name:?}"),
                why: "it is none of the steps of lerobot's pi0 and pi05, and what it does to numbers is unknown"
                    .into(),
            });
        };
        let step = Self { kind: known.kind, name, config, object };
        step.check(known)?;
        Ok(step)
    }

    fn check(&self, known: &Known) -> Result<(), CheckpointError> {
        let what = format!("step {:?}", self.name);
        fields(&self.object, &["registry_name", "class", "config", "state_file", "artifacts"], &what)?;
        let normalizes = matches!(self.kind, Kind::Normalizer | Kind::Unnormalizer);
        let unset = if normalizes { &["stats", "device", "dtype"][..] } else { &[] };
        let given = |field: &&str| !(unset.contains(field) && self.config.is_nothing(field));
        if let Some(field) = self.config.keys().filter(given).find(|field| !known.fields.contains(field)) {
            let shown = self.config.shown(field);
            return Err(self.unsupported(format!("its field {field:?} ({shown}) is not understood")));
        }
        if !normalizes && !self.object.is_nothing("state_file") {
            return Err(self.unsupported("its field \"state_file\" is not understood".into()));
        }
        if self.kind != Kind::Tokenizer && !self.object.is_nothing("artifacts") {
            return Err(self.unsupported("its field \"artifacts\" is not understood".into()));
        }
        if self.kind == Kind::Device {
            // Another dtype would round every number of the observation.
            let dtype = self.config.text("float_dtype")?;
            if let Some(dtype) = dtype.filter(|dtype| !["float32", "float"].contains(&dtype.as_str())) {
                return Err(
                    self.unsupported(format!("its float_dtype is {dtype:?}, numbers here are float32"))
                );
            }
        }
        Ok(())
    }

    /// The error that this step is not supported as configured.
    pub fn unsupported(&self, why: String) -> CheckpointError {
        let path = self.object.path().to_path_buf();
        CheckpointError::Unsupported { path, what: format!("step {:?}", self.name), why }
    }

    /// The file with the step's statistics, beside the processor's file, if it has any.
    pub fn state_file(&self) -> Result<Option<PathBuf>, CheckpointError> {
        let Some(name) = self.object.text("state_file")? else { return Ok(None) };
        if !is_plain(&name) {
            return Err(self.object.wrong("state_file", "the name of a file beside this one"));
        }
        Ok(Some(self.object.path().with_file_name(name)))
    }

    /// The step's files, by the configuration field they stand for.
    pub fn artifacts(&self) -> Result<Object, CheckpointError> {
        self.object.object_or_empty("artifacts")
    }
}

/// Refuses keys that are not in `known`.
fn fields(object: &Object, known: &[&str], what: &str) -> Result<(), CheckpointError> {
    match object.keys().find(|key| !known.contains(key)) {
        None => Ok(()),
        Some(key) => Err(CheckpointError::Unsupported {
            path: object.path().to_path_buf(),
            what: format!("field {:?} of {what}", clip(key)),
            why: "it is not understood, and could change what becomes of numbers".into(),
        }),
    }
}
