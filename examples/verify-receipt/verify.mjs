// Verifies a receipt without the coordinator: with Node's own crypto and three downloaded files.
//
//   node verify.mjs RECEIPT.json KEYS.json BLOCKS.json [JOB.json]
//
// RECEIPT.json: GET /v1/receipts/{receipt_id}   KEYS.json: GET /.well-known/aitbc-keys.json
// BLOCKS.json: GET /explorer/blocks?limit=100 (or pages of it put together)
// JOB.json: GET /v1/jobs/{job_id}, to hold what it asked and answered against the receipt
import { createHash, createPublicKey, verify } from "node:crypto";
import { readFileSync } from "node:fs";

const SIGNED = [
  "receipt_id", "job_id", "client", "miner_id", "miner", "model", "units", "unit_type",
  "prompt_tokens", "completion_tokens", "price", "currency", "prompt_hash", "result_hash",
  "started_at", "completed_at", "attempt", "coordinator", "nonce", "miner_signature",
  "version", "request_hash", "answer_hash", "resumed",
];

const sha256 = (...parts) => createHash("sha256").update(Buffer.concat(parts)).digest();
const hex = (text) => Buffer.from(text, "hex");
const base64 = (text) => Buffer.from(text, "base64");

// RFC 8785, for what receipts hold: objects with ASCII names, lists, strings and integers.
function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const names = Object.keys(value).sort();
  return `{${names.map((name) => `${JSON.stringify(name)}:${canonical(value[name])}`).join(",")}}`;
}

// RFC 9162, section 2.1.
const leafHash = (value) => sha256(Buffer.from([0]), Buffer.from(canonical(value)));
const nodeHash = (left, right) => sha256(Buffer.from([1]), left, right);

function rootByPath(leaf, index, size, path = []) {
  if (!(index >= 0 && index < size)) throw new Error("the place is outside the tree");
  let [at, last, root] = [index, size - 1, leaf];
  for (const sibling of path.map(hex)) {
    if (last === 0) throw new Error("the path is too long");
    if (at % 2 === 1 || at === last) {
      root = nodeHash(sibling, root);
      while (at % 2 === 0 && at !== 0) [at, last] = [Math.floor(at / 2), Math.floor(last / 2)];
    } else {
      root = nodeHash(root, sibling);
    }
    [at, last] = [Math.floor(at / 2), Math.floor(last / 2)];
  }
  if (last !== 0) throw new Error("the path is too short");
  return root;
}

function isSigned(publicKey, signature, ...message) {
  const x = base64(publicKey).toString("base64url");
  const key = createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x }, format: "jwk" });
  return verify(null, Buffer.concat(message), key, signature);
}

// One signature over the Merkle root of what was signed together.
function isCovered(batch, purpose, leaf) {
  const root = rootByPath(leaf, batch.index, batch.size, batch.path);
  return isSigned(batch.public_key, base64(batch.signature), Buffer.from(purpose), root);
}

// https://c2sp.org/tlog-checkpoint, with three lines of extension.
function parseCheckpoint(checkpoint) {
  const end = checkpoint.lastIndexOf("\n\n") + 1;
  const [text, signatures] = [checkpoint.slice(0, end), checkpoint.slice(end + 1)];
  const [origin, size, root, height, previous] = text.split("\n");
  return {
    text, signatures, origin, size: Number(size), root: base64(root),
    height: Number(height.replace("height ", "")), previous: previous.replace("previous ", ""),
    hash: sha256(Buffer.from(text)).toString("hex"),
  };
}

function isCheckpointSigned({ text, signatures, origin }, keys) {
  return signatures.trimEnd().split("\n").some((line) => {
    const [, name, encoded] = /^— (\S+) (\S+)$/.exec(line) ?? [];
    if (name !== origin) return false;
    const signed = base64(encoded);
    return keys.some((key) => {
      const id = sha256(Buffer.from(`${origin}\n\x01`), base64(key)).subarray(0, 4);
      return id.equals(signed.subarray(0, 4)) && isSigned(key, signed.subarray(4), Buffer.from(text));
    });
  });
}

// What a job asks and answers beside its two texts: numbers are strings there.
const ASKED = [
  "model", "task", "params", "tools", "tool_choice", "response_format", "raw_prompt",
  "parallel_tool_calls", "prompt_options", "dimensions",
];
const ANSWERED = ["finish_reason", "reasoning", "tool_calls", "outputs", "stop_string", "stop_token_id"];
const FLOATING = [
  "temperature", "top_p", "min_p", "score", "presence_penalty", "frequency_penalty",
  "repetition_penalty", "logit_bias",
];
const MAY_BE_FALSE = [
  "parallel_tool_calls", "skip_special_tokens", "spaces_between_special_tokens",
  "add_generation_prompt", "add_special_tokens", "strict",
];
const isEmpty = (value) => value === "" || (typeof value === "object" && Object.keys(value).length === 0);
const isTold = (name, value) => !isEmpty(value) && (value !== false || MAY_BE_FALSE.includes(name));

function bits(numbers, size) {
  const view = new DataView(new ArrayBuffer(numbers.length * size));
  numbers.forEach((n, at) => (size === 8 ? view.setFloat64(at * 8, n) : view.setFloat32(at * 4, n)));
  return Buffer.from(view.buffer).toString("hex");
}

