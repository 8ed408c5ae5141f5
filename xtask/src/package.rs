//! `cargo xtask package`: what people install.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use serde_json::{Value, json};
use xtask::network::{self, Binaries};
use xtask::{Result, process};

use crate::{PackageOptions, installer, licences, packages, report, ui};

const VERSION: &str = env!("CARGO_PKG_VERSION");
const MAINTAINER: &str = "The Infera Node authors";

/// A program without a window, and what its Linux packages hold besides it.
struct Service {
    /// Of the package and of the program.
    name: &'static str,
    /// Whose libraries' licences go with it.
    crate_name: &'static str,
    summary: &'static str,
    description: &'static str,
    /// Where its files lie.
    folder: &'static str,
    /// Files there, and where they go below `/usr`.
    files: &'static [(&'static str, &'static str)],
    /// Whether it writes manual pages about itself.
    has_pages: bool,
    deb_recommends: Option<&'static str>,
    rpm_recommends: Option<&'static str>,
    /// A script there that runs once the files are in place.
    post_install: Option<&'static str>,
}

const NODE: Service = Service {
    name: "infera",
    crate_name: "infera-node",
    summary: "Answer AI requests with this machine's idle GPU, without a window",
    description: "A node of the Infera network: takes jobs, checks others' results, keeps models \
                  and books. With a systemd unit that each user may enable.",
    folder: "crates/node/package",
    files: &[
        ("infera.service", "lib/systemd/user/infera.service"),
        ("README.md", "share/doc/infera/README.md"),
    ],
    has_pages: true,
    deb_recommends: Some("libvulkan1, mesa-vulkan-drivers"),
    rpm_recommends: Some("vulkan-loader"),
    post_install: None,
};

const BALANCER: Service = Service {
    name: "infera-balancer",
    crate_name: "infera-balancer",
    summary: "Run a network of machines that answer AI requests",
    description: "The load balancer of an Infera network: takes requests from OpenAI clients, \
                  gives them to nodes, has answers checked and keeps the books. With a systemd \
                  unit that runs it as a user of its own.",
    folder: "crates/balancer/package",
    files: &[
        (
            "infera-balancer.service",
            "lib/systemd/system/infera-balancer.service",
        ),
        (
            "infera-balancer.sysusers",
            "lib/sysusers.d/infera-balancer.conf",
        ),
        ("README.md", "share/doc/infera-balancer/README.md"),
        ("Containerfile", "share/doc/infera-balancer/Containerfile"),
        ("compose.yaml", "share/doc/infera-balancer/compose.yaml"),
    ],
    has_pages: false,
    deb_recommends: None,
    rpm_recommends: None,
    post_install: Some("post-install.sh"),
};

pub(crate) fn run(options: &PackageOptions) -> Result<()> {
    let settings = settings(&|name| env::var(name).ok().filter(|value| !value.is_empty()))?;
    let made = if cfg!(target_os = "linux") {
        on_linux(options, settings)?
    } else {
        elsewhere(options, settings)?
    };
    report::headline("Packages");
    for file in made {
        report::file(&file)?;
    }
    Ok(())
}

fn on_linux(options: &PackageOptions, settings: Value) -> Result<Vec<PathBuf>> {
    let programs = programs(options)?;
    let folder =
        network::target()?
            .join("package")
            .join(if options.dev { "dev" } else { "release" });
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let mut made = NODE.package(&folder, &programs.node, options.dev)?;
    made.extend(BALANCER.package(&folder, &programs.balancer, options.dev)?);
    if !options.headless {
        made.extend(desktop(&folder, &programs.desktop, options, settings)?);
        fs::remove_dir_all(folder.join("desktop"))?;
    }
    for service in [&NODE, &BALANCER] {
        fs::remove_dir_all(folder.join(service.name))?;
    }
    Ok(made)
}

fn programs(options: &PackageOptions) -> Result<Binaries> {
    if let Some(folder) = &options.programs {
        return Binaries::in_folder(folder);
    }
    if !options.dev {
        packages::for_build()?;
        ui::build()?;
        report::fact("programs", "building with optimisations; this takes long");
        return Binaries::build_for_packages();
    }
    let found = Binaries::find()?.filter(|found| options.headless || found.desktop.exists());
    if let Some(found) = found {
        return Ok(found);
    }
    if options.headless {
        return Binaries::build();
    }
    packages::for_build()?;
    ui::build()?;
    Binaries::build_with_desktop()
}

