"""Makes tiny-llama.gguf and golden.jsonl: a trained Llama model small enough to commit.

    python3 -m venv VENV && VENV/bin/pip install \\
        jax==0.8.3 jaxlib==0.8.3 numpy==2.4.6 tokenizers==0.23.3 gguf==0.19.0
    OMP_NUM_THREADS=1 VENV/bin/python tests/model/train.py

The script writes its own training text with a seeded grammar, trains a byte-level BPE
tokenizer and the model on it, stores both as GGUF, reads the file back and runs it through a
second forward pass in numpy float64, which shares no code with the training, for the golden data.
"""

import json
import os
import random
import time
from pathlib import Path

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import gguf
import jax
import jax.numpy as jnp
import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

HERE = Path(__file__).resolve().parent
SEED = 20261122

VOCABULARY = 640
EMBEDDING = 128
LAYERS = 3
HEADS = 4
KV_HEADS = 2
HEAD_DIM = EMBEDDING // HEADS
FEED_FORWARD = 192
CONTEXT = 512
ROPE_BASE = 10000.0
EPSILON = 1e-5

END_OF_TEXT, IM_START, IM_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIAL = [END_OF_TEXT, IM_START, IM_END]

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

# (sequence length, sequences per step, steps): short windows first, then the whole context.
PHASES = [(128, 16, 900), (512, 4, 150)]
PEAK_RATE = 4e-3
WARM_UP = 60


# ---- the text -------------------------------------------------------------------------------

ANIMALS = {
    # animal: (home, colour, what it likes, picture)
    "fox": ("forest", "red", "warm bread", "🦊"),
    "cat": ("old house", "grey", "cold milk", "🐈"),
    "dog": ("farm", "brown", "long walks", "🐕"),
    "bear": ("cave", "black", "sweet honey", "🐻"),
    "frog": ("pond", "green", "summer rain", "🐸"),
    "mouse": ("barn", "white", "yellow cheese", "🐭"),
    "rabbit": ("meadow", "brown", "crisp carrots", "🐇"),
    "whale": ("sea", "blue", "quiet songs", "🐋"),
    "duck": ("river", "yellow", "small fish", "🦆"),
    "horse": ("valley", "black", "green apples", "🐎"),
}
NAMES = ["Mia", "Tom", "Zoë", "Ben", "Lena", "Åsa", "Max", "Nora", "Paul", "Ida", "René", "Sam"]
PLACES = ["forest", "valley", "village", "garden", "river", "meadow", "hill", "sea"]
THINGS = ["lamp", "boat", "book", "key", "bell", "kite", "drum", "map", "basket", "red ball"]
TRAITS = ["small", "kind", "brave", "quiet", "clever", "old", "happy", "shy", "curious"]
WEATHER = ["sunny", "rainy", "windy", "cold", "warm", "foggy"]
FEELINGS = ["happy", "tired", "proud", "glad", "surprised", "calm"]
COLOURS = {
    "sky": "blue", "grass": "green", "snow": "white", "sun": "yellow", "night": "black",
    "sea": "blue", "rose": "red", "moon": "white",
}
NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
SYSTEM_PROMPTS = [
    "You are a kind storyteller.",
    "You are a helpful assistant.",
    "Answer in short sentences.",
]


