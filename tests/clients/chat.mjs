// Chats through the balancer with the official openai package; prints what it got as JSON.
//
//     node chat.mjs URL KEY MODEL

import OpenAI from "openai";

const [url, key, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries: 0 });
const request = {
  model,
  messages: [{ role: "user", content: "Tell me a story about a fox." }],
  max_tokens: 80,
  temperature: 0.8,
  seed: 7,
};

const whole = await client.chat.completions.create(request);

let streamed = "";
let finish = null;
let usage = null;
const stream = await client.chat.completions.create({
  ...request,
  stream: true,
  stream_options: { include_usage: true },
});
for await (const chunk of stream) {
  for (const choice of chunk.choices) {
    streamed += choice.delta.content ?? "";
    finish = choice.finish_reason ?? finish;
  }
  usage = chunk.usage ?? usage;
}

async function messageOf(promise, kind) {
  try {
    await promise;
    return null;
  } catch (error) {
    if (error instanceof kind) return error.error.message;
    throw error;
  }
}

const unknown = await messageOf(
  client.chat.completions.create({ ...request, model: "no-such-model" }),
  OpenAI.NotFoundError,
);
const stranger = new OpenAI({ baseURL: `${url}/v1`, apiKey: "sk-infera-wrong", maxRetries: 0 });
const wrongKey = await messageOf(stranger.models.list(), OpenAI.AuthenticationError);

const completion = await client.completions.create({
  model,
  prompt: "Once upon a time",
  max_tokens: 20,
  temperature: 0,
});

const models = [];
for await (const entry of client.models.list()) models.push(entry.id);

console.log(
  JSON.stringify({
    models,
    whole: whole.choices[0].message.content,
    whole_finish: whole.choices[0].finish_reason,
    whole_tokens: whole.usage.completion_tokens,
    job: whole.infera.job_id,
    streamed,
    streamed_finish: finish,
    streamed_tokens: usage.completion_tokens,
    unknown_model: unknown,
    wrong_key: wrongKey,
    completion: completion.choices[0].text,
  }),
);
