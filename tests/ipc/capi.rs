//! The C ABI as used by C and C++ programs: compiled with the system's compilers against `include/` and the
//! built library.

use std::process::Command;

use crate::daemons::*;
use crate::native::*;
use pi0rt::control::{Rate, RateSource};

#[test]
fn the_round_trip_in_c() {
    let served = serve();
    for compiler in compilers(&["cc", "clang"]) {
        let program = build(&served.directory.0, compiler, "c99", "tests/capi/roundtrip.c");
        let output = run(execute(&program).arg(served.socket()));
        assert_eq!(stdout(&output), "roundtrip: done\n");
    }
}

#[test]
fn deadlines_and_statistics_in_c() {
    let served = serve();
    for compiler in compilers(&["cc", "clang"]) {
        let program = build(&served.directory.0, compiler, "c99", "tests/capi/statistics.c");
        let output = run(execute(&program).arg(served.socket()));
        assert_eq!(stdout(&output), "statistics: done\n");
    }
}

#[test]
fn instructions_in_c() {
    let served = serve();
    for compiler in compilers(&["cc", "clang"]) {
        let program = build(&served.directory.0, compiler, "c99", "tests/capi/prompts.c");
        let output = run(execute(&program).arg(served.socket()));
        assert_eq!(stdout(&output), "prompts: done\n");
    }
}

#[test]
fn what_the_numbers_are_in_c() {
    let rates =
        [None, Some(RateSource::Checkpoint), Some(RateSource::Profile), Some(RateSource::Configuration)];
    for (rate, compiler) in rates.into_iter().zip(compilers(&["cc", "clang"]).into_iter().cycle()) {
        let served = serve_as(|policy| {
            declare(policy);
            policy.rate = rate.and_then(|source| Rate::new(30.0, source));
        });
        let program = build(&served.directory.0, compiler, "c99", "tests/capi/contract.c");
        let (hz, source) = rate.map_or(("0", 0), |source| ("30", source as u32));
        let output = run(execute(&program).arg(served.socket()).args([hz, &source.to_string()]));
        assert_eq!(stdout(&output), "contract: done\n");
    }
}

#[test]
fn observations_that_can_not_be_used_in_c() {
    for compiler in compilers(&["cc", "clang"]) {
        let served = serve_as(|policy| {
            declare(policy);
            policy.optional_cameras = 0;
        });
        let program = build(&served.directory.0, compiler, "c99", "tests/capi/reasons.c");
        let output = run(execute(&program).arg(served.socket()));
        assert_eq!(stdout(&output), "reasons: done\n");
    }
}

#[test]
fn times_of_other_clocks_in_c() {
    for compiler in compilers(&["cc", "clang"]) {
        let served = serve();
        let program = build(&served.directory.0, compiler, "c99", "tests/capi/clocks.c");
        let output = run(execute(&program).arg(served.socket()));
        assert_eq!(stdout(&output), "clocks: done\n");
    }
}

#[test]
fn every_misuse_in_c_is_answered_with_a_status() {
    let options = pi0rt::daemon::Options {
        limits: pi0rt::daemon::Limits { max_clients: 100, ..Default::default() },
        ..Default::default()
    };
    let served = serve_with(options);
    for compiler in compilers(&["cc", "clang"]) {
        let program = build(&served.directory.0, compiler, "c11", "tests/capi/misuse.c");
        let output = run(execute(&program).arg(served.socket()));
        assert_eq!(stdout(&output), "misuse: done\n");
    }
}

/// Controllers are debugged with valgrind; it also finds leaks of the library.
#[test]
fn the_round_trip_under_valgrind() {
    if !there("valgrind") {
        return;
    }
    let served = serve();
    let program = build(&served.directory.0, "cc", "c11", "tests/capi/roundtrip.c");
    let mut command = Command::new("valgrind");
    command.args(["-q", "--error-exitcode=3", "--leak-check=full"]).arg(&program).arg(served.socket());
    let output = run(command.env("LD_LIBRARY_PATH", &*served.directory.0));
    assert_eq!(stdout(&output), "roundtrip: done\n");
}

#[test]
fn a_client_without_the_library_works_by_the_protocol_alone() {
    let served = serve();
    for compiler in compilers(&["cc", "clang"]) {
        let program = served.directory.0.join("wire");
        run(&mut compile(compiler, "c11", &root().join("include"), "tests/capi/wire.c", &program));
        assert_eq!(stdout(&run(Command::new(program).arg(served.socket()))), "wire: done\n");
    }
}

/// `tests/abi/include` has a header from before the first release: programs compiled with it, with its
/// struct sizes and numbers, work with today's library and daemon.
#[test]
fn a_program_compiled_for_the_last_release_works() {
    let served = serve();
    let include = root().join("tests/abi/include");
    let program = build_with(&served.directory.0, "cc", "c99", &include, "tests/capi/roundtrip.c");
    let output = run(execute(&program).arg(served.socket()));
    assert_eq!(stdout(&output), "roundtrip: done\n");
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
fn the_example_says_what_is_wrong_with_its_arguments() {
    let served = serve();
    let program = build(&served.directory.0, "cc", "c11", "examples/controller.c");
    let image = served.directory.0.join("image.ppm");
    std::fs::write(&image, [b"P6\n# a comment\n4 2\n255\n".as_slice(), &[7; 24]].concat()).unwrap();
    let mut command = execute(&program);
    command.arg("--socket").arg(served.socket()).args(["--seconds", "0.5", "--prompt", "sleep 20"]);
    let text = stdout(&run(command.arg("--image").arg(format!("wrist={}", image.display()))));
    let expected = "model sums on none: 2 cameras, state 3, chunks of 20 actions of 5\n";
    assert!(text.starts_with(expected), "{text}");
    let mut command = execute(&program);
    let wrong =
        command.arg("--socket").arg(served.socket()).args(["--image", "front=x.ppm"]).output().unwrap();
    assert!(!wrong.status.success());
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("no camera is called \"front\""));
}

#[test]
fn the_round_trip_in_cpp() {
    let served = serve();
    for (compiler, standard) in [("c++", "c++17"), ("c++", "c++2b"), ("clang++", "c++20")] {
        if there(compiler) {
            let program = build(&served.directory.0, compiler, standard, "tests/capi/raii.cpp");
            let output = run(execute(&program).arg(served.socket()));
            assert_eq!(stdout(&output), "raii: done\n");
        }
    }
}

#[test]
fn the_round_trip_in_cpp_without_exceptions() {
    let served = serve();
    let program = served.directory.0.join("noexceptions");
    let source = "tests/capi/noexceptions.cpp";
    run(compile("c++", "c++17", &root().join("include"), source, &program)
        .args(["-fno-exceptions", "-fno-rtti"])
        .arg(built().join("libpi0rt.so")));
    std::os::unix::fs::symlink(built().join("libpi0rt.so"), served.directory.0.join("libpi0rt.so.0"))
        .unwrap();
    let output = run(execute(&program).arg(served.socket()));
    assert_eq!(stdout(&output), "noexceptions: done\n");
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
fn the_headers_compile_in_every_standard() {
    run(&mut Command::new(root().join("tests/headers.sh")));
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
    assert!(stdout(&output).contains("soname: [libpi0rt.so.0]"));
}