def story(rng, sentences, animal=None, name=None):
    """One small story; the hero's animal, name and thing stay the same throughout."""
    animal = animal or rng.choice(list(ANIMALS))
    name = name or rng.choice(NAMES)
    friend = rng.choice([other for other in NAMES if other != name])
    friend_animal = rng.choice([other for other in ANIMALS if other != animal])
    home, colour, likes, _ = ANIMALS[animal]
    thing = rng.choice(THINGS)
    trait = rng.choice(TRAITS)
    opening = rng.choice([
        f"Once upon a time there was a {trait} {animal} named {name}.",
        f"In the {home} lived a {trait} {animal} named {name}.",
        f"There was once a {animal} named {name}, who was very {trait}.",
    ])
    middle = [
        lambda: f"{name} wanted to find a {thing}.",
        lambda: f"One {rng.choice(WEATHER)} day {name} went to the {rng.choice(PLACES)}.",
        lambda: f"There {name} met a {friend_animal} named {friend}.",
        lambda: f"\"Have you seen my {thing}?\" asked {name}.",
        lambda: f"\"Yes,\" said {friend}, \"it is near the {rng.choice(PLACES)}.\"",
        lambda: f"\"No,\" said {friend}, \"but I can help you.\"",
        lambda: f"They walked for {rng.choice(NUMBERS[2:])} hours.",
        lambda: f"{name} was {rng.choice(FEELINGS)}, because the {animal} liked {likes}.",
        lambda: f"The {rng.choice(PLACES)} was dark and the wind was {rng.choice(['loud', 'cold', 'strong'])}.",
        lambda: f"Then they saw a {rng.choice(list(COLOURS.values()))} light behind the {rng.choice(['tree', 'wall', 'stone', 'door'])}.",
        lambda: f"{friend} gave {name} a {rng.choice(THINGS)}.",
        lambda: f"{name} looked under a {rng.choice(['tree', 'stone', 'bridge', 'leaf'])} and found the {thing}.",
        lambda: f"It began to {rng.choice(['rain', 'snow', 'get dark'])}, so they went home.",
        lambda: f"{name} sang a song about the {rng.choice(['moon', 'sea', 'sun', 'rain'])}.",
        lambda: f"The {friend_animal} laughed and the {animal} laughed too.",
        lambda: f"They ate {likes} and told stories until the night was over.",
    ]
    body = [make() for make in rng.choices(middle, k=sentences)]
    ending = rng.choice([
        f"From that day on {name} and {friend} were good friends.",
        f"In the evening {name} was {rng.choice(FEELINGS)} and slept well.",
        f"{name} kept the {thing} for ever.",
    ])
    return " ".join([opening, *body, ending])


def exchange(rng):
    """One question and its answer."""
    kind = rng.random()
    animal = rng.choice(list(ANIMALS))
    home, colour, likes, picture = ANIMALS[animal]
    name = rng.choice(NAMES)
    if kind < 0.34:
        question = rng.choice([
            f"Tell me a story about a {animal}.",
            f"Please tell me a story about a {animal}.",
            f"Can you write a story about a {animal}?",
        ])
        return question, story(rng, rng.randint(4, 8), animal=animal)
    if kind < 0.46:
        return f"Tell me a long story about a {animal}.", story(rng, rng.randint(12, 16), animal=animal)
    if kind < 0.54:
        return (f"Tell me a story about a {animal} named {name}.",
                story(rng, rng.randint(3, 6), animal=animal, name=name))
    if kind < 0.61:
        return f"Where does the {animal} live?", f"The {animal} lives in the {home}."
    if kind < 0.68:
        return f"What does the {animal} like?", f"The {animal} likes {likes}."
    if kind < 0.75:
        thing = rng.choice(list(COLOURS))
        return f"What colour is the {thing}?", f"The {thing} is {COLOURS[thing]}."
    if kind < 0.79:
        return f"What colour is the {animal}?", f"The {animal} is {colour}."
    if kind < 0.86:
        a, b = rng.randint(0, 5), rng.randint(0, 5)
        return f"What is {a} plus {b}?", f"{a} plus {b} is {a + b}."
    if kind < 0.91:
        a = rng.randint(1, 5)
        b = rng.randint(a + 1, 9)
        return f"Count from {a} to {b}.", ", ".join(str(n) for n in range(a, b + 1)) + "."
    if kind < 0.94:
        return f"Draw a {animal}.", f"Here is a {animal}: {picture}"
    if kind < 0.97:
        return f"Say hello to {name}.", f"Hello, {name}! How are you today?"
    return "Who are you?", "I am a very small model. I tell small stories."


def chat(rng):
    """A conversation of one to three turns in ChatML."""
    parts = []
    if rng.random() < 0.3:
        parts.append(("system", rng.choice(SYSTEM_PROMPTS)))
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        question, answer = exchange(rng)
        parts += [("user", question), ("assistant", answer)]
    return "".join(f"{IM_START}{role}\n{text}{IM_END}\n" for role, text in parts)


def documents(seed, count):
    rng = random.Random(seed)
    return [chat(rng) if rng.random() < 0.75 else story(rng, rng.randint(4, 10)) for _ in range(count)]


# ---- the tokenizer --------------------------------------------------------------------------

def train_tokenizer(texts):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    ))
    assert tokenizer.get_vocab_size() == VOCABULARY
    return tokenizer


# ---- the model, for training (JAX, float32) -------------------------------------------------

