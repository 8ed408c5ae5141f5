// Measures llama.cpp on one model file and prints one line of JSON.
// Usage: node llama_cpp.mjs MODEL.gguf cpu|vulkan THREADS PREFILL_TOKENS,... DECODE_TOKENS BATCH,...
import {getLlama} from "node-llama-cpp";

const [modelPath, device, threads, prefills, decodeTokens, batches] = process.argv.slice(2);
const gpu = device === "vulkan" ? "vulkan" : false;
const numbers = (list) => list.split(",").map(Number);
const median = (values) => values.sort((one, two) => one - two)[values.length >> 1];
const runs = gpu ? 1 : 3;
const started = performance.now();
const llama = await getLlama({gpu, build: "never", maxThreads: Number(threads), logLevel: "error"});
const model = await llama.loadModel({modelPath, ...(gpu ? {gpuLayers: "max"} : {})});
const loadMs = performance.now() - started;

async function inContext(sequences, contextSize, measure) {
    const context = await model.createContext({contextSize, batchSize: 512, threads: Number(threads), sequences});
    try {
        return await measure(Array.from({length: sequences}, () => context.getSequence()));
    } finally {
        await context.dispose();
    }
}

const prompt = (count, number = 0) => Array.from({length: count}, (_, index) => 1000 + (index * 37 + number * 11) % 5000);
const greedy = {temperature: 0, yieldEogToken: true};

async function firstToken(sequence, count) {
    await sequence.clearHistory();
    const begun = performance.now();
    for await (const _ of sequence.evaluate(prompt(count), greedy)) break;
    return performance.now() - begun;
}

// Tokens a second from the moment that every sequence has its first token.
async function decodeSpeed(sequences, context) {
    let together = 0, counted = 0, last = 0, waiting = sequences.length;
    await Promise.all(sequences.map(async (sequence, number) => {
        await sequence.clearHistory();
        let produced = 0;
        for await (const _ of sequence.evaluate(prompt(context, number), greedy)) {
            last = performance.now();
            if (produced === 0 && --waiting === 0) together = last;
            else if (waiting === 0) counted++;
            if (++produced > decodeTokens) break;
        }
    }));
    return counted / ((last - together) / 1000);
}

const {cold, prefill} = await inContext(1, 1024, async ([sequence]) => {
    const cold = await firstToken(sequence, 32);
    const prefill = [];
    for (const tokens of numbers(prefills)) {
        const times = [];
        for (let run = 0; run < runs; run++) times.push(await firstToken(sequence, tokens));
        prefill.push({tokens, tok_s: tokens / (median(times) / 1000)});
    }
    return {cold, prefill};
});

const decode = [];
for (const batch of numbers(batches)) {
    decode.push(await inContext(batch, 256, async (sequences) => {
        const speeds = [];
        for (let run = 0; run < runs; run++) speeds.push(await decodeSpeed(sequences, 128));
        return {batch, context: 128, tok_s: median(speeds)};
    }));
}
console.log(JSON.stringify({device: `llama.cpp ${device}`, load_ms: loadMs, ttft_ms: cold, prefill, decode}));
process.exit(0);
