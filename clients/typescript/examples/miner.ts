// A miner whose engine answers with the prompt, word by word.
import { setTimeout as pause } from "node:timers/promises";
import { type Engine, loadKey, Miner } from "aitbc/miner";
import { grpcTransport } from "aitbc/node";

const echo: Engine = async (job, answer) => {
  for (const word of job.prompt?.split(/(?<= )/) ?? []) {
    await pause(20, undefined, { signal: answer.signal });
    answer.say(word, 1);
  }
};

const stop = new AbortController();
process.once("SIGTERM", () => stop.abort());
process.once("SIGINT", () => stop.abort());
const miner = new Miner({
  id: "echo-miner",
  models: ["llama3.2"],
  transport: grpcTransport(process.env.AITBC_COORDINATOR ?? "127.0.0.1:50051", { key: process.env.AITBC_API_KEY }),
  slots: 100,
  key: loadKey("echo-miner.pem"),
  log: console.error,
});
await miner.run(echo, stop.signal);