def initial_weights(key):
    def normal(key, *shape, scale=0.02):
        return scale * jax.random.normal(key, shape, jnp.float32)

    keys = iter(jax.random.split(key, 1 + 7 * LAYERS))
    kv = KV_HEADS * HEAD_DIM
    deep = 0.02 / np.sqrt(2 * LAYERS)
    weights = {
        "token_embd": normal(next(keys), VOCABULARY, EMBEDDING),
        "output_norm": jnp.ones(EMBEDDING),
    }
    for layer in range(LAYERS):
        weights |= {
            f"blk.{layer}.attn_norm": jnp.ones(EMBEDDING),
            f"blk.{layer}.attn_q": normal(next(keys), EMBEDDING, EMBEDDING),
            f"blk.{layer}.attn_k": normal(next(keys), kv, EMBEDDING),
            f"blk.{layer}.attn_v": normal(next(keys), kv, EMBEDDING),
            f"blk.{layer}.attn_output": normal(next(keys), EMBEDDING, EMBEDDING, scale=deep),
            f"blk.{layer}.ffn_norm": jnp.ones(EMBEDDING),
            f"blk.{layer}.ffn_gate": normal(next(keys), FEED_FORWARD, EMBEDDING),
            f"blk.{layer}.ffn_up": normal(next(keys), FEED_FORWARD, EMBEDDING),
            f"blk.{layer}.ffn_down": normal(next(keys), EMBEDDING, FEED_FORWARD, scale=deep),
        }
    return weights


def rms_norm(x, weight):
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + EPSILON) * weight


def rotate(x):
    """RoPE on pairs of neighbours (2i, 2i+1), the order of Llama GGUF files. x: [batch, time, heads, dim]"""
    time_steps = x.shape[1]
    rates = ROPE_BASE ** (-np.arange(0, HEAD_DIM, 2) / HEAD_DIM)
    angles = np.arange(time_steps)[:, None] * rates[None, :]
    cosine, sine = (jnp.asarray(f(angles), jnp.float32)[None, :, None, :] for f in (np.cos, np.sin))
    even, odd = x[..., 0::2], x[..., 1::2]
    return jnp.stack([even * cosine - odd * sine, even * sine + odd * cosine], axis=-1).reshape(x.shape)


def logits_of(weights, ids):
    batch, steps = ids.shape
    x = weights["token_embd"][ids]
    mask = jnp.tril(jnp.ones((steps, steps), bool))
    for layer in range(LAYERS):
        w = lambda name: weights[f"blk.{layer}.{name}"]
        h = rms_norm(x, w("attn_norm"))
        q = rotate((h @ w("attn_q").T).reshape(batch, steps, HEADS, HEAD_DIM))
        k = rotate((h @ w("attn_k").T).reshape(batch, steps, KV_HEADS, HEAD_DIM))
        v = (h @ w("attn_v").T).reshape(batch, steps, KV_HEADS, HEAD_DIM)
        k, v = (jnp.repeat(t, HEADS // KV_HEADS, axis=2) for t in (k, v))
        scores = jnp.einsum("bthd,bshd->bhts", q, k) / np.sqrt(HEAD_DIM)
        attention = jax.nn.softmax(jnp.where(mask, scores, -1e30), axis=-1)
        x = x + jnp.einsum("bhts,bshd->bthd", attention, v).reshape(batch, steps, EMBEDDING) @ w("attn_output").T
        h = rms_norm(x, w("ffn_norm"))
        x = x + (jax.nn.silu(h @ w("ffn_gate").T) * (h @ w("ffn_up").T)) @ w("ffn_down").T
    return rms_norm(x, weights["output_norm"]) @ weights["token_embd"].T


def loss_of(weights, ids):
    log_probabilities = jax.nn.log_softmax(logits_of(weights, ids[:, :-1]))
    return -jnp.mean(jnp.take_along_axis(log_probabilities, ids[:, 1:, None], axis=-1))


@jax.jit
def adam_step(weights, first, second, ids, step, rate):
    loss, gradient = jax.value_and_grad(loss_of)(weights, ids)
    norm = jnp.sqrt(sum(jnp.sum(g * g) for g in jax.tree.leaves(gradient)))
    gradient = jax.tree.map(lambda g: g * jnp.minimum(1.0, 1.0 / norm), gradient)
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradient)
    second = jax.tree.map(lambda v, g: 0.98 * v + 0.02 * g * g, second, gradient)

    def update(w, m, v):
        decay = 0.05 * w if w.ndim == 2 else 0.0
        return w - rate * (m / (1 - 0.9 ** step) / (jnp.sqrt(v / (1 - 0.98 ** step)) + 1e-8) + decay)

    return jax.tree.map(update, weights, first, second), first, second, loss


def train(stream, held_out):
    weights = initial_weights(jax.random.PRNGKey(SEED))
    first = jax.tree.map(jnp.zeros_like, weights)
    second = jax.tree.map(jnp.zeros_like, weights)
    rng = np.random.default_rng(SEED)
    total = sum(steps for _, _, steps in PHASES)
    step, started = 0, time.monotonic()
    for length, batch, steps in PHASES:
        for _ in range(steps):
            step += 1
            rate = PEAK_RATE * min(step / WARM_UP, 0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * step / total)))
            starts = rng.integers(0, len(stream) - length - 1, batch)
            ids = np.stack([stream[start:start + length + 1] for start in starts])
            weights, first, second, loss = adam_step(weights, first, second, ids, step, rate)
            if step % 100 == 0 or step == total:
                print(f"step {step:5}/{total}  loss {float(loss):.3f}  {time.monotonic() - started:4.0f} s", flush=True)
    windows = np.stack([held_out[i * 512:i * 512 + 513] for i in range(12)])
    print(f"held-out loss {float(loss_of(weights, windows)):.3f} nats a token; uniform would be {np.log(VOCABULARY):.3f}")
    return {name: np.asarray(value) for name, value in weights.items()}


