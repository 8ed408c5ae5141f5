//! A support bundle: what helps to find a fault, with what is private left out. The person sees
//! all of it before it is saved.

use std::fs;
use std::path::Path;

use super::api::{AppState, BundleFile};
use crate::data_dir::DataDir;

/// Of each log file, the newest part.
const MOST_LOG_BYTES: usize = 200_000;

pub(super) async fn bundle(folder: &DataDir, state: &AppState) -> Vec<BundleFile> {
    let mut shown = state.clone();
    shown.host.web_address = None;
    let mut files = vec![BundleFile {
        name: "state.json".to_owned(),
        text: serde_json::to_string_pretty(&shown).unwrap_or_else(|error| error.to_string()),
    }];
    let logs = folder.logs();
    let read = tokio::task::spawn_blocking(move || read_logs(&logs));
    files.extend(read.await.unwrap_or_default());
    let home = directories::BaseDirs::new().map(|folders| folders.home_dir().to_owned());
    for file in &mut files {
        file.text = redact(&file.text, home.as_deref());
    }
    files
}

fn read_logs(folder: &Path) -> Vec<BundleFile> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut files: Vec<_> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let bytes = fs::read(entry.path()).ok()?;
            let newest = &bytes[bytes.len().saturating_sub(MOST_LOG_BYTES)..];
            Some(BundleFile {
                name: entry.file_name().to_string_lossy().into_owned(),
                text: String::from_utf8_lossy(newest).into_owned(),
            })
        })
        .collect();
    files.sort_by(|one, other| one.name.cmp(&other.name));
    files
}

/// Leaves out the home folder, so the person's name, network addresses, and every long hexadecimal
/// number, which may be a token or tell who the node is.
fn redact(text: &str, home: Option<&Path>) -> String {
    let text = match home.and_then(Path::to_str).filter(|home| home.len() > 1) {
        Some(home) => text
            .replace(&home.replace('\\', "\\\\"), "~")
            .replace(home, "~"),
        None => text.to_owned(),
    };
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(start) = rest.find(|c: char| c.is_ascii_hexdigit()) {
        let (before, from) = rest.split_at(start);
        let length = from
            .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | ':')))
            .unwrap_or(from.len());
        let (word, after) = from.split_at(length.max(1));
        out += before;
        let whole = !before.ends_with(|c: char| c.is_alphanumeric());
        out += if whole { shown(word) } else { word };
        rest = after;
    }
    out + rest
}

/// A word, or what stands for it.
fn shown(word: &str) -> &str {
    let hexadecimal = word.len() >= 16 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    if hexadecimal {
        return "[hidden]";
    }
    // With a port, perhaps.
    let address = word.rsplit_once(':').map_or(word, |(address, _)| address);
    match address.parse::<std::net::Ipv4Addr>() {
        Ok(address) if !address.is_loopback() => "[address]",
        _ => word,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_private_is_left_out() {
        let home = Path::new("/home/ada");
        let cases = [
            ("file /home/ada/x.gguf", "file ~/x.gguf"),
            (
                "node 00112233445566778899aabbccddeeff claims",
                "node [hidden] claims",
            ),
            ("\"token\":\"0011223344556677\"", "\"token\":\"[hidden]\""),
            ("from 192.168.1.20:443 came", "from [address] came"),
            ("on 127.0.0.1:8080", "on 127.0.0.1:8080"),
            (
                "a face of 42 tokens, 0.5 beads",
                "a face of 42 tokens, 0.5 beads",
            ),
            ("version 1.2.3", "version 1.2.3"),
            ("Grüße: façade", "Grüße: façade"),
        ];
        for (text, redacted) in cases {
            assert_eq!(redact(text, Some(home)), redacted);
        }
    }
}
