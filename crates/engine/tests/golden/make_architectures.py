"""Makes a tiny model with random weights for each architecture, and its logits in f64.

    python make_architectures.py

writes `*.gguf`, `architectures.jsonl` and `bert.json` beside itself; it needs Python 3.9 and
nothing else.
It shares no code with this repository. Every forward pass follows the architecture's published
definition: the papers, and the model classes of Hugging Face transformers 5 that carry the same
names, whose layout of heads (pairs `i` and `i + d/2`) it uses. The files are written the way
published GGUF files are: query and key rows of `llama` permuted so that pairs stand side by side,
Gemma's norm weights with their 1 added, Phi-3's projections fused.

For each feature of a model the program also computes the logits without it, and stops if they are
hardly different: then a test against them could not fail.
"""

import json
import math
import random
import struct
from pathlib import Path

HERE = Path(__file__).parent
VOCABULARY, WIDTH, HEADS, KV_HEADS, HEAD, INNER = 96, 32, 4, 2, 16, 64
TOKENS, FIRST, CONTEXT = 48, 42, 128

# ---- GGUF ----------------------------------------------------------------------------------------

U32, F32, BOOL, STRING, ARRAY = 4, 6, 7, 8, 9
TYPE_F32, TYPE_F16 = 0, 1


def text(value):
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def encode(value):
    if isinstance(value, bool):
        return BOOL, struct.pack("<?", value)
    if isinstance(value, str):
        return STRING, text(value)
    if isinstance(value, int):
        return U32, struct.pack("<I", value)
    if isinstance(value, float):
        return F32, struct.pack("<f", value)
    kind = encode(value[0])[0]
    items = b"".join(encode(item)[1] for item in value)
    return ARRAY, struct.pack("<IQ", kind, len(value)) + items


def tensor(values):
    """Dims, type and bytes. A matrix is a list of rows and stored as F16, a vector as F32."""
    if isinstance(values[0], list):
        flat = [value for row in values for value in row]
        return [len(values[0]), len(values)], TYPE_F16, struct.pack(f"<{len(flat)}e", *flat)
    return [len(values)], TYPE_F32, struct.pack(f"<{len(values)}f", *values)


def write_gguf(path, metadata, tensors):
    """Each tensor is its dims, type and bytes."""
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(metadata))
    for key, value in metadata.items():
        kind, data = encode(value)
        head += text(key) + struct.pack("<I", kind) + data
    body = bytearray()
    for name, (dims, kind, data) in tensors.items():
        body += b"\0" * (-len(body) % 32)
        head += text(name) + struct.pack("<I", len(dims))
        head += struct.pack(f"<{len(dims)}Q", *dims) + struct.pack("<IQ", kind, len(body))
        body += data
    path.write_bytes(head + b"\0" * (-len(head) % 32) + body)


# ---- weights, exactly as they are stored ---------------------------------------------------------


def stored(value, letter):
    return struct.unpack(letter, struct.pack(letter, value))[0]


def matrix(rng, rows, columns, scale=1.0):
    deviation = scale / math.sqrt(columns)
    return [[stored(rng.gauss(0, deviation), "e") for _ in range(columns)] for _ in range(rows)]


def vector(rng, count, mean, deviation):
    return [stored(rng.gauss(mean, deviation), "f") for _ in range(count)]


# ---- the forward pass ----------------------------------------------------------------------------


def product(weight, inputs):
    return [sum(w * x for w, x in zip(row, inputs)) for row in weight]


def rms_norm(inputs, weight, epsilon):
    scale = 1 / math.sqrt(sum(x * x for x in inputs) / len(inputs) + epsilon)
    return [x * scale * w for x, w in zip(inputs, weight)]


def rotate(head, position, rope):
    frequencies, magnitude = rope
    half = len(frequencies)
    turned = list(head)
    for i, frequency in enumerate(frequencies):
        cosine = math.cos(position * frequency) * magnitude
        sine = math.sin(position * frequency) * magnitude
        turned[i] = head[i] * cosine - head[i + half] * sine
        turned[i + half] = head[i + half] * cosine + head[i] * sine
    return turned


def silu(x):
    return x / (1 + math.exp(-x))


def gelu_tanh(x):
    return 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def soft_cap(x, cap):
    return x if cap is None else cap * math.tanh(x / cap)


def add(one, two):
    return [x + y for x, y in zip(one, two)]


