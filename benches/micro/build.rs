//! Which compiler makes this: instruction counts of two compilers don't compare.

use std::process::Command;

fn main() {
    let rustc = std::env::var_os("RUSTC").expect("cargo says which compiler it runs");
    let told = Command::new(rustc).arg("-vV").output().expect("the compiler tells its version");
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    let version = told.lines().next().expect("a version").to_owned();
    println!("cargo:rustc-env=REP_MICRO_COMPILER={version}, {}", std::env::var("TARGET").expect("cargo says for what"));
    println!("cargo:rerun-if-changed=build.rs");
}
