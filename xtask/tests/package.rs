//! The packages of the programs without a window, made of the dev build's programs.
#![cfg(target_os = "linux")]

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use xtask::network::{self, Binaries};
use xtask::{Result, process};

#[test]
fn the_packages_hold_what_they_should_and_nothing_else() -> Result<()> {
    if Command::new("dpkg-deb").arg("--version").output().is_err() {
        eprintln!("skipped: there is no dpkg-deb");
        return Ok(());
    }
    Binaries::find_or_build()?;
    let mut package = Command::new(env!("CARGO_BIN_EXE_xtask"));
    package.args(["package", "--dev", "--headless"]);
    let printed = process::output(package)?;
    let packages: Vec<_> = printed
        .split_whitespace()
        .filter(|word| Path::new(word).extension() == Some(OsStr::new("deb")))
        .collect();
    let [node, balancer] = packages[..] else {
        panic!("{printed}");
    };
    look_at_node(node)?;
    look_at_balancer(balancer)
}

fn look_at_balancer(file: &str) -> Result<()> {
    let mut expected = [
        "-rwxr-xr-x root/root ./usr/bin/infera-balancer",
        "-rw-r--r-- root/root ./usr/lib/systemd/system/infera-balancer.service",
        "-rw-r--r-- root/root ./usr/lib/sysusers.d/infera-balancer.conf",
        "-rw-r--r-- root/root ./usr/share/bash-completion/completions/infera-balancer",
        "-rw-r--r-- root/root ./usr/share/fish/vendor_completions.d/infera-balancer.fish",
        "-rw-r--r-- root/root ./usr/share/zsh/vendor-completions/_infera-balancer",
        "-rw-r--r-- root/root ./usr/share/doc/infera-balancer/README.md",
        "-rw-r--r-- root/root ./usr/share/doc/infera-balancer/Containerfile",
        "-rw-r--r-- root/root ./usr/share/doc/infera-balancer/compose.yaml",
        "-rw-r--r-- root/root ./usr/share/doc/infera-balancer/copyright",
        "-rw-r--r-- root/root ./usr/share/doc/infera-balancer/third-party-licences.txt",
    ]
    .map(str::to_owned);
    expected.sort();
    assert_eq!(files(Path::new(file))?, expected);
    let mut script = Command::new("dpkg-deb");
    script.args(["--info", file, "postinst"]);
    let script = process::output(script)?;
    assert!(
        script.contains("systemd-sysusers infera-balancer.conf"),
        "{script}"
    );
    Ok(())
}

/// systemd reads the units, where it is: it knows every setting, and finds nothing wrong but that
/// the programs are not installed.
#[test]
fn systemd_knows_what_the_units_say() -> Result<()> {
    if Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .is_err()
    {
        eprintln!("skipped: there is no systemd-analyze");
        return Ok(());
    }
    for (unit, whose) in [
        ("crates/node/package/infera.service", "--user"),
        (
            "crates/balancer/package/infera-balancer.service",
            "--system",
        ),
    ] {
        let mut verify = Command::new("systemd-analyze");
        verify.args([whose, "verify"]);
        let found = verify.arg(network::repository().join(unit)).output()?;
        let found = String::from_utf8_lossy(&found.stderr).into_owned();
        let of_unit = |line: &&str| line.contains("infera") && !line.contains("is not executable");
        let faults: Vec<_> = found.lines().filter(of_unit).collect();
        assert_eq!(faults, [""; 0], "{unit}");
    }
    Ok(())
}

fn look_at_node(file: &str) -> Result<()> {
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
    let found = files(Path::new(file))?;
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
    let control = process::output(control)?;
    assert!(control.contains("\nDepends: libc6"), "{control}");
    Ok(())
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
