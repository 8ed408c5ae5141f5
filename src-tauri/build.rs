//! Bakes the window's pages, the capabilities and the icons into the program.

use std::path::Path;

/// What the window shows if its pages were not built.
const PLACEHOLDER: &str = r#"{ "build": { "frontendDist": "src-tauri/placeholder" } }"#;

fn main() {
    println!("cargo:rerun-if-changed=ui/dist");
    if !Path::new("ui/dist/index.html").exists() && std::env::var_os("TAURI_CONFIG").is_none() {
        println!(
            "cargo:warning=ui/dist is missing: the window will say so. Run `npm run build` in ui/"
        );
        println!("cargo:rustc-env=TAURI_CONFIG={PLACEHOLDER}");
    }
    tauri_build::build();
}
