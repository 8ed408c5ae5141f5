//! The window's files (`ui/dist`), built into the program so that a headless node serves them too.

use infera_web_files::WebFile;

/// Said where a file is asked for that is not there.
pub(crate) const MISSING: &str = if FILES.is_empty() {
    "This build has no window: build `ui` first (`npm ci && npm run build`), then this program"
} else {
    "There is no such page"
};

include!(concat!(env!("OUT_DIR"), "/web_files.rs"));

/// By its path; `/` is the window itself.
pub(crate) fn find(path: &str) -> Option<WebFile> {
    infera_web_files::find(FILES, if path == "/" { "index.html" } else { path })
}
