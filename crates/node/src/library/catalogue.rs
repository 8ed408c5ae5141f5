//! The models that can be downloaded, as data.
//!
//! `catalogue.json` is the list. What is known of an entry differs:
//!
//! - `SmolLM2` 135M was downloaded and run: its size and SHA-256 are certain.
//! - The others could not be reached from where this list was made. Their addresses and rounded
//!   sizes were read in copies of the hub's pages; their shapes (layers, heads), contexts and
//!   licences are from memory and were not checked. They have no `sha256` here and `bytes_are_exact` is
//!   false: a download takes both from the hub's own answer, over HTTPS, before its first byte, and
//!   refuses a source that does not give them. Nobody has run these files with our engine yet; they
//!   are listed since their architectures and tensor types are ones that it runs.
//!
//! `Qwen2.5` 3B is left out: as far as remembered its licence allows research only, and a node
//! earns points.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::fetch::Address;
use super::fit::{KvShape, needed_bytes};
use super::{CatalogueEntry, names};

/// The models that can be downloaded.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    entries: Vec<CatalogueEntry>,
    /// What is known of the entry in the same place.
    facts: Vec<Facts>,
}

/// What a download checks that a user does not see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    /// In lower-case hex; none where the source has to tell it.
    pub sha256: Option<String>,
    pub bytes_are_exact: bool,
    pub file_name: String,
}

/// What is wrong with a catalogue's text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the catalogue of models cannot be used: {0}")]
pub struct CatalogueError(String);

impl Catalogue {
    /// The program's own.
    pub fn built_in() -> Self {
        Self::from_json(include_str!("catalogue.json"))
            .expect("a test reads the catalogue that is compiled in")
    }

    /// Reads a list of entries in JSON. One that is damaged, or whose id was there already, spoils
    /// all.
    pub fn from_json(text: &str) -> Result<Self, CatalogueError> {
        let records: Vec<Record> =
            serde_json::from_str(text).map_err(|error| CatalogueError(error.to_string()))?;
        let mut catalogue = Self::default();
        for record in records {
            let (entry, facts) = record.check()?;
            if catalogue.get(&entry.id).is_some() {
                return Err(CatalogueError(format!("`{}` is there twice", entry.id)));
            }
            catalogue.entries.push(entry);
            catalogue.facts.push(facts);
        }
        Ok(catalogue)
    }

    /// All entries, in the order of their file.
    pub fn entries(&self) -> &[CatalogueEntry] {
        &self.entries
    }

    pub(super) fn get(&self, id: &str) -> Option<(&CatalogueEntry, &Facts)> {
        self.iter().find(|(entry, _)| entry.id == id)
    }

    /// The entry that a file is certainly, or by its name and exact size.
    pub(super) fn recognise(
        &self,
        file_name: &str,
        bytes: u64,
        sha256: Option<&str>,
    ) -> Option<&str> {
        self.iter()
            .find(|(entry, facts)| match (sha256, &facts.sha256) {
                (Some(found), Some(known)) => found == known,
                _ => facts.bytes_are_exact && entry.bytes == bytes && facts.file_name == file_name,
            })
            .map(|(entry, _)| &entry.id[..])
    }

    fn iter(&self) -> impl Iterator<Item = (&CatalogueEntry, &Facts)> {
        self.entries.iter().zip(&self.facts)
    }
}

/// An entry as the file has it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    id: String,
    name: String,
    summary: BTreeMap<String, String>,
    parameters_billions: f32,
    licence: String,
    licence_url: String,
    quantisation: String,
    bytes: u64,
    bytes_are_exact: bool,
    sha256: Option<String>,
    context_tokens: u32,
    layers: u32,
    kv_heads: u32,
    head_dim: u32,
    sources: Vec<String>,
}

