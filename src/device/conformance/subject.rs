//! The devices under test, how close each has to come, and what each can't do.

use std::cell::RefCell;

#[cfg(feature = "ttnn-emulated")]
use crate::device::PrecisionClass;
use crate::device::cpu::{CpuBuilder, CpuOptions, Path, Precision};
use crate::device::reference::ReferenceBuilder;
#[cfg(feature = "ttnn-emulated")]
use crate::device::ttnn::{TtnnBuilder, TtnnOptions};
use crate::device::{Buffer, Builder, Device, DeviceError, Role, View};

/// A device under test.
pub struct Subject {
    /// Device, path, precision and threads.
    pub name: String,
    /// Error allowed in a stream, as a part of the largest magnitude there.
    stream: f64,
    /// Tolerance of results stored in an operand.
    operand: f64,
    /// Cases, by the beginning of their names, whose results are operands to it whatever they lie in.
    rounded: &'static [&'static str],
    /// Error allowed in attention, if that is more than elsewhere.
    attention: f64,
    /// Its limits: operation and reason of each [`DeviceError::Unsupported`] it may give. Everything else it has to compute.
    limits: &'static [(&'static str, &'static str)],
    make: Box<dyn Fn() -> Box<dyn Builder>>,
}

impl Subject {
    fn cpu(path: Path, precision: Precision, threads: usize) -> Self {
        let rounds = precision != Precision::F32 && matches!(path, Path::Avx512Bf16 | Path::PortableBf16);
        let options =
            CpuOptions { path: Some(path), precision, threads: Some(threads), ..Default::default() };
        Self {
            name: format!("cpu, path {path}, precision {precision}, {threads} threads"),
            stream: EXACT,
            operand: if rounds { BF16 } else { EXACT },
            rounded: &[],
            attention: 0.0,
            limits: &[],
            make: Box::new(move || Box::new(CpuBuilder::new(&options).unwrap())),
        }
    }

    /// Opens the device, to be loaded.
    pub fn builder(&self) -> Box<dyn Builder> {
        (self.make)()
    }

    /// Device `ttnn` on its emulation, loaded as weights of a class.
    #[cfg(feature = "ttnn-emulated")]
    fn ttnn(settings: &'static [&'static str], class: PrecisionClass, stream: f64) -> Self {
        Self {
            name: format!("ttnn, {class:?} {settings:?}"),
            stream,
            operand: BF16,
            // Heads are bf16 on it, and so is what is added to patches.
            rounded: &["rope", "patches"],
            attention: FAST_EXPONENTIAL,
            limits: TTNN_LIMITS,
            make: Box::new(move || {
                let mut options = TtnnOptions::default();
                settings.iter().for_each(|setting| options.set(setting).unwrap());
                let mut builder = TtnnBuilder::open(&options).unwrap();
                builder.precision(class);
                Box::new(builder)
            }),
        }
    }

    /// Error allowed in a case whose result lies in a buffer of that role, as a part of its largest magnitude.
    fn tolerance(&self, what: &str, role: Role) -> f64 {
        let rounded = role == Role::Operand || self.rounded.iter().any(|case| what.starts_with(case));
        let usual = if rounded { self.operand } else { self.stream };
        if what.starts_with("attention") { usual.max(self.attention) } else { usual }
    }

    /// True if it computes operations on any views, as most do.
    pub fn is_whole(&self) -> bool {
        self.limits.is_empty()
    }
}

/// Rows, and how many of them have another vector than the rest: around the sides of vectors and panels.
pub const FIRST_ROWS: [(usize, usize); 10] =
    [(1, 0), (1, 1), (7, 3), (24, 7), (24, 8), (25, 9), (50, 16), (50, 50), (51, 33), (97, 25)];

/// Error allowed where sums are in f32.
const EXACT: f64 = 5e-6;
/// Error allowed where factors are rounded to ten bits of fraction, and sums are in f32.
#[cfg(feature = "ttnn-emulated")]
const TF32: f64 = 2e-3;
/// Error allowed where results are rounded to bf16.
const BF16: f64 = 8e-3;

/// Error allowed where few keys are weighed by an exponential that is up to 5 % off.
#[cfg(feature = "ttnn-emulated")]
const FAST_EXPONENTIAL: f64 = 4e-2;

/// Limits of device `ttnn`: operation and reason.
#[cfg(feature = "ttnn-emulated")]
const TTNN_LIMITS: &[(&str, &str)] = &[
    ("write", "whole rows from the first are written"),
    ("*", "all rows have one vector"),
    ("*", "columns of a value are not taken apart"),
    ("*", "columns of a value are not put together"),
    ("*", "rows that were not written, or were written over in part, hold nothing"),
    ("*", "its input is not a projection to heads"),
    ("*", "its input is not whole heads of what was written"),
    ("rope", "positions are those of a cache's rows"),
    ("cache_write", "rows are written run after run, as they were declared"),
    ("read_kv", "rows are read when they have just been written"),
    ("attention", "queries have to be heads of the keys' width"),
    ("attention", "blocks are attended to as they were written"),
    ("attention", "blocks are attended to when they have just been written"),
    ("attention", "a cache of one run is attended to as it was written"),
];

