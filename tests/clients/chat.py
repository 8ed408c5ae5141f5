"""Chats through the balancer with the official openai package; prints what it got as JSON.

    chat.py URL KEY MODEL
"""

import json
import sys

import openai

url, key, model = sys.argv[1:]
client = openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)
request = {
    "model": model,
    "messages": [{"role": "user", "content": "Tell me a story about a fox."}],
    "max_tokens": 80,
    "temperature": 0.8,
    "seed": 7,
}

whole = client.chat.completions.create(**request)

pieces, finish, usage = [], None, None
stream = client.chat.completions.create(**request, stream=True, stream_options={"include_usage": True})
for chunk in stream:
    for choice in chunk.choices:
        pieces.append(choice.delta.content or "")
        finish = choice.finish_reason or finish
    usage = chunk.usage or usage

try:
    client.chat.completions.create(**{**request, "model": "no-such-model"})
    unknown_model = None
except openai.NotFoundError as error:
    unknown_model = error.body["message"]

try:
    openai.OpenAI(base_url=f"{url}/v1", api_key="sk-infera-wrong", max_retries=0).models.list()
    wrong_key = None
except openai.AuthenticationError as error:
    wrong_key = error.body["message"]

completion = client.completions.create(model=model, prompt="Once upon a time", max_tokens=20, temperature=0)

print(json.dumps({
    "models": [entry.id for entry in client.models.list()],
    "whole": whole.choices[0].message.content,
    "whole_finish": whole.choices[0].finish_reason,
    "whole_tokens": whole.usage.completion_tokens,
    "job": whole.infera["job_id"],
    "streamed": "".join(pieces),
    "streamed_finish": finish,
    "streamed_tokens": usage.completion_tokens,
    "unknown_model": unknown_model,
    "wrong_key": wrong_key,
    "completion": completion.choices[0].text,
}))
