//! The window's files (`ui/dist`), built into the program so that a headless node serves them too.

/// One file.
pub(crate) struct WebFile {
    pub(crate) content_type: &'static str,
    pub(crate) content: &'static [u8],
}

/// Said where a file is asked for that is not there.
pub(crate) const MISSING: &str = if FILES.is_empty() {
    "This build has no window: build `ui` first (`npm ci && npm run build`), then this program"
} else {
    "There is no such page"
};

/// What a page may load: its own files, and nothing from elsewhere.
pub(crate) const POLICY: &str = "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'self'; form-action 'none'; frame-ancestors 'none'";

include!(concat!(env!("OUT_DIR"), "/web_files.rs"));

/// By its path; `/` is the window itself.
pub(crate) fn find(path: &str) -> Option<WebFile> {
    let path = path.trim_start_matches('/');
    let path = if path.is_empty() { "index.html" } else { path };
    let (_, content) = FILES.iter().find(|(name, _)| *name == path)?;
    Some(WebFile {
        content_type: content_type(path),
        content,
    })
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, ending)| ending) {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "json" | "map" => "application/json",
        _ => "application/octet-stream",
    }
}
