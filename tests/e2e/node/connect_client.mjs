// Runs the scenario with every transport of Connect for Node; prints what came of it, as JSON.
// Arguments: the URL, a FileDescriptorSet, a model, and a model whose miner is slow.

import { readFileSync } from "node:fs";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import {
  compressionGzip,
  createConnectTransport,
  createGrpcWebTransport,
} from "@connectrpc/connect-node";
import { files, scenario } from "./connect_scenario.mjs";

const [baseUrl, descriptors, model, slowModel] = process.argv.slice(2);
const registry = files(readFileSync(descriptors));
const options = { baseUrl, httpVersion: "1.1" };
const packed = { compressMinBytes: 1, sendCompression: compressionGzip };
const transports = {
  "Connect, JSON": createConnectTransport({ ...options, useBinaryFormat: false }),
  "Connect, bytes and GET": createConnectTransport({
    ...options,
    useBinaryFormat: true,
    useHttpGet: true,
  }),
  "Connect, packed": createConnectTransport({ ...options, ...packed }),
  "gRPC-Web": createGrpcWebTransport(options),
  "gRPC-Web, JSON": createGrpcWebTransport({ ...options, useBinaryFormat: false }),
  "gRPC-Web, packed": createGrpcWebTransport({ ...options, ...packed }),
};

async function work(transport) {
  const miners = createClient(registry.getService("aitbc.v1.MinerService"), transport);
  try {
    for await (const _ of miners.work((async function* () {})()));
    return "no error";
  } catch (error) {
    return `${Code[ConnectError.from(error).code]} ${error.rawMessage}`;
  }
}

const seen = {};
for (const [name, transport] of Object.entries(transports)) {
  seen[name] = await scenario(transport, registry, { model, slowModel });
  seen[name].work = await work(transport);
}
console.log(JSON.stringify(seen));
