//! File names that are safe on every system, whoever chose them.

/// Most file systems take 255 bytes; a suffix such as ` (2)` and `.part` has to fit, too.
const MAX_BYTES: usize = 180;
const EXTENSION: &str = ".gguf";

/// The name without any folder, and without what Windows, a shell or a screen would misread. It
/// always ends in `.gguf`.
pub(super) fn safe_name(wanted: &str) -> String {
    let last = wanted.rsplit(['/', '\\']).next().unwrap_or_default();
    let clean: String = last
        .chars()
        .map(|letter| if is_safe(letter) { letter } else { '_' })
        .collect();
    let stem = match clean.len().checked_sub(EXTENSION.len()) {
        Some(start)
            if clean.is_char_boundary(start) && clean[start..].eq_ignore_ascii_case(EXTENSION) =>
        {
            &clean[..start]
        }
        _ => &clean[..],
    };
    // Windows drops dots and spaces at the end; a dot at the start hides a file.
    let mut stem = stem.trim_matches(['.', ' ', '_']).to_owned();
    let mut end = stem.len().min(MAX_BYTES);
    while !stem.is_char_boundary(end) {
        end -= 1;
    }
    stem.truncate(end);
    if stem.is_empty() {
        stem.push_str("model");
    }
    if is_reserved(&stem) {
        stem.insert(0, '_');
    }
    stem + EXTENSION
}

/// The name for the `attempt`-th try, where earlier ones were taken: `name (2).gguf` and so on.
pub(super) fn numbered(name: &str, attempt: u32) -> String {
    if attempt < 2 {
        return name.to_owned();
    }
    let stem = name.strip_suffix(EXTENSION).unwrap_or(name);
    format!("{stem} ({attempt}){EXTENSION}")
}

/// The last part of an address, without its escapes.
pub(super) fn name_in_url(path: &str) -> String {
    let last = path.rsplit('/').next().unwrap_or_default().as_bytes();
    let mut bytes = Vec::with_capacity(last.len());
    let mut rest = last;
    while let Some((first, tail)) = rest.split_first() {
        let digit = |index: usize| {
            tail.get(index)
                .and_then(|byte| (*byte as char).to_digit(16))
        };
        if let (b'%', Some(high), Some(low)) = (first, digit(0), digit(1)) {
            bytes.push((high * 16 + low) as u8);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    safe_name(&String::from_utf8_lossy(&bytes))
}

fn is_safe(letter: char) -> bool {
    let reorders_text = matches!(letter, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    !letter.is_control() && !reorders_text && !"<>:\"|?*".contains(letter)
}

/// Devices on Windows, with any extension.
fn is_reserved(stem: &str) -> bool {
    let first = stem.split('.').next().unwrap_or_default().trim_end();
    let upper = first.to_uppercase();
    if matches!(
        &upper[..],
        "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$" | "CLOCK$"
    ) {
        return true;
    }
    let number = upper
        .strip_prefix("COM")
        .or_else(|| upper.strip_prefix("LPT"));
    number.is_some_and(|number| {
        let mut letters = number.chars();
        matches!(letters.next(), Some('0'..='9' | '¹' | '²' | '³')) && letters.next().is_none()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_a_table() {
        for (wanted, safe) in [
            ("SmolLM2-135M.Q4_1.gguf", "SmolLM2-135M.Q4_1.gguf"),
            ("Model.GGUF", "Model.gguf"),
            ("model", "model.gguf"),
            ("model.bin", "model.bin.gguf"),
            ("../../etc/passwd", "passwd.gguf"),
            ("..\\..\\windows\\system32\\x.gguf", "x.gguf"),
            ("/absolute/x.gguf", "x.gguf"),
            ("C:x.gguf", "C_x.gguf"),
            ("x.gguf:stream", "x.gguf_stream.gguf"),
            ("..", "model.gguf"),
            ("", "model.gguf"),
            (".gguf", "model.gguf"),
            (".hidden.gguf", "hidden.gguf"),
            ("trailing. . .gguf", "trailing.gguf"),
            ("a\0b\nc.gguf", "a_b_c.gguf"),
            ("what?<is>|this*.gguf", "what__is__this.gguf"),
            ("CON.gguf", "_CON.gguf"),
            ("con", "_con.gguf"),
            ("nul.tar.gguf", "_nul.tar.gguf"),
            ("LPT1.gguf", "_LPT1.gguf"),
            ("com¹.gguf", "_com¹.gguf"),
            ("COM10.gguf", "COM10.gguf"),
            ("CONSOLE.gguf", "CONSOLE.gguf"),
            ("ünïcödé 模型.gguf", "ünïcödé 模型.gguf"),
            ("fdp\u{202e}fugg.gguf", "fdp_fugg.gguf"),
        ] {
            assert_eq!(safe_name(wanted), safe, "{wanted:?}");
            assert_eq!(safe_name(safe), safe, "it stays as it is");
        }
    }

    #[test]
    fn long_names_are_cut_between_letters() {
        let name = safe_name(&"模".repeat(200));
        assert!(name.len() <= MAX_BYTES + EXTENSION.len());
        assert!(name.ends_with("模.gguf"), "{name}");
    }

    #[test]
    fn names_in_addresses_are_unescaped_and_then_made_safe() {
        for (path, name) in [
            ("/a/resolve/main/Model-Q4.gguf", "Model-Q4.gguf"),
            ("/a/My%20Model.gguf", "My Model.gguf"),
            ("/a/%2e%2e%2f%2e%2e%2fx.gguf", "x.gguf"),
            ("/a/..%5Cx.gguf", "x.gguf"),
            ("/a/100%.gguf", "100%.gguf"),
            ("/", "model.gguf"),
            ("", "model.gguf"),
        ] {
            assert_eq!(name_in_url(path), name, "{path}");
        }
    }

    #[test]
    fn a_taken_name_gets_a_number_before_its_extension() {
        assert_eq!(numbered("a.gguf", 1), "a.gguf");
        assert_eq!(numbered("a.gguf", 2), "a (2).gguf");
    }
}
