// Tokens of texts by llama.cpp. Standard input: {model, texts}; standard output: for each text <bos> and its tokens.
import {readFileSync} from "node:fs";
import {getLlama} from "node-llama-cpp";

const {model: modelPath, texts} = JSON.parse(readFileSync(0, "utf8"));
const llama = await getLlama({gpu: false, build: "never", progressLogs: false, logLevel: "error"});
const model = await llama.loadModel({modelPath, vocabOnly: true});
process.stdout.write(JSON.stringify(texts.map((text) => [model.tokens.bos, ...model.tokenize(text)])));
await llama.dispose();
