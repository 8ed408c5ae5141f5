//! The licences of the libraries that are compiled into a program.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use xtask::{Result, network, process};

use crate::cargo::cargo;

/// What the window's pages are made of.
const PAGES: [&str; 5] = [
    "@tauri-apps/api",
    "bits-ui",
    "svelte",
    "tailwindcss",
    "uplot",
];

/// A library, and the texts that came with it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Library {
    name: String,
    version: String,
    licence: String,
    texts: Vec<String>,
}

/// Names and repeats the licences of all that `package` of our workspace is built with for a target.
pub(crate) fn third_party(package: &str, target: &str) -> Result<String> {
    let mut libraries = crates(package, target)?;
    libraries.extend(pages()?);
    Ok(document(&libraries))
}

fn crates(root: &str, target: &str) -> Result<BTreeSet<Library>> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
        resolve: Resolve,
    }
    #[derive(Deserialize)]
    struct Package {
        id: String,
        name: String,
        version: String,
        license: Option<String>,
        source: Option<String>,
        manifest_path: PathBuf,
    }
    #[derive(Deserialize)]
    struct Resolve {
        nodes: Vec<Node>,
    }
    #[derive(Deserialize)]
    struct Node {
        id: String,
        deps: Vec<Dependency>,
    }
    #[derive(Deserialize)]
    struct Dependency {
        pkg: String,
        dep_kinds: Vec<Kind>,
    }
    #[derive(Deserialize)]
    struct Kind {
        /// None is what the program itself is built with, rather than its build script or tests.
        kind: Option<String>,
    }

    let mut command = cargo(&["metadata", "--format-version", "1", "--locked"]);
    command.args(["--filter-platform", target]);
    let metadata: Metadata = serde_json::from_str(&process::output(command)?)?;
    let nodes: BTreeMap<_, _> = metadata
        .resolve
        .nodes
        .iter()
        .map(|node| (node.id.as_str(), node))
        .collect();
    let start = metadata
        .packages
        .iter()
        .find(|package| package.name == root && package.source.is_none())
        .ok_or_else(|| format!("the workspace has no package {root}"))?;
    let mut found = BTreeSet::from([start.id.as_str()]);
    let mut open = vec![start.id.as_str()];
    while let Some(node) = open.pop().and_then(|id| nodes.get(id)) {
        for dependency in &node.deps {
            let is_compiled_in = dependency.dep_kinds.iter().any(|kind| kind.kind.is_none());
            if is_compiled_in && found.insert(&dependency.pkg) {
                open.push(&dependency.pkg);
            }
        }
    }
    metadata
        .packages
        .iter()
        .filter(|package| package.source.is_some() && found.contains(package.id.as_str()))
        .map(|package| {
            let folder = package.manifest_path.parent();
            Ok(Library {
                name: package.name.clone(),
                version: package.version.clone(),
                licence: package.license.clone().unwrap_or_default(),
                texts: folder.map_or_else(|| Ok(Vec::new()), texts)?,
            })
        })
        .collect()
}

fn pages() -> Result<BTreeSet<Library>> {
    #[derive(Deserialize)]
    struct Package {
        version: String,
        #[serde(default)]
        license: String,
        #[serde(default)]
        dependencies: BTreeMap<String, String>,
    }
    let modules = network::repository().join("ui/node_modules");
    let mut libraries = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut open: Vec<_> = PAGES.map(str::to_owned).into();
    while let Some(name) = open.pop() {
        let folder = modules.join(&name);
        if !seen.insert(name.clone()) || !folder.exists() {
            continue;
        }
        let package: Package =
            serde_json::from_str(&fs::read_to_string(folder.join("package.json"))?)?;
        open.extend(package.dependencies.into_keys());
        libraries.insert(Library {
            name,
            version: package.version,
            licence: package.license,
            texts: texts(&folder)?,
        });
    }
    Ok(libraries)
}

/// The licence files at the top of a library's folder.
fn texts(folder: &Path) -> Result<Vec<String>> {
    let mut texts = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().to_uppercase();
        let is_licence = ["LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE"]
            .iter()
            .any(|start| name.starts_with(start));
        if is_licence && entry.path().is_file() {
            texts.push(
                String::from_utf8_lossy(&fs::read(entry.path())?)
                    .trim()
                    .to_owned(),
            );
        }
    }
    texts.sort();
    Ok(texts)
}

/// Each text once, below the names of those that came with it.
fn document(libraries: &BTreeSet<Library>) -> String {
    let mut text =
        "The libraries that are part of this program, with their licences.\n\n".to_owned();
    let mut by_text: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for library in libraries {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{} {}: {}",
            library.name, library.version, library.licence
        );
        for licence in &library.texts {
            by_text.entry(licence).or_default().push(&library.name);
        }
    }
    for (licence, mut names) in by_text {
        names.dedup();
        let _ = write!(
            text,
            "\n{}\n{}\n\n{licence}\n",
            "-".repeat(72),
            names.join(", ")
        );
    }
    text
}

/// What this machine is called in cargo's words.
pub(crate) fn host() -> Result<String> {
    let mut command = std::process::Command::new("rustc");
    command.arg("-vV");
    process::output(command)?
        .lines()
        .find_map(|line| line.strip_prefix("host: ").map(str::to_owned))
        .ok_or_else(|| "rustc does not say what machine this is".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_repeated_once() {
        let library = |name: &str, text: &str| Library {
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            licence: "MIT".to_owned(),
            texts: vec![text.to_owned()],
        };
        let libraries = BTreeSet::from([
            library("one", "Do as you like."),
            library("two", "Do as you like."),
            library("three", "Do as you must."),
        ]);
        let text = document(&libraries);
        assert!(text.contains("\ntwo 1.0.0: MIT\n"), "{text}");
        assert!(text.contains("\none, two\n\nDo as you like."), "{text}");
        assert_eq!(text.matches("Do as you").count(), 2, "{text}");
    }
}