impl Service {
    /// As .deb and .rpm.
    fn package(&self, folder: &Path, program: &Path, quick: bool) -> Result<Vec<PathBuf>> {
        let name = self.name;
        report::fact("packaging", name);
        let stage = folder.join(name);
        let tree = stage.join("tree");
        let own = network::repository().join(self.folder);
        let usr = tree.join("usr");
        strip(program, &usr.join("bin").join(name))?;
        for (file, to) in self.files {
            copy(&own.join(file), &usr.join(to))?;
        }
        for (shell, script) in self.completions() {
            let mut print = Command::new(program);
            print.args(["completions", shell]);
            write(&usr.join(script), &process::output(print)?)?;
        }
        if self.has_pages {
            let pages = usr.join("share/man/man1");
            fs::create_dir_all(&pages)?;
            let mut write_pages = Command::new(program);
            write_pages.arg("man").arg(&pages);
            process::output(write_pages)?;
        }
        let documents = usr.join("share/doc").join(name);
        copy(&copyright(), &documents.join("copyright"))?;
        write(
            &documents.join("third-party-licences.txt"),
            &licences::third_party(self.crate_name, &licences::host()?)?,
        )?;

        let mut made = vec![self.deb(folder, &stage, &tree, quick)?];
        if is_there("rpmbuild") {
            made.push(self.rpm(folder, &stage, &tree, quick)?);
        } else {
            report::fact(
                "rpm",
                &format!("no .rpm of {name}: rpmbuild is missing (Debian's package `rpm`)"),
            );
        }
        Ok(made)
    }