impl Record {
    fn check(self) -> Result<(CatalogueEntry, Facts), CatalogueError> {
        let fault = |what: &str| Err(CatalogueError(format!("`{}` {what}", self.id)));
        let id_is_safe = !self.id.is_empty()
            && self
                .id
                .starts_with(|first: char| first.is_ascii_lowercase())
            && self
                .id
                .chars()
                .all(|letter| matches!(letter, 'a'..='z' | '0'..='9' | '.' | '-' | '_'));
        if !id_is_safe {
            return fault("is no id: use a-z, 0-9, `.`, `-` and `_`");
        }
        if self.bytes == 0 || self.context_tokens == 0 || self.name.trim().is_empty() {
            return fault("has no size, context or name");
        }
        if let Some(sha256) = &self.sha256 {
            let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            if sha256.len() != 64 || !sha256.bytes().all(is_hex) {
                return fault("has a SHA-256 that is not 64 lower-case hexadecimal digits");
            }
        }
        let mut file_name = None;
        for source in &self.sources {
            match Address::parse(source) {
                Ok(address) => file_name = file_name.or(Some(names::name_in_url(address.path()))),
                Err(error) => return fault(&format!("has a source that is refused: {error}")),
            }
        }
        let Some(file_name) = file_name else {
            return fault("has no source");
        };
        let shape = KvShape {
            layers: self.layers,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            context_tokens: self.context_tokens,
        };
        let facts = Facts {
            sha256: self.sha256,
            bytes_are_exact: self.bytes_are_exact,
            file_name,
        };
        let entry = CatalogueEntry {
            minimum_vram_bytes: needed_bytes(self.bytes, shape),
            id: self.id,
            name: self.name,
            summary: self.summary,
            parameters_billions: self.parameters_billions,
            licence: self.licence,
            licence_url: self.licence_url,
            quantisation: self.quantisation,
            bytes: self.bytes,
            context_tokens: self.context_tokens,
            sources: self.sources,
        };
        Ok((entry, facts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_catalogue_is_sound() {
        let catalogue = Catalogue::built_in();
        assert!(!catalogue.entries().is_empty());
        for (entry, facts) in catalogue.iter() {
            let id = &entry.id;
            for language in ["en", "de"] {
                let summary = &entry.summary[language];
                assert!(summary.ends_with('.'), "{id}: one sentence");
            }
            assert!(entry.licence_url.starts_with("https://"), "{id}");
            assert!(entry.parameters_billions > 0.0, "{id}");
            assert!(entry.minimum_vram_bytes > entry.bytes, "{id}");
            assert_eq!(facts.bytes_are_exact, facts.sha256.is_some(), "{id}");
            // Bits for each weight that no quantisation of ours is below or above.
            let bits = entry.bytes as f64 * 8e-9 / f64::from(entry.parameters_billions);
            assert!(
                (4.0..17.0).contains(&bits),
                "{id}: {bits} bits for a weight"
            );
            for source in &entry.sources {
                let on_hub = source.starts_with("https://huggingface.co/");
                assert!(on_hub, "{id}: without a hash only the hub tells it");
                assert!(source.contains("/resolve/"), "{id}: {source}");
            }
        }
        let (entry, facts) = catalogue.get("smollm2-135m-instruct-q4_1").unwrap();
        assert_eq!(entry.bytes, 98_362_432);
        assert_eq!(facts.file_name, "SmolLM2-135M-Instruct.Q4_1.gguf");
    }

    #[test]
    fn files_are_recognised_by_hash_or_else_by_name_and_size() {
        let catalogue = Catalogue::built_in();
        let (_, facts) = catalogue.get("smollm2-135m-instruct-q4_1").unwrap();
        let (name, hash) = (&facts.file_name[..], facts.sha256.as_deref());
        let known = Some("smollm2-135m-instruct-q4_1");
        assert_eq!(catalogue.recognise("other.gguf", 1, hash), known);
        assert_eq!(catalogue.recognise(name, 98_362_432, None), known);
        assert_eq!(catalogue.recognise(name, 98_362_432, Some("00")), None);
        assert_eq!(catalogue.recognise(name, 98_362_431, None), None);
        assert_eq!(catalogue.recognise("other.gguf", 98_362_432, None), None);
    }

    #[test]
    fn faults_name_the_entry() {
        let good = serde_json::json!({
            "id": "m", "name": "M", "summary": {"en": "S."}, "parameters_billions": 1.0, "licence": "MIT",
            "licence_url": "https://m.example", "quantisation": "Q8_0", "bytes": 1,
            "bytes_are_exact": true, "context_tokens": 1, "layers": 1, "kv_heads": 1,
            "head_dim": 1, "sources": ["https://m.example/m.gguf"],
        });
        let read = |change: &dyn Fn(&mut serde_json::Value)| {
            let mut entry = good.clone();
            change(&mut entry);
            Catalogue::from_json(&serde_json::json!([entry]).to_string())
        };
        read(&|_| {}).unwrap();
        let twice = serde_json::json!([good, good]).to_string();
        assert!(
            Catalogue::from_json(&twice)
                .unwrap_err()
                .to_string()
                .contains("twice")
        );
        for (field, value) in [
            ("id", serde_json::json!("../m")),
            ("id", serde_json::json!("")),
            ("sha256", serde_json::json!("00")),
            ("bytes", serde_json::json!(0)),
            ("sources", serde_json::json!([])),
            ("sources", serde_json::json!(["http://m.example/m.gguf"])),
            ("unknown", serde_json::json!(1)),
        ] {
            read(&|entry| entry[field] = value.clone()).unwrap_err();
        }
    }
}
