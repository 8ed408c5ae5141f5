"""Gathers llama.cpp's token ids of one small vocabulary under each `tokenizer.ggml.pre`.

Usage: make_splitters_golden.py FOLDER, the `tokenizers` folder of the golden files: `NAME.jsonl` with a
text and its ids in each line, and `vocab/NAME.gguf`, which differ in that one key. Copies the vocabulary
to splitters.gguf and writes splitters_golden.json, each text once.
"""

import json
import pathlib
import shutil
import sys

PRES = """default gpt-2 smollm starcoder refact command-r llama-bpe lfm2 glm4 chatglm-bpe qwen2 qwen35
exaone4 tekken gpt-4o llama4 minimax-m2 deepseek-v3""".split()

here = pathlib.Path(__file__).parent
folder = pathlib.Path(sys.argv[1])
texts = None
ids = {}
for pre in PRES:
    lines = [json.loads(line) for line in open(folder / f"synthetic-{pre}.jsonl")][1:]
    found = [line["text"] for line in lines]
    texts = texts or found
    assert texts == found, pre
    ids[pre] = [line["plain"] for line in lines]
shutil.copyfile(folder / "vocab/synthetic-default.gguf", here / "splitters.gguf")
with open(here / "splitters_golden.json", "w") as file:
    file.write('{"texts":' + json.dumps(texts, ensure_ascii=True) + ',\n"ids":{\n')
    rows = [f'"{pre}":{json.dumps(row, separators=(",", ":"))}' for pre, row in ids.items()]
    file.write(",\n".join(rows) + "\n}}\n")
