//! The files of the desktop program's bundle for macOS, as Tauri's documentation wants them: what
//! of a bundle can be seen without a Mac.

use std::fs;
use std::path::{Path, PathBuf};

use plist::{Dictionary, Value};
use xtask::{Result, network};

/// The bundle's part for macOS in tauri.conf.json.
fn bundle() -> Result<serde_json::Value> {
    let text = fs::read_to_string(file("tauri.conf.json"))?;
    let mut settings: serde_json::Value = serde_json::from_str(&text)?;
    Ok(settings["bundle"].take())
}

fn file(path: &str) -> PathBuf {
    network::repository().join(path)
}

fn dictionary(path: &Path) -> Result<Dictionary> {
    let value = Value::from_file(path)?;
    Ok(value.into_dictionary().ok_or("it is no dictionary")?)
}

/// A file that tauri.conf.json names; the names start in that file's folder.
fn pointed_to(setting: &serde_json::Value) -> PathBuf {
    file(setting.as_str().expect("a path"))
}

#[test]
fn the_hardened_runtime_is_on_and_nothing_is_excepted_from_it() {
    let macos = &bundle().unwrap()["macOS"];
    // Apple notarises nothing without it.
    assert_eq!(macos["hardenedRuntime"], true);
    // The web view compiles in a process of the system's, Metal in the driver, and the network, the
    // GPU and the login keychain are asked for by entitlements only in a sandbox. Each exception
    // (`allow-jit`, `disable-library-validation`, ...) would lower a guard for nothing.
    let entitlements = dictionary(&pointed_to(&macos["entitlements"])).unwrap();
    assert!(entitlements.is_empty(), "{entitlements:?}");
}

#[test]
fn the_bundle_says_what_tauri_does_not_say_by_itself() {
    let macos = &bundle().unwrap()["macOS"];
    let info = dictionary(&pointed_to(&macos["infoPlist"])).unwrap();
    assert_eq!(info.get("LSUIElement"), Some(&Value::Boolean(true)));
    let why = info.get("NSLocalNetworkUsageDescription");
    assert!(
        why.and_then(Value::as_string)
            .is_some_and(|why| why.ends_with('.'))
    );
    let languages: Vec<_> = info["CFBundleLocalizations"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_string)
        .collect();
    for language in &languages {
        assert!(
            file(&format!("ui/src/i18n/{language}.ts")).exists(),
            "{language}"
        );
    }
    assert_eq!(languages, ["en", "de"]);
    // Tauri writes these from its settings, and ours would be put over them.
    for own in [
        "CFBundleIdentifier",
        "CFBundleVersion",
        "LSMinimumSystemVersion",
    ] {
        assert!(!info.contains_key(own), "{own}");
    }
    // Its command line writes the scheme of invitations into every bundle from here.
    let text = fs::read_to_string(file("tauri.conf.json")).unwrap();
    let settings: serde_json::Value = serde_json::from_str(&text).unwrap();
    let schemes = &settings["plugins"]["deep-link"]["desktop"]["schemes"];
    assert_eq!(*schemes, serde_json::json!(["infera"]));
    // Tauri would merge this file too, from the folder of its settings.
    assert!(!file("Info.plist").exists());
}

#[test]
fn every_file_of_the_bundle_is_there() {
    let bundle = bundle().unwrap();
    for (name, source) in bundle["macOS"]["files"].as_object().unwrap() {
        assert!(pointed_to(source).exists(), "{name}");
    }
    let icons: Vec<_> = bundle["icon"]
        .as_array()
        .unwrap()
        .iter()
        .map(pointed_to)
        .collect();
    assert!(icons.iter().all(|icon| icon.exists()));
    assert!(icons.contains(&file("icons/icon.icns")));
}

/// Tauri puts it into `LSMinimumSystemVersion` and into `MACOSX_DEPLOYMENT_TARGET`.
#[test]
fn the_oldest_system_is_a_version() {
    let version = &bundle().unwrap()["macOS"]["minimumSystemVersion"];
    let parts: Vec<u32> = version
        .as_str()
        .unwrap()
        .split('.')
        .map(|part| part.parse().unwrap())
        .collect();
    // Below 11 there is no Apple silicon.
    assert!(parts[0] >= 11 && parts.len() <= 3, "{version}");
}

#[test]
fn the_icon_has_every_size_that_macos_shows() {
    let icon = fs::read(file("icons/icon.icns")).unwrap();
    let number = |at: usize| u32::from_be_bytes(icon[at..at + 4].try_into().unwrap());
    assert_eq!(&icon[..4], b"icns");
    assert_eq!(number(4) as usize, icon.len());
    let mut found = Vec::new();
    let mut at = 8;
    while at < icon.len() {
        let length = number(at + 4) as usize;
        // The PNG's own width and height stand at the same place in each.
        assert_eq!(&icon[at + 8..at + 16], b"\x89PNG\r\n\x1a\n");
        assert_eq!(number(at + 24), number(at + 28));
        found.push((str::from_utf8(&icon[at..at + 4]).unwrap(), number(at + 24)));
        at += length;
    }
    assert_eq!(at, icon.len());
    found.sort_unstable();
    let expected = [
        ("ic07", 128),
        ("ic08", 256),
        ("ic09", 512),
        ("ic10", 1024),
        ("ic11", 32),
        ("ic12", 64),
        ("ic13", 256),
        ("ic14", 512),
    ];
    assert_eq!(found, expected);
}
