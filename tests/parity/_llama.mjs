// Greedy texts of llama.cpp, all prompts at once. Standard input: {model, adapter?, prompts: [[token, …], …], tokens, threads};
// standard output: for each prompt the tokens behind it, and how many tokens a second came in all.
import {readFileSync} from "node:fs";
import {getLlama} from "node-llama-cpp";

const {model: modelPath, adapter, prompts, tokens, threads = 1} = JSON.parse(readFileSync(0, "utf8"));
const llama = await getLlama({gpu: false, build: "never", progressLogs: false, logLevel: "error", maxThreads: threads});
const model = await llama.loadModel({modelPath});
const contextSize = Math.max(...prompts.map((prompt) => prompt.length)) + tokens + 8;
// Keys and values in float16, its default, would move logits by hundredths.
const context = await model.createContext({
  experimentalKvCacheKeyType: "F32", experimentalKvCacheValueType: "F32", flashAttention: false,
  contextSize, sequences: prompts.length, batchSize: contextSize * prompts.length, threads,
  ...(adapter ? {lora: {adapters: [{filePath: adapter}]}} : {})});

async function follow(prompt) {
  const answer = [];
  for await (const token of context.getSequence().evaluate(prompt, {temperature: 0, yieldEogToken: true})) {
    answer.push(token);
    if (answer.length === tokens) break;
  }
  return answer;
}

const begin = performance.now();
const texts = await Promise.all(prompts.map(follow));
const seconds = (performance.now() - begin) / 1000;
process.stdout.write(JSON.stringify({texts, tokens_per_s: texts.flat().length / seconds}));
await llama.dispose();
