import assert from "node:assert/strict";
import { test } from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  type AssignmentSchema,
  CoordinatorMessageSchema,
  Fault,
  type Update,
  WelcomeSchema,
} from "../gen/aitbc/v1/work_pb.js";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { Agent } from "./agent.js";
import type { Answer } from "./answer.js";
import { type Engine } from "./miner.js";

const transport = createGrpcTransport({ baseUrl: "http://127.0.0.1:9" });

function agentOf(engine: Engine): Agent {
  return new Agent({ id: "m", models: ["m"], transport }, engine);
}

function assign(agent: Agent, ...assignments: MessageInitShape<typeof AssignmentSchema>[]): void {
  agent.hear(create(CoordinatorMessageSchema, { message: { case: "assignments", value: { assignments } } }));
}

/** Returns an agent that holds one job, what its engine says, and what ends it. */
function spoken(resume?: { text: string; tokens: number }) {
  let answer!: Answer;
  let end!: () => void;
  const agent = agentOf((_, given) => {
    answer = given;
    return new Promise((resolve) => (end = resolve));
  });
  assign(agent, { leaseId: "lease", job: { jobId: "job", model: "m" }, ...(resume && { resume }) });
  return { agent, answer, end };
}

let now = 0;

/** Returns the next updates; nothing waits for company. */
function told(agent: Agent): Update[] {
  now += 1000;
  const { message } = agent.nextMessage(now);
  return message?.message.case === "updates" ? message.message.value.updates : [];
}

function welcome(agent: Agent, nextSequence: bigint): void {
  agent.welcome(create(WelcomeSchema, { acks: [{ leaseId: "lease", nextSequence }] }));
}

/** What engines do comes after what is waiting. */
const settled = () => new Promise(setImmediate);

function facts(updates: Update[]): unknown[] {
  return updates.map(({ sequence, event }) => {
    if (event.case === "delta") return [Number(sequence), event.value.text, event.value.tokens];
    if (event.case === "completion") return [Number(sequence), "completed", event.value.result];
    return [Number(sequence), event.value?.code, event.value?.fault];
  });
}

test("tells again from where it is asked", async () => {
  const { agent, answer, end } = spoken();
  for (const word of ["one ", "two "]) {
    answer.say(word, 1);
    told(agent);
  }
  answer.say("three", 1);
  end();
  await settled();
  assert.deepEqual(facts(told(agent)), [
    [2, "three", 1],
    [3, "completed", "one two three"],
  ]);
  welcome(agent, 1n);
  assert.deepEqual(facts(told(agent)), [
    [1, "two three", 2],
    [2, "completed", "one two three"],
  ]);
  welcome(agent, 3n);
  agent.drain();
  await agent.idle;
});

test("a short answer is its completion alone", async () => {
  const { agent, answer, end } = spoken();
  answer.say("all", 1);
  end();
  await settled();
  assert.deepEqual(facts(told(agent)), [[0, "completed", "all"]]);
});

test("goes on after what an attempt before said", async () => {
  const { agent, answer, end } = spoken({ text: "one ", tokens: 1 });
  assert.deepEqual(answer.resume(), { text: "one ", tokens: 1 });
  answer.say("two", 1);
  assert.deepEqual(facts(told(agent)), [[1, "two", 1]]);
  // The coordinator may ask for number 0 all the same.
  welcome(agent, 0n);
  assert.deepEqual(facts(told(agent)), [[0, "one two", 2]]);
  end();
  await settled();
  assert.deepEqual(facts(told(agent)), [[1, "completed", "one two"]]);
});

test("characters are not cut", async () => {
  const { agent, answer, end } = spoken();
  answer.say("\uD83D");
  assert.deepEqual(told(agent), []);
  answer.say("\uDE42\uDE42!\uD83D", 1);
  end();
  await settled();
  assert.deepEqual(facts(told(agent)), [[0, "completed", "🙂\uFFFD!\uFFFD"]]);
});

test("an answer that is too large is a failure", async () => {
  for (const limits of [{ maxResultBytes: 10n }, { maxMessageBytes: 2000n, maxResultBytes: 9000n }]) {
    const { agent, answer } = spoken();
    agent.welcome(create(WelcomeSchema, limits));
    answer.say("a".repeat(4000), 1);
    assert.deepEqual(facts(told(agent)), [[0, "RESULT_TOO_LARGE", Fault.JOB]]);
    assert.ok(answer.signal.aborted);
  }
});

test("refuses what it cannot take", () => {
  const { agent } = spoken();
  assign(agent, { leaseId: "other", job: { model: "other" } }, { leaseId: "second", job: { model: "m" } });
  assert.deepEqual(facts(told(agent)), [
    [0, "MODEL_NOT_SERVED", Fault.MINER],
    [0, "OVER_CAPACITY", Fault.PASSING],
  ]);
});

test("an engine that throws fails its job alone, and its text stays here", async () => {
  const agent = agentOf(() => {
    throw new Error("secret");
  });
  assign(agent, { leaseId: "lease", job: { model: "m" } });
  await settled();
  const [update] = told(agent);
  assert.deepEqual(update?.event.value, { ...update?.event.value, code: "ENGINE_FAILED", message: "the engine failed" });
});

test("messages stay below what the coordinator takes", async () => {
  const ends: (() => void)[] = [];
  const agent = new Agent({ id: "m", models: ["m"], transport, slots: 3 }, (_, answer) => {
    answer.say("x".repeat(1500), 1);
    return new Promise((resolve) => ends.push(resolve));
  });
  agent.welcome(create(WelcomeSchema, { maxMessageBytes: 4300n }));
  assign(agent, ...["a", "b", "c"].map((leaseId) => ({ leaseId, job: { model: "m" } })));
  for (const end of ends) end();
  await settled();
  assert.deepEqual([told(agent).length, told(agent).length, told(agent).length], [2, 1, 0]);
});
