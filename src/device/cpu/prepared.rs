//! Weights in the forms that products of few tokens and of integers want: made at load, in one
//! stretch of memory or in a [`WeightFile`].

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Instant, UNIX_EPOCH};

use super::kernels::{Kernels, ProductKernels};
use super::memory::Memory;
use super::options::Precision;
use super::packing::Pack;
use super::pool::Pool;
use super::quantize::Quantizer;
use super::resources::Resources;
use super::simd::Element;
use super::skinny;
use super::weight::{Matrix, Panels, Part};
use super::weight_file::WeightFile;
use crate::device::{DeviceError, Progress};

/// The form of one matrix, and its place among the prepared words.
#[derive(Clone, Copy)]
struct Form {
    /// True if it is quantized.
    integers: bool,
    /// Elements of its panels, if it is made of panels.
    panels: Option<Element>,
    /// Words in a row.
    steps: usize,
    /// First word; then come as many as the rows take, then a scale and a sum a row.
    first: usize,
    /// Number of words of the rows.
    words: usize,
    /// Number of rows that are quantized.
    rows: usize,
}

/// Words between things, so that each starts a line.
const LINE: usize = 16;

impl Form {
    fn of(resources: &Resources, matrix: &Matrix, first: usize) -> Option<Self> {
        let few = matrix.expected? <= skinny::MAX_TOKENS;
        let integers = resources.precision == Precision::Int8;
        if !few && !integers {
            return None;
        }
        let panel = resources.kernels.nr;
        let element = if integers { Element::I8 } else { (resources.kernels.operands.element)(matrix) };
        let steps = if few {
            matrix.cols.div_ceil(4 / element.size())
        } else {
            // A line more than whole ones: rows do not all start in the same cache set.
            matrix.cols.div_ceil(4).next_multiple_of(LINE) + LINE
        };
        let rows = if few { matrix.rows.next_multiple_of(panel) } else { matrix.rows };
        Some(Self {
            integers,
            panels: few.then_some(element),
            steps,
            first,
            words: (matrix.sections() * rows * steps).next_multiple_of(LINE),
            rows: if integers { matrix.sections() * matrix.rows } else { 0 },
        })
    }

    fn scales(&self) -> usize {
        self.first + self.words
    }

    fn sums(&self) -> usize {
        self.scales() + self.rows.next_multiple_of(LINE)
    }

    fn end(&self) -> usize {
        self.sums() + self.rows.next_multiple_of(LINE)
    }

    /// Packs the matrix into its place in `words`.
    ///
    /// # Safety
    /// `words` has room up to the form's end, zeroed, and nobody else uses it meanwhile.
    unsafe fn make(
        &self,
        kernels: &Kernels,
        pool: &Pool,
        matrix: &Matrix,
        words: *mut u32,
    ) -> Result<(), DeviceError> {
        // SAFETY: as the caller vouches.
        let (rows, scales, sums) =
            unsafe { (words.add(self.first), words.add(self.scales()), words.add(self.sums())) };
        let (scales, sums) = (scales.cast(), sums.cast());
        match (self.integers, self.panels) {
            (true, None) => {
                quantize(kernels, pool, &Quantizer { matrix, words: rows, stride: self.steps, scales, sums })
            }
            (true, Some(element)) => {
                let stride = matrix.cols.div_ceil(4).next_multiple_of(LINE);
                let memory = Arc::new(Memory::new("quantized weights", self.rows * stride)?);
                quantize(kernels, pool, &Quantizer { matrix, words: memory.words(), stride, scales, sums })?;
                let quantized = Matrix { parts: parts(&memory, 0, matrix, stride), ..shape_of(matrix) };
                self.pack(&kernels.integers, kernels.nr, pool, &quantized, element, rows)
            }
            (false, Some(element)) => self.pack(&kernels.operands, kernels.nr, pool, matrix, element, rows),
            (false, None) => Ok(()),
        }
    }

    fn pack(
        &self,
        products: &ProductKernels,
        panel: usize,
        pool: &Pool,
        matrix: &Matrix,
        element: Element,
        words: *mut u32,
    ) -> Result<(), DeviceError> {
        let count = matrix.rows.div_ceil(panel);
        let pack = Pack { matrix, words, element, steps: self.steps };
        pool.run(matrix.sections() * count, |job, _| {
            // SAFETY: each job has its panel, and the path is available.
            unsafe { (products.pack)(&pack, job / count, job % count, job) }
        })
    }

