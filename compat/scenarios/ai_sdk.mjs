// Vercel's AI SDK: both providers, second turns, and a form with tools beside.
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, Output, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { attempt, BASE_URL, KEY, MODEL, QUESTION } from "./cases.mjs";

const openai = createOpenAI({ baseURL: BASE_URL, apiKey: KEY });
const compatible = createOpenAICompatible({
  name: "ours",
  baseURL: BASE_URL,
  apiKey: KEY,
  supportsStructuredOutputs: true,
});
const models = {
  responses: openai(MODEL),
  chat: openai.chat(MODEL),
  compatible: compatible(MODEL),
};
const tools = {
  weather: tool({
    description: "Says what the weather is.",
    inputSchema: z.object({ city: z.string().max(20) }),
    execute: async () => "Sunny.",
  }),
};
const common = { temperature: 0, maxOutputTokens: 60, maxRetries: 0 };

for (const [name, model] of Object.entries(models)) {
  await attempt(`${name}: text`, async () => {
    return (await generateText({ ...common, model, prompt: QUESTION })).text;
  });

  await attempt(`${name}: streamed`, async () => {
    let failure;
    const stream = streamText({
      ...common,
      model,
      prompt: QUESTION,
      onError: ({ error }) => (failure = error),
    });
    let text = "";
    for await (const part of stream.textStream) text += part;
    if (failure) throw failure;
    return text;
  });

  await attempt(`${name}: a second turn`, async () => {
    const first = await generateText({ ...common, model, prompt: QUESTION });
    const messages = [
      { role: "user", content: QUESTION },
      ...first.response.messages,
      { role: "user", content: "And of Sweden?" },
    ];
    return typeof (await generateText({ ...common, model, messages })).text;
  });

  await attempt(`${name}: a tool that must be called, and the turn after it`, async () => {
    const made = await generateText({
      ...common,
      model,
      tools,
      prompt: "What is the weather in Tokyo?",
      toolChoice: "required",
      stopWhen: stepCountIs(2),
    });
    return made.steps.map((step) => step.toolCalls[0].toolName).join(", ");
  });

  await attempt(`${name}: a form, with a tool beside`, async () => {
    const made = await generateText({
      ...common,
      model,
      tools,
      toolChoice: "none",
      prompt: QUESTION,
      experimental_output: Output.object({ schema: z.object({ city: z.string().max(20) }) }),
    });
    return Object.keys(made.experimental_output).join();
  });
}
