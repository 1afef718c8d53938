//! The manual pages match their sources: `include/pi0rt.h` (one page per function, and an overview), the
//! programs' `--help`, and the installed configuration.
//! `PI0RT_WRITE_MAN=1 cargo test --test packaging man` regenerates them.

mod header;
mod page;
mod programs;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use header::Header;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn header() -> Header {
    Header::parse(&std::fs::read_to_string(root().join("include/pi0rt.h")).unwrap())
}

fn pages() -> PathBuf {
    root().join("packaging/man")
}

/// True if the pages are to be regenerated.
fn writing() -> bool {
    std::env::var("PI0RT_WRITE_MAN").is_ok_and(|value| value == "1")
}

#[test]
fn the_pages_are_those_generated() {
    let header = header();
    let mut expected = BTreeMap::from([("pi0rt.3".to_owned(), page::overview(&header))]);
    for function in &header.functions {
        expected.insert(format!("{}.3", function.name), page::function(&header, function));
    }
    expected.extend(programs::pages());
    if writing() {
        for entry in std::fs::read_dir(pages()).unwrap() {
            std::fs::remove_file(entry.unwrap().path()).unwrap();
        }
        for (name, text) in &expected {
            std::fs::write(pages().join(name), text).unwrap();
        }
    }
    let committed: BTreeMap<_, _> = std::fs::read_dir(pages())
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), std::fs::read_to_string(entry.path()).unwrap())
        })
        .collect();
    let names = |pages: &BTreeMap<String, String>| pages.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&committed), names(&expected), "run once with PI0RT_WRITE_MAN=1");
    for (name, text) in &expected {
        assert!(
            committed[name] == *text,
            "{name} is not what it is generated from: run once with PI0RT_WRITE_MAN=1"
        );
    }
}

#[test]
fn each_function_says_whether_it_is_real_time_and_thread_safe_and_what_it_returns() {
    let header = header();
    assert!(header.functions.len() >= 18, "{}", header.functions.len());
    let statuses: Vec<_> = header.statuses().map(|(name, _)| name).collect();
    assert!(statuses.len() >= 26, "{statuses:?}");
    for function in &header.functions {
        let paragraphs = &function.doc;
        let start = |prefix: &str| paragraphs.iter().find(|paragraph| paragraph.starts_with(prefix));
        let context = start("Real-time safe").or(start("Not real-time safe"));
        let context = context.unwrap_or_else(|| panic!("{}: real-time safe or not?", function.name));
        assert!(
            context.contains("Thread safe") || context.contains(" Class: "),
            "{}: how many threads may use it?",
            function.name
        );
        let returns = start("Returns ").unwrap_or_else(|| panic!("{}: what does it return?", function.name));
        if function.result == "pi0rt_status" {
            assert!(returns.starts_with("Returns PI0RT_STATUS_OK; "), "{}: {returns}", function.name);
            let takes_client = function.parameters[0].starts_with("pi0rt_client *");
            for misuse in ["BAD_HANDLE", "CLOSED", "IN_USE"] {
                assert_eq!(returns.contains(misuse), takes_client, "{}: {misuse}: {returns}", function.name);
            }
            // A word in capitals is a status with its full name, or one of a few others.
            for word in returns.split(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')) {
                let known = match word.strip_prefix("PI0RT_STATUS_") {
                    Some(status) => statuses.iter().any(|name| name == status),
                    None => word.chars().filter(char::is_ascii_uppercase).count() < 3,
                };
                assert!(known || ["NULL", "UTF"].contains(&word), "{}: {word}", function.name);
            }
        }
    }
}

#[test]
fn mandoc_and_groff_have_nothing_to_say() {
    if writing() {
        // Another test is writing the pages at the same time.
        return;
    }
    let mut files: Vec<_> = std::fs::read_dir(pages()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut checked = 0;
    for (tool, arguments) in [
        ("mandoc", ["-T", "lint", "-W", "style"].as_slice()),
        ("groff", &["-mdoc", "-T", "utf8", "-ww", "-z"]),
    ] {
        if Command::new(tool).arg("--version").output().is_err() {
            println!("{tool} is not installed: left out");
            continue;
        }
        let output = Command::new(tool).args(arguments).args(&files).output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        // References to our own pages are valid, though not installed here.
        let ours = |line: &&str| {
            let named = line.split_once("referenced manual not found: Xr ");
            named.and_then(|(_, rest)| rest.split(' ').next()).is_some_and(|name| {
                ["1", "3", "5", "8"].iter().any(|n| pages().join(format!("{name}.{n}")).exists())
            })
        };
        let said: Vec<_> = said.lines().filter(|line| !ours(line)).collect();
        assert!(said.is_empty(), "{tool}: {said:#?}");
        checked += 1;
    }
    let required = std::env::var_os("PI0RT_REQUIRE_TOOLS").is_some();
    assert!(checked == 2 || !required, "mandoc and groff have to be installed");
}
