import { createHash, createPublicKey, type KeyObject, randomBytes, sign } from "node:crypto";
import type { TaskOutput } from "../gen/aitbc/v1/jobs_pb.js";
import type { Completion, Updates } from "../gen/aitbc/v1/work_pb.js";

const STATEMENTS = "aitbc-statements/v1\n";
const PROOF = "aitbc-miner-proof/v1\n";
const ENDORSEMENT = "aitbc-miner-key/v1\n";
const SALT_BYTES = 16;
/** Newest version of statements. */
const NEWEST = 2;

type Value = string | number | Value[] | { [name: string]: Value };

/** Signs what the miner says it did: docs/reference/formats.md says it byte by byte. */
export class Signer {
  readonly publicKey: Buffer;
  /** Of the previous key, over this one; empty without. */
  readonly endorsement: Buffer;
  #version = 1;

  constructor(
    readonly minerId: string,
    readonly key: KeyObject,
    previous?: KeyObject,
    readonly random: (bytes: number) => Buffer = randomBytes,
  ) {
    this.publicKey = Buffer.from(createPublicKey(key).export({ format: "jwk" }).x ?? "", "base64url");
    const endorsed = Buffer.concat([Buffer.from(ENDORSEMENT), this.publicKey]);
    this.endorsement = previous ? sign(null, endorsed, previous) : Buffer.alloc(0);
  }

  /** Returns the proof of the key that the coordinator asks for with a nonce. */
  prove(nonce: string): Buffer {
    return sign(null, Buffer.from(`${PROOF}${nonce}\n${this.minerId}`), this.key);
  }

  /** Takes the newest version of statements that both sides know. */
  agree(newest: number): void {
    this.#version = Math.max(1, Math.min(newest, NEWEST));
  }

  /** Gives each completion its salt, and the message the signature of all of them, if it has any. */
  sign(news: Updates, jobOf: (leaseId: string) => string): void {
    const leaves: Buffer[] = [];
    for (const { leaseId, event } of news.updates) {
      if (event.case !== "completion") continue;
      event.value.resultSalt = new Uint8Array(this.random(SALT_BYTES));
      leaves.push(sha256(Buffer.from([0]), this.#statement(jobOf(leaseId), leaseId, event.value)));
    }
    if (leaves.length === 0) return;
    news.signature = new Uint8Array(sign(null, Buffer.concat([Buffer.from(STATEMENTS), root(leaves)]), this.key));
    news.statementVersion = this.#version;
  }

  #statement(jobId: string, leaseId: string, done: Completion): string {
    const resultHash = sha256(done.resultSalt, done.result);
    const fields: Record<string, Value> = {
      miner_id: this.minerId,
      job_id: jobId,
      lease_id: leaseId,
      result_hash: resultHash.toString("hex"),
    };
    if (this.#version >= 2) {
      fields.version = this.#version;
      fields.answer_hash = sha256(done.resultSalt, resultHash, canonical(besideText(done))).toString("hex");
    }
    if (done.usage?.promptTokens !== undefined) fields.prompt_tokens = done.usage.promptTokens;
    if (done.usage?.completionTokens !== undefined) fields.completion_tokens = done.usage.completionTokens;
    return canonical(fields);
  }
}

/** Returns what an answer has beside its text. What it does not have is left out. */
function besideText(done: Completion): Value {
  return present({
    finish_reason: done.finishReason,
    reasoning: done.reasoning,
    tool_calls: done.toolCalls.map(({ id, name, arguments: given }) => present({ id, name, arguments: given })),
    logprobs: done.logprobs.length,
    token_ids: done.tokenIds.length,
    outputs: done.outputs.map(outputFields),
    stop_string: done.stopString,
    stop_token_id: done.stopTokenId === undefined ? "" : String(done.stopTokenId),
  });
}

/** Returns what a task made of one input: its numbers as texts, by their bits. */
function outputFields(output: TaskOutput): Value {
  const vector = Buffer.alloc(4 * output.vector.length);
  output.vector.forEach((number, at) => vector.writeFloatBE(number, 4 * at));
  const score = Buffer.alloc(8);
  score.writeDoubleBE(output.score ?? 0);
  return present({
    vector: vector.toString("hex"),
    score: output.score === undefined ? "" : score.toString("hex"),
    token_ids: output.tokenIds.map(String),
    tokens: output.tokens,
    text: output.text,
  });
}

function present(fields: Record<string, Value>): Value {
  const isThere = (value: Value) => (Array.isArray(value) ? value.length > 0 : Boolean(value));
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => isThere(value)));
}

/** Returns JSON as RFC 8785 has it, of objects with names in ASCII. JSON.stringify escapes as that does. */
export function canonical(value: Value): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (typeof value !== "object") return JSON.stringify(value);
  const names = Object.keys(value).sort();
  return `{${names.map((name) => `${JSON.stringify(name)}:${canonical(value[name] ?? "")}`).join(",")}}`;
}

function sha256(...parts: (string | Uint8Array)[]): Buffer {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest();
}

/** Returns the Merkle root of RFC 9162, section 2.1.1. */
function root(hashes: Buffer[]): Buffer {
  const [first, second] = hashes;
  if (!first) throw new RangeError("a tree without leaves");
  if (!second) return first;
  const above: Buffer[] = [];
  for (let at = 0; at < hashes.length; at += 2) {
    const [left, right] = hashes.slice(at, at + 2);
    if (left) above.push(right ? sha256(Buffer.from([1]), left, right) : left);
  }
  return root(above);
}
