#!/usr/bin/env node
// The flags of llama.cpp's llama-completion that examples/train_and_ask.sh gives, for npm node-llama-cpp: the greedy answer to a
// prompt with control tokens in it.
import {getLlama} from "node-llama-cpp";

const flags = Object.fromEntries(process.argv.slice(2).flatMap((word, idx, words) => /^-[a-z]$/.test(word) ? [[word, words[idx + 1]]] : []));
const llama = await getLlama({gpu: false, build: "never", progressLogs: false, logLevel: "error", maxThreads: 2});
const model = await llama.loadModel({modelPath: flags["-m"]});
const context = await model.createContext({contextSize: 512, threads: 2});
const prompt = [model.tokens.bos, ...model.tokenize(flags["-p"], true)];
const answer = [];
for await (const token of context.getSequence().evaluate(prompt, {temperature: 0})) {
  answer.push(token);
  if (answer.length === Number(flags["-n"])) break;
}
console.log(model.detokenize(answer));
await llama.dispose();
