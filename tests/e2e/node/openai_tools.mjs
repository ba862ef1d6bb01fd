// OpenAI's own client for Node, unmodified, with tools: node openai_tools.mjs BASE_URL REQUESTS

import OpenAI from "openai";

const [baseURL, requests] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "unused" });

const told = {};
for (const [name, asked] of Object.entries(JSON.parse(requests))) {
  const whole = await client.chat.completions.create(asked);
  let chunks = 0;
  const stream = client.chat.completions.stream(asked);
  stream.on("content.delta", () => (chunks += 1));
  const [choice] = (await stream.finalChatCompletion()).choices;
  told[name] = {
    whole: whole.choices[0].message,
    streamed: choice.message,
    finish: choice.finish_reason,
    chunks,
  };
}
console.log(JSON.stringify(told));
