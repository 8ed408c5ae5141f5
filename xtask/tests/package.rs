//! The package of the node without a window, made of the dev build's programs.
#![cfg(target_os = "linux")]

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use xtask::network::Binaries;
use xtask::{Result, process};

#[test]
fn the_headless_package_holds_what_it_should_and_nothing_else() {
    if Command::new("dpkg-deb").arg("--version").output().is_err() {
        eprintln!("skipped: there is no dpkg-deb");
        return;
    }
    Binaries::find_or_build().unwrap();
    let mut package = Command::new(env!("CARGO_BIN_EXE_xtask"));
    package.args(["package", "--dev", "--headless"]);
    let printed = process::output(package).unwrap();
    let file = printed
        .split_whitespace()
        .find(|word| Path::new(word).extension() == Some(OsStr::new("deb")))
        .expect(&printed);

    let mut expected = [
        "-rwxr-xr-x root/root ./usr/bin/infera",
        "-rw-r--r-- root/root ./usr/lib/systemd/user/infera.service",
        "-rw-r--r-- root/root ./usr/share/bash-completion/completions/infera",
        "-rw-r--r-- root/root ./usr/share/fish/vendor_completions.d/infera.fish",
        "-rw-r--r-- root/root ./usr/share/zsh/vendor-completions/_infera",
        "-rw-r--r-- root/root ./usr/share/doc/infera/README.md",
        "-rw-r--r-- root/root ./usr/share/doc/infera/copyright",
        "-rw-r--r-- root/root ./usr/share/doc/infera/third-party-licences.txt",
    ]
    .map(str::to_owned);
    expected.sort();
    let found = files(Path::new(file)).unwrap();
    let (pages, others): (Vec<_>, Vec<_>) = found
        .into_iter()
        .partition(|file| file.contains("./usr/share/man/man1/infera"));
    assert_eq!(others, expected);
    // One for the program, and one for each command that people call.
    for name in ["infera.1", "infera-run.1", "infera-model-get.1"] {
        let page = format!("-rw-r--r-- root/root ./usr/share/man/man1/{name}");
        assert!(pages.contains(&page), "{pages:?}");
    }
    let hidden = |page: &String| page.contains("engine") || page.contains("render");
    assert!(!pages.iter().any(hidden), "{pages:?}");

    let mut control = Command::new("dpkg-deb");
    control.args(["--field", file]);
    let control = process::output(control).unwrap();
    assert!(control.contains("\nDepends: libc6"), "{control}");
}

/// Mode, owner and path of each, without the folders.
fn files(package: &Path) -> Result<Vec<String>> {
    let mut list = Command::new("dpkg-deb");
    list.arg("--contents").arg(package);
    let mut files: Vec<_> = process::output(list)?
        .lines()
        .filter(|line| !line.starts_with('d'))
        .map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            format!("{} {} {}", words[0], words[1], words[5])
        })
        .collect();
    files.sort();
    Ok(files)
}
