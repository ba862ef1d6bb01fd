// What clients/SCENARIO.md says, step by step.
import { readFileSync } from "node:fs";
import { createConnectTransport } from "@connectrpc/connect-web";
import { AitbcError, apiKey, Client, JobEventType, JobStatus } from "aitbc";
import { grpcTransport } from "aitbc/node";

const { AITBC_COORDINATOR = "", AITBC_URL, AITBC_MODEL: model = "", AITBC_TLS_CA } = process.env;
const { AITBC_API_KEY: key = "", AITBC_SPENT_KEY: spentKey = "" } = process.env;
const short = "One two three";
const long = Array(60).fill("Grüße aus 東京, 🙂!").join(" ");

const client = connect(key);
const request = { prompt: short, model, requestId: "scenario" };
const submitted = await client.submit(request);
say({ step: "submit", status: name(submitted.status) });
const job = await client.wait(submitted.jobId);
say({ step: "wait", status: name(job.status), result: job.result });
const again = await client.submit(request);
say({ step: "same request id", is_same_job: again.jobId === submitted.jobId });
await refused("request id of another", () => client.submit({ ...request, prompt: "another" }));

const streamed = await client.submit({ prompt: long, model });
let text = "";
let first = { text: "", eventId: "" };
let restarts = 0;
let status = JobStatus.UNSPECIFIED;
for await (const event of client.stream(streamed.jobId)) {
  if (event.type === JobEventType.DELTA) {
    if (!text) {
      first = { text: event.text ?? "", eventId: event.eventId };
      say({ step: "first delta" });
    }
    text += event.text ?? "";
  }
  if (event.type === JobEventType.RESTARTED) restarts++;
  status = event.job?.status ?? status;
}
say({ step: "stream", is_whole: text === long, restarts, status: name(status) });
let rest = first.text;
for await (const event of client.stream(streamed.jobId, { afterEventId: first.eventId })) rest += event.text ?? "";
say({ step: "rest of the stream", is_whole: rest === long });

const prompts = [];
for await (const listed of client.jobs({ model, limit: 1 })) prompts.push(listed.prompt?.slice(0, 5));
say({ step: "list", prompts });

const unserved = await client.submit({ prompt: short, model: "served-by-nobody" });
await refused("deadline", () => client.wait(unserved.jobId, { timeoutMs: 300 }));
say({ step: "cancel", status: name((await client.cancel(unserved.jobId)).status) });
await refused("cancel again", () => client.cancel(unserved.jobId));
await refused("bad request", () => client.submit({ prompt: short, model, params: { maxTokens: 0 } }));
await refused("wrong key", () => connect("wrong").get(submitted.jobId));
await refused("spent key", () => connect(spentKey).submit({ prompt: short, model }));

function connect(key: string): Client {
  // As a page would, with what browsers have.
  if (AITBC_URL) return new Client(createConnectTransport({ baseUrl: AITBC_URL, interceptors: [apiKey(key)] }));
  const tls = AITBC_TLS_CA ? { ca: readFileSync(AITBC_TLS_CA) } : false;
  return new Client(grpcTransport(AITBC_COORDINATOR, { key, tls }));
}

async function refused(step: string, call: () => Promise<unknown>): Promise<void> {
  try {
    await call();
  } catch (error) {
    if (!(error instanceof AitbcError)) throw error;
    const { code, field, retryDelayMs } = error;
    return say({ step, error_code: code, has_delay: retryDelayMs !== undefined, field });
  }
  throw new Error(`${step}: no error`);
}

function name(value: JobStatus): string {
  return `JOB_STATUS_${JobStatus[value]}`;
}

function say(line: Record<string, unknown>): void {
  console.log(JSON.stringify(line));
}
