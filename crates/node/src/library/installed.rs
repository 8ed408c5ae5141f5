//! The model files that are there.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use infera_model::{Gguf, Kind, TensorType};
use infera_protocol::shown;
use serde::{Deserialize, Serialize};

use super::fit::{KvShape, needed_bytes};
use super::{Catalogue, Fit, InstalledModel};
use crate::identity::write_private;
use crate::model_fault::{ModelCause, ModelFault};

/// A model file, as far as it alone tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstalledFile {
    /// The whole path; it need not lie in the models folder.
    pub path: PathBuf,
    /// From the catalogue, else the file's metadata, else the file's name.
    pub name: String,
    /// As in `llama`; empty if the metadata cannot be read.
    pub architecture: String,
    /// How most weights are stored, as in `Q4_K_M`; empty if that cannot be read.
    pub quantisation: String,
    /// The file's size.
    pub bytes: u64,
    /// The longest context that the model was trained for; 0 if the file does not tell.
    pub context_tokens: u32,
    /// As the metadata names it; none if it does not tell.
    pub licence: Option<String>,
    /// Its entry in the catalogue, if it came from there.
    pub catalogue_id: Option<String>,
    /// When it came or was last changed: Unix time in milliseconds.
    pub added_ms: i64,
    /// Device memory it takes, by [`needed_bytes`]; none if it cannot be used.
    pub needed_bytes: Option<u64>,
    /// Why it cannot be used, in one sentence.
    pub fault: Option<ModelFault>,
}

impl Stamp {
    fn of(details: &fs::Metadata) -> Self {
        let modified = details.modified().ok();
        Self {
            bytes: details.len(),
            modified_ms: modified
                .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
                .map_or(0, |elapsed| elapsed.as_millis() as i64),
        }
    }
}

impl InstalledFile {
    /// A file outside the models folder, which the person named. It blocks.
    pub(crate) fn at(path: &Path) -> Self {
        let stamp = fs::metadata(path).map_or_else(|_| Stamp::default(), |it| Stamp::of(&it));
        read(path, stamp)
    }

    /// With what only the program around it knows. What a loaded model tells of itself is absent.
    #[must_use]
    pub fn into_model(self, fit: Fit, in_use: bool) -> InstalledModel {
        InstalledModel {
            path: self.path.to_string_lossy().into_owned(),
            name: self.name,
            architecture: self.architecture,
            quantisation: self.quantisation,
            bytes: self.bytes,
            context_tokens: self.context_tokens,
            licence: self.licence,
            id: None,
            catalogue_id: self.catalogue_id,
            added_ms: self.added_ms,
            fit,
            in_use,
            price: None,
            fault: self.fault,
        }
    }
}

/// What is remembered of a file that this program put into the models folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Provenance {
    pub bytes: u64,
    pub catalogue_id: Option<String>,
    pub sha256: Option<String>,
}

/// Reads the models folder; an unchanged file is read once.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    seen: HashMap<PathBuf, (Stamp, InstalledFile)>,
    /// By file name.
    provenance: HashMap<String, Provenance>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Stamp {
    bytes: u64,
    modified_ms: i64,
}

impl Shelf {
    /// The one that an earlier run kept beside its downloads.
    pub(super) fn load(partials_folder: &Path) -> Self {
        let provenance = fs::read(provenance_path(partials_folder))
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        Self {
            seen: HashMap::new(),
            provenance,
        }
    }

    pub(super) fn remember(
        &mut self,
        partials_folder: &Path,
        path: &Path,
        provenance: Provenance,
    ) -> io::Result<()> {
        self.provenance.insert(file_name(path), provenance);
        self.seen.remove(path);
        self.save(partials_folder)
    }

    pub(super) fn forget(&mut self, partials_folder: &Path, path: &Path) -> io::Result<()> {
        self.seen.remove(path);
        self.provenance.remove(&file_name(path));
        self.save(partials_folder)
    }

