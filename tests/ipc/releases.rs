//! Controllers of earlier releases, with their own library, and today's daemon.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::process::Stdio;

use crate::daemons::*;
use crate::native::{compile, execute, root, run};

/// `tests/abi/release.sh` keeps a release's header and library for the architecture it was built on.
#[test]
fn controllers_of_earlier_releases_are_served() {
    let mut tried = 0;
    for release in std::fs::read_dir(root().join("tests/abi/releases")).unwrap() {
        let release = release.unwrap().path();
        let library = release.join(format!("libpi0rt-{}.so", std::env::consts::ARCH));
        if !library.exists() {
            println!("{} is not kept for this processor: left out", release.display());
            continue;
        }
        let directory = Directory::new();
        // The name used by the loader.
        symlink(&library, directory.0.join("libpi0rt.so.0")).unwrap();
        let program = directory.0.join("release");
        run(compile("cc", "c99", &release.join("include"), "tests/capi/release.c", &program).arg(&library));
        let mut served = Process::serving(&directory);
        let child = execute(&program).arg(directory.socket()).stdout(Stdio::piped()).spawn().unwrap();
        let mut child = Process(child);
        let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
        let mut next = || lines.next().expect("a line").unwrap();
        assert_eq!(next(), "submitted");
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", child.0.id())).unwrap();
        let loaded = maps.lines().filter(|line| line.contains("libpi0rt"));
        assert!(
            loaded.clone().count() > 0
                && loaded.clone().all(|line| line.ends_with(library.to_str().unwrap()))
        );
        served.kill();
        assert_eq!(next(), "gone");
        let _served = Process::serving(&directory);
        assert_eq!(next(), "release: done");
        assert!(child.0.wait().unwrap().success());
        tried += 1;
    }
    assert!(tried > 0 || !cfg!(target_arch = "x86_64"), "no release is kept");
}