def forward(model, tokens):
    """Logits after each token."""
    config, epsilon = model["config"], model["config"]["epsilon"]
    hidden = [[x * config["embedding_scale"] for x in model["embedding"][t]] for t in tokens]
    for layer, (rope, window) in zip(model["layers"], config["sights"]):
        keys, values, after = [], [], []
        for position, row in enumerate(hidden):
            normed = rms_norm(row, layer["attn_norm"], epsilon)
            heads = {}
            for name in "qkv":
                flat = product(layer[name], normed)
                if config["bias"]:
                    flat = add(flat, layer[name + "_bias"])
                split = [flat[i : i + HEAD] for i in range(0, len(flat), HEAD)]
                if config["qk_norm"] and name != "v":
                    split = [rms_norm(head, layer[name + "_norm"], epsilon) for head in split]
                heads[name] = split if name == "v" else [rotate(h, position, rope) for h in split]
            keys.append(heads["k"])
            values.append(heads["v"])
            oldest = 0 if window is None else max(0, position - window + 1)
            attended = []
            for index, query in enumerate(heads["q"]):
                group = index // (HEADS // KV_HEADS)
                seen = range(oldest, position + 1)
                scores = [
                    soft_cap(
                        sum(q * k for q, k in zip(query, keys[other][group]))
                        * config["attention_scale"],
                        config["attention_cap"],
                    )
                    for other in seen
                ]
                highest = max(scores)
                powers = [math.exp(score - highest) for score in scores]
                total = sum(powers)
                for i in range(HEAD):
                    weighted = (p * values[o][group][i] for p, o in zip(powers, seen))
                    attended.append(sum(weighted) / total)
            output = product(layer["attn_output"], attended)
            if config["post_norms"]:
                output = rms_norm(output, layer["post_attention_norm"], epsilon)
            row = add(row, output)
            normed = rms_norm(row, layer["ffn_norm"], epsilon)
            gate = [config["activation"](x) for x in product(layer["gate"], normed)]
            up = product(layer["up"], normed)
            output = product(layer["down"], [g * u for g, u in zip(gate, up)])
            if config["post_norms"]:
                output = rms_norm(output, layer["post_ffw_norm"], epsilon)
            after.append(add(row, output))
        hidden = after
    return [
        [
            soft_cap(x, config["final_cap"])
            for x in product(model["output"], rms_norm(row, model["output_norm"], epsilon))
        ]
        for row in hidden
    ]


# ---- rotary frequencies --------------------------------------------------------------------------


