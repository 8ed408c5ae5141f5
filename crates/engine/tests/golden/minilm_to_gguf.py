"""Writes all-MiniLM-L6-v2 as a GGUF file, from the published safetensors and vocabulary.

    python minilm_to_gguf.py FOLDER OUT.gguf

FOLDER holds `model.safetensors`, `config.json` and `vocab.txt`. Tensors stay f32. Names and
metadata are those that llama.cpp gives BERT models; the pooler is left out, since sentence vectors
are the mean of the last hidden states.
"""

import json
import struct
import sys
from pathlib import Path

from make_architectures import TYPE_F32, write_gguf

CONTROL, NORMAL = 3, 1
WHOLE = {
    "embeddings.word_embeddings.weight": "token_embd.weight",
    "embeddings.position_embeddings.weight": "position_embd.weight",
    "embeddings.token_type_embeddings.weight": "token_types.weight",
    "embeddings.LayerNorm": "token_embd_norm",
}
LAYER = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}


def new_name(name):
    """None for what the model does not use."""
    if name in WHOLE:
        return WHOLE[name]
    stem, _, end = name.rpartition(".")
    if stem in WHOLE:
        return f"{WHOLE[stem]}.{end}"
    parts = stem.split(".", 3)
    if parts[:2] == ["encoder", "layer"]:
        return f"blk.{parts[2]}.{LAYER[parts[3]]}.{end}"
    return None


def read_safetensors(path):
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    for name, entry in json.loads(data[8 : 8 + length]).items():
        if name != "__metadata__":
            start, end = entry["data_offsets"]
            yield name, entry["dtype"], entry["shape"], data[8 + length + start : 8 + length + end]


def gguf_token(token):
    """A piece that begins a word is written with U+2581, one that goes on without `##`."""
    if token.startswith("[") and token.endswith("]"):
        return token
    return token[2:] if token.startswith("##") else "\u2581" + token


def main(folder, out):
    config = json.loads((folder / "config.json").read_text())
    vocabulary = (folder / "vocab.txt").read_text(encoding="utf-8").split("\n")[:-1]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tensors = {}
    for name, kind, shape, data in read_safetensors(folder / "model.safetensors"):
        if new_name(name):
            assert kind == "F32", name
            tensors[new_name(name)] = (shape[::-1], TYPE_F32, data)
    metadata = {
        "general.architecture": "bert",
        "general.name": "all-MiniLM-L6-v2",
        "bert.context_length": config["max_position_embeddings"],
        "bert.embedding_length": config["hidden_size"],
        "bert.block_count": config["num_hidden_layers"],
        "bert.feed_forward_length": config["intermediate_size"],
        "bert.attention.head_count": config["num_attention_heads"],
        "bert.attention.layer_norm_epsilon": config["layer_norm_eps"],
        "bert.attention.causal": False,
        "bert.pooling_type": 1,
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.tokens": [gguf_token(token) for token in vocabulary],
        "tokenizer.ggml.token_type": [
            CONTROL if token in special else NORMAL for token in vocabulary
        ],
        "tokenizer.ggml.unknown_token_id": vocabulary.index("[UNK]"),
        "tokenizer.ggml.cls_token_id": vocabulary.index("[CLS]"),
        "tokenizer.ggml.seperator_token_id": vocabulary.index("[SEP]"),
    }
    write_gguf(out, metadata, tensors)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