    /// All model files, by name. Broken ones are there with their fault.
    pub(super) fn scan(
        &mut self,
        folder: &Path,
        catalogue: &Catalogue,
    ) -> io::Result<Vec<InstalledFile>> {
        let mut found = HashMap::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let is_model = path
                .extension()
                .is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
            let Ok(details) = fs::metadata(&path) else {
                continue;
            };
            if !is_model || !details.is_file() {
                continue;
            }
            let stamp = Stamp::of(&details);
            let file = match self.seen.remove(&path) {
                Some((seen, file)) if seen == stamp => file,
                _ => self.identify(read(&path, stamp), catalogue),
            };
            found.insert(path, (stamp, file));
        }
        self.seen = found;
        let mut files: Vec<_> = self.seen.values().map(|(_, file)| file.clone()).collect();
        files.sort_by(|one, other| (&one.name, &one.path).cmp(&(&other.name, &other.path)));
        Ok(files)
    }

    fn identify(&self, mut file: InstalledFile, catalogue: &Catalogue) -> InstalledFile {
        let name = file_name(&file.path);
        let known = self
            .provenance
            .get(&name)
            .filter(|provenance| provenance.bytes == file.bytes);
        file.catalogue_id = known
            .and_then(|provenance| provenance.catalogue_id.clone())
            .or_else(|| {
                let hash = known.and_then(|provenance| provenance.sha256.as_deref());
                let id = catalogue.recognise(&name, file.bytes, hash);
                id.map(str::to_owned)
            });
        // Metadata often has a name that only the model's makers understand.
        let id = file.catalogue_id.as_deref();
        if let Some((entry, _)) = id.and_then(|id| catalogue.get(id)) {
            file.name.clone_from(&entry.name);
            let licence = &entry.licence;
            file.licence.get_or_insert_with(|| licence.clone());
        }
        file
    }

    fn save(&self, partials_folder: &Path) -> io::Result<()> {
        let content = serde_json::to_vec(&self.provenance)?;
        write_private(&provenance_path(partials_folder), &content, true)
    }
}

fn provenance_path(partials_folder: &Path) -> PathBuf {
    // Not `.json`, which is a download's record.
    partials_folder.join("provenance")
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

#[expect(
    clippy::unnecessary_debug_formatting,
    reason = "what is not Unicode shows only so"
)]
fn read(path: &Path, stamp: Stamp) -> InstalledFile {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let mut file = InstalledFile {
        path: path.to_owned(),
        name: shown::line(&stem).into_owned(),
        architecture: String::new(),
        quantisation: String::new(),
        bytes: stamp.bytes,
        context_tokens: 0,
        licence: None,
        catalogue_id: None,
        added_ms: stamp.modified_ms,
        needed_bytes: None,
        fault: None,
    };
    if path.to_str().is_none() {
        let message = format!("The path {path:?} is not Unicode; rename the file or its folder.");
        file.fault = Some(ModelFault::new(ModelCause::Unreadable, &message));
        return file;
    }
    let gguf = match Gguf::open(path) {
        Ok(gguf) => gguf,
        Err(error) => {
            file.fault = Some(error.into());
            return file;
        }
    };
    let text = |key: &str| {
        let text = gguf.get_str(key).ok().flatten()?.trim();
        let short: String = text.chars().take(200).collect();
        (!text.is_empty()).then(|| shown::line(&short).into_owned())
    };
    if let Some(name) = text("general.name") {
        file.name = name;
    }
    file.architecture = text("general.architecture").unwrap_or_default();
    file.licence = text("general.license");
    file.quantisation = quantisation(&gguf);
    let context = format!("{}.context_length", file.architecture);
    file.context_tokens = gguf.get_u32(&context).ok().flatten().unwrap_or(0);
    match Kind::from_gguf(&gguf) {
        Ok(kind) => {
            file.context_tokens = kind.context();
            let shape = match kind {
                Kind::Decoder(config) => KvShape {
                    layers: config.layers,
                    kv_heads: config.kv_heads,
                    head_dim: config.head_dim,
                    context_tokens: config.context,
                },
                // It keeps nothing of a text.
                Kind::Embedder(_) => KvShape::default(),
            };
            file.needed_bytes = Some(needed_bytes(stamp.bytes, shape));
        }
        Err(error) => file.fault = Some(error.into()),
    }
    file
}

/// The name of the file's mixture of tensor types, else the type that most bytes have.
fn quantisation(gguf: &Gguf) -> String {
    let file_type = gguf.get_u32("general.file_type").ok().flatten();
    if let Some(name) = file_type.and_then(file_type_name) {
        return name.to_owned();
    }
    let mut bytes: HashMap<TensorType, u64> = HashMap::new();
    for tensor in gguf.tensors() {
        *bytes.entry(tensor.kind).or_default() += tensor.bytes;
    }
    bytes
        .into_iter()
        .max_by_key(|(kind, bytes)| (*bytes, *kind))
        .map_or_else(String::new, |(kind, _)| kind.name().to_owned())
}

