use proptest::prelude::*;

use super::write::GgufBuilder;
use super::*;
use crate::testing::{tiny, tiny_file};

fn fault(bytes: Vec<u8>) -> String {
    let error = Gguf::from_bytes(bytes, "bad.gguf").unwrap_err().to_string();
    assert!(error.contains("`bad.gguf`"), "{error}");
    error
}

/// Replaces the only place where `from` stands.
fn patch(mut bytes: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut places = bytes
        .windows(from.len())
        .enumerate()
        .filter(|place| place.1 == from);
    let (at, _) = places.next().unwrap();
    assert!(places.next().is_none(), "the place is not unique");
    bytes[at..at + to.len()].copy_from_slice(to);
    bytes
}

fn tensor(name: &str, dims: &[u64]) -> Vec<u8> {
    let mut bytes = (name.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(name.as_bytes());
    bytes.extend_from_slice(&(dims.len() as u32).to_le_bytes());
    bytes.extend(dims.iter().flat_map(|dim| dim.to_le_bytes()));
    bytes
}

fn two_tensors() -> Vec<u8> {
    GgufBuilder::new()
        .f32_tensor("one", &[8], &[1.0; 8])
        .f32_tensor("two", &[16], &[2.0; 16])
        .build()
}

/// A value of every kind that the builder writes, and two tensors.
fn every_kind() -> GgufBuilder {
    GgufBuilder::new()
        .u32("n", 7)
        .f32("x", 0.5)
        .bool("yes", true)
        .str("text", "a\u{e9}")
        .strings("texts", &["a", "", "b"])
        .f32s("floats", &[1.0, -2.0])
        .i32s("ints", &[1, -2])
        .f32_tensor("one", &[2, 4], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])
        .tensor("two", TensorType::Q8_0, &[32], (0..34).collect())
}

#[test]
fn values_and_tensors_are_found() {
    let gguf = Gguf::from_bytes(every_kind().build(), "x").unwrap();
    assert_eq!(gguf.get_u32("n").unwrap(), Some(7));
    assert_eq!(gguf.get_u32("none").unwrap(), None);
    assert_eq!(gguf.get_f32("x").unwrap(), Some(0.5));
    assert_eq!(gguf.get_bool("yes").unwrap(), Some(true));
    assert_eq!(gguf.get_str("text").unwrap(), Some("a\u{e9}"));
    assert_eq!(gguf.get_strings("texts").unwrap().unwrap(), ["a", "", "b"]);
    assert_eq!(gguf.get_f32s("floats").unwrap().unwrap(), [1.0, -2.0]);
    assert_eq!(gguf.get_i32s("ints").unwrap().unwrap(), [1, -2]);
    assert_eq!(gguf.array_len("texts").unwrap(), Some(3));
    let error = gguf.get_u32("text").unwrap_err().to_string();
    assert!(error.contains("`text`"), "{error}");

    assert_eq!(gguf.tensors().len(), 2);
    let one = gguf.tensor("one").unwrap();
    assert_eq!(
        (one.info.values(), one.info.dims.as_slice()),
        (8, &[2, 4][..])
    );
    assert_eq!(one.bytes[4..8], 1.0_f32.to_le_bytes());
    let two = gguf.tensor("two").unwrap();
    assert_eq!(two.bytes, (0..34).collect::<Vec<u8>>());
    assert!(gguf.tensor("three").is_none());
}

#[test]
fn a_file_cut_off_at_any_byte_is_refused() {
    let bytes = every_kind().build();
    assert!(Gguf::from_bytes(bytes.clone(), "whole").is_ok());
    for length in 0..bytes.len() {
        let error = fault(bytes[..length].to_vec());
        assert!(
            error.ends_with('.') && error.len() < 300,
            "{length}: {error}"
        );
    }
}

#[test]
fn a_mapped_file_reads_like_one_in_memory() {
    let path = std::env::temp_dir().join(format!("infera-model-{}.gguf", std::process::id()));
    std::fs::write(&path, tiny_file()).unwrap();
    let gguf = Gguf::open(&path).unwrap();
    assert_eq!(gguf.tensors(), tiny().tensors());
    assert_eq!(gguf.name(), "Tiny");
    // Windows keeps a mapped file as it is.
    drop(gguf);
    std::fs::write(&path, "").unwrap();
    assert!(
        Gguf::open(&path)
            .unwrap_err()
            .to_string()
            .contains("is empty")
    );
    std::fs::remove_file(&path).unwrap();
    let missing = Gguf::open(&path).unwrap_err().to_string();
    assert!(
        missing.starts_with("Cannot open the model file"),
        "{missing}"
    );
    let folder = Gguf::open(&std::env::temp_dir()).unwrap_err();
    assert!(folder.to_string().len() < 200);
}

