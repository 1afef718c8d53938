//! Files installed by `packaging/install.sh`, as builders of controllers use them: each example compiled by
//! its own compile line and by CMake, and run against `pi0rtd` with a real checkpoint.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::daemons::*;
use crate::native::*;

/// A library directory that is nowhere the default.
const LIBDIR: &str = "lib/multi-arch";

fn install(arguments: &[&str]) -> Command {
    let mut command = Command::new(root().join("packaging/install.sh"));
    command.arg("--build").arg(built()).args(arguments);
    command
}

fn installed(directory: &Directory) -> PathBuf {
    let prefix = directory.0.join("prefix");
    let text = stdout(&run(&mut install(&["--libdir", LIBDIR, prefix.to_str().unwrap()])));
    assert_eq!(text, format!("installed pi0rt {} in {}\n", env!("CARGO_PKG_VERSION"), prefix.display()));
    prefix
}

/// Runs an example for a few moments, and returns the line with its number of chunks.
fn control(program: &Path, socket: &Path, libraries: Option<&Path>) -> String {
    let mut command = Command::new(program);
    match libraries {
        Some(libraries) => command.env("LD_LIBRARY_PATH", libraries),
        None => command.env_remove("LD_LIBRARY_PATH"),
    };
    if program.file_stem().unwrap() == "controller" {
        command.arg("--socket").arg(socket).args(["--seconds", "1"]);
    } else {
        command.arg(socket).arg("1");
    }
    let text = stdout(&run(&mut command));
    let line = text.lines().find(|line| line.contains(", failed ")).unwrap_or_else(|| panic!("{text}"));
    assert!(line.contains("failed 0, actions "), "{text}");
    text
}

fn examples() -> Vec<PathBuf> {
    let files = std::fs::read_dir(root().join("examples")).unwrap().map(|entry| entry.unwrap().path());
    let mut sources: Vec<_> =
        files.filter(|path| ["c", "cpp"].iter().any(|end| path.extension() == Some(end.as_ref()))).collect();
    sources.sort();
    assert!(sources.len() >= 4, "{sources:?}");
    sources
}

#[test]
fn each_example_is_built_by_its_first_line_and_controls() {
    let directory = Directory::new();
    let prefix = installed(&directory);
    let _daemon = started(&directory.socket());
    for source in examples() {
        let text = std::fs::read_to_string(&source).unwrap();
        let first = text.lines().next().unwrap();
        let line = first.strip_prefix("/* ").or(first.strip_prefix("// ")).expect("a compile line");
        let name = line.split_once(" -o ").and_then(|(_, rest)| rest.split(' ').next()).expect("-o NAME");
        run(Command::new("sh")
            .args(["-ec", &format!("{line} -Werror && mv {name} {}", directory.0.display())])
            .current_dir(root().join("examples"))
            .env("PKG_CONFIG_PATH", prefix.join(LIBDIR).join("pkgconfig")));
        let text = control(&directory.0.join(name), &directory.socket(), Some(&prefix.join(LIBDIR)));
        if name == "realtime" {
            // Either the calls are permitted or it reports that they aren't.
            assert!(text.starts_with("mlockall: ") && text.contains("\nSCHED_FIFO: "), "{text}");
        }
    }
}

#[test]
fn each_example_is_built_by_cmake_and_controls() {
    if !there("cmake") {
        return;
    }
    let directory = Directory::new();
    let prefix = installed(&directory);
    // No installed file contains the prefix.
    let moved = directory.0.join("moved");
    std::fs::rename(&prefix, &moved).unwrap();
    let build = directory.0.join("build");
    // CMake doesn't search this directory by default.
    let package = format!("-Dpi0rt_DIR={}/cmake/pi0rt", moved.join(LIBDIR).display());
    run(Command::new("cmake").arg("-S").arg(root().join("examples")).arg("-B").arg(&build).arg(&package));
    run(Command::new("cmake").arg("--build").arg(&build));
    let _daemon = started(&directory.socket());
    for name in ["cameras", "controller", "controller_cpp", "epoll", "realtime"] {
        control(&build.join(name), &directory.socket(), None);
    }
    let needed = |name| stdout(&run(Command::new("readelf").arg("-d").arg(build.join(name))));
    assert!(needed("epoll").contains("Shared library: [libpi0rt.so.0]"));
    assert!(!needed("realtime").contains("libpi0rt"));

    // Compatible and incompatible versions.
    for (version, fits) in [("0.1", true), ("0.2", false), ("1.0", false)] {
        let project = directory.0.join(format!("wants-{version}"));
        std::fs::create_dir(&project).unwrap();
        let text = format!(
            "cmake_minimum_required(VERSION 3.16)\nproject(x C)\nfind_package(pi0rt {version} REQUIRED)\n"
        );
        std::fs::write(project.join("CMakeLists.txt"), text).unwrap();
        let mut command = Command::new("cmake");
        command.arg("-S").arg(&project).arg("-B").arg(project.join("build"));
        assert_eq!(command.arg(&package).output().unwrap().status.success(), fits, "{version}");
    }
}