/// `general.file_type`, for types that this program reads. Source: `llama_ftype` in llama.cpp's
/// `llama.h`.
fn file_type_name(file_type: u32) -> Option<&'static str> {
    Some(match file_type {
        0 => "F32",
        1 => "F16",
        2 => "Q4_0",
        3 => "Q4_1",
        7 => "Q8_0",
        8 => "Q5_0",
        9 => "Q5_1",
        14 => "Q4_K_S",
        15 => "Q4_K_M",
        16 => "Q5_K_S",
        17 => "Q5_K_M",
        18 => "Q6_K",
        32 => "BF16",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use infera_model::gguf::write::GgufBuilder;

    fn small() -> GgufBuilder {
        GgufBuilder::new()
            .str("general.architecture", "llama")
            .str("general.name", "Small")
            .str("general.license", "mit")
            .u32("llama.context_length", 2048)
    }

    fn scan(shelf: &mut Shelf, folder: &Path) -> Vec<InstalledFile> {
        shelf.scan(folder, &Catalogue::built_in()).unwrap()
    }

    #[test]
    fn files_are_listed_with_what_they_tell() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let tensor = |builder: GgufBuilder| builder.f32_tensor("x", &[4], &[0.0; 4]).build();
        fs::write(
            path.join("b.gguf"),
            tensor(small().u32("general.file_type", 15)),
        )
        .unwrap();
        fs::write(path.join("a.GGUF"), tensor(small())).unwrap();
        fs::write(path.join("page.gguf"), "<html>").unwrap();
        fs::write(path.join("notes.txt"), "x").unwrap();
        fs::create_dir(path.join("folder.gguf")).unwrap();
        let files = scan(&mut Shelf::default(), path);
        let names: Vec<_> = files
            .iter()
            .map(|file| {
                (
                    file_name(&file.path),
                    &file.name[..],
                    &file.quantisation[..],
                )
            })
            .collect();
        assert_eq!(
            names,
            [
                ("a.GGUF".to_owned(), "Small", "F32"),
                ("b.gguf".to_owned(), "Small", "Q4_K_M"),
                ("page.gguf".to_owned(), "page", ""),
            ]
        );
        assert_eq!(files[0].context_tokens, 2048);
        assert_eq!(files[0].licence.as_deref(), Some("mit"));
        let fault = files[2].fault.as_ref().unwrap();
        assert_eq!(fault.cause, ModelCause::Damaged);
        assert!(fault.message.contains("GGUF"), "{fault}");
        // Metadata alone is no model that runs: that is said.
        assert!(files[0].fault.is_some() && files[0].needed_bytes.is_none());
    }

    #[test]
    fn an_unchanged_file_is_read_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.gguf");
        fs::write(&path, small().build()).unwrap();
        let mut shelf = Shelf::default();
        scan(&mut shelf, folder.path());
        let (_, file) = shelf.seen.get_mut(&path).unwrap();
        file.name = "seen".to_owned();
        assert_eq!(scan(&mut shelf, folder.path())[0].name, "seen");
        fs::write(&path, small().str("general.author", "me").build()).unwrap();
        assert_eq!(scan(&mut shelf, folder.path())[0].name, "Small");
        fs::remove_file(&path).unwrap();
        assert_eq!(scan(&mut shelf, folder.path()), []);
    }

    #[test]
    fn where_a_file_came_from_outlives_the_program() {
        let folder = tempfile::tempdir().unwrap();
        let (models, partials) = (folder.path().join("m"), folder.path().join("p"));
        fs::create_dir(&models).unwrap();
        fs::create_dir(&partials).unwrap();
        let path = models.join("a.gguf");
        fs::write(&path, small().build()).unwrap();
        let provenance = Provenance {
            bytes: fs::metadata(&path).unwrap().len(),
            catalogue_id: Some("some-entry".to_owned()),
            sha256: None,
        };
        let mut shelf = Shelf::load(&partials);
        shelf.remember(&partials, &path, provenance).unwrap();
        let mut shelf = Shelf::load(&partials);
        let id = |shelf: &mut Shelf| scan(shelf, &models)[0].catalogue_id.clone();
        assert_eq!(id(&mut shelf).as_deref(), Some("some-entry"));
        // Another file with that name is another model.
        fs::write(&path, small().str("general.author", "me").build()).unwrap();
        assert_eq!(id(&mut shelf), None);
    }

    #[test]
    fn a_real_model_tells_what_it_needs() {
        let folder = std::env::var_os("INFERA_MODELS").map(PathBuf::from);
        let cache = directories::BaseDirs::new()
            .map(|folders| folders.cache_dir().join("infera-node/models"));
        let path = folder
            .or(cache)
            .unwrap()
            .join("SmolLM2-135M-Instruct.Q4_1.gguf");
        let Ok(details) = fs::metadata(&path) else {
            println!("skipped: there is no {}", path.display());
            return;
        };
        let stamp = Stamp {
            bytes: details.len(),
            modified_ms: 0,
        };
        let file = Shelf::default().identify(read(&path, stamp), &Catalogue::built_in());
        assert_eq!(file.fault, None);
        assert_eq!(file.quantisation, "Q4_1");
        assert_eq!(file.name, "SmolLM2 135M Instruct");
        assert_eq!(
            file.catalogue_id.as_deref(),
            Some("smollm2-135m-instruct-q4_1")
        );
        let catalogue = Catalogue::built_in();
        let (entry, _) = catalogue.get("smollm2-135m-instruct-q4_1").unwrap();
        assert_eq!(file.needed_bytes, Some(entry.minimum_vram_bytes));
        assert_eq!(file.context_tokens, entry.context_tokens);
    }
}
