//! The devices under test, and how close each has to come.

use crate::device::cpu::{CpuBuilder, CpuOptions, Path, Precision};
use crate::device::reference::ReferenceBuilder;
use crate::device::{Buffer, Builder, Device, DeviceError, Role, View};

/// A device under test.
pub struct Subject {
    /// Device, path, precision and threads.
    pub name: String,
    /// Whether it rounds operands to bf16; else it computes in f32.
    pub rounds: bool,
    make: Box<dyn Fn() -> Box<dyn Builder>>,
}

impl Subject {
    fn cpu(path: Path, precision: Precision, threads: usize) -> Self {
        let options =
            CpuOptions { path: Some(path), precision, threads: Some(threads), ..Default::default() };
        Self {
            name: format!("cpu, path {path}, precision {precision}, {threads} threads"),
            rounds: precision != Precision::F32 && matches!(path, Path::Avx512Bf16 | Path::PortableBf16),
            make: Box::new(move || Box::new(CpuBuilder::new(&options).unwrap())),
        }
    }

    /// A device to be loaded.
    pub fn builder(&self) -> Box<dyn Builder> {
        (self.make)()
    }

    /// Error allowed in a buffer of that role, as a part of the largest magnitude there.
    fn tolerance(&self, role: Role) -> f64 {
        if self.rounds && role == Role::Operand { 8e-3 } else { 5e-6 }
    }
}

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
        rounds: false,
        make: Box::new(|| Box::new(ReferenceBuilder::new())),
    };
    let cpu = paths().into_iter().flat_map(|path| {
        [(Precision::Bf16, 1), (Precision::F32, 2), (Precision::Bf16, 3)]
            .map(|(precision, threads)| Subject::cpu(path, precision, threads))
    });
    std::iter::once(reference).chain(cpu).collect()
}

/// The CPU on every path that multiplies 8-bit integers.
pub fn integer_subjects() -> Vec<Subject> {
    let paths = paths().into_iter().filter(|path| path.has_integers());
    paths.flat_map(|path| [1, 3].map(|threads| Subject::cpu(path, Precision::Int8, threads))).collect()
}

/// What an operation gave, and what its formula gives.
pub struct Outcome {
    /// As the device has it.
    pub got: Vec<f32>,
    /// In f64.
    pub expected: Vec<f64>,
}

/// Runs a case on every device; its result lies in a buffer of role `role`.
pub fn check(what: &str, role: Role, case: impl Fn(Box<dyn Builder>) -> Result<Outcome, DeviceError>) {
    check_on(&subjects(), what, role, case);
}

/// Runs a case on these devices.
pub fn check_on(
    subjects: &[Subject],
    what: &str,
    role: Role,
    case: impl Fn(Box<dyn Builder>) -> Result<Outcome, DeviceError>,
) {
    for subject in subjects {
        let name = &subject.name;
        let Outcome { got, expected } =
            case(subject.builder()).unwrap_or_else(|error| panic!("{name}: {what}: {error}"));
        let most = expected.iter().fold(0.0f64, |most, x| most.max(x.abs()));
        assert!(most > 0.0, "{what}: nothing but zeros is expected");
        assert_eq!(got.len(), expected.len(), "{name}: {what}");
        for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
            let error = (f64::from(*got) - expected).abs();
            assert!(
                error <= most * subject.tolerance(role),
                "{name}: {what}: [{i}] is {got}, not {expected}"
            );
        }
    }
}

/// All of a new buffer.
pub fn buffer(builder: &mut dyn Builder, role: Role, rows: usize, cols: usize) -> Result<View, DeviceError> {
    Ok(whole(builder.buffer(role, rows, cols)?, rows, cols))
}

/// All of a buffer.
pub fn whole(buffer: Buffer, rows: usize, cols: usize) -> View {
    View { buffer, row: 0, rows, col: 0, cols }
}

/// The loaded device.
pub fn seal(builder: Box<dyn Builder>) -> Result<Box<dyn Device>, DeviceError> {
    builder.seal(&|_, _| {})
}

/// The values of a view.
pub fn read(device: &mut dyn Device, view: View) -> Result<Vec<f32>, DeviceError> {
    let mut out = vec![f32::NAN; view.rows * view.cols];
    device.read(view, &mut out)?;
    Ok(out)
}
