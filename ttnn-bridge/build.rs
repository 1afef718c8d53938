//! Builds the bridge against an SDK (feature `ttnn`) or the emulation (`ttnn-emulated`).

use std::env;
use std::path::{Path, PathBuf};

/// The TTNN release whose API the bridge calls.
const VERSION: &str = "0.66";
const BRIDGE: [&str; 3] = ["device.cc", "ops.cc", "transfer.cc"];
const EMULATION: [&str; 5] = ["attention.cc", "data_movement.cc", "device.cc", "ops.cc", "tensor.cc"];

pub fn build() {
    println!("cargo:rerun-if-changed=ttnn-bridge");
    println!("cargo:rerun-if-changed=src/device/ttnn/ffi.rs");
    for name in [
        "TT_METAL_HOME",
        "TTNN_PREFIX",
        "PI0RT_TTNN_INCLUDE",
        "PI0RT_TTNN_LIB",
        "PI0RT_TTNN_VERSION",
        "PI0RT_SANITIZE",
    ] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let emulated = cfg!(feature = "ttnn-emulated");
    if emulated && cfg!(feature = "ttnn") {
        panic!(
            "features ttnn and ttnn-emulated are the same device on an SDK and on its emulation: choose one"
        );
    }
    let mut build = cxx_build::bridge("src/device/ttnn/ffi.rs");
    build.std("c++20").files(BRIDGE.map(|file| Path::new("ttnn-bridge/src").join(file)));
    if emulated {
        build.files(EMULATION.map(|file| Path::new("ttnn-bridge/emulation").join(file)));
        // Golden tests run the emulation in debug builds too.
        build.define("PI0RT_TTNN_EMULATED", None).opt_level(2);
        build.define("PI0RT_TTNN_VERSION", format!("\"{VERSION}\"").as_str());
        if env::var_os("PI0RT_SANITIZE").is_some() {
            let checks = "-fsanitize=address,undefined";
            build.flag(checks).flag("-fno-sanitize-recover=all").flag("-fno-omit-frame-pointer");
            // Given by name and first, as the sanitizers' runtime has to be loaded first; rustc's linker
            // has no -fsanitize.
            println!("cargo:rustc-link-lib=asan");
            println!("cargo:rustc-link-lib=ubsan");
            println!("cargo:rustc-env=PI0RT_SANITIZED={checks}");
        }
    } else {
        let sdk = Sdk::find().unwrap_or_else(|why| panic!("feature ttnn: {why}"));
        build.define("PI0RT_TTNN_VERSION", format!("\"{}\"", sdk.version).as_str());
        build.define("FMT_HEADER_ONLY", "1").define("SPDLOG_FMT_EXTERNAL", "1");
        // The library reflect defines a variable for its own tests in every file.
        build.define("NTEST", None);
        // Suppresses warnings in TTNN's headers.
        for root in &sdk.include {
            build.flag("-isystem").flag(root);
        }
        for library in &sdk.libraries {
            println!("cargo:rustc-link-arg={}", library.display());
        }
        for dir in &sdk.dirs {
            println!("cargo:rustc-link-arg=-Wl,-rpath,{}", dir.display());
        }
        println!("cargo:rustc-link-arg=-Wl,--allow-shlib-undefined");
    }
    build.compile("pi0rt-ttnn");
}

/// The location of TTNN.
struct Sdk {
    include: Vec<PathBuf>,
    libraries: Vec<PathBuf>,
    dirs: Vec<PathBuf>,
    version: String,
}

