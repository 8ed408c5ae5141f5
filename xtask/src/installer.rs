//! The installer for Windows, made by NSIS from `src-tauri/package/installer.nsi`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use serde_json::Value;
use xtask::network::repository;
use xtask::{Result, process};

use crate::licences;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What goes into an installer.
pub(crate) struct Contents<'a> {
    /// The folder of `infera-node.exe`.
    pub(crate) programs: &'a Path,
    /// The library that a program built with mingw finds the web view by; others have it built in.
    pub(crate) loader: Option<&'a Path>,
    /// What the programs were built for.
    pub(crate) target: &'a str,
    /// Packed fast instead of small.
    pub(crate) quick: bool,
}

/// Gives the installer's file, in `folder`.
pub(crate) fn make(contents: &Contents<'_>, folder: &Path) -> Result<PathBuf> {
    let settings: Value = serde_json::from_slice(&fs::read(repository().join("tauri.conf.json"))?)?;
    let setting = |name: &str| {
        let text = settings["bundle"][name].as_str();
        text.ok_or_else(|| format!("tauri.conf.json says no bundle.{name}"))
    };
    fs::create_dir_all(folder)?;
    let file = folder.join(format!("infera-node_{VERSION}_x64-setup.exe"));
    let licences_file = folder.join("third-party-licences.txt");
    fs::write(
        &licences_file,
        licences::third_party("infera-desktop", contents.target)?,
    )?;
    let own = repository().canonicalize()?;
    let mut command = Command::new(if cfg!(windows) {
        // Its installer puts it there, and into no path.
        r"C:\Program Files (x86)\NSIS\makensis.exe"
    } else {
        "makensis"
    });
    command.args(["-V2", "-NOCD", "-INPUTCHARSET", "UTF8"]);
    let mut define = |name: &str, value: &str| {
        command.arg(format!("-D{name}={value}"));
    };
    define("VERSION", VERSION);
    define("PUBLISHER", setting("publisher")?);
    define("COPYRIGHT", setting("copyright")?);
    define("QUICK", if contents.quick { "yes" } else { "no" });
    define("OUT", &shown(&file));
    define("ICON", &shown(&own.join("icons/icon.ico")));
    define("PICTURE", &shown(&own.join("icons/installer.bmp")));
    define("SOURCE", &shown(contents.programs));
    define("LICENCES", &shown(&licences_file));
    define("GUIDE", &shown(&own.join("docs/user-guide.md")));
    if let Some(loader) = contents.loader {
        define("LOADER", &shown(loader));
    }
    if cfg!(not(windows)) {
        define("AMD64", "yes");
    }
    if let Some(sign) = signature(&|name| env::var(name).ok().filter(|value| !value.is_empty())) {
        define("SIGN", &sign);
    }
    command.arg(own.join("src-tauri/package/installer.nsi"));
    process::output(command)?;
    fs::remove_file(licences_file)?;
    Ok(file)
}

/// The command that signs a file which follows it; none where nobody signs.
fn signature(variable: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    if let Some(command) = variable("INFERA_WINDOWS_SIGN_COMMAND") {
        return Some(command.replace("%1", "").trim().to_owned());
    }
    let thumbprint = variable("INFERA_WINDOWS_CERTIFICATE")?;
    let time = variable("INFERA_WINDOWS_TIMESTAMP_URL")
        .map(|url| format!(" /tr {url} /td sha256"))
        .unwrap_or_default();
    Some(format!("signtool sign /fd sha256 /sha1 {thumbprint}{time}"))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed_with(variables: &[(&str, &str)]) -> Option<String> {
        signature(&|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_installer_is_signed_with_what_is_given() {
        assert_eq!(signed_with(&[]), None);
        assert_eq!(
            signed_with(&[("INFERA_WINDOWS_SIGN_COMMAND", "sign --with it %1")]),
            Some("sign --with it".to_owned())
        );
        assert_eq!(
            signed_with(&[
                ("INFERA_WINDOWS_CERTIFICATE", "ab"),
                ("INFERA_WINDOWS_TIMESTAMP_URL", "t"),
            ]),
            Some("signtool sign /fd sha256 /sha1 ab /tr t /td sha256".to_owned())
        );
    }
}
