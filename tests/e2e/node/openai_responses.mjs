// OpenAI's own client for Node, unmodified, with responses: node openai_responses.mjs BASE_URL REQUEST OUTPUT

import OpenAI from "openai";

const [baseURL, request, output] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "unused" });
const asked = JSON.parse(request);

const kinds = [];
const stream = client.responses.stream(asked);
for await (const event of stream) kinds.push(event.type);
const first = await stream.finalResponse();

// What the tools returned: the same for each call.
const outputs = first.output
  .filter((item) => item.type.endsWith("_call"))
  .map((item) => ({ type: `${item.type}_output`, call_id: item.call_id, output }));
const user = { role: "user", content: asked.input };
const references = first.output.map((item) => ({ type: "item_reference", id: item.id }));
const turns = {
  named: { previous_response_id: first.id, input: outputs },
  referenced: { input: [user, ...references, ...outputs] },
  whole: { input: [user, ...first.output, ...outputs], store: false },
};
const told = {};
for (const [name, turn] of Object.entries(turns)) {
  told[name] = (await client.responses.create({ ...asked, ...turn })).output_text;
}

const listed = [];
for await (const item of client.responses.inputItems.list(first.id)) listed.push(item.type);
console.log(JSON.stringify({ kinds, output: first.output, told, listed }));
