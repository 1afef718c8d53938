//! Names the shared library's ABI generation, chooses between the processors' code and, by feature,
//! generates the C header and builds the TTNN bridge.

fn main() {
    // The dynamic linker finds the library by its ABI generation, not by its file name.
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libpi0rt.so.0");
    }
    println!("cargo:rustc-check-cfg=cfg(x86)");
    println!("cargo:rustc-check-cfg=cfg(loom)");
    let x86 = std::env::var("CARGO_CFG_TARGET_ARCH").as_deref() == Ok("x86_64");
    if x86 && std::env::var_os("CARGO_FEATURE_PORTABLE").is_none() {
        println!("cargo:rustc-cfg=x86");
    }
    println!("cargo:rerun-if-changed=build.rs");
    #[cfg(feature = "header")]
    header::generate();
    #[cfg(feature = "_ttnn")]
    ttnn::build();
}

#[cfg(feature = "_ttnn")]
#[path = "ttnn-bridge/build.rs"]
mod ttnn;

#[cfg(feature = "header")]
mod header {
    use std::path::Path;

    /// In the order in which their items appear.
    const SOURCES: [&str; 10] = [
        "src/control/status.rs",
        "src/capi/types/library.rs",
        "src/capi/types/choices.rs",
        "src/capi/types/reports.rs",
        "src/capi/types/session.rs",
        "src/capi/types/exchange.rs",
        "src/capi/types/statistics.rs",
        "src/capi/connection.rs",
        "src/capi/realtime.rs",
        "src/capi/player.rs",
    ];

    /// Writes `$OUT_DIR/pi0rt.h`, which a test compares with `include/pi0rt.h`;
    /// `PI0RT_WRITE_HEADER=1` writes that one too.
    pub fn generate() {
        println!("cargo:rerun-if-changed=cbindgen.toml");
        println!("cargo:rerun-if-env-changed=PI0RT_WRITE_HEADER");
        let config = cbindgen::Config::from_file("cbindgen.toml").expect("cbindgen.toml");
        let mut builder = cbindgen::Builder::new().with_config(config);
        for source in SOURCES {
            println!("cargo:rerun-if-changed={source}");
            builder = builder.with_src(source);
        }
        let mut text = Vec::new();
        builder.generate().expect("the C ABI can be put into a header").write(&mut text);
        let text = String::from_utf8(text).expect("a header in UTF-8");
        let text = polish(&text);
        let out = std::env::var("OUT_DIR").expect("cargo sets OUT_DIR");
        std::fs::write(Path::new(&out).join("pi0rt.h"), &text).expect("OUT_DIR can be written to");
        if std::env::var("PI0RT_WRITE_HEADER").is_ok_and(|value| value == "1") {
            std::fs::create_dir_all("include").expect("include/ can be made");
            std::fs::write("include/pi0rt.h", &text).expect("include/pi0rt.h can be written");
        }
    }

    /// Brings generated C into the shape of C written by hand.
    fn polish(text: &str) -> String {
        // What Rust calls safety is what C programmers read as preconditions.
        let text = text.replace(" * # Safety\n", " * Requires:\n");
        let lines: Vec<_> = text.lines().collect();
        let mut out: Vec<String> = Vec::new();
        let mut i = 0;
        while i < lines.len() {
            let line = lines[i];
            let indent = &line[..line.len() - line.trim_start().len()];
            let one_liner = line.trim() == "/**" && lines.get(i + 2).is_some_and(|end| end.trim() == "*/");
            if one_liner {
                out.push(format!("{indent}/** {} */", lines[i + 1].trim().trim_start_matches("* ")));
                i += 3;
                continue;
            }
            // Types get tags, so that other headers can declare them.
            let tagless =
                line.strip_suffix(" {").filter(|head| ["typedef struct", "typedef enum"].contains(head));
            let tag = tagless.and_then(|_| {
                let end = lines[i..].iter().find(|line| line.starts_with("} "))?;
                end.strip_prefix("} ")?.strip_suffix(';')
            });
            match (tagless, tag) {
                (Some(head), Some(tag)) => out.push(format!("{head} {tag} {{")),
                _ if line.is_empty() && out.last().is_some_and(String::is_empty) => {}
                _ => out.push(line.into()),
            }
            i += 1;
        }
        out.join("\n") + "\n"
    }
}
