//! Matches an adapter's tensors with the base weights they change.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;

use super::super::error::{CheckpointError, clip};
use super::super::files::Files;
use super::super::names::{EMBED_TOKENS, LM_HEAD};
use super::super::safetensors::SafeTensors;
use super::super::tensor::Tensor;
use super::config::Config;
use super::delta::{Delta, Magnitude, Merged};
use super::keys::{Key, Part};

/// Base weights with an adapter's changes applied on reading.
pub(in super::super) struct Weights {
    /// The merged tensors, by the names they get in the file.
    pub tensors: HashMap<String, Merged>,
    /// The base weights' `__metadata__`.
    pub metadata: BTreeMap<String, String>,
    /// The files the weights and the adapter come from.
    pub sources: Vec<PathBuf>,
}

/// Merges the adapter in the file `adapter` into the weights of `files`.
pub(super) fn beside(
    files: &Files,
    adapter: &SafeTensors,
    config: &Config,
) -> Result<Weights, CheckpointError> {
    let mut parts: Vec<Named> =
        adapter.stored().map(|(name, tensor)| Named::new(adapter, name, tensor)).collect();
    for named in &mut parts {
        // Weights in an adapter's file were trained whole: modules_to_save, biases, embeddings.
        if matches!(named.key.part, Part::Plain | Part::Base) {
            named.key.part = Part::Saved;
        }
    }
    for module in &config.saved {
        let is_of = |named: &Named| format!(".{}", named.key.of).contains(&format!(".{module}."));
        if !parts.iter().any(|named| named.key.part == Part::Saved && is_of(named)) {
            let why = format!(
                "modules_to_save names {module:?}, but {} has no weights of it",
                adapter.path().display()
            );
            return Err(CheckpointError::file(&config.path, why));
        }
    }
    let base = stored(files).collect();
    let mut weights = merge(files, base, parts, config)?;
    weights.sources.push(adapter.path().to_path_buf());
    Ok(weights)
}

/// Merges an adapter whose tensors lie among the weights of `files`.
pub(super) fn among(files: &Files, config: &Config) -> Result<Weights, CheckpointError> {
    let (mut parts, base): (Vec<Named>, Vec<Named>) =
        stored(files).partition(|named| !matches!(named.key.part, Part::Plain | Part::Base | Part::Original));
    parts.sort_by(|one, other| one.name.cmp(&other.name));
    merge(files, base, parts, config)
}

fn stored(files: &Files) -> impl Iterator<Item = Named> {
    files.files().iter().flat_map(|file| file.stored().map(|(name, tensor)| Named::new(file, name, tensor)))
}

fn merge(
    files: &Files,
    base: Vec<Named>,
    parts: Vec<Named>,
    config: &Config,
) -> Result<Weights, CheckpointError> {
    let names: BTreeSet<&str> = parts.iter().filter_map(|named| named.key.adapter.as_deref()).collect();
    if names.len() > 1 {
        let why =
            format!("has several adapters, {}: keep one", names.into_iter().collect::<Vec<_>>().join(", "));
        return Err(CheckpointError::file(files.dir(), why));
    }
    let mut merge = Merge { config, tensors: HashMap::new(), deltas: HashMap::new() };
    for named in base {
        let canonical = named.key.canonical().to_string();
        if let Some(other) = merge.tensors.insert(canonical, named) {
            return Err(other.error("is there twice, with and without an adapter around it"));
        }
    }
    let mut modules = BTreeMap::<String, BTreeMap<Part, Named>>::new();
    for named in parts {
        match named.key.part {
            Part::Unknown => return Err(named.error("is of an adapter of a kind that is not known here")),
            Part::Original => {}
            Part::Saved => merge.replace(named)?,
            part => {
                let module = modules.entry(named.key.canonical().to_string()).or_default();
                if let Some(other) = module.insert(part, named) {
                    return Err(other.error("is there twice"));
                }
            }
        }
    }
    for named in merge.tensors.values() {
        let canonical = named.key.canonical();
        let module = canonical.rsplit_once('.').map_or("", |(module, _)| module);
        match named.key.part {
            Part::Base if !modules.contains_key(module) => {
                return Err(named.error("has an adapter around it, of which no tensors are here"));
            }
            Part::Original => return Err(named.error("was replaced by weights that are not here")),
            _ => {}
        }
    }
    for (module, parts) in modules {
        merge.module(&module, parts)?;
    }
    Ok(Weights {
        tensors: merge.finish(),
        metadata: files.files().iter().flat_map(|file| file.metadata().clone()).collect(),
        sources: files.files().iter().map(|file| file.path().to_path_buf()).collect(),
    })
}