impl Sdk {
    /// Finds the SDK: headers in `TT_METAL_HOME` (a source tree) or `TTNN_PREFIX` (an installation; /usr
    /// and /opt/tenstorrent by default), libraries there or in `PI0RT_TTNN_LIB`; further include roots in
    /// `PI0RT_TTNN_INCLUDE`.
    fn find() -> Result<Sdk, String> {
        let mut looked = Vec::new();
        let (mut include, mut dirs) = (list("PI0RT_TTNN_INCLUDE"), list("PI0RT_TTNN_LIB"));
        let mut roots = Vec::new();
        if let Some(home) = env::var_os("TT_METAL_HOME").map(PathBuf::from) {
            let tree = [
                "ttnn/api",
                "ttnn/cpp",
                "ttnn",
                "tt_metal/api",
                "",
                "tt_stl",
                "tt_metal/hostdevcommon/api",
                "tt_metal/third_party/umd/device/api",
            ];
            include.extend(tree.map(|root| home.join(root)));
            // Dependencies fetched by the tree's own build.
            let fetched = ["fmt", "spdlog", "enchantum", "reflect", "tt-logger", "tracy", "nlohmann_json"];
            for deps in [home.join("build/_deps"), home.join("build_Release/_deps"), home.join(".cpmcache")] {
                for name in fetched {
                    include.extend(third_party(&deps, name));
                }
            }
            include.push(home.join("tt_metal/third_party/tracy/public"));
            dirs.extend(["build/lib", "build_Release/lib", "lib"].map(|lib| home.join(lib)));
            roots.push(home);
        }
        let prefixes = match env::var_os("TTNN_PREFIX") {
            Some(prefix) => vec![PathBuf::from(prefix)],
            None => ["/usr", "/usr/local", "/opt/tenstorrent"].map(PathBuf::from).to_vec(),
        };
        for prefix in prefixes {
            include.extend(["include", "include/ttnn", "include/tt-metalium"].map(|dir| prefix.join(dir)));
            dirs.extend(["lib", "lib64", "lib/x86_64-linux-gnu"].map(|lib| prefix.join(lib)));
            roots.push(prefix);
        }

        let header = |name: &str, looked: &mut Vec<String>| {
            let found = include.iter().any(|root| root.join(name).is_file());
            if !found {
                looked.push(format!("header {name} in {}", join(&include)));
            }
            found
        };
        let mut complete = true;
        for name in [
            "ttnn/device.hpp",
            "ttnn/operations/matmul/matmul.hpp",
            "tt-metalium/mesh_device.hpp",
            "fmt/core.h",
        ] {
            complete &= header(name, &mut looked);
        }
        let mut libraries = Vec::new();
        for names in
            [&["_ttnncpp.so", "libttnncpp.so", "_ttnn.so"][..], &["libtt_metal.so"], &["libtt_stl.so"]]
        {
            let candidates = dirs.iter().flat_map(|dir| names.iter().map(move |name| dir.join(name)));
            match candidates.into_iter().find(|path| path.is_file()) {
                Some(path) => libraries.push(path),
                // Later releases have no separate library for it.
                None if names[0] == "libtt_stl.so" => {}
                None => {
                    complete = false;
                    looked.push(format!("library {} in {}", names.join(" or "), join(&dirs)));
                }
            }
        }
        if !complete {
            return Err(format!(
                "no TTNN SDK found. Set TT_METAL_HOME to a built source tree of TTNN {VERSION}, or TTNN_PREFIX to where \
                 it is installed; PI0RT_TTNN_LIB and PI0RT_TTNN_INCLUDE add directories. Missing:\n  {}",
                looked.join("\n  ")
            ));
        }
        // The compiler's own roots must stay in place: the standard library's headers rely on their order.
        let own = ["/usr/include", "/usr/local/include"].map(Path::new);
        include.retain(|root| root.is_dir() && !own.contains(&root.as_path()));
        dirs.retain(|dir| dir.is_dir());
        let version = version(&roots, &dirs);
        match &version {
            Some(found) if !found.starts_with(&format!("{VERSION}.")) && found != VERSION => {
                return Err(format!(
                    "the TTNN SDK is {found}, the bridge calls the API of {VERSION}, which changes from release to \
                     release: use a matching SDK, or adapt ttnn-bridge/src/ops.cc"
                ));
            }
            Some(_) => {}
            None => println!(
                "cargo:warning=the TTNN SDK does not tell its version; {VERSION} is assumed (set PI0RT_TTNN_VERSION)"
            ),
        }
        Ok(Sdk { include, libraries, dirs, version: version.unwrap_or_else(|| VERSION.into()) })
    }
}

fn list(variable: &str) -> Vec<PathBuf> {
    env::var_os(variable).map(|value| env::split_paths(&value).collect()).unwrap_or_default()
}

fn join(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// Include roots of a dependency, as CPM lays it out: `NAME-src` or `NAME/HASH`.
fn third_party(deps: &Path, name: &str) -> Vec<PathBuf> {
    let mut sources = vec![deps.join(format!("{}-src", name.to_lowercase()))];
    if let Ok(entries) = std::fs::read_dir(deps.join(name.to_lowercase())) {
        sources.extend(entries.flatten().map(|entry| entry.path()));
    }
    let roots = ["include", "enchantum/include", "public", ""];
    sources
        .iter()
        .flat_map(|source| roots.map(|root| source.join(root)))
        .filter(|root| root.is_dir())
        .collect()
}

/// The SDK's version, from any of the places that record it.
fn version(roots: &[PathBuf], dirs: &[PathBuf]) -> Option<String> {
    if let Ok(version) = env::var("PI0RT_TTNN_VERSION") {
        return Some(version);
    }
    for dir in dirs {
        // CMake's package file.
        for package in ["tt-nn", "tt-metalium"] {
            let file = dir.join(format!("cmake/{package}/{package}-config-version.cmake"));
            if let Ok(text) = std::fs::read_to_string(file)
                && let Some(rest) = text.split("PACKAGE_VERSION \"").nth(1)
            {
                return rest.split('"').next().map(Into::into);
            }
        }
        // A wheel's metadata lies beside its package: site-packages/ttnn/build/lib.
        for above in dir.ancestors().take(4) {
            for entry in std::fs::read_dir(above).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if let Some(version) = name.strip_prefix("ttnn-").and_then(|n| n.strip_suffix(".dist-info")) {
                    return Some(version.into());
                }
            }
        }
    }
    // A checkout's tag.
    let home = roots.first()?;
    let git = std::process::Command::new("git")
        .arg("-C")
        .arg(home)
        .args(["describe", "--tags", "--abbrev=0"])
        .output();
    let tag = String::from_utf8(git.ok().filter(|out| out.status.success())?.stdout).ok()?;
    Some(tag.trim().trim_start_matches('v').into())
        .filter(|tag: &String| tag.starts_with(|c: char| c.is_ascii_digit()))
}
