//! Builds and runs programs in C and C++.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The directory with the libraries built with this test. (`cargo test` puts them beside it; only `cargo
/// build` puts them one level up, where older ones may lie.)
pub fn built() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().to_owned()
}

/// Runs a command, which has to succeed.
pub fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// True if a tool is installed. With `PI0RT_REQUIRE_TOOLS` set, it must be.
pub fn there(tool: &str) -> bool {
    let there = Command::new(tool).arg("--version").output().is_ok();
    assert!(there || std::env::var_os("PI0RT_REQUIRE_TOOLS").is_none(), "{tool} has to be installed");
    if !there {
        println!("{tool} is not installed: left out");
    }
    there
}

/// The installed ones among the named compilers.
pub fn compilers(names: &[&'static str]) -> Vec<&'static str> {
    names.iter().filter(|name| there(name)).copied().collect()
}

/// Compiles a program with every warning on.
pub fn compile(compiler: &str, standard: &str, include: &Path, source: &str, program: &Path) -> Command {
    let mut command = Command::new(compiler);
    command
        .args([format!("-std={standard}").as_str(), "-O1", "-Wall", "-Wextra", "-Werror", "-pedantic"])
        .arg(format!("-I{}", include.display()))
        .arg(root().join(source))
        .arg("-o")
        .arg(program);
    command
}

/// Builds a program against the shared library in a directory, as users do.
pub fn build(directory: &Path, compiler: &str, standard: &str, source: &str) -> PathBuf {
    build_with(directory, compiler, standard, &root().join("include"), source)
}

/// [`build`] with other headers.
pub fn build_with(directory: &Path, compiler: &str, standard: &str, include: &Path, source: &str) -> PathBuf {
    // The name used by the linker, and the name used by the loader.
    for name in ["libpi0rt.so", "libpi0rt.so.0"] {
        let link = directory.join(name);
        if !link.exists() {
            std::os::unix::fs::symlink(built().join("libpi0rt.so"), link).unwrap();
        }
    }
    let program = directory.join(Path::new(source).file_name().unwrap()).with_extension(standard);
    let library = format!("-L{}", directory.display());
    run(compile(compiler, standard, include, source, &program).args([&library, "-lpi0rt", "-lm", "-pthread"]));
    program
}

/// A command for a program that finds the library in its own directory.
pub fn execute(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("LD_LIBRARY_PATH", program.parent().unwrap());
    command
}
