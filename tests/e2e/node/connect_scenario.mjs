// What clients of Connect and gRPC-Web do, in Node and in a browser, from descriptors alone.

import { createFileRegistry, fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient } from "@connectrpc/connect";

const PENDING = 1, RUNNING = 2, COMPLETED = 3, CANCELLED = 5;
const DELTA = 2;

// Returns the files of the API, from a FileDescriptorSet.
export const files = (bytes) => createFileRegistry(fromBinary(FileDescriptorSetSchema, bytes));

// Submits, waits, streams, lists, cancels and fails; returns what came of each.
export async function scenario(transport, registry, { model, slowModel }) {
  const jobs = createClient(registry.getService("aitbc.v1.JobService"), transport);
  const network = createClient(registry.getService("aitbc.v1.NetworkService"), transport);
  const seen = {};
  const failure = async (asked) => {
    try {
      await asked();
      return "no error";
    } catch (error) {
      return ConnectError.from(error);
    }
  };
  let header;
  const submitted = await jobs.submitJob(
    { prompt: "one two ä three", model, params: { maxTokens: 20 } },
    { headers: { "x-request-id": "from-a-client" }, onHeader: (headers) => (header = headers) },
  );
  seen.requestId = header.get("x-request-id");
  seen.submitted = submitted.status === PENDING;

  let text = "";
  let last;
  for await (const event of jobs.streamJob({ jobId: submitted.jobId })) {
    if (event.type === DELTA) text += event.text;
    last = event;
  }
  seen.streamed = text;
  seen.final = last.job.status === COMPLETED && last.job.usage.promptTokens > 0;

  const job = await jobs.getJob({ jobId: submitted.jobId, wait: 30 });
  seen.result = job.result;
  seen.time = job.completedAt.seconds > 1700000000n;
  const listed = await jobs.listJobs({ limit: 100 });
  seen.listed = listed.jobs.some((one) => one.jobId === submitted.jobId);
  seen.stats = (await network.getStats({})).jobs.completed > 0n;

  // A stream that its reader ends, and then the job.
  const slow = await jobs.submitJob({ prompt: "a b c d e f g h ".repeat(200), model: slowModel });
  const stop = new AbortController();
  seen.aborted = await failure(async () => {
    for await (const event of jobs.streamJob({ jobId: slow.jobId }, { signal: stop.signal })) {
      if (event.type === DELTA) stop.abort();
    }
  }).then((error) => Code[error.code]);
  const cancelled = await jobs.cancelJob({ jobId: slow.jobId });
  seen.cancelled = [RUNNING, CANCELLED].includes(cancelled.status);
  seen.ended = (await jobs.getJob({ jobId: slow.jobId, wait: 30 })).status === CANCELLED;

  const errorInfo = registry.getMessage("google.rpc.ErrorInfo");
  const badRequest = registry.getMessage("google.rpc.BadRequest");
  const unknown = await failure(() => jobs.getJob({ jobId: "nothing" }));
  seen.unknown = [Code[unknown.code], unknown.findDetails(errorInfo)[0].reason];
  const wrong = await failure(() =>
    jobs.submitJob({ prompt: "a", model, params: { temperature: 9 } }),
  );
  seen.wrong = wrong.findDetails(badRequest)[0].fieldViolations[0].field;
  const ofStream = await failure(async () => {
    for await (const _ of jobs.streamJob({ jobId: "nothing" }));
  });
  seen.ofStream = [Code[ofStream.code], ofStream.findDetails(errorInfo)[0].reason];
  const waiting = await jobs.submitJob({ prompt: "a", model: "nobody-serves-this" });
  seen.deadline = await failure(() =>
    jobs.getJob({ jobId: waiting.jobId, wait: 30 }, { timeoutMs: 300 }),
  ).then((error) => Code[error.code]);
  await jobs.cancelJob({ jobId: waiting.jobId });
  return seen;
}
