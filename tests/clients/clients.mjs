// The clients that run in Node, each with its own defaults, compared with a bare llama-server: see clients.py.
//
//     clients.mjs TIERSHIFT_URL BARE_URL [--only NAME]

import OpenAI from "openai";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embedMany, generateObject, generateText, jsonSchema, streamText, tool } from "ai";

const MODEL = "auto";
const said = [{ role: "user", content: "The cat sat on the mat." }];
const weather = { place: { type: "string" } };

const openai = (url) => new OpenAI({ baseURL: `${url}/v1`, apiKey: "none" });
// With a schema that the server enforces: else the output of a model with random weights is a matter of luck.
const compatible = (url) =>
  createOpenAICompatible({ name: "local", baseURL: `${url}/v1`, apiKey: "none", supportsStructuredOutputs: true });
const responses = (url) => createOpenAI({ baseURL: `${url}/v1`, apiKey: "none" });
const must = (what, why) => {
  if (!what) throw new Error(why);
};

const CELLS = [
  ["openai (node)", "chat", async (url) => {
    const reply = await openai(url).chat.completions.create({ model: MODEL, messages: said, max_tokens: 8 });
    must(reply.choices[0].message.content, "no words");
  }],
  ["openai (node)", "stream", async (url) => {
    let count = 0;
    const stream = await openai(url).chat.completions.create({ model: MODEL, messages: said, max_tokens: 8, stream: true });
    for await (const _ of stream) count += 1;
    must(count > 4, "too few");
  }],
  ["openai (node)", "responses", async (url) => {
    must((await openai(url).responses.create({ model: MODEL, input: "The cat", max_output_tokens: 8 })).output, "no output");
  }],
  ["openai (node)", "embeddings", async (url) => {
    const made = await openai(url).embeddings.create({ model: MODEL, input: ["a", "b"] });
    must(made.data.length === 2, "not all of them");
  }],
  ["AI SDK, openai-compatible", "generateText", async (url) => {
    must((await generateText({ model: compatible(url)(MODEL), prompt: "The cat", maxOutputTokens: 8 })).text, "no words");
  }],
  ["AI SDK, openai-compatible", "streamText", async (url) => {
    const { textStream, usage } = streamText({ model: compatible(url)(MODEL), prompt: "The cat", maxOutputTokens: 8 });
    let text = "";
    for await (const part of textStream) text += part;
    must(text && (await usage), "no words");
  }],
  ["AI SDK, openai-compatible", "generateObject", async (url) => {
    const schema = jsonSchema({ type: "object", properties: { name: { type: "string", maxLength: 8 } }, required: ["name"] });
    await generateObject({ model: compatible(url)(MODEL), schema, prompt: "A name", maxOutputTokens: 100 });
  }],
  ["AI SDK, openai-compatible", "embedMany", async (url) => {
    const model = compatible(url).textEmbeddingModel(MODEL);
    must((await embedMany({ model, values: Array(100).fill("the cat") })).embeddings.length === 100, "not all of them");
  }],
  ["AI SDK, openai", "generateText, its default", async (url) => {
    must((await generateText({ model: responses(url)(MODEL), prompt: "The cat", maxOutputTokens: 16 })).text, "no words");
  }],
  ["AI SDK, openai", "tools", async (url) => {
    const tools = { weather: tool({ description: "The weather", inputSchema: jsonSchema({ type: "object", properties: weather }) }) };
    await generateText({ model: responses(url).chat(MODEL), prompt: "The weather?", tools, maxOutputTokens: 100 });
  }],
];

async function tried(run, url) {
  try {
    await run(url);
    return "works";
  } catch (error) {
    if (process.env.TRACE) console.error(error);
    return error.name === "Error" ? error.message : error.name;
  }
}

const [tier, bare] = process.argv.slice(2, 4);
const only = process.argv[4] === "--only" ? process.argv[5] : undefined;
let worse = 0;
for (const [client, feature, run] of CELLS) {
  if (only !== undefined && only !== client) continue;
  const alone = await tried(run, bare);
  const through = await tried(run, tier);
  const isWorse = through !== alone && through !== "works";
  worse += isWorse ? 1 : 0;
  console.log(`| ${client} | ${feature} | ${through}${isWorse ? " **worse**" : ""} | ${alone} |`);
}
console.log(`\n${worse} of ${CELLS.length} cells in Node are worse than bare`);
process.exit(worse > 0 ? 1 : 0);