    fn completions(&self) -> [(&'static str, String); 3] {
        let name = self.name;
        [
            ("bash", format!("share/bash-completion/completions/{name}")),
            ("zsh", format!("share/zsh/vendor-completions/_{name}")),
            (
                "fish",
                format!("share/fish/vendor_completions.d/{name}.fish"),
            ),
        ]
    }

    /// The script that runs after the installation.
    fn post_install(&self) -> Result<Option<String>> {
        let folder = network::repository().join(self.folder);
        let script = self.post_install.map(|script| folder.join(script));
        Ok(script.map(fs::read_to_string).transpose()?)
    }

    fn deb(&self, folder: &Path, stage: &Path, tree: &Path, quick: bool) -> Result<PathBuf> {
        let Self {
            name,
            summary,
            description,
            ..
        } = self;
        let architecture = process::output(command("dpkg", &["--print-architecture"]))?;
        let architecture = architecture.trim();
        let version = VERSION.replacen('-', "~", 1);
        let libraries = libraries(stage, &tree.join("usr/bin").join(name))?.join(", ");
        let size = kilobytes(tree)?;
        let recommends = self
            .deb_recommends
            .map_or_else(String::new, |names| format!("Recommends: {names}\n"));
        write(
            &tree.join("DEBIAN/control"),
            &format!(
                "Package: {name}\nVersion: {version}\nArchitecture: {architecture}\n\
                 Maintainer: {MAINTAINER}\nInstalled-Size: {size}\nDepends: {libraries}\n\
                 {recommends}Section: net\nPriority: optional\n\
                 Description: {summary}\n {description}\n"
            ),
        )?;
        if let Some(script) = self.post_install()? {
            let file = tree.join("DEBIAN/postinst");
            write(&file, &script)?;
            set_mode(&file, 0o755)?;
        }
        let mut sums = command("sh", &["-c", "find usr -type f | sort | xargs md5sum"]);
        sums.current_dir(tree);
        write(&tree.join("DEBIAN/md5sums"), &process::output(sums)?)?;

        let file = folder.join(format!("{name}_{version}_{architecture}.deb"));
        let compression = if quick { "-Zgzip" } else { "-Zxz" };
        let level = if quick { "-z1" } else { "-z6" };
        let mut build = command(
            "dpkg-deb",
            &["--root-owner-group", compression, level, "--build"],
        );
        build.arg(tree).arg(&file);
        process::output(build)?;
        fs::remove_dir_all(tree.join("DEBIAN"))?;
        Ok(file)
    }

    fn rpm(&self, folder: &Path, stage: &Path, tree: &Path, quick: bool) -> Result<PathBuf> {
        let Self {
            name,
            summary,
            description,
            ..
        } = self;
        let spec = stage.join("package.spec");
        let version = VERSION.replacen('-', "~", 1);
        let payload = if quick { "w1.gzdio" } else { "w6.xzdio" };
        let recommends = self
            .rpm_recommends
            .map_or_else(String::new, |names| format!("Recommends: {names}\n"));
        let post = self
            .post_install()?
            .map_or_else(String::new, |script| format!("%post\n{script}\n"));
        let mut files = vec![format!("bin/{name}"), format!("share/doc/{name}")];
        let elsewhere = |to: &&str| !to.starts_with("share/doc");
        let own = self.files.iter().map(|(_, to)| *to).filter(elsewhere);
        files.extend(own.map(str::to_owned));
        files.extend(self.completions().map(|(_, script)| script));
        files.extend(self.has_pages.then(|| format!("share/man/man1/{name}*")));
        let files = format!("/usr/{}\n", files.join("\n/usr/"));
        write(
            &spec,
            &format!(
                "%global debug_package %{{nil}}\n%global __os_install_post %{{nil}}\n\
                 %global _build_id_links none\n%global _binary_payload {payload}\n\
                 Name: {name}\nVersion: {version}\nRelease: 1\nSummary: {summary}\n\
                 License: MIT OR Apache-2.0\n{recommends}\n\
                 %description\n{description}\n\n\
                 %install\ncp --archive \"%{{tree}}/.\" %{{buildroot}}\n\n\
                 {post}%files\n%defattr(-,root,root,-)\n{files}"
            ),
        )?;
        let top = stage.join("rpm");
        let mut build = command("rpmbuild", &["-bb", "--quiet"]);
        build
            .args(["--define", &format!("_topdir {}", top.display())])
            .args(["--define", &format!("tree {}", tree.display())])
            .arg(&spec);
        process::output(build)?;
        let made = files_with(&top.join("RPMS"), &["rpm"])?;
        let file = made.first().ok_or("rpmbuild made nothing")?;
        let name = file.file_name().ok_or("rpmbuild's file has no name")?;
        let kept = folder.join(name);
        fs::rename(file, &kept)?;
        Ok(kept)
    }
}

/// The desktop program: Tauri's command line packages a stripped copy of it.
fn desktop(
    folder: &Path,
    program: &Path,
    options: &PackageOptions,
    mut settings: Value,
) -> Result<Vec<PathBuf>> {
    const LICENCES: &str = "/usr/share/doc/infera-node/third-party-licences.txt";
    report::fact("packaging", "the desktop program");
    let stage = folder.join("desktop");
    let copy = stage.join("release/infera-node");
    strip(program, &copy)?;
    let licences = stage.join("third-party-licences.txt");
    write(
        &licences,
        &licences::third_party("infera-desktop", &licences::host()?)?,
    )?;
    // The C library's version; Tauri adds the window's and the tray's libraries.
    let depends: Vec<_> = libraries(&stage, &copy)?
        .into_iter()
        .filter(|library| library.starts_with("libc6"))
        .collect();
    merge(
        &mut settings,
        json!({ "bundle": { "linux": {
            "deb": { "depends": depends, "files": { LICENCES: licences } },
            "rpm": { "files": { LICENCES: licences } },
            "appimage": { "files": { LICENCES: licences } },
        } } }),
    );
    let bundles = if options.appimage {
        "deb,rpm,appimage"
    } else {
        "deb,rpm"
    };
    let mut bundle = tauri("bundle", &settings)?;
    bundle
        .args(["--bundles", bundles])
        .env("CARGO_TARGET_DIR", &stage);
    process::run(bundle)?;
    let mut kept = Vec::new();
    for file in files_with(
        &stage.join("release/bundle"),
        &["deb", "rpm", "AppImage", "sig"],
    )? {
        let name = file.file_name().ok_or("a package has no name")?;
        let to = folder.join(name.to_string_lossy().replace("Infera Node", "infera-node"));
        fs::rename(&file, &to)?;
        kept.push(to);
    }
    Ok(kept)
}

/// macOS and Windows: Tauri's command line builds, signs and packages the desktop program.
fn elsewhere(options: &PackageOptions, mut settings: Value) -> Result<Vec<PathBuf>> {
    if options.headless || options.appimage {
        return Err("on this system there is only the desktop program's package".into());
    }
    ui::build()?;
    let target = network::target()?;
    let licences = target.join("package/third-party-licences.txt");
    write(
        &licences,
        &licences::third_party("infera-desktop", &licences::host()?)?,
    )?;
    // The pages were built above.
    merge(
        &mut settings,
        json!({
            "build": { "beforeBuildCommand": null },
            "bundle": { "resources": { licences.display().to_string(): "third-party-licences.txt" } },
        }),
    );
    let mut build = tauri("build", &settings)?;
    build.env("CARGO_TARGET_DIR", &target);
    let mut bundles = target.clone();
    if cfg!(target_os = "macos") {
        build.args(["--bundles", "app,dmg", "--target", "universal-apple-darwin"]);
        bundles.push("universal-apple-darwin");
    } else {
        build.args(["--bundles", "msi"]);
    }
    if options.dev {
        build.arg("--debug");
    }
    bundles.push(if options.dev { "debug" } else { "release" });
    bundles.push("bundle");
    if bundles.exists() {
        fs::remove_dir_all(&bundles)?;
    }
    build.args(["--", "--package", "infera-desktop"]);
    process::run(build)?;
    let mut made = files_with(&bundles, &["dmg", "msi", "gz", "sig"])?;
    if cfg!(windows) {
        let programs = bundles.parent().ok_or("the programs are in no folder")?;
        let contents = installer::Contents {
            programs,
            loader: None,
            target: &licences::host()?,
            quick: options.dev,
        };
        let file = installer::make(&contents, &bundles.join("nsis"))?;
        if settings["bundle"]["createUpdaterArtifacts"] == true {
            made.push(sign_update(&file)?);
        }
        made.push(file);
    }
    Ok(made)
}

/// What the program knows an update by.
fn sign_update(file: &Path) -> Result<PathBuf> {
    let mut sign = tauri_command()?;
    sign.args(["signer", "sign"]).arg(file);
    process::output(sign)?;
    let mut signature = file.as_os_str().to_owned();
    signature.push(".sig");
    Ok(signature.into())
}

/// What depends on who builds: signatures, and where updates come from.
fn settings(variable: &dyn Fn(&str) -> Option<String>) -> Result<Value> {
    let mut settings = json!({});
    let source = (variable("INFERA_UPDATE_URL"), variable("INFERA_UPDATE_KEY"));
    let signs = variable("TAURI_SIGNING_PRIVATE_KEY").is_some()
        || variable("TAURI_SIGNING_PRIVATE_KEY_PATH").is_some();
    match (signs, source) {
        (true, (Some(url), Some(key))) => merge(
            &mut settings,
            json!({
                "bundle": { "createUpdaterArtifacts": true },
                "plugins": { "updater": { "endpoints": [url], "pubkey": key } },
            }),
        ),
        (true, _) => {
            return Err(
                "there is a key to sign updates with, but INFERA_UPDATE_URL or \
                        INFERA_UPDATE_KEY is missing: the programs would never look for them"
                    .into(),
            );
        }
        (false, _) => {}
    }
    for (name, setting) in [
        ("INFERA_WINDOWS_CERTIFICATE", "certificateThumbprint"),
        ("INFERA_WINDOWS_TIMESTAMP_URL", "timestampUrl"),
        ("INFERA_WINDOWS_SIGN_COMMAND", "signCommand"),
    ] {
        if let Some(value) = variable(name) {
            merge(
                &mut settings,
                json!({ "bundle": { "windows": { setting: value } } }),
            );
        }
    }
    Ok(settings)
}

/// `into` with what `from` says, as Tauri merges its settings.
fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

/// Tauri's command line, which npm gets.
fn tauri_command() -> Result<Command> {
    let folder = network::repository().join("xtask/tauri");
    install(&folder)?;
    let mut command = Command::new("node");
    command
        .current_dir(network::repository())
        .arg(folder.join("node_modules/@tauri-apps/cli/tauri.js"));
    Ok(command)
}

/// One of its commands that needs our settings.
fn tauri(word: &str, settings: &Value) -> Result<Command> {
    let mut command = tauri_command()?;
    command
        .args([word, "--ci", "--config", &settings.to_string()])
        // It would take the first folder with a package.json.
        .env("TAURI_FRONTEND_PATH", network::repository().join("ui"));
    Ok(command)
}

/// The version that package.json names. There is no lock file: not every registry has the parts for
/// all systems, and npm refuses a lock file without them.
fn install(folder: &Path) -> Result<()> {
    let wanted = fs::read(folder.join("package.json"))?;
    let stamp = folder.join("node_modules/.installed");
    if fs::read(&stamp).ok().as_ref() == Some(&wanted) {
        return Ok(());
    }
    let mut install = ui::npm(&["install", "--no-package-lock", "--no-audit", "--no-fund"]);
    install.current_dir(folder);
    process::output(install).map_err(|error| {
        format!("{error}\nThis needs Node.js 20 or newer with npm (https://nodejs.org)")
    })?;
    Ok(fs::write(stamp, wanted)?)
}

/// What Debian calls the libraries that a program is linked to, with the versions it needs.
fn libraries(stage: &Path, program: &Path) -> Result<Vec<String>> {
    if !is_there("dpkg-shlibdeps") {
        return Ok(vec!["libc6".to_owned()]);
    }
    write(&stage.join("debian/control"), "Source: infera\n")?;
    let mut find = command("dpkg-shlibdeps", &["-O"]);
    find.current_dir(stage).arg(program);
    let printed = process::output(find)?;
    let list = printed
        .trim()
        .strip_prefix("shlibs:Depends=")
        .ok_or("dpkg-shlibdeps found no libraries")?;
    Ok(list.split(", ").map(str::to_owned).collect())
}

/// A copy without debug information.
fn strip(program: &Path, to: &Path) -> Result<()> {
    make_parent(to)?;
    let mut strip = command("strip", &["--strip-all", "-o"]);
    strip.arg(to).arg(program);
    process::output(strip)?;
    set_mode(to, 0o755)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    make_parent(to)?;
    fs::copy(from, to)?;
    set_mode(to, 0o644)
}

fn write(file: &Path, text: &str) -> Result<()> {
    make_parent(file)?;
    fs::write(file, text)?;
    set_mode(file, 0o644)
}

fn make_parent(file: &Path) -> Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    Ok(())
}

