//! A model file, or the head of one, from any bytes at all.

use infera_model::{Gguf, Head};

pub(crate) fn run(data: &[u8]) {
    if data.starts_with(b"INFH") {
        if let Ok(head) = Head::from_bytes(data) {
            use_head(&head);
        }
        return;
    }
    let Ok(gguf) = Gguf::from_bytes(data, "fuzz.gguf") else {
        return;
    };
    for tensor in gguf.views() {
        assert_eq!(tensor.bytes.len() as u64, tensor.info.bytes);
    }
    for key in gguf.keys() {
        let _ = gguf.get_u32(key);
        let _ = gguf.get_f32(key);
        let _ = gguf.get_bool(key);
        let _ = gguf.get_str(key);
        let _ = gguf.get_strings(key);
        let _ = gguf.get_f32s(key);
        let _ = gguf.get_i32s(key);
        let _ = gguf.array_len(key);
    }
    if let Ok(head) = Head::from_gguf(&gguf) {
        use_head(&head);
    }
}

/// What a balancer does with a head that it accepts.
fn use_head(head: &Head) {
    let bytes = head.to_bytes();
    match Head::from_bytes(&bytes) {
        Ok(again) => {
            assert_eq!(again.manifest(), head.manifest());
            assert_eq!(again.kind(), head.kind());
            assert_eq!(again.to_bytes(), bytes);
        }
        Err(error) => panic!("a head is not read again: {error}"),
    }
    for profile in head.kind().profiles() {
        let _ = head.id(*profile);
    }
    let tokenizer = head.tokenizer();
    assert_eq!(tokenizer.vocabulary(), head.kind().vocabulary());
    let ids = tokenizer.encode_prompt("Hi <s> caf\u{e9} 12\n", true);
    assert!(ids.iter().all(|id| *id < tokenizer.vocabulary()));
    let _ = tokenizer.decode(&[], &ids);
}
