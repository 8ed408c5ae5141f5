//! Measures how long hostile texts take to tokenise: `tokenizing_cost BYTES FILE...`.
//!
//! The files are GGUF files with a tokenizer. Prints one line for each file and kind of text, with
//! the processor's time.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use infera_model::{Gguf, Tokenizer};

const TEXTS: [(&str, &str); 14] = [
    ("prose", "The quick brown fox jumps over the lazy dog. "),
    ("digits", "7"),
    ("digits mixed", "8274650193"),
    ("one letter", "a"),
    ("letters", "qzjxkvbw"),
    ("spaces", " "),
    ("spaces and letters", "       x"),
    ("line ends", "\n"),
    ("punctuation", "!?#;"),
    ("marks", "e\u{301}\u{323}"),
    ("only marks", "\u{301}\u{323}"),
    ("jamo", "\u{1112}\u{1161}\u{11ab}"),
    ("emoji", "\u{1F468}\u{200D}\u{1F469}"),
    ("angle brackets", "<|im_<|"),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let bytes: usize = arguments.next().ok_or("name a size in bytes")?.parse()?;
    let mut out = std::io::stdout();
    for file in arguments {
        let path = Path::new(&file);
        let tokenizer = Tokenizer::from_gguf(&Gguf::open(path)?)?;
        for (name, unit) in TEXTS {
            let text = unit.repeat(bytes / unit.len());
            let begun = processor_time();
            let tokens = tokenizer.encode(&text, true).len();
            let took = processor_time().saturating_sub(begun).as_secs_f64();
            let file = path.file_name().unwrap_or_default().display();
            writeln!(
                out,
                "{file}\t{name}\t{} bytes\t{tokens} tokens\t{took:.3} s\t{:.0} ns/byte",
                text.len(),
                took * 1e9 / text.len() as f64
            )?;
        }
    }
    Ok(())
}

/// On other systems, the time since the first call.
fn processor_time() -> Duration {
    #[cfg(unix)]
    {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }
    #[cfg(not(unix))]
    {
        static FIRST: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        FIRST.get_or_init(std::time::Instant::now).elapsed()
    }
}