#[test]
fn broken_headers_are_named() {
    let file = two_tensors();
    let cases = [
        (
            patch(file.clone(), b"GGUF", b"GGML"),
            "does not begin with the letters GGUF",
        ),
        (
            [b"GGUF", &1_u32.to_le_bytes()[..], &file[8..]].concat(),
            "its version is 1",
        ),
        (
            [b"GGUF", &3_u32.to_be_bytes()[..], &file[8..]].concat(),
            "big-endian",
        ),
        (
            [&file[..8], &u64::MAX.to_le_bytes(), &file[16..]].concat(),
            "the limit is 65536",
        ),
        (
            [&file[..8], &60_000_u64.to_le_bytes(), &file[16..]].concat(),
            "60000 tensors, more than",
        ),
        (
            [&file[..16], &u64::MAX.to_le_bytes(), &file[24..]].concat(),
            "metadata entries",
        ),
    ];
    for (bytes, expected) in cases {
        let error = fault(bytes);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn broken_metadata_is_named() {
    let text = GgufBuilder::new().str("key", "0123456789").build();
    let list = GgufBuilder::new().i32s("key", &[0x5555; 4]).build();
    let length = |number: u64| number.to_le_bytes();
    let twice = {
        let mut bytes = GgufBuilder::new().u32("key", 1).build();
        let entry = bytes[24..].to_vec();
        bytes.extend_from_slice(&entry);
        bytes[16..24].copy_from_slice(&length(2));
        bytes
    };
    let cases = [
        (
            patch(text.clone(), &length(10), &length(u64::MAX)),
            "the limit is",
        ),
        (
            patch(text.clone(), &length(10), &length(11)),
            "it is cut off",
        ),
        (patch(text.clone(), b"0123", b"\xFF123"), "is not UTF-8"),
        (
            patch(text, b"key\x08", b"key\x0D"),
            "`key` has the unknown type 13",
        ),
        (
            patch(list.clone(), b"key\x09\0\0\0\x05", b"key\x09\0\0\0\x09"),
            "is a list of lists",
        ),
        (
            patch(list.clone(), &length(4), &length(1 << 25)),
            "list items, and the limit",
        ),
        (
            patch(list, &length(4), &length(1 << 20)),
            "list items, more than",
        ),
        (
            patch(
                GgufBuilder::new().bool("key", true).build(),
                b"\x07\0\0\0\x01",
                b"\x07\0\0\0\x02",
            ),
            "is 2 where 0 or 1",
        ),
        (
            GgufBuilder::new().u32("general.alignment", 24).build(),
            "alignment",
        ),
        (
            GgufBuilder::new().u32("general.alignment", 0).build(),
            "alignment",
        ),
        (twice, "`key` is there twice"),
    ];
    for (bytes, expected) in cases {
        let error = fault(bytes);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn broken_tensors_are_named() {
    let file = two_tensors();
    let with_dims = |dims: &[u64]| patch(file.clone(), &tensor("two", &[16]), &tensor("two", dims));
    let with_offset = |offset: u64| {
        let entry =
            |offset: u64| [&tensor("two", &[16])[..], &[0; 4], &offset.to_le_bytes()].concat();
        patch(file.clone(), &entry(32), &entry(offset))
    };
    let with_kind = |kind: u32| {
        let entry = |kind: u32| [&tensor("one", &[8])[..], &kind.to_le_bytes()].concat();
        patch(file.clone(), &entry(0), &entry(kind))
    };
    let with_dimensions = |count: u8| patch(file.clone(), b"two\x01", &[b't', b'w', b'o', count]);
    let cases = [
        (patch(file.clone(), b"two", b"one"), "`one` is there twice"),
        (with_dims(&[u64::MAX]), "impossible dimensions"),
        (with_dims(&[0]), "impossible dimensions"),
        (with_dims(&[1 << 40]), "it is cut off: its tensors need"),
        (with_dimensions(0), "0 dimensions"),
        (with_dimensions(5), "5 dimensions"),
        (
            with_kind(23),
            "the type IQ4_XS; this program reads F32, F16",
        ),
        (with_kind(4), "unknown type 4; this program reads F32, F16"),
        (with_kind(u32::MAX), "unknown type 4294967295"),
        (with_kind(8), "`one` has impossible dimensions"),
        (with_offset(0), "`one` and `two` overlap"),
        (with_offset(33), "is not aligned to 32 bytes"),
        (with_offset(64), "it is cut off"),
        (with_offset(u64::MAX - 31), "impossible dimensions"),
    ];
    for (bytes, expected) in cases {
        let error = fault(bytes);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_part_of_a_model_says_so_and_how_to_join_it() {
    let part = |count: u32| {
        GgufBuilder::new()
            .u32("split.no", 1)
            .u32("split.count", count)
    };
    let error = fault(part(3).build());
    assert!(
        error.contains("part 2 of a model in 3 files") && error.contains("--merge"),
        "{error}"
    );
    assert!(Gguf::from_bytes(part(1).build(), "whole.gguf").is_ok());
}

#[test]
fn version_2_is_read_as_version_3_is() {
    let mut bytes = two_tensors();
    bytes[4] = 2;
    let gguf = Gguf::from_bytes(bytes, "old.gguf").unwrap();
    assert_eq!(gguf.tensors().len(), 2);
}

#[test]
fn dimensions_that_overflow_together_are_refused() {
    let file = GgufBuilder::new()
        .f32_tensor("x", &[2, 2, 2, 2], &[0.0; 16])
        .build();
    let big = patch(file, &tensor("x", &[2; 4]), &tensor("x", &[1 << 20; 4]));
    assert!(fault(big).contains("impossible dimensions"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever the bytes, there is an answer and no panic; what is accepted can be read.
    #[test]
    fn changed_bytes_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        length in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        static FILE: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(tiny_file);
        let mut bytes = FILE.clone();
        // Most of the file is weights; faults are in its first part.
        let head = 9000.min(bytes.len());
        for (at, byte) in changes {
            bytes[at.index(head)] = byte;
        }
        if cut {
            bytes.truncate(length.index(bytes.len()));
        }
        if let Ok(gguf) = Gguf::from_bytes(bytes, "changed") {
            for info in gguf.tensors() {
                let view = gguf.tensor(&info.name).unwrap();
                prop_assert_eq!(view.bytes.len() as u64, info.bytes);
            }
            let _ = crate::Config::from_gguf(&gguf).and_then(|config| config.attention(&gguf));
            let _ = crate::EmbedderConfig::from_gguf(&gguf);
            let _ = crate::Tokenizer::from_gguf(&gguf);
            let _ = crate::ChatTemplate::from_gguf(&gguf);
        }
    }
}