#[test]
fn the_static_library_links_as_pkg_config_says() {
    let directory = Directory::new();
    let prefix = installed(&directory);
    let served = serve();
    let flags = Command::new("pkg-config")
        .args(["--static", "--cflags", "--libs", "pi0rt"])
        .env("PKG_CONFIG_PATH", prefix.join(LIBDIR).join("pkgconfig"))
        .output()
        .unwrap();
    let flags = stdout(&flags);
    // Only our own library is linked statically: the others are the system's, and shared.
    assert!(flags.contains("-lpi0rt "), "{flags}");
    let flags = flags.replace("-lpi0rt ", "-l:libpi0rt.a ");
    let program = directory.0.join("static");
    run(Command::new("cc")
        .args(["-std=c99"])
        .arg(root().join("tests/capi/roundtrip.c"))
        .args(flags.split_whitespace())
        .arg("-o")
        .arg(&program));
    let output = run(Command::new(&program).env_remove("LD_LIBRARY_PATH").arg(served.socket()));
    assert_eq!(stdout(&output), "roundtrip: done\n");
}

#[test]
fn a_destdir_goes_before_every_path_and_stays_out_of_every_file() {
    let directory = Directory::new();
    let destdir = directory.0.to_str().unwrap();
    run(&mut install(&["/usr", destdir]));
    let pc = std::fs::read_to_string(directory.0.join("usr/lib/pkgconfig/pi0rt.pc")).unwrap();
    assert!(pc.starts_with("prefix=/usr\n") && !pc.contains(destdir) && !pc.contains('@'), "{pc}");
    let lib = directory.0.join("usr/lib");
    let file = format!("libpi0rt.so.{}", env!("CARGO_PKG_VERSION"));
    for (link, to) in [("libpi0rt.so", "libpi0rt.so.0"), ("libpi0rt.so.0", file.as_str())] {
        assert_eq!(std::fs::read_link(lib.join(link)).unwrap(), Path::new(to));
    }
    assert!(directory.0.join("usr/share/man/man3/pi0rt_submit.3").is_file());
    assert!(directory.0.join("usr/include/pi0rt.hpp").is_file());
}

#[test]
fn a_service_is_installed_for_its_prefix_and_an_edited_configuration_stays() {
    let directory = Directory::new();
    let (build, destdir) = (directory.0.join("build"), directory.0.join("destdir"));
    std::fs::create_dir(&build).unwrap();
    for file in ["libpi0rt.so", "libpi0rt.a"] {
        std::os::unix::fs::symlink(built().join(file), build.join(file)).unwrap();
    }
    let install = || {
        let mut command = Command::new(root().join("packaging/install.sh"));
        command.arg("--build").arg(&build).args(["--service", "/opt/pi0rt"]).arg(&destdir);
        command
    };
    let output = install().output().unwrap();
    let expected = format!("install.sh: {}/pi0rtd is missing, which --service is for\n", build.display());
    assert_eq!(String::from_utf8_lossy(&output.stderr), expected);

    for (program, built) in [("pi0rt", env!("CARGO_BIN_EXE_pi0rt")), ("pi0rtd", env!("CARGO_BIN_EXE_pi0rtd"))]
    {
        std::os::unix::fs::symlink(built, build.join(program)).unwrap();
    }
    run(&mut install());
    let prefix = destdir.join("opt/pi0rt");
    let unit = std::fs::read_to_string(prefix.join("lib/systemd/system/pi0rtd.service")).unwrap();
    assert!(
        unit.contains("\nExecStart=/opt/pi0rt/bin/pi0rtd\n") && !unit.contains("/usr/bin/pi0rt"),
        "{unit}"
    );
    for file in ["systemd/system/pi0rtd.socket", "sysusers.d/pi0rtd.conf", "tmpfiles.d/pi0rtd.conf"] {
        assert!(prefix.join("lib").join(file).is_file(), "{file}");
    }
    for file in [
        "doc/pi0rtd/examples/ttnn.conf",
        "man/man1/pi0rt.1",
        "man/man5/pi0rtd.toml.5",
        "man/man8/pi0rtd.8",
        "bash-completion/completions/pi0rt",
        "fish/vendor_completions.d/pi0rt.fish",
        "zsh/site-functions/_pi0rt",
    ] {
        assert!(
            std::fs::metadata(prefix.join("share").join(file)).is_ok_and(|file| file.len() > 100),
            "{file}"
        );
    }

    // The installed configuration is valid for the daemon, once it names a checkpoint.
    let configuration = destdir.join("etc/pi0rt/pi0rtd.toml");
    let mut daemon = Command::new(prefix.join("bin/pi0rtd"));
    let output = run(daemon.args(["--check-config", "--config"]).arg(&configuration));
    assert_eq!(stdout(&output), format!("{}: right\n", configuration.display()));
    std::fs::write(&configuration, "# edited").unwrap();
    run(&mut install());
    assert_eq!(std::fs::read_to_string(&configuration).unwrap(), "# edited");
}

#[test]
fn wrong_arguments_are_named() {
    let said = |arguments: &[&str]| {
        let output = install(arguments).output().unwrap();
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(said(&[]).starts_with("usage: "));
    assert!(said(&["--wrong", "x", "/usr"]).starts_with("usage: "));
    assert_eq!(said(&["relative"]), "install.sh: PREFIX is relative, expected an absolute path\n");
    assert!(said(&["--libdir", "/lib", "/usr"]).contains("--libdir is /lib, expected a path below PREFIX"));
    assert!(said(&["--build", "/nonexistent", "/usr"]).contains("/nonexistent/libpi0rt.so is missing"));
}
