//! A support bundle: what helps to find a fault, with what is private left out. The person sees
//! all of it before it is saved.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

use super::api::{AppState, BundleFile};
use crate::data_dir::DataDir;

/// The newest part of each log file is shown.
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
    let private = Private::of(state);
    for file in &mut files {
        file.text = private.left_out(&file.text);
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

/// What is private here: names that are known, and what is found by its form.
#[derive(Default)]
struct Private {
    /// Each with what stands for it.
    names: Vec<(String, &'static str)>,
}

impl Private {
    fn of(state: &AppState) -> Self {
        let mut private = Self::default();
        if let Some(folders) = directories::BaseDirs::new() {
            let home = folders.home_dir().display().to_string();
            private.add(&home.replace('\\', "\\\\"), "~");
            private.add(&home, "~");
        }
        // A network of friends may not want to be known.
        let networks = &state.settings.networks;
        let addresses = networks.iter().map(|network| &*network.address);
        let addresses = addresses
            .chain(state.settings.balancer.as_deref())
            .chain(state.node.as_ref().map(|node| &*node.balancer));
        for address in addresses {
            let url = address.parse::<reqwest::Url>().ok();
            let host = url.as_ref().and_then(reqwest::Url::host_str);
            private.add(host.unwrap_or_default(), "[balancer]");
        }
        for network in networks {
            private.add(&network.name, "[network]");
            let fingerprint = network.fingerprint.map(|it| it.to_string());
            private.add(&fingerprint.unwrap_or_default(), "[fingerprint]");
        }
        private.add(
            &sysinfo::System::host_name().unwrap_or_default(),
            "[this machine]",
        );
        private
    }

    /// Shorter names would be found in every other word.
    fn add(&mut self, name: &str, stands_for: &'static str) {
        let tells_nothing = ["localhost", "127.0.0.1", "[::1]"].contains(&name);
        if name.len() >= 4 && !tells_nothing {
            self.names.push((name.to_ascii_lowercase(), stands_for));
        }
    }

    fn left_out(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut before = ' ';
        let mut rest = text;
        while let Some(next) = rest.chars().next() {
            // Behind `::` goes on what is a path in a program, if it was no address.
            let in_path = text[..text.len() - rest.len()].ends_with("::");
            let begins = !(before.is_alphanumeric() || before == '_' || in_path);
            let found = home(rest)
                .or_else(|| begins.then(|| self.named(rest).or_else(|| by_form(rest)))?);
            let length = if let Some((length, stands_for)) = found {
                out += &stands_for;
                length
            } else {
                out.push(next);
                next.len_utf8()
            };
            before = rest[..length].chars().next_back().unwrap_or(next);
            rest = &rest[length..];
        }
        out
    }

    fn named(&self, text: &str) -> Found {
        self.names.iter().find_map(|(name, stands_for)| {
            let same = text
                .get(..name.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(name));
            (same && ends(&text[name.len()..])).then(|| (name.len(), (*stands_for).to_owned()))
        })
    }
}

/// The length of something private at the beginning of a text, and what stands for it.
type Found = Option<(usize, String)>;

/// Whether no word goes on here.
fn ends(text: &str) -> bool {
    !text.starts_with(|c: char| c.is_alphanumeric() || c == '_')
}

/// A folder named after its user, on any system: the log may tell of another one.
fn home(text: &str) -> Found {
    const UNIX: [(&str, &str); 5] = [
        ("/home/", "~"),
        ("/Users/", "~"),
        ("/var/home/", "~"),
        ("/run/media/", "/run/media/[user]"),
        ("/media/", "/media/[user]"),
    ];
    for (folder, stands_for) in UNIX {
        if let Some(name) = text.strip_prefix(folder) {
            let length = name.find(|c: char| "/\"'`:,;)".contains(c) || c.is_whitespace());
            let length = length.unwrap_or(name.len());
            return (length > 0).then(|| (folder.len() + length, stands_for.to_owned()));
        }
    }
    let drive = text.strip_prefix(|c: char| c.is_ascii_alphabetic())?;
    let users = separator(drive.strip_prefix(':')?)?;
    let users = users
        .get("users".len()..)
        .filter(|_| users[.."users".len()].eq_ignore_ascii_case("users"))?;
    let name = separator(users)?;
    // A name may have spaces where the path goes on.
    let stop = name.find(|c: char| "\\/\"<>|*?:\n".contains(c));
    let length = match stop {
        Some(stop) if name[stop..].starts_with(['\\', '/']) => stop,
        _ => name
            .find(|c: char| c.is_whitespace() || c == '"')
            .unwrap_or(name.len()),
    };
    (length > 0).then(|| (text.len() - name.len() + length, "~".to_owned()))
}

/// What follows the separator of a Windows path, which JSON and debug forms double.
fn separator(text: &str) -> Option<&str> {
    ["\\\\", "\\", "/"]
        .iter()
        .find_map(|separator| text.strip_prefix(separator))
}

fn by_form(text: &str) -> Found {
    secret(text)
        .or_else(|| address(text))
        .or_else(|| credentials(text))
        .or_else(|| local_name(text))
}

/// Keys, tokens and identities.
fn secret(text: &str) -> Found {
    const HIDDEN: &str = "[hidden]";
    let run = |from: &str, also: &str| {
        from.find(|c: char| !(c.is_ascii_alphanumeric() || also.contains(c)))
            .unwrap_or(from.len())
    };
    for scheme in ["Bearer ", "bearer ", "Basic ", "basic "] {
        if let Some(token) = text.strip_prefix(scheme) {
            let length = run(token, "-._~+/=");
            if length >= 8 {
                return Some((scheme.len() + length, format!("{scheme}{HIDDEN}")));
            }
        }
    }
    let word = &text[..run(text, "-_")];
    let is_key = ["sk-", "hf_", "ghp_", "pk-"]
        .iter()
        .any(|prefix| word.starts_with(prefix));
    if is_key && word.len() >= 12 {
        return Some((word.len(), HIDDEN.to_owned()));
    }
    let bare = &text[..run(text, "")];
    let hexadecimal = bare.bytes().all(|byte| byte.is_ascii_hexdigit());
    if bare.len() >= 16 && hexadecimal && ends(&text[bare.len()..]) {
        return Some((bare.len(), HIDDEN.to_owned()));
    }
    let groups: Vec<_> = word.split('-').map(str::len).collect();
    let hexadecimal = word
        .bytes()
        .all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    if hexadecimal && groups == [8, 4, 4, 4, 12] {
        return Some((word.len(), HIDDEN.to_owned()));
    }
    // As base64 writes random bytes: names change less often between letters and digits.
    let kind = |byte: u8| (byte.is_ascii_digit(), byte.is_ascii_uppercase());
    let pairs = word.as_bytes().windows(2);
    let changes = pairs
        .filter(|pair| pair.iter().all(u8::is_ascii_alphanumeric))
        .filter(|pair| kind(pair[0]) != kind(pair[1]))
        .count();
    (word.len() >= 32 && 3 * changes >= word.len()).then(|| (word.len(), HIDDEN.to_owned()))
}

/// A network's or its hardware's address; with a port, perhaps. Those of this machine itself tell
/// nothing.
fn address(text: &str) -> Found {
    const ADDRESS: &str = "[address]";
    let bracketed = text.strip_prefix('[');
    let from = bracketed.unwrap_or(text);
    let length = from
        .find(|c: char| !(c.is_ascii_hexdigit() || matches!(c, ':' | '.')))
        .unwrap_or(from.len());
    let run = &from[..length];
    let mut end = text.len() - from.len();
    if is_hardware_address(from) {
        return Some((end + "00:00:00:00:00:00".len(), ADDRESS.to_owned()));
    }
    // A sentence may go on with a colon or end with a stop.
    let words = [run, run.trim_end_matches('.'), run.trim_end_matches(':')];
    if let Some(six) = words.iter().find_map(|word| {
        let address = word.parse::<Ipv6Addr>().ok()?;
        // `face::bead` is a path in a program.
        let tells = word.contains(|c: char| c.is_ascii_digit());
        let private = tells && !address.is_loopback() && !address.is_unspecified();
        (private && ends(&from[word.len()..])).then_some(word)
    }) {
        end += six.len();
        if let Some(zone) = text[end..].strip_prefix('%') {
            let length = zone.find(|c: char| !(c.is_ascii_alphanumeric() || "-_.%".contains(c)));
            end += 1 + length.unwrap_or(zone.len());
        }
        match (bracketed, text[end..].strip_prefix(']')) {
            (Some(_), Some(after)) => end += 1 + port(after),
            // The bracket belongs to something else, and so stays.
            (Some(_), None) => return Some((end, format!("[{ADDRESS}"))),
            (None, _) => {}
        }
        return Some((end, ADDRESS.to_owned()));
    }
    if bracketed.is_some() {
        return None;
    }
    let four = run.split(':').next()?.trim_end_matches('.');
    let address = four.parse::<Ipv4Addr>().ok()?;
    let private = !address.is_loopback() && !address.is_unspecified();
    let end = four.len() + port(&text[four.len()..]);
    (private && ends(&text[four.len()..])).then(|| (end, ADDRESS.to_owned()))
}

/// The length of a colon and a port.
fn port(text: &str) -> usize {
    text.strip_prefix(':').map_or(0, |port| {
        let digits = port.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 { 0 } else { 1 + digits }
    })
}

fn is_hardware_address(text: &str) -> bool {
    let Some(start) = text.get(.."00:00:00:00:00:00".len()) else {
        return false;
    };
    let pairs: Vec<_> = start.split([':', '-']).collect();
    let is_pair =
        |pair: &&str| pair.len() == 2 && pair.bytes().all(|byte| byte.is_ascii_hexdigit());
    let rest = &text[start.len()..];
    pairs.len() == 6 && pairs.iter().all(is_pair) && ends(rest) && !rest.starts_with([':', '-'])
}

/// `name@host`, as in mail addresses and in web addresses with a password.
fn credentials(text: &str) -> Found {
    let is_name = |c: char| c.is_alphanumeric() || "._%+-:~!$".contains(c);
    let length = text.find(|c: char| !is_name(c))?;
    let host = text[length..].strip_prefix('@')?;
    let is_host = host.starts_with(|c: char| c.is_alphanumeric() || c == '[');
    (length > 0 && is_host).then(|| (length, "[user]".to_owned()))
}

/// Names that only a private network knows.
fn local_name(text: &str) -> Found {
    const SUFFIXES: [&str; 8] = [
        ".local",
        ".lan",
        ".home",
        ".internal",
        ".intranet",
        ".localdomain",
        ".home.arpa",
        ".fritz.box",
    ];
    let length = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-')))
        .unwrap_or(text.len());
    let word = text[..length].trim_end_matches('.');
    let lower = word.to_ascii_lowercase();
    let is_local = SUFFIXES
        .iter()
        .any(|suffix| lower.len() > suffix.len() && lower.ends_with(suffix));
    (is_local && ends(&text[word.len()..])).then(|| (word.len(), "[host]".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_private_is_left_out_as_a_table() {
        let mut private = Private::default();
        private.add("/srv/people/ada", "~");
        private.add("infera.ada-and-bob.example", "[balancer]");
        private.add("Adas-Tower", "[this machine]");
        private.add("pc", "[this machine]");
        let cases = [
            // Users, in paths of every system.
            ("file /srv/people/ada/x.gguf", "file ~/x.gguf"),
            ("/srv/people/adam/x", "/srv/people/adam/x"),
            ("at /home/ada/models", "at ~/models"),
            ("/Users/ada/Library: denied", "~/Library: denied"),
            ("file:///var/home/ada", "file://~"),
            ("/run/media/ada/USB/m.gguf", "/run/media/[user]/USB/m.gguf"),
            (r"C:\Users\Ada Byron\x.gguf", r"~\x.gguf"),
            (r#""c:\\users\\ada\\x""#, r#""~\\x""#),
            (r"\\?\D:\Users\ada\x", r"\\?\~\x"),
            ("C:/Users/ada not found", "~ not found"),
            ("/mnt/c/Users/ada/x", "/mnt/c~/x"),
            // Names of machines.
            (
                "https://Infera.ada-and-bob.example:8431/node",
                "https://[balancer]:8431/node",
            ),
            ("host adas-tower up", "host [this machine] up"),
            ("pc and adas-towers", "pc and adas-towers"),
            (
                "http://nas.local:80 and box.LAN.",
                "http://[host]:80 and [host].",
            ),
            ("localhost, model.gguf", "localhost, model.gguf"),
            ("https://ada:pw1@x.org", "https://[user]@x.org"),
            ("from ada.byron@x.org", "from [user]@x.org"),
            // Addresses.
            ("from 192.168.1.20:443 came", "from [address] came"),
            ("at 10.0.0.1.", "at [address]."),
            ("on 127.0.0.1:8080", "on 127.0.0.1:8080"),
            ("on 0.0.0.0:80, [::]:80", "on 0.0.0.0:80, [::]:80"),
            ("[2001:db8::7]:443 closed", "[address] closed"),
            ("to 2001:db8::7: refused", "to [address]: refused"),
            ("fe80::1%eth0, next", "[address], next"),
            ("http://[fe80::1%25en0]:80/", "http://[address]/"),
            ("::ffff:192.168.1.2 came", "[address] came"),
            ("V6([2001:DB8:0:0:0:0:0:7]:1)", "V6([address])"),
            ("[2001:db8::7, ::1]", "[[address], ::1]"),
            ("2001:db8::/32", "[address]/32"),
            ("on [::1]:8080", "on [::1]:8080"),
            ("aa:bb:cc:dd:ee:ff", "[address]"),
            (
                "infera_node::controller::work",
                "infera_node::controller::work",
            ),
            ("face::bead and std::fmt", "face::bead and std::fmt"),
            ("a5::b6::c7 <T as B::C>::d", "a5::b6::c7 <T as B::C>::d"),
            ("12:34:56, 12:34:56.789", "12:34:56, 12:34:56.789"),
            ("2026-11-29T18:58:07.123456Z", "2026-11-29T18:58:07.123456Z"),
            // Keys and identities.
            (
                "node 00112233445566778899aabbccddeeff claims",
                "node [hidden] claims",
            ),
            ("\"token\":\"0011223344556677\"", "\"token\":\"[hidden]\""),
            ("key sk-infera-Zm9vYmFy_baz-1!", "key [hidden]!"),
            (
                "Authorization: Bearer abc.def-12",
                "Authorization: Bearer [hidden]",
            ),
            ("the bearer of news", "the bearer of news"),
            ("GPU-8f2c1d3e-1234-5678-9abc-def012345678", "GPU-[hidden]"),
            ("k=aB3dE5gH7jK9mN1pQ3sT5vX7zA9cE1fG3hJ5", "k=[hidden]"),
            // What is not.
            (
                "a face of 42 tokens, 0.5 beads",
                "a face of 42 tokens, 0.5 beads",
            ),
            (
                "version 1.2.3, driver 31.0.15.3623",
                "version 1.2.3, driver 31.0.15.3623",
            ),
            (
                "Meta-Llama-3.1-8B-Instruct-Q4_K_M.gguf",
                "Meta-Llama-3.1-8B-Instruct-Q4_K_M.gguf",
            ),
            (
                "Qwen2-5-Coder-32B-Instruct-Q4_K_M",
                "Qwen2-5-Coder-32B-Instruct-Q4_K_M",
            ),
            ("Grüße: façade", "Grüße: façade"),
        ];
        for (text, shown) in cases {
            assert_eq!(private.left_out(text), shown, "{text}");
        }
    }
}
