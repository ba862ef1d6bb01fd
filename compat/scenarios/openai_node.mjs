// openai-node: chat, streams, tools, responses.
import OpenAI from "openai";
import { attempt, BASE_URL, KEY, MODEL, QUESTION } from "./cases.mjs";

const client = new OpenAI({ baseURL: BASE_URL, apiKey: KEY, maxRetries: 0, timeout: 120_000 });
const messages = [{ role: "user", content: QUESTION }];

await attempt("chat", async () => {
  const made = await client.chat.completions.create({ model: MODEL, messages, temperature: 0 });
  return made.choices[0].message.content;
});

await attempt("chat, streamed", async () => {
  const stream = client.chat.completions.stream({ model: MODEL, messages, temperature: 0 });
  return (await stream.finalChatCompletion()).choices[0].message.content;
});

await attempt("a tool that must be called", async () => {
  const tool = {
    type: "function",
    function: {
      name: "weather",
      parameters: {
        type: "object",
        properties: { city: { type: "string", maxLength: 20 } },
        required: ["city"],
        additionalProperties: false,
      },
    },
  };
  const made = await client.chat.completions.create({
    model: MODEL,
    messages,
    tools: [tool],
    tool_choice: "required",
    temperature: 0,
    max_tokens: 60,
  });
  return made.choices[0].message.tool_calls[0].function.name;
});

await attempt("response", async () => {
  const made = await client.responses.create({ model: MODEL, input: QUESTION, temperature: 0 });
  return made.output_text;
});

await attempt("response, streamed", async () => {
  const stream = client.responses.stream({ model: MODEL, input: QUESTION, temperature: 0 });
  return (await stream.finalResponse()).output_text;
});
