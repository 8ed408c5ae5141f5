use std::collections::HashMap;

use super::*;

#[derive(serde::Deserialize)]
struct Golden {
    kind: String,
    blocks: String,
    values: String,
}

/// `tests/data/make_quant_golden.py` says where the values come from.
#[test]
fn every_type_gives_the_same_bits_as_the_reference() {
    let golden: Vec<Golden> =
        serde_json::from_str(include_str!("../../tests/data/quant_golden.json")).unwrap();
    let mut golden: HashMap<_, _> = golden
        .into_iter()
        .map(|entry| (entry.kind.clone(), entry))
        .collect();
    for kind in TensorType::ALL {
        let entry = golden.remove(kind.name()).unwrap();
        let bytes = hex::decode(entry.blocks).unwrap();
        let expected = hex::decode(entry.values).unwrap();
        let mut values = vec![f32::NAN; expected.len() / 4];
        dequantize(kind, &bytes, &mut values).unwrap();
        for (index, (value, bytes)) in values.iter().zip(expected.as_chunks().0).enumerate() {
            let expected = f32::from_le_bytes(*bytes);
            assert_eq!(
                value.to_bits(),
                expected.to_bits(),
                "{kind} value {index}: {value} where {expected} is due"
            );
        }
    }
    assert!(golden.is_empty());
}

/// Each bit pattern, for every type and in each place that can make a value infinite or undefined.
#[test]
fn what_is_not_finite_is_seen_in_every_type() {
    for kind in TensorType::ALL {
        let block = kind.block_bytes();
        let sound = vec![0x11; 3 * block];
        assert!(is_finite(kind, &sound), "{kind}");
        for at in 0..3 * block - 1 {
            for bits in [0x7c00_u16, 0xfc00, 0x7e01, 0x7f80, 0xffff] {
                let mut bytes = sound.clone();
                bytes[at..at + 2].copy_from_slice(&bits.to_le_bytes());
                let mut values = vec![0.0; 3 * kind.block_values()];
                dequantize(kind, &bytes, &mut values).unwrap();
                let expected = values.iter().all(|value| value.is_finite());
                assert_eq!(
                    is_finite(kind, &bytes),
                    expected,
                    "{kind}, {bits:x} at {at}"
                );
            }
        }
    }
}

#[test]
fn lengths_that_do_not_fit_are_refused() {
    for kind in TensorType::ALL {
        let (bytes, values) = (vec![0; kind.block_bytes()], kind.block_values());
        assert!(dequantize(kind, &bytes, &mut vec![0.0; values]).is_ok());
        assert!(dequantize(kind, &bytes, &mut vec![0.0; values + 1]).is_err());
        assert!(dequantize(kind, &bytes[1..], &mut vec![0.0; values]).is_err());
        assert!(dequantize(kind, &[], &mut []).is_ok());
    }
}

#[test]
fn types_have_the_numbers_of_the_format() {
    for kind in TensorType::ALL {
        assert_eq!(TensorType::from_code(kind.code()), Some(kind));
    }
    assert_eq!(TensorType::from_code(4), None);
    assert_eq!(TensorType::from_code(u32::MAX), None);
}
