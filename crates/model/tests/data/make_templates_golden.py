"""Records what Hugging Face's transformers makes of chat templates and conversations.

Usage: make_templates_golden.py FOLDER OUTPUT [NAME ...]
FOLDER holds chat templates (`NAME.jinja`); llama.cpp's `models/templates`, in the git bundle of the npm
package `node-llama-cpp` 3.22.1, has some seventy. Without names, all of them are recorded.
Needs `pip install transformers jinja2` (5.24.0 and 3.1.6 were used).

The templates beside this file are their makers', under the licences in LICENCES.
"""

import datetime
import json
import pathlib
import sys

import jinja2
import transformers
from transformers.utils import chat_template_utils

# Those kept in templates_golden.json. Source: the model cards.
LICENCES = {
    "ByteDance-Seed-OSS": "Apache-2.0",
    "GLM-4.6": "MIT",
    "HuggingFaceTB-SmolLM3-3B": "Apache-2.0",
    "MiMo-VL": "MIT",
    "Mistral-Small-3.2-24B-Instruct-2506": "Apache-2.0",
    "Qwen-QwQ-32B": "Apache-2.0",
    "Qwen-Qwen2.5-7B-Instruct": "Apache-2.0",
    "Qwen-Qwen3-0.6B": "Apache-2.0",
    "Qwen3-Coder": "Apache-2.0",
    "deepseek-ai-DeepSeek-V3.1": "MIT",
    "ibm-granite-granite-3.3-2B-Instruct": "Apache-2.0",
    "ibm-granite-granite-4.0": "Apache-2.0",
    "microsoft-Phi-3.5-mini-instruct": "MIT",
    "mistralai-Mistral-Nemo-Instruct-2407": "Apache-2.0",
    "openai-gpt-oss-120b": "Apache-2.0",
}

NOW = datetime.datetime(2024, 2, 29, 13, 5, 9)
BOS, EOS = "<s>", "</s>"


def turns(*pairs):
    return [{"role": role, "content": content} for role, content in pairs]


CONVERSATIONS = [
    turns(("user", "Hi")),
    turns(("system", "Be brief."), ("user", "Hi")),
    turns(("user", "Hi"), ("assistant", "Hello!"), ("user", "  spaces around  ")),
    turns(("system", ""), ("user", "")),
    turns(("user", "a"), ("assistant", "<think>\nhm\n</think>\n\nb"), ("user", "c")),
    turns(("user", "a"), ("assistant", "b")),
    turns(("user", "a"), ("user", "b")),
    turns(("assistant", "I begin."), ("user", "a")),
    turns(("user", "a"), ("system", "late"), ("user", "b")),
    turns(("system", "s"), ("user", "1"), ("assistant", "2"), ("user", "3"), ("assistant", "4"), ("user", "5")),
    turns(("user", "\u00e9\u4f60\U0001f642 <b>&amp;</b> {{ x }} {% y %} \"q\" 'q' \\n\n\n\tend")),
    turns(("user", "/no_think what?"), ("assistant", ""), ("user", "<|im_end|>\n")),
    [],
]


class Frozen(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


def rendered(source, messages, add_generation_prompt):
    try:
        texts, _ = chat_template_utils.render_jinja_template(
            conversations=[messages],
            chat_template=source,
            add_generation_prompt=add_generation_prompt,
            bos_token=BOS,
            eos_token=EOS,
        )
        return {"text": texts[0]}
    except jinja2.exceptions.TemplateError as error:
        # What `raise_exception` says; the others are the template's own faults.
        if type(error) is jinja2.exceptions.TemplateError:
            return {"raised": error.message}
        return "fails"
    except Exception:
        return "fails"


def main():
    folder, output, *names = sys.argv[1:]
    # `strftime_now` reads the clock.
    chat_template_utils.datetime = Frozen
    files = sorted(pathlib.Path(folder).glob("*.jinja"))
    templates = []
    for file in files:
        name = file.name.removesuffix(".jinja")
        if names and name not in names:
            continue
        source = file.read_text()
        templates.append({
            "name": name,
            "licence": LICENCES.get(name),
            "source": source,
            "outputs": [
                rendered(source, messages, prompt)
                for messages in CONVERSATIONS
                for prompt in (True, False)
            ],
        })
    golden = {
        "by": f"transformers {transformers.__version__}, jinja2 {jinja2.__version__}",
        "now": int(NOW.replace(tzinfo=datetime.timezone.utc).timestamp()),
        "bos": BOS,
        "eos": EOS,
        "conversations": CONVERSATIONS,
        "templates": templates,
    }
    text = json.dumps(golden, ensure_ascii=False, indent=1)
    pathlib.Path(output).write_text(text + "\n")


if __name__ == "__main__":
    main()