def plain_rope(base, width=HEAD, factors=None, scale=1.0, magnitude=1.0):
    frequencies = [base ** (-2 * i / width) / scale for i in range(width // 2)]
    if factors:
        frequencies = [f / factor for f, factor in zip(frequencies, factors)]
    return frequencies, magnitude


def llama3_factors(base, factor, low, high, original):
    """What Llama 3.1's rule divides each frequency by."""
    factors = []
    for i in range(HEAD // 2):
        wave = 2 * math.pi / base ** (-2 * i / HEAD)
        if wave < original / high:
            factors.append(1.0)
        elif wave > original / low:
            factors.append(factor)
        else:
            smooth = (original / wave - low) / (high - low)
            factors.append(1 / ((1 - smooth) / factor + smooth))
    return [stored(f, "f") for f in factors]


# ---- models --------------------------------------------------------------------------------------


def make(seed, layers, tied, **config):
    rng = random.Random(seed)
    defaults = {
        "epsilon": stored(1e-5, "f"),
        "embedding_scale": 1.0,
        "bias": False,
        "qk_norm": False,
        "post_norms": False,
        "activation": silu,
        "attention_scale": 1 / math.sqrt(HEAD),
        "attention_cap": None,
        "final_cap": None,
        "norm_mean": 1.0,
        "embedding_deviation": 1.0,
    }
    config = {**defaults, **config}
    norm = lambda count: vector(rng, count, config["norm_mean"], 0.2)
    deviation = config["embedding_deviation"] * math.sqrt(WIDTH)
    embedding = matrix(rng, VOCABULARY, WIDTH, deviation)
    model = {"config": config, "embedding": embedding, "output_norm": norm(WIDTH), "layers": []}
    model["output"] = embedding if tied else matrix(rng, VOCABULARY, WIDTH, 2.0)
    for _ in range(layers):
        layer = {
            "attn_norm": norm(WIDTH),
            "ffn_norm": norm(WIDTH),
            "q": matrix(rng, HEADS * HEAD, WIDTH, 1.5),
            "k": matrix(rng, KV_HEADS * HEAD, WIDTH, 1.5),
            "v": matrix(rng, KV_HEADS * HEAD, WIDTH),
            "attn_output": matrix(rng, WIDTH, HEADS * HEAD, 1.5),
            "gate": matrix(rng, INNER, WIDTH),
            "up": matrix(rng, INNER, WIDTH),
            "down": matrix(rng, WIDTH, INNER),
        }
        if config["bias"]:
            for name, heads in [("q", HEADS), ("k", KV_HEADS), ("v", KV_HEADS)]:
                layer[name + "_bias"] = vector(rng, heads * HEAD, 0.0, 0.5)
        if config["qk_norm"]:
            layer["q_norm"], layer["k_norm"] = norm(HEAD), norm(HEAD)
        if config["post_norms"]:
            layer["post_attention_norm"], layer["post_ffw_norm"] = norm(WIDTH), norm(WIDTH)
        model["layers"].append(layer)
    return model


def interleaved(weight, width=HEAD):
    """Rows of each head so that the pairs `(i, i + d/2)` stand side by side."""
    order = [i // 2 + (i % 2) * (width // 2) for i in range(width)]
    return [weight[start + i] for start in range(0, len(weight), HEAD) for i in order]


def tensors_of(model, architecture):
    tensors = {"token_embd.weight": model["embedding"], "output_norm.weight": model["output_norm"]}
    if model["output"] is not model["embedding"]:
        tensors["output.weight"] = model["output"]
    names = {
        "attn_norm": "attn_norm",
        "ffn_norm": "ffn_norm",
        "attn_output": "attn_output",
        "q": "attn_q",
        "k": "attn_k",
        "v": "attn_v",
        "gate": "ffn_gate",
        "up": "ffn_up",
        "down": "ffn_down",
        "q_norm": "attn_q_norm",
        "k_norm": "attn_k_norm",
        "post_attention_norm": "post_attention_norm",
        "post_ffw_norm": "post_ffw_norm",
    }
    for index, layer in enumerate(model["layers"]):
        layer = dict(layer)
        if architecture == "llama":
            layer["q"], layer["k"] = interleaved(layer["q"]), interleaved(layer["k"])
        if architecture == "phi3":
            tensors[f"blk.{index}.attn_qkv.weight"] = (
                layer.pop("q") + layer.pop("k") + layer.pop("v")
            )
            layer["up"] = layer.pop("gate") + layer["up"]
        for name, values in layer.items():
            if name.endswith("_bias"):
                tensors[f"blk.{index}.attn_{name[0]}.bias"] = values
            else:
                tensors[f"blk.{index}.{names[name]}.weight"] = values
    return tensors


def metadata_of(model, architecture, extra):
    own = {
        "context_length": CONTEXT,
        "embedding_length": WIDTH,
        "block_count": len(model["layers"]),
        "feed_forward_length": INNER,
        "attention.head_count": HEADS,
        "attention.head_count_kv": KV_HEADS,
        "attention.key_length": HEAD,
        "attention.value_length": HEAD,
        "attention.layer_norm_rms_epsilon": model["config"]["epsilon"],
        **extra,
    }
    return {
        "general.architecture": architecture,
        "general.name": f"Random {architecture}",
        **{f"{architecture}.{key}": value for key, value in own.items()},
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [f"t{token}" for token in range(VOCABULARY)],
        "tokenizer.ggml.scores": [float(-token) for token in range(VOCABULARY)],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }


def cases():
    """Name, architecture, model, metadata, extra tensors, and the features that must show."""
    factors = llama3_factors(500000.0, 8.0, 1.0, 4.0, 32)
    rope = plain_rope(500000.0, factors=factors)
    yield (
        "llama3", "llama",
        make(1, 2, False, sights=[(rope, None)] * 2),
        {"rope.freq_base": 500000.0, "rope.dimension_count": HEAD},
        {"rope_freqs.weight": factors},
        [{"sights": [(plain_rope(500000.0), None)] * 2}],
    )
    rope = plain_rope(10000.0, scale=4.0)
    yield (
        "mistral-linear", "llama",
        make(2, 2, True, sights=[(rope, 9)] * 2),
        {
            "rope.freq_base": 10000.0,
            "rope.scaling.type": "linear",
            "rope.scaling.factor": 4.0,
            "attention.sliding_window": 9,
        },
        {},
        [{"sights": [(plain_rope(10000.0), 9)] * 2}, {"sights": [(rope, 10)] * 2}],
    )
    rope = plain_rope(1e6)
    yield (
        "qwen2", "qwen2",
        make(3, 2, False, sights=[(rope, None)] * 2, bias=True),
        {"rope.freq_base": 1e6}, {},
        [{"bias": False}],
    )
    yield (
        "qwen3", "qwen3",
        make(4, 2, True, sights=[(rope, None)] * 2, qk_norm=True),
        {"rope.freq_base": 1e6}, {},
        [{"qk_norm": False}],
    )
    # Gemma's norm weights are stored as 1 + w, and used so here.
    near, far = plain_rope(10000.0), plain_rope(1e6, scale=8.0)
    pattern = lambda near, far: [near] * 5 + [far, near]
    yield (
        "gemma3", "gemma3",
        make(
            5, 7, True,
            sights=pattern((near, 8), (far, None)),
            qk_norm=True,
            post_norms=True,
            activation=gelu_tanh,
            embedding_scale=stored(math.sqrt(WIDTH), "f"),
            embedding_deviation=0.25,
            attention_cap=3.0,
            final_cap=4.0,
        ),
        {
            "rope.freq_base": 1e6,
            "rope.scaling.type": "linear",
            "rope.scaling.factor": 8.0,
            "attention.sliding_window": 8,
            "attn_logit_softcapping": 3.0,
            "final_logit_softcapping": 4.0,
        },
        {},
        [
            {"sights": pattern((near, 9), (far, None))},
            {"sights": pattern((near, 8), (far, 8))},
            {"sights": pattern((near, 8), (near, None))},
            {"sights": pattern((far, 8), (far, None))},
            {"embedding_scale": 1.0},
            {"attention_cap": None},
            {"final_cap": None},
            {"post_norms": False},
            {"activation": silu},
        ],
    )
    # Three quarters of a head are rotated, as in Phi-4-mini.
    rng = random.Random(60)
    rotated, original = 12, 32
    long = [stored(rng.uniform(1, 8), "f") for _ in range(rotated // 2)]
    short = [stored(rng.uniform(1, 1.5), "f") for _ in range(rotated // 2)]
    magnitude = math.sqrt(1 + math.log(CONTEXT / original) / math.log(original))
    rope = plain_rope(10000.0, rotated, long, magnitude=stored(magnitude, "f"))
    yield (
        "phi3", "phi3",
        make(6, 2, False, sights=[(rope, 11)] * 2),
        {
            "rope.freq_base": 10000.0,
            "rope.dimension_count": rotated,
            "rope.scaling.original_context_length": original,
            "rope.scaling.attn_factor": stored(magnitude, "f"),
            "attention.sliding_window": 11,
        },
        {"rope_factors_long.weight": long, "rope_factors_short.weight": short},
        [
            {"sights": [(plain_rope(10000.0, rotated, short, magnitude=magnitude), 11)] * 2},
            {"sights": [(plain_rope(10000.0, rotated, long), 11)] * 2},
            {"sights": [(rope, 12)] * 2},
        ],
    )


# ---- BERT ----------------------------------------------------------------------------------------


def layer_norm(inputs, norm):
    weight, bias = norm
    mean = sum(inputs) / len(inputs)
    variance = sum((x - mean) ** 2 for x in inputs) / len(inputs)
    scale = 1 / math.sqrt(variance + stored(1e-5, "f"))
    return [(x - mean) * scale * w + b for x, w, b in zip(inputs, weight, bias)]


def gelu(x):
    return 0.5 * x * (1 + math.erf(x / math.sqrt(2)))


def bert_embedding(model, tokens):
    """Mean of the last hidden states, at length 1."""
    affine = lambda part, row: add(product(part[0], row), part[1])
    hidden = []
    for position, token in enumerate(tokens):
        row = add(model["tokens"][token], model["positions"][position])
        hidden.append(layer_norm(add(row, model["types"][0]), model["norm"]))
    for layer in model["layers"]:
        projected = {name: [affine(layer[name], row) for row in hidden] for name in "qkv"}
        after = []
        for position, row in enumerate(hidden):
            attended = []
            for start in range(0, WIDTH, WIDTH // HEADS):
                part = slice(start, start + WIDTH // HEADS)
                query = projected["q"][position][part]
                powers = [
                    math.exp(sum(q * k for q, k in zip(query, key[part])) / math.sqrt(len(query)))
                    for key in projected["k"]
                ]
                for i in range(part.start, part.stop):
                    weighted = (p * value[i] for p, value in zip(powers, projected["v"]))
                    attended.append(sum(weighted) / sum(powers))
            output = affine(layer["attn_output"], attended)
            row = layer_norm(add(row, output), layer["attn_output_norm"])
            output = affine(layer["ffn_down"], [gelu(x) for x in affine(layer["ffn_up"], row)])
            after.append(layer_norm(add(row, output), layer["layer_output_norm"]))
        hidden = after
    mean = [sum(column) / len(hidden) for column in zip(*hidden)]
    length = math.sqrt(sum(x * x for x in mean))
    return [x / length for x in mean]


def make_bert():
    rng = random.Random(7)
    norm = lambda: (vector(rng, WIDTH, 1.0, 0.2), vector(rng, WIDTH, 0.0, 0.2))
    affine = lambda rows, columns: (matrix(rng, rows, columns, 1.5), vector(rng, rows, 0.0, 0.3))
    model = {
        "tokens": matrix(rng, VOCABULARY, WIDTH, 4.0),
        "positions": matrix(rng, CONTEXT, WIDTH, 4.0),
        "types": matrix(rng, 2, WIDTH, 4.0),
        "norm": norm(),
        "layers": [
            {
                **{name: affine(WIDTH, WIDTH) for name in ["q", "k", "v", "attn_output"]},
                "ffn_up": affine(INNER, WIDTH),
                "ffn_down": affine(WIDTH, INNER),
                "attn_output_norm": norm(),
                "layer_output_norm": norm(),
            }
            for _ in range(2)
        ],
    }
    tensors = {
        "token_embd.weight": model["tokens"],
        "position_embd.weight": model["positions"],
        "token_types.weight": model["types"],
        "token_embd_norm.weight": model["norm"][0],
        "token_embd_norm.bias": model["norm"][1],
    }
    for index, layer in enumerate(model["layers"]):
        for name, (weight, bias) in layer.items():
            name = f"attn_{name}" if name in "qkv" else name
            tensors[f"blk.{index}.{name}.weight"] = weight
            tensors[f"blk.{index}.{name}.bias"] = bias
    metadata = {
        "general.architecture": "bert",
        "general.name": "Random bert",
        "bert.context_length": CONTEXT,
        "bert.embedding_length": WIDTH,
        "bert.block_count": 2,
        "bert.feed_forward_length": INNER,
        "bert.attention.head_count": HEADS,
        "bert.attention.layer_norm_epsilon": 1e-5,
        "bert.attention.causal": False,
        "bert.pooling_type": 1,
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.tokens": [f"\u2581t{token}" for token in range(VOCABULARY)],
    }
    write_gguf(HERE / "bert.gguf", metadata, {name: tensor(t) for name, t in tensors.items()})
    texts = [[rng.randrange(VOCABULARY) for _ in range(length)] for length in (1, 7, 40)]
    golden = [
        {"ids": ids, "embedding": [round(x, 7) for x in bert_embedding(model, ids)]}
        for ids in texts
    ]
    (HERE / "bert.json").write_text(json.dumps(golden) + "\n")


def difference(one, two):
    return max(abs(x - y) for a, b in zip(one, two) for x, y in zip(a, b))


def main():
    lines = []
    for name, architecture, model, extra, extra_tensors, features in cases():
        rng = random.Random(name)
        tokens = [rng.randrange(VOCABULARY) for _ in range(TOKENS)]
        logits = forward(model, tokens)[FIRST:]
        for change in features:
            other = {**model, "config": {**model["config"], **change}}
            found = difference(logits, forward(other, tokens)[FIRST:])
            print(f"{name}: without {', '.join(change)} logits differ by {found:.3f}")
            assert found > 0.01
        path = HERE / f"{name}.gguf"
        tensors = {**tensors_of(model, architecture), **extra_tensors}
        tensors = {name: tensor(values) for name, values in tensors.items()}
        write_gguf(path, metadata_of(model, architecture, extra), tensors)
        rounded = [[round(x, 6) for x in row] for row in logits]
        line = {"file": path.name, "tokens": tokens, "first": FIRST, "logits": rounded}
        lines.append(json.dumps(line) + "\n")
        print(f"{name}: {path.stat().st_size} bytes, highest logit {max(map(max, logits)):.2f}")
    (HERE / "architectures.jsonl").write_text("".join(lines))
    make_bert()


if __name__ == "__main__":
    main()