# ---- the file -------------------------------------------------------------------------------

def write_gguf(path, weights, tokenizer):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("Infera Tiny")
    writer.add_description("A very small Llama model for tests, trained on text from a seeded grammar")
    writer.add_author("The Infera Node authors")
    writer.add_license("MIT OR Apache-2.0")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_block_count(LAYERS)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(EMBEDDING)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(EPSILON)
    writer.add_rope_freq_base(ROPE_BASE)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_vocab_size(VOCABULARY)

    data = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(data["vocab"], key=data["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([
        gguf.TokenType.CONTROL if token in SPECIAL else gguf.TokenType.NORMAL for token in tokens
    ])
    writer.add_token_merges([" ".join(pair) for pair in data["merges"]])
    writer.add_bos_token_id(tokens.index(IM_START))
    writer.add_eos_token_id(tokens.index(IM_END))
    writer.add_eot_token_id(tokens.index(END_OF_TEXT))
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)

    for name, value in weights.items():
        writer.add_tensor(f"{name}.weight", np.ascontiguousarray(value, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


# ---- the golden data: a second forward pass, from the file, in float64 -----------------------

class Reference:
    """Runs the GGUF file one position at a time in float64. [heads, dim] per position; pairs as complex numbers."""

    def __init__(self, path):
        reader = gguf.GGUFReader(path)
        self.tensors = {t.name: np.array(t.data, np.float64) for t in reader.tensors}
        field = lambda key: reader.fields[key].contents()
        self.layers = field("llama.block_count")
        self.heads = field("llama.attention.head_count")
        self.kv_heads = field("llama.attention.head_count_kv")
        self.epsilon = field("llama.attention.layer_norm_rms_epsilon")
        dim = field("llama.rope.dimension_count")
        self.rates = field("llama.rope.freq_base") ** (-2.0 * np.arange(dim // 2) / dim)
        self.cache = [([], []) for _ in range(self.layers)]
        self.position = 0

    def norm(self, x, name):
        return x / np.sqrt(np.square(x).mean() + self.epsilon) * self.tensors[name]

    def turn(self, rows):
        pairs = rows.reshape(len(rows), -1, 2)
        turned = (pairs[..., 0] + 1j * pairs[..., 1]) * np.exp(1j * self.position * self.rates)
        return np.stack([turned.real, turned.imag], axis=-1).reshape(rows.shape)

    def step(self, token):
        """Takes one token id; returns the logits for the next one."""
        x = self.tensors["token_embd.weight"][token]
        for layer, (keys, values) in enumerate(self.cache):
            w = lambda name: self.tensors[f"blk.{layer}.{name}.weight"]
            h = self.norm(x, f"blk.{layer}.attn_norm.weight")
            queries = self.turn((w("attn_q") @ h).reshape(self.heads, -1))
            keys.append(self.turn((w("attn_k") @ h).reshape(self.kv_heads, -1)))
            values.append((w("attn_v") @ h).reshape(self.kv_heads, -1))
            mixed = []
            for head, query in enumerate(queries):
                group = head * self.kv_heads // self.heads
                scores = np.array([key[group] @ query for key in keys]) / np.sqrt(len(query))
                shares = np.exp(scores - scores.max())
                mixed.append(sum(s * value[group] for s, value in zip(shares / shares.sum(), values)))
            x = x + w("attn_output") @ np.concatenate(mixed)
            h = self.norm(x, f"blk.{layer}.ffn_norm.weight")
            gate = w("ffn_gate") @ h
            x = x + w("ffn_down") @ (gate / (1 + np.exp(-gate)) * (w("ffn_up") @ h))
        self.position += 1
        return self.tensors["token_embd.weight"] @ self.norm(x, "output_norm.weight")


def write_golden(model_path, golden_path, tokenizer):
    messages = [{"role": "user", "content": "Tell me a story about a fox."}]
    chat_prompt = f"{IM_START}user\n{messages[0]['content']}{IM_END}\n{IM_START}assistant\n"
    cases = [
        ("story", "Once upon a time there was", None),
        ("quote", "\"Have you seen my", None),
        ("chat", chat_prompt, messages),
    ]
    with open(golden_path, "w", encoding="utf-8") as out:
        for name, prompt, chat_messages in cases:
            prompt_ids = tokenizer.encode(prompt, add_special_tokens=False).ids
            model = Reference(model_path)
            for token in prompt_ids:
                logits = model.step(token)
            greedy, top5, margins = [], [], []
            for _ in range(60):
                order = np.argsort(-logits)[:5]
                if len(top5) < 8:
                    top5.append([[int(i), round(float(logits[i]), 5)] for i in order])
                margins.append(float(logits[order[0]] - logits[order[1]]))
                greedy.append(int(order[0]))
                logits = model.step(greedy[-1])
            out.write(json.dumps({
                "name": name,
                "prompt": prompt,
                "messages": chat_messages,
                "prompt_ids": prompt_ids,
                "greedy_ids": greedy,
                "greedy_text": tokenizer.decode(greedy, skip_special_tokens=False),
                "smallest_margin": round(min(margins), 5),
                "top5": top5,
            }, ensure_ascii=False) + "\n")
            print(f"[{name}] smallest margin {min(margins):.4f}: {tokenizer.decode(greedy, skip_special_tokens=False)!r}")


def show_samples(model_path, tokenizer, questions, temperature=0.8):
    rng = np.random.default_rng(SEED)
    end = tokenizer.token_to_id(IM_END)
    for question in questions:
        model = Reference(model_path)
        prompt = f"{IM_START}user\n{question}{IM_END}\n{IM_START}assistant\n"
        for token in tokenizer.encode(prompt, add_special_tokens=False).ids:
            logits = model.step(token)
        ids = []
        while len(ids) < 300:
            noise = rng.gumbel(size=len(logits))
            token = int(np.argmax(logits / temperature + noise))
            ids.append(token)
            if token == end:
                break
            logits = model.step(token)
        print(f"{question}  ({len(ids)} tokens)\n    {tokenizer.decode(ids, skip_special_tokens=False)}")


def main():
    texts = documents(SEED, 16000)
    tokenizer = train_tokenizer(texts[:4000])
    end = tokenizer.token_to_id(END_OF_TEXT)

    def stream_of(texts):
        return np.array([i for text in texts for i in [*tokenizer.encode(text, add_special_tokens=False).ids, end]], np.int32)

    stream = stream_of(texts)
    print(f"{len(stream)} training tokens")
    weights = train(stream, stream_of(documents(SEED + 1, 200)))
    print(f"{sum(w.size for w in weights.values())} parameters")
    model_path, golden_path = HERE / "tiny-llama.gguf", HERE / "golden.jsonl"
    write_gguf(model_path, weights, tokenizer)
    print(f"{model_path.name}: {model_path.stat().st_size} bytes")
    write_golden(model_path, golden_path, tokenizer)
    show_samples(model_path, tokenizer, [
        "Tell me a story about a fox.", "Tell me a long story about a whale.", "What is 2 plus 3?",
        "Where does the frog live?", "Draw a bear.", "Say hello to Zoë.",
    ])


if __name__ == "__main__":
    main()