struct Merge<'a> {
    config: &'a Config,
    /// Tensors of the base by their canonical names.
    tensors: HashMap<String, Named>,
    deltas: HashMap<String, Change>,
}

/// The change to one tensor.
enum Change {
    Weights(Box<Delta>),
    Bias(Tensor, f32),
}

impl Merge<'_> {
    /// Canonical name of the tensor that stands for `name`; `None` if changing it has no effect.
    ///
    /// Gemma ties its `lm_head` to the embedding, and files hold one of the two. PI0 does not use the
    /// head's output, so an adapter of the head changes nothing, least of all the embedding.
    fn target<'a>(&self, name: &'a str) -> Option<&'a str> {
        let tied = !self.tensors.contains_key(EMBED_TOKENS) && self.tensors.contains_key(LM_HEAD);
        match name {
            EMBED_TOKENS if tied => Some(LM_HEAD),
            LM_HEAD if tied => None,
            _ => Some(name),
        }
    }

    /// Replaces a base tensor by weights that were trained in full.
    fn replace(&mut self, saved: Named) -> Result<(), CheckpointError> {
        let canonical = saved.key.canonical().to_string();
        let Some(target) = self.target(&canonical) else { return Ok(()) };
        let Some(base) = self.tensors.get_mut(target) else {
            return Err(saved.error("was trained whole, but the base weights have no such tensor"));
        };
        if saved.tensor.shape() != base.tensor.shape() {
            return Err(saved.shape(format!("{:?}", base.tensor.shape()), "the base weights'"));
        }
        saved.is_weight()?;
        base.key.part = Part::Saved;
        base.tensor = saved.tensor;
        Ok(())
    }

    /// Records the change to the weights of `module` and to its bias.
    fn module(&mut self, module: &str, mut parts: BTreeMap<Part, Named>) -> Result<(), CheckpointError> {
        for named in parts.values() {
            named.is_weight()?;
        }
        let embedding = parts.contains_key(&Part::EmbeddingA) || parts.contains_key(&Part::EmbeddingB);
        let (a, b) = if embedding { (Part::EmbeddingA, Part::EmbeddingB) } else { (Part::A, Part::B) };
        let (a, b) = match (parts.remove(&a), parts.remove(&b)) {
            (Some(a), Some(b)) => (a, b),
            (Some(alone), None) | (None, Some(alone)) => {
                return Err(alone.error("has no counterpart (A and B)"));
            }
            (None, None) => {
                let alone = parts.into_values().next().expect("a module has a part");
                return Err(alone.error("lies there without lora_A and lora_B"));
            }
        };
        let (bias, magnitude) = (parts.remove(&Part::Bias), parts.remove(&Part::Magnitude));
        if let Some(other) = parts.into_values().next() {
            return Err(other.error("is of an embedding, but the module has lora_A and lora_B as well"));
        }
        let weight = format!("{module}.weight");
        let Some(target) = self.target(&weight) else { return Ok(()) };
        let Some(base) = self.tensors.get(target) else {
            return Err(a.error(format!("the base weights have no {weight:?}, to which it would be added")));
        };
        base.is_weight()?;
        let (matrices, transposed) = self.fit(&base.tensor, &a, &b, embedding)?;
        let rank = matrices[0].rows();
        let scaling = self.config.scaling(&a.key.of, rank)?;
        let magnitude = self.magnitude(magnitude, &a, base, embedding || transposed)?;
        let [a_matrix, b_matrix] = matrices;
        let delta = Delta { a: a_matrix, b: b_matrix, transposed, scaling, magnitude };
        let target = target.to_string();
        match (bias, self.config.bias) {
            (Some(bias), true) => self.bias(module, bias, scaling)?,
            (Some(bias), false) => return Err(bias.error("is there, but lora_bias is not set")),
            (None, true) => return Err(b.error("has no bias beside it, but lora_bias is set")),
            (None, false) => {}
        }
        self.deltas.insert(target, Change::Weights(Box::new(delta)));
        Ok(())
    }

    /// Checks the shapes of `A [rank, cols]` and `B [rows, rank]` or, transposed, `A [rank, rows]` and `B
    /// [cols, rank]`.
    fn fit(
        &self,
        base: &Tensor,
        a: &Named,
        b: &Named,
        embedding: bool,
    ) -> Result<([Tensor; 2], bool), CheckpointError> {
        let (rows, cols) = (base.rows(), base.cols());
        let matrices = [base, &a.tensor, &b.tensor].iter().all(|tensor| tensor.shape().len() >= 2);
        let is = |a: &Tensor, b: &Tensor, a_cols, b_rows| {
            matrices && a.rows() > 0 && a.rows() == b.cols() && a.cols() == a_cols && b.rows() == b_rows
        };
        let (a_t, b_t) = (&a.tensor, &b.tensor);
        let straight = !embedding && is(a_t, b_t, cols, rows);
        // PEFT ignores fan_in_fan_out for linear layers, as PI0's are: only the shape shows that the
        // weights are stored transposed.
        let transposed = (embedding || self.config.fan_in_fan_out) && is(a_t, b_t, rows, cols);
        // openpi's A is `[in, rank]`, its B `[rank, out]`.
        let openpi = !embedding && a.key.bare && b.key.bare && is(b_t, a_t, rows, cols);
        match (straight, transposed, openpi) {
            (true, _, true) => Err(a.error("may be [rank, in] or [in, rank]: the shapes don't tell")),
            (true, ..) => Ok(([a_t.clone(), b_t.clone()], false)),
            (_, true, _) => Ok(([a_t.clone(), b_t.clone()], true)),
            (_, _, true) => Ok(([b_t.clone(), a_t.clone()], true)),
            _ => {
                let [a_shape, b_shape, base] = [a_t, b_t, base].map(|t| format!("{:?}", t.shape()));
                Err(a.error(format!(
                    "a product of {a_shape} and, {:?}, {b_shape} can't be added to weights of {base}",
                    clip(&b.name)
                )))
            }
        }
    }

    fn magnitude(
        &self,
        magnitude: Option<Named>,
        a: &Named,
        base: &Named,
        otherwise: bool,
    ) -> Result<Option<Magnitude>, CheckpointError> {
        let Some(magnitude) = magnitude else {
            return match self.config.dora {
                true => Err(a.error("has no lora_magnitude_vector beside it, but use_dora is set")),
                false => Ok(None),
            };
        };
        if !self.config.dora {
            return Err(magnitude.error("is there, but use_dora is not set"));
        }
        if otherwise || self.config.bias {
            return Err(magnitude
                .error("DoRA of an embedding, of transposed weights, or with lora_bias is not merged"));
        }
        // For convolutions it is [1, rows, 1, 1].
        if magnitude.tensor.len() != base.tensor.rows() {
            return Err(
                magnitude.shape(format!("[{}]", base.tensor.rows()), "a length for each row of the weights")
            );
        }
        Ok(Some(Magnitude::new(magnitude.tensor)))
    }

    fn bias(&mut self, module: &str, bias: Named, scaling: f32) -> Result<(), CheckpointError> {
        let name = format!("{module}.bias");
        let Some(base) = self.tensors.get(&name) else {
            return Err(bias.error(format!("the base weights have no {name:?}, to which it would be added")));
        };
        base.is_weight()?;
        if bias.tensor.shape() != base.tensor.shape() {
            return Err(bias.shape(format!("{:?}", base.tensor.shape()), "the base weights' bias"));
        }
        self.deltas.insert(name, Change::Bias(bias.tensor, scaling));
        Ok(())
    }

    /// The merged tensors, by their canonical names, from those in the files.
    fn finish(mut self) -> HashMap<String, Merged> {
        let mut merged = |canonical: String, named: Named| {
            let change = self.deltas.remove(&canonical);
            let base = named.tensor.renamed(canonical);
            let merged = match change {
                None => Merged::Plain(base),
                Some(Change::Weights(delta)) => Merged::Weights(base, delta),
                Some(Change::Bias(bias, scaling)) => Merged::Bias(base, bias, scaling),
            };
            (named.key.of, merged)
        };
        self.tensors.into_iter().map(|(canonical, named)| merged(canonical, named)).collect()
    }
}

/// A tensor with its parsed name.
struct Named {
    /// The file that holds it.
    path: PathBuf,
    /// Its name in that file.
    name: String,
    key: Key,
    tensor: Tensor,
}

impl Named {
    fn new(file: &SafeTensors, name: &str, tensor: &Tensor) -> Self {
        Self {
            path: file.path().to_path_buf(),
            name: name.into(),
            key: Key::parse(name),
            tensor: tensor.clone(),
        }
    }

    fn is_weight(&self) -> Result<(), CheckpointError> {
        match self.tensor.dtype().is_weight() {
            true => Ok(()),
            false => Err(CheckpointError::WeightDtype {
                path: self.path.clone(),
                tensor: clip(&self.name),
                got: self.tensor.dtype_name().into(),
            }),
        }
    }

    fn error(&self, why: impl Into<String>) -> CheckpointError {
        CheckpointError::Entry { path: self.path.clone(), tensor: clip(&self.name), why: why.into() }
    }

    fn shape(&self, expected: String, why: &str) -> CheckpointError {
        CheckpointError::Shape {
            path: self.path.clone(),
            tensor: clip(&self.name),
            got: self.tensor.shape().to_vec(),
            expected,
            why: why.into(),
        }
    }
}