#[cfg(unix)]
fn set_mode(file: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    Ok(fs::set_permissions(file, fs::Permissions::from_mode(mode))?)
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "as where files have modes")]
fn set_mode(_: &Path, _: u32) -> Result<()> {
    Ok(())
}

fn copyright() -> PathBuf {
    network::repository().join("src-tauri/package/copyright")
}

fn kilobytes(folder: &Path) -> Result<u64> {
    let sizes = all_files(folder)?
        .iter()
        .map(|file| Ok(fs::metadata(file)?.len().div_ceil(1024)))
        .collect::<Result<Vec<_>>>()?;
    Ok(sizes.iter().sum())
}

/// Those with one of these endings, sorted.
fn files_with(folder: &Path, endings: &[&str]) -> Result<Vec<PathBuf>> {
    let mut files = all_files(folder)?;
    files.retain(|file| {
        file.extension()
            .and_then(OsStr::to_str)
            .is_some_and(|ending| endings.contains(&ending))
    });
    files.sort();
    Ok(files)
}

fn all_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            files.extend(all_files(&entry.path())?);
        } else {
            files.push(entry.path());
        }
    }
    Ok(files)
}

fn is_there(program: &str) -> bool {
    process::output(command(program, &["--version"])).is_ok()
}

fn command(program: &str, words: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(words);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings_with(variables: &[(&str, &str)]) -> Result<Value> {
        settings(&|name| {
            variables
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn updates_are_made_only_with_a_key_and_a_source() {
        assert_eq!(settings_with(&[]).unwrap(), json!({}));
        let source = [("INFERA_UPDATE_URL", "u"), ("INFERA_UPDATE_KEY", "k")];
        assert_eq!(settings_with(&source).unwrap(), json!({}));
        let key = ("TAURI_SIGNING_PRIVATE_KEY", "s");
        assert!(settings_with(&[key]).is_err());
        let settings = settings_with(&[source[0], source[1], key]).unwrap();
        assert_eq!(settings["bundle"]["createUpdaterArtifacts"], true);
        assert_eq!(settings["plugins"]["updater"]["pubkey"], "k");
    }

    #[test]
    fn windows_signs_with_what_is_given() {
        let settings = settings_with(&[
            ("INFERA_WINDOWS_CERTIFICATE", "ab"),
            ("INFERA_WINDOWS_TIMESTAMP_URL", "t"),
        ]);
        assert_eq!(
            settings.unwrap()["bundle"]["windows"],
            json!({ "certificateThumbprint": "ab", "timestampUrl": "t" })
        );
    }
}