    /// Makes the matrix use its prepared words.
    fn attach(&self, memory: &Arc<Memory>, panel: usize, matrix: &mut Matrix) {
        let copy = |first: usize| {
            // SAFETY: the words are the form's, and nobody writes them any more.
            unsafe { std::slice::from_raw_parts(memory.words().add(first), self.rows) }
        };
        matrix.scales = copy(self.scales()).iter().map(|word| f32::from_bits(*word)).collect();
        matrix.sums = copy(self.sums()).iter().map(|word| *word as i32).collect();
        match self.panels {
            Some(element) => {
                matrix.panels = Some(Panels {
                    memory: Arc::clone(memory),
                    first: self.first,
                    element,
                    steps: self.steps,
                    count: matrix.rows.div_ceil(panel),
                });
                if self.integers {
                    matrix.parts.clear();
                }
            }
            None => matrix.parts = parts(memory, self.first, matrix, self.steps),
        }
    }
}

fn quantize(kernels: &Kernels, pool: &Pool, quantizer: &Quantizer<'_>) -> Result<(), DeviceError> {
    let (matrix, row) = (quantizer.matrix, kernels.quantize_row);
    // SAFETY: each job is its own row, there is room for them, and the path is available.
    pool.run(matrix.sections() * matrix.rows, |job, _| unsafe { row(quantizer, job) })
}

fn shape_of(matrix: &Matrix) -> Matrix {
    Matrix { gated: matrix.gated, ..Matrix::empty(matrix.rows, matrix.cols) }
}

/// Quantized rows from word `first` as parts of a matrix of the same shape.
fn parts(memory: &Arc<Memory>, first: usize, matrix: &Matrix, stride: usize) -> Vec<Part> {
    let part = |section| Part::quantized(memory, first + section * matrix.rows * stride, matrix.rows, stride);
    (0..matrix.sections()).map(part).collect()
}

/// Prepares weights for products of few tokens or of integers, or finds them in directory `cache`; None
/// if no weight needs it.
pub fn prepare(
    resources: &mut Resources,
    cache: Option<&Path>,
    pool: &Pool,
    progress: Progress<'_>,
) -> Result<Option<Arc<Memory>>, DeviceError> {
    let start = Instant::now();
    let mut forms = Vec::with_capacity(resources.matrices.len());
    let mut words = 0;
    for matrix in &resources.matrices {
        let form = Form::of(resources, matrix, words);
        words = form.map_or(words, |form| form.end());
        forms.push(form);
    }
    if words == 0 {
        return Ok(None);
    }
    let make = |words: *mut u32| {
        let made =
            resources.matrices.iter().zip(&forms).filter_map(|(matrix, form)| Some((matrix, form.as_ref()?)));
        let of = forms.iter().flatten().count();
        for (done, (matrix, form)) in made.enumerate() {
            // SAFETY: forms lie one behind the other in as many zeroed words.
            unsafe { form.make(resources.kernels, pool, matrix, words) }?;
            progress(done + 1, of);
        }
        Ok(())
    };
    let file = cache.map(|dir| WeightFile::new(dir, key(resources), words));
    let memory = match file.as_ref().and_then(WeightFile::open) {
        Some(memory) => memory,
        None => match file.as_ref().and_then(WeightFile::create) {
            Some(mut draft) => {
                make(draft.words())?;
                draft.finish().map_err(|e| DeviceError::Memory {
                    what: "prepared weights".into(),
                    bytes: words * 4,
                    why: e.to_string(),
                })?
            }
            None => {
                let memory = Memory::new("prepared weights", words)?;
                make(memory.words())?;
                memory
            }
        },
    };
    let memory = Arc::new(memory);
    for (matrix, form) in resources.matrices.iter_mut().zip(&forms) {
        if let Some(form) = form {
            form.attach(&memory, resources.kernels.nr, matrix);
        }
    }
    log::debug!("{} MB of prepared weights in {:?}", words / 250_000, start.elapsed());
    Ok(Some(memory))
}

/// Everything that prepared weights depend on: tensors by name, shape, place and time of the file's
/// last change, and the forms they are brought into.
fn key(resources: &Resources) -> String {
    let mut key = format!(
        "pi0rt {} panels of {} operands in pairs {} precision {} step {}\n",
        env!("CARGO_PKG_VERSION"),
        resources.kernels.nr,
        resources.kernels.pairs,
        resources.precision,
        resources.kernels.integers.step,
    );
    for matrix in resources.matrices.iter().filter(|m| m.expected.is_some()) {
        let few = matrix.expected.is_some_and(|rows| rows <= skinny::MAX_TOKENS);
        let _ = write!(key, "{}x{} gated {} few {few}", matrix.rows, matrix.cols, matrix.gated);
        for (tensor, offset) in matrix.parts.iter().filter_map(Part::tensor) {
            let since = tensor.modified().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
            let since = since.map_or(0, |t| t.as_nanos());
            let (name, dtype, shape) = (tensor.name(), tensor.dtype(), tensor.shape());
            let _ = write!(key, " {name} {dtype} {shape:?}+{offset} {since}");
        }
        key.push('\n');
    }
    key
}
