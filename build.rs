fn main() {
    // The dynamic linker finds the library by its ABI generation, not by its file name.
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libpi0rt.so.0");
    }
    println!("cargo:rerun-if-changed=build.rs");
}
