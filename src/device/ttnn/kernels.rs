//! Compilation of TTNN's kernels: what is said when one fails, and the end of the process after it.

use std::ffi::{c_int, c_void};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;

/// Releases of sfpi that TTNN 0.66 compiles its kernels with.
const WANTED: &str = "7.12 to 7.17";
/// The compiler, below a directory of sfpi.
const COMPILER: &str = "compiler/bin/riscv-tt-elf-g++";
/// The longest part of a compiler's message that is repeated.
const SHOWN: usize = 240;

unsafe extern "C" {
    /// Registers a function to run when the process ends, with its status: of several, the last first.
    fn on_exit(function: extern "C" fn(c_int, *mut c_void), argument: *mut c_void) -> c_int;
    /// Ends the process without exit handlers.
    safe fn _exit(status: c_int) -> !;
}

/// True if the device compiles kernels: a card or a simulator does.
pub fn are_compiled() -> bool {
    !cfg!(feature = "ttnn-emulated") && std::env::var_os("TT_METAL_MOCK_CLUSTER_DESC_PATH").is_none()
}

/// Refuses a compiler that is missing or does not run: opening the device, TTNN would crash or never return.
pub fn check() -> Result<(), String> {
    let path = compiler(&places())?;
    let version = version(&path).map_err(|why| format!("the kernel compiler {} is {why}", path.display()))?;
    log::info!("kernel compiler {}: {version}; TTNN 0.66 is made for sfpi {WANTED}", path.display());
    Ok(())
}

/// The cause of a failure in TTNN's own text, if it is that a kernel was not compiled; the process then ends
/// without exit handlers, since threads of TTNN that still compile use what those destroy.
pub fn failure(text: &str) -> Option<String> {
    let what = cause(text)?;
    end_without_handlers();
    let compiler = match compiler(&places()) {
        Ok(path) => format!("{} is {}", path.display(), version(&path).unwrap_or_else(|why| why)),
        Err(none) => none,
    };
    Some(format!("a kernel was not compiled: {what} ({compiler}; TTNN 0.66 is made for sfpi {WANTED})"))
}

/// The line of a compiler's output that names the error.
fn cause(text: &str) -> Option<String> {
    const SIGNS: [&str; 5] = [
        "Failed to generate binaries",
        "build failed",
        "link failed",
        "sfpi not found",
        "cannot map elf file",
    ];
    if !SIGNS.iter().any(|sign| text.contains(sign)) {
        return None;
    }
    let lines = || text.lines().map(str::trim).take_while(|line| !line.starts_with("backtrace"));
    let named =
        |line: &&str| line.contains("error: ") || line.contains("cannot map") || line.contains("not found");
    let line =
        lines().find(named).or_else(|| lines().find(|line| SIGNS.iter().any(|sign| line.contains(sign))));
    let line = line.unwrap_or_default();
    let end = line.char_indices().nth(SHOWN).map_or(line.len(), |(at, _)| at);
    Some(line[..end].into())
}

/// Directories in which TTNN looks for sfpi.
fn places() -> Vec<PathBuf> {
    let root = ["TT_METAL_RUNTIME_ROOT", "TT_METAL_HOME"].into_iter().find_map(std::env::var_os);
    let root = root.map(|root| Path::new(&root).join("runtime/sfpi"));
    root.into_iter().chain([PathBuf::from("/opt/tenstorrent/sfpi")]).collect()
}

/// The first compiler that is there.
fn compiler(places: &[PathBuf]) -> Result<PathBuf, String> {
    let mut compilers = places.iter().map(|place| place.join(COMPILER));
    compilers.find(|path| path.is_file()).ok_or_else(|| {
        let places: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
        format!("no compiler in {}", places.join(" or "))
    })
}

/// First line of what the compiler says of itself, or why it says nothing.
fn version(compiler: &Path) -> Result<String, String> {
    match Command::new(compiler).arg("--version").output() {
        Ok(output) if output.status.success() => {
            Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or("silent").into())
        }
        Ok(output) => Err(format!("broken: --version ends with {}", output.status)),
        Err(why) => Err(format!("not run: {why}")),
    }
}

/// Makes the end of the process skip the handlers that are registered now, TTNN's among them.
fn end_without_handlers() {
    extern "C" fn end(status: c_int, _: *mut c_void) {
        _exit(status)
    }
    static ONCE: Once = Once::new();
    // SAFETY: the function takes what on_exit gives it, and may run on any thread at any time.
    ONCE.call_once(|| unsafe {
        on_exit(end, std::ptr::null_mut());
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILED: &str = "TT_THROW @ /project/tt_metal/impl/program/program.cpp:160: tt::exception\ninfo:\nFailed to \
                          generate binaries for eltwise_binary_no_bcast TT_THROW @ /project/tt_metal/jit_build/\
                          build.cpp:55: tt::exception\ninfo:\ntrisc1 build failed. Log: In file included from a.h:19,\n\
                          ckernel_sfpu_clamp.h:23:11: error: 'sfpi::s2vFloat16' has not been declared\n   23 | \
                          code\nbacktrace:\n --- libtt_metal.so(+0x1)";

    #[test]
    fn a_compilers_error_is_found_in_ttnns_text() {
        let what = cause(FAILED).unwrap();
        assert_eq!(what, "ckernel_sfpu_clamp.h:23:11: error: 'sfpi::s2vFloat16' has not been declared");
        let missing = "TT_THROW: sfpi not found at /a/runtime/sfpi or /opt/tenstorrent/sfpi";
        assert_eq!(cause(missing).unwrap(), missing);
        let cache = "info:\n/c/brisc.elf: cannot map elf file into memory: Not a directory\nbacktrace:";
        assert_eq!(cause(cache).unwrap(), "/c/brisc.elf: cannot map elf file into memory: Not a directory");
    }

    #[test]
    fn other_failures_are_not_the_compilers() {
        assert_eq!(cause("TT_FATAL: Out of Memory: Not enough space to allocate 40 GB"), None);
        assert_eq!(cause("The width of the first tensor must be equal to the height of the second"), None);
    }

    #[test]
    fn a_missing_compiler_is_named_with_all_places() {
        let why = compiler(&["/nowhere/sfpi".into(), "/nor/here".into()]).unwrap_err();
        assert_eq!(why, "no compiler in /nowhere/sfpi or /nor/here");
        assert!(version(Path::new("/nowhere/g++")).unwrap_err().starts_with("not run: "));
        assert!(version(Path::new("/bin/false")).unwrap_err().starts_with("broken: "));
    }
}
