//! The C ABI, as C and C++ programs use it: built with the system's compilers against `include/`
//! and the built library.

mod ipc_support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ipc_support::*;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The directory with the libraries that were built with this test. (`cargo test` leaves them beside
/// it; only `cargo build` puts them one level up, where older ones may lie.)
fn built() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().to_owned()
}

fn run(command: &mut Command) -> Output {
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

fn compilers(names: &[&'static str]) -> Vec<&'static str> {
    let there = |name: &&&str| Command::new(name).arg("--version").output().is_ok_and(|o| o.status.success());
    names.iter().filter(there).copied().collect()
}

/// Builds a program against the shared library, as its users do.
fn build(directory: &Path, compiler: &str, standard: &str, source: &str) -> PathBuf {
    // The name the linker was told, and the name the loader looks for.
    for name in ["libpi0rt.so", "libpi0rt.so.0"] {
        let link = directory.join(name);
        if !link.exists() {
            std::os::unix::fs::symlink(built().join("libpi0rt.so"), link).unwrap();
        }
    }
    let program = directory.join(Path::new(source).file_name().unwrap()).with_extension(standard);
    run(Command::new(compiler)
        .args([format!("-std={standard}").as_str(), "-O1", "-Wall", "-Wextra", "-Werror", "-pedantic"])
        .arg(format!("-I{}", root().join("include").display()))
        .arg(root().join(source))
        .arg(format!("-L{}", directory.display()))
        .args(["-lpi0rt", "-lm", "-pthread", "-o"])
        .arg(&program));
    program
}

fn execute(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("LD_LIBRARY_PATH", program.parent().unwrap());
    command
}

#[test]
fn the_round_trip_in_c() {
    let served = serve();
    for compiler in compilers(&["cc", "clang"]) {
        let program = build(&served.directory.0, compiler, "c99", "tests/capi/roundtrip.c");
        let output = run(execute(&program).arg(served.socket()));
        assert_eq!(String::from_utf8_lossy(&output.stdout), "roundtrip: done\n");
    }
}

#[test]
fn every_misuse_in_c_is_answered_with_a_status() {
    let options = pi0rt::daemon::Options { max_clients: 100, ..Default::default() };
    let served = serve_with(options);
    for compiler in compilers(&["cc", "clang"]) {
        let program = build(&served.directory.0, compiler, "c11", "tests/capi/misuse.c");
        let output = run(execute(&program).arg(served.socket()));
        assert_eq!(String::from_utf8_lossy(&output.stdout), "misuse: done\n");
    }
}

#[test]
fn a_program_links_statically() {
    let served = serve();
    let program = served.directory.0.join("static");
    run(Command::new("cc")
        .arg(format!("-I{}", root().join("include").display()))
        .arg(root().join("tests/capi/roundtrip.c"))
        .arg(built().join("libpi0rt.a"))
        .args(["-lm", "-lpthread", "-ldl", "-lgcc_s", "-o"])
        .arg(&program));
    run(Command::new(&program).arg(served.socket()));
}

#[test]
fn the_example_in_c_controls() {
    let served = serve();
    let program = build(&served.directory.0, "cc", "c11", "examples/controller.c");
    let image = served.directory.0.join("image.ppm");
    std::fs::write(&image, [b"P6\n# a comment\n4 2\n255\n".as_slice(), &[7; 24]].concat()).unwrap();
    let mut command = execute(&program);
    command.arg("--socket").arg(served.socket()).args(["--seconds", "0.5", "--prompt", "sleep 20"]);
    let output = run(command.arg("--image").arg(format!("wrist={}", image.display())));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.starts_with("model sums on none: 2 cameras, state 3, chunks of 20 actions of 5\n"),
        "{text}"
    );
    for line in ["chunk latency", "action age", "submit", "poll", "action_at"] {
        assert!(text.contains(&format!("\n{line}")), "{text}");
    }
    let wrong = execute(&program)
        .arg("--socket")
        .arg(served.socket())
        .args(["--image", "front=x.ppm"])
        .output()
        .unwrap();
    assert!(!wrong.status.success());
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("no camera is called \"front\""));
}

#[test]
fn the_round_trip_in_cpp() {
    let served = serve();
    for standard in ["c++17", "c++20"] {
        let program = build(&served.directory.0, "c++", standard, "tests/capi/raii.cpp");
        let output = run(execute(&program).arg(served.socket()));
        assert_eq!(String::from_utf8_lossy(&output.stdout), "raii: done\n");
    }
}

#[test]
fn the_example_in_cpp_controls() {
    let served = serve();
    let program = build(&served.directory.0, "c++", "c++17", "examples/controller.cpp");
    let output = run(execute(&program).arg(served.socket()).args(["0.5", "sleep 20"]));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.starts_with("model sums on none\n") && text.contains("\naction age"), "{text}");
}

#[test]
fn the_header_is_the_one_generated_from_the_source() {
    let committed = std::fs::read_to_string(root().join("include/pi0rt.h")).unwrap();
    let generated = std::fs::read_to_string(concat!(env!("OUT_DIR"), "/pi0rt.h")).unwrap();
    assert!(
        committed == generated,
        "include/pi0rt.h is not what src/capi says: build once with PI0RT_WRITE_HEADER=1"
    );
}

#[test]
fn the_header_compiles_in_every_standard() {
    let directory = Directory::new();
    let check = |compiler: &str, language: &str, standard: &str, header: &str| {
        let source = directory.0.join(format!("header.{language}"));
        std::fs::write(&source, format!("#include <{header}>\n")).unwrap();
        run(Command::new(compiler)
            .args(["-fsyntax-only", &format!("-std={standard}"), "-Wall", "-Wextra", "-Werror", "-pedantic"])
            .arg(format!("-I{}", root().join("include").display()))
            .arg(&source));
    };
    for compiler in compilers(&["cc", "gcc", "clang"]) {
        for standard in ["c99", "c11", "c17"] {
            check(compiler, "c", standard, "pi0rt.h");
        }
    }
    for compiler in compilers(&["c++", "g++", "clang++"]) {
        for standard in ["c++11", "c++17", "c++20"] {
            check(compiler, "cpp", standard, "pi0rt.h");
        }
        for standard in ["c++17", "c++20"] {
            check(compiler, "cpp", standard, "pi0rt.hpp");
        }
    }
}

#[test]
fn the_library_exports_its_functions_and_nothing_else() {
    let library = built().join("libpi0rt.so");
    let output = run(Command::new("nm").args(["-D", "--defined-only", "--format=posix"]).arg(&library));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut exported: Vec<_> = text.lines().filter_map(|line| line.split(' ').next()).collect();
    exported.sort();
    let header = std::fs::read_to_string(root().join("include/pi0rt.h")).unwrap();
    let mut declared: Vec<_> = header
        .lines()
        .filter(|line| !line.starts_with([' ', '#', '/', '}']) && line.contains('('))
        .filter_map(|line| line.split('(').next()?.rsplit([' ', '*']).next())
        .collect();
    declared.sort();
    assert!(declared.len() >= 18, "{declared:?}");
    assert_eq!(exported, declared);
    let output = run(Command::new("readelf").arg("-d").arg(&library));
    assert!(String::from_utf8_lossy(&output.stdout).contains("soname: [libpi0rt.so.0]"));
}