/// The CPU's paths to test: all of the machine, or the one that `PI0RT_CPU_PATH` names.
pub fn paths() -> Vec<Path> {
    match std::env::var("PI0RT_CPU_PATH") {
        Ok(name) => {
            let path: Path = name.parse().unwrap();
            assert!(path.available(), "this machine lacks path {path}");
            vec![path]
        }
        Err(_) => Path::all_available().collect(),
    }
}

/// Every device, the CPU on every path, with products in its own format and in f32.
pub fn subjects() -> Vec<Subject> {
    let reference = Subject {
        name: "reference".into(),
        stream: EXACT,
        operand: EXACT,
        rounded: &[],
        attention: 0.0,
        limits: &[],
        make: Box::new(|| Box::new(ReferenceBuilder::new())),
    };
    let cpu = paths().into_iter().flat_map(|path| {
        [(Precision::Bf16, 1), (Precision::F32, 2), (Precision::Bf16, 3)]
            .map(|(precision, threads)| Subject::cpu(path, precision, threads))
    });
    let subjects = std::iter::once(reference).chain(cpu);
    #[cfg(feature = "ttnn-emulated")]
    let subjects = subjects.chain([
        Subject::ttnn(&[], PrecisionClass::Exact, TF32),
        Subject::ttnn(&["language.weights=bf16", "language.fidelity=hifi4"], PrecisionClass::Context, BF16),
    ]);
    subjects.collect()
}

/// The CPU on every path that multiplies 8-bit integers.
pub fn integer_subjects() -> Vec<Subject> {
    let paths = paths().into_iter().filter(|path| path.has_integers());
    paths.flat_map(|path| [1, 3].map(|threads| Subject::cpu(path, Precision::Int8, threads))).collect()
}

/// Result of an operation, and of its formula.
pub struct Outcome {
    /// Values computed by the device.
    pub got: Vec<f32>,
    /// Values of the formula, in f64.
    pub expected: Vec<f64>,
}

/// Runs a case on every device; its result lies in a buffer of role `role`.
pub fn check(what: &str, role: Role, case: impl Fn(Box<dyn Builder>) -> Result<Outcome, DeviceError>) {
    check_on(&subjects(), what, role, case);
}

/// Runs a case on these devices. One that is among the limits of a device may be refused by it.
pub fn check_on(
    subjects: &[Subject],
    what: &str,
    role: Role,
    case: impl Fn(Box<dyn Builder>) -> Result<Outcome, DeviceError>,
) {
    for subject in subjects {
        let name = &subject.name;
        let Outcome { got, expected } = match case(subject.builder()) {
            Ok(outcome) => outcome,
            Err(error) if subject.limits.iter().any(|limit| is(&error, limit)) => continue,
            Err(error) => panic!("{name}: {what}: {error}"),
        };
        let most = expected.iter().fold(0.0f64, |most, x| most.max(x.abs()));
        assert!(most > 0.0, "{what}: nothing but zeros is expected");
        assert_eq!(got.len(), expected.len(), "{name}: {what}");
        for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
            let error = (f64::from(*got) - expected).abs();
            assert!(
                error <= most * subject.tolerance(what, role),
                "{name}: {what}: [{i}] is {got}, not {expected}"
            );
        }
        COMPUTED.with_borrow_mut(|computed| computed.push(name.clone()));
    }
}

fn is(error: &DeviceError, (op, reason): &(&str, &str)) -> bool {
    let DeviceError::Unsupported { what, why, .. } = error else { return false };
    (*op == "*" || what == op) && why == reason
}

thread_local! {
    /// Devices that have computed a case of this test.
    static COMPUTED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Fails if a device has refused every case that this test has run so far.
pub fn assert_all_computed() {
    let computed = COMPUTED.take();
    for Subject { name, .. } in subjects() {
        assert!(computed.contains(&name), "{name} has computed none of it");
    }
}

/// A view of all of a new buffer.
pub fn buffer(builder: &mut dyn Builder, role: Role, rows: usize, cols: usize) -> Result<View, DeviceError> {
    Ok(whole(builder.buffer(role, rows, cols)?, rows, cols))
}

/// A view of all of a buffer.
pub fn whole(buffer: Buffer, rows: usize, cols: usize) -> View {
    View { buffer, row: 0, rows, col: 0, cols }
}

/// Ends loading and returns the device.
pub fn seal(builder: Box<dyn Builder>) -> Result<Box<dyn Device>, DeviceError> {
    builder.seal(&|_, _| {})
}

/// Reads the values of a view.
pub fn read(device: &mut dyn Device, view: View) -> Result<Vec<f32>, DeviceError> {
    let mut out = vec![f32::NAN; view.rows * view.cols];
    device.read(view, &mut out)?;
    Ok(out)
}
