// What a page does with clients for browsers: those of Connect, Google's for gRPC-Web, OpenAI's.

import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";
import { GrpcWebClientBase, MethodDescriptor, MethodType } from "grpc-web";
import OpenAI from "openai";
import { files, scenario } from "./connect_scenario.mjs";

const registry = files(new Uint8Array(await (await fetch("/descriptors.binpb")).arrayBuffer()));

export async function connect(baseUrl, key, models) {
  const interceptors = [
    (next) => (request) => {
      request.header.set("x-api-key", key);
      return next(request);
    },
  ];
  const options = { baseUrl, interceptors };
  const transports = {
    "Connect, JSON": createConnectTransport(options),
    "Connect, bytes and GET": createConnectTransport({
      ...options,
      useBinaryFormat: true,
      useHttpGet: true,
    }),
    "gRPC-Web": createGrpcWebTransport(options),
  };
  const seen = {};
  for (const [name, transport] of Object.entries(transports)) {
    seen[name] = await scenario(transport, registry, models);
  }
  return seen;
}

// Submits and streams with Google's client, which has texts where it has no stream of bytes.
export async function grpcWeb(baseUrl, key, model, format) {
  const service = registry.getService("aitbc.v1.JobService");
  const client = new GrpcWebClientBase({ format });
  const metadata = { "x-api-key": key };
  const described = ({ name, input, output }, type) =>
    new MethodDescriptor(
      `/${service.typeName}/${name}`,
      type,
      Object,
      Object,
      (request) => toBinary(input, request),
      (bytes) => fromBinary(output, bytes),
    );
  const asked = (method, fields) => create(method.input, fields);
  const { submitJob, getJob, streamJob } = service.method;
  const unary = (method, fields) => {
    const how = described(method, MethodType.UNARY);
    return client.unaryCall(baseUrl + how.name, asked(method, fields), metadata, how);
  };
  const { jobId } = await unary(submitJob, { prompt: "one two ä three", model });
  let text = "";
  const how = described(streamJob, MethodType.SERVER_STREAMING);
  await new Promise((done, failed) => {
    const stream = client.serverStreaming(
      baseUrl + how.name,
      asked(streamJob, { jobId }),
      metadata,
      how,
    );
    stream.on("data", (event) => (text += event.text ?? ""));
    stream.on("error", failed);
    stream.on("end", done);
  });
  const { result } = await unary(getJob, { jobId, wait: 30 });
  const failure = await unary(getJob, { jobId: "nothing" }).catch((error) => error);
  return { text, result, code: failure.code, message: failure.message };
}

// Chats with OpenAI's client, whole, as a stream, and until it is told to stop.
export async function openai(baseUrl, key, { model, slowModel }) {
  const client = new OpenAI({
    baseURL: `${baseUrl}/v1`,
    apiKey: key,
    dangerouslyAllowBrowser: true,
    maxRetries: 0,
  });
  const messages = [{ role: "user", content: "one two three" }];
  const whole = await client.chat.completions.create({ model, messages });
  let streamed = "";
  for await (const chunk of await client.chat.completions.create({ model, messages, stream: true }))
    streamed += chunk.choices[0]?.delta?.content ?? "";
  const long = [{ role: "user", content: "a b c d e f g h ".repeat(200) }];
  const slow = await client.chat.completions.create({
    model: slowModel,
    messages: long,
    stream: true,
  });
  for await (const chunk of slow) if (chunk.choices[0]?.delta?.content) break;
  const models = await client.models.list();
  const wrong = await client.chat.completions
    .create({ model: "nobody-serves-this", messages })
    .catch((error) => error);
  return {
    whole: whole.choices[0].message.content,
    streamed,
    models: models.data.map((one) => one.id).sort(),
    wrong: [wrong.status, wrong.code],
  };
}
