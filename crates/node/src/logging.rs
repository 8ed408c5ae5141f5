//! The log, on standard error and in files: bounded in size, without the user's name.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use infera_private_files as private_files;
use infera_protocol::shown;
use infera_terminal::has_colour;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

const NAME: &str = "infera-node.log";
const LARGEST_FILE: u64 = 2_000_000;
/// With the current one.
const FILES: u32 = 3;
/// What libraries call errors and do without: wgpu looks for parts of Windows that it need not have.
const NO_ERRORS: &str = "wgpu_hal::auxil::dxgi=off";

/// Logs what `levels` says, or `INFERA_LOG`, both in the form of `tracing`'s filters: to files in
/// `folder`, where there is one, and to standard error with `to_terminal`.
pub fn start(folder: Option<&Path>, levels: &str, to_terminal: bool) {
    let filter = || {
        EnvFilter::try_from_env("INFERA_LOG")
            .unwrap_or_else(|_| EnvFilter::new(format!("{levels},{NO_ERRORS}")))
    };
    let file = folder.map(|folder| LogFile::open(folder, LARGEST_FILE, home()));
    let (file, fault) = match file.transpose() {
        Ok(file) => (file, None),
        Err(fault) => (None, Some(fault)),
    };
    let to_file = file.map(|file| {
        fmt::layer()
            .with_ansi(false)
            .with_writer(Shared(Mutex::new(file)))
            .with_filter(filter())
    });
    let has_colour = has_colour(&io::stderr());
    let form = if has_colour {
        shown::Form::Coloured
    } else {
        shown::Form::Text
    };
    let to_terminal = to_terminal.then(|| {
        fmt::layer()
            .with_ansi(has_colour)
            .with_writer(move || shown::Writer::new(io::stderr(), form))
            .with_filter(filter())
    });
    tracing_subscriber::registry()
        .with(to_file)
        .with(to_terminal)
        .init();
    if let Some(fault) = fault {
        tracing::warn!("there is no log file: {fault}");
    }
}

/// The log files that there are, the youngest first.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let names = std::iter::once(NAME.to_owned()).chain((1..FILES).map(numbered));
    names
        .map(|name| folder.join(name))
        .filter(|file| file.exists())
        .collect()
}

fn home() -> Option<String> {
    std::env::home_dir()
        .map(|home| home.display().to_string())
        .filter(|home| home.len() > 1)
}

struct Shared(Mutex<LogFile>);

impl<'a> MakeWriter<'a> for Shared {
    type Writer = Guard<'a>;

    fn make_writer(&'a self) -> Guard<'a> {
        Guard(self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Guard<'a>(MutexGuard<'a, LogFile>);

impl Write for Guard<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.append(line)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.file.flush()
    }
}

/// A file that is put aside when it is full.
struct LogFile {
    folder: PathBuf,
    file: File,
    bytes: u64,
    largest: u64,
    home: Option<String>,
}

impl LogFile {
    fn open(folder: &Path, largest: u64, home: Option<String>) -> io::Result<Self> {
        private_files::create_folder(folder)?;
        let file = private_files::append(&folder.join(NAME))?;
        Ok(Self {
            folder: folder.to_owned(),
            bytes: file.metadata()?.len(),
            file,
            largest,
            home,
        })
    }

    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let line = String::from_utf8_lossy(line);
        let line = shown::text(&line);
        let line = match &self.home {
            Some(home) => line.replace(home, "~").into(),
            None => line,
        };
        if self.bytes + line.len() as u64 > self.largest {
            self.rotate()?;
        }
        self.file.write_all(line.as_bytes())?;
        self.bytes += line.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        for number in (1..FILES).rev() {
            let older = self.folder.join(numbered(number));
            let newer = self.folder.join(match number {
                1 => NAME.to_owned(),
                _ => numbered(number - 1),
            });
            // The first times there are not so many.
            let _ = fs::rename(newer, older);
        }
        self.file = private_files::append(&self.folder.join(NAME))?;
        self.bytes = self.file.metadata()?.len();
        Ok(())
    }
}

/// `infera-node.1.log` is the youngest of those put aside.
fn numbered(number: u32) -> String {
    NAME.replace(".log", &format!(".{number}.log"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_lines_go_and_young_ones_stay() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = LogFile::open(folder.path(), 20, None).unwrap();
        for number in 0..10 {
            log.append(format!("line number {number}\n").as_bytes())
                .unwrap();
        }
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(read("infera-node.log"), "line number 9\n");
        assert_eq!(read("infera-node.1.log"), "line number 8\n");
        assert_eq!(read("infera-node.2.log"), "line number 7\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_second_start_goes_on_where_the_first_ended() {
        let folder = tempfile::tempdir().unwrap();
        for line in ["first\n", "second\n"] {
            let mut log = LogFile::open(folder.path(), 100, None).unwrap();
            log.append(line.as_bytes()).unwrap();
        }
        let text = fs::read_to_string(folder.path().join(NAME)).unwrap();
        assert_eq!(text, "first\nsecond\n");
    }

    #[test]
    fn the_users_name_is_not_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = LogFile::open(folder.path(), 100, Some("/home/ada".to_owned())).unwrap();
        log.append(b"cannot read /home/ada/models/a.gguf\n")
            .unwrap();
        let text = fs::read_to_string(folder.path().join(NAME)).unwrap();
        assert_eq!(text, "cannot read ~/models/a.gguf\n");
    }

    #[test]
    fn whoever_reads_it_in_a_terminal_is_safe() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = LogFile::open(folder.path(), 100, None).unwrap();
        log.append(b"model \x1b]52;c;AA\x07\n").unwrap();
        let text = fs::read_to_string(folder.path().join(NAME)).unwrap();
        assert_eq!(text, "model \\u{1b}]52;c;AA\\u{7}\n");
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_may_read_it() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        LogFile::open(folder.path(), 100, None).unwrap();
        let file = fs::metadata(folder.path().join(NAME)).unwrap();
        assert_eq!(file.permissions().mode() & 0o777, 0o600);
    }
}
