//! Where models and golden outputs lie.

use std::path::{Path, PathBuf};

pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

pub(crate) fn golden_folder() -> PathBuf {
    repository().join("crates/engine/tests/golden")
}

/// Where `cargo xtask` keeps downloaded models.
pub(crate) fn cached_model(file: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("INFERA_MODELS")
        .map(PathBuf::from)
        .or_else(|| {
            let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
            let cache =
                cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
            Some(cache?.join("infera-node/models"))
        })?;
    Some(folder.join(file)).filter(|path| path.exists())
}
