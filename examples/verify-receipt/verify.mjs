// Verifies a receipt without the coordinator: with Node's own crypto and three downloaded files.
//
//   node verify.mjs RECEIPT.json KEYS.json BLOCKS.json
//
// RECEIPT.json: GET /v1/receipts/{receipt_id}   KEYS.json: GET /.well-known/aitbc-keys.json
// BLOCKS.json: GET /explorer/blocks?limit=100 (or pages of it put together)
import { createHash, createPublicKey, verify } from "node:crypto";
import { readFileSync } from "node:fs";

const SIGNED = [
  "receipt_id", "job_id", "client", "miner_id", "miner", "model", "units", "unit_type",
  "prompt_tokens", "completion_tokens", "price", "currency", "prompt_hash", "result_hash",
  "started_at", "completed_at", "attempt", "coordinator", "nonce", "miner_signature",
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

function* checks(receipt, published, blocks) {
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
    const stated = leafHash(statement);
    yield ["miner's signature", isCovered(receipt.miner_signature, "aitbc-statements/v1\n", stated)];
  }
  if (!receipt.proof) return yield ["inclusion (its block is not sealed yet)", true];
  const { proof } = receipt;
  const root = rootByPath(leaf, proof.leaf_index, proof.tree_size, proof.path);
  const checkpoint = parseCheckpoint(proof.checkpoint);
  yield ["inclusion", root.equals(checkpoint.root) && checkpoint.size === proof.tree_size];
  yield ["checkpoint", checkpoint.origin === published.origin && isCheckpointSigned(checkpoint, keys)];
  const chain = blocks.map((block) => parseCheckpoint(block.checkpoint)).reverse();
  yield ["blocks", chain.every((block) => isCheckpointSigned(block, keys))];
  yield ["chain", chain.every((block, at) => at === 0
    ? block.height > 0 || block.previous === "0".repeat(64)
    : block.previous === chain[at - 1].hash && block.height === chain[at - 1].height + 1
      && block.size > chain[at - 1].size)];
  yield ["its block in the chain", chain.some((block) => block.hash === checkpoint.hash)];
}

const [receipt, keys, blocks] = process.argv.slice(2).map((f) => JSON.parse(readFileSync(f, "utf8")));
let valid = true;
try {
  for (const [name, passed] of checks(receipt, keys, blocks.blocks)) {
    console.log(`${passed ? "ok  " : "BAD "} ${name}`);
    valid &&= passed;
  }
} catch (error) {
  console.log(`BAD  ${error.message}`);
  valid = false;
}
console.log(valid ? "the receipt is valid" : "the receipt is NOT valid");
process.exit(valid ? 0 : 1);
