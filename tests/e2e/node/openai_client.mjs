// OpenAI's own client for Node, unmodified: node openai_client.mjs BASE_URL MODEL QUESTION PROMPT

import OpenAI, { NotFoundError } from "openai";

const [baseURL, model, question, prefix] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "unused" });
const messages = [{ role: "user", content: question }];
const asked = { model, messages, max_tokens: 24, temperature: 0 };

const chat = await client.chat.completions.create(asked);
let streamed = "";
let usage;
for await (const chunk of await client.chat.completions.create({
  ...asked,
  stream: true,
  stream_options: { include_usage: true },
})) {
  streamed += chunk.choices[0]?.delta?.content ?? "";
  usage = chunk.usage ?? usage;
}

const prompt = { model, prompt: prefix, max_tokens: 8, temperature: 0 };
const completion = await client.completions.create(prompt);
let completed = "";
for await (const chunk of await client.completions.create({ ...prompt, stream: true })) {
  completed += chunk.choices[0].text;
}

const response = await client.responses.create({
  model,
  input: question,
  max_output_tokens: 24,
  temperature: 0,
});

let unknown;
try {
  await client.chat.completions.create({ ...asked, model: "gpt-9" });
} catch (error) {
  unknown = error instanceof NotFoundError ? error.code : String(error);
}

console.log(
  JSON.stringify({
    models: (await client.models.list()).data.map((one) => one.id),
    chat: chat.choices[0].message.content,
    streamed,
    usage,
    completion: completion.choices[0].text,
    completed,
    response: response.output_text,
    unknown,
  }),
);
