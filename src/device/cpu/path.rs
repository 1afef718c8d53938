//! Which instructions kernels use.

use std::fmt;
use std::str::FromStr;

use crate::device::DeviceError;

/// A set of kernels for one instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Path {
    /// AVX-512 BF16: products of bf16 pairs; f32 work in AVX-512F.
    Avx512Bf16,
    /// AVX-512F: everything in f32, weights widened a block at a time.
    Avx512,
    /// AVX2, FMA and F16C: as [`Path::Avx512`] with half the width.
    Avx2,
    /// Plain Rust, for any machine.
    Portable,
    /// Any machine, with the layout and the roundings of [`Path::Avx512Bf16`]: slow, for tests.
    PortableBf16,
}

impl Path {
    /// All of them, fastest first.
    pub const ALL: [Path; 5] =
        [Path::Avx512Bf16, Path::Avx512, Path::Avx2, Path::Portable, Path::PortableBf16];

    /// The name options and `PI0RT_CPU_PATH` use.
    pub const fn name(self) -> &'static str {
        match self {
            Path::Avx512Bf16 => "avx512bf16",
            Path::Avx512 => "avx512",
            Path::Avx2 => "avx2",
            Path::Portable => "portable",
            Path::PortableBf16 => "portable-bf16",
        }
    }

    /// True if this machine has the instructions.
    pub fn available(self) -> bool {
        #[cfg(x86)]
        match self {
            Path::Avx512Bf16 => is_x86_feature_detected!("avx512bf16") && Path::Avx512.available(),
            Path::Avx512 => is_x86_feature_detected!("avx512f"),
            Path::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            Path::Portable | Path::PortableBf16 => true,
        }
        #[cfg(not(x86))]
        matches!(self, Path::Portable | Path::PortableBf16)
    }

    /// True if this machine has the instructions for products of 8-bit integers that go with it.
    pub fn has_integers(self) -> bool {
        #[cfg(x86)]
        if matches!(self, Path::Avx512Bf16 | Path::Avx512) {
            return is_x86_feature_detected!("avx512vnni");
        }
        true
    }

    /// The paths of this machine, fastest first.
    pub fn all_available() -> impl Iterator<Item = Path> {
        Self::ALL.into_iter().filter(|path| path.available())
    }

    /// `forced`, else what `PI0RT_CPU_PATH` says, else the fastest.
    pub(super) fn choose(forced: Option<Path>) -> Result<Path, DeviceError> {
        let path = match (forced, std::env::var("PI0RT_CPU_PATH")) {
            (Some(path), _) => path,
            (None, Ok(name)) => name.parse()?,
            (None, Err(_)) => return Ok(Self::all_available().next().unwrap_or(Path::Portable)),
        };
        if path.available() { Ok(path) } else { Err(unsupported(path.name(), "this machine lacks it")) }
    }
}

fn unsupported(name: &str, why: &str) -> DeviceError {
    let available: Vec<_> = Path::all_available().map(Path::name).collect();
    DeviceError::Unsupported {
        what: format!("kernel path {name:?}"),
        device: "cpu".into(),
        why: format!("{why}; available: {}", available.join(", ")),
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Path {
    type Err = DeviceError;

    fn from_str(name: &str) -> Result<Self, DeviceError> {
        Self::ALL
            .into_iter()
            .find(|path| path.name() == name)
            .ok_or_else(|| unsupported(name, "there is no such path"))
    }
}