function plain(name, value, isFloating = FLOATING.includes(name)) {
  if (typeof value === "number") return isFloating ? bits([value], 8) : String(value);
  if (name === "vector") return bits(value, 4);
  if (Array.isArray(value)) return value.map((item) => plain(name, item));
  if (typeof value !== "object") return value;
  if (name === "logit_bias") return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, bits([v], 8)]));
  return members(value, Object.keys(value));
}

function members(value, names) {
  const told = names.filter((name) => name in value && isTold(name, value[name]));
  return Object.fromEntries(
    told.map((name) => [name, plain(name, value[name])]).filter(([, made]) => typeof made === "string" || !isEmpty(made)),
  );
}

// What a job shows that a receipt says in plain words.
const SAME = ["receipt_id", "job_id", "miner_id", "model", "attempt", "started_at", "completed_at"];
const COUNTS = ["prompt_tokens", "completion_tokens"];
const PROMPTS = ["prompt", "messages", "prompt_token_ids", "inputs"];

function* opened(receipt, job) {
  const has = (name) => Object.keys(job[name] ?? []).length > 0;
  const list = ["messages", "prompt_token_ids", "inputs"].find(has);
  const asked = members(job, ASKED);
  if (list === "messages") asked.conversation = true;
  if (list === "prompt_token_ids") asked.tokens = true;
  yield ["job", job.status === "completed" && SAME.every((name) => job[name] === receipt[name])
    && COUNTS.every((name) => job.usage?.[name] === receipt[name]) && PROMPTS.filter(has).length <= 1];
  const answered = members(job, ANSWERED);
  for (const name of ["logprobs", "token_ids"]) if (has(name)) answered[name] = job[name].length;
  for (const [text, said, whole, beside] of [
    ["prompt", list ? canonical(job[list]) : job.prompt ?? "", "request", asked],
    ["result", job.result ?? "", "answer", answered],
  ]) {
    const salt = hex(receipt.disclosure[`${text}_salt`]);
    const hash = sha256(salt, Buffer.from(said));
    yield [text, hash.toString("hex") === receipt[`${text}_hash`]];
    if (receipt.version === 2)
      yield [whole, sha256(salt, hash, Buffer.from(canonical(beside))).toString("hex") === receipt[`${whole}_hash`]];
  }
}

function* checks(receipt, published, blocks, job) {
  const keys = published.keys.map((key) => key.public_key);
  const body = Object.fromEntries(SIGNED.filter((n) => n in receipt).map((n) => [n, receipt[n]]));
  const leaf = leafHash(body);
  yield ["leaf", leaf.toString("hex") === receipt.leaf_hash];
  yield ["ledger", receipt.coordinator === published.origin];
  yield ["coordinator's key", keys.includes(receipt.signature.public_key)];
  yield ["coordinator's signature", isCovered(receipt.signature, "aitbc-receipts/v1\n", leaf)];
  if (receipt.miner_signature) {
    const statement = {
      miner_id: receipt.miner_id, job_id: receipt.job_id, result_hash: receipt.result_hash,
      lease_id: `lease-${receipt.job_id.replace("job-", "")}-${receipt.attempt}`,
    };
    for (const name of ["prompt_tokens", "completion_tokens"])
      if (name in receipt) statement[name] = receipt[name];
    // Since version 2 the miner's statement covers the whole answer.
    if (receipt.miner_signature.version === 2)
      Object.assign(statement, { version: 2, answer_hash: receipt.answer_hash });
    const stated = leafHash(statement);
    yield ["miner's signature", isCovered(receipt.miner_signature, "aitbc-statements/v1\n", stated)];
  }
  if (job) yield* opened(receipt, job);
  if (!receipt.proof) return yield ["inclusion: it has no proof, get it again once its block is sealed", false];
  const { proof } = receipt;
  const root = rootByPath(leaf, proof.leaf_index, proof.tree_size, proof.path);
  const checkpoint = parseCheckpoint(proof.checkpoint);
  yield ["inclusion", root.equals(checkpoint.root) && checkpoint.size === proof.tree_size];
  yield ["place", receipt.status === "sealed" && proof.leaf_index === receipt.leaf_index
    && proof.leaf_hash === receipt.leaf_hash && proof.receipt_id === receipt.receipt_id
    && proof.block_hash === checkpoint.hash
    && [proof, receipt].every((one) => one.block_height === checkpoint.height)];
  yield ["checkpoint", checkpoint.origin === published.origin && isCheckpointSigned(checkpoint, keys)];
  const chain = blocks.map((block) => parseCheckpoint(block.checkpoint)).reverse();
  yield ["blocks", chain.every((block) => isCheckpointSigned(block, keys))];
  yield ["chain", chain.every((block, at) => at === 0
    ? block.height > 0 || block.previous === "0".repeat(64)
    : block.previous === chain[at - 1].hash && block.height === chain[at - 1].height + 1
      && block.size > chain[at - 1].size)];
  yield ["its block in the chain", chain.some((block) => block.hash === checkpoint.hash)];
}

const [receipt, keys, blocks, job] = process.argv.slice(2).map((f) => JSON.parse(readFileSync(f, "utf8")));
let valid = true;
try {
  for (const [name, passed] of checks(receipt, keys, blocks.blocks, job)) {
    console.log(`${passed ? "ok  " : "BAD "} ${name}`);
    valid &&= passed;
  }
} catch (error) {
  console.log(`BAD  ${error.message}`);
  valid = false;
}
console.log(valid ? "the receipt is valid" : "the receipt is NOT valid");
process.exit(valid ? 0 : 1);
