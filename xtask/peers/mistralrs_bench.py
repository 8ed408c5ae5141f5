"""Measures mistral.rs on one GGUF file and prints one line of JSON.

Usage: python mistralrs_bench.py MODEL.gguf DECODE_TOKENS
"""

import json
import os
import sys
import time

from mistralrs import CompletionRequest, Runner, Which

# About as many: it is asked in words.
PROMPT_TOKENS = 128

path, decode_tokens = sys.argv[1], int(sys.argv[2])
begun = time.perf_counter()
runner = Runner(
    which=Which.GGUF(
        quantized_model_id=os.path.dirname(path), quantized_filename=os.path.basename(path)
    ),
    no_paged_attn=True,
)
load_ms = (time.perf_counter() - begun) * 1000


def ask(words, tokens):
    """The usage of one greedy completion of a prompt of about as many tokens as words."""
    prompt = " ".join(f"w{index}" for index in range(words))
    request = CompletionRequest(
        model="", prompt=prompt, max_tokens=tokens, temperature=0.0, top_k=1
    )
    begun = time.perf_counter()
    usage = runner.send_completion_request(request).usage
    return usage, (time.perf_counter() - begun) * 1000


first, ttft_ms = ask(12, 1)
words = round(12 * PROMPT_TOKENS / first.prompt_tokens)
usages = [ask(words, decode_tokens)[0] for _ in range(3)]


def median(figure):
    return sorted(figure(usage) for usage in usages)[1]


print(
    json.dumps(
        {
            "device": "mistral.rs cpu",
            "load_ms": load_ms,
            "ttft_ms": ttft_ms,
            "prefill": [
                {"tokens": PROMPT_TOKENS, "tok_s": median(lambda usage: usage.avg_prompt_tok_per_sec)}
            ],
            "decode": [
                {
                    "batch": 1,
                    "context": PROMPT_TOKENS,
                    "tok_s": median(lambda usage: usage.avg_compl_tok_per_sec),
                }
            ],
        }
    )
)
