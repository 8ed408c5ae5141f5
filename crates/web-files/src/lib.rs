//! Pages that a program is built with and serves: how they come into it, and as what they are sent.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// Each file's path in its folder, with slashes, and its content.
pub type Files = &'static [(&'static str, &'static [u8])];

/// One file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WebFile {
    pub content_type: &'static str,
    pub content: &'static [u8],
}

/// What a page may load: its own files, and nothing from elsewhere.
pub const POLICY: &str = "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'self'; form-action 'none'; frame-ancestors 'none'";

/// For a build script: writes `web_files.rs` with a constant `FILES` of type [`Files`], which has
/// what is in `folder` below the package's own. None, where it has not been made.
#[expect(clippy::print_stdout, reason = "so a build script talks to cargo")]
pub fn embed(folder: &str) -> io::Result<()> {
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join(folder);
    println!("cargo::rerun-if-changed={}", root.display());
    let mut files = Vec::new();
    if root.is_dir() {
        collect(&root, &mut files)?;
        files.sort();
    }
    let mut code = String::from("const FILES: infera_web_files::Files = &[\n");
    for file in &files {
        let name = file
            .strip_prefix(&root)
            .map_err(io::Error::other)?
            .to_string_lossy()
            .replace('\\', "/");
        let path = file.canonicalize()?.to_string_lossy().into_owned();
        let _ = writeln!(code, "    ({name:?}, include_bytes!({path:?})),");
    }
    code += "];\n";
    fs::write(Path::new(&variable("OUT_DIR")?).join("web_files.rs"), code)
}

/// A file by the path of a request.
pub fn find(files: Files, path: &str) -> Option<WebFile> {
    let path = path.trim_start_matches('/');
    let (_, content) = files.iter().find(|(name, _)| *name == path)?;
    Some(WebFile {
        content_type: content_type(path),
        content,
    })
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

fn variable(name: &str) -> io::Result<String> {
    env::var(name).map_err(io::Error::other)
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, ending)| ending) {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "json" | "map" => "application/json",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: Files = &[("index.html", b"<html>"), ("assets/a.js", b"1")];

    #[test]
    fn files_are_found_by_their_paths_alone() {
        let found = |path| find(FILES, path).map(|file| (file.content_type, file.content));
        let page = ("text/html; charset=utf-8", b"<html>".as_slice());
        assert_eq!(found("/index.html"), Some(page));
        let script = ("text/javascript; charset=utf-8", b"1".as_slice());
        assert_eq!(found("/assets/a.js"), Some(script));
        for path in [
            "",
            "/",
            "/assets",
            "/../index.html",
            "/assets/../index.html",
        ] {
            assert_eq!(found(path), None, "{path}");
        }
    }
}
