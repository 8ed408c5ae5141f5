// Measures llama.cpp on one model file and prints one line of JSON.
// Usage: node llama_cpp.mjs MODEL.gguf cpu|vulkan THREADS PREFILL_TOKENS,... DECODE_TOKENS
import {getLlama} from "node-llama-cpp";

const [modelPath, device, threads, prefills, decodeTokens] = process.argv.slice(2);
const gpu = device === "vulkan" ? "vulkan" : false;
const started = performance.now();
const llama = await getLlama({gpu, build: "never", maxThreads: Number(threads), logLevel: "error"});
const model = await llama.loadModel({modelPath, ...(gpu ? {gpuLayers: "max"} : {})});
const loadMs = performance.now() - started;
const context = await model.createContext({contextSize: 1024, batchSize: 512, threads: Number(threads), sequences: 1});
const sequence = context.getSequence();
const prompt = (count) => Array.from({length: count}, (_, index) => 1000 + (index * 37) % 5000);

async function firstToken(count) {
    await sequence.clearHistory();
    const begun = performance.now();
    for await (const _ of sequence.evaluate(prompt(count), {temperature: 0, yieldEogToken: true})) break;
    return performance.now() - begun;
}

const cold = await firstToken(32);
const prefill = [];
for (const count of prefills.split(",").map(Number)) {
    const times = [];
    for (let run = 0; run < (gpu ? 1 : 3); run++) times.push(await firstToken(count));
    times.sort((one, two) => one - two);
    prefill.push({tokens: count, tok_s: count / (times[times.length >> 1] / 1000)});
}

await sequence.clearHistory();
let produced = 0, begun = 0;
for await (const _ of sequence.evaluate(prompt(32), {temperature: 0, yieldEogToken: true})) {
    if (produced === 0) begun = performance.now();
    if (++produced > Number(decodeTokens)) break;
}
const decode = [{batch: 1, context: 32, tok_s: (produced - 1) / ((performance.now() - begun) / 1000)}];
console.log(JSON.stringify({device: `llama.cpp ${device}`, load_ms: loadMs, ttft_ms: cold, prefill, decode}));
process.exit(0);
